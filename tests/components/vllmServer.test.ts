import * as pulumi from "@pulumi/pulumi";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { dockerConfigJson } from "../../components/serving/manifests";
import { VllmServer } from "../../components/serving/vllmServer";
import type { VllmServerOptions, VllmServerTransform } from "../../components/serving/transform";
import type { VllmServerArgs } from "../../components/serving/vllmServerArgs";
import { record, type Recorder, unknown, unknownOutput, valueOf } from "../support/mocks";
import { laterRefusal, refusal } from "../support/refusal";

const type = "gh200-vllm:index:VllmServer";
const kinds = {
    namespace: "kubernetes:core/v1:Namespace",
    account: "kubernetes:core/v1:ServiceAccount",
    secret: "kubernetes:core/v1:Secret",
    deployment: "kubernetes:apps/v1:Deployment",
    service: "kubernetes:core/v1:Service",
    policy: "kubernetes:networking.k8s.io/v1:NetworkPolicy",
    budget: "kubernetes:policy/v1:PodDisruptionBudget",
    claim: "kubernetes:core/v1:PersistentVolumeClaim",
    monitor: "kubernetes:monitoring.coreos.com/v1:ServiceMonitor",
    scaling: "kubernetes:keda.sh/v1alpha1:ScaledObject",
    route: "kubernetes:gateway.networking.k8s.io/v1:HTTPRoute",
    group: "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet",
};
const clusterDns = [
    { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } }, podSelector: { matchLabels: { "k8s-app": "kube-dns" } } },
    { ipBlock: { cidr: "169.254.20.10/32" } },
];
const image = `atl.vultrcr.com/vllm/gh200-vllm-cmm@sha256:${"0".repeat(64)}`;

let recorder: Recorder;
beforeEach(async () => {
    recorder = await record();
});

function server(overrides: Partial<VllmServerArgs> = {}, options: VllmServerOptions = {}): VllmServer {
    const args = {
        image,
        model: "Qwen/Qwen2.5-7B-Instruct",
        modelRevision: "0123456789abcdef0123456789abcdef01234567",
        podLimitMiB: 7070,
        hbmBudgetMiB: 79_036,
        hostBudgetMiB: 1438,
        registryHost: "atl.vultrcr.com",
        pullUsername: "puller",
        pullPassword: "hunter2",
        ...overrides,
    };
    return new VllmServer("vllm", args, options);
}

test("an Output may stand anywhere in an input, and what a preview does not know stays unknown", async () => {
    server({
        nodeSelector: { pool: pulumi.output("gpu") },
        tolerations: [{ key: pulumi.output("team"), value: "ml" }],
        extraArgs: ["--seed", pulumi.output("7")],
        allowFromNamespaces: [pulumi.output("gateway")],
        route: { gateway: "public", gatewayNamespace: "gateway", hostname: pulumi.output("llm.example.com") },
        autoscaling: { minReplicas: 1, maxReplicas: pulumi.output(4), prometheusAddress: pulumi.output("http://prometheus:9090") },
    });
    await recorder.settled();
    expect(recorder.only(kinds.route, "vllm-route").inputs).toMatchObject({ spec: { hostnames: ["llm.example.com"] } });
    expect(recorder.only(kinds.scaling, "vllm-scaling").inputs).toMatchObject({ spec: { maxReplicaCount: 4 } });
    expect(pod()).toMatchObject({
        nodeSelector: { pool: "gpu", "kubernetes.io/arch": "arm64" },
        tolerations: [{ key: "nvidia.com/gpu" }, { key: "team", value: "ml", operator: "Equal" }],
        containers: [{ args: expect.arrayContaining(["--seed", "7"]) as string[] }],
    });
    expect(recorder.only(kinds.policy, "vllm").inputs).toMatchObject({
        spec: { ingress: [{ from: [{ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "gateway" } } }] }] },
    });
    recorder = await record({ preview: true });
    server({ nodeSelector: { pool: unknownOutput<string>() } });
    await recorder.settled();
    expect(recorder.only(kinds.deployment, "vllm").inputs).toMatchObject({ spec: { template: unknown } });
});

