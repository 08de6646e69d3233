import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import { platformDigest } from "../components/image/registryClient";
import type { SettledPlatform, SourceArgs } from "../components/platform/cmmPlatformArgs";
import { resolveSources } from "../components/platform/openPoints";
import { defaultSources } from "../components/stages/sources";
import { main, Problem } from "../tools/report";
import { type Finding, findingLine, findSource } from "./plan";
import { withPins } from "./stackFile";

/*
 * `npm run pins [-- --stack NAME] [--follow SOURCE ...] [--write]`: resolves every ref of a stack's sources to a full commit and its
 * base image to a digest, and shows the change of the stack file; with --write it makes it. Ends with 1 while anything is open.
 */
main(async () => {
    const { values } = parseArgs({
        options: {
            stack: { type: "string", default: "gh200" },
            follow: { type: "string", multiple: true, default: [] },
            write: { type: "boolean", default: false },
        },
    });
    const file = `Pulumi.${values.stack}.yaml`;
    if (!fs.existsSync(file)) {
        throw new Problem(`--stack: ${values.stack}: has no file ${file}; accepted: the name of a stack whose file is here`);
    }
    const unknown = values.follow.filter((name) => defaultSources[name] === undefined);
    if (unknown.length > 0) {
        throw new Problem(`--follow: ${unknown.join(", ")}: is no source; accepted: ${Object.keys(defaultSources).join(", ")}`);
    }
    const text = fs.readFileSync(file, "utf8");
    const project = (parse(fs.readFileSync("Pulumi.yaml", "utf8")) as { name: string }).name;
    const config = (parse(text) as { config: Record<string, Record<string, unknown>> }).config;
    const sources = resolveSources(config[`${project}:sources`] as Record<string, SourceArgs>);
    const findings = [
        await findBase(
            config[`${project}:image`]?.base as SettledPlatform["image"]["base"],
            (config[`${project}:builder`]?.platform as string | undefined) ?? "linux/arm64",
        ),
        ...(await Promise.all(Object.entries(sources).map(([name, source]) => findSource(name, source, values.follow.includes(name))))),
    ];
    findings.forEach((finding) => console.log(findingLine(finding)));
    showChange(file, text, withPins(text, project, findings), values.write);
    return findings.some(({ open }) => open) ? 1 : 0;
});

async function findBase(base: SettledPlatform["image"]["base"], platform: string): Promise<Finding> {
    const finding = { name: "image.base", asked: `${base.name} (${platform})` };
    try {
        const digest = await platformDigest(base.name, platform);
        return digest === base.digest
            ? { ...finding, says: `is pinned to ${digest}`, open: false }
            : { ...finding, pin: digest, says: `${base.digest === undefined ? "" : `was pinned to ${base.digest}; `}the tag names ${digest}`, open: false };
    } catch (error) {
        const { message, cause } = error as Error;
        return { ...finding, says: `unresolved: ${cause instanceof Error ? cause.message : message}`, open: base.digest === undefined };
    }
}

function showChange(file: string, before: string, after: string, write: boolean): void {
    if (before === after) {
        console.log(`${file} stays as it is`);
        return;
    }
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-pins-"));
    for (const [side, text] of Object.entries({ a: before, b: after })) {
        fs.mkdirSync(path.join(folder, side));
        fs.writeFileSync(path.join(folder, side, file), text);
    }
    console.log(spawnSync("git", ["diff", "--no-index", "--no-prefix", "--no-color", `a/${file}`, `b/${file}`], { cwd: folder, encoding: "utf8" }).stdout);
    fs.rmSync(folder, { recursive: true, force: true });
    if (write) {
        fs.writeFileSync(file, after);
    }
    console.log(write ? `${file} is changed: review it with git diff` : `nothing is changed: npm run pins -- --write`);
}
