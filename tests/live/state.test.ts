import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { LiveServers, ok } from "./servers";

/* What the state says against what the cluster does. Servers of several stacks beside each other, each a small program of its own. */
const MINUTE = 60_000;

let live: LiveServers;
beforeAll(async () => {
    live = await LiveServers.start();
}, 15 * MINUTE);
afterAll(() => live?.end(), 10 * MINUTE);

describe("an update whose pods do not serve", () => {
    beforeAll(() => live.init("one"), MINUTE);

    test(
        "is red, and red again for whoever asks next, until they serve; the ambient cluster is never asked",
        async () => {
            const servers = { a: { namespace: "first" } };
            for (const attempt of ["first", "second"]) {
                const answer = await live.up("one", servers);
                expect(answer.status, attempt).not.toBe(0);
                expect(answer.output, attempt).toMatch(/pod a-\S+: is pending/);
            }
            ok(await live.serving(live.up("one", servers), "first"));
            expect(live.deployment("first", "a").status.readyReplicas).toBe(1);
            // Nothing changed, and they serve.
            expect(ok(await live.up("one", servers)).output).not.toMatch(/created|updated/);
        },
        8 * MINUTE,
    );

    test.each([
        [
            "scaled to zero",
            () => live.kubectl("scale", "deployment", "a", "--namespace=first", "--replicas=0"),
            /Deployment first\/a: is not as the last update left it: spec\.replicas 1 → 0/,
        ],
        [
            "patched",
            () => live.kubectl("set", "image", "deployment/a", "vllm=registry.example.com/other:latest", "--namespace=first"),
            /Deployment first\/a: is not as the last update left it: spec\.template\.spec\.containers\[0\]\.image registry\.example\.com\/vllm@sha256:0+ → registry\.example\.com\/other:latest/,
        ],
        ["deleted", () => live.kubectl("delete", "deployment", "a", "--namespace=first"), /Deployment first\/a: is gone/],
    ])(
        "because it was %s by hand is red and says so, and a refresh puts it back",
        async (_, change, line) => {
            const servers = { a: { namespace: "first" } };
            change();
            const plain = await live.up("one", servers);
            expect(plain.status).not.toBe(0);
            expect(plain.output).toMatch(line);
            expect(plain.output).toMatch(/pulumi up --refresh/);
            ok(await live.serving(live.up("one", servers, "--refresh"), "first"));
            ok(await live.up("one", servers));
        },
        6 * MINUTE,
    );
});

describe("beside the first server", () => {
    beforeAll(() => live.init("two"), MINUTE);
    let uid: string;
    const untouched = () => {
        const found = live.deployment("first", "a");
        expect([found.metadata.uid, found.status.readyReplicas]).toEqual([uid, 1]);
    };

    test(
        "a second stack may share the namespace, and takes only its own with it",
        async () => {
            uid = live.deployment("first", "a").metadata.uid;
            ok(await live.serving(live.up("two", { b: { namespace: "first" } }), "first"));
            ok(await live.pulumi("destroy", "--yes", "--skip-preview", "--stack", "two"));
            untouched();
            expect(live.kubectl("get", "deployments", "--namespace=first", "--output=name").trim()).toBe("deployment.apps/a");
        },
        4 * MINUTE,
    );

    test(
        "a second stack with a server of the same name is refused, and its destroy touches nothing",
        async () => {
            const answer = await live.up("two", { a: { namespace: "first", maxNumSeqs: 7 } });
            expect(answer.status).not.toBe(0);
            expect(answer.output).toMatch(/ServiceAccount first\/a: belongs to another stack or component \(annotation ai\.vllm\.gh200\/owner\)/);
            ok(await live.pulumi("destroy", "--yes", "--skip-preview", "--stack", "two"));
            untouched();
        },
        4 * MINUTE,
    );

    test(
        "a second server of the same stack comes and goes",
        async () => {
            const first = { a: { namespace: "first" } };
            ok(await live.serving(live.up("one", { ...first, c: { namespace: "first", createNamespace: false } }), "first"));
            ok(await live.up("one", first));
            untouched();
        },
        4 * MINUTE,
    );
});

test(
    "a server moves to another namespace: the old pod goes before the new one comes, which waits for its GPU",
    async () => {
        const { output } = ok(await live.serving(live.up("one", { a: { namespace: "second", createNamespace: true } }), "first", "second"));
        const order = (what: RegExp) => output.search(what);
        expect(order(/Deployment a delet/)).toBeGreaterThan(-1);
        expect(order(/Deployment a delet/)).toBeLessThan(order(/Deployment a creat/));
    },
    5 * MINUTE,
);

test(
    "what is kept at destroy is kept: the models, and the namespace that they lie in",
    async () => {
        ok(await live.serving(live.up("one", { a: { namespace: "second", modelCacheGiB: 1 } }), "second"));
        const claim = () => live.object<{ metadata: { uid: string; deletionTimestamp?: string } }>("pvc", "a-models", "second");
        const { uid } = claim().metadata;
        ok(await live.pulumi("destroy", "--yes", "--skip-preview", "--stack", "one"));
        expect(live.kubectl("get", "deployments,secrets,services,serviceaccounts", "--namespace=second", "--output=name")).not.toMatch(/\/a(-pull)?$/m);
        expect(claim().metadata).toMatchObject({ uid });
        expect(claim().metadata).not.toHaveProperty("deletionTimestamp");
        // The same stack takes them up again.
        ok(await live.serving(live.up("one", { a: { namespace: "second", modelCacheGiB: 1 } }), "second"));
        expect(claim().metadata.uid).toBe(uid);
    },
    6 * MINUTE,
);