type Container = { image: string; env: { name: string; value?: string; valueFrom?: unknown }[] };
type Deployment = { spec: { template: { spec: { containers: Container[]; imagePullSecrets?: unknown } } } };
const pod = () => (recorder.only(kinds.deployment, "vllm").inputs as Deployment).spec.template.spec;
const labels = { "app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "vllm" };

test("a server is exactly these objects, all its children", async () => {
    server();
    await recorder.settled();
    expect(recorder.registrations.map((resource) => `${resource.type} ${resource.name}`).sort()).toEqual(
        [
            `${type} vllm`,
            `${kinds.namespace} vllm`,
            `${kinds.account} vllm`,
            `${kinds.secret} vllm-pull`,
            `${kinds.secret} vllm-api-key`,
            `${kinds.deployment} vllm`,
            `${kinds.service} vllm`,
            `${kinds.policy} vllm`,
            `${kinds.policy} vllm-default-deny`,
            `${kinds.budget} vllm`,
        ].sort(),
    );
    for (const child of recorder.registrations.filter((resource) => resource.type !== type)) {
        expect(child.parent, child.type).toBe(`${type} vllm`);
    }
});

test("its deployment replaces the pod that holds the only GPU, and waits as long as a start may take", async () => {
    server({ modelGiB: 15 });
    await recorder.settled();
    expect(recorder.only(kinds.deployment, "vllm")).toMatchObject({ deleteBeforeReplace: true, replaceOnChanges: ["kind"] });
    expect(recorder.only(kinds.deployment, "vllm").inputs).toMatchObject({
        metadata: { name: "vllm", namespace: "vllm", labels },
        spec: {
            replicas: 1,
            strategy: { type: "Recreate" },
            selector: { matchLabels: labels },
            progressDeadlineSeconds: 623 + 95,
            template: { metadata: { labels } },
        },
    });
});

test("its pod has the image by digest and the node's plan", async () => {
    server({ hostReserveMiB: 512 });
    await recorder.settled();
    expect(pod().containers).toHaveLength(1);
    expect(pod().containers[0]!.image).toBe(image);
    const env = Object.fromEntries(pod().containers[0]!.env.map(({ name, value }) => [name, value]));
    expect(env).toMatchObject({
        MANAGED_MEM_PLACEMENT: "hbm-first",
        MANAGED_MEM_HBM: "79036MiB",
        MANAGED_MEM_HOST: "1438MiB",
        MANAGED_MEM_HOST_RESERVE: "512MiB",
    });
});

test.each([
    [{}, {}],
    [{ lpddr: "prefixes", modelShape: { weightsGiB: 14.2, layers: 28, kvHeads: 4, headDim: 128 } }, { MANAGED_MEM_PREFIXES: "1438MiB" }],
] as const)("its host memory is for contexts, or for prefixes where that was chosen (%j)", async (args, expected) => {
    server(args);
    await recorder.settled();
    const env = pod().containers[0]!.env.filter(({ name }) => /^MANAGED_MEM_(HOST|PREFIXES)$/.test(name));
    expect(Object.fromEntries(env.map(({ name, value }) => [name, value]))).toEqual({ MANAGED_MEM_HOST: "1438MiB", ...expected });
});

test("its service and network policy select that pod, on vLLM's port alone", async () => {
    server();
    await recorder.settled();
    expect(recorder.only(kinds.service, "vllm").inputs.spec).toEqual({
        selector: labels,
        ports: [{ name: "http", port: 8000, targetPort: "http" }],
    });
    expect(recorder.only(kinds.policy, "vllm").inputs.spec).toEqual({
        podSelector: { matchLabels: labels },
        policyTypes: ["Ingress", "Egress"],
        // No source is named, and to Kubernetes a rule without sources is everybody.
        ingress: [],
        egress: [
            {
                to: clusterDns,
                ports: [
                    { port: 53, protocol: "UDP" },
                    { port: 53, protocol: "TCP" },
                ],
            },
            {
                to: [
                    { ipBlock: { cidr: "0.0.0.0/0", except: ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16"] } },
                    { ipBlock: { cidr: "::/0", except: ["fc00::/7", "fe80::/10"] } },
                ],
                ports: [{ port: 443, protocol: "TCP" }],
            },
        ],
    });
});

test("a budget lets one pod go at a time, so that a node with the only one can be drained", async () => {
    server();
    await recorder.settled();
    expect(recorder.only(kinds.budget, "vllm").inputs.spec).toEqual({ maxUnavailable: 1, selector: { matchLabels: labels } });
});

describe("a rollout", () => {
    test.each([
        [1, 0, { type: "Recreate" }],
        [1, 1, { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }],
        [4, 0, { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } }],
        [4, 1, { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } }],
    ])("of %d replicas with %d spare GPUs never waits for a GPU that it holds itself", async (replicas, spareGpus, strategy) => {
        server({ replicas, spareGpus });
        await recorder.settled();
        expect(recorder.only(kinds.deployment, "vllm").inputs.spec).toMatchObject({ replicas, strategy });
    });
});

describe("what is asked for is made", () => {
    const modelShape = { weightsGiB: 14.2, layers: 28, kvHeads: 4, headDim: 128 };

    test("a claim that outlives the stack, for one node or for several", async () => {
        server({ modelCacheGiB: 200, storageClassName: "fast" });
        await recorder.settled();
        const claim = recorder.only(kinds.claim, "vllm-models");
        expect(claim.retainOnDelete).toBe(true);
        expect(claim.inputs.spec).toEqual({ accessModes: ["ReadWriteOnce"], resources: { requests: { storage: "200Gi" } }, storageClassName: "fast" });
        expect(JSON.stringify(pod())).toContain('"persistentVolumeClaim":{"claimName":"vllm-models"}');
        recorder = await record();
        server({ modelCacheGiB: 200, replicas: 2 });
        await recorder.settled();
        expect(recorder.only(kinds.claim, "vllm-models").inputs.spec).toMatchObject({ accessModes: ["ReadWriteMany"] });
    });

    test("a ServiceMonitor, an autoscaler on waiting requests and a route, after the service", async () => {
        server({
            serviceMonitor: true,
            autoscaling: { minReplicas: 1, maxReplicas: 4, prometheusAddress: "http://prometheus.monitoring:9090" },
            route: { gateway: "public", gatewayNamespace: "gateways", hostname: "llm.example.com" },
        });
        await recorder.settled();
        for (const [kind, name] of [
            [kinds.monitor, "vllm-metrics"],
            [kinds.scaling, "vllm-scaling"],
            [kinds.route, "vllm-route"],
        ] as const) {
            expect(recorder.only(kind, name).dependsOn).toEqual([`${kinds.service} vllm`]);
        }
        expect(recorder.only(kinds.scaling, "vllm-scaling").inputs.spec).toMatchObject({
            scaleTargetRef: { name: "vllm" },
            minReplicaCount: 1,
            maxReplicaCount: 4,
            triggers: [{ metadata: { query: 'sum(vllm:num_requests_waiting{namespace="vllm",service="vllm"})', threshold: "5" } }],
        });
        expect(recorder.only(kinds.route, "vllm-route").inputs.spec).toMatchObject({
            parentRefs: [{ name: "public", namespace: "gateways", sectionName: "https" }],
            hostnames: ["llm.example.com"],
        });
        // Its own number of replicas would undo the autoscaler's at every update.
        expect(recorder.only(kinds.deployment, "vllm").inputs.spec).not.toHaveProperty("replicas");
    });

    test("a LeaderWorkerSet in place of the Deployment where the model needs several nodes", async () => {
        server({ tensorParallelSize: 1, pipelineParallelSize: 2 });
        await recorder.settled();
        expect(recorder.ofType(kinds.deployment)).toEqual([]);
        const { leaderWorkerTemplate } = recorder.only(kinds.group, "vllm").inputs.spec as {
            leaderWorkerTemplate: Record<string, { spec: { containers: (Container & { args: string[]; readinessProbe?: object })[] } }>;
        };
        const [leader, worker] = [leaderWorkerTemplate.leaderTemplate!.spec.containers[0]!, leaderWorkerTemplate.workerTemplate!.spec.containers[0]!];
        expect(leaderWorkerTemplate).toMatchObject({ size: 2, restartPolicy: "RecreateGroupOnPodRestart" });
        expect(leader.args.slice(-6)).toEqual(["--nnodes", "2", "--node-rank", "$(LWS_WORKER_INDEX)", "--master-addr", "$(LWS_LEADER_ADDRESS)"]);
        expect(worker.args.at(-1)).toBe("--headless");
        expect([leader.image, worker.image]).toEqual([image, image]);
        expect(leader).toHaveProperty("readinessProbe");
        expect(worker).not.toHaveProperty("readinessProbe");
        expect(recorder.only(kinds.service, "vllm").inputs.spec).toMatchObject({ selector: { "leaderworkerset.sigs.k8s.io/worker-index": "0" } });
        expect(JSON.stringify(recorder.only(kinds.policy, "vllm").inputs.spec).match(/"podSelector"/g)).toHaveLength(4);
    });

    test("the tokens that fit, where the model's size is declared", async () => {
        expect(await valueOf(server({ modelShape }).modelFit)).toEqual([
            expect.stringContaining("tokens fit, or 143 sequences of 8192"),
            expect.stringContaining("one stream: at most 244 tokens/s"),
        ]);
        expect(await valueOf(server().modelFit)).toEqual([expect.stringMatching(/^model: unchecked: serving\.modelShape is not declared, /)]);
        expect(await valueOf(server({ modelShape: { weightsGiB: 60 } }).modelFit)).toEqual([
            expect.stringContaining("KV cache unchecked"),
            expect.stringContaining("one stream: at most"),
        ]);
    });

    test("an option that the plan cannot count is warned of, and the pod has it", async () => {
        const warn = vi.spyOn(pulumi.log, "warn");
        await valueOf(server({ extraArgs: ["--enable-lora", "--enforce-eager"] }).modelFit);
        expect(warn.mock.calls.map(([line]) => line)).toEqual([
            "serving.extraArgs: --enable-lora: loads adapters, whose weights no term of the plan contains; accepted: with room left in the plan",
        ]);
        warn.mockRestore();
    });

    test("traffic from the gateway, Prometheus and named namespaces, each once, and from nobody else", async () => {
        server({
            route: { gateway: "public", gatewayNamespace: "gateways", hostname: "llm.example.com" },
            serviceMonitor: true,
            allowFromNamespaces: ["gateways", "team"],
        });
        await recorder.settled();
        const from = (namespace: string) => ({ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } } });
        expect((recorder.only(kinds.policy, "vllm").inputs.spec as { ingress: unknown }).ingress).toEqual([
            { ports: [{ port: 8000, protocol: "TCP" }], from: [from("gateways"), from("team"), from("monitoring")] },
        ]);
    });

    test("HTTPS to what lies outside of the cluster's own ranges", async () => {
        server({ clusterRanges: ["198.51.100.0/24", "2001:db8::/32"] });
        await recorder.settled();
        expect((recorder.only(kinds.policy, "vllm").inputs.spec as { egress: unknown[] }).egress[1]).toMatchObject({
            to: [{ ipBlock: { cidr: "0.0.0.0/0", except: ["198.51.100.0/24"] } }, { ipBlock: { cidr: "::/0", except: ["2001:db8::/32"] } }],
        });
    });

    test("a model that floats is warned of, unless it is a folder or a stand-in", async () => {
        const warn = vi.spyOn(pulumi.log, "warn");
        const said = async (overrides: Partial<VllmServerArgs>) => {
            warn.mockClear();
            await valueOf(server({ modelRevision: "", ...overrides }).modelFit);
            return warn.mock.calls.map(([line]) => line);
        };
        expect(await said({})).toEqual([
            "serving.modelRevision: is unset, so that each start takes whatever Qwen/Qwen2.5-7B-Instruct leads to; accepted: a commit of the model's repository",
        ]);
        expect([await said({ model: "/models/qwen" }), await said({ acceptStandIn: true })]).toEqual([[], []]);
        warn.mockRestore();
    });

    test("traffic from named namespaces alone, and no fetching of models", async () => {
        server({ allowFromNamespaces: ["gateways", "monitoring"], modelDownload: false });
        await recorder.settled();
        expect(recorder.only(kinds.policy, "vllm").inputs.spec).toMatchObject({
            ingress: [
                {
                    from: [
                        { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "gateways" } } },
                        { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "monitoring" } } },
                    ],
                },
            ],
            egress: [
                {
                    to: clusterDns,
                    ports: [
                        { port: 53, protocol: "UDP" },
                        { port: 53, protocol: "TCP" },
                    ],
                },
            ],
        });
    });
});

