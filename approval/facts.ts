import { sha256 } from "./hash";
import { installedPackages } from "./packages";
import { contextFacts, programFacts } from "./tree";

/**
 * Everything that decides what an update makes, by name: each configured value of every namespace, each file of the program, of the
 * assets and of local sources by its hash, the installed packages, the cluster. Secrets are there only as set.
 */
export type Facts = Record<string, string>;

/** A stack's configuration as the engine hands it out, before any default: sections as JSON. */
export type RawConfig = Record<string, { value?: string; secret: boolean }>;

const namespace = "gh200-vllm";

/**
 * Reads files only, and runs nothing of what it reads: `npm run approve` asks this of a change that nobody approved yet.
 *
 * @param cluster what the cluster proves itself with; undefined on a stack without approvals, where the packages are not read either: nobody
 * signs them, and half a second is a quarter of a preview.
 */
export function changeFacts(root: string, config: RawConfig, cluster: string | undefined): Facts {
    const facts: Facts = {};
    for (const [key, { value = "", secret }] of Object.entries(config)) {
        if (secret) {
            facts[`secret ${key}`] = "set";
        } else {
            flatten(key, parsed(value), facts);
        }
    }
    // Who approves is a change of its own (trust.ts).
    delete facts[`${namespace}:approval.approver`];
    const files = [programFacts(root), ...builtFolders(config).map((folder) => contextFacts(root, folder))];
    for (const [file, fact] of Object.entries(Object.assign({}, ...files) as Facts)) {
        facts[`file ${file}`] = fact;
    }
    if (cluster !== undefined) {
        facts["installed packages"] = installedPackages(root);
        facts.cluster = cluster;
    }
    return facts;
}

/** Whom the configuration names as approver; empty where it names nobody. */
export const approverOf = (config: RawConfig): string => approvalOf(config).approver ?? "";

export const isRequired = (config: RawConfig): boolean => approvalOf(config).required === true;

/** How long an approval may lie, in days; the schema's default where nothing is said (components/config/schema.ts). */
export const validDaysOf = (config: RawConfig): number => approvalOf(config).validDays ?? 7;

function approvalOf(config: RawConfig): { required?: boolean; approver?: string; validDays?: number } {
    return section(config, "approval");
}

/** The folders that go into builds: the assets, and those that the configuration names. */
function builtFolders(config: RawConfig): string[] {
    const { wheelhouse, locks } = section<{ wheelhouse?: string; locks?: string }>(config, "stages");
    const sources = Object.values(section<Record<string, { path?: string } | undefined>>(config, "sources"));
    const named = ["assets", wheelhouse, locks, ...sources.map((source) => source?.path)];
    return named.filter((folder): folder is string => typeof folder === "string" && folder !== "");
}

function section<T extends object>(config: RawConfig, name: string): T {
    const value = parsed(config[`${namespace}:${name}`]?.value ?? "");
    return (typeof value === "object" && value !== null ? value : {}) as T;
}

/** Text that is no JSON of an object or a list is itself. */
function parsed(value: string): unknown {
    try {
        const json = JSON.parse(value) as unknown;
        return typeof json === "object" && json !== null ? json : value;
    } catch {
        return value;
    }
}

/** The hash that an approval is about: equal exactly where all facts are. */
export function factsDigest(facts: Facts): string {
    return sha256(JSON.stringify(Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** The facts as a stack's state keeps them, for the words of the next change only: hashes are cut to 16 digits. */
export function rememberedFacts(facts: Facts): Facts {
    return Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, name.startsWith("file ") ? value.slice(0, 16) : value]));
}

/** The files among the facts, relative to the program's folder. */
export const coveredFiles = (facts: Facts): string[] => Object.keys(facts).flatMap((name) => (name.startsWith("file ") ? [name.slice("file ".length)] : []));

function flatten(name: string, value: unknown, into: Facts): void {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        for (const [key, inner] of Object.entries(value)) {
            flatten(`${name}.${key}`, inner, into);
        }
    } else if (value !== undefined) {
        const text = typeof value === "string" ? value : JSON.stringify(value);
        // A certificate is no reading matter; that it is another one is what counts.
        into[name] = text.includes("\n") ? `sha256:${sha256(text)}` : text;
    }
}
