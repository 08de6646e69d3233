import * as fs from "node:fs";
import * as path from "node:path";
import { fenced, inlined } from "../internal/untrusted";
import { buildCause } from "./buildCause";
import { hashFiles, listFiles } from "../internal/contexts";

/** What is known of a build that failed. */
export interface Failure {
    stack: string;
    /** Name of the resource. */
    resource: string;
    target: string;
    endpoint: string;
    time: Date;
    /** BuildKit's reference of the build; undefined where the daemon no longer says. */
    ref: string | undefined;
    /** What the engine was told, the newest first. */
    errors: readonly string[];
    /** What the failed step printed. */
    log: readonly string[];
    oldInputs: Inputs | undefined;
    newInputs: Inputs;
}

/** The inputs of a docker-build Image that can differ. */
export interface Inputs {
    dockerfile?: { inline?: string };
    context?: { location?: string; named?: Record<string, { location: string }> };
    buildArgs?: Record<string, string>;
}

/** A compiler's last word; a screen holds no more. */
const shownLogLines = 40;

/** The report as a page; its first line is the failure in one sentence. */
export function failureReport(failure: Failure): string {
    const { log } = failure;
    const changes = changedInputs(failure.oldInputs, failure.newInputs);
    const told = log.length > 0 ? log.slice(-shownLogLines) : failure.errors.flatMap((text) => text.split("\n")).slice(0, shownLogLines);
    const domain = failure.newInputs.buildArgs?.COMPILE_DOMAIN;
    return [
        `# ${failure.target || failure.resource} failed: ${inlined(buildCause(failure))}`,
        "",
        `- stack: ${failure.stack}, resource ${failure.resource}`,
        `- time: ${failure.time.toISOString()}`,
        `- builder: ${failure.endpoint}, build ${failure.ref ?? "no longer known there"}`,
        "",
        "## What it was told last",
        "",
        ...fenced(told, "text", Infinity),
        "",
        "## What changed since it was last built",
        "",
        ...fenced(changes, "text", Infinity),
        "",
        "## How to go on",
        "",
        "Nothing is retried: a person decides. Mend the cause and run the same `pulumi up` again; it starts at this stage, what was",
        "built before it stays. On a stack under approval the decision is recorded first:",
        "",
        `    npm run approve -- -s ${failure.stack.split("/").at(-1)} --after-failure REASON`,
        "",
        `The whole log of a compile lies on the builder: target \`logs\` of assets/vllm/Dockerfile${domain === undefined ? "" : `, with --build-arg COMPILE_DOMAIN=${domain}`}.`,
        "",
    ].join("\n");
}

/** What differs between two sets of inputs, in words. Files are named where both contexts still lie on this machine. */
export function changedInputs(before: Inputs | undefined, after: Inputs): string[] {
    if (before === undefined) {
        return ["it was never built before in this stack"];
    }
    const lines: string[] = [];
    if (before.dockerfile?.inline !== after.dockerfile?.inline) {
        lines.push("its part of the Dockerfile");
    }
    for (const name of union(before.buildArgs, after.buildArgs)) {
        if (before.buildArgs?.[name] !== after.buildArgs?.[name]) {
            lines.push(`build argument ${name}: ${before.buildArgs?.[name] ?? "none"} → ${after.buildArgs?.[name] ?? "none"}`);
        }
    }
    lines.push(...changedContext("context", before.context?.location, after.context?.location));
    for (const name of union(before.context?.named, after.context?.named)) {
        lines.push(...changedContext(`context ${name}`, before.context?.named?.[name]?.location, after.context?.named?.[name]?.location));
    }
    return lines.length > 0 ? lines : ["nothing: the same inputs were built before"];
}

function changedContext(name: string, before: string | undefined, after: string | undefined): string[] {
    if (before === after) {
        return [];
    }
    const folders = [before, after].every((location) => location !== undefined && fs.existsSync(location));
    if (!folders || before === undefined || after === undefined) {
        return [`${name}: ${before ?? "none"} → ${after ?? "none"}`];
    }
    const [old, current] = [before, after].map((folder) => new Map(listFiles(folder, ".").map((file) => [file, hashFiles(folder, [file])])));
    return union(Object.fromEntries(old!), Object.fromEntries(current!))
        .filter((file) => old!.get(file) !== current!.get(file))
        .map((file) => `${name}: ${file} ${!old!.has(file) ? "added" : !current!.has(file) ? "removed" : "edited"}`);
}

/** Writes the report below the program and returns the file's path. */
export function writeReport(failure: Failure): string {
    const time = failure.time.toISOString().replace(/[:.]/g, "-");
    const file = path.join(".gh200", "failures", `${time}-${failure.resource}.md`);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, failureReport(failure));
    return file;
}

function union(a: object | undefined, b: object | undefined): string[] {
    return [...new Set([...Object.keys(a ?? {}), ...Object.keys(b ?? {})])].sort();
}
