import { createHash } from "node:crypto";
import type { Problem } from "../components/internal/errors";
import { sha256 } from "./hash";
import { signersFile } from "./record";

/** Who may approve a change: a principal and the keys that sign for it. */
export interface Trust {
    approver: string;
    /** ssh-keygen's ALLOWED SIGNERS. Lines of other principals, and what `signerKeys` does not read, count for nobody. */
    signers: string;
    /** Fingerprints of keys that were taken away: none of them is trusted again. */
    removed?: string[];
    /** SHA-256 of the signature that made this trust out of the one before; absent at the first. */
    record?: string;
}

interface SignerKey {
    principals: string[];
    /** `valid-before` and the like, as ssh-keygen reads them; empty where there are none. */
    options: string;
    type: string;
    blob: string;
    /** `SHA256:…`, as ssh-keygen shows it. */
    fingerprint: string;
}

const principal = "[A-Za-z0-9._@+-]+";
const option = '(?:namespaces|valid-after|valid-before)="[^"\\s]*"';
const signerLine = new RegExp(
    `^(${principal}(?:,${principal})*)\\s+(?:(${option}(?:,${option})*)\\s+)?((?:ssh|ecdsa|sk)-[a-z0-9@.-]+)\\s+([A-Za-z0-9+/]+={0,2})(?:\\s.*)?$`,
);

/** The keys of an allowed_signers text. No patterns, no certificate authorities: each key that counts stands there by itself. */
export function signerKeys(text: string): { keys: SignerKey[]; problems: Problem[] } {
    const lines = text.split("\n").map((line, index) => ({ line: line.trim(), number: index + 1 }));
    const read = lines.filter(({ line }) => line !== "" && !line.startsWith("#")).map(({ line, number }) => ({ number, key: signerKey(line) }));
    return {
        keys: read.flatMap(({ key }) => (key === undefined ? [] : [key])),
        problems: read
            .filter(({ key }) => key === undefined)
            .map(({ number }) => ({
                path: `${signersFile}:${number}`,
                wrong: "names no single key",
                accepted: "PRINCIPAL KEYTYPE KEY, without patterns and certificate authorities",
            })),
    };
}

function signerKey(line: string): SignerKey | undefined {
    const [, names, options = "", type, blob] = signerLine.exec(line) ?? [];
    if (names === undefined || type === undefined || blob === undefined || type.includes("-cert-")) {
        return undefined;
    }
    const fingerprint = `SHA256:${createHash("sha256").update(Buffer.from(blob, "base64")).digest("base64").replace(/=+$/, "")}`;
    return { principals: names.split(","), options, type, blob, fingerprint };
}

/** The approver's keys, a line each, by fingerprint: two texts that trust the same keys are equal. */
export function trustedKeys({ approver, signers, removed = [] }: Trust): Map<string, SignerKey> {
    const keys = signerKeys(signers).keys.filter((key) => key.principals.includes(approver) && !removed.includes(key.fingerprint));
    const named = keys.map((key): [string, SignerKey] => [[approver, key.options, key.type, key.blob].filter(Boolean).join(" "), key]);
    return new Map(named.sort(([, a], [, b]) => (a.fingerprint < b.fingerprint ? -1 : 1)));
}

/** What ssh-keygen is asked with: the trusted keys and nothing else. */
export const signersText = (trust: Trust): string => [...trustedKeys(trust).keys()].map((line) => `${line}\n`).join("");

/** A change of who may approve: what it is signed as, and in words. */
export interface TrustChange {
    before: Trust;
    after: Trust;
    /** In place of the facts' hash in the digest. */
    from: string;
    to: string;
    words: string[];
}

/** What differs between whom the stack remembers and whom the tree names; undefined where nothing does. */
export function trustChange(before: Trust, declared: Trust): TrustChange | undefined {
    const [old, named] = [trustedKeys(before), trustedKeys(declared)];
    const added = [...named].filter(([line]) => !old.has(line)).map(([, key]) => key);
    const gone = [...old].filter(([line]) => !named.has(line)).map(([, key]) => key);
    if (before.approver === declared.approver && added.length + gone.length === 0) {
        return undefined;
    }
    const kept = new Set([...named.values()].map(({ fingerprint }) => fingerprint));
    const removed = [...(before.removed ?? []), ...gone.map(({ fingerprint }) => fingerprint).filter((fingerprint) => !kept.has(fingerprint))];
    return {
        before,
        after: { approver: declared.approver, signers: signersText(declared), removed },
        from: trustDigest(before),
        to: `signers ${trustDigest(declared)}`,
        words: [
            ...(before.approver === declared.approver ? [] : [`approver: ${before.approver} → ${declared.approver}`]),
            ...gone.map((key) => `removed key ${shown(key)}`),
            ...added.map((key) => `added key ${shown(key)}`),
        ],
    };
}

const shown = ({ fingerprint, type, options }: SignerKey): string => [fingerprint, type, options].filter(Boolean).join(" ");

/** Keys that were taken away once and stand in the tree again. */
export function revivedKeys(before: Trust, declared: Trust): Problem[] {
    return [...trustedKeys(declared).values()]
        .filter(({ fingerprint }) => before.removed?.includes(fingerprint))
        .map(({ fingerprint }) => ({
            path: signersFile,
            value: fingerprint,
            wrong: "was removed before, and a removed key is never trusted again",
            accepted: "another key",
        }));
}

function trustDigest(trust: Trust): string {
    return sha256(JSON.stringify([trust.approver, signersText(trust), trust.removed ?? [], trust.record ?? ""]));
}
