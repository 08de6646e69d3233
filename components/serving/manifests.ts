import type { types } from "@pulumi/kubernetes";
import type { Input } from "@pulumi/pulumi";
import type { TolerationArgs } from "./vllmServerArgs";

type PodSpec = types.input.core.v1.PodSpec;

/**
 * Everything that a vLLM pod is made from, in resolved values. Only the image may be unknown in a
 * preview, and then the rest of the pod is shown all the same.
 */
export interface VllmPod {
    name: string;
    image: Input<string>;
    model: string;
    servedModelName: string;
    maxModelLenTokens: number;
    maxNumSeqs: number;
    kvCacheMemoryBytes?: number | undefined;
    tensorParallelSize: number;
    pipelineParallelSize: number;
    gpusPerNode: number;
    extraArgs: string[];
    cpus: number;
    memoryLimitMiB: number;
    shmMiB: number;
    hbmBudgetMiB: number;
    hostBudgetMiB: number;
    /** Of hostBudgetMiB, for vLLM's tier of prefixes. */
    prefixTierMiB: number;
    hbmReserveMiB: number;
    gpuMemoryUtilization?: number | undefined;
    hostReserveMiB: number;
    placement: string;
    acceptStandIn: boolean;
    runtimeClassName: string;
    gpuProduct: string;
    nodeSelector: Record<string, string>;
    priorityClassName: string;
    tolerations: TolerationArgs[];
    lmcacheUrl: string;
    pinnedMiB: number;
    readOnlyRootFilesystem: boolean;
    startupSeconds: number;
    shutdownSeconds: number;
    modelCacheClaim: string;
    imagePullSecret: string;
    hfTokenSecret: string;
    /** Secret whose `api-key` requests to /v1 must carry; empty for none. */
    apiKeySecret: string;
    /** Commit of the model; empty for what its name leads to at the start. */
    modelRevision: string;
}

export const vllmPort = 8000;

/** The user that the image is made for: no root, and group 0 so that any uid of OpenShift's works too. */
const imageUser = { uid: 2000, gid: 0 };

/** vLLM stops taking requests at SIGTERM; the pod leaves its endpoints while this pause lasts. */
const preStopSeconds = 5;

const hfTokenFolder = "/var/run/secrets/huggingface";

/** Key of the Secret that `serving.apiKey` names. */
export const apiKeyEntry = "api-key";

/** Freeing hundreds of GiB of managed pages takes time at exit (an estimate). */
const exitMarginSeconds = 30;

export function selectorLabels(name: string): Record<string, string> {
    return { "app.kubernetes.io/name": "vllm", "app.kubernetes.io/instance": name };
}

/** Arguments of the launcher, which hands them to `vllm serve`. */
export function vllmArguments(pod: VllmPod): string[] {
    return [
        pod.model,
        ...(pod.modelRevision === "" ? [] : ["--revision", pod.modelRevision]),
        "--served-model-name",
        pod.servedModelName,
        "--port",
        `${vllmPort}`,
        "--max-model-len",
        `${pod.maxModelLenTokens}`,
        "--max-num-seqs",
        `${pod.maxNumSeqs}`,
        "--shutdown-timeout",
        `${pod.shutdownSeconds}`,
        // With a placement the launcher holds vLLM to its budgets; without one only vLLM's own flag does.
        ...(pod.placement === "off" && pod.gpuMemoryUtilization !== undefined ? ["--gpu-memory-utilization", `${pod.gpuMemoryUtilization}`] : []),
        ...(pod.kvCacheMemoryBytes === undefined ? [] : ["--kv-cache-memory-bytes", `${pod.kvCacheMemoryBytes}`]),
        // Custom all-reduce shares memory through CUDA IPC, which managed memory has not; the launcher refuses it.
        ...(pod.tensorParallelSize === 1 ? [] : ["--tensor-parallel-size", `${pod.tensorParallelSize}`, "--disable-custom-all-reduce"]),
        ...(pod.pipelineParallelSize === 1 ? [] : ["--pipeline-parallel-size", `${pod.pipelineParallelSize}`]),
        ...(pod.lmcacheUrl === "" ? [] : ["--kv-transfer-config", JSON.stringify({ kv_connector: "LMCacheConnectorV1", kv_role: "kv_both" })]),
        ...pod.extraArgs,
    ];
}

