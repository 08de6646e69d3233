import { z } from "zod";
import { remoteBuilderSchema } from "../builder/remoteBuilder";
import { gh200NodeSchema } from "../node/gh200NodeArgs";
import { imageSchema, registrySchema, sourcesSchema, stagesSchema } from "../platform/cmmPlatformArgs";
import { vllmServerSchema } from "../serving/vllmServerArgs";

/** Everything that other components supply, or that is a secret of its own, is no part of the section. */
const servingSchema = vllmServerSchema.omit({
    image: true,
    podLimitMiB: true,
    hbmBudgetMiB: true,
    hostBudgetMiB: true,
    hbmReserveMiB: true,
    gpuMemoryUtilization: true,
    hostReserveMiB: true,
    shmMiB: true,
    registryHost: true,
    pullUsername: true,
    pullPassword: true,
    hfToken: true,
    kubeconfig: true,
    kubeContext: true,
    lmcacheUrl: true,
    pinnedMiB: true,
});

const clusterSchema = z.strictObject({
    context: z.string().optional().meta({ description: "Context of the ambient kubeconfig; the current one where absent." }),
    identifier: z.string().min(1).meta({ description: "Name of the cluster, constant for its life: a new address or certificate then replaces nothing." }),
});

const approvalSchema = z
    .strictObject({
        required: z.boolean().meta({ description: "Whether an update needs an approval." }),
        approver: z
            .string()
            .min(1)
            .optional()
            .meta({ description: "Who clears every change; a principal of approvals/allowed_signers.", source: "source document" }),
        validDays: z.number().positive().default(7).meta({ description: "How long an approval may lie before its update.", unit: "days" }),
    })
    .refine((approval) => !approval.required || approval.approver !== undefined, {
        path: ["approver"],
        error: "accepted: a principal of approvals/allowed_signers, where approval is required",
    });

/** Every section of the stack's configuration, in the order of the documentation. */
export const sections = {
    builder: remoteBuilderSchema.omit({ clientKey: true }),
    registry: registrySchema,
    image: imageSchema,
    sources: sourcesSchema,
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
    registryPullPassword: "Password of registry.pullUsername.",
    gitTokens: "Tokens of private git hosts, as JSON: an object of HOST and TOKEN.",
    hfToken: "Hugging Face token for gated models.",
    kubeconfig:
        "kubeconfig of the cluster, as text; the ambient one where absent. Of this one, pulumi-kubernetes leaves a copy that only its owner can read in the temporary folder at each run.",
} as const;
