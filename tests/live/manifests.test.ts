import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Gh200Node } from "../../components/node/gh200Node";
import { LmcacheServer } from "../../components/serving/lmcacheServer";
import { VllmServer } from "../../components/serving/vllmServer";
import type { VllmServerArgs } from "../../components/serving/vllmServerArgs";
import { type Manifest, rendered, writeList } from "../support/rendered";
import { asScriptOutput, recommended } from "../support/nodeTexts";
import { LiveSandbox } from "./liveSandbox";

/* Every kind of object that the components make, checked by the real API server, with the real schemas of other projects' kinds. */
const MINUTE = 60_000;
const image = `registry.example.com/vllm@sha256:${"0".repeat(64)}`;

/** Other projects' kinds, from their own Go modules, by hash. */
const schemas = [
    {
        module: "sigs.k8s.io/gateway-api@v1.4.1",
        sum: "h1:NPxFutNkKNa8UfLd2CMlEuhIPMQgDQ6DXNKG9sHbJU8=",
        file: "config/crd/standard/gateway.networking.k8s.io_httproutes.yaml",
    },
    {
        module: "sigs.k8s.io/lws@v0.7.0",
        sum: "h1:qWfzX8+UBak+Hq0+m/PuE3uO0mp/3dmm5q/h/7z31A8=",
        file: "config/crd/bases/leaderworkerset.x-k8s.io_leaderworkersets.yaml",
    },
    {
        module: "github.com/kedacore/keda/v2@v2.21.0",
        sum: "h1:R6z2HZvstK4RLUMxroNACzBj74xGxt3kG59b5Xc+Xps=",
        file: "config/crd/bases/keda.sh_scaledobjects.yaml",
    },
    {
        module: "github.com/prometheus-operator/prometheus-operator@v0.85.0",
        sum: "h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=",
        file: "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml",
    },
];

let sandbox: LiveSandbox;
let manifests: Manifest[];

function server(name: string, more: Partial<VllmServerArgs> = {}): VllmServer {
    return new VllmServer(name, {
        image,
        model: "Qwen/Qwen2.5-7B-Instruct",
        podLimitMiB: 394_161,
        hbmBudgetMiB: 79_036,
        hostBudgetMiB: 388_529,
        registryHost: "registry.example.com",
        pullUsername: "puller",
        pullPassword: "secret",
        namespace: name,
        ...more,
    });
}

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    for (const { module, sum, file } of schemas) {
        const found = JSON.parse(execFileSync("go", ["mod", "download", "-json", module], { encoding: "utf8", cwd: sandbox.folder })) as {
            Dir: string;
            Sum: string;
        };
        expect(found.Sum, module).toBe(sum);
        sandbox.kubectl("apply", "--server-side", "--filename", path.join(found.Dir, file));
    }
    manifests = await rendered(
        () => {
            server("everything", {
                hfToken: "hf",
                modelCacheGiB: 200,
                serviceMonitor: true,
                autoscaling: { minReplicas: 1, maxReplicas: 4, prometheusAddress: "http://prometheus:9090" },
                route: { gateway: "public", gatewayNamespace: "gateways", hostname: "llm.example.com" },
                lmcacheUrl: "lm://cache.everything.svc:65432",
                pinnedMiB: 2048,
                allowFromNamespaces: ["gateways"],
                priorityClassName: "serving",
                tolerations: [{ key: "team", value: "ml", effect: "NoSchedule" }],
            });
            server("nodes", { tensorParallelSize: 1, pipelineParallelSize: 2 });
            new LmcacheServer("cache", { image, memoryMiB: 65_536, namespace: "everything" });
            new Gh200Node("node", { egmEnabled: false, coherentMode: "driver", probe: { method: "pod", image } });
        },
        {
            "kubernetes:core/v1:Pod": {
                status: {
                    containerStatuses: [
                        {
                            state: {
                                terminated: { message: asScriptOutput({ ...recommended, "nvidia-smi": "NVIDIA GH200 480GB, 97871 MiB, 0 MiB, 595.45.04\n" }) },
                            },
                        },
                    ],
                },
            },
        },
    );
    for (const namespace of ["everything", "nodes"]) {
        sandbox.kubectl("create", "namespace", namespace, "--save-config");
    }
}, 5 * MINUTE);
afterAll(() => {
    sandbox?.kubectl("delete", "namespace", "everything", "nodes", "--wait=false");
    // A sandbox that was given is left as it is.
    process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget();
}, 10 * MINUTE);

test("all kinds of object are among them", () => {
    expect([...new Set(manifests.map(({ kind }) => kind))].sort()).toEqual([
        "Deployment",
        "HTTPRoute",
        "LeaderWorkerSet",
        "Namespace",
        "NetworkPolicy",
        "PersistentVolumeClaim",
        "Pod",
        "PodDisruptionBudget",
        "ScaledObject",
        "Secret",
        "Service",
        "ServiceAccount",
        "ServiceMonitor",
    ]);
});

