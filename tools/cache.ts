import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { type Entry, folderOf } from "./catalogue";

/** Outside the checkout, so that a second clone on the same machine finds everything built. */
export function cacheRoot(): string {
    return path.resolve(process.env.GH200_CACHE ?? path.join(os.homedir(), ".cache", "gh200-vllm"));
}

/** Binaries that we built, by their real path: links into it are recognised by it. */
export function toolsFolder(): string {
    const folder = path.join(cacheRoot(), "tools");
    fs.mkdirSync(folder, { recursive: true });
    return fs.realpathSync(folder) + path.sep;
}

/** What a tool's folder says, whatever its place, file modes and times are. */
export function digestFolder(folder: string): string {
    const hash = createHash("sha256");
    const files = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((file) => file.isFile());
    const names = files.map((file) => path.relative(folder, path.join(file.parentPath, file.name))).sort();
    for (const name of names) {
        const content = fs.readFileSync(path.join(folder, name));
        hash.update(`${name}\0${content.length}\0`).update(content);
    }
    return hash.digest("hex");
}

/** Two recipes that could give different binaries have different keys. */
export function keyOf(
    recipe: { package: string; linkerFlags: readonly string[] },
    folderDigest: string,
    platform = `${process.platform}-${process.arch}`,
): string {
    return createHash("sha256")
        .update(JSON.stringify([recipe.package, recipe.linkerFlags, folderDigest, platform]))
        .digest("hex")
        .slice(0, 12);
}

const digests = new Map<string, string>();

/** Where the binary built from exactly this recipe is, or will be. */
export function builtPath(entry: Entry): string {
    const folder = folderOf(entry);
    const digest = digests.get(folder) ?? digestFolder(folder);
    digests.set(folder, digest);
    return path.join(cacheRoot(), "tools", `${entry.name}-${entry.version}-${keyOf(entry, digest)}`, entry.name);
}

/** A link that exists at every moment, and is never seen half made. */
export function link(target: string, at: string): void {
    try {
        if (fs.readlinkSync(at) === target) {
            return;
        }
    } catch {
        // Not there, or not a link.
    }
    fs.mkdirSync(path.dirname(at), { recursive: true });
    const made = `${at}.${process.pid}`;
    fs.rmSync(made, { force: true });
    fs.symlinkSync(target, made);
    fs.renameSync(made, at);
}
