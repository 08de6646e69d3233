import { Deployment } from "@pulumi/kubernetes/apps/v1";
import { Namespace, Secret, Service, ServiceAccount } from "@pulumi/kubernetes/core/v1";
import { NetworkPolicy } from "@pulumi/kubernetes/networking/v1";
import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { resolve } from "../internal/resolve";
import type { SameShape } from "../internal/sameShape";
import { dockerConfigJson, podSpec, selectorLabels, startupSeconds, vllmPort } from "./manifests";

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

export interface VllmServerArgs {
    /** Image by digest, `REPOSITORY@sha256:...`. */
    image: pulumi.Input<string>;
    /** Model as `vllm serve` takes it: a Hugging Face name or a path in the image or cache. */
    model: pulumi.Input<string>;
    /** Memory request and limit of the pod in MiB, from a Gh200Node. */
    podLimitMiB: pulumi.Input<number>;
    /** HBM in MiB that the launcher may use, from a Gh200Node. */
    hbmBudgetMiB: pulumi.Input<number>;
    /** Host memory in MiB that the launcher may overflow into, from a Gh200Node. */
    hostBudgetMiB: pulumi.Input<number>;
    /** HBM in MiB that the launcher leaves free. Default: 3915, 4 percent of 97871. */
    hbmReserveMiB?: pulumi.Input<number>;
    /** Host memory in MiB that the launcher leaves free within the pod's limit. Default: 512. */
    hostReserveMiB?: pulumi.Input<number>;
    /** Where weights and KV cache lie. Default: `hbm-first`. */
    placement?: pulumi.Input<Placement>;
    /**
     * Let the launcher run on a stand-in CUDA runtime, PyTorch or vLLM, which it otherwise refuses.
     * Default: false. For sandboxes; everything that it reports then says SIMULATED.
     */
    acceptStandIn?: pulumi.Input<boolean>;
    /** `/dev/shm` in MiB, part of the limit. Default: 1024. */
    shmMiB?: pulumi.Input<number>;
    /** Namespace, created here. Default: `vllm`. */
    namespace?: pulumi.Input<string>;
    /** Name of the model in the API. Default: the model. */
    servedModelName?: pulumi.Input<string>;
    /** `--max-model-len` in tokens. Default: 8192. */
    maxModelLenTokens?: pulumi.Input<number>;
    /** Further arguments of `vllm serve`. Default: none. */
    extraArgs?: pulumi.Input<string[]>;
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
    /** Size of the model's files in GiB, for the start-up budget. Default: 0. */
    modelGiB?: pulumi.Input<number>;
    /** Speed at which they are read in GiB/s. Default: 1, a network disk's. */
    readGiBps?: pulumi.Input<number>;
    /** Seconds for compilation and CUDA graph capture at start. Default: 400. */
    warmupSeconds?: pulumi.Input<number>;
    /** Seconds that requests in flight may take to end (`--shutdown-timeout`). Default: 60. */
    shutdownSeconds?: pulumi.Input<number>;
    /** Existing PersistentVolumeClaim for models and compile caches; empty for a volume that goes with the pod. */
    modelCacheClaim?: pulumi.Input<string>;
    /** Host (and port) of the registry that the credentials belong to. Default: none, and no credentials. */
    registryHost?: pulumi.Input<string>;
    /** Registry user who may pull the image. Empty where no credentials are needed. */
    pullUsername?: pulumi.Input<string>;
    /** That user's password; secret. */
    pullPassword?: pulumi.Input<string>;
    /** Hugging Face token for gated models; secret. */
    hfToken?: pulumi.Input<string>;
}

const digestReference = /^[^@\s]+@sha256:[0-9a-f]{64}$/;