test("its account gets no token of the API server", async () => {
    server();
    await recorder.settled();
    expect(recorder.only(kinds.account, "vllm").inputs.automountServiceAccountToken).toBe(false);
});

describe("a namespace", () => {
    test("is kept when the stack goes, with the models and whatever else lies in it", async () => {
        server({ modelCacheGiB: 1 });
        await recorder.settled();
        const kept = recorder.registrations.filter(({ retainOnDelete }) => retainOnDelete).map(({ type: token }) => token);
        expect(kept.sort()).toEqual([kinds.namespace, kinds.claim].sort());
    });

    test("admits restricted pods alone, and lets nothing in or out that no policy names", async () => {
        server({ namespace: "models" });
        await recorder.settled();
        expect(recorder.only(kinds.namespace, "vllm").inputs.metadata).toMatchObject({
            name: "models",
            labels: { "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" },
        });
        const { metadata, spec } = recorder.only(kinds.policy, "vllm-default-deny").inputs;
        expect(metadata).toMatchObject({ name: "vllm-default-deny", namespace: "models" });
        expect(spec).toEqual({ podSelector: {}, policyTypes: ["Ingress", "Egress"] });
    });

    test("is not made where it is somebody else's", async () => {
        const { namespace } = server({ createNamespace: false, namespace: "shared" });
        await recorder.settled();
        expect(recorder.ofType(kinds.namespace)).toEqual([]);
        // Whoever owns the namespace says what others in it may do.
        expect(recorder.ofType(kinds.policy).map(({ name }) => name)).toEqual(["vllm"]);
        expect(recorder.only(kinds.account, "vllm").dependsOn).toEqual([]);
        expect(await valueOf(namespace)).toBe("shared");
    });
});

