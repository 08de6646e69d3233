import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { parseArgs } from "node:util";
import { parse } from "yaml";
import { platformDigest } from "../components/image/registryClient";
import { problemLine } from "../components/internal/errors";
import { zodProblems } from "../components/internal/resolve";
import { imageSchema, type SettledPlatform, sourcesSchema } from "../components/platform/cmmPlatformArgs";
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
    // Nothing of the file is handed to git or asked of a registry before all of it is what the schemas accept.
    const read = { sources: config[`${project}:sources`] ?? {}, image: config[`${project}:image`] ?? {} };
    const [given, image] = [sourcesSchema.safeParse(read.sources), imageSchema.safeParse(read.image)];
    const problems = [...zodProblems(`${project}:sources`, given.error, read.sources), ...zodProblems(`${project}:image`, image.error, read.image)];
    if (problems.length > 0) {
        throw new Problem(problems.map(problemLine).join("\n"));
    }
    const sources = resolveSources(given.data);
    const findings = [
        await findBase(image.data!.base, (config[`${project}:builder`]?.platform as string | undefined) ?? "linux/arm64"),
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
    console.log(
        spawnSync("git", ["diff", "--no-index", "--no-ext-diff", "--no-prefix", "--no-color", "--", `a/${file}`, `b/${file}`], {
            cwd: folder,
            encoding: "utf8",
        }).stdout,
    );
    fs.rmSync(folder, { recursive: true, force: true });
    if (write) {
        fs.writeFileSync(file, after);
    }
    console.log(write ? `${file} is changed: review it with git diff` : `nothing is changed: npm run pins -- --write`);
}
