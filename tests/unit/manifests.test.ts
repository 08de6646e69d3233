import { describe, expect, test } from "vitest";
import { dockerConfigJson, podSpec, rolloutSeconds, selectorLabels, startupSeconds, type VllmPod, vllmArguments } from "../../components/serving/manifests";

const image = `atl.vultrcr.com/vllm/gh200-vllm-cmm@sha256:${"0".repeat(64)}`;

const pod: VllmPod = {
    name: "gh200-vllm",
    image,
    model: "Qwen/Qwen2.5-7B-Instruct",
    servedModelName: "qwen",
    maxModelLenTokens: 8192,
    maxNumSeqs: 256,
    tensorParallelSize: 1,
    pipelineParallelSize: 1,
    gpusPerNode: 1,
    extraArgs: [],
    cpus: 16,
    memoryLimitMiB: 7070,
    shmMiB: 1024,
    hbmBudgetMiB: 79_036,
    hostBudgetMiB: 1438,
    hbmReserveMiB: 3915,
    hostReserveMiB: 512,
    placement: "hbm-first",
    prefixTierMiB: 0,
    acceptStandIn: false,
    runtimeClassName: "nvidia",
    gpuProduct: "NVIDIA-GH200-480GB",
    nodeSelector: {},
    priorityClassName: "",
    tolerations: [],
    lmcacheUrl: "",
    pinnedMiB: 0,
    readOnlyRootFilesystem: true,
    startupSeconds: 623,
    shutdownSeconds: 60,
    modelCacheClaim: "",
    imagePullSecret: "",
    hfTokenSecret: "",
    apiKeySecret: "gh200-vllm-api-key",
    modelRevision: "",
};

/** The only container of a pod. */
function container(overrides: Partial<VllmPod> = {}) {
    const { containers, initContainers } = podSpec({ ...pod, ...overrides }) as unknown as {
        containers: { env: { name: string; value?: string; valueFrom?: object }[]; [key: string]: unknown }[];
        initContainers?: unknown;
    };
    expect(containers).toHaveLength(1);
    expect(initContainers).toBeUndefined();
    return containers[0]!;
}

