import { type Facts, rememberedFacts } from "./facts";
import { sha256 } from "./hash";
import type { Attempt, Deployed } from "./ledger";

/** Where an update starts and what it makes; the digest over both is what an approver signs. */
export interface Change {
    /** `ORGANIZATION/PROJECT/STACK`. */
    stack: string;
    /** Hash of what the stack has been through: its last complete update and the last attempt. */
    from: string;
    /** Hash of all facts. */
    to: string;
}

/**
 * `from` covers the last attempt with its signature, so that no approval fits twice: not after its update has
 * failed, nor after the stack has gone to another state and back.
 */
export function fromDigest(deployed: Deployed | undefined, attempt: Attempt | undefined): string {
    return sha256(JSON.stringify([deployed?.to ?? "", attempt?.serial ?? 0, attempt?.signature ?? ""]));
}

/** 64 hex digits. */
export function changeDigest({ stack, from, to }: Change): string {
    return sha256(JSON.stringify(["gh200-vllm change", stack, from, to]));
}

/** What differs between two sets of facts, a line each, in words. */
export function describeChange(before: Facts | undefined, after: Facts): string[] {
    const now = rememberedFacts(after);
    if (before === undefined) {
        return [`nothing is deployed: all ${Object.keys(now).length} facts are new`];
    }
    const names = [...new Set([...Object.keys(before), ...Object.keys(now)])].sort();
    return names.filter((name) => before[name] !== now[name]).map((name) => describeFact(name, before[name], now[name]));
}

function describeFact(name: string, before: string | undefined, after: string | undefined): string {
    if (name.startsWith("file ")) {
        const what = before === undefined ? "added" : after === undefined ? "removed" : "edited";
        return `${name.slice("file ".length)}: ${what}`;
    }
    return `${name}: ${show(before)} → ${show(after)}`;
}

function show(value: string | undefined): string {
    return value === undefined ? "none" : value === "" ? '""' : value;
}
