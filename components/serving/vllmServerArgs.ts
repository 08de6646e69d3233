import type * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { isDigestReference, isHostPort } from "../image/reference";
import { isHostName, isLabelKey, isLabelValue, namespaceName, nodeLabelValue, objectName, optionalObjectName } from "../internal/names";
import type { SameShape } from "../internal/sameShape";
import { type ModelShapeArgs, modelShapeSchema } from "./modelShapeArgs";

/** Where the launcher puts weights and KV cache; assets/vllm/managed_mem has the reasons. */
export const Placement = {
    /** HBM until its share is full, then host memory that the GPU reads over the link. */
    HbmFirst: "hbm-first",
    /** Everything that PyTorch allocates is managed memory. */
    Managed: "managed",
    /** As `managed`, and every segment is prefetched to the GPU: the source document's policy. */
    ManagedPrefetch: "managed-prefetch",
    /** PyTorch as it is; HBM alone. */
    Off: "off",
} as const;
export type Placement = (typeof Placement)[keyof typeof Placement];

/** What host memory is for that the weights leave; docs/memory.md has the measurements. */
export const Lpddr = {
    /** More blocks of KV cache, for contexts that HBM alone cannot hold. Requests that it can hold run in HBM, as if there were no other. */
    Contexts: "contexts",
    /** vLLM's own KV offloading: prefixes that left the HBM are copied there and come back when they are asked for again. */
    Prefixes: "prefixes",
} as const;
export type Lpddr = (typeof Lpddr)[keyof typeof Lpddr];

/** What a taint does to pods that do not tolerate it; Kubernetes' own values. */
export const TaintEffect = {
    /** They are not scheduled. */
    NoSchedule: "NoSchedule",
    /** They are scheduled where nothing else is left. */
    PreferNoSchedule: "PreferNoSchedule",
    /** They are evicted. */
    NoExecute: "NoExecute",
} as const;
export type TaintEffect = (typeof TaintEffect)[keyof typeof TaintEffect];

/** A taint of the node that the pods tolerate. */
export interface TolerationArgs {
    /** Key of the taint. */
    key: pulumi.Input<string>;
    /** Its value. Default: any. */
    value?: pulumi.Input<string>;
    /** `NoSchedule`, `PreferNoSchedule` or `NoExecute`. Default: any. */
    effect?: pulumi.Input<TaintEffect>;
}

/** Scaling through KEDA on requests that wait. */
export interface AutoscalingArgs {
    /** Fewest replicas. */
    minReplicas: pulumi.Input<number>;
    /** Most replicas: GPUs that there are. */
    maxReplicas: pulumi.Input<number>;
    /** Address of Prometheus, e.g. `http://prometheus.monitoring:9090`. */
    prometheusAddress: pulumi.Input<string>;
    /** Waiting requests of one replica that bring the next. Default: 5. */
    waitingRequests?: pulumi.Input<number>;
}

/** A Gateway API route to the API. */
export interface RouteArgs {
    /** Name of the Gateway. */
    gateway: pulumi.Input<string>;
    /** Its namespace. */
    gatewayNamespace: pulumi.Input<string>;
    /** Host name of the API. */
    hostname: pulumi.Input<string>;
    /** Listener of the Gateway that has the certificate. Default: `https`. */
    sectionName?: pulumi.Input<string>;
}

