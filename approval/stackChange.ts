import * as fs from "node:fs";
import * as path from "node:path";
import * as pulumi from "@pulumi/pulumi";
import type { StackConfig } from "../components/config/load";
import { attachArtifact } from "../components/image/artifact";
import { type Problem, refuse } from "../components/internal/errors";
import { usedBuilder } from "../components/builder/builderHook";
import { belowFloors, dockerfileVersions, isVersion, type Versions } from "../components/rules/versions";
import { resolveSources } from "../components/platform/openPoints";
import { backendProblems } from "./backend";
import { describeChange } from "./change";
import { clusterIdentity } from "./cluster";
import { destroyed, rebuiltImages } from "./decision";
import { changeFacts, coveredFiles, type Facts, factsDigest, type RawConfig, rememberedFacts } from "./facts";
import { judge, type Request, type Verdict, verdictLines } from "./gate";
import { approvalResource, changeResource, type Ledger, ledgerOf, nextDeployed } from "./ledger";
import { loadedHere, uncoveredProblems } from "./loaded";
import { writePlan } from "./plan";
import { isProblem, readRecord, readSigners, recordFile, recordText, recordType, signatureProblem } from "./record";

/** What an update made. */
export interface Outcome {
    /** `REPOSITORY@DIGEST` of what is deployed. */
    deployRef: string;
    /** Digest of each image that is deployed or released, by its resource's name. */
    images: Record<string, string>;
}

/** This run's change, and what the stack remembers of it. */
export interface StackChange {
    /** Written before anything else where the stack is under approval: everything else depends on it. */
    first: pulumi.Resource[];
    /** Whether this is an approved return to a state that the stack had. */
    rollback: boolean;
    /** Whether a destroy is approved: this run may be its own, which looks like an update from here. */
    mayBeDestroyed: boolean;
    /** What each image must come out as where nothing was approved that would change it, by its resource's name; undefined where any may come. */
    expectedDigests?: Record<string, string>;
    /** To be called with what everything else hangs on, and what came of it once it is complete: remembers the change then. */
    complete: (last: pulumi.Resource, outcome: { [K in keyof Outcome]: pulumi.Input<Outcome[K]> }) => void;
}

/**
 * Says what this run changes, and refuses an update that nobody approved, before its first resource.
 *
 * A preview only says so. On a stack without approvals it does not wait for the answer either.
 *
 * @param before what an update must pass before its approval counts as used.
 */
export async function stackChange(config: StackConfig, before: pulumi.ResourceHook[] = []): Promise<StackChange> {
    const versions = declaredVersions(config);
    refuse(belowFloors("version", versions));
    const judged = judgeRun(config, versions);
    const told = judged.then(announce);
    const isPreview = pulumi.runtime.isDryRun();
    const hook = destroyHook(judged);
    if (isPreview && !config.approval.required) {
        // Nobody waits for this: a rejection that is not handled is what ends the preview.
        void judged.then(({ verdict }) => refuse(verdict.lower));
        return { first: [], rollback: false, mayBeDestroyed: false, complete: (...last) => remember(judged, last, []) };
    }
    const { request, verdict } = await judged;
    await told;
    const problems = isPreview ? verdict.lower : verdict.problems;
    if (problems.length > 0) {
        refuse(mayBeDestroyed(request) ? [] : problems);
        refuseEachStep(problems);
    }
    const rollback = verdict.needs === "rollback" && verdict.problems.length === 0;
    const expectedDigests = expected(request, verdict);
    if (verdict.attempt === undefined) {
        return { first: [], rollback, mayBeDestroyed: mayBeDestroyed(request), ...expectedDigests, complete: (...last) => remember(judged, last, []) };
    }
    const first = new pulumi.Stash(
        approvalResource,
        { input: { ...verdict.attempt } },
        { hooks: { beforeCreate: before, beforeUpdate: before, beforeDelete: [hook] } },
    );
    return { first: [first], rollback, mayBeDestroyed: mayBeDestroyed(request), ...expectedDigests, complete: (...last) => remember(judged, last, [hook]) };
}