test("every object but the namespace says whose it is, and each kind of server another owner", async () => {
    server({ modelCacheGiB: 1, hfToken: "hf" });
    await recorder.settled();
    const owner = (registration: { inputs: Record<string, unknown> }) =>
        (registration.inputs.metadata as { annotations?: Record<string, string> }).annotations?.["ai.vllm.gh200/owner"];
    const objects = recorder.registrations.filter(({ type: token }) => token.startsWith("kubernetes:") && token !== kinds.namespace);
    expect(objects.length).toBe(10);
    expect(new Set(objects.map(owner))).toEqual(new Set([`urn:pulumi:test::gh200-vllm::${type}::vllm`]));
    expect(owner(recorder.only(kinds.namespace, "vllm"))).toBeUndefined();
});

test("its readiness is the provider's own wait, which counts pods of the newest generation alone; no hook stands in for it", async () => {
    server();
    await recorder.settled();
    const { inputs, hooks } = recorder.only(kinds.deployment, "vllm");
    expect((inputs.metadata as { annotations: Record<string, string> }).annotations["pulumi.com/waitFor"]).toBe(
        "jsonpath={$[?@.updatedReplicas==$.spec.replicas&&@.readyReplicas==$.spec.replicas&&@.replicas==$.spec.replicas]}",
    );
    expect(Object.keys(hooks)).toEqual(["onError"]);
});

