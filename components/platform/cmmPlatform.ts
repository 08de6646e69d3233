import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import { ManagedAllocator } from "../allocator/managedAllocator";
import { RemoteBuilder } from "../builder/remoteBuilder";
import { CmmImage } from "../image/cmmImage";
import { imageCredentials } from "../image/imageCredentials";
import { ImageRelease } from "../image/imageRelease";
import { LmcacheImage } from "../image/lmcacheImage";
import { digestOf, onceExpected } from "../image/outcome";
import { registryHost, releaseRepository, releaseTag } from "../image/reference";
import { assetsFolder } from "../internal/assets";
import { inputName, problemLine, refuse } from "../internal/errors";
import { mapInput } from "../internal/mapInput";
import { Gh200Node } from "../node/gh200Node";
import type { Gh200NodeArgs } from "../node/gh200NodeArgs";
import { type PlannedNode, planNode } from "../node/planNode";
import { lmcacheUrl } from "../serving/lmcachePod";
import { LmcacheServer } from "../serving/lmcacheServer";
import type { VllmServerTransform } from "../serving/transform";
import { advisoriesReadOn } from "../rules/advisories";
import { VllmServer } from "../serving/vllmServer";
import type { ServingArgs } from "../serving/vllmServerArgs";
import { gatheringDockerfile } from "../stages/additional";
import { BuildStage } from "../stages/buildStage";
import { dirtySuffix } from "../stages/localSource";
import { plannedStages, planText, stageLine } from "../stages/plan";
import { stageTable } from "../stages/table";
import { gitContext } from "../stages/sources";
import { type CmmPlatformArgs, type RegistryArgs, type SettledPlatform, settlePlatform } from "./cmmPlatformArgs";
import { baseReference, openPoints, refuseOpenPoints, resolveSources, sourceRevision, withoutLocalPort } from "./openPoints";
import { knownHoles } from "./knownHoles";
import { pushingPodsWarning, registryHook, warnOfRegistry } from "./registryChecks";
import { probeProblems, servingFitProblems } from "./servingFit";

/** What a CmmPlatform takes beside its inputs; functions are TypeScript's alone. */
export interface CmmPlatformOptions extends pulumi.ComponentResourceOptions {
    /** Changes what is made. Default: nothing. */
    transform?: { server?: VllmServerTransform };
}

/** What a platform is made of; nothing where it has no such part. */
interface Parts {
    stages: Readonly<Record<string, BuildStage | ManagedAllocator>>;
    image?: CmmImage;
    lmcacheImage?: LmcacheImage;
    release?: ImageRelease;
    node?: Gh200Node;
    server?: VllmServer;
}

/** By the platform that made them. Its getters are TypeScript's alone: the schema, which other languages see, has the class's properties. */
const parts = new WeakMap<CmmPlatform, Parts>();

/**
 * The whole platform in one call, in the source document's own order: builder, the seven stages, the
 * allocator, the image, its release, the node, vLLM. Without `node` and `serving` it builds alone; with `image.use` it serves alone.
 *
 * One build at a time: each image depends on the one before it, so the first failure stops the rest.
 */
export class CmmPlatform extends pulumi.ComponentResource {
    /** `REPOSITORY@DIGEST` that is deployed. */
    public readonly deployRef!: pulumi.Output<string>;
    /** `REPOSITORY:TAG` of the release; the image itself where an existing one is used; empty for uncommitted sources. */
    public readonly releaseRef!: pulumi.Output<string>;
    /** `REPOSITORY@DIGEST` of the standalone LMCache server; empty where nothing is built. */
    public readonly lmcacheRef!: pulumi.Output<string>;
    /** Digest of each stage, by the stage's Dockerfile name; empty where nothing is built. */
    public readonly stageDigests!: pulumi.Output<Record<string, string>>;
    /** Digest of each image that is deployed or released, by its resource's name; empty where nothing is built. */
    public readonly imageDigests!: pulumi.Output<Record<string, string>>;
    /** The memory plan in words, a line each. */
    public readonly memoryPlan!: pulumi.Output<string[]>;
    /** The memory plan as an SVG. */
    public readonly memoryPicture!: pulumi.Output<string>;
    /** What the node said when it was measured; empty where nothing was. */
    public readonly nodeMeasured!: pulumi.Output<string[]>;
    /** What the node's kubelet should be told. */
    public readonly kubeletAdvice!: pulumi.Output<string[]>;
    /** Published holes of what is built, a line for each version of a package; empty where nothing is built. */
    public readonly knownHoles!: pulumi.Output<string[]>;
    /** Address of the OpenAI API inside the cluster. */
    public readonly endpoint!: pulumi.Output<string>;

