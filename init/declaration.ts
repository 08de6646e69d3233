import type { Problem } from "../components/internal/errors";
import { type Gh200NodeArgs } from "../components/node/gh200NodeArgs";
import { type MemoryProfile, memoryProfiles } from "../components/node/memory";
import { declarationOf, refusalOf, remarksOn } from "../components/node/verdict";
import { imageSchema } from "../components/platform/cmmPlatformArgs";
import type { ServingArgs } from "../components/serving/vllmServerArgs";
import { askOverSsh, readSaved, Unanswered } from "../nodecheck/ask";
import { type Answers, given } from "./answers";
import { readCertificates } from "./certificates";
import { describeModel, modelNameProblems } from "./modelConfig";

/** The sections of a stack's configuration that the answers amount to. What was not answered is not in them. */
export interface Declaration {
    builder: Record<string, string | undefined>;
    registry: Record<string, string | undefined>;
    image: { base: { name: string }; imageTag: string | undefined; imageSuffix: string | undefined };
    stages: { builderMemoryGiB: number | undefined; builderCores: number | undefined };
    node: Gh200NodeArgs | undefined;
    serving: Partial<ServingArgs>;
    cluster: { context: string | undefined; identifier: string | undefined };
    approval: { required: boolean; approver: string | undefined };
    /** PEM text of the builder's client key, which is a secret and no part of a section; empty where it is not given. */
    clientKey: string;
    /** What was read of the model and a person should know, a line each. */
    remarks: string[];
    /** What is wrong before any schema has seen it, by the flags. */
    problems: Problem[];
}

export function declare(answers: Answers): Declaration {
    const certificates = readCertificates({ ca: given(answers, "builder-ca"), cert: given(answers, "builder-cert"), key: given(answers, "builder-key") });
    const { node, problems: nodeProblems } = declareNode(answers);
    const { serving, remarks, problems: servingProblems } = declareServing(answers);
    const approver = given(answers, "approver");
    const context = given(answers, "context");
    return {
        builder: {
            endpoint: given(answers, "builder"),
            caCertificate: certificates.ca || undefined,
            clientCertificate: certificates.cert || undefined,
            serverName: given(answers, "builder-server-name"),
        },
        registry: { address: given(answers, "registry"), username: given(answers, "user"), pullUsername: given(answers, "pull-user") },
        image: { base: { name: imageSchema.parse({}).base.name }, imageTag: answers.repository, imageSuffix: suffixOf(answers.stack) },
        stages: { builderMemoryGiB: number(answers, "builder-memory"), builderCores: number(answers, "builder-cores") },
        node,
        serving,
        cluster: { context, identifier: context ?? answers.stack },
        approval: { required: approver !== undefined, approver },
        clientKey: certificates.key,
        remarks,
        problems: [...certificates.problems, ...nodeProblems, ...servingProblems],
    };
}

/** Two stacks with one release tag would move it from each other's image. What a long name loses is its end, as a tag has 128 characters. */
function suffixOf(stack: string | undefined): string | undefined {
    const suffix = `${imageSchema.parse({}).imageSuffix}-${stack}`.slice(0, 51);
    return stack !== undefined && imageSchema.shape.imageSuffix.safeParse(suffix).success ? suffix : undefined;
}

function declareNode(answers: Answers): { node: Gh200NodeArgs | undefined; problems: Problem[] } {
    const where = given(answers, "node");
    const facts = where === undefined ? profileFacts(answers.profile) : measuredFacts(where, answers.offline === "yes");
    if (facts === undefined || "wrong" in facts) {
        return { node: undefined, problems: facts === undefined ? [] : [facts] };
    }
    return {
        node: {
            ...facts,
            managedGiB: number(answers, "managed"),
            acknowledgeEgmHidesMemory: answers["acknowledge-egm"] === "yes" ? true : undefined,
            builderPlace: answers["builder-place"] as Gh200NodeArgs["builderPlace"],
        },
        problems: [],
    };
}

