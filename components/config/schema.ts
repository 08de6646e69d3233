import { z } from "zod";
import { remoteBuilderSchema } from "../builder/remoteBuilder";
import { gh200NodeSchema } from "../node/gh200NodeArgs";
import { defaultSources } from "../stages/sources";
import { vllmServerSchema } from "../serving/vllmServerArgs";

const digest = z.string().regex(/^sha256:[0-9a-f]{64}$/, { error: "is no digest; accepted: sha256: and 64 hex digits" });
const folder = z.string().min(1).refine((path) => !path.startsWith("/"), { error: "is absolute; accepted: a folder relative to the program" });

const registrySchema = z.strictObject({
    address: z.string().regex(/^[^/\s]+\/\S+[^/]$/, { error: "is no registry and namespace; accepted: HOST/NAMESPACE" }).meta({ description: "Registry host and namespace.", source: "source document" }),
    username: z.string().optional().meta({ description: "User who may push and pull." }),
});

const imageSchema = z.strictObject({
    base: z.strictObject({
        name: z.string().regex(/^[^@\s]+:[^@\s:/]+$/, { error: "is no image name with a tag; accepted: NAME:TAG" }).meta({ description: "Base image.", source: "source document" }),
        digest: digest.optional().meta({ description: "Its digest; without it a preview says unpinned and an update refuses." }),
    }),
    imageTag: z.string().min(1).meta({ description: "IMAGE_TAG: repository of the release.", source: "source document" }),
    vllmVersion: z.string().min(1).meta({ description: "VLLM_VERSION: first part of the release tag.", source: "source document" }),
    imageSuffix: z.string().meta({ description: "IMAGE_SUFFIX: second part of the release tag.", source: "source document" }),
    cudaArchList: z.string().regex(/^\d+\.\d+a?$/, { error: "is no GPU architecture; accepted: e.g. 9.0a" }).default("9.0a").meta({ description: "GPU architecture.", source: "source document" }),
    sourceDateEpoch: z.int().nonnegative().default(0).meta({ description: "Time stamp of every file of the image.", unit: "s since 1970" }),
    registryCache: z.boolean().default(true).meta({ description: "Keep BuildKit's cache of every step in the registry." }),
    use: z.string().regex(/^[^@\s]+@sha256:[0-9a-f]{64}$/, { error: "is no image by digest; accepted: REPOSITORY@sha256:DIGEST" }).optional().meta({ description: "An image that exists already; nothing is built." }),
});

const sourceSchema = z
    .strictObject({
        repository: z.string().optional().meta({ description: "Git address." }),
        ref: z.string().optional().meta({ description: "Branch or tag that people name." }),
        commit: z.string().regex(/^[0-9a-f]{40}$/, { error: "is no full commit; accepted: 40 hex digits" }).optional().meta({ description: "Commit that is built." }),
        contains: z.string().regex(/^[0-9a-f]{7,40}$/, { error: "is no commit; accepted: 7 to 40 hex digits" }).optional().meta({ description: "Commit that must be in the history of what is built; npm run pins proves it." }),
        path: folder.optional().meta({ description: "Folder that takes the repository's place." }),
    })
    .refine((source) => source.path === undefined || source.commit === undefined, { error: "has both path and commit; accepted: one of them" });

const stagesSchema = z.strictObject({
    disabled: z.array(z.string()).default([]).meta({ description: "Stages that are left out." }),
    builderMemoryGiB: z.number().min(10).meta({ description: "Memory of the builder; it bounds the compile jobs.", unit: "GiB" }),
    builderCores: z.int().positive().meta({ description: "Cores of the builder.", unit: "cores" }),
    wheelhouse: folder.optional().meta({ description: "Folder with pip.conf and wheels in place of the package index." }),
    locks: folder.optional().meta({ description: "Folder with the hash-locked Python requirements; assets/vllm/locks where absent." }),
});

/** Everything that other components supply, or that is a secret of its own, is no part of the section. */
const servingSchema = vllmServerSchema.omit({
    image: true,
    podLimitMiB: true,
    hbmBudgetMiB: true,
    hostBudgetMiB: true,
    hbmReserveMiB: true,
    hostReserveMiB: true,
    shmMiB: true,
    registryHost: true,
    pullUsername: true,
    pullPassword: true,
    hfToken: true,
    lmcacheUrl: true,
    pinnedMiB: true,
});

const clusterSchema = z.strictObject({
    context: z.string().optional().meta({ description: "Context of the ambient kubeconfig; the current one where absent." }),
    identifier: z.string().min(1).meta({ description: "Name of the cluster, constant for its life: a new address or certificate then replaces nothing." }),
});

const approvalSchema = z.strictObject({
    required: z.boolean().meta({ description: "Whether an update needs an approval." }),
    approver: z.string().min(1).optional().meta({ description: "Who clears every change.", source: "source document" }),
});

/** Every section of the stack's configuration, in the order of the documentation. */
export const sections = {
    builder: remoteBuilderSchema.omit({ clientKey: true }),
    registry: registrySchema,
    image: imageSchema,
    sources: z.strictObject(Object.fromEntries(Object.keys(defaultSources).map((name) => [name, sourceSchema.optional()]))),
    stages: stagesSchema,
    // The builder's memory is the stages'.
    node: gh200NodeSchema.omit({ builderMiB: true }),
    serving: servingSchema,
    cluster: clusterSchema,
    approval: approvalSchema,
};

/** Sections that may be absent, and what stands in for them. */
export const absentSections: Partial<Record<keyof typeof sections, unknown>> = { sources: {}, builder: {} };

/** Secrets are keys of their own: a section with a secret in it would be read as plain text. */
export const secrets = {
    builderClientKey: "PEM text of the key of builder.clientCertificate.",
    registryPassword: "Password of registry.username.",
    hfToken: "Hugging Face token for gated models.",
    kubeconfig: "kubeconfig of the cluster, as text; the ambient one where absent.",
} as const;
