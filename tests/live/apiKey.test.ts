import { afterAll, beforeAll, expect, test } from "vitest";
import { LiveServers, ok } from "./servers";

/* The key that clients were given: drawn once, on the real engine, provider and API server. */
const MINUTE = 60_000;
const [stack, namespace] = ["keys", "keys"];

let live: LiveServers;
beforeAll(async () => {
    live = await LiveServers.start();
    await live.init(stack);
    ok(await live.serving(live.up(stack, { a: { namespace } }), namespace));
}, 15 * MINUTE);
afterAll(() => live?.end(), 10 * MINUTE);

const key = () => live.kubectl("get", "secret", "a-api-key", `--namespace=${namespace}`, "--output=jsonpath={.metadata.uid} {.data.api-key}");

test(
    "a further update keeps it, and replaces nothing",
    async () => {
        const before = key();
        expect(Buffer.from(before.split(" ")[1]!, "base64").toString()).toMatch(/^[0-9a-f]{64}$/);
        const { output } = ok(await live.up(stack, { a: { namespace } }));
        expect(output).not.toMatch(/replac/);
        ok(await live.serving(live.up(stack, { a: { namespace, maxNumSeqs: 8 } }), namespace));
        expect(key()).toBe(before);
    },
    5 * MINUTE,
);
