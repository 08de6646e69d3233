import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { refuse } from "./errors";

/** Where materialised build contexts lie, relative to the Pulumi program. */
const contextsFolder = ".gh200/contexts";

/** Never part of a source tree that is built: version control, caches, and this program's own state. */
const ignoredNames = new Set([".git", "__pycache__", ".pytest_cache", ".DS_Store", ".gh200", ".sandbox", "node_modules"]);

/**
 * Copies files into a folder that is named by their content and returns that folder's path, relative
 * to the program.
 *
 * docker-build compares the paths of contexts as text and hashes file modes, so the same files under
 * another checkout, home or umask would rebuild everything; and when only a context's content
 * changed, its preview shows a digest that is known and wrong. A path that is a function of the
 * content alone cures both (docs/decisions/0002-content-addressed-contexts.md). The folder holds
 * copies only and may be deleted at any time.
 */
export function materialise(root: string, relativePaths: readonly string[]): string {
    const files = relativePaths.flatMap((entry) => listFiles(root, entry)).sort();
    const hash = hashFiles(root, files);
    const target = path.join(contextsFolder, hash);
    if (!fs.existsSync(target)) {
        const staging = `${target}.${process.pid}`;
        for (const file of files) {
            const copy = path.join(staging, file);
            fs.mkdirSync(path.dirname(copy), { recursive: true });
            fs.copyFileSync(path.join(root, file), copy);
            fs.chmodSync(copy, isExecutable(path.join(root, file)) ? 0o755 : 0o644);
        }
        fs.mkdirSync(staging, { recursive: true });
        normaliseFolders(staging);
        try {
            fs.renameSync(staging, target);
        } catch (error) {
            // Another run of the same program was first; its folder has the same content by name.
            fs.rmSync(staging, { recursive: true, force: true });
            if (!fs.existsSync(target)) {
                throw error;
            }
        }
    }
    return target;
}

/** Sixteen hex digits over names, executable bits and bytes: what a build can tell apart. */
export function hashFiles(root: string, files: readonly string[]): string {
    const hash = createHash("sha256");
    for (const file of files) {
        const full = path.join(root, file);
        hash.update(`${file}\0${isExecutable(full) ? "x" : "-"}\0`);
        hash.update(createHash("sha256").update(fs.readFileSync(full)).digest());
    }
    return hash.digest("hex").slice(0, 16);
}

/** All files under `root/entry`, as paths relative to `root`, without what is never built; of a checkout, what git does not ignore. */
export function listFiles(root: string, entry: string): string[] {
    const full = path.join(root, entry);
    if (fs.existsSync(path.join(full, ".git"))) {
        return checkoutFiles(full).map((file) => path.normalize(path.join(entry, file)));
    }
    if (!fs.statSync(full).isDirectory()) {
        return [path.normalize(entry)];
    }
    return fs
        .readdirSync(full)
        .filter((name) => !ignoredNames.has(name) && !name.endsWith(".pyc"))
        .flatMap((name) => listFiles(root, path.join(entry, name)))
        .map((file) => path.normalize(file));
}

/** Committed, changed and new files, submodules' too: a checkout that was built in holds gigabytes that no commit names. */
function checkoutFiles(folder: string): string[] {
    const list = (...args: string[]): string[] => {
        const { status, stdout } = spawnSync("git", ["-C", folder, "ls-files", "-z", ...args], { encoding: "utf8", maxBuffer: 2 ** 28 });
        if (status !== 0) {
            refuse([
                {
                    path: folder,
                    wrong: "has a .git that git cannot read",
                    accepted: "a checkout, or a folder without .git",
                    fix: `git -C ${folder} status says why`,
                },
            ]);
        }
        return stdout.split("\0");
    };
    return [...list("--cached", "--recurse-submodules"), ...list("--others", "--exclude-standard")].filter(
        (file) => file !== "" && fs.existsSync(path.join(folder, file)),
    );
}

function isExecutable(file: string): boolean {
    return (fs.statSync(file).mode & 0o100) !== 0;
}

function normaliseFolders(folder: string): void {
    fs.chmodSync(folder, 0o755);
    for (const entry of fs.readdirSync(folder, { withFileTypes: true })) {
        if (entry.isDirectory()) {
            normaliseFolders(path.join(folder, entry.name));
        }
    }
}
