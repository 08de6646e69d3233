import * as fs from "node:fs";
import * as path from "node:path";
import { Problem } from "./report";

/** The first `major.minor.patch` in a tool's answer, without `v`, pre-release or build metadata. */
export function parseVersion(answer: string): string | undefined {
    return /(?<![\d.])v?(\d+\.\d+\.\d+)(?![\d.])/.exec(answer)?.[1];
}

export function atLeast(version: string, minimum: string): boolean {
    const parts = (text: string): number[] => text.split(".").map(Number);
    const [have, want] = [parts(version), parts(minimum)];
    for (const [index, wanted] of want.entries()) {
        const had = have[index] ?? 0;
        if (had !== wanted) {
            return had > wanted;
        }
    }
    return true;
}

/** go.mod is the one place that pins a tool's version. */
export function pinnedVersion(goMod: string, module: string): string {
    const required = goMod.split("\n").find((line) =>
        line
            .replace(/^require /, "")
            .trim()
            .startsWith(`${module} v`),
    );
    const version = required === undefined ? undefined : parseVersion(required.slice(required.indexOf(module) + module.length));
    if (version === undefined) {
        throw new Problem(`go.mod: ${module}: is not required; run \`go get ${module}@VERSION\` in that folder`);
    }
    return version;
}

/** The newest Go that any of the tools asks for. */
export function requiredGo(folders: readonly string[]): string {
    const asked = folders.map((folder) => parseVersion(/^go (.*)$/m.exec(fs.readFileSync(path.join(folder, "go.mod"), "utf8"))?.[1] ?? "") ?? "0.0.0");
    return asked.reduce((newest, version) => (atLeast(version, newest) ? version : newest), "0.0.0");
}
