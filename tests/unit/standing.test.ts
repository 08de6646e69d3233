import { expect, test } from "vitest";
import { firstLog, served } from "../../components/serving/rolloutReport";

const ready = { observedGeneration: 2, replicas: 1, updatedReplicas: 1, readyReplicas: 1 };
const deployment = (status: object, replicas = 1) => ({ metadata: { generation: 2 }, spec: { replicas, selector: {}, template: {} }, status });

test("a rollout is over when every replica is new and ready", () => {
    expect(served(deployment(ready))).toBe(true);
    expect(served(deployment({ observedGeneration: 2 }, 0))).toBe(true);
});

test.each([
    ["the controller has not seen the change", { ...ready, observedGeneration: 1 }],
    ["the old pod has gone and no new one has come, as with Recreate", { observedGeneration: 2, replicas: 0 }],
    ["the new pod starts", { ...ready, readyReplicas: 0 }],
    ["an old pod is still there", { ...ready, replicas: 2 }],
    ["nothing is known", {}],
])("it is not when %s", (_, status) => {
    expect(served(deployment(status))).toBe(false);
});

test("of a container that the kubelet removed meanwhile the next one's log is read", async () => {
    const gone = "unable to retrieve container logs for containerd://fe41d96f5ed2";
    const [never, log] = [() => Promise.reject(new Error("not asked")), () => Promise.resolve("managed-mem: refused")];
    expect(await firstLog(() => Promise.resolve(gone), log, never)).toBe("managed-mem: refused");
    expect(
        await firstLog(
            () => Promise.resolve(""),
            () => Promise.resolve(gone),
        ),
    ).toBe("");
});
