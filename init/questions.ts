import { gib } from "../components/node/describe";
import { gh200NodeSchema } from "../components/node/gh200NodeArgs";
import { BuilderPlace, type MemoryProfile, memoryProfiles, osView } from "../components/node/memory";
import { type PlannedNode, planNode } from "../components/node/planNode";
import { imageSchema } from "../components/platform/cmmPlatformArgs";
import { isLoopbackEndpoint } from "../components/rules/builder";
import { vllmServerSchema } from "../components/serving/vllmServerArgs";
import { type Answers, given } from "./answers";
import { currentContext } from "./cluster";
import { declare } from "./declaration";
import { type Reached, reachBuilder, reachCluster, reachRegistry } from "./reach";
import { principals } from "./signers";

/** One thing that a new stack must know. Its answer is text, from the flag of its name or typed at the prompt. */
export interface Question {
    flag: string;
    /** What is asked, as a person at the terminal reads it. */
    asks: string;
    /** What an answer may be. */
    accepts: string;
    /** Configuration that the answer decides: a problem there is a problem of this answer. */
    paths: readonly string[];
    /** How a problem is mended by flags, where that is another way than in a stack file. */
    fix?: string;
    /** The answer of somebody who gives none; without it an answer is needed. */
    preset?: (answers: Answers) => string | undefined;
    /** The answers that there are, each with its meaning, where they are few. */
    choices?: () => readonly (readonly [answer: string, meaning: string])[];
    /** Whether it is to be asked after these answers. Default: always. */
    when?: (answers: Answers) => boolean;
    /** Asks for a yes, without which there is nothing to go on with: the step starts again. */
    consent?: boolean;
}

/** Questions that belong together, and what can be asked of an address once they are answered. */
export interface Step {
    title: string;
    questions: readonly Question[];
    reach?: (answers: Answers) => Promise<Reached>;
}

const nothing = () => "none";
const remote = (answers: Answers) => answers.builder !== undefined && !isLoopbackEndpoint(answers.builder);
/** A builder on this machine may do without encryption. */
const encrypted = (answers: Answers) => remote(answers) || ["builder-ca", "builder-cert", "builder-key"].some((flag) => answers[flag] !== undefined);

const stack: Step = {
    title: "Stack",
    questions: [
        {
            flag: "stack",
            asks: "Name of the new stack; its file will be Pulumi.NAME.yaml",
            accepts: "letters, digits, dashes, dots and underscores",
            paths: [],
        },
    ],
};

const builder: Step = {
    title: "Builder",
    reach: reachBuilder,
    questions: [
        { flag: "builder", asks: "Address of the BuildKit daemon on the GH200", accepts: "tcp://HOST:PORT", paths: ["builder", "builder.endpoint"] },
        {
            flag: "builder-ca",
            asks: "File with the CA that signed the daemon's certificate",
            accepts: "a PEM file",
            paths: ["builder.caCertificate"],
            fix: "give --builder-ca, --builder-cert and --builder-key",
            preset: nothing,
            when: encrypted,
        },
        {
            flag: "builder-cert",
            asks: "File with the certificate that is shown to the daemon",
            accepts: "a PEM file",
            paths: ["builder.clientCertificate"],
            preset: nothing,
            when: encrypted,
        },
        {
            flag: "builder-key",
            asks: "File with that certificate's key; it is read for the check and not written anywhere",
            accepts: "a PEM file",
            paths: ["builderClientKey"],
            preset: nothing,
            when: encrypted,
        },
        {
            flag: "builder-server-name",
            asks: "Host name in the daemon's certificate, if it is not the address's",
            accepts: "a host name, or none",
            paths: ["builder.serverName"],
            preset: nothing,
            when: encrypted,
        },
    ],
};

const registry: Step = {
    title: "Registry",
    reach: reachRegistry,
    questions: [
        { flag: "registry", asks: "Registry and namespace that images are pushed below", accepts: "HOST/NAMESPACE", paths: ["registry"] },
        {
            flag: "repository",
            asks: "IMAGE_TAG, the repository of the release below it",
            accepts: "a name",
            paths: ["image.imageTag"],
            preset: () => imageSchema.parse({}).imageTag,
        },
        {
            flag: "user",
            asks: "User who may push and pull; the password is set afterwards, encrypted",
            accepts: "a name, or none",
            paths: ["registry.username"],
            preset: nothing,
        },
        {
            flag: "pull-user",
            asks: "User whom the pods pull as, who may not push; the password is set afterwards, encrypted",
            accepts: "a name, or none for the one who pushes",
            paths: ["registry.pullUsername"],
            preset: nothing,
            when: (answers) => given(answers, "user") !== undefined,
        },
    ],
};

const cluster: Step = {
    title: "Cluster",
    reach: reachCluster,
    questions: [
        {
            flag: "context",
            asks: "Context of the kubeconfig",
            accepts: "a context, or none for the one that is current at an update",
            paths: ["cluster"],
            preset: () => currentContext() ?? "none",
        },
    ],
};

