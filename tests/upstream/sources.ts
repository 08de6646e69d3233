import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { defaultSources } from "../../components/stages/sources";

/** Source distributions by hash: of the releases that the stages are pinned to, and the one that carries FlashAttention's hopper folder. */
const sdists: Record<string, [name: string, version: string, sha256: string]> = {
    "src-vllm": ["vllm", "0.19.0", "81e59cf87175e7a62eb8d9acf5989484bbd17089d5eface353f89067bda282d9"],
    "src-flashinfer": ["flashinfer-python", "0.6.6", "0730ba7c7aad332961933bcebc5119762797161ede57d955f6fd199818ed1d92"],
    "src-lmcache": ["lmcache", "0.4.4", "edfd2fb6147a26e73092c8ffd34e852c1e1d96f3236457d8879c42944cffbd39"],
    "src-flash-attention": ["xformers", "0.0.34", "716bd9ffe61f46c2cc0536abf8b8c43ec594bea47a49394ea5cfa417e9de6a6f"],
};

/** Unpacks the release's own source distribution. */
export function sdist(source: string, folder: string): void {
    const { status, stderr } = spawnSync(path.join(__dirname, "sdist"), [...sdists[source]!, folder], { encoding: "utf8" });
    if (status !== 0) {
        throw new Error(stderr.trim());
    }
}

/**
 * Checks the source out at its pin, with the submodules that are named. False, and nothing there, where a
 * repository cannot be reached; git's own `url.….insteadOf` leads to a mirror.
 */
export function checkedOut(source: string, folder: string, submodules: string[] = []): boolean {
    const { repository, commit } = defaultSources[source]!;
    const whole = commit !== undefined && fetched(repository, commit, folder) && submodules.every((at) => submodule(repository, folder, at));
    if (!whole) {
        fs.rmSync(folder, { recursive: true, force: true });
    }
    return whole;
}

function fetched(repository: string, commit: string, folder: string): boolean {
    fs.mkdirSync(folder, { recursive: true });
    const git = (...args: string[]) => spawnSync("git", args, { cwd: folder, env: { ...process.env, GIT_TERMINAL_PROMPT: "0" } }).status === 0;
    return git("init", "--quiet") && git("fetch", "--quiet", "--depth=1", repository, commit) && git("checkout", "--quiet", "FETCH_HEAD");
}

function submodule(parent: string, folder: string, at: string): boolean {
    const read = (...args: string[]) => spawnSync("git", args, { cwd: folder, encoding: "utf8" }).stdout.trim();
    const commit = /^160000 commit ([0-9a-f]{40})/.exec(read("ls-tree", "HEAD", at))?.[1];
    const url = read("config", "--file", ".gitmodules", `submodule.${at}.url`);
    return commit !== undefined && fetched(new URL(url, `${parent}/`).href, commit, path.join(folder, at));
}