/** What is served and how, whatever the image and the node are. */
export interface ServingArgs {
    /** Model as `vllm serve` takes it: a Hugging Face name or a path in the image or cache. */
    model: pulumi.Input<string>;
    /**
     * Commit of the model's repository (`--revision`), 40 hex digits. Default: none, which a preview warns of: each start then takes what
     * the name leads to.
     */
    modelRevision?: pulumi.Input<string>;
    /** Where weights and KV cache lie. Default: `hbm-first`. */
    placement?: pulumi.Input<Placement>;
    /**
     * What the host memory is for that the weights leave. Default: `contexts`, which costs nothing until a context is longer than HBM holds. `prefixes`
     * is for users who come back with the same long prompts: 1,145 tokens/s in place of 472 on an H200, for steps up to 4 percent slower
     * (bench/runtime/RESULTS.md). It needs a modelShape, a placement other than `off`, and no LMCache server.
     */
    lpddr?: pulumi.Input<Lpddr>;
    /**
     * Let the launcher run on a stand-in CUDA runtime, PyTorch or vLLM, which it otherwise refuses.
     * Default: false. For sandboxes; everything that it reports then says SIMULATED.
     */
    acceptStandIn?: pulumi.Input<boolean>;
    /** Namespace of all objects. Default: `vllm`. */
    namespace?: pulumi.Input<string>;
    /**
     * Make the namespace where it does not exist. Default: true. It is never deleted, not even at destroy: models and other
     * people's objects lie in it. False where it is somebody else's, e.g. a second server's or a platform team's.
     */
    createNamespace?: boolean;
    /**
     * Whether an update fails where the server does not serve though nothing of it changed, or where it was changed by hand. Default: true.
     * False for a run before a destroy (`pulumi destroy --run-program`), which the program cannot tell from an update.
     */
    mustServe?: boolean;
    /** Name of the model in the API. Default: the model. */
    servedModelName?: pulumi.Input<string>;
    /** `--max-model-len` in tokens. Default: 8192. */
    maxModelLenTokens?: pulumi.Input<number>;
    /**
     * Further arguments of `vllm serve`, an item each. Default: none. What inputs set, what breaks the memory plan and
     * secrets are refused; what the plan cannot count is named in a warning.
     */
    extraArgs?: pulumi.Input<pulumi.Input<string>[]>;
    /** Let the model run Python code of its repository (`--trust-remote-code`), which `extraArgs` otherwise refuses. Default: false. */
    acknowledgeRemoteCode?: pulumi.Input<boolean>;
    /** Whole CPUs of the pod, requests and limits alike. Default: 16 of Grace's 72. */
    cpus?: pulumi.Input<number>;
    /** RuntimeClass; empty where NVIDIA's runtime is the default or CDI is used. Default: `nvidia`. */
    runtimeClassName?: pulumi.Input<string>;
    /** Value of the node label `nvidia.com/gpu.product`. Default: `NVIDIA-GH200-480GB`. */
    gpuProduct?: pulumi.Input<string>;
    /**
     * Read-only root file system. Default: true. NVIDIA's container toolkit before 1.20.0 needs a
     * writable one for its CDI hook.
     */
    readOnlyRootFilesystem?: pulumi.Input<boolean>;
    /** `--max-num-seqs`: sequences at once. Default: 256. */
    maxNumSeqs?: pulumi.Input<number>;
    /** `--kv-cache-memory-bytes` of each GPU. Default: all that the budgets leave. */
    kvCacheMemoryBytes?: pulumi.Input<number>;
    /** `--tensor-parallel-size`. Default: 1. */
    tensorParallelSize?: number;
    /** `--pipeline-parallel-size`. Default: 1. */
    pipelineParallelSize?: number;
    /**
     * GPUs of one node. Default: 1, a GH200's. A model over more GPUs than that runs on several nodes, through
     * a LeaderWorkerSet, whose controller the cluster must have (sigs.k8s.io/lws).
     */
    gpusPerNode?: number;
    /** The model's size, for the tokens that fit and the ceiling of their rate. Default: none, and the fit is unchecked. */
    modelShape?: ModelShapeArgs;
    /** Copies of the model, each on a node of its own. Default: 1. */
    replicas?: pulumi.Input<number>;
    /**
     * GPUs that are free beside those of the replicas. Default: 0: an update stops a pod before it starts
     * the next. With one or more, the new pod comes first.
     */
    spareGpus?: pulumi.Input<number>;
    /** Labels that the node must have besides architecture and product. Default: none. */
    nodeSelector?: pulumi.Input<Record<string, pulumi.Input<string>>>;
    /** Taints that the pods tolerate besides the GPU's. Default: none. */
    tolerations?: pulumi.Input<pulumi.Input<TolerationArgs>[]>;
    /** PriorityClass of the pods. Default: the cluster's. */
    priorityClassName?: pulumi.Input<string>;
    /** Size in GiB of a PersistentVolumeClaim for models and compile caches, made here and kept at destroy. Default: none. */
    modelCacheGiB?: number;
    /** StorageClass of that claim. Default: the cluster's. */
    storageClassName?: pulumi.Input<string>;
    /** Whether pods may fetch models (HTTPS to what lies outside of clusterRanges). Default: true; without it they reach DNS alone. */
    modelDownload?: pulumi.Input<boolean>;
    /**
     * CIDRs of the cluster and its network, which pods do not reach. Default: the private and link-local ranges (RFC 1918, 3927, 4193, 4291, 6598).
     * Leave out what holds a proxy or a mirror of the models, and add the ranges of a cluster with public addresses.
     */
    clusterRanges?: pulumi.Input<pulumi.Input<string>[]>;
    /**
     * Namespaces whose pods may send requests, besides the Gateway's of `route` and Prometheus' of `serviceMonitor`. Default: none, and
     * nobody may; `kubectl port-forward` reaches the pod all the same.
     */
    allowFromNamespaces?: pulumi.Input<pulumi.Input<string>[]>;
    /**
     * Name of an existing Secret in the namespace whose `api-key` every request to `/v1` must carry. Default: one that is generated once,
     * `NAME-api-key`. Empty: no key.
     */
    apiKey?: pulumi.Input<string>;
    /** Let `route` lead to an API without a key, because something before it asks for one. Default: false. */
    acknowledgeOpenRoute?: pulumi.Input<boolean>;
    /** Make a ServiceMonitor of the Prometheus operator. Default: false. */
    serviceMonitor?: boolean;
    /** Namespace of the Prometheus that reads it. Default: `monitoring`. */
    prometheusNamespace?: pulumi.Input<string>;
    /** Scale on waiting requests through KEDA. Default: none. */
    autoscaling?: AutoscalingArgs;
    /** Gateway API route to the API. Default: none. */
    route?: RouteArgs;
    /** Size of the model's files in GiB, for the start-up budget. Default: modelShape's weights, and 0 without one. */
    modelGiB?: number;
    /** Speed at which they are read in GiB/s. Default: 1, a network disk's. */
    readGiBps?: number;
    /** Seconds for compilation and CUDA graph capture at start. Default: 400. */
    warmupSeconds?: number;
    /** Seconds that requests in flight may take to end (`--shutdown-timeout`). Default: 60. */
    shutdownSeconds?: number;
    /** Existing PersistentVolumeClaim for models and compile caches; Default: none, and a volume that goes with the pod. */
    modelCacheClaim?: pulumi.Input<string>;
    /**
     * Existing Secret with the registry's credentials in the namespace, e.g. one that an operator renews. Default: none, and one is made
     * of registryHost, pullUsername and pullPassword.
     */
    existingPullSecret?: pulumi.Input<string>;
    /** Hugging Face token for gated models; secret. Default: none. */
    hfToken?: pulumi.Input<string>;
    /**
     * kubeconfig of the cluster as text, to ask whether the server serves, and why not; secret. Default: what the Kubernetes provider
     * was given, which always comes first; else the ambient one.
     */
    kubeconfig?: pulumi.Input<string>;
    /** Context of it. Default: the provider's, else the current one. */
    kubeContext?: pulumi.Input<string>;
}

