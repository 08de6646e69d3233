import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";

/** Ends the revision of a source that no commit holds: it may be built and tried, and never gets a release name. */
export const dirtySuffix = "-dirty";

/**
 * What a folder that takes a repository's place is at: the commit of a git checkout, with `-dirty` where
 * files differ from it or are new; `local` for a folder that is no checkout of its own.
 */
export function localRevision(folder: string): string {
    if (!fs.existsSync(path.join(folder, ".git"))) {
        return "local";
    }
    const commit = git(folder, "rev-parse", "HEAD");
    return git(folder, "status", "--porcelain", "--ignore-submodules=none") === "" ? commit : `${commit}${dirtySuffix}`;
}

function git(folder: string, ...args: string[]): string {
    return execFileSync("git", ["-C", folder, ...args], { encoding: "utf8", stdio: ["ignore", "pipe", "pipe"] }).trim();
}
