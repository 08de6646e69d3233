import { randomBytes } from "node:crypto";
import { CustomResource } from "@pulumi/kubernetes/apiextensions";
import { Deployment, type DeploymentArgs } from "@pulumi/kubernetes/apps/v1";
import { Namespace, PersistentVolumeClaim, Secret, type SecretArgs, Service, ServiceAccount } from "@pulumi/kubernetes/core/v1";
import { NetworkPolicy } from "@pulumi/kubernetes/networking/v1";
import { PodDisruptionBudget } from "@pulumi/kubernetes/policy/v1";
import * as pulumi from "@pulumi/pulumi";
import { problemLine, refuse } from "../internal/errors";
import { resolve } from "../internal/resolve";
import { clusterAccess } from "./clusterAccess";
import { apiKeyEntry, dockerConfigJson, podSpec, rolloutSeconds, selectorLabels, startupSeconds, type VllmPod, vllmPort } from "./manifests";
import { defaultDeny, disruptionBudget, leaderWorkerSetSpec, networkPolicy, rolloutStrategy, routeSpec, scaledObjectSpec, serviceMonitorSpec } from "./objects";
import { conflictReport, owned } from "./ownership";
import { rolloutReport } from "./rolloutReport";
import { describeServing, nodesPerReplica, prefixTierMiB, servingProblems, servingWarnings } from "./servingProblems";
import { everyReplicaServes, refuseUnserved } from "./standing";
import { transformed, type VllmServerOptions } from "./transform";
import { type ResolvedVllmServer, type VllmServerArgs, vllmServerSchema } from "./vllmServerArgs";

/** What decides how long a start and an end may take. */
const waits = vllmServerSchema.pick({ modelGiB: true, readGiBps: true, warmupSeconds: true, shutdownSeconds: true }).strip();

type Settings = Omit<ResolvedVllmServer, "image" | "pullUsername" | "pullPassword" | "hfToken" | "kubeconfig" | "kubeContext">;
interface Metadata {
    name: string;
    namespace: pulumi.Output<string>;
    labels: Record<string, string>;
    annotations: Record<string, pulumi.Input<string>>;
}
type MetadataOf = (suffix?: string) => Metadata;

/** What serves: the Deployment, or the LeaderWorkerSet of a model over several nodes, and the Service before it. */
interface Parts {
    workload: Deployment | CustomResource;
    service: Service;
}

/** By the server that made them. Its getters are TypeScript's alone: the schema, which other languages see, has the class's properties. */
const parts = new WeakMap<VllmServer, Parts>();

/**
 * vLLM on GH200s, by digest: a Deployment, or a LeaderWorkerSet where the model needs several nodes, with
 * Service, network policy, disruption budget and what else is asked for.
 *
 * Object names are fixed: an update that was killed is taken up by the next one, where a generated name
 * would leave a twin that holds the only GPU. Each carries its owner, so that a server of another stack with the same name is refused
 * by the API server and takes nothing over. A namespace is never deleted, as Helm deletes none: models and other people's objects lie in it.
 */
export class VllmServer extends pulumi.ComponentResource {
    /** Namespace of all objects; what is made in it waits for it. */
    public readonly namespace!: pulumi.Output<string>;
    /** Name of the Secret with the registry's credentials in that namespace. */
    public readonly imagePullSecret!: pulumi.Output<string>;
    /** Name of the Secret whose `api-key` requests to /v1 must carry; empty where none is asked for. */
    public readonly apiKeySecret!: pulumi.Output<string>;
    /** Name of the Deployment, or of the LeaderWorkerSet of a model over several nodes. */
    public readonly workloadName!: pulumi.Output<string>;
    /** Name of the Service. */
    public readonly serviceName!: pulumi.Output<string>;
    /** Address of the OpenAI API inside the cluster. */
    public readonly endpoint!: pulumi.Output<string>;
    /** Tokens that fit and the ceiling of their rate, a line each; one line that says so where the fit is unchecked. */
    public readonly modelFit!: pulumi.Output<string[]>;

    /** The Deployment, or the LeaderWorkerSet of a model over several nodes. */
    public get workload(): Deployment | CustomResource {
        return parts.get(this)!.workload;
    }