const node: Step = {
    title: "Node",
    questions: [
        {
            flag: "node",
            asks: "The GH200 to measure, in place of declaring its memory profile",
            accepts: "NAME or USER@NAME for ssh, FOLDER/ with what was saved on it, or none",
            paths: ["node"],
            preset: nothing,
        },
        {
            flag: "profile",
            asks: "Memory profile of the node (docs/memory.md)",
            accepts: Object.keys(memoryProfiles).join(", "),
            paths: ["node"],
            choices: () => profilesInOrder.map((profile) => [profile, profileMeaning(profile)]),
            when: (answers) => answers.node !== undefined && given(answers, "node") === undefined,
        },
        {
            flag: "acknowledge-egm",
            asks: "EGM hides most LPDDR from Linux: the pod is promised only what Linux still has. Go on all the same?",
            accepts: "yes, or a profile without EGM",
            paths: ["node.egmEnabled"],
            fix: "turn EGM off in the BIOS and take --profile driver, or add --acknowledge-egm",
            preset: () => "no",
            when: (answers) => declare(answers).node?.egmEnabled === true,
            consent: true,
        },
        {
            flag: "builder-place",
            asks: "Where the builder is, as seen from this node",
            accepts: Object.values(BuilderPlace).join(", "),
            paths: ["node.builderPlace"],
            choices: () => [
                [BuilderPlace.Elsewhere, "on another machine"],
                [BuilderPlace.ServingStops, "on this node; vLLM is scaled to zero for a build"],
                [BuilderPlace.BesideServing, "on this node, while vLLM serves"],
            ],
            preset: () => gh200NodeSchema.shape.builderPlace.parse(undefined),
        },
        {
            flag: "builder-memory",
            asks: "Memory of the builder; it bounds the compile jobs",
            accepts: "a number of GiB",
            paths: ["stages", "stages.builderMemoryGiB", "node.builderMiB"],
            preset: mostBuilderMemory,
        },
        // A Grace CPU has 72 cores (source document: numactl, node 0 cpus 0-71).
        { flag: "builder-cores", asks: "Cores of the builder", accepts: "a number", paths: ["stages.builderCores"], preset: () => "72" },
        {
            flag: "managed",
            asks: "Managed memory for vLLM, HBM included; the most that can be promised is offered",
            accepts: "a number of GiB, or none for HBM alone",
            paths: ["node.managedGiB"],
            preset: mostManagedMemory,
        },
    ],
};

const model: Step = {
    title: "Model",
    questions: [
        { flag: "model", asks: "Model as vllm serve takes it", accepts: "NAME or OWNER/NAME of Hugging Face, or a path", paths: ["serving"] },
        {
            flag: "max-model-len",
            asks: "Longest context",
            accepts: "a number of tokens",
            paths: ["serving.maxModelLenTokens"],
            preset: () => String(vllmServerSchema.shape.maxModelLenTokens.parse(undefined)),
        },
        {
            flag: "model-config",
            asks: "The model's config.json, or the folder with it and the weights, from which the tokens that fit follow",
            accepts: "a file or a folder, or none",
            paths: ["serving.modelShape"],
            preset: nothing,
        },
        {
            flag: "weights",
            asks: "Size of all weights, for the start-up time and the fit",
            accepts: "a number of GiB, or none for what follows from the model's config",
            paths: ["serving.modelGiB", "serving.modelShape.weightsGiB"],
            preset: nothing,
        },
    ],
};

const approval: Step = {
    title: "Approval",
    questions: [
        {
            flag: "approver",
            asks: "Who clears every change before it is made",
            accepts: "a principal of approvals/allowed_signers, or none",
            paths: ["approval"],
            preset: () => (principals().length === 1 ? principals()[0] : undefined),
        },
    ],
};

export const steps: readonly Step[] = [stack, builder, registry, cluster, node, model, approval];
export const questions: readonly Question[] = steps.flatMap((step) => step.questions);

export function applicable(question: Question, answers: Answers): boolean {
    return question.when?.(answers) ?? true;
}

/** The recommended one first. */
const profilesInOrder: readonly MemoryProfile[] = ["driver", "numa", "egm-numa", "egm-driver"];

function profileMeaning(profile: MemoryProfile): string {
    const { egmEnabled, coherentMode } = memoryProfiles[profile];
    const declared = gh200NodeSchema.parse({ egmEnabled, coherentMode });
    const view = osView({ ...declared, lpddrMiB: declared.lpddrGiB * 1024 });
    return `EGM ${egmEnabled ? "on" : "off"}, HBM ${coherentMode === "numa" ? "a NUMA node" : "the driver's"}: Linux has ${gib(view.lpddrMiB)} of LPDDR${profile === "driver" ? "; recommended" : ""}`;
}

/** The plan of the node as far as it is declared; undefined where it is not, or is refused. */
function plan(answers: Answers, managedGiB: number | undefined, builderMemoryGiB: number): PlannedNode | undefined {
    const { node: declared } = declare(answers);
    try {
        return declared && planNode({ ...declared, managedGiB, builderMiB: builderMemoryGiB * 1024 });
    } catch {
        return undefined;
    }
}

function mostBuilderMemory(answers: Answers): string | undefined {
    const most = plan(answers, undefined, 0)?.plan.builderMostMiB ?? 0;
    return most > 0 ? String(Math.floor(most / 1024)) : undefined;
}

function mostManagedMemory(answers: Answers): string {
    const planned = plan(answers, Number.MAX_SAFE_INTEGER, Number(answers["builder-memory"] ?? 0));
    return planned === undefined ? "none" : String(Math.floor((planned.memory.hbmMiB + planned.plan.hostBudgetMiB) / 1024));
}