/** An approved change of the sources may come out as anything. Without one, what was deployed; with an approved rebuild, what was signed. */
function expected({ ledger }: Request, { gated, changed, needs }: Verdict): Pick<StackChange, "expectedDigests"> {
    const digests = !gated ? undefined : !changed ? ledger.deployed?.images : needs === "rebuild" ? ledger.images : undefined;
    return digests === undefined ? {} : { expectedDigests: digests };
}

/**
 * An approved destroy runs the program too, and looks like an update from here. It makes and changes nothing, and whatever does either
 * is an update that nobody approved.
 */
function refuseEachStep(problems: Problem[]): void {
    const refusal = new pulumi.ResourceHook("approval", () => refuse(problems));
    const refused = (hooks: pulumi.ResourceHookBinding = {}) => ({ ...hooks, beforeCreate: [refusal], beforeUpdate: [refusal] });
    pulumi.runtime.registerStackTransformation(({ props, opts }) => ({ props, opts: { ...opts, hooks: refused(opts.hooks) } }));
}

interface JudgedRun {
    ledger: Ledger;
    facts: Facts;
    versions: Versions;
    /** Builder's address. */
    endpoint: string;
    request: Request;
    verdict: Verdict;
}

/** The files are read while the engine has other things to do: a preview that waits for nothing here has registered everything by then. */
async function judgeRun(config: StackConfig, versions: Versions): Promise<JudgedRun> {
    const ledger = await readLedger();
    const raw = rawConfig();
    const gated = config.approval.required || ledger.attempt !== undefined;
    const cluster = gated ? await clusterIdentity(raw["gh200-vllm:kubeconfig"]?.value, config.cluster.context, process.env) : undefined;
    const facts = changeFacts(".", raw, cluster);
    const unsettled = gated ? [...(await backendProblems(".")), ...uncoveredProblems(".", coveredFiles(facts), loadedHere())] : [];
    const request = { ...requestOf(config, ledger, facts, versions), unsettled };
    const verdict = judge(request);
    if (cluster !== undefined) {
        writePlan(request.stack, { stack: request.fullName, change: verdict.change, cluster });
    }
    return { ledger, facts, versions, endpoint: config.builder.endpoint, request, verdict };
}

/** Reads both from the stack's own state through the engine, so that a preview and every backend can. */
async function readLedger(): Promise<Ledger> {
    interface Answer {
        outputs: Record<string, { type: string; outputs: Record<string, unknown> }>;
    }
    const answer = (await pulumi.runtime.invoke("pulumi:pulumi:readStackResourceOutputs", { stackName: stackName() })) as Answer;
    return ledgerOf(Object.entries(answer.outputs).map(([urn, { type, outputs }]) => ({ urn, type, outputs })));
}

const stackName = (): string => `${pulumi.getOrganization()}/${pulumi.getProject()}/${pulumi.getStack()}`;

/** The SDK has this function and leaves it out of its types. */
const { isConfigSecret } = pulumi.runtime as unknown as { isConfigSecret: (this: void, path: string) => boolean };

/** What the engine was given, of every namespace. */
function rawConfig(): RawConfig {
    const all = Object.entries(pulumi.runtime.allConfig() as Record<string, string>);
    return Object.fromEntries(all.map(([key, value]) => [key, { value, secret: isConfigSecret(key) }]));
}

