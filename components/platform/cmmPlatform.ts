import * as pulumi from "@pulumi/pulumi";
import { ManagedAllocator } from "../allocator/managedAllocator";
import { RemoteBuilder, type RemoteBuilderArgs } from "../builder/remoteBuilder";
import { CmmImage } from "../image/cmmImage";
import { ImageRelease } from "../image/imageRelease";
import { LmcacheImage } from "../image/lmcacheImage";
import { registryHost, releaseRepository, releaseTag } from "../image/reference";
import { problemLine, refuse } from "../internal/errors";
import { Gh200Node } from "../node/gh200Node";
import type { Gh200NodeArgs } from "../node/gh200NodeArgs";
import { type PlannedNode, planNode } from "../node/planNode";
import { lmcacheUrl } from "../serving/lmcachePod";
import { LmcacheServer } from "../serving/lmcacheServer";
import { servingProblems } from "../serving/servingProblems";
import { VllmServer } from "../serving/vllmServer";
import type { AutoscalingArgs, ModelShapeArgs, Placement, RouteArgs, TolerationArgs } from "../serving/vllmServerArgs";
import { vllmServerSchema } from "../serving/vllmServerArgs";
import { BuildStage } from "../stages/buildStage";
import { gitContext } from "../stages/sources";
import { maxJobs, stageTable } from "../stages/table";
import { type BaseImageArgs, baseReference, openPoints, refuseOpenPoints, resolveSources, type SourceArgs } from "./openPoints";

export interface RegistryArgs {
    /** Registry host and namespace that images are pushed below, e.g. `atl.vultrcr.com/vllm`. */
    address: string;
    /** User who may push and pull. Default: none. */
    username?: string;
    /** That user's password; secret. */
    password?: pulumi.Input<string>;
}

export interface ImageArgs {
    /** Base image that everything is compiled in and installed into. */
    base: BaseImageArgs;
    /** IMAGE_TAG of the source document: repository of the release below the registry. */
    imageTag: string;
    /** VLLM_VERSION of the source document: first part of the release tag. */
    vllmVersion: string;
    /** IMAGE_SUFFIX of the source document: second part of the release tag. */
    imageSuffix: string;
    /** GPU architecture, as nvcc's `sm_` suffix. */
    cudaArchList: string;
    /** Seconds since 1970 that every file of the image carries, so that the same inputs give the same digest. */
    sourceDateEpoch: number;
    /** Keep BuildKit's cache of every step of every stage in the registry. */
    registryCache: boolean;
    /** An image that exists already, `REPOSITORY@DIGEST`: it is deployed, and nothing is built. */
    use?: string;
}

export interface StagesArgs {
    /** Stages that are left out; only those that the stage table says can be. Default: none. */
    disabled: string[];
    /** Memory of the builder in GiB, which bounds each stage's compile jobs. */
    builderMemoryGiB: number;
    /** Cores of the builder. */
    builderCores: number;
    /** Folder with pip.conf and wheels that take the place of the package index. Default: none. */
    wheelhouse?: string;
    /** Folder with the hash-locked requirements. Default: `assets/vllm/locks`. */
    locks?: string;
}

export interface ServingArgs {
    /** Model as `vllm serve` takes it. */
    model: string;
    namespace?: string;
    servedModelName?: string;
    maxModelLenTokens?: number;
    extraArgs?: string[];
    cpus?: number;
    runtimeClassName?: string;
    gpuProduct?: string;
    readOnlyRootFilesystem?: boolean;
    modelGiB?: number;
    readGiBps?: number;
    warmupSeconds?: number;
    shutdownSeconds?: number;
    modelCacheClaim?: string;
    placement?: Placement;
    maxNumSeqs?: number;
    kvCacheMemoryBytes?: number;
    tensorParallelSize?: number;
    pipelineParallelSize?: number;
    gpusPerNode?: number;
    modelShape?: ModelShapeArgs;
    replicas?: number;
    spareGpus?: number;
    nodeSelector?: Record<string, string>;
    tolerations?: TolerationArgs[];
    priorityClassName?: string;
    modelCacheGiB?: number;
    storageClassName?: string;
    modelDownload?: boolean;
    allowFromNamespaces?: string[];
    serviceMonitor?: boolean;
    autoscaling?: AutoscalingArgs;
    route?: RouteArgs;
    /** Run an image that is made of stand-ins; refused unless the registry is this machine's own. */
    acceptStandIn?: boolean;
    /** Hugging Face token for gated models; secret. */
    hfToken?: pulumi.Input<string>;
}

export interface CmmPlatformArgs {
    /** The BuildKit daemon on the GH200. */
    builder: RemoteBuilderArgs;
    /** Where images are pushed to and pulled from. */
    registry: RegistryArgs;
    /** The image: base, names, architecture. */
    image: ImageArgs;
    /** Sources that differ from the stage table's, by the name of their Dockerfile stage. */
    sources?: Record<string, SourceArgs | undefined>;
    /** Stages and the builder's size. */
    stages: StagesArgs;
    /** The node's memory. */
    node: Gh200NodeArgs;
    /** What is served. */
    serving: ServingArgs;
}

