import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { posix } from "node:path";
import dockerignore from "@balena/dockerignore";
import { type Problem, refuse } from "./errors";

/** Where materialised build contexts lie, relative to the Pulumi program. */
export const contextsFolder = ".gh200/contexts";

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
 *
 * @param dockerfile whose own ignore file comes before the context's.
 * @throws UserError where a path is not there, or only outside the context.
 */
export function materialise(root: string, relativePaths: readonly string[], dockerfile?: string): string {
    const files = contextFiles(root, relativePaths, ignoreRules(root, dockerfile));
    const hash = hashFiles(root, files);
    const target = path.join(contextsFolder, hash);
    if (!holds(target, files, hash)) {
        fs.rmSync(target, { recursive: true, force: true });
        const staging = `${target}.${process.pid}`;
        fs.mkdirSync(staging, { recursive: true });
        files.forEach((file) => copy(path.join(root, file), path.join(staging, file)));
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

/** Whether a folder has these files and no others: its name alone is what anybody can write. */
function holds(folder: string, files: readonly string[], hash: string): boolean {
    if (fs.lstatSync(folder, { throwIfNoEntry: false })?.isDirectory() !== true) {
        return false;
    }
    const expected = new Set(files.map((file) => path.normalize(file)));
    const found = fs.readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) => !entry.isDirectory());
    const only = found.every((entry) => expected.has(path.relative(folder, path.join(entry.parentPath, entry.name))));
    return only && files.every((file) => fs.lstatSync(path.join(folder, file), { throwIfNoEntry: false }) !== undefined) && hashFiles(folder, files) === hash;
}

function copy(from: string, to: string): void {
    const found = fs.lstatSync(from);
    fs.mkdirSync(found.isDirectory() ? to : path.dirname(to), { recursive: true });
    if (found.isSymbolicLink()) {
        fs.symlinkSync(fs.readlinkSync(from), to);
    } else if (found.isFile()) {
        fs.copyFileSync(from, to);
        fs.chmodSync(to, isExecutable(from) ? 0o755 : 0o644);
    } else if (!found.isDirectory()) {
        refuse([{ path: from, wrong: "is neither a file, a folder nor a link", accepted: "a context of those alone" }]);
    }
}

/** Sixteen hex digits over names, executable bits, bytes and where links lead: what a build can tell apart. */
export function hashFiles(root: string, files: readonly string[]): string {
    const hash = createHash("sha256");
    for (const file of files) {
        const full = path.join(root, file);
        const found = fs.lstatSync(full);
        hash.update(`${file}\0${found.isSymbolicLink() ? "l" : isExecutable(full) ? "x" : "-"}\0`);
        hash.update(createHash("sha256").update(bytes(full, found)).digest());
    }
    return hash.digest("hex").slice(0, 16);
}

function bytes(file: string, found: fs.Stats): string | Buffer {
    return found.isSymbolicLink() ? fs.readlinkSync(file) : found.isFile() ? fs.readFileSync(file) : "";
}

/**
 * All files and links under `root/entry`, and folders that are empty, as paths relative to `root`; without what is never built. Of a
 * checkout, what git does not ignore. A link is itself and never what it leads to.
 */
export function listFiles(root: string, entry: string): string[] {
    const full = path.join(root, entry);
    // The root may be a link itself: somebody named it.
    if (!(entry === "." ? fs.statSync(full) : fs.lstatSync(full)).isDirectory()) {
        return [path.normalize(entry)];
    }
    if (fs.existsSync(path.join(full, ".git"))) {
        return checkoutFiles(full).flatMap((file) => (file.endsWith("/") ? listFiles(root, path.join(entry, file)) : [path.normalize(path.join(entry, file))]));
    }
    const names = fs.readdirSync(full);
    return names.length === 0 && entry !== "."
        ? [`${path.normalize(entry)}/`]
        : names
              .filter((name) => !ignoredNames.has(name) && !name.endsWith(".pyc"))
              .flatMap((name) => listFiles(root, path.join(entry, name)))
              .map((file) => path.normalize(file));
}

/**
 * What BuildKit sends of a context for the paths that a build reads: a link on the way is sent and followed, within the context alone
 * as if it were the root; what the ignore file names is not there.
 */
function contextFiles(root: string, entries: readonly string[], ignored: (file: string) => boolean): string[] {
    const files = new Set<string>();
    const folders = new Set<string>();
    for (const entry of entries.flatMap((path) => matching(root, path))) {
        const { links, target } = followed(root, entry);
        const found = [...links, ...listFiles(root, target)];
        found.filter((file) => !ignored(file)).forEach((file) => files.add(file));
        // A folder whose files are all left out is a folder of the context still.
        found
            .filter(ignored)
            .flatMap((file) => foldersOf(file, target))
            .filter((folder) => !ignored(folder))
            .forEach((folder) => folders.add(folder));
        if (target !== "." && ignored(target) && ![...files].some((file) => file === target || file.startsWith(`${target}/`))) {
            refuse([{ path: path.join(root, entry), wrong: "is left out by the ignore file, and the Dockerfile reads it", accepted: "a file of the context" }]);
        }
    }
    refuse(leavingProblems(root, files));
    const empty = [...folders].filter((folder) => ![...files, ...folders].some((other) => other !== folder && other.startsWith(`${folder}/`)));
    return [...files, ...empty.map((folder) => `${folder}/`)].sort();
}

/** The folders that a file lies in, up to `top`. */
function foldersOf(file: string, top: string): string[] {
    const folder = path.dirname(file.replace(/\/$/, ""));
    if (folder === ".") {
        return [];
    }
    return folder === top ? [folder] : [folder, ...foldersOf(folder, top)];
}