function profileFacts(profile: string | undefined): Gh200NodeArgs | Problem | undefined {
    if (profile === undefined) {
        return undefined;
    }
    const found = Object.hasOwn(memoryProfiles, profile) ? memoryProfiles[profile as MemoryProfile] : undefined;
    return found === undefined
        ? { path: "--profile", value: profile, wrong: "is no memory profile", accepted: Object.keys(memoryProfiles).join(", ") }
        : { egmEnabled: found.egmEnabled, coherentMode: found.coherentMode };
}

const measured = new Map<string, { node: Gh200NodeArgs | Problem; remarks: string[] }>();

/** What a measured node says of itself that explains its plan. */
export function nodeRemarks(answers: Answers): string[] {
    return measured.get(answers.node ?? "")?.remarks ?? [];
}

/** A node is asked once, however often its answer is looked at. */
function measuredFacts(where: string, offline: boolean): Gh200NodeArgs | Problem {
    const isFolder = where.includes("/");
    if (offline && !isFolder) {
        return {
            path: "--node",
            value: where,
            wrong: "is not asked with --offline",
            accepted: "a folder with what was saved on the node, or none",
            fix: "--node none --profile PROFILE",
        };
    }
    const known = measured.get(where);
    if (known !== undefined) {
        return known.node;
    }
    const found = nodeFacts(where, isFolder);
    measured.set(where, found);
    return found.node;
}

function nodeFacts(where: string, isFolder: boolean): { node: Gh200NodeArgs | Problem; remarks: string[] } {
    const problem = (wrong: string): { node: Problem; remarks: string[] } => ({
        node: {
            path: "--node",
            value: where,
            wrong,
            accepted: "NAME or USER@NAME of a GH200 that ssh reaches, or a folder as of npm run node:check -- --files",
            fix: "--node none --profile PROFILE declares the node instead",
        },
        remarks: [],
    });
    try {
        const facts = isFolder ? readSaved(where) : askOverSsh(where);
        const [refused, memory] = [refusalOf(facts), declarationOf(facts)];
        if (memory === undefined) {
            const { value, wrong } = refused ?? { value: undefined, wrong: "shows no HBM (nvidia-smi), or no NUMA nodes" };
            return problem(typeof value === "string" ? `${value} ${wrong}` : wrong);
        }
        const { lpddrMiB, egmReservedMiB, ...declared } = memory;
        const lpddrGiB = Math.round((lpddrMiB / 1024) * 10) / 10;
        return { node: { ...declared, lpddrGiB, egmReservedMiB: declared.egmEnabled ? egmReservedMiB : undefined }, remarks: remarksOn(facts) };
    } catch (error) {
        if (error instanceof Unanswered) {
            return problem(`cannot be asked (${error.message})`);
        }
        throw error;
    }
}

function declareServing(answers: Answers): { serving: Partial<ServingArgs>; remarks: string[]; problems: Problem[] } {
    const problems = answers.model === undefined ? [] : modelNameProblems(answers.model);
    const weightsGiB = number(answers, "weights");
    const config = given(answers, "model-config");
    const described = config === undefined ? undefined : describeModel(config, weightsGiB);
    const model = described === undefined || "wrong" in described ? undefined : described;
    return {
        serving: {
            model: answers.model,
            maxModelLenTokens: number(answers, "max-model-len"),
            modelGiB: weightsGiB ?? model?.shape.weightsGiB,
            modelShape: model?.shape,
        },
        remarks: model?.remarks ?? [],
        problems: described !== undefined && "wrong" in described ? [...problems, described] : problems,
    };
}

/** Text that is no number becomes NaN, which the schemas refuse. */
function number(answers: Answers, flag: string): number | undefined {
    const answer = given(answers, flag);
    return answer === undefined ? undefined : Number(answer);
}
