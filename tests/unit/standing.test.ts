import { describe, expect, test } from "vitest";
import { firstLog } from "../../components/serving/rolloutReport";
import { changed, serves } from "../../components/serving/standing";

const ready = { observedGeneration: 2, replicas: 1, updatedReplicas: 1, readyReplicas: 1 };
const deployment = (status: object, replicas = 1) => ({ metadata: { generation: 2 }, spec: { replicas }, status });

describe("a server serves", () => {
    test("when every replica is new and ready", () => {
        expect(serves(deployment(ready))).toBe(true);
        expect(serves(deployment({ ...ready, replicas: 3, updatedReplicas: 3, readyReplicas: 3 }, 3))).toBe(true);
    });

    test("also where its kind has no observedGeneration, as a LeaderWorkerSet", () => {
        expect(serves(deployment({ replicas: 1, updatedReplicas: 1, readyReplicas: 1 }))).toBe(true);
    });

    test.each([
        ["the controller has not seen the change", { ...ready, observedGeneration: 1 }],
        ["the old pod has gone and no new one has come, as with Recreate", { observedGeneration: 2, replicas: 0 }],
        ["the new pod starts", { ...ready, readyReplicas: 0 }],
        ["an old pod is still there", { ...ready, replicas: 2 }],
        ["nothing is known", {}],
    ])("not when %s", (_, status) => {
        expect(serves(deployment(status))).toBe(false);
    });

    test("not when it is scaled to zero, however complete that is", () => {
        expect(serves(deployment({ observedGeneration: 2 }, 0))).toBe(false);
        expect(serves(deployment({ observedGeneration: 2, replicas: 0, updatedReplicas: 0, readyReplicas: 0 }, 0))).toBe(false);
    });
});

describe("what was changed by hand", () => {
    const recorded = {
        replicas: 1,
        template: {
            metadata: { labels: { app: "vllm" } },
            spec: { containers: [{ image: "a@sha256:1", args: ["--port", "8000"], env: [{ name: "A", value: "1" }] }] },
        },
    };
    const live = (change: (copy: typeof recorded) => void) => {
        const copy = structuredClone(recorded);
        change(copy);
        return copy;
    };

    test.each<[string, (copy: typeof recorded) => void, string]>([
        ["replicas", (copy) => (copy.replicas = 0), "spec.replicas 1 → 0"],
        ["an image", (copy) => (copy.template.spec.containers[0]!.image = "b"), "spec.template.spec.containers[0].image a@sha256:1 → b"],
        ["an argument", (copy) => (copy.template.spec.containers[0]!.args[1] = "9"), "spec.template.spec.containers[0].args[1] 8000 → 9"],
        ["an argument more", (copy) => copy.template.spec.containers[0]!.args.push("--x"), "spec.template.spec.containers[0].args 2 entries → 3 entries"],
        ["a variable that is gone", (copy) => (copy.template.spec.containers[0]!.env = []), "spec.template.spec.containers[0].env 1 entries → 0 entries"],
        [
            "a sidecar",
            (copy) => copy.template.spec.containers.push(structuredClone(copy.template.spec.containers[0]!)),
            "spec.template.spec.containers 1 entries → 2 entries",
        ],
        ["a label that is gone", (copy) => Reflect.deleteProperty(copy.template.metadata.labels, "app"), "spec.template.metadata.labels.app vllm → none"],
    ])("is named: %s", (_, change, line) => {
        expect(changed(recorded, live(change), "spec")).toEqual([line]);
    });

    test("is nothing that a restart or a newer API server adds, nor an absent value in place of an empty one", () => {
        const grown = {
            ...recorded,
            revisionHistoryLimit: 10,
            template: { ...recorded.template, metadata: { ...recorded.template.metadata, annotations: { restartedAt: "now" } } },
        };
        expect(changed(recorded, grown, "spec")).toEqual([]);
        expect(changed({ ...recorded, strategy: { rollingUpdate: null, options: {} } }, { ...recorded, strategy: {} }, "spec")).toEqual([]);
    });
});

test("of a container that has only begun the log of the one before it is read, which says why it ended", async () => {
    const [begun, ended] = [
        "managed-mem: memory shown to vLLM     2.00 GiB",
        "(EngineCore pid=7) managed-mem: refused: weights: need more; accepted: less\n(APIServer pid=1) RuntimeError: cancelled",
    ];
    const of = (log: string) => () => Promise.resolve(log);
    expect(await firstLog(of(begun), of(ended), of(""))).toBe(ended);
    expect(await firstLog(of(begun), of(""), of("unable to retrieve container logs for x"))).toBe(begun);
});

test("of a container that the kubelet removed meanwhile the next one's log is read", async () => {
    const gone = "unable to retrieve container logs for containerd://fe41d96f5ed2";
    const [never, log] = [() => Promise.reject(new Error("not asked")), () => Promise.resolve("managed-mem: refused: X: 1; accepted: 2")];
    expect(await firstLog(() => Promise.resolve(gone), log, never)).toBe("managed-mem: refused: X: 1; accepted: 2");
    expect(
        await firstLog(
            () => Promise.resolve(""),
            () => Promise.resolve(gone),
        ),
    ).toBe("");
});