test("objects wait for what they need, and the service for a deployment that is up", async () => {
    server();
    await recorder.settled();
    const waits = (kind: string, name = "vllm") => recorder.only(kind, name).dependsOn;
    expect(waits(kinds.namespace)).toEqual([]);
    expect(waits(kinds.account)).toEqual([`${kinds.namespace} vllm`]);
    expect(waits(kinds.secret, "vllm-pull")).toEqual([`${kinds.namespace} vllm`]);
    expect(waits(kinds.deployment)).toEqual([`${kinds.secret} vllm-api-key`, `${kinds.secret} vllm-pull`, `${kinds.account} vllm`].sort());
    expect(waits(kinds.service)).toEqual([`${kinds.deployment} vllm`]);
    expect(waits(kinds.policy)).toEqual([`${kinds.namespace} vllm`]);
});

describe("secrets", () => {
    test("of the registry are secret in the inputs, and the pod has the Secret's name alone", async () => {
        server();
        await recorder.settled();
        const { inputs } = recorder.only(kinds.secret, "vllm-pull");
        expect(inputs).toMatchObject({ type: "kubernetes.io/dockerconfigjson", metadata: { name: "vllm-pull", namespace: "vllm" } });
        expect(secretText(inputs, ".dockerconfigjson")).toBe(dockerConfigJson("atl.vultrcr.com", "puller", "hunter2"));
        expect(pod().imagePullSecrets).toEqual([{ name: "vllm-pull" }]);
    });

    test("of Hugging Face are absent unless one is given", async () => {
        server();
        await recorder.settled();
        expect(
            recorder
                .ofType(kinds.secret)
                .map(({ name }) => name)
                .sort(),
        ).toEqual(["vllm-api-key", "vllm-pull"]);
        expect(JSON.stringify(pod())).not.toMatch(/HF_TOKEN|hf-token/);
    });

    test("of Hugging Face are secret in the inputs, and the pod waits for them", async () => {
        server({ hfToken: pulumi.secret("hf_abc") });
        await recorder.settled();
        expect(secretText(recorder.only(kinds.secret, "vllm-hf").inputs, "token")).toBe("hf_abc");
        expect(JSON.stringify(pod())).toContain('"secret":{"defaultMode":288,"secretName":"vllm-hf"}');
        expect(recorder.only(kinds.deployment, "vllm").dependsOn).toContain(`${kinds.secret} vllm-hf`);
    });

    test("of the API are drawn once, secret in the inputs, and the pod has the Secret's name alone", async () => {
        const { apiKeySecret } = server();
        expect(await valueOf(apiKeySecret)).toBe("vllm-api-key");
        await recorder.settled();
        const drawn = recorder.only(kinds.secret, "vllm-api-key");
        expect(Buffer.from(secretText(drawn.inputs, "api-key"), "base64").toString()).toMatch(/^[0-9a-f]{64}$/);
        expect(drawn.ignoreChanges).toEqual(["data"]);
        expect(pod().containers[0]!.env).toContainEqual({ name: "VLLM_API_KEY", valueFrom: { secretKeyRef: { name: "vllm-api-key", key: "api-key" } } });
        recorder = await record();
        server();
        await recorder.settled();
        expect(secretText(recorder.only(kinds.secret, "vllm-api-key").inputs, "api-key")).not.toBe(secretText(drawn.inputs, "api-key"));
    });

    test("of the API are unknown in a preview, so that an update plan holds none", async () => {
        recorder = await record({ preview: true });
        server();
        await recorder.settled();
        expect(JSON.stringify(recorder.only(kinds.secret, "vllm-api-key").inputs.data)).toContain(unknown);
    });

    test("of the API are an existing Secret's where one is named, and none where the name is empty", async () => {
        server({ apiKey: "team-key" });
        await recorder.settled();
        expect(recorder.ofType(kinds.secret).map(({ name }) => name)).toEqual(["vllm-pull"]);
        expect(JSON.stringify(pod())).toContain('"secretKeyRef":{"key":"api-key","name":"team-key"}');
        recorder = await record();
        server({ apiKey: "" });
        await recorder.settled();
        expect(recorder.ofType(kinds.secret).map(({ name }) => name)).toEqual(["vllm-pull"]);
        expect(JSON.stringify(pod())).not.toContain("VLLM_API_KEY");
    });

    test("stand in no other object", async () => {
        server({ hfToken: "hf_abc" });
        await recorder.settled();
        const others = recorder.registrations.filter(({ type: token }) => token !== kinds.secret);
        expect(JSON.stringify(others)).not.toMatch(/hunter2|hf_abc/);
    });
});

