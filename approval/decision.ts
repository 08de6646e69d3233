import { changeDigest, fromDigest } from "./change";
import type { Ledger } from "./ledger";
import type { Decision } from "./record";
import { type Trust, type TrustChange, trustChange } from "./trust";

/** What is asked for: where the stack is, and where the tree would take it. */
export interface Asked {
    /** `ORGANIZATION/PROJECT/STACK`. */
    fullName: string;
    ledger: Ledger;
    /** Hash of the facts. */
    to: string;
    /** Whom the tree names as approver. */
    approver: string;
    /** Text of the tree's approvals/allowed_signers. */
    signers: string;
}

/** In place of the facts' hash: an approved destroy. */
export const destroyed = "destroyed";

/** Digest of a change, whether there is any, and what kind of decision it needs. */
export function decide({ ledger, to, fullName }: Omit<Asked, "approver" | "signers">): { change: string; changed: boolean; needs: Decision } {
    const { deployed, attempt } = ledger;
    const unfinished = attempt !== undefined && attempt.serial !== (deployed?.serial ?? 0);
    const known = deployed?.earlier.includes(to) ?? false;
    const rebuilt = !unfinished && deployed?.to === to && rebuiltImages(ledger).length > 0;
    const end = rebuilt ? `rebuilt ${JSON.stringify(Object.entries(ledger.images ?? {}).sort())}` : to;
    return {
        change: changeDigest({ stack: fullName, from: fromDigest(deployed, attempt), to: end }),
        changed: unfinished || rebuilt || deployed?.to !== to,
        needs: to === destroyed ? "destroy" : rebuilt ? "rebuild" : known ? "rollback" : unfinished ? "after-failure" : "update",
    };
}

/** Images that are others in the state than what was deployed last, a line each. The same sources do not always give the same bytes. */
export function rebuiltImages({ deployed, images = {} }: Ledger): string[] {
    const changed = Object.entries(images).filter(([name, digest]) => deployed?.images?.[name] !== digest);
    return changed.map(([name, digest]) => `image ${name}: ${deployed?.images?.[name]} → ${digest}`);
}

/** Whom the tree names. A change that ends approvals may name nobody any more. */
export function declaredSigners({ ledger, approver, signers }: Pick<Asked, "ledger" | "approver" | "signers">): Trust {
    return { approver: approver === "" ? (ledger.attempt?.next.approver ?? "") : approver, signers };
}

/** The change of signers that the tree makes, and its digest; undefined where the stack trusts whom the tree names, or nobody yet. */
export function declaredTrust(asked: Omit<Asked, "to">): (TrustChange & { change: string }) | undefined {
    const { fullName, ledger } = asked;
    const change = ledger.attempt && trustChange(ledger.attempt.next, declaredSigners(asked));
    return change && { ...change, change: changeDigest({ stack: fullName, from: change.from, to: change.to }) };
}
