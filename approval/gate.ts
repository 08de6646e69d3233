import { type Problem, problemLine } from "../components/internal/errors";
import { downgrades, type Versions } from "../components/rules/versions";
import { type Asked, decide, declaredSigners, declaredTrust, destroyed } from "./decision";
import { sha256 } from "./hash";
import type { Attempt } from "./ledger";
import { type Decision, isProblem, type Record, recordFile, signersFile } from "./record";
import { revivedKeys, signerKeys, signersText, type Trust } from "./trust";

/** Everything that the decision depends on; nothing else is read. */
export interface Request extends Asked {
    /** Name of the stack, as in approvals/NAME.json. */
    stack: string;
    required: boolean;
    validDays: number;
    versions: Versions;
    record: Record | Problem | undefined;
    /** Record of a change of signers; undefined where there is none. */
    signersRecord?: Record | Problem | undefined;
    /** What no approval settles: code that runs and is covered by none, a memory that the change chose itself. */
    unsettled?: Problem[];
    now: Date;
    /** Why a record's signature does not count; undefined where it does. */
    signatureProblem: (record: Record, approver: string, signers: string) => string | undefined;
}

export interface Verdict {
    /** Digest of this change. */
    change: string;
    /** Whether anything that decides the result differs, or an attempt is unfinished. */
    changed: boolean;
    /** What kind of decision the change needs. */
    needs: Decision;
    /** Whether an approval is needed at all. */
    gated: boolean;
    problems: Problem[];
    /** Those of them that no approval settles: versions that go down. */
    lower: Problem[];
    /** What the state will say of this attempt; undefined on a stack without approvals. */
    attempt: Attempt | undefined;
    /** The change of signers, its digest and whether it is approved; undefined where there is none. */
    signers: { change: string; words: string[]; approved: boolean } | undefined;
}

/** Clocks of two machines differ; a record from further in the future than this was not signed just now. */
const clockSkewMs = 5 * 60_000;
const dayMs = 24 * 3_600_000;

/** Whether the change may be made. The same function answers a preview, an update and a destroy. */
export function judge(request: Request): Verdict {
    const { ledger, to, required } = request;
    const { deployed, attempt } = ledger;
    const { change, changed, needs } = decide(request);
    // A stack that was under approval stays so until an approved change says otherwise.
    const gated = required || attempt !== undefined;
    const lower = to === destroyed ? [] : downgrades("version", deployed?.versions ?? {}, request.versions);
    const forbidden = needs === "rollback" || !changed ? [] : lower;
    const verdict = { change, changed, needs, gated, lower: forbidden };
    if (!gated) {
        return { ...verdict, problems: forbidden, attempt: undefined, signers: undefined };
    }
    const { trust, signers, ...judged } = judgeSigners(request);
    const problems = [...(request.unsettled ?? []), ...judged.problems];
    if (!changed) {
        return { ...verdict, problems, attempt: attempt && required ? { ...attempt, next: trust } : attempt, signers };
    }
    // Who signs an update is settled first.
    const settled = signers?.approved !== false;
    const approval = settled ? approvalProblem(request, change, needs, trust) : undefined;
    const { record } = request;
    const valid = settled && approval === undefined && record !== undefined && !isProblem(record);
    const started: Attempt = {
        serial: (attempt?.serial ?? 0) + 1,
        stack: request.fullName,
        change,
        to,
        decision: needs,
        approver: valid ? record.approver : "",
        time: valid ? record.time : "",
        signature: valid ? sha256(record.signature) : "",
        next: trust,
    };
    return { ...verdict, problems: [...forbidden, ...problems, ...(approval ? [approval] : [])], attempt: required ? started : undefined, signers };
}

/** Who may approve is decided by what the stack remembers; the files of this change count only for its first update, and once they are approved. */
function judgeSigners(request: Request): { trust: Trust; problems: Problem[]; signers: Verdict["signers"] } {
    const { ledger, stack, signersRecord: record } = request;
    const declared = declaredSigners(request);
    const before = ledger.attempt?.next;
    const { problems } = signerKeys(request.signers);
    const named = declaredTrust(request);
    if (before === undefined || named === undefined) {
        const trust = before ?? { ...declared, signers: signersText(declared) };
        return { trust, problems, signers: undefined };
    }
    problems.push(...revivedKeys(before, declared));
    const unapproved = recordProblem(request, {
        ...{ record, file: recordFile(stack, "signers"), change: named.change, needs: "signers", used: before.record },
        trust: before,
        wrong: `is not approved: ${named.words.join(", ")}`,
    });
    const signers = { change: named.change, words: named.words, approved: unapproved === undefined };
    if (unapproved !== undefined) {
        return { trust: before, problems: [...problems, unapproved], signers };
    }
    return { trust: { ...named.after, record: sha256((record as Record).signature) }, problems, signers };
}

