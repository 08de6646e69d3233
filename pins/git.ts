import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { promisify } from "node:util";
import { acceptedGitAddress, isGitAddress, isGitRef } from "../components/rules/gitAddress";

const FULL = /^[0-9a-f]{40}$/;

/** What a repository says a branch or tag is now. */
export interface ResolvedRef {
    readonly kind: "commit" | "tag" | "branch";
    readonly commit: string;
}

/** Asks the repository itself; an annotated tag gives the commit that it names. */
export async function resolveRef(repository: string, ref: string): Promise<ResolvedRef> {
    requireAddress(repository);
    if (!isGitRef(ref)) {
        throw new Error("is no branch or tag; accepted: its name alone");
    }
    if (FULL.test(ref)) {
        return { kind: "commit", commit: ref };
    }
    const listing = await git(["ls-remote", "--", repository, `refs/heads/${ref}`, `refs/tags/${ref}`, `refs/tags/${ref}^{}`]);
    const found = new Map(
        listing
            .split("\n")
            .filter((line) => /^[0-9a-f]{40}\t/.test(line))
            .map((line) => line.split("\t").reverse() as [string, string]),
    );
    const tag = found.get(`refs/tags/${ref}^{}`) ?? found.get(`refs/tags/${ref}`);
    const branch = found.get(`refs/heads/${ref}`);
    if (tag !== undefined && branch !== undefined) {
        throw new Error(`${ref} is a tag and a branch; accepted: a ref that is one of them`);
    }
    const commit = tag ?? branch;
    if (commit === undefined) {
        throw new Error(`has no branch or tag ${ref}`);
    }
    return { kind: tag !== undefined ? "tag" : "branch", commit };
}

/** Whether `ancestor`, which may be shortened, is in the history of `commit`. Only commits are fetched, no files. */
export async function isAncestor(repository: string, ancestor: string, commit: string): Promise<boolean> {
    requireAddress(repository);
    if (![ancestor, commit].every((text) => /^[0-9a-f]{7,40}$/.test(text))) {
        throw new Error("is no commit; accepted: 7 to 40 hex digits");
    }
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-pins-"));
    try {
        await git(["init", "--quiet", "--bare", "--", folder]);
        await git(["-C", folder, "fetch", "--quiet", "--filter=tree:0", "--", repository, commit]);
        const full = await git(["-C", folder, "rev-parse", "--verify", "--quiet", `${ancestor}^{commit}`]).catch(() => "");
        if (full === "") {
            return false;
        }
        return await git(["-C", folder, "merge-base", "--is-ancestor", full.trim(), commit]).then(
            () => true,
            () => false,
        );
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
}

function requireAddress(repository: string): void {
    if (!isGitAddress(repository)) {
        throw new Error(`is no git address; accepted: ${acceptedGitAddress}`);
    }
}

/** git as the person has it: their credential helpers and mirrors count, and it never asks at the terminal. */
async function git(args: string[]): Promise<string> {
    try {
        const env = { ...process.env, GIT_TERMINAL_PROMPT: "0" };
        return (await promisify(execFile)("git", args, { env, timeout: 600_000, maxBuffer: 2 ** 26 })).stdout;
    } catch (error) {
        const { stderr = "", killed } = error as { stderr?: string; killed?: boolean };
        throw new Error(killed ? "git did not answer within 10 minutes" : (stderr.trim().split("\n").at(-1) ?? "").replace(/^fatal: /, "") || "git failed");
    }
}