    /** The Service. */
    public get service(): Service {
        return parts.get(this)!.service;
    }

    constructor(name: string, args: VllmServerArgs, opts: VllmServerOptions = {}) {
        const { transform = {}, ...options } = opts;
        super("gh200-vllm:index:VllmServer", name, {}, options);
        const resolved = resolve("serving", vllmServerSchema, args);
        const child = { parent: this, hooks: { onError: [conflictReport(this)] } };
        const labels = selectorLabels(name);
        const namespace =
            args.createNamespace === false
                ? []
                : [new Namespace(name, { metadata: { name: resolved.namespace, labels: restricted } }, { parent: this, retainOnDelete: true })];
        const inNamespace = { ...child, dependsOn: namespace };
        const metadata: MetadataOf = (suffix = "") => ({
            name: `${name}${suffix}`,
            namespace: resolved.namespace,
            labels: { ...labels },
            annotations: owned(this),
        });
        const account = new ServiceAccount(name, { metadata: metadata(), automountServiceAccountToken: false }, inNamespace);
        const secrets = credentials(name, args, resolved, metadata, inNamespace);
        const { image, pullUsername: _user, pullPassword: _password, hfToken: _token, kubeconfig, kubeContext, ...known } = resolved;
        const settings = (pulumi.output(known) as pulumi.Output<Settings>).apply((values) => {
            refuse(servingProblems(values));
            servingWarnings(values).forEach((warning) => void pulumi.log.warn(problemLine(warning), this));
            return values;
        });
        const cache = args.modelCacheGiB === undefined ? undefined : modelCache(name, metadata("-models"), settings, inNamespace);
        // How long to wait is an option of the resource, so it follows from plain inputs.
        const { modelGiB, readGiBps, warmupSeconds, shutdownSeconds } = waits.parse({ ...args, modelGiB: args.modelGiB ?? args.modelShape?.weightsGiB });
        const startSeconds = startupSeconds(modelGiB, readGiBps, warmupSeconds);
        const waitSeconds = rolloutSeconds(startSeconds, shutdownSeconds);
        // Kubernetes says first that the rollout hangs, and why; then the provider ends the wait.
        const timeout = `${waitSeconds + 30}s`;
        const pod = settings.apply((values): Omit<VllmPod, "image"> => ({
            ...values,
            name,
            servedModelName: values.servedModelName || values.model,
            memoryLimitMiB: values.podLimitMiB,
            prefixTierMiB: prefixTierMiB(values),
            startupSeconds: startSeconds,
            imagePullSecret: values.existingPullSecret ?? `${name}-pull`,
            hfTokenSecret: args.hfToken === undefined ? "" : `${name}-hf`,
            apiKeySecret: values.apiKey ?? `${name}-api-key`,
            modelCacheClaim: cache === undefined ? values.modelCacheClaim : `${name}-models`,
        }));
        // Only the image may be unknown in a preview; the rest of the pod is then shown all the same.
        const template = pod.apply((values) =>
            transformed({ metadata: { labels: { ...labels } }, spec: podSpec({ ...values, image }) }, values, transform.pod),
        );
        const { tensorParallelSize = 1, pipelineParallelSize = 1, gpusPerNode = 1 } = args;
        const nodes = nodesPerReplica({ tensorParallelSize, pipelineParallelSize, gpusPerNode });
        const manyNodes = nodes > 1;
        const access = clusterAccess(this, pulumi.all({ kubeconfig, context: kubeContext }));
        const rollout = pulumi.all([settings, access]).apply(([terms, cluster]) => ({ namespace: terms.namespace, access: cluster, terms }));
        const afterSecrets = {
            ...child,
            hooks: { onError: [...child.hooks.onError, rolloutReport(name, this, rollout)] },
            customTimeouts: { create: timeout, update: timeout },
            // The new pod waits for the GPU that the old one holds, also where the namespace or the name is another one.
            deleteBeforeReplace: true,
            // Of the other kind it is the same server, so that the engine replaces it and does not make the new one beside the old one.
            aliases: [{ type: manyNodes ? "kubernetes:apps/v1:Deployment" : "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet" }],
            replaceOnChanges: ["kind"],
            dependsOn: [account, ...secrets, ...(cache === undefined ? [] : [cache])],
        };
        const served = { ...metadata(), annotations: { ...metadata().annotations, "pulumi.com/waitFor": everyReplicaServes } };
        const workloadManifest = {
            metadata: served,
            spec: manyNodes
                ? leaderWorkerSetSpec(template, resolved.replicas, nodes)
                : {
                      // The autoscaler's, where there is one.
                      ...(args.autoscaling === undefined && { replicas: resolved.replicas }),
                      strategy: settings.apply(({ replicas, spareGpus, autoscaling }) => rolloutStrategy(autoscaling?.maxReplicas ?? replicas, spareGpus)),
                      selector: { matchLabels: { ...labels } },
                      progressDeadlineSeconds: waitSeconds,
                      template,
                  },
        };
        transform.workload?.(workloadManifest, afterSecrets);
        const workload = manyNodes
            ? new CustomResource(name, { apiVersion: "leaderworkerset.x-k8s.io/v1", kind: "LeaderWorkerSet", ...workloadManifest }, afterSecrets)
            : new Deployment(name, workloadManifest as unknown as DeploymentArgs, afterSecrets);
        const serviceManifest = {
            metadata: metadata(),
            spec: {
                // Of several nodes only the leader serves.
                selector: { ...labels, ...(manyNodes && { "leaderworkerset.sigs.k8s.io/worker-index": "0" }) },
                ports: [{ name: "http", port: vllmPort, targetPort: "http" }],
            },
        };
        const afterWorkload = { ...child, dependsOn: [workload] };
        transform.service?.(serviceManifest, afterWorkload);
        const service = new Service(name, serviceManifest, afterWorkload);
        parts.set(this, { workload, service });
        new NetworkPolicy(
            name,
            {
                metadata: metadata(),
                spec: settings.apply((values) =>
                    networkPolicy(name, {
                        ...values,
                        gatewayNamespace: values.route?.gatewayNamespace,
                        prometheusNamespace: values.serviceMonitor ? values.prometheusNamespace : undefined,
                        manyNodes,
                        lmcachePort: values.lmcacheUrl === "" ? undefined : Number(values.lmcacheUrl.split(":").at(-1)),
                    }),
                ),
            },
            inNamespace,
        );
        if (args.createNamespace !== false) {
            new NetworkPolicy(`${name}-default-deny`, { metadata: metadata("-default-deny"), spec: defaultDeny }, inNamespace);
        }
        new PodDisruptionBudget(name, { metadata: metadata(), spec: disruptionBudget(name) }, inNamespace);
        addOns(name, args, metadata, settings, { ...child, dependsOn: [service] });
        const kind = manyNodes ? "LeaderWorkerSet" : "Deployment";
        const ignored = args.autoscaling === undefined ? [] : ["replicas"];
        // The engine asks no cluster about what did not change.
        const standing =
            pulumi.runtime.isDryRun() || args.mustServe === false
                ? pulumi.output(undefined)
                : pulumi.all([rollout, workload.metadata, (workload as Deployment).spec]).apply(async ([known, { uid }, recorded]) => {
                      await refuseUnserved(this, { kind, namespace: known.namespace, name, spec: recorded, uid }, known, waitSeconds, ignored);
                  });
        const made = pulumi.all(namespace.map(({ urn }) => urn));
        const outputs = {
            namespace: pulumi.all([resolved.namespace, made]).apply(([known]) => known),
            imagePullSecret: pulumi
                .all([settings.apply(({ existingPullSecret }) => existingPullSecret ?? `${name}-pull`), ...secrets.map(({ urn }) => urn)])
                .apply(([known]) => known!),
            apiKeySecret: settings.apply(({ apiKey }) => apiKey ?? `${name}-api-key`),
            workloadName: workload.metadata.apply((of) => of.name),
            serviceName: service.metadata.name,
            endpoint: pulumi.all([resolved.namespace, standing]).apply(([known]) => `http://${name}.${known}.svc:${vllmPort}`),
            modelFit: settings.apply((values) => describeServing(values)),
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

/** Pods of the restricted Pod Security Standard alone (k8s.io/docs/concepts/security/pod-security-standards): vLLM's and LMCache's are. */
const restricted = { "pod-security.kubernetes.io/enforce": "restricted", "pod-security.kubernetes.io/warn": "restricted" };

/** The registry's credentials and the API's key, each where no existing Secret has it, and Hugging Face's token where one is given. */
function credentials(
    name: string,
    args: VllmServerArgs,
    resolved: Pick<{ [K in keyof ResolvedVllmServer]: pulumi.Output<ResolvedVllmServer[K]> }, "registryHost" | "pullUsername" | "pullPassword" | "hfToken">,
    metadata: MetadataOf,
    opts: pulumi.CustomResourceOptions,
): pulumi.Resource[] {
    const config = pulumi.all([resolved.registryHost, resolved.pullUsername, resolved.pullPassword]).apply((of) => dockerConfigJson(...of));
    const secret = (suffix: string, content: Pick<SecretArgs, "type" | "stringData" | "data">, more: pulumi.CustomResourceOptions = {}) =>
        new Secret(`${name}${suffix}`, { metadata: metadata(suffix), ...content }, { ...opts, ...more });
    // The key is drawn anew at each run and kept as it was first written, as `data`: the provider's state has no `stringData` that could be kept.
    // A preview knows none: an update plan would hold the next run to it.
    const drawn = pulumi.runtime.isDryRun()
        ? (pulumi.output(pulumi.unknown) as unknown as pulumi.Output<string>)
        : Buffer.from(randomBytes(32).toString("hex")).toString("base64");
    return [
        ...(args.existingPullSecret === undefined
            ? [secret("-pull", { type: "kubernetes.io/dockerconfigjson", stringData: { ".dockerconfigjson": pulumi.secret(config) } })]
            : []),
        ...(args.apiKey === undefined ? [secret("-api-key", { data: { [apiKeyEntry]: pulumi.secret(drawn) } }, { ignoreChanges: ["data"] })] : []),
        ...(args.hfToken === undefined ? [] : [secret("-hf", { stringData: { token: pulumi.secret(resolved.hfToken) } })]),
    ];
}

/** A claim that outlives the stack: models and compiled kernels took hours to come. */
function modelCache(name: string, metadata: Metadata, settings: pulumi.Output<Settings>, opts: pulumi.CustomResourceOptions): pulumi.Resource {
    return new PersistentVolumeClaim(
        `${name}-models`,
        {
            // Many classes bind at the first pod, which waits for the claim to be made.
            metadata: { ...metadata, annotations: { ...metadata.annotations, "pulumi.com/skipAwait": "true" } },
            spec: settings.apply(({ modelCacheGiB = 0, storageClassName, replicas, autoscaling }) => ({
                accessModes: [(autoscaling?.maxReplicas ?? replicas) > 1 ? "ReadWriteMany" : "ReadWriteOnce"],
                resources: { requests: { storage: `${modelCacheGiB}Gi` } },
                ...(storageClassName !== "" && { storageClassName }),
            })),
        },
        { ...opts, retainOnDelete: true },
    );
}

/** What is made only where it is asked for; the cluster must know its kinds. */
function addOns(name: string, args: VllmServerArgs, metadata: MetadataOf, settings: pulumi.Output<Settings>, opts: pulumi.CustomResourceOptions): void {
    if (args.serviceMonitor) {
        new CustomResource(
            `${name}-metrics`,
            { apiVersion: "monitoring.coreos.com/v1", kind: "ServiceMonitor", metadata: metadata(), spec: serviceMonitorSpec(name) },
            opts,
        );
    }
    if (args.autoscaling !== undefined) {
        const spec = settings.apply(({ autoscaling, namespace }) => (autoscaling === undefined ? {} : scaledObjectSpec(name, namespace, autoscaling)));
        new CustomResource(`${name}-scaling`, { apiVersion: "keda.sh/v1alpha1", kind: "ScaledObject", metadata: metadata(), spec }, opts);
    }
    if (args.route !== undefined) {
        const spec = settings.apply(({ route }) => (route === undefined ? {} : routeSpec(name, route)));
        new CustomResource(`${name}-route`, { apiVersion: "gateway.networking.k8s.io/v1", kind: "HTTPRoute", metadata: metadata(), spec }, opts);
    }
}