/**
 * The whole platform in one call, in the source document's own order: builder, the seven stages, the
 * allocator, the image, its release, the node, vLLM.
 *
 * One build at a time: each image depends on the one before it, so the first failure stops the rest.
 */
export class CmmPlatform extends pulumi.ComponentResource {
    /** `REPOSITORY@DIGEST` that is deployed. */
    public readonly deployRef!: pulumi.Output<string>;
    /** `REPOSITORY:TAG` of the release; the image itself where an existing one is used. */
    public readonly releaseRef!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST` of the standalone LMCache server; empty where nothing is built. */
    public readonly lmcacheRef!: pulumi.Output<string>;
    /** Digest of each stage, by the stage's Dockerfile name; empty where nothing is built. */
    public readonly stageDigests!: pulumi.Output<Record<string, string>>;
    /** The memory plan in words. */
    public readonly memoryPlan!: pulumi.Output<string>;
    /** The memory plan as an SVG. */
    public readonly memoryPicture!: pulumi.Output<string>;
    /** What the node said when it was measured; empty where nothing was. */
    public readonly nodeMeasured!: pulumi.Output<string[]>;
    /** What the node's kubelet should be told. */
    public readonly kubeletAdvice!: pulumi.Output<string[]>;
    /** Address of the OpenAI API inside the cluster. */
    public readonly endpoint!: pulumi.Output<string>;

    constructor(name: string, args: CmmPlatformArgs, opts?: pulumi.ComponentResourceOptions) {
        refuseOpenPoints(args);
        super("gh200-vllm:index:CmmPlatform", name, {}, opts);
        warnOfOpenPoints(this, args);
        const nodeArgs = { ...args.node, builderMiB: Math.round(args.stages.builderMemoryGiB * 1024) };
        const planned = planNode(nodeArgs);
        refuseServing(args, planned);
        const node = new Gh200Node(`${name}-node`, nodeArgs, { parent: this });
        const images = args.image.use === undefined ? buildImages(this, name, args) : adoptedImage(args.image.use);
        const cached = planned.node.lmcacheMiB > 0 && args.image.use === undefined;
        const server = new VllmServer(
            `${name}-vllm`,
            {
                ...args.serving,
                image: images.deployRef,
                podLimitMiB: node.podLimitMiB,
                hbmBudgetMiB: node.hbmBudgetMiB,
                hbmReserveMiB: node.hbmReserveMiB,
                hostBudgetMiB: node.hostBudgetMiB,
                shmMiB: node.shmMiB,
                hostReserveMiB: node.headroomMiB,
                pinnedMiB: planned.node.pinnedMiB,
                ...(cached && { lmcacheUrl: lmcacheUrl(`${name}-lmcache`, args.serving.namespace ?? "vllm") }),
                registryHost: registryHost(args.registry.address),
                pullUsername: args.registry.username,
                pullPassword: args.registry.password,
            },
            { parent: this },
        );
        if (cached) {
            new LmcacheServer(
                `${name}-lmcache`,
                {
                    image: images.lmcacheRef,
                    memoryMiB: planned.node.lmcacheMiB,
                    namespace: server.namespace,
                    imagePullSecret: `${name}-vllm-pull`,
                    runtimeClassName: args.serving.runtimeClassName,
                    gpuProduct: args.serving.gpuProduct,
                },
                { parent: this },
            );
        }
        const outputs = {
            ...images,
            memoryPlan: pulumi.all([node.description, server.modelFit]).apply(([plan, fit]) => [plan, ...fit].join("\n")),
            memoryPicture: node.picture,
            nodeMeasured: node.measured,
            kubeletAdvice: node.kubeletAdvice,
            endpoint: server.endpoint,
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

interface Images {
    deployRef: pulumi.Output<string>;
    releaseRef: pulumi.Output<string>;
    lmcacheRef: pulumi.Output<string>;
    stageDigests: pulumi.Output<Record<string, string>>;
}

function buildImages(parent: CmmPlatform, name: string, args: CmmPlatformArgs): Images {
    const { image, stages: stageArgs } = args;
    const builder = new RemoteBuilder(`${name}-builder`, args.builder, { parent });
    const release = releaseRepository({ ...image, registry: args.registry.address });
    const repository = `${release}-stages`;
    const sources = resolveSources(args.sources);
    const shared = {
        builder,
        repository,
        baseImage: baseReference(image.base),
        cudaArchList: image.cudaArchList,
        context: "assets/vllm",
    };
    const wheels = {
        ...(stageArgs.wheelhouse !== undefined && { wheelhouse: stageArgs.wheelhouse }),
        locks: stageArgs.locks ?? "assets/vllm/locks",
    };
    const commonArgs = {
        SOURCE_DATE_EPOCH: `${image.sourceDateEpoch}`,
        BASE_IMAGE: shared.baseImage,
        CUDA_ARCH_LIST: image.cudaArchList,
    };
    const sourceContexts = Object.fromEntries(
        Object.entries(sources).map(([key, source]) => [key, source.path ?? gitContext(source)]),
    );
    const revisions = Object.fromEntries(
        Object.entries(sources).map(([key, source]) => [revisionArg(key), source.path ? "local" : (source.commit ?? source.ref)]),
    );

    const built: Record<string, BuildStage | ManagedAllocator> = {};
    let last: pulumi.Resource = builder;
    for (const stage of stageTable.filter(({ target }) => !stageArgs.disabled.includes(target))) {
        last = built[stage.target] = new BuildStage(
            `${name}-${stage.target}`,
            {
                builder,
                repository,
                dockerfile: "assets/vllm/Dockerfile",
                target: stage.target,
                namedContexts: { ...sourceContexts, ...wheels },
                buildArgs: {
                    ...commonArgs,
                    ...revisions,
                    MAX_JOBS: `${maxJobs(stage, stageArgs.builderMemoryGiB, stageArgs.builderCores)}`,
                },
                registryCache: image.registryCache,
            },
            { parent, dependsOn: [last] },
        );
    }
    last = built["build-managed-alloc"] = new ManagedAllocator(
        `${name}-build-managed-alloc`,
        { ...shared, buildArgs: commonArgs },
        { parent, dependsOn: [last] },
    );
    const stageRefs: Record<string, pulumi.Input<string>> = {
        ...mapValues(built, (stage) => pulumi.interpolate`docker-image://${stage.imageRef}`),
        // Without a context in its place, the image would compile the stage itself.
        ...Object.fromEntries(stageArgs.disabled.map((target) => [target, "assets/vllm/build/left-out"])),
    };
    const cmm = new CmmImage(
        `${name}-image`,
        { ...shared, stageRefs, namedContexts: wheels, buildArgs: { ...commonArgs, ...revisions } },
        { parent, dependsOn: [last] },
    );
    const lmcache = new LmcacheImage(
        `${name}-lmcache-image`,
        {
            builder,
            repository,
            baseImage: shared.baseImage,
            lmcacheRef: stageRefs["build-lmcache"] ?? "",
            namedContexts: { ...wheels, locks: stageArgs.locks ?? "assets/lmcache/locks" },
            buildArgs: { ...commonArgs, ...revisions },
        },
        { parent, dependsOn: [cmm] },
    );
    const released = new ImageRelease(
        `${name}-release`,
        {
            builder,
            imageRef: cmm.imageRef,
            digest: cmm.digest,
            repository: release,
            tag: releaseTag({ ...image, registry: args.registry.address }),
            sourceDateEpoch: commonArgs.SOURCE_DATE_EPOCH,
            username: args.registry.username,
            password: args.registry.password,
        },
        { parent, dependsOn: [lmcache] },
    );
    return {
        deployRef: released.deployRef,
        releaseRef: released.releaseRef,
        lmcacheRef: lmcache.imageRef,
        stageDigests: pulumi.all(mapValues(built, (stage) => stage.digest)),
    };
}

