import { execFileSync } from "node:child_process";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { LiveServers, ok } from "./servers";

/* A server that becomes another object, on the only GPU that there is: the old one goes before the new one comes. */
const MINUTE = 60_000;
const [stack, namespace] = ["replaced", "replaced"];

/** LeaderWorkerSet's kind, from its own Go module, by hash. */
const leaderWorkerSets = {
    module: "sigs.k8s.io/lws@v0.7.0",
    sum: "h1:qWfzX8+UBak+Hq0+m/PuE3uO0mp/3dmm5q/h/7z31A8=",
    file: "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
};

let live: LiveServers;
beforeAll(async () => {
    live = await LiveServers.start();
    await live.init(stack);
    ok(await live.serving(live.up(stack, { a: { namespace } }), namespace));
}, 15 * MINUTE);
afterAll(() => live?.end(), 10 * MINUTE);

/** Of both the engine says the new kind and name. */
function oldGoesFirst(output: string): void {
    const [gone, come] = [/(Deployment|LeaderWorkerSet) [az] delet/, /(Deployment|LeaderWorkerSet) [az] creat/].map((step) => output.search(step));
    expect(gone, output.slice(-4000)).toBeGreaterThan(-1);
    expect(gone).toBeLessThan(come!);
}

test(
    "a server with another name and an alias: as with another namespace, on one GPU",
    async () => {
        const { output } = ok(await live.serving(live.up(stack, { z: { namespace, formerly: "a" } }), namespace));
        oldGoesFirst(output);
        ok(await live.serving(live.up(stack, { a: { namespace, formerly: "z" } }), namespace));
        expect(live.kubectl("get", "deployments", `--namespace=${namespace}`, "--output=name").trim()).toBe("deployment.apps/a");
    },
    6 * MINUTE,
);

describe("a server that needs several nodes", () => {
    beforeAll(async () => {
        const { module, sum, file } = leaderWorkerSets;
        const found = JSON.parse(execFileSync("go", ["mod", "download", "-json", module], { encoding: "utf8", cwd: live.sandbox.folder })) as {
            Dir: string;
            Sum: string;
        };
        expect(found.Sum).toBe(sum);
        live.kubectl("apply", "--server-side", "--filename", path.join(found.Dir, file));
        // The API server takes a moment to serve the kind.
        await vi.waitFor(() => live.kubectl("get", "leaderworkersets", "--all-namespaces"), { timeout: MINUTE, interval: 1000 });
    }, 2 * MINUTE);

    test(
        "takes the place of a Deployment on one GPU, and gives it back: the old one goes before the new one comes",
        async () => {
            const several = { a: { namespace, pipelineParallelSize: 2 } };
            // Its controller is none here: what it would say of its pods.
            const made = await live.meanwhile(live.up(stack, several), () =>
                live.patchStatus("leaderworkerset/a", namespace, { replicas: 1, readyReplicas: 1, updatedReplicas: 1 }),
            );
            oldGoesFirst(ok(made).output);
            expect(live.kubectl("get", "deployments", `--namespace=${namespace}`, "--output=name").trim()).toBe("");
            ok(await live.up(stack, several));
            const back = await live.serving(live.up(stack, { a: { namespace } }), namespace);
            oldGoesFirst(ok(back).output);
            expect(live.kubectl("get", "leaderworkersets", `--namespace=${namespace}`, "--output=name").trim()).toBe("");
        },
        8 * MINUTE,
    );
});