test("the pod of the source document's node is exactly this", () => {
    const resources = { cpu: "16", memory: "7070Mi", "nvidia.com/gpu": "1" };
    expect(podSpec(pod)).toEqual({
        automountServiceAccountToken: false,
        serviceAccountName: "gh200-vllm",
        enableServiceLinks: false,
        runtimeClassName: "nvidia",
        nodeSelector: { "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": "NVIDIA-GH200-480GB" },
        affinity: {
            podAntiAffinity: {
                requiredDuringSchedulingIgnoredDuringExecution: [
                    {
                        labelSelector: { matchLabels: { "app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "gh200-vllm" } },
                        topologyKey: "kubernetes.io/hostname",
                    },
                ],
            },
        },
        tolerations: [{ key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" }],
        terminationGracePeriodSeconds: 95,
        securityContext: {
            runAsNonRoot: true,
            runAsUser: 2000,
            runAsGroup: 0,
            fsGroup: 0,
            seccompProfile: { type: "RuntimeDefault" },
        },
        containers: [
            {
                name: "vllm",
                image,
                args: [
                    "Qwen/Qwen2.5-7B-Instruct",
                    "--served-model-name",
                    "qwen",
                    "--port",
                    "8000",
                    "--max-model-len",
                    "8192",
                    "--max-num-seqs",
                    "256",
                    "--shutdown-timeout",
                    "60",
                ],
                env: [
                    { name: "HOME", value: "/tmp/home" },
                    { name: "PYTHONNOUSERSITE", value: "1" },
                    { name: "USER", value: "vllm" },
                    { name: "LOGNAME", value: "vllm" },
                    { name: "HF_HOME", value: "/cache/huggingface" },
                    { name: "HF_MODULES_CACHE", value: "/tmp/huggingface-modules" },
                    { name: "XDG_CACHE_HOME", value: "/cache/xdg" },
                    { name: "VLLM_CACHE_ROOT", value: "/cache/vllm" },
                    { name: "VLLM_CONFIG_ROOT", value: "/cache/vllm/config" },
                    { name: "TRITON_CACHE_DIR", value: "/cache/triton" },
                    { name: "TORCHINDUCTOR_CACHE_DIR", value: "/cache/inductor" },
                    { name: "FLASHINFER_WORKSPACE_BASE", value: "/cache/flashinfer" },
                    { name: "NUMBA_CACHE_DIR", value: "/tmp/numba" },
                    { name: "OUTLINES_CACHE_DIR", value: "/tmp/outlines" },
                    { name: "VLLM_NO_USAGE_STATS", value: "1" },
                    { name: "MANAGED_MEM_PLACEMENT", value: "hbm-first" },
                    { name: "MANAGED_MEM_HBM", value: "79036MiB" },
                    { name: "MANAGED_MEM_HBM_RESERVE", value: "3915MiB" },
                    { name: "MANAGED_MEM_HOST", value: "1438MiB" },
                    { name: "MANAGED_MEM_HOST_RESERVE", value: "512MiB" },
                    { name: "VLLM_API_KEY", valueFrom: { secretKeyRef: { name: "gh200-vllm-api-key", key: "api-key" } } },
                ],
                ports: [{ name: "http", containerPort: 8000 }],
                resources: { requests: resources, limits: resources },
                startupProbe: { httpGet: { path: "/health", port: "http" }, periodSeconds: 10, failureThreshold: 63 },
                readinessProbe: { httpGet: { path: "/health", port: "http" }, periodSeconds: 5, timeoutSeconds: 5 },
                livenessProbe: { httpGet: { path: "/health", port: "http" }, periodSeconds: 10, timeoutSeconds: 10, failureThreshold: 6 },
                lifecycle: { preStop: { sleep: { seconds: 5 } } },
                terminationMessagePolicy: "FallbackToLogsOnError",
                securityContext: { allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: { drop: ["ALL"] } },
                volumeMounts: [
                    { name: "shm", mountPath: "/dev/shm" },
                    { name: "tmp", mountPath: "/tmp" },
                    { name: "cache", mountPath: "/cache" },
                ],
            },
        ],
        volumes: [
            { name: "shm", emptyDir: { medium: "Memory", sizeLimit: "1024Mi" } },
            { name: "tmp", emptyDir: {} },
            { name: "cache", emptyDir: {} },
        ],
    });
});

describe("what is not asked for is absent", () => {
    test.each([
        ["runtimeClassName", { runtimeClassName: "" }],
        ["imagePullSecrets", {}],
    ])("%s", (key, overrides) => {
        expect(podSpec({ ...pod, ...overrides })).not.toHaveProperty(key);
    });

    test("a token of the API server, the host's namespaces and its folders", () => {
        const spec = podSpec(pod) as unknown as Record<string, unknown>;
        expect(spec.automountServiceAccountToken).toBe(false);
        for (const key of ["hostNetwork", "hostPID", "hostIPC"]) {
            expect(spec).not.toHaveProperty(key);
        }
        expect(JSON.stringify(spec)).not.toContain("hostPath");
        expect(JSON.stringify(spec)).not.toContain("privileged");
    });

    test("a Hugging Face token, and with one the pod has it as a file that can be renewed", () => {
        expect(JSON.stringify(podSpec(pod))).not.toMatch(/hf-token|HF_TOKEN/);
        const withToken = podSpec({ ...pod, hfTokenSecret: "gh200-vllm-hf" });
        expect(JSON.stringify(withToken)).not.toMatch(/"secretKeyRef":\{"name":"gh200-vllm-hf"/);
        expect(withToken).toMatchObject({
            containers: [
                {
                    env: expect.arrayContaining([{ name: "HF_TOKEN_PATH", value: "/var/run/secrets/huggingface/token" }]) as object,
                    volumeMounts: expect.arrayContaining([{ name: "hf-token", mountPath: "/var/run/secrets/huggingface", readOnly: true }]) as object,
                },
            ],
            volumes: expect.arrayContaining([{ name: "hf-token", secret: { secretName: "gh200-vllm-hf", defaultMode: 0o440 } }]) as object,
        });
    });

    test("a key of the API, and a commit of the model", () => {
        expect(JSON.stringify(podSpec({ ...pod, apiKeySecret: "" }))).not.toMatch(/VLLM_API_KEY|secretKeyRef/);
        expect(vllmArguments(pod)).not.toContain("--revision");
        const commit = "0123456789abcdef0123456789abcdef01234567";
        expect(vllmArguments({ ...pod, modelRevision: commit }).slice(0, 3)).toEqual([pod.model, "--revision", commit]);
    });

    test("Python code in a volume that outlives the image", () => {
        const env = Object.fromEntries(container({ modelCacheClaim: "models" }).env.map(({ name, value }) => [name, value]));
        expect(env.PYTHONNOUSERSITE).toBe("1");
        for (const name of ["HOME", "HF_MODULES_CACHE", "NUMBA_CACHE_DIR", "OUTLINES_CACHE_DIR"]) {
            expect(env[name], name).toMatch(/^\/tmp\//);
        }
    });

    test("leave to run on stand-ins", () => {
        const standIn = (overrides: Partial<VllmPod>) => container(overrides).env.filter(({ name }) => name === "MANAGED_MEM_ACCEPT_STAND_IN");
        expect(standIn({})).toEqual([]);
        expect(standIn({ acceptStandIn: true })).toEqual([{ name: "MANAGED_MEM_ACCEPT_STAND_IN", value: "1" }]);
    });
});

describe("what is asked for is there", () => {
    test("credentials of the registry", () => {
        expect(podSpec({ ...pod, imagePullSecret: "gh200-vllm-pull" })).toMatchObject({ imagePullSecrets: [{ name: "gh200-vllm-pull" }] });
    });

    test("an existing claim in place of the pod's own cache", () => {
        expect((podSpec({ ...pod, modelCacheClaim: "models" }) as unknown as { volumes: object[] }).volumes).toContainEqual({
            name: "cache",
            persistentVolumeClaim: { claimName: "models" },
        });
    });

    test("a KV cache of a given size, several GPUs, a priority and further labels of the node", () => {
        const args = vllmArguments({ ...pod, kvCacheMemoryBytes: 2 ** 30, tensorParallelSize: 2, pipelineParallelSize: 2 });
        expect(args.join(" ")).toContain("--kv-cache-memory-bytes 1073741824 --tensor-parallel-size 2 --disable-custom-all-reduce --pipeline-parallel-size 2");
        expect(
            podSpec({
                ...pod,
                tensorParallelSize: 2,
                gpusPerNode: 2,
                priorityClassName: "serving",
                tolerations: [{ key: "team", value: "ml", effect: "NoSchedule" }, { key: "spot" }],
                nodeSelector: { rack: "7", "kubernetes.io/arch": "amd64" },
            }),
        ).toMatchObject({
            priorityClassName: "serving",
            tolerations: [
                { key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" },
                { key: "team", operator: "Equal", value: "ml", effect: "NoSchedule" },
                { key: "spot", operator: "Exists" },
            ],
            // What the image is made for is not to be overridden.
            nodeSelector: { rack: "7", "kubernetes.io/arch": "arm64" },
            containers: [{ resources: { limits: { "nvidia.com/gpu": "2" } } }],
        });
    });

    test("LMCache, through a connector that registers no GPU memory and buffers that the plan has counted", () => {
        const cached = container({ lmcacheUrl: "lm://cache.vllm.svc:65432", pinnedMiB: 5120 });
        expect((cached.args as string[]).slice(-2)).toEqual(["--kv-transfer-config", '{"kv_connector":"LMCacheConnectorV1","kv_role":"kv_both"}']);
        const env = Object.fromEntries(cached.env.map(({ name, value }) => [name, value]));
        expect(env).toMatchObject({ LMCACHE_REMOTE_URL: "lm://cache.vllm.svc:65432", LMCACHE_MAX_LOCAL_CPU_SIZE: "5" });
    });

    test("further arguments, after the pod's own so that they win", () => {
        expect(vllmArguments({ ...pod, extraArgs: ["--max-model-len", "4096"] }).slice(-4)).toEqual(["--shutdown-timeout", "60", "--max-model-len", "4096"]);
    });
});

test.each([1, 60, 600])("a pod that drains for %d s is not killed before it has drained, slept and freed its pages", (shutdownSeconds) => {
    expect(podSpec({ ...pod, shutdownSeconds })).toMatchObject({ terminationGracePeriodSeconds: 5 + shutdownSeconds + 30 });
});

test("an update may take as long as the old pod needs to end and the new one to start", () => {
    expect(rolloutSeconds(623, 60)).toBe(623 + 95);
});

describe("the start-up budget", () => {
    test.each([
        [15, 1, 400, 623], // 1.5 * 415, the source document's stack
        [0, 1, 400, 600],
        [140, 2, 400, 705],
        [0, 1, 0.1, 1],
    ])("of %d GiB at %d GiB/s and %d s of warm-up is %d s", (model, speed, warmup, seconds) => {
        expect(startupSeconds(model, speed, warmup)).toBe(seconds);
    });

    test.each([1, 10, 11, 623])("of %d s is never cut short by the probe", (seconds) => {
        const probe = container({ startupSeconds: seconds }).startupProbe as { periodSeconds: number; failureThreshold: number };
        expect(probe.periodSeconds * probe.failureThreshold).toBeGreaterThanOrEqual(seconds);
    });
});

test("labels are Kubernetes' recommended ones", () => {
    expect(selectorLabels("a")).toEqual({ "app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": "a" });
});

test("credentials are as the kubelet reads them, for one host", () => {
    expect(JSON.parse(dockerConfigJson("localhost:5000", "user", "päss:word"))).toEqual({
        auths: { "localhost:5000": { username: "user", password: "päss:word", auth: Buffer.from("user:päss:word").toString("base64") } },
    });
});