test("a preview shows the whole pod while the image is yet to be built", async () => {
    recorder = await record({ preview: true });
    server({ image: unknownOutput() });
    await recorder.settled();
    expect(pod().containers[0]!.image).toBe(unknown);
    expect(JSON.stringify(recorder.only(kinds.deployment, "vllm").inputs).split(unknown)).toHaveLength(2);
});

describe("what it is made of", () => {
    test.each([
        ["a Deployment", kinds.deployment, {}],
        ["a LeaderWorkerSet", kinds.group, { pipelineParallelSize: 2 }],
    ])("%s and a Service, is there for what comes after it", async (_, kind, args) => {
        const made = server(args);
        await recorder.settled();
        expect(await valueOf(pulumi.all([made.workload.urn, made.service.urn]))).toEqual([
            expect.stringContaining(`$${kind}::vllm`),
            expect.stringContaining(`$${kinds.service}::vllm`),
        ]);
        expect(await valueOf(pulumi.all([made.workloadName, made.serviceName]))).toEqual(["vllm", "vllm"]);
    });
});

test("its endpoint is inside the cluster", async () => {
    const { endpoint, namespace, serviceName } = server({ namespace: "models" });
    expect(await valueOf(endpoint)).toBe("http://vllm.models.svc:8000");
    expect(await valueOf(namespace)).toBe("models");
    expect(await valueOf(serviceName)).toBe("vllm");
});