export interface VllmServerArgs extends ServingArgs {
    /** Image by digest, `REPOSITORY@sha256:...`. */
    image: pulumi.Input<string>;
    /** Memory request and limit of the pod in MiB, from a Gh200Node. */
    podLimitMiB: pulumi.Input<number>;
    /** HBM in MiB that the launcher may use, from a Gh200Node. */
    hbmBudgetMiB: pulumi.Input<number>;
    /** Host memory in MiB that the launcher may overflow into, from a Gh200Node. */
    hostBudgetMiB: pulumi.Input<number>;
    /** HBM in MiB that the launcher leaves free. Default: 3915, 4 percent of 97871. */
    hbmReserveMiB?: pulumi.Input<number>;
    /**
     * Share of CUDA's total memory that vLLM may take where `placement` is `off` (`--gpu-memory-utilization`), from a
     * Gh200Node. Accepted: more than 0, at most 1. Default: vLLM's own, which it refuses where more is in use.
     */
    gpuMemoryUtilization?: pulumi.Input<number>;
    /** Host memory in MiB that the launcher leaves free within the pod's limit. Default: 512. */
    hostReserveMiB?: pulumi.Input<number>;
    /** `/dev/shm` in MiB, part of the limit. Default: 1024. */
    shmMiB?: pulumi.Input<number>;
    /** `lm://HOST:PORT` of an LmcacheServer that replicas share KV cache through. Default: none. */
    lmcacheUrl?: pulumi.Input<string>;
    /** Pinned buffers of the pod in MiB, through which KV cache goes to LMCache. Default: 0. */
    pinnedMiB?: pulumi.Input<number>;
    /** Host (and port) of the registry that the credentials belong to. Default: none, and no credentials. */
    registryHost?: pulumi.Input<string>;
    /** Registry user who may pull the image. Default: none. */
    pullUsername?: pulumi.Input<string>;
    /** That user's password; secret. Default: none. */
    pullPassword?: pulumi.Input<string>;
}