test(
    "the real API server accepts each of them, unknown fields refused",
    () => {
        for (const manifest of manifests) {
            const file = writeList(path.join(sandbox.folder, "manifest.json"), [manifest]);
            const answer = sandbox.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", file);
            expect(answer, `${manifest.kind} ${manifest.metadata.name}`).toContain("serverside-applied (server dry run)");
        }
    },
    2 * MINUTE,
);

test("a field that Kubernetes does not know would be refused", () => {
    const broken = structuredClone(manifests.find(({ kind }) => kind === "ScaledObject")!);
    (broken.spec as Record<string, unknown>).maxReplicas = 4;
    const file = writeList(path.join(sandbox.folder, "manifest.json"), [broken]);
    expect(() => sandbox.kubectl("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename", file)).toThrow(
        /unknown field|field not declared/,
    );
});

test(
    "the pods pass the restricted Pod Security Standard, but for the facts Pod",
    () => {
        sandbox.kubectl("label", "namespace", "everything", "pod-security.kubernetes.io/warn=restricted", "--overwrite");
        const warned = (manifest: Manifest): boolean => {
            const file = writeList(path.join(sandbox.folder, "manifest.json"), [{ ...manifest, metadata: { ...manifest.metadata, namespace: "everything" } }]);
            const answer = spawnSync(sandbox.kubectlPath(), ["apply", "--server-side", "--dry-run=server", "--filename", file], {
                encoding: "utf8",
                env: { ...process.env, KUBECONFIG: path.join(sandbox.folder, "kubeconfig") },
            });
            expect(answer.status, answer.stderr).toBe(0);
            return answer.stderr.includes("would violate PodSecurity");
        };
        const withPods = manifests.filter(({ kind }) => kind === "Deployment" || kind === "Pod");
        expect(withPods.map((manifest) => [manifest.kind, manifest.metadata.name, warned(manifest)]).sort()).toEqual([
            ["Deployment", "cache", false],
            ["Deployment", "everything", false],
            ["Pod", "node-facts-1", true],
        ]);
    },
    MINUTE,
);

describe("kube-score", () => {
    /** What it calls critical and is meant to be so. */
    const exceptions: Record<string, string> = {
        "container-image-pull-policy": "images are named by digest, which cannot change under a name",
        "container-ephemeral-storage-request-and-limit": "caches lie on a volume; what an emptyDir takes depends on the model",
        "pod-probes-identical": "one address tells health and readiness in vLLM, one port in LMCache; a start has a probe of its own",
        "container-security-context-user-group-id": "group 0 lets any user id of OpenShift write the image's folders (assets/vllm/Dockerfile)",
    };

    test(
        "finds nothing critical but the exceptions that are named here",
        () => {
            const module = path.join(__dirname, "..", "support", "kube-score");
            // It knows no LeaderWorkerSet, and would miss the pods that the objects beside it select.
            const known = manifests.filter(
                ({ kind, metadata }) => ["Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"].includes(kind) && metadata.namespace !== "nodes",
            );
            const input = known.map((manifest) => JSON.stringify(manifest)).join("\n---\n");
            const { stdout, stderr } = spawnSync("go", ["tool", "kube-score", "score", "--output-format=json", "-"], { cwd: module, input, encoding: "utf8" });
            expect(stdout, stderr).not.toBe("");
            const scored = JSON.parse(stdout) as {
                object_name: string;
                checks: { check: { id: string }; grade: number; skipped: boolean; comments: { summary: string }[] | null }[];
            }[];
            expect(scored.length).toBeGreaterThan(5);
            const critical = scored.flatMap(({ object_name, checks }) =>
                checks
                    .filter(({ grade, skipped }) => grade === 1 && !skipped)
                    .map(({ check, comments }) => ({ id: check.id, at: `${object_name}: ${comments?.map(({ summary }) => summary).join("; ")}` })),
            );
            expect(critical.filter(({ id }) => !(id in exceptions))).toEqual([]);
            // An exception that nothing needs is taken off the list.
            expect(Object.keys(exceptions).filter((id) => !critical.some((found) => found.id === id))).toEqual([]);
        },
        5 * MINUTE,
    );
});

test("secrets reach only Secrets", () => {
    const elsewhere = manifests.filter(({ kind }) => kind !== "Secret").map((manifest) => JSON.stringify(manifest));
    expect(elsewhere.some((text) => /"hf"|puller/.test(text))).toBe(false);
    expect(fs.existsSync(path.join(sandbox.folder, "manifest.json"))).toBe(true);
});
