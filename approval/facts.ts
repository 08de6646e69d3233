import { createHash } from "node:crypto";
import * as fs from "node:fs";
import { listFiles } from "../components/internal/contexts";
import type { StackConfig } from "../components/config/load";
import { resolveSources } from "../components/platform/openPoints";
import { gitContext } from "../components/stages/sources";

/**
 * Everything that decides what an update makes, by name: each configured value as it is after defaults,
 * each source, each file of the assets and of the program by its hash. Secrets are there only as set or unset.
 */
export type Facts = Record<string, string>;

/** The program itself. Tests, tools and the sandbox decide nothing that is deployed. */
const programPaths = ["index.ts", "Pulumi.yaml", "package.json", "package-lock.json", "components", "approval"];

/** Reads files relative to the working folder, which is the program's. */
export function changeFacts(config: StackConfig): Facts {
    const { secrets, ...sections } = config;
    const facts: Facts = {};
    for (const [section, value] of Object.entries(sections)) {
        flatten(`gh200-vllm:${section}`, value, facts);
    }
    for (const [key, value] of Object.entries(secrets)) {
        facts[`secret gh200-vllm:${key}`] = value === undefined ? "unset" : "set";
    }
    const folders = ["assets", config.stages.wheelhouse, config.stages.locks];
    for (const [name, source] of Object.entries(resolveSources(config.sources))) {
        facts[`source ${name}`] = source.path ?? gitContext(source);
        folders.push(source.path);
    }
    for (const path of [...programPaths, ...folders]) {
        if (path !== undefined && fs.existsSync(path)) {
            for (const file of listFiles(".", path)) {
                facts[`file ${file}`] = fileFact(file);
            }
        }
    }
    return facts;
}

/** The hash that an approval is about: equal exactly where all facts are. */
export function factsDigest(facts: Facts): string {
    return sha256(JSON.stringify(Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : 1))));
}

/** The facts as a stack's state keeps them, for the words of the next change only: hashes are cut to 16 digits. */
export function rememberedFacts(facts: Facts): Facts {
    return Object.fromEntries(Object.entries(facts).map(([name, value]) => [name, name.startsWith("file ") ? value.slice(0, 16) : value]));
}

export function sha256(text: string | Buffer): string {
    return createHash("sha256").update(text).digest("hex");
}

function fileFact(file: string): string {
    const executable = (fs.statSync(file).mode & 0o100) !== 0;
    return `${sha256(fs.readFileSync(file))}${executable ? " executable" : ""}`;
}

function flatten(path: string, value: unknown, into: Facts): void {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) {
        for (const [key, inner] of Object.entries(value)) {
            flatten(`${path}.${key}`, inner, into);
        }
    } else if (value !== undefined) {
        const text = typeof value === "string" ? value : JSON.stringify(value);
        // A certificate is no reading matter; that it is another one is what counts.
        into[path] = text.includes("\n") ? `sha256:${sha256(text)}` : text;
    }
}