const count = z.int({ error: "is no whole number" }).positive();

export const tolerationSchema = z.strictObject({
    key: z.string().refine(isLabelKey, { error: "is no key of a taint; accepted: NAME or DOMAIN/NAME" }),
    value: z.string().refine(isLabelValue, { error: "is no value of a taint; accepted: letters, digits, dots, dashes and underscores" }).optional(),
    effect: z.enum(TaintEffect, { error: "accepted: NoSchedule, PreferNoSchedule or NoExecute" }).optional(),
});

const autoscalingSchema = z
    .strictObject({
        minReplicas: count.meta({ description: "Fewest replicas." }),
        maxReplicas: count.meta({ description: "Most replicas: GPUs that there are." }),
        prometheusAddress: z.url({ error: "is no address; accepted: http://HOST:PORT" }).meta({ description: "Address of Prometheus." }),
        waitingRequests: count.default(5).meta({ description: "Waiting requests of one replica that bring the next." }),
    })
    .refine((scaling) => scaling.minReplicas <= scaling.maxReplicas, {
        path: ["minReplicas"],
        error: "is more than maxReplicas; accepted: at most maxReplicas",
    });

const routeSchema = z.strictObject({
    gateway: objectName.meta({ description: "Name of the Gateway." }),
    gatewayNamespace: namespaceName.meta({ description: "Its namespace." }),
    hostname: z
        .string()
        .refine((name) => isHostName(name.replace(/^\*\./, "")), { error: "is no host name; accepted: lower-case, without scheme and port" })
        .meta({ description: "Host name of the API." }),
    sectionName: objectName.default("https").meta({ description: "Listener of the Gateway that has the certificate." }),
});

/** What is not the internet: RFC 1918, shared addresses (6598), link-local (3927, 4291), unique local (4193). */
const privateRanges = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "fc00::/7", "fe80::/10"];

