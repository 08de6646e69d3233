import type * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import type { RemoteBuilderArgs } from "../builder/remoteBuilder";
import { isDigestReference, isRegistryAddress, isRepositoryPath, isTaggedReference, namesHost } from "../image/reference";
import { inputName, type Problem, refuse } from "../internal/errors";
import { mapInput } from "../internal/mapInput";
import { isEventual, zodProblems } from "../internal/resolve";
import type { GitTokens } from "../internal/gitAuth";
import type { Gh200NodeArgs } from "../node/gh200NodeArgs";
import type { ServingArgs } from "../serving/vllmServerArgs";
import { acceptedGitAddress, isGitAddress, isGitRef } from "../rules/gitAddress";
import { type AdditionalStageArgs, additionalStageSchema } from "../stages/additional";
import { defaultSources } from "../stages/sources";
import { stageTable } from "../stages/table";

/** Where images are pushed to and pulled from. */
export interface RegistryArgs {
    /**
     * Registry host and namespace that images are pushed below, e.g. `atl.vultrcr.com/vllm`; also of a registry that the same program makes.
     * With `pullUsername` or `image.use` it must be known when the program is written, since the registry is asked before anything is made.
     */
    address: pulumi.Input<string>;
    /** User who may push and pull. Default: none. */
    username?: string;
    /** That user's password; secret. Default: none. */
    password?: pulumi.Input<string>;
    /**
     * User whom the pods pull as, who may not push: their pull secret is read by whoever reads secrets in their namespace. Before anything
     * is made, an update asks the registry whether this user may pull, and refuses one who is told to push. Default: `username`, with a
     * warning.
     */
    pullUsername?: string;
    /** That user's password; secret. Needed with `pullUsername`. Default: none. */
    pullPassword?: pulumi.Input<string>;
}

/** Image that everything is compiled in and installed into. */
export interface BaseImageArgs {
    /** Name with tag. Default: `nvcr.io/nvidia/pytorch:26.03-py3`, the source document's (PyTorch 2.11.0a0, CUDA 13.2.0). */
    name?: string;
    /** `sha256:...`. Without it the base is unpinned: a preview says so and an update refuses. */
    digest?: string;
}

/** The image: base, names, architecture. */
export interface ImageArgs {
    /** Base image that everything is compiled in and installed into. Default: the source document's, unpinned. */
    base?: BaseImageArgs;
    /** IMAGE_TAG of the source document: repository of the release below the registry. Default: `gh200-vllm-cmm`. */
    imageTag?: string;
    /** VLLM_VERSION of the source document: first part of the release tag. Default: `cmm`. */
    vllmVersion?: string;
    /** IMAGE_SUFFIX of the source document: second part of the release tag. Default: `-cmm`. */
    imageSuffix?: string;
    /** GPU architecture, as nvcc's `sm_` suffix. Default: `9.0a`, Hopper's. */
    cudaArchList?: string;
    /** Seconds since 1970 that every file of the image carries, so that the same inputs give the same digest. Default: 0. */
    sourceDateEpoch?: number;
    /**
     * Keep BuildKit's cache of every step of every stage in the registry, in a repository of its own, `IMAGE_TAG-stages-cache`. Whoever may write
     * there decides what a build on a fresh builder takes for built; false for releases where that is more than the builder. Default: true.
     */
    registryCache?: boolean;
    /**
     * An image that exists already, `REPOSITORY@DIGEST` below `registry.address`: it is deployed, and nothing is built. Before anything is
     * made, an update reads its labels: it is refused without the versions that a build here leaves, below a floor or the release's
     * own versions, or of stand-ins. Default: none.
     */
    use?: string;
}

/** Where one source tree of the image comes from. */
export interface SourceArgs {
    /** Git address. Default: the stage table's. */
    repository?: string;
    /** Branch or tag that people name. Default: the stage table's. */
    ref?: string;
    /** Full commit that is built. Default: the stage table's, where it was resolved. */
    commit?: string;
    /** Commit that must be in the history of what is built; `npm run pins` proves it. Default: the stage table's. */
    contains?: string;
    /** A folder of this machine, relative to the program, that takes the repository's place. */
    path?: string;
}

/** Where Triton comes from. */
export const TritonOrigin = {
    /** PyPI's aarch64 wheel by hash, the source document's. */
    Wheel: "wheel",
    /** Compiled from src-triton. */
    Source: "source",
} as const;
export type TritonOrigin = (typeof TritonOrigin)[keyof typeof TritonOrigin];