    /** The stages, by their Dockerfile names; none where nothing is built. */
    public get stages(): Readonly<Record<string, BuildStage | ManagedAllocator>> {
        return parts.get(this)!.stages;
    }

    /** The image; undefined where an existing one is used. */
    public get image(): CmmImage | undefined {
        return parts.get(this)!.image;
    }

    /** The standalone LMCache server's image; undefined where nothing is built. */
    public get lmcacheImage(): LmcacheImage | undefined {
        return parts.get(this)!.lmcacheImage;
    }

    /** The release of the image; undefined where nothing is built, and of uncommitted sources. */
    public get release(): ImageRelease | undefined {
        return parts.get(this)!.release;
    }

    /** The node; undefined where none is planned. */
    public get node(): Gh200Node | undefined {
        return parts.get(this)!.node;
    }

    /** The server; undefined where nothing is served. */
    public get server(): VllmServer | undefined {
        return parts.get(this)!.server;
    }

    constructor(name: string, args: CmmPlatformArgs, opts: CmmPlatformOptions = {}) {
        const { transform = {}, ...options } = opts;
        const platform = settlePlatform(args);
        refuseOpenPoints(platform);
        const { registry } = platform;
        const { username, password } = registry;
        super(
            "gh200-vllm:index:CmmPlatform",
            name,
            {},
            pulumi.mergeOptions(options, {
                transformations: [
                    ...imageCredentials({ address: mapInput(registry.address, registryHost), username, password }),
                    ...registryFirst(`CmmPlatform ${name}/registry`, platform),
                ],
            }),
        );
        warnOfOpenPoints(this, platform);
        const holes = knownHoles(platform);
        if (pulumi.runtime.isDryRun() && holes.length > 0) {
            void pulumi.log.warn([`what is built has known holes (advisories as of ${advisoriesReadOn}; docs/security.md):`, ...holes].join("\n"), this);
        }
        void warnOfRegistry(this, platform);
        if (pulumi.runtime.isDryRun() && platform.image.use === undefined) {
            void pulumi.log.info(planText(platform.stages), this);
        }
        const node = args.node === undefined ? undefined : plannedNode(this, name, { ...args, node: args.node });
        const { use } = platform.image;
        const { made, ...images } = use === undefined ? buildImages(this, name, platform) : adoptedImage(use);
        const server =
            node === undefined || args.serving === undefined
                ? undefined
                : serve(this, name, { ...node, serving: args.serving, registry, images, built: use === undefined, transform: transform.server });
        parts.set(this, { ...made, node: node?.component, server });
        const none = pulumi.output<string[]>([]);
        const outputs = {
            ...images,
            memoryPlan: pulumi.all([node?.component.description, server?.modelFit ?? none]).apply(([plan, fit]) => [...(plan?.split("\n") ?? []), ...fit]),
            memoryPicture: node?.component.picture ?? pulumi.output(""),
            nodeMeasured: node?.component.measured ?? none,
            kubeletAdvice: node?.component.kubeletAdvice ?? none,
            knownHoles: pulumi.output(holes),
            endpoint: server?.endpoint ?? pulumi.output(""),
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

interface Node {
    component: Gh200Node;
    planned: PlannedNode;
}

/** The node with its memory plan, which the model must fit before the first image is built for it. */
function plannedNode(parent: CmmPlatform, name: string, args: CmmPlatformArgs & { node: Gh200NodeArgs }): Node {
    const nodeArgs = { ...args.node, builderMiB: Math.round((args.stages?.builderMemoryGiB ?? 0) * 1024) };
    const planned = planNode(nodeArgs);
    refuse(args.serving === undefined ? [] : [...servingFitProblems(args.serving, planned), ...probeProblems(args.node.probe, args.serving)]);
    return { planned, component: new Gh200Node(`${name}-node`, withProduct(nodeArgs, args.serving?.gpuProduct), { parent }) };
}

interface Served extends Node {
    serving: ServingArgs;
    registry: RegistryArgs;
    images: Pick<Images, "deployRef" | "lmcacheRef">;
    /** Whether the images are made here, LMCache's too. */
    built: boolean;
    transform: VllmServerTransform | undefined;
}

function serve(parent: CmmPlatform, name: string, { component: node, planned, serving, registry, images, built, transform }: Served): VllmServer {
    const cached = planned.node.lmcacheMiB > 0 && built;
    const server = new VllmServer(
        `${name}-vllm`,
        {
            ...serving,
            image: images.deployRef,
            podLimitMiB: node.podLimitMiB,
            hbmBudgetMiB: node.hbmBudgetMiB,
            hbmReserveMiB: node.hbmReserveMiB,
            gpuMemoryUtilization: node.gpuMemoryUtilization,
            hostBudgetMiB: node.hostBudgetMiB,
            shmMiB: node.shmMiB,
            hostReserveMiB: node.headroomMiB,
            pinnedMiB: planned.node.pinnedMiB,
            ...(cached && { lmcacheUrl: pulumi.output(serving.namespace ?? "vllm").apply((namespace) => lmcacheUrl(`${name}-lmcache`, namespace)) }),
            registryHost: mapInput(registry.address, registryHost),
            pullUsername: registry.pullUsername ?? registry.username,
            pullPassword: registry.pullUsername === undefined ? registry.password : registry.pullPassword,
        },
        { parent, ...(transform !== undefined && { transform }) },
    );
    if (cached) {
        new LmcacheServer(
            `${name}-lmcache`,
            {
                image: images.lmcacheRef,
                memoryMiB: planned.node.lmcacheMiB,
                namespace: server.namespace,
                imagePullSecret: server.imagePullSecret,
                runtimeClassName: serving.runtimeClassName,
                gpuProduct: serving.gpuProduct,
                tolerations: serving.tolerations,
            },
            { parent },
        );
    }
    return server;
}

interface Images {
    deployRef: pulumi.Output<string>;
    releaseRef: pulumi.Output<string>;
    lmcacheRef: pulumi.Output<string>;
    stageDigests: pulumi.Output<Record<string, string>>;
    imageDigests: pulumi.Output<Record<string, string>>;
    made: Parts;
}

function buildImages(parent: CmmPlatform, name: string, args: SettledPlatform): Images {
    const { image, stages: stageArgs } = args;
    const builder = new RemoteBuilder(`${name}-builder`, args.builder, { parent });
    const release = mapInput(args.registry.address, (registry) => releaseRepository({ ...image, registry }));
    const repository = mapInput(release, (name) => `${name}-stages`);
    const sources = resolveSources(args.sources);
    const recipes = assetsFolder("vllm");
    const shared = {
        builder,
        repository,
        baseImage: baseReference(image.base),
        cudaArchList: image.cudaArchList,
        context: recipes,
    };
    const wheels = {
        ...(stageArgs.wheelhouse !== undefined && { wheelhouse: stageArgs.wheelhouse }),
        locks: stageArgs.locks ?? path.join(recipes, "locks"),
    };
    const commonArgs = {
        SOURCE_DATE_EPOCH: `${image.sourceDateEpoch}`,
        BASE_IMAGE: shared.baseImage,
        BASE_NAME: withoutLocalPort(image.base.name),
        CUDA_ARCH_LIST: image.cudaArchList,
        // Who may push there decides what is deployed: no other domain of trust has these caches, and a renamed stack keeps them.
        COMPILE_DOMAIN: mapInput(release, withoutLocalPort),
    };
    const sourceContexts = Object.fromEntries(Object.entries(sources).map(([key, source]) => [key, source.path ?? gitContext(source)]));
    const plan = plannedStages(stageArgs);
    // A label must not name the commit of a stage that is left out, nor of an image whose sources nobody here read.
    const used = new Set(plan.flatMap((stage) => stage.sources));
    const unread = new Set(stageTable.filter(({ target }) => stageArgs.prebuilt[target] !== undefined).flatMap((stage) => stage.sources));
    const revisions = Object.fromEntries(
        Object.entries(sources).map(([key, source]) => [revisionArg(key), used.has(key) ? sourceRevision(source) : unread.has(key) ? "prebuilt" : "left-out"]),
    );
    const dirty = Object.keys(sources).filter((key) => revisions[revisionArg(key)]!.endsWith(dirtySuffix));

    const built: Record<string, BuildStage | ManagedAllocator> = {};
    let last: pulumi.Resource = builder;
    for (const [index, stage] of plan.entries()) {
        const own = stageArgs.additional[stage.target];
        const jobs = { MAX_JOBS: `${stage.jobs}`, ...(stage.nvccThreads !== undefined && { NVCC_THREADS: `${stage.nvccThreads}` }) };
        const recipe =
            own === undefined
                ? {
                      dockerfile: path.join(recipes, "Dockerfile"),
                      target: stage.target,
                      namedContexts: { ...sourceContexts, ...wheels },
                      buildArgs: { ...commonArgs, ...revisions, ...jobs, TRITON_ORIGIN: stageArgs.tritonOrigin ?? "wheel" },
                  }
                : { ...own, target: own.target ?? stage.target, buildArgs: { ...commonArgs, ...jobs, ...own.buildArgs } };
        last = built[stage.target] = new BuildStage(
            `${name}-${stage.target}`,
            {
                builder,
                repository,
                dockerfile: recipe.dockerfile,
                context: own?.context,
                target: recipe.target,
                namedContexts: recipe.namedContexts,
                buildArgs: recipe.buildArgs,
                gitTokens: args.gitTokens,
                announcement: stageLine(plan, index),
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
    const added = Object.keys(stageArgs.additional);
    if (added.length > 0) {
        last = built.additional = new BuildStage(
            `${name}-additional`,
            {
                builder,
                repository,
                dockerfile: gatheringDockerfile(added),
                target: "additional",
                namedContexts: mapValues(
                    Object.fromEntries(added.map((target) => [target, built[target]!])),
                    ({ imageRef }) => pulumi.interpolate`docker-image://${imageRef}`,
                ),
                registryCache: false,
            },
            { parent, dependsOn: [last] },
        );
    }
    const prebuilt = Object.fromEntries(Object.entries(stageArgs.prebuilt as Record<string, pulumi.Input<string>>).filter(([, image]) => image !== undefined));
    const stageRefs: Record<string, pulumi.Input<string>> = {
        ...prebuilt,
        ...mapValues(built, (stage) => stage.imageRef),
        // Without a context in its place, the image would compile the stage itself.
        ...Object.fromEntries(stageArgs.disabled.map((target) => [target, path.join(recipes, "build", "left-out")])),
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
            namedContexts: { ...wheels, locks: stageArgs.locks ?? path.join(assetsFolder("lmcache"), "locks") },
            buildArgs: { ...commonArgs, ...revisions },
        },
        { parent, dependsOn: [cmm] },
    );
    const settled = (resource: string, reference: pulumi.Output<string>) => onceExpected(resource, reference, args.expectedDigests?.[resource]);
    const imageRef = settled(`${name}-image`, cmm.imageRef);
    const lmcacheRef = settled(`${name}-lmcache-image`, lmcache.imageRef);
    const made = { stages: built, image: cmm, lmcacheImage: lmcache };
    const common = { lmcacheRef, stageDigests: pulumi.all(mapValues(built, (stage) => stage.digest)) };
    const digests = (references: Record<string, pulumi.Output<string>>) => pulumi.all(mapValues(references, (reference) => reference.apply(digestOf)));
    const imageRefs = { [`${name}-image`]: imageRef, [`${name}-lmcache-image`]: lmcacheRef };
    if (dirty.length > 0) {
        void pulumi.log.warn(developmentLine(dirty, sources), parent);
        return { ...common, deployRef: imageRef, releaseRef: pulumi.output(""), imageDigests: digests(imageRefs), made };
    }
    const released = new ImageRelease(
        `${name}-release`,
        {
            builder,
            imageRef,
            digest: cmm.digest,
            repository: release,
            tag: releaseTag(image),
            sourceDateEpoch: commonArgs.SOURCE_DATE_EPOCH,
            allowDowngrade: args.rollback ?? false,
            username: args.registry.username,
            password: args.registry.password,
        },
        { parent, dependsOn: [lmcache] },
    );
    const deployRef = settled(`${name}-release`, released.deployRef);
    return {
        ...common,
        deployRef,
        releaseRef: released.releaseRef,
        imageDigests: digests({ ...imageRefs, [`${name}-release`]: deployRef }),
        made: { ...made, release: released },
    };
}

/** The image is built, checked and deployed by digest, so that it can be tried. */
function developmentLine(dirty: string[], sources: ReturnType<typeof resolveSources>): string {
    const places = dirty.map((key) => `${inputName(`sources.${key}`)}: ${sources[key]!.path}`).join(", ");
    return `${places}: has changes that no commit holds; the image gets no release name and is deployed by digest, for development; commit them to release it`;
}

function adoptedImage(reference: string): Images {
    return {
        deployRef: pulumi.output(reference),
        releaseRef: pulumi.output(reference),
        lmcacheRef: pulumi.output(""),
        stageDigests: pulumi.output<Record<string, string>>({}),
        imageDigests: pulumi.output<Record<string, string>>({}),
        made: { stages: {} },
    };
}

/** A preview shows the whole plan and what is still open; `refuseOpenPoints` is what an update meets. */
function warnOfOpenPoints(platform: CmmPlatform, args: SettledPlatform): void {
    const open = openPoints(args);
    if (open.length > 0) {
        const lines = ["an update of this stack is refused until these are settled:", ...open.map(problemLine)];
        void pulumi.log.warn(lines.join("\n"), platform);
    }
    if (pulumi.runtime.isDryRun()) {
        pushingPodsWarning(args).forEach((problem) => void pulumi.log.warn(problemLine(problem), platform));
    }
}

/** Whatever is made or changed first, the registry has been asked before. */
function registryFirst(hookName: string, args: SettledPlatform): pulumi.ResourceTransformation[] {
    const hook = registryHook(hookName, args);
    return hook === undefined
        ? []
        : [
              ({ resource, props, opts }) =>
                  resource instanceof pulumi.CustomResource
                      ? { props, opts: pulumi.mergeOptions(opts, { hooks: { beforeCreate: [hook], beforeUpdate: [hook] } }) }
                      : undefined,
          ];
}

/** `src-vllm` is told its commit as `SRC_VLLM_REVISION`. */
function revisionArg(source: string): string {
    return `${source.replaceAll("-", "_").toUpperCase()}_REVISION`;
}

function mapValues<A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> {
    return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));
}

/** The facts Pod looks for the product that the server runs on, where the node says none of its own. */
function withProduct(node: Gh200NodeArgs, gpuProduct: pulumi.Input<string> | undefined): Gh200NodeArgs {
    return node.probe === undefined || typeof gpuProduct !== "string" ? node : { ...node, probe: { gpuProduct, ...node.probe } };
}