describe("inputs are refused", () => {
    test("for an image that floats, and every other mistake with it", () => {
        expect(refusal(() => server({ image: "vllm/vllm-openai:latest", cpus: 1.5, placement: "fast" as never }))).toEqual([
            "serving.image: vllm/vllm-openai:latest: is no image by digest; accepted: REPOSITORY@sha256:DIGEST",
            "serving.placement: fast: is not accepted; accepted: hbm-first, managed, managed-prefetch or off",
            "serving.cpus: 1.5: is no whole number of CPUs",
        ]);
    });

    const modelShape = { weightsGiB: 140, layers: 80, kvHeads: 8, headDim: 128 };
    test.each<[string, Partial<VllmServerArgs>, string]>([
        [
            "weights",
            { modelShape },
            "serving.modelShape.weightsGiB: 140: exceeds 77.2 GiB of HBM and 1.4 GiB of host memory by 61.4 GiB; accepted: weights that fit; raise hostBudgetMiB, take more GPUs, or quantise",
        ],
        [
            "a context",
            { modelShape: { ...modelShape, weightsGiB: 76 }, maxModelLenTokens: 131_072 },
            "serving.maxModelLenTokens: 131072: is more than the 7456 tokens whose KV cache fits 77.2 GiB of HBM and 1.4 GiB of host memory; accepted: at most 7456; lower it, or raise hostBudgetMiB",
        ],
        [
            "a KV cache",
            { modelShape: { ...modelShape, weightsGiB: 60 }, kvCacheMemoryBytes: 2 ** 40 },
            "serving.kvCacheMemoryBytes: 1099511627776: is more than 77.2 GiB of HBM and 1.4 GiB of host memory leave beside the weights; accepted: at most 19623051264 (18.3 GiB); lower it or leave it out",
        ],
        [
            "GPUs",
            { tensorParallelSize: 3, gpusPerNode: 2 },
            "serving.tensorParallelSize: 3: with pipelineParallelSize 1 needs 3 GPUs, which no number of nodes with 2 has; accepted: a multiple of gpusPerNode",
        ],
        [
            "an autoscaler of several nodes",
            { pipelineParallelSize: 2, autoscaling: { minReplicas: 1, maxReplicas: 2, prometheusAddress: "http://p:9090" } },
            "serving.autoscaling: scales a Deployment, and a model over several nodes has none; accepted: serving.replicas",
        ],
        [
            "a route without a key",
            { apiKey: "", route: { gateway: "public", gatewayNamespace: "gateways", hostname: "llm.example.com" } },
            'serving.apiKey: "": lets everybody whom the route reaches use the API; accepted: a Secret\'s name, or left out, so that a key is generated; or acknowledgeOpenRoute: true, where the Gateway asks for keys itself',
        ],
        [
            "code of the model's repository",
            { extraArgs: ["--trust_remote"] },
            "serving.extraArgs: --trust_remote: runs Python code of the model's repository; accepted: without it, or with serving.acknowledgeRemoteCode: true",
        ],
        [
            "two caches",
            { modelCacheClaim: "models", modelCacheGiB: 1 },
            "serving.modelCacheGiB: 1: makes a claim beside the existing modelCacheClaim; accepted: one of them",
        ],
        [
            "LMCache without buffers",
            { lmcacheUrl: "lm://cache:65432" },
            "serving.pinnedMiB: 0: leaves KV cache no pinned buffers on its way to LMCache; accepted: 1024 or more; raise node.pinnedMiB",
        ],
    ])("for %s that cannot work", async (_, overrides, line) => {
        const [text] = await laterRefusal(() => server(overrides));
        expect(text).toContain(line);
    });

    test("for an image that turns out to float", async () => {
        // Pulumi may say first which property of which child was being made ready.
        expect(await laterRefusal(() => server({ image: pulumi.output("a/b:latest") }))).toEqual([
            expect.stringMatching(/(^|: )serving\.image: a\/b:latest: is no image by digest; accepted: REPOSITORY@sha256:DIGEST$/),
        ]);
    });
});