/** Which stages are built, and on what. */
export interface StagesArgs {
    /** Stages that are left out; only those that the stage table says can be. Default: none. */
    disabled?: string[];
    /**
     * Images by digest in place of stages, by the stage's name, `REPOSITORY@DIGEST`: of an earlier build, another team, or a BuildStage of
     * the same program. Each holds what its stage leaves, wheels; nothing of it is built. Default: none.
     */
    prebuilt?: Record<string, pulumi.Input<string> | undefined>;
    /** Stages that are added, by a name of their own that begins with `build-`; built after the seven, and their wheels installed into the image. Default: none. */
    additional?: Record<string, AdditionalStageArgs>;
    /** Stages that are built before the others, in this order: none of them reads another's result. Default: the source document's order. */
    order?: string[];
    /** Memory of the builder in GiB, which bounds each stage's compile jobs. Required where an image is built; 10 or more. */
    builderMemoryGiB: number;
    /** Cores of the builder. Required where an image is built. */
    builderCores: number;
    /** Compile jobs by stage, in place of as many as fit the builder's memory; more than fit are refused. Default: none. */
    maxJobs?: Record<string, number | undefined>;
    /** Triton's wheel from PyPI by hash, or compiled from src-triton. Default: `wheel`, the source document's. */
    tritonOrigin?: TritonOrigin;
    /** Folder with pip.conf and wheels that take the place of the package index. Default: none. */
    wheelhouse?: string;
    /** Folder with the hash-locked requirements. Default: `locks` of the recipes. */
    locks?: string;
}

export interface CmmPlatformArgs {
    /** The BuildKit daemon on the GH200. Default: none, which an update that builds refuses. */
    builder?: RemoteBuilderArgs;
    /** Where images are pushed to and pulled from. */
    registry: RegistryArgs;
    /** The image: base, names, architecture. Default: the source document's. */
    image?: ImageArgs;
    /** Sources that differ from the stage table's, by the name of their Dockerfile stage. Default: none. */
    sources?: Record<string, SourceArgs | undefined>;
    /** Access tokens of private git hosts, by host (`HOST` or `HOST:PORT`); secret. Default: none. */
    gitTokens?: pulumi.Input<GitTokens>;
    /** Stages and the builder's size. Required where an image is built. */
    stages?: StagesArgs;
    /** The node's memory. Default: none, and nothing is planned for one. Required where something is served. */
    node?: Gh200NodeArgs;
    /** What is served. Default: nothing, and images are built alone. */
    serving?: ServingArgs;
    /** Whether this update goes back to a state that the stack had, and so may lower versions. Default: false. */
    rollback?: boolean;
    /**
     * What each image must come out as, `sha256:...` by its resource's name (`NAME-image`, `NAME-lmcache-image`, `NAME-release`): one that is built
     * again and is another is neither released nor deployed. Default: any digest.
     */
    expectedDigests?: Record<string, string>;
}

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, { error: "is no digest; accepted: sha256: and 64 hex digits" });
const folder = z
    .string()
    .min(1)
    .refine((path) => !path.startsWith("/"), { error: "is absolute; accepted: a folder relative to the program" });

const registryAddress = z
    .string()
    // Neither a scheme nor a user: the password is a key of its own, and an address is shown.
    .refine(isRegistryAddress, { error: "is no registry and namespace; accepted: HOST/NAMESPACE", abort: true })
    .refine(namesHost, {
        error: "names no host, so that Docker Hub would be asked; accepted: HOST/NAMESPACE with a dot or a port in HOST, or docker.io/NAMESPACE",
    })
    .meta({ description: "Registry host and namespace.", source: "source document" });

const registryWith = <A extends z.ZodType>(address: A) =>
    z
        .strictObject({
            address,
            username: z.string().optional().meta({ description: "User who may push and pull." }),
            pullUsername: z.string().min(1).optional().meta({ description: "User whom the pods pull as, who may not push; username where absent." }),
        })
        .refine(({ username, pullUsername }) => pullUsername === undefined || pullUsername !== username, {
            path: ["pullUsername"],
            error: "is the user who pushes; accepted: a user who may pull alone",
        });

export const registrySchema = registryWith(registryAddress);
/** Of an address that is known only later, and checked then. */
const laterRegistrySchema = registryWith(z.unknown());

