import { beforeEach, describe, expect, test } from "vitest";
import { CmmPlatform } from "../../components/platform/cmmPlatform";
import { LmcacheServer } from "../../components/serving/lmcacheServer";
import { mockDigest, record, type Recorder, valueOf } from "../support/mocks";
import { settledPlatform } from "../support/platform";
import { programs } from "../support/program";
import { refusal } from "../support/refusal";

const program = programs();
const deploymentType = "kubernetes:apps/v1:Deployment";
let recorder: Recorder;
beforeEach(async () => {
    program();
    recorder = await record();
});

const args = { image: `lmcache@sha256:${"0".repeat(64)}`, memoryMiB: 65_536, namespace: "vllm" };

test("a server holds KV cache in memory that is requested and limited alike, and only vLLM's pods reach it", async () => {
    const server = new LmcacheServer("cache", args);
    await recorder.settled();
    const resources = { cpu: "4", memory: "65536Mi" };
    expect(recorder.only(deploymentType, "cache").inputs.spec).toMatchObject({
        strategy: { type: "Recreate" },
        template: {
            spec: {
                containers: [
                    {
                        command: ["lmcache_server"],
                        args: ["$(POD_IP)", "65432", "cpu"],
                        env: [
                            { name: "POD_IP", valueFrom: { fieldRef: { fieldPath: "status.podIP" } } },
                            { name: "PYTHONNOUSERSITE", value: "1" },
                        ],
                        resources: { requests: resources, limits: resources },
                        securityContext: { readOnlyRootFilesystem: true },
                    },
                ],
            },
        },
    });
    expect(recorder.only("kubernetes:networking.k8s.io/v1:NetworkPolicy", "cache").inputs.spec).toMatchObject({
        ingress: [{ from: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "vllm" } } }], ports: [{ port: 65_432 }] }],
        egress: [],
    });
    expect(await valueOf(server.url)).toBe("lm://cache.vllm.svc:65432");
});

test("a server is refused without its image's digest, or with memory for nothing", () => {
    expect(refusal(() => new LmcacheServer("cache", { ...args, image: "lmcache:latest", memoryMiB: 64 }))).toEqual([
        "lmcache.image: lmcache:latest: is no image by digest; accepted: REPOSITORY@sha256:DIGEST",
        "lmcache.memoryMiB: 64: is too small; accepted: 1024 or more, the process itself takes several hundred MiB",
    ]);
});

describe("a platform", () => {
    const node = { egmEnabled: false, coherentMode: "driver", managedGiB: 200, lmcacheMiB: 65_536, pinnedMiB: 5120 } as const;

    test("runs it from its own image, connects vLLM to it, and promises its LPDDR once", async () => {
        new CmmPlatform("gh200", settledPlatform({ node }));
        await recorder.settled();
        const cache = recorder.only(deploymentType, "gh200-lmcache");
        expect(JSON.stringify(cache.inputs)).toContain(`"image":"atl.vultrcr.com/vllm/gh200-vllm-cmm-stages@${mockDigest("gh200-lmcache-image")}"`);
        expect(cache.dependsOn).toEqual(expect.arrayContaining(["kubernetes:core/v1:Namespace gh200-vllm", "kubernetes:core/v1:Secret gh200-vllm-pull"]));
        const { annotations } = cache.inputs.metadata as { annotations: Record<string, string> };
        expect(Object.keys(annotations).sort()).toEqual(["ai.vllm.gh200/owner", "pulumi.com/waitFor"]);
        const vllm = JSON.stringify(recorder.only(deploymentType, "gh200-vllm").inputs);
        expect(vllm).toContain('{"name":"LMCACHE_REMOTE_URL","value":"lm://gh200-lmcache.vllm.svc:65432"}');
        expect(vllm).toContain('"LMCACHE_MAX_LOCAL_CPU_SIZE","value":"5"');
    });

    test("lets every pod of it look for the stack's own product, and tolerate what its server tolerates", async () => {
        recorder = await record({ preview: true });
        const probe = { method: "pod", image: `registry.example.com/tools@sha256:${"1".repeat(64)}` } as const;
        const tolerations = [{ key: "team", value: "ml", effect: "NoSchedule" as const }];
        const serving = { ...settledPlatform().serving, gpuProduct: "NVIDIA-GH200-144G-HBM3e", tolerations };
        new CmmPlatform("gh200", settledPlatform({ node: { ...node, probe }, serving }));
        await recorder.settled();
        const facts = recorder.only("kubernetes:core/v1:Pod", "gh200-node-facts").inputs.spec as Record<string, unknown>;
        expect(facts.nodeSelector).toEqual({ "nvidia.com/gpu.product": "NVIDIA-GH200-144G-HBM3e" });
        const cache = recorder.only(deploymentType, "gh200-lmcache").inputs.spec as { template: { spec: Record<string, unknown> } };
        expect(cache.template.spec.nodeSelector).toEqual({ "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": "NVIDIA-GH200-144G-HBM3e" });
        expect(cache.template.spec.tolerations).toEqual([
            { key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" },
            { key: "team", value: "ml", effect: "NoSchedule", operator: "Equal" },
        ]);
    });

    test("without it has none, and vLLM no connector", async () => {
        new CmmPlatform("gh200", settledPlatform());
        await recorder.settled();
        expect(recorder.ofType(deploymentType).map(({ name }) => name)).toEqual(["gh200-vllm"]);
        expect(JSON.stringify(recorder.registrations)).not.toContain("kv-transfer-config");
    });

    test("is refused before its first resource where vLLM has no buffers for it, or the model does not fit the plan", () => {
        expect(refusal(() => new CmmPlatform("gh200", settledPlatform({ node: { ...node, pinnedMiB: 0 } })))).toEqual([
            "serving.pinnedMiB: 0: leaves KV cache no pinned buffers on its way to LMCache; accepted: 1024 or more; raise node.pinnedMiB",
        ]);
        const modelShape = { weightsGiB: 700, layers: 80, kvHeads: 8, headDim: 128 };
        expect(refusal(() => new CmmPlatform("gh200", settledPlatform({ serving: { model: "m", modelShape } })))).toEqual([
            expect.stringMatching(/^serving\.modelShape\.weightsGiB: 700: exceeds 89\.7 GiB of HBM/),
        ]);
        expect(recorder.registrations).toEqual([]);
    });
});