/**
 * How long an update may wait for the pod: a start, and before it the end of the one that holds the GPU.
 */
export function rolloutSeconds(startSeconds: number, shutdownSeconds: number): number {
    return startSeconds + preStopSeconds + shutdownSeconds + exitMarginSeconds;
}

/** A pod of the restricted Pod Security Standard on one whole GH200. */
export function podSpec(pod: VllmPod): PodSpec {
    const resources = {
        cpu: `${pod.cpus}`,
        memory: `${pod.memoryLimitMiB}Mi`,
        "nvidia.com/gpu": `${Math.min(pod.gpusPerNode, pod.tensorParallelSize * pod.pipelineParallelSize)}`,
    };
    const health = { httpGet: { path: "/health", port: "http" } };
    return {
        automountServiceAccountToken: false,
        serviceAccountName: pod.name,
        enableServiceLinks: false,
        ...(pod.runtimeClassName !== "" && { runtimeClassName: pod.runtimeClassName }),
        ...(pod.imagePullSecret !== "" && { imagePullSecrets: [{ name: pod.imagePullSecret }] }),
        ...(pod.priorityClassName !== "" && { priorityClassName: pod.priorityClassName }),
        nodeSelector: { ...pod.nodeSelector, "kubernetes.io/arch": "arm64", "nvidia.com/gpu.product": pod.gpuProduct },
        affinity: onePodPerNode(pod.name),
        tolerations: gpuTolerations(pod.tolerations),
        terminationGracePeriodSeconds: preStopSeconds + pod.shutdownSeconds + exitMarginSeconds,
        securityContext: {
            runAsNonRoot: true,
            runAsUser: imageUser.uid,
            runAsGroup: imageUser.gid,
            fsGroup: imageUser.gid,
            seccompProfile: { type: "RuntimeDefault" },
        },
        containers: [
            {
                name: "vllm",
                image: pod.image,
                args: vllmArguments(pod),
                env: environment(pod),
                ports: [{ name: "http", containerPort: vllmPort }],
                // Requests equal limits: Guaranteed QoS, so that a node short of memory kills others first.
                resources: { requests: resources, limits: resources },
                startupProbe: { ...health, periodSeconds: 10, failureThreshold: Math.ceil(pod.startupSeconds / 10) },
                readinessProbe: { ...health, periodSeconds: 5, timeoutSeconds: 5 },
                livenessProbe: { ...health, periodSeconds: 10, timeoutSeconds: 10, failureThreshold: 6 },
                lifecycle: { preStop: { sleep: { seconds: preStopSeconds } } },
                // The error of a failed rollout then carries the last log lines.
                terminationMessagePolicy: "FallbackToLogsOnError",
                securityContext: {
                    allowPrivilegeEscalation: false,
                    readOnlyRootFilesystem: pod.readOnlyRootFilesystem,
                    capabilities: { drop: ["ALL"] },
                },
                volumeMounts: [
                    { name: "shm", mountPath: "/dev/shm" },
                    { name: "tmp", mountPath: "/tmp" },
                    { name: "cache", mountPath: "/cache" },
                    ...(pod.hfTokenSecret === "" ? [] : [{ name: "hf-token", mountPath: hfTokenFolder, readOnly: true }]),
                ],
            },
        ],
        volumes: [
            { name: "shm", emptyDir: { medium: "Memory", sizeLimit: `${pod.shmMiB}Mi` } },
            { name: "tmp", emptyDir: {} },
            pod.modelCacheClaim === "" ? { name: "cache", emptyDir: {} } : { name: "cache", persistentVolumeClaim: { claimName: pod.modelCacheClaim } },
            ...(pod.hfTokenSecret === "" ? [] : [{ name: "hf-token", secret: { secretName: pod.hfTokenSecret, defaultMode: 0o440 } }]),
        ],
    };
}

/** The GPU's own taint, and what else was asked for. */
export function gpuTolerations(tolerations: readonly TolerationArgs[]): types.input.core.v1.Toleration[] {
    return [
        { key: "nvidia.com/gpu", operator: "Exists", effect: "NoSchedule" },
        ...tolerations.map((toleration) => ({ ...toleration, operator: toleration.value === undefined ? "Exists" : "Equal" })),
    ];
}

