import type { Facts } from "./facts";
import type { Trust } from "./trust";

/** What the last complete update made. Kept in the stack's state by `NAME-change`, written after everything else. */
export interface Deployed {
    /** Hash of the facts. */
    to: string;
    facts: Facts;
    /** Versions that must not go down, by name. */
    versions: Record<string, string>;
    /** Hashes that this stack was deployed with before, the latest last: what a rollback may go to. */
    earlier: string[];
    /** Worker of the builder that the last build ran on; empty before the first. */
    builder: string;
    /** Number of the attempt that got this far; 0 on a stack without approvals. */
    serial: number;
}

/** The last approved update that was started. Kept by `NAME-approval`, written before anything else. */
export interface Attempt {
    serial: number;
    /** `ORGANIZATION/PROJECT/STACK`. */
    stack: string;
    change: string;
    to: string;
    /** What was decided; see record.ts. */
    decision: string;
    /** Who signed it. */
    approver: string;
    /** When it was signed, ISO 8601. */
    time: string;
    /** SHA-256 of the signature, which makes every attempt one of its own. */
    signature: string;
    /** Who may approve the next change: what the stack remembers, not what that change brings. */
    next: Trust;
}

export interface Ledger {
    deployed?: Deployed;
    attempt?: Attempt;
    /** `REPOSITORY@DIGEST` and `REPOSITORY:TAG` of what runs. */
    deployRef?: string;
    releaseRef?: string;
}

/** Builds a rollback may reach back to; state grows by 67 bytes for each. */
const rememberedUpdates = 50;

export const changeResource = "gh200-change";
export const approvalResource = "gh200-approval";

/** The ledger among a stack's resources. */
export function ledgerOf(resources: { urn: string; type: string; outputs?: Record<string, unknown> }[]): Ledger {
    const stash = (name: string): unknown => resources.find(({ urn, type }) => type === "pulumi:index:Stash" && urn.endsWith(`::${name}`))?.outputs?.input;
    const stack = resources.find(({ type }) => type === "pulumi:pulumi:Stack")?.outputs ?? {};
    const ledger = {
        deployed: stash(changeResource) as Deployed | undefined,
        attempt: stash(approvalResource) as Attempt | undefined,
        deployRef: stack.deployRef as string | undefined,
        releaseRef: stack.releaseRef as string | undefined,
    };
    return Object.fromEntries(Object.entries(ledger).filter(([, value]) => value !== undefined));
}

/** What the next complete update leaves: itself, and the one before it among the earlier ones. */
export function nextDeployed(ledger: Ledger, next: Pick<Deployed, "to" | "facts" | "versions" | "builder">, serial: number): Deployed {
    const { deployed } = ledger;
    const earlier =
        deployed === undefined || deployed.to === next.to ? (deployed?.earlier ?? []) : [...deployed.earlier.filter((to) => to !== next.to), deployed.to];
    return { ...next, earlier: earlier.slice(-rememberedUpdates), serial };
}