export const vllmServerSchema = z.strictObject({
    image: z.string().regex(digestReference, { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" }).meta({ description: "Image by digest." }),
    model: z.string({ error: "accepted: a Hugging Face name or a path, as vllm serve takes it" }).min(1).meta({ description: "Model as `vllm serve` takes it." }),
    podLimitMiB: z.int().positive().meta({ description: "Memory request and limit of the pod.", unit: "MiB" }),
    hbmBudgetMiB: z.int().nonnegative().meta({ description: "HBM that the launcher may use.", unit: "MiB" }),
    hostBudgetMiB: z.int().nonnegative().meta({ description: "Host memory that the launcher may overflow into.", unit: "MiB" }),
    hbmReserveMiB: z.int().nonnegative().default(3915).meta({ description: "HBM that the launcher leaves free.", unit: "MiB" }),
    hostReserveMiB: z.int().nonnegative().default(512).meta({ description: "Host memory that the launcher leaves free within the limit.", unit: "MiB" }),
    placement: z.enum(Placement, { error: "accepted: hbm-first, managed, managed-prefetch or off" }).default(Placement.HbmFirst).meta({ description: "Where weights and KV cache lie." }),
    acceptStandIn: z.boolean().default(false).meta({ description: "Let the launcher run on stand-ins; for sandboxes." }),
    shmMiB: z.int().positive().default(1024).meta({ description: "Size of /dev/shm.", unit: "MiB" }),
    namespace: z.string().default("vllm").meta({ description: "Namespace, created here." }),
    servedModelName: z.string().default("").meta({ description: "Name of the model in the API; the model's own where empty." }),
    maxModelLenTokens: z.int().positive().default(8192).meta({ description: "Longest context.", unit: "tokens" }),
    extraArgs: z.array(z.string()).default([]).meta({ description: "Further arguments of `vllm serve`." }),
    cpus: z.int({ error: "is no whole number of CPUs" }).positive().default(16).meta({ description: "Whole CPUs of the pod.", unit: "CPUs" }),
    runtimeClassName: z.string().default("nvidia").meta({ description: "RuntimeClass; empty where NVIDIA's runtime is the default." }),
    gpuProduct: z.string().default("NVIDIA-GH200-480GB").meta({ description: "Node label nvidia.com/gpu.product.", source: "GPU feature discovery" }),
    readOnlyRootFilesystem: z.boolean().default(true).meta({ description: "Read-only root file system." }),
    modelGiB: z.number().nonnegative().default(0).meta({ description: "Size of the model's files.", unit: "GiB" }),
    readGiBps: z.number().positive().default(1).meta({ description: "Speed at which they are read.", unit: "GiB/s" }),
    warmupSeconds: z.number().positive().default(400).meta({ description: "Compilation and CUDA graph capture at start.", unit: "s" }),
    shutdownSeconds: z.int().positive().default(60).meta({ description: "Time for requests in flight at shutdown.", unit: "s" }),
    modelCacheClaim: z.string().default("").meta({ description: "Existing PersistentVolumeClaim for models and caches." }),
    registryHost: z.string().default("").meta({ description: "Host of the registry that the credentials belong to." }),
    pullUsername: z.string().default("").meta({ description: "Registry user who may pull the image." }),
    pullPassword: z.string().default("").meta({ description: "That user's password.", secret: true }),
    hfToken: z.string().default("").meta({ description: "Hugging Face token.", secret: true }),
});
const shapesAgree: SameShape<pulumi.Unwrap<VllmServerArgs>, z.input<typeof vllmServerSchema>> = true;
void shapesAgree;

/**
 * vLLM on one GH200: a Deployment of one replica by digest with its Service and network policy.
 *
 * Object names are fixed: an update that was killed is taken up by the next one, where a generated name
 * would leave a twin that holds the only GPU.
 */
export class VllmServer extends pulumi.ComponentResource {
    /** Namespace of all objects. */
    public readonly namespace!: pulumi.Output<string>;
    /** Name of the Service. */
    public readonly serviceName!: pulumi.Output<string>;
    /** Address of the OpenAI API inside the cluster. */
    public readonly endpoint!: pulumi.Output<string>;

    constructor(name: string, args: VllmServerArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:VllmServer", name, {}, opts);
        const resolved = resolve("serving", vllmServerSchema, args);
        const child = { parent: this };
        const labels = selectorLabels(name);
        const namespace = new Namespace(name, { metadata: { name: resolved.namespace } }, child);
        const inNamespace = { ...child, dependsOn: [namespace] };
        const metadata = (suffix = "") => ({ name: `${name}${suffix}`, namespace: resolved.namespace, labels });
        const account = new ServiceAccount(
            name,
            { metadata: metadata(), automountServiceAccountToken: false },
            inNamespace,
        );
        const pullSecret = new Secret(
            `${name}-pull`,
            {
                metadata: metadata("-pull"),
                type: "kubernetes.io/dockerconfigjson",
                stringData: {
                    ".dockerconfigjson": pulumi.secret(
                        pulumi
                            .all([resolved.registryHost, resolved.pullUsername, resolved.pullPassword])
                            .apply((credentials) => dockerConfigJson(...credentials)),
                    ),
                },
            },
            inNamespace,
        );
        const tokenSecret =
            args.hfToken === undefined
                ? undefined
                : new Secret(
                      `${name}-hf`,
                      { metadata: metadata("-hf"), stringData: { token: pulumi.secret(resolved.hfToken) } },
                      inNamespace,
                  );
        const { image, pullUsername: _user, pullPassword: _password, hfToken: _token, ...known } = resolved;
        const pod = pulumi.output(known).apply((values) => ({
            ...values,
            name,
            image,
            servedModelName: values.servedModelName || values.model,
            memoryLimitMiB: values.podLimitMiB,
            startupSeconds: startupSeconds(values.modelGiB, values.readGiBps, values.warmupSeconds),
            imagePullSecret: `${name}-pull`,
            hfTokenSecret: tokenSecret === undefined ? "" : `${name}-hf`,
        }));
        const deployment = new Deployment(
            name,
            {
                metadata: metadata(),
                spec: {
                    replicas: 1,
                    // The new pod waits for the GPU that the old one holds: a rolling update never ends.
                    strategy: { type: "Recreate" },
                    selector: { matchLabels: labels },
                    progressDeadlineSeconds: pod.startupSeconds,
                    template: { metadata: { labels }, spec: pod.apply(podSpec) },
                },
            },
            { ...child, dependsOn: [account, pullSecret, ...(tokenSecret ? [tokenSecret] : [])] },
        );
        const service = new Service(
            name,
            { metadata: metadata(), spec: { selector: labels, ports: [{ name: "http", port: vllmPort, targetPort: "http" }] } },
            { ...child, dependsOn: [deployment] },
        );
        new NetworkPolicy(
            name,
            {
                metadata: metadata(),
                spec: {
                    podSelector: { matchLabels: labels },
                    policyTypes: ["Ingress"],
                    ingress: [{ ports: [{ port: vllmPort, protocol: "TCP" }] }],
                },
            },
            inNamespace,
        );
        const outputs = {
            namespace: resolved.namespace,
            serviceName: service.metadata.name,
            endpoint: pulumi.interpolate`http://${name}.${resolved.namespace}.svc:${vllmPort}`,
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}