function approvalProblem(request: Request, change: string, needs: Decision, trust: Trust): Problem | undefined {
    return recordProblem(request, {
        ...{ record: request.record, file: recordFile(request.stack), change, needs, used: request.ledger.attempt?.signature, trust },
        wrong: needs === "after-failure" ? failureNeedsDecision(request) : "is not approved",
    });
}

interface Claim {
    record: Record | Problem | undefined;
    /** Where it lies. */
    file: string;
    change: string;
    needs: Decision;
    /** SHA-256 of the signature that was used last. */
    used: string | undefined;
    /** Whose signature counts. */
    trust: Trust;
    /** What is wrong where there is no record. */
    wrong: string;
}

/** Why a record does not let its change through; undefined where it does. */
function recordProblem(request: Request, { record, file, change, needs, used, trust, wrong }: Claim): Problem | undefined {
    const { approver } = trust;
    const how = `${approver} approves it with: npm run approve -- -s ${request.stack}${needs === "update" ? "" : ` --${needs} REASON`}`;
    if (record === undefined) {
        return { path: needs === "signers" ? signersFile : "approval", value: `change ${change}`, wrong, fix: how };
    }
    if (isProblem(record)) {
        return { ...record, fix: how };
    }
    const refuse = (wrong: string): Problem => ({ path: file, value: `change ${record.change}`, wrong, fix: `this is change ${change}; ${how}` });
    const unsigned = request.signatureProblem(record, approver, signersText(trust));
    if (unsigned !== undefined) {
        return refuse(`is not signed by ${approver} as ${signersFile} has it (${unsigned})`);
    }
    if (record.approver !== approver) {
        return refuse(`names ${record.approver} as its approver, not ${approver}`);
    }
    if (record.stack !== request.fullName) {
        return refuse(`is for stack ${record.stack}, not ${request.fullName}`);
    }
    if (sha256(record.signature) === used) {
        return refuse(needs === "after-failure" ? failureNeedsDecision(request) : "was used for the update before; an approval lets one update through");
    }
    if (record.change !== change) {
        return refuse("is stale: something that decides the result, or the stack itself, is not what was approved");
    }
    if (record.decision !== needs) {
        return refuse(`says ${record.decision}, which is another decision`);
    }
    const age = request.now.getTime() - Date.parse(record.time);
    if (age < -clockSkewMs) {
        return refuse(`was signed in the future (${record.time})`);
    }
    if (age > request.validDays * dayMs) {
        return refuse(`was signed more than ${request.validDays} days ago (${record.time})`);
    }
    return undefined;
}

function failureNeedsDecision({ ledger }: Request): string {
    return `the update approved at ${ledger.attempt?.time} did not end well and nothing is retried: a person decides`;
}

/** The lines that a preview shows. */
export function verdictLines(verdict: Verdict, words: readonly string[]): string[] {
    const state = !verdict.gated ? "needs no approval on this stack" : verdict.problems.length === 0 ? "approved" : "an update is refused:";
    const problems = verdict.problems.map(problemLine).map((line) => `  ${line}`);
    if (!verdict.changed) {
        return [
            "change digest: none, nothing that decides the result differs from what is deployed",
            ...(problems.length > 0 ? ["an update is refused:", ...problems] : []),
            ...signersLines(verdict),
        ];
    }
    return [
        `change digest: ${verdict.change} (${state})`,
        ...problems,
        ...signersLines(verdict),
        "what changes:",
        ...shortened(words).map((line) => `  ${line}`),
    ];
}

function signersLines({ signers }: Verdict): string[] {
    return signers === undefined
        ? []
        : [`who approves changes, change ${signers.change} (${signers.approved ? "approved" : "not approved"}):`, ...signers.words.map((line) => `  ${line}`)];
}

/** More lines than this are read by nobody; the digest covers them all the same. */
const shownLines = 40;

function shortened(words: readonly string[]): string[] {
    return words.length <= shownLines ? [...words] : [...words.slice(0, shownLines - 1), `and ${words.length - shownLines + 1} more`];
}