/** Depends on everything, so it is written last, and deleted first: its hook is what a destroy meets before any other step. */
function remember(judged: Promise<JudgedRun>, [last, outcome]: Parameters<StackChange["complete"]>, beforeDelete: pulumi.ResourceHook[]): void {
    const next = async (made?: Outcome) => {
        const { ledger, facts, versions, endpoint, request, verdict } = await judged;
        if (made !== undefined && verdict.gated && verdict.changed) {
            await attachRecord(made.deployRef, request);
        }
        const builder = usedBuilder(endpoint) ?? ledger.deployed?.builder ?? "";
        const images = made?.images ?? ledger.deployed?.images ?? {};
        return nextDeployed(ledger, { to: request.to, facts: rememberedFacts(facts), versions, builder, images }, verdict.attempt?.serial ?? 0);
    };
    // Only when all is built is it known on which builder; a preview builds nothing.
    const input = pulumi.runtime.isDryRun() ? next() : pulumi.output(outcome).apply(next);
    new pulumi.Stash(changeResource, { input }, { dependsOn: [last], ...(beforeDelete.length > 0 && { hooks: { beforeDelete } }) });
}

/** The approver's record travels with the image that it let through. It lies in git as well, so an update does not fail for it. */
async function attachRecord(deployRef: string, { record, stack }: Request): Promise<void> {
    const config = new pulumi.Config();
    const { address, username } = config.requireObject<{ address: string; username?: string }>("registry");
    // An image of somebody else's registry is deployed with `image.use`: nothing is pushed there, and no password sent.
    if (record === undefined || isProblem(record) || !deployRef.startsWith(`${address}/`)) {
        return;
    }
    const artifact = { type: recordType, content: Buffer.from(recordText(record)), title: path.basename(recordFile(stack)) };
    try {
        await attachArtifact(deployRef, artifact, username === undefined ? undefined : { username, password: config.get("registryPassword") ?? "" });
    } catch (error) {
        void pulumi.log.warn(`approval: the record is not attached to ${deployRef}: ${(error as Error).message}; it stays in ${recordFile(stack)}`);
    }
}

/**
 * Its name is what Pulumi shows for a destroy that does not run the program, and so cannot ask the hook. A change that ends approvals
 * deletes what they were kept in, and is approved by itself.
 */
function destroyHook(judged: Promise<JudgedRun>): pulumi.ResourceHook {
    return new pulumi.ResourceHook("a destroy needs an approval: docs/rules.md", async () => {
        const { request, verdict } = await judged;
        const ends = !request.required && verdict.changed && verdict.problems.length === 0;
        refuse(ends ? [] : judge({ ...request, to: destroyed }).problems);
    });
}

const mayBeDestroyed = (request: Request): boolean => judge({ ...request, to: destroyed }).problems.length === 0;

function requestOf(config: StackConfig, ledger: Ledger, facts: Facts, versions: Versions): Request {
    const { required, approver = "", validDays } = config.approval;
    return {
        ...{ required, approver, validDays, ledger, versions, signatureProblem },
        stack: pulumi.getStack(),
        fullName: stackName(),
        to: factsDigest(facts),
        record: readRecord(recordFile(pulumi.getStack())),
        signersRecord: readRecord(recordFile(pulumi.getStack(), "signers")),
        signers: readSigners("."),
        now: new Date(),
    };
}

async function announce({ ledger, facts, verdict }: JudgedRun): Promise<void> {
    const words = [...rebuiltImages(ledger), ...describeChange(ledger.deployed?.facts, facts)];
    if (verdict.changed && ledger.deployed !== undefined && ledger.releaseRef !== undefined) {
        words.push(`release ${ledger.releaseRef}: moves from ${ledger.deployRef?.split("@")[1]} if the image comes out different`);
    }
    await pulumi.log.info(verdictLines(verdict, words).join("\n"));
}

/** Versions that the configuration and the Dockerfile say, so that a lower one is known before anything is built. */
export function declaredVersions(config: StackConfig): Versions {
    const versions: Versions = dockerfileVersions(fs.readFileSync("assets/vllm/Dockerfile", "utf8"));
    const tag = config.image.base.name.split(":").at(-1) ?? "";
    const named: Record<string, string> = { base: tag, release: config.image.vllmVersion };
    for (const [name, source] of Object.entries(resolveSources(config.sources))) {
        named[name] = source.ref;
    }
    return { ...versions, ...Object.fromEntries(Object.entries(named).filter(([, text]) => isVersion(text))) };
}
