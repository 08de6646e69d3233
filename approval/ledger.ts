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
    /** Digest of each image that is deployed or released, by its resource's name; absent in what an older version left. */
    images?: Record<string, string>;
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
    /** Digest that each of `deployed.images` has in the state now: another one where it was built again, or was read from a registry that changed. */
    images?: Record<string, string>;
}

/** Builds a rollback may reach back to; state grows by 67 bytes for each. */
const rememberedUpdates = 50;

const imageType = "docker-build:index:Image";
export const changeResource = "gh200-change";
export const approvalResource = "gh200-approval";

/** The ledger among a stack's resources. */
export function ledgerOf(resources: { urn: string; type: string; outputs?: Record<string, unknown> }[]): Ledger {
    const stash = (name: string): unknown => resources.find(({ urn, type }) => type === "pulumi:index:Stash" && urn.endsWith(`::${name}`))?.outputs?.input;
    const stack = resources.find(({ type }) => type === "pulumi:pulumi:Stack")?.outputs ?? {};
    const deployed = stash(changeResource) as Deployed | undefined;
    const digest = (name: string): unknown => resources.find(({ urn, type }) => type === imageType && urn.endsWith(`::${name}`))?.outputs?.digest;
    const images = Object.keys(deployed?.images ?? {}).map((name) => [name, digest(name)]);
    const ledger = {
        deployed,
        attempt: stash(approvalResource) as Attempt | undefined,
        deployRef: stack.deployRef as string | undefined,
        releaseRef: stack.releaseRef as string | undefined,
        ...(images.length > 0 && { images: Object.fromEntries(images.filter(([, value]) => typeof value === "string")) as Record<string, string> }),
    };
    return Object.fromEntries(Object.entries(ledger).filter(([, value]) => value !== undefined));
}

/** What the next complete update leaves: itself, and the one before it among the earlier ones. */
export function nextDeployed(ledger: Ledger, next: Omit<Deployed, "earlier" | "serial">, serial: number): Deployed {
    const { deployed } = ledger;
    const earlier =
        deployed === undefined || deployed.to === next.to ? (deployed?.earlier ?? []) : [...deployed.earlier.filter((to) => to !== next.to), deployed.to];
    return { ...next, earlier: earlier.slice(-rememberedUpdates), serial };
}