export const vllmServerSchema = z.strictObject({
    image: z
        .string()
        .refine(isDigestReference, { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" })
        .meta({ description: "Image by digest." }),
    model: z
        .string({ error: "accepted: a Hugging Face name or a path, as vllm serve takes it" })
        .min(1)
        .meta({ description: "Model as `vllm serve` takes it." }),
    modelRevision: z
        .string()
        .regex(/^([0-9a-f]{40})?$/, { error: "is no full commit; accepted: 40 hex digits" })
        .default("")
        .meta({ description: "Commit of the model's repository; a preview warns where it is absent." }),
    podLimitMiB: z.int().positive().meta({ description: "Memory request and limit of the pod.", unit: "MiB" }),
    hbmBudgetMiB: z.int().nonnegative().meta({ description: "HBM that the launcher may use.", unit: "MiB" }),
    hostBudgetMiB: z.int().nonnegative().meta({ description: "Host memory that the launcher may overflow into.", unit: "MiB" }),
    hbmReserveMiB: z.int().nonnegative().default(3915).meta({ description: "HBM that the launcher leaves free.", unit: "MiB" }),
    gpuMemoryUtilization: z
        .number()
        .positive()
        .max(1, { error: "is more than the GPU; accepted: more than 0, at most 1" })
        .optional()
        .meta({ description: "Share of CUDA's total memory for a vLLM without placement; vLLM's own default where absent." }),
    hostReserveMiB: z.int().nonnegative().default(512).meta({ description: "Host memory that the launcher leaves free within the limit.", unit: "MiB" }),
    placement: z
        .enum(Placement, { error: "accepted: hbm-first, managed, managed-prefetch or off" })
        .default(Placement.HbmFirst)
        .meta({ description: "Where weights and KV cache lie." }),
    lpddr: z
        .enum(Lpddr, { error: "accepted: contexts or prefixes" })
        .default(Lpddr.Contexts)
        .meta({ description: "What the host memory is for that the weights leave." }),
    acceptStandIn: z.boolean().default(false).meta({ description: "Let the launcher run on stand-ins; for sandboxes." }),
    shmMiB: z.int().positive().default(1024).meta({ description: "Size of /dev/shm.", unit: "MiB" }),
    namespace: namespaceName.default("vllm").meta({ description: "Namespace of all objects." }),
    createNamespace: z.boolean().default(true).meta({ description: "Make the namespace where it does not exist; it is never deleted." }),
    mustServe: z.boolean().default(true).meta({ description: "Whether an update fails where the server does not serve, or was changed by hand." }),
    servedModelName: z.string().default("").meta({ description: "Name of the model in the API; the model's own where empty." }),
    maxModelLenTokens: z.int().positive().default(8192).meta({ description: "Longest context.", unit: "tokens" }),
    extraArgs: z
        .array(z.string())
        .default([])
        .meta({ description: "Further arguments of `vllm serve`, an item each; none that an input sets or that breaks the memory plan." }),
    acknowledgeRemoteCode: z.boolean().default(false).meta({ description: "Let the model run Python code of its repository." }),
    cpus: z.int({ error: "is no whole number of CPUs" }).positive().default(16).meta({ description: "Whole CPUs of the pod.", unit: "CPUs" }),
    runtimeClassName: optionalObjectName.default("nvidia").meta({ description: "RuntimeClass; empty where NVIDIA's runtime is the default." }),
    gpuProduct: nodeLabelValue.default("NVIDIA-GH200-480GB").meta({ description: "Node label nvidia.com/gpu.product.", source: "GPU feature discovery" }),
    readOnlyRootFilesystem: z.boolean().default(true).meta({ description: "Read-only root file system." }),
    maxNumSeqs: z.int().positive().default(256).meta({ description: "Sequences at once (`--max-num-seqs`)." }),
    kvCacheMemoryBytes: z.int().positive().optional().meta({ description: "KV cache of each GPU; all that the budgets leave where absent.", unit: "B" }),
    tensorParallelSize: count.default(1).meta({ description: "GPUs that share each layer." }),
    pipelineParallelSize: count.default(1).meta({ description: "Groups of GPUs that share the layers." }),
    gpusPerNode: count.default(1).meta({ description: "GPUs of one node." }),
    modelShape: modelShapeSchema.optional(),
    replicas: count.default(1).meta({ description: "Copies of the model, each on a node of its own." }),
    spareGpus: z.int().nonnegative().default(0).meta({ description: "GPUs that are free for an update beside those of the replicas." }),
    nodeSelector: z
        .record(z.string(), z.string())
        .refine((labels) => Object.entries(labels).every(([key, value]) => isLabelKey(key) && isLabelValue(value)), {
            error: "holds what is no label of a node; accepted: NAME or DOMAIN/NAME, and a value of letters, digits, dots, dashes and underscores",
        })
        .default({})
        .meta({ description: "Further labels that the node must have." }),
    tolerations: z.array(tolerationSchema).default([]).meta({ description: "Taints that the pods tolerate besides the GPU's." }),
    priorityClassName: optionalObjectName.default("").meta({ description: "PriorityClass of the pods." }),
    modelCacheGiB: z
        .number()
        .positive()
        .optional()
        .meta({ description: "Size of a claim for models and caches that is made here and kept at destroy.", unit: "GiB" }),
    storageClassName: optionalObjectName.default("").meta({ description: "StorageClass of that claim; the cluster's own where empty." }),
    modelDownload: z.boolean().default(true).meta({ description: "Whether pods may fetch models over HTTPS." }),
    allowFromNamespaces: z.array(namespaceName).default([]).meta({ description: "Namespaces that may send requests, besides the Gateway's and Prometheus'." }),
    clusterRanges: z
        .array(z.union([z.cidrv4(), z.cidrv6()], { error: "is no range of addresses; accepted: ADDRESS/BITS" }))
        .default(privateRanges)
        .meta({ description: "Ranges of the cluster and its network, which pods do not reach over HTTPS." }),
    apiKey: optionalObjectName.optional().meta({ description: "Existing Secret with the API's key (`api-key`); generated where absent, none where empty." }),
    acknowledgeOpenRoute: z.boolean().default(false).meta({ description: "Let the route lead to an API without a key." }),
    serviceMonitor: z.boolean().default(false).meta({ description: "Make a ServiceMonitor." }),
    prometheusNamespace: namespaceName.default("monitoring").meta({ description: "Namespace of the Prometheus that reads it." }),
    autoscaling: autoscalingSchema.optional(),
    route: routeSchema.optional(),
    lmcacheUrl: z
        .string()
        .refine((text) => text === "" || (text.startsWith("lm://") && isHostPort(text.slice("lm://".length))), {
            error: "is no LMCache address; accepted: lm://HOST:PORT",
        })
        .default("")
        .meta({ description: "LMCache server." }),
    pinnedMiB: z.int().nonnegative().default(0).meta({ description: "Pinned buffers.", unit: "MiB" }),
    modelGiB: z.number().nonnegative().default(0).meta({ description: "Size of the model's files; modelShape's weights where absent.", unit: "GiB" }),
    readGiBps: z.number().positive().default(1).meta({ description: "Speed at which they are read.", unit: "GiB/s" }),
    warmupSeconds: z.number().positive().default(400).meta({ description: "Compilation and CUDA graph capture at start.", unit: "s" }),
    shutdownSeconds: z.int().positive().default(60).meta({ description: "Time for requests in flight at shutdown.", unit: "s" }),
    modelCacheClaim: optionalObjectName.default("").meta({ description: "Existing PersistentVolumeClaim for models and caches." }),
    registryHost: z.string().default("").meta({ description: "Host of the registry that the credentials belong to." }),
    pullUsername: z.string().default("").meta({ description: "Registry user who may pull the image." }),
    pullPassword: z.string().default("").meta({ description: "That user's password.", secret: true }),
    existingPullSecret: objectName.optional().meta({ description: "Existing Secret with the registry's credentials; one is made where absent." }),
    hfToken: z.string().default("").meta({ description: "Hugging Face token.", secret: true }),
    kubeconfig: z.string().default("").meta({ description: "kubeconfig of the cluster.", secret: true }),
    kubeContext: z.string().default("").meta({ description: "Context of it." }),
});
export type ResolvedVllmServer = z.output<typeof vllmServerSchema>;
const shapesAgree: SameShape<pulumi.Unwrap<VllmServerArgs>, z.input<typeof vllmServerSchema>> = true;
void shapesAgree;