function adoptedImage(reference: string): Images {
    return {
        deployRef: pulumi.output(reference),
        releaseRef: pulumi.output(reference),
        lmcacheRef: pulumi.output(""),
        stageDigests: pulumi.output<Record<string, string>>({}),
    };
}

/** What cannot be served on the planned node, before the first image is built for it. */
function refuseServing({ serving }: CmmPlatformArgs, { plan, node }: PlannedNode): void {
    const settings = vllmServerSchema
        .pick({ maxModelLenTokens: true, maxNumSeqs: true, kvCacheMemoryBytes: true, tensorParallelSize: true, pipelineParallelSize: true, gpusPerNode: true, modelShape: true, modelCacheClaim: true, modelCacheGiB: true, autoscaling: true })
        .strip()
        .safeParse(serving);
    // What is wrong in itself is reported by the component, with everything else that is.
    if (settings.success) {
        const { hbmBudgetMiB, hostBudgetMiB } = plan;
        refuse(servingProblems({ ...settings.data, hbmBudgetMiB, hostBudgetMiB, pinnedMiB: node.pinnedMiB, lmcacheUrl: node.lmcacheMiB > 0 ? lmcacheUrl("lmcache", "vllm") : "" }));
    }
}

/** A preview shows the whole plan and what is still open; `refuseOpenPoints` is what an update meets. */
function warnOfOpenPoints(platform: CmmPlatform, args: CmmPlatformArgs): void {
    const open = openPoints(args);
    if (open.length > 0) {
        const lines = ["an update of this stack is refused until these are settled:", ...open.map(problemLine)];
        void pulumi.log.warn(lines.join("\n"), platform);
    }
}

/** `src-vllm` is told its commit as `SRC_VLLM_REVISION`. */
function revisionArg(source: string): string {
    return `${source.replaceAll("-", "_").toUpperCase()}_REVISION`;
}

function mapValues<A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> {
    return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}