describe("a transform", () => {
    const transform: VllmServerTransform = {
        pod: ({ metadata, spec }, { model }) => {
            metadata.annotations["example.com/model"] = model;
            metadata.labels.team = "ml";
            spec.serviceAccountName = "irsa";
            spec.containers[0].env.push({ name: "HTTPS_PROXY", value: "http://proxy:3128" });
            spec.containers[0].volumeMounts.push({ name: "extra", mountPath: "/extra" });
            spec.containers.push({ name: "sidecar", image: "sidecar@sha256:1", args: ["--serve"] });
            spec.initContainers = [{ name: "first", image: "first@sha256:1" }];
            spec.volumes.push({ name: "extra", emptyDir: {} });
        },
        workload: ({ metadata, spec }, options) => {
            metadata.annotations["example.com/owner"] = "ml";
            spec.revisionHistoryLimit = 3;
            options.protect = true;
        },
        service: ({ metadata, spec }) => {
            metadata.labels.team = "ml";
            spec.type = "LoadBalancer";
        },
    };
    const podChanges = {
        metadata: { labels: { ...labels, team: "ml" }, annotations: { "example.com/model": "Qwen/Qwen2.5-7B-Instruct" } },
        spec: {
            serviceAccountName: "irsa",
            initContainers: [{ name: "first" }],
            containers: [
                {
                    name: "vllm",
                    env: expect.arrayContaining([{ name: "HTTPS_PROXY", value: "http://proxy:3128" }]) as unknown,
                    volumeMounts: expect.arrayContaining([{ name: "extra", mountPath: "/extra" }]) as unknown,
                },
                { name: "sidecar", args: ["--serve"] },
            ],
            volumes: expect.arrayContaining([{ name: "extra", emptyDir: {} }]) as unknown,
        },
    };

    test("changes pod, workload and service, after everything else, and no other object", async () => {
        // A drawn key would be another one each time.
        server({ apiKey: "team-key" });
        await recorder.settled();
        const before = recorder.registrations;
        recorder = await record();
        server({ apiKey: "team-key" }, { transform });
        await recorder.settled();
        const deployment = recorder.only(kinds.deployment, "vllm");
        expect(deployment.inputs).toMatchObject({
            metadata: { labels, annotations: { "example.com/owner": "ml" } },
            spec: { revisionHistoryLimit: 3, selector: { matchLabels: labels }, template: podChanges },
        });
        expect((deployment.inputs as { spec: { selector: object } }).spec.selector).toEqual({ matchLabels: labels });
        expect(recorder.only(kinds.service, "vllm").inputs).toMatchObject({
            metadata: { labels: { team: "ml" } },
            spec: { type: "LoadBalancer", selector: labels },
        });
        const others = (resources: typeof before) => resources.filter(({ type: of }) => of !== kinds.deployment && of !== kinds.service);
        expect(others(recorder.registrations)).toEqual(others(before));
    });

    test("of several nodes changes the leader's and the workers' pods, and gives vLLM's own arguments to vLLM alone", async () => {
        server({ pipelineParallelSize: 2 }, { transform });
        await recorder.settled();
        const { leaderWorkerTemplate } = recorder.only(kinds.group, "vllm").inputs.spec as { leaderWorkerTemplate: object };
        expect(leaderWorkerTemplate).toMatchObject({ leaderTemplate: podChanges, workerTemplate: podChanges });
    });

    test("is no option of the component itself, and without one nothing is another", async () => {
        server({ apiKey: "team-key" }, { transform: {} });
        await recorder.settled();
        const with_ = recorder.registrations;
        recorder = await record();
        server({ apiKey: "team-key" });
        await recorder.settled();
        expect(with_).toEqual(recorder.registrations);
    });
});

test("an existing Secret of the registry is used, and none is made", async () => {
    const made = server({ existingPullSecret: pulumi.output("renewed"), pullUsername: undefined, pullPassword: undefined });
    await recorder.settled();
    expect(recorder.ofType(kinds.secret).map(({ name }) => name)).toEqual(["vllm-api-key"]);
    expect(pod().imagePullSecrets).toEqual([{ name: "renewed" }]);
    expect(await valueOf(made.imagePullSecret)).toBe("renewed");
});

/** A Secret's text, which must be marked as secret in the inputs: by itself or with what it stands in. */
function secretText(inputs: Record<string, unknown>, key: string): string {
    const data = (inputs.stringData ?? inputs.data) as Record<string, { secret: string }> & { secret?: Record<string, string> };
    return data.secret?.[key] ?? data[key]!.secret;
}