/** The files that a pattern of COPY names, in Go's filepath.Match as ignore files have it; any other path is itself. */
function matching(root: string, path: string): string[] {
    const [, folder = ".", pattern] = /^(?:([^*?[]*)\/)?([^/]*[*?[].*)$/.exec(path) ?? [];
    if (pattern === undefined) {
        return [path];
    }
    const named = dockerignore({ ignorecase: false }).add([path]);
    const { target } = followed(root, folder);
    return listFiles(root, target)
        .map((file) => posix.join(folder, posix.relative(target, file.replace(/\/$/, ""))))
        .filter((file) => named.ignores(file));
}

/** The links that lead to `entry`, itself one or not, and the path that they lead to, relative to `root`. */
function followed(root: string, entry: string): { links: string[]; target: string } {
    const links: string[] = [];
    let [at, rest] = [".", path.normalize(entry).split("/")];
    while (rest.length > 0) {
        const [name = ".", ...others] = rest;
        const next = path.join("/", at, name).slice(1) || ".";
        const found = fs.lstatSync(path.join(root, next), { throwIfNoEntry: false });
        if (found === undefined || links.length > 40) {
            const wrong = links.length > 0 ? `is a link that leads to ${next}, which is not there` : "does not exist, and the Dockerfile reads it";
            refuse([{ path: path.join(root, entry), wrong, accepted: "a file or folder of the context" }]);
        }
        if (found!.isSymbolicLink()) {
            refuse(leavingProblems(root, [next]));
            links.push(next);
            const leads = fs.readlinkSync(path.join(root, next));
            [at, rest] = [path.isAbsolute(leads) ? "." : at, [...leads.split("/").filter((part) => part !== ""), ...others]];
        } else {
            [at, rest] = [next, others];
        }
    }
    return { links, target: at };
}

/** Links that lead out of their context: BuildKit would send them as they are, and nobody who reads the context sees what they mean elsewhere. */
function leavingProblems(root: string, files: Iterable<string>): Problem[] {
    return [...files]
        .filter((file) => readLink(path.join(root, file)) !== undefined && leaves(root, file))
        .map((file) => ({
            path: path.join(root, file),
            value: fs.readlinkSync(path.join(root, file)),
            wrong: "is a link that leaves its context",
            accepted: "a link within it",
            fix: "put the file itself there, or name the link in .dockerignore",
        }));
}

/** Whether a link, or one that it leads over, is by a whole path or goes up from the context's own folder. What is not there goes nowhere. */
function leaves(root: string, link: string): boolean {
    let [at, rest] = [".", link.split("/")];
    for (let links = 0; rest.length > 0 && links <= 40;) {
        const [name = ".", ...others] = rest;
        if (name === ".." && at === ".") {
            return true;
        }
        const next = path.join(at, name);
        const leads = readLink(path.join(root, next));
        if (leads === undefined) {
            [at, rest] = [next, others];
        } else if (path.isAbsolute(leads)) {
            return true;
        } else {
            links += 1;
            rest = [...leads.split("/").filter((part) => part !== ""), ...others];
        }
    }
    return false;
}

/** Where a link leads; undefined of what is none. */
function readLink(file: string): string | undefined {
    return fs.lstatSync(file, { throwIfNoEntry: false })?.isSymbolicLink() === true ? fs.readlinkSync(file) : undefined;
}

/**
 * What an ignore file leaves out of a context, by Docker's rules: `.dockerignore` of the context, or the one beside the Dockerfile that is
 * named after it, which comes first (docs.docker.com/build/concepts/context, filename and location).
 */
function ignoreRules(root: string, dockerfile?: string): (file: string) => boolean {
    const own = dockerfile === undefined ? undefined : `${dockerfile}.dockerignore`;
    const shared = path.join(root, ".dockerignore");
    const file = [own, shared].find((candidate) => candidate !== undefined && fs.existsSync(candidate));
    if (file === undefined) {
        return () => false;
    }
    const rules = dockerignore({ ignorecase: false }).add(fs.readFileSync(file, "utf8").replace(/^\uFEFF/, ""));
    if (file === own && fs.existsSync(shared) && !rules.ignores(".dockerignore")) {
        // BuildKit would read it in the copied context, whose Dockerfile has no file beside it.
        refuse([{ path: shared, wrong: `would be applied on top of ${own}`, accepted: "one of the two", fix: `remove it, or name .dockerignore in ${own}` }]);
    }
    return (candidate) => rules.ignores(candidate.replace(/\/$/, ""));
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
    const whole = fs.realpathSync(folder);
    // What was committed in a folder that is a link by now is gone, as git sees it too.
    const inPlace = memoised((parent) => fs.realpathSync(path.join(folder, parent)) === path.join(whole, parent));
    const exists = (file: string): boolean =>
        file !== "" && fs.lstatSync(path.join(folder, file), { throwIfNoEntry: false }) !== undefined && inPlace(path.dirname(file));
    const isFolder = (file: string): boolean => fs.lstatSync(path.join(folder, file)).isDirectory();
    const committed = list("--cached", "--recurse-submodules").filter(exists);
    refuse(
        committed.filter(isFolder).map((file) => ({
            path: path.join(folder, file),
            wrong: "is a submodule that is not checked out",
            accepted: "a checkout with its submodules",
            fix: `git -C ${folder} submodule update --init --recursive`,
        })),
    );
    // A repository within that is no submodule ends with a slash.
    return [...committed, ...list("--others", "--exclude-standard").filter(exists)];
}

function memoised<T>(compute: (key: string) => T): (key: string) => T {
    const known = new Map<string, T>();
    return (key) => {
        const value = known.get(key) ?? compute(key);
        known.set(key, value);
        return value;
    };
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