export const imageSchema = z.strictObject({
    base: z
        .strictObject({
            name: z
                .string()
                .refine(isTaggedReference, { error: "is no image name with a tag; accepted: NAME:TAG" })
                .default("nvcr.io/nvidia/pytorch:26.03-py3")
                .meta({ description: "Base image.", source: "source document" }),
            digest: digest.optional().meta({ description: "Its digest; without it a preview says unpinned and an update refuses." }),
        })
        .prefault({}),
    imageTag: z
        .string()
        .refine(isRepositoryPath, { error: "is no repository; accepted: lower-case letters, digits, and single dots, dashes or underscores between them" })
        .default("gh200-vllm-cmm")
        .meta({ description: "IMAGE_TAG: repository of the release.", source: "source document" }),
    vllmVersion: z
        .string()
        // Version, suffix and the 13 characters of the tag that never moves make 128 at most.
        .regex(/^\w[\w.-]{0,63}$/, { error: "is no part of a tag; accepted: letters, digits, dots, dashes and underscores" })
        .default("cmm")
        .meta({ description: "VLLM_VERSION: first part of the release tag.", source: "source document" }),
    imageSuffix: z
        .string()
        .regex(/^[\w.-]{0,51}$/, { error: "is no part of a tag; accepted: letters, digits, dots, dashes and underscores" })
        .default("-cmm")
        .meta({ description: "IMAGE_SUFFIX: second part of the release tag.", source: "source document" }),
    cudaArchList: z
        .string()
        .regex(/^\d+\.\d+a?$/, { error: "is no GPU architecture; accepted: e.g. 9.0a" })
        .default("9.0a")
        .meta({ description: "GPU architecture.", source: "source document" }),
    sourceDateEpoch: z.int().nonnegative().default(0).meta({ description: "Time stamp of every file of the image.", unit: "s since 1970" }),
    registryCache: z
        .boolean()
        .default(true)
        .meta({ description: "Keep BuildKit's cache of every step in the registry, in IMAGE_TAG-stages-cache; false where others may write there." }),
    use: z
        .string()
        .refine(isDigestReference, { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" })
        .optional()
        .meta({ description: "An image that exists already, below registry.address; nothing is built." }),
});

const sourceSchema = z
    .strictObject({
        repository: z
            .string()
            .refine(isGitAddress, { error: `is no git address; accepted: ${acceptedGitAddress}` })
            .optional()
            .meta({ description: "Git address." }),
        ref: z
            .string()
            .refine(isGitRef, { error: "is no branch or tag; accepted: its name alone" })
            .optional()
            .meta({ description: "Branch or tag that people name." }),
        commit: z
            .string()
            .regex(/^[0-9a-f]{40}$/, { error: "is no full commit; accepted: 40 hex digits" })
            .optional()
            .meta({ description: "Commit that is built." }),
        contains: z
            .string()
            .regex(/^[0-9a-f]{7,40}$/, { error: "is no commit; accepted: 7 to 40 hex digits" })
            .optional()
            .meta({ description: "Commit that must be in the history of what is built; npm run pins proves it." }),
        path: folder.optional().meta({ description: "Folder that takes the repository's place." }),
    })
    .refine((source) => source.path === undefined || source.commit === undefined, { error: "has both path and commit; accepted: one of them" });

/** An Output is known later; BuildKit refuses one that is no image. */
const prebuiltImage = z
    .any()
    .refine((image) => typeof image !== "string" || isDigestReference(image), { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" })
    .meta({ type: "string", description: "Image by digest in this stage's place; nothing of it is built." });

const jobs = z.int().positive();

export const stagesSchema = z.strictObject({
    disabled: z.array(z.string()).default([]).meta({ description: "Stages that are left out." }),
    prebuilt: z
        .strictObject(Object.fromEntries(stageTable.map(({ target }) => [target, prebuiltImage.optional()])))
        .default({})
        .meta({ description: "Images by digest in place of stages." }),
    additional: z.record(z.string(), additionalStageSchema).default({}).meta({ description: "Stages that are added, by a name of their own." }),
    order: z.array(z.string()).default([]).meta({ description: "Stages that are built before the others, in this order." }),
    builderMemoryGiB: z.number().min(10).meta({ description: "Memory of the builder; it bounds the compile jobs.", unit: "GiB" }),
    builderCores: z.int().positive().meta({ description: "Cores of the builder.", unit: "cores" }),
    maxJobs: z
        .object(Object.fromEntries(stageTable.map(({ target }) => [target, jobs.optional()])))
        .catchall(jobs)
        .optional()
        .meta({ description: "Compile jobs by stage, in place of as many as fit the builder's memory." }),
    tritonOrigin: z
        .enum(TritonOrigin)
        .default("wheel")
        .meta({ description: "Triton's own wheel by hash, or compiled from src-triton.", source: "source document" }),
    wheelhouse: folder.optional().meta({ description: "Folder with pip.conf and wheels in place of the package index." }),
    locks: folder.optional().meta({ description: "Folder with the hash-locked Python requirements; assets/vllm/locks where absent." }),
});

export const sourcesSchema = z.strictObject(Object.fromEntries(Object.keys(defaultSources).map((name) => [name, sourceSchema.optional()])));

/** A platform's inputs with every default in place. */
export interface SettledPlatform extends Omit<CmmPlatformArgs, "builder" | "image" | "sources" | "stages"> {
    builder: RemoteBuilderArgs;
    image: z.output<typeof imageSchema>;
    sources: z.output<typeof sourcesSchema>;
    stages: z.output<typeof stagesSchema>;
}

/** Checks what decides which resources there are, all of it at once. The components below check the rest. */
export function settlePlatform(args: CmmPlatformArgs): SettledPlatform {
    const { password: _, pullPassword, ...registry } = args.registry;
    const later = isEventual(registry.address);
    const image = imageSchema.safeParse(args.image ?? {});
    const sources = sourcesSchema.safeParse(args.sources ?? {});
    const stages = stagesSchema.safeParse(args.stages ?? (image.data?.use === undefined ? {} : { builderMemoryGiB: 10, builderCores: 1 }));
    refuse([
        ...zodProblems("registry", (later ? laterRegistrySchema : registrySchema).safeParse(registry).error, registry),
        ...pullPasswordProblems(registry, pullPassword !== undefined),
        ...(later ? unaskedProblems(registry, image.data?.use) : otherRegistryProblems(registry.address as string, image.data?.use)),
        ...zodProblems("image", image.error, args.image),
        ...zodProblems("sources", sources.error, args.sources),
        ...zodProblems("stages", stages.error, args.stages),
        ...(args.serving !== undefined && args.node === undefined
            ? [{ path: "node", wrong: "is missing, and serving needs one to run on", accepted: "egmEnabled and coherentMode of the node at least" }]
            : []),
    ]);
    return {
        ...args,
        builder: args.builder ?? {},
        registry: { ...args.registry, address: mapInput(registry.address, checkedAddress) },
        image: image.data!,
        sources: sources.data!,
        stages: stages.data!,
    };
}

/** A user and a password are two inputs, the second a secret: neither stands for anything alone. */
function pullPasswordProblems({ pullUsername: value }: RegistryArgs, given: boolean): Problem[] {
    const path = inputName("registry.pullUsername");
    if (value === undefined) {
        return given ? [{ path, wrong: "is missing, though its password is there", accepted: "the user whose password it is" }] : [];
    }
    return given ? [] : [{ path, value, wrong: "has no password", accepted: "registryPullPassword, a secret of the stack, or registry.pullPassword" }];
}

function checkedAddress(address: string): string {
    const path = inputName("registry.address");
    refuse(zodProblems(path, registryAddress.safeParse(address).error, address));
    return address;
}

/** What an update asks the registry before it makes anything, which may be that registry. */
function unaskedProblems({ pullUsername }: RegistryArgs, use: string | undefined): Problem[] {
    return Object.entries({ "registry.pullUsername": pullUsername, "image.use": use })
        .filter(([, given]) => given !== undefined)
        .map(([asks, value]) => ({
            path: inputName(asks),
            value,
            wrong: "is asked for at the registry before anything is made, and registry.address is known only later",
            accepted: "with registry.address as text: HOST/NAMESPACE",
        }));
}

/** What is deployed comes from where builds are pushed: whom the approver trusts with that registry, and nobody else. */
function otherRegistryProblems(address: string, use: string | undefined): Problem[] {
    return use === undefined || use.startsWith(`${address}/`)
        ? []
        : [{ path: inputName("image.use"), value: use, wrong: "is of another registry than builds are pushed to", accepted: `an image below ${address}` }];
}