/** The memory plan is a node's: two pods that both overflow would be promised the same LPDDR. */
function onePodPerNode(name: string): types.input.core.v1.Affinity {
    return {
        podAntiAffinity: {
            requiredDuringSchedulingIgnoredDuringExecution: [{ labelSelector: { matchLabels: selectorLabels(name) }, topologyKey: "kubernetes.io/hostname" }],
        },
    };
}

/**
 * Writable folders are named one by one, since the root file system is not; the budget is the plan's. /cache may be a claim, which
 * outlives the image: what Python imports or unpickles by itself lies in /tmp, which goes with the pod.
 */
function environment(pod: VllmPod): types.input.core.v1.EnvVar[] {
    const values: Record<string, string> = {
        HOME: "/tmp/home",
        PYTHONNOUSERSITE: "1",
        USER: "vllm",
        LOGNAME: "vllm",
        HF_HOME: "/cache/huggingface",
        HF_MODULES_CACHE: "/tmp/huggingface-modules",
        XDG_CACHE_HOME: "/cache/xdg",
        VLLM_CACHE_ROOT: "/cache/vllm",
        VLLM_CONFIG_ROOT: "/cache/vllm/config",
        TRITON_CACHE_DIR: "/cache/triton",
        TORCHINDUCTOR_CACHE_DIR: "/cache/inductor",
        FLASHINFER_WORKSPACE_BASE: "/cache/flashinfer",
        NUMBA_CACHE_DIR: "/tmp/numba",
        OUTLINES_CACHE_DIR: "/tmp/outlines",
        VLLM_NO_USAGE_STATS: "1",
        MANAGED_MEM_PLACEMENT: pod.placement,
        MANAGED_MEM_HBM: `${pod.hbmBudgetMiB}MiB`,
        MANAGED_MEM_HBM_RESERVE: `${pod.hbmReserveMiB}MiB`,
        MANAGED_MEM_HOST: `${pod.hostBudgetMiB}MiB`,
        ...(pod.prefixTierMiB > 0 && { MANAGED_MEM_PREFIXES: `${pod.prefixTierMiB}MiB` }),
        MANAGED_MEM_HOST_RESERVE: `${pod.hostReserveMiB}MiB`,
        ...(pod.lmcacheUrl !== "" && {
            LMCACHE_REMOTE_URL: pod.lmcacheUrl,
            LMCACHE_REMOTE_SERDE: "naive",
            // Its staging buffers are pinned memory: the plan's term of that name, in GB (LMCache 0.4.4, v1/config.py).
            LMCACHE_MAX_LOCAL_CPU_SIZE: `${Math.floor(pod.pinnedMiB / 102.4) / 10}`,
        }),
        // A file and no variable: the kubelet renews it in a running pod, and huggingface_hub reads it at every request.
        ...(pod.hfTokenSecret !== "" && { HF_TOKEN_PATH: `${hfTokenFolder}/token` }),
        ...(pod.acceptStandIn && { MANAGED_MEM_ACCEPT_STAND_IN: "1" }),
    };
    return [
        ...Object.entries(values).map(([name, value]) => ({ name, value })),
        ...(pod.apiKeySecret === "" ? [] : [{ name: "VLLM_API_KEY", valueFrom: { secretKeyRef: { name: pod.apiKeySecret, key: apiKeyEntry } } }]),
    ];
}

/** The credentials of one registry as the kubelet reads them. */
export function dockerConfigJson(host: string, username: string, password: string): string {
    const auth = Buffer.from(`${username}:${password}`).toString("base64");
    return JSON.stringify({ auths: { [host]: { username, password, auth } } });
}

/**
 * How long a start may take: 1.5 times reading the model plus a warm-up for compilation and graph
 * capture. Too short a budget shows as `KeyboardInterrupt: terminated` in vLLM's log.
 */
export function startupSeconds(modelGiB: number, readGiBps: number, warmupSeconds: number): number {
    return Math.ceil(1.5 * (modelGiB / readGiBps + warmupSeconds));
}
