import { type Problem, problemLine } from "../components/internal/errors";
import { downgrades, type Versions } from "../components/rules/versions";
import { changeDigest, fromDigest } from "./change";
import { sha256 } from "./facts";
import type { Attempt, Ledger } from "./ledger";
import { type Decision, isProblem, type Record, recordFile, signersFile } from "./record";

/** Everything that the decision depends on; nothing else is read. */
export interface Request {
    /** Name of the stack, as in approvals/NAME.json. */
    stack: string;
    /** `ORGANIZATION/PROJECT/STACK`. */
    fullName: string;
    required: boolean;
    approver: string;
    validDays: number;
    ledger: Ledger;
    /** Hash of the facts. */
    to: string;
    versions: Versions;
    record: Record | Problem | undefined;
    /** Text of approvals/allowed_signers. */
    signers: string;
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
}

/** Clocks of two machines differ; a record from further in the future than this was not signed just now. */
const clockSkewMs = 5 * 60_000;
const dayMs = 24 * 3_600_000;

/** Whether the change may be made. The same function answers a preview, an update, a destroy and `npm run approve`. */
export function judge(request: Request): Verdict {
    const { ledger, to, required } = request;
    const { deployed, attempt } = ledger;
    const unfinished = attempt !== undefined && attempt.serial !== (deployed?.serial ?? 0);
    const changed = unfinished || deployed?.to !== to;
    const change = changeDigest({ stack: request.fullName, from: fromDigest(deployed, attempt), to });
    // A stack that was under approval stays so until an approved change says otherwise.
    const gated = required || attempt !== undefined;
    const destroys = to === destroyed;
    const lower = destroys ? [] : downgrades("version", deployed?.versions ?? {}, request.versions);
    const known = deployed?.earlier.includes(to) ?? false;
    const needs: Decision = destroys ? "destroy" : known ? "rollback" : unfinished ? "after-failure" : "update";
    const forbidden = known || !changed ? [] : lower;
    const verdict = { change, changed, needs, gated, lower: forbidden };
    if (!changed) {
        return { ...verdict, problems: [], attempt };
    }
    if (!gated) {
        return { ...verdict, problems: forbidden, attempt: undefined };
    }
    const approval = approvalProblem(request, change, needs);
    const { record } = request;
    const valid = approval === undefined && record !== undefined && !isProblem(record);
    const next: Attempt = {
        serial: (attempt?.serial ?? 0) + 1,
        stack: request.fullName,
        change,
        to,
        decision: needs,
        approver: valid ? record.approver : "",
        time: valid ? record.time : "",
        signature: valid ? sha256(record.signature) : "",
        next: { approver: request.approver, signers: request.signers },
    };
    return { ...verdict, problems: [...forbidden, ...(approval ? [approval] : [])], attempt: required ? next : undefined };
}

/** In place of the facts' hash: an approved destroy. */
export const destroyed = "destroyed";

/** Who may approve is decided by what the stack remembers; the files of this change count only for its first update. */
export function trusted(request: Pick<Request, "ledger" | "approver" | "signers">): { approver: string; signers: string } {
    const { attempt } = request.ledger;
    return attempt === undefined ? request : attempt.next;
}

function approvalProblem(request: Request, change: string, needs: Decision): Problem | undefined {
    const { record, stack } = request;
    const file = recordFile(stack);
    const { approver, signers } = trusted(request);
    const how = `${approver} approves it with: npm run approve -- -s ${stack}${needs === "update" ? "" : ` --${needs} REASON`}`;
    if (record === undefined) {
        return { path: "approval", value: `change ${change}`, wrong: needs === "after-failure" ? failureNeedsDecision(request) : "is not approved", fix: how };
    }
    if (isProblem(record)) {
        return { ...record, fix: how };
    }
    const refuse = (wrong: string): Problem => ({ path: file, value: `change ${record.change}`, wrong, fix: `this is change ${change}; ${how}` });
    const unsigned = request.signatureProblem(record, approver, signers);
    if (unsigned !== undefined) {
        return refuse(`is not signed by ${approver} as ${signersFile} has it (${unsigned})`);
    }
    if (record.approver !== approver) {
        return refuse(`names ${record.approver} as its approver, not ${approver}`);
    }
    if (record.stack !== request.fullName) {
        return refuse(`is for stack ${record.stack}, not ${request.fullName}`);
    }
    if (sha256(record.signature) === request.ledger.attempt?.signature) {
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
    if (!verdict.changed) {
        return ["change digest: none, nothing that decides the result differs from what is deployed"];
    }
    const state = !verdict.gated ? "needs no approval on this stack" : verdict.problems.length === 0 ? "approved" : "an update is refused:";
    return [
        `change digest: ${verdict.change} (${state})`,
        ...verdict.problems.map(problemLine).map((line) => `  ${line}`),
        "what changes:",
        ...shortened(words).map((line) => `  ${line}`),
    ];
}

/** More lines than this are read by nobody; the digest covers them all the same. */
const shownLines = 40;

function shortened(words: readonly string[]): string[] {
    return words.length <= shownLines ? [...words] : [...words.slice(0, shownLines - 1), `and ${words.length - shownLines + 1} more`];
}
