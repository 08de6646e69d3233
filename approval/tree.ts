import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { sha256 } from "./hash";

/** Files by their path relative to a program's folder, each with what is to be known of it: its hash, and where it leads as a link. */
export type FileFacts = Record<string, string>;

/** What runs: the program, the commands and the pipelines. Documentation, tests, benchmarks and examples decide nothing. */
const programFolders = [
    ".ci",
    ".gitea",
    ".github",
    "approval",
    "ci",
    "components",
    "drift",
    "init",
    "nodecheck",
    "pins",
    "policy",
    "prune",
    "report",
    "sandbox",
    "status",
    "tools",
];

/** What `npm run test:package` makes, which nothing of the program loads, and what only a stack whose configuration names it builds. */
const notTheProgram = new Set(["components/bin", "components/assets", "sandbox/sources", "sandbox/wheelhouse"]);

/** Files that decide what runs, and which name others that do. `npm-shrinkwrap.json` comes before `package-lock.json` where it is there. */
const programFiles = ["index.ts", "Pulumi.yaml", "package.json", "package-lock.json", "npm-shrinkwrap.json", ".npmrc", "Jenkinsfile"];

/** Never part of a build's context (components/internal/contexts.ts), so that no image can tell. */
const neverBuilt = new Set([".git", "__pycache__", ".pytest_cache", ".DS_Store", ".gh200", ".sandbox", "node_modules"]);

/** All files of a program that decide what an update does. Nothing is loaded or run of it. */
export function programFacts(root: string): FileFacts {
    const facts: FileFacts = {};
    const named = new Set<string>();
    for (const file of [...programFiles, ...fs.readdirSync(root).filter((name) => /^tsconfig.*\.json$/.test(name))]) {
        if (isFile(path.join(root, file))) {
            follow(root, file, named);
        }
    }
    for (const entry of [...programFolders, ...named]) {
        Object.assign(
            facts,
            entryFacts(root, entry, (file) => notTheProgram.has(file)),
        );
    }
    return facts;
}

/** All files of a folder that is built: of a checkout, what git does not ignore. */
export function contextFacts(root: string, entry: string): FileFacts {
    const ignored = (file: string): boolean => neverBuilt.has(path.basename(file)) || file.endsWith(".pyc");
    const checkout = path.join(root, entry);
    if (!fs.existsSync(path.join(checkout, ".git"))) {
        return entryFacts(root, entry, ignored);
    }
    const listed = ["--cached --recurse-submodules", "--others --exclude-standard"].flatMap((flags) => gitFiles(checkout, flags.split(" ")));
    return Object.assign({}, ...listed.map((file) => entryFacts(root, path.join(entry, file), ignored))) as FileFacts;
}

function gitFiles(checkout: string, flags: string[]): string[] {
    const { stdout } = spawnSync("git", ["-C", checkout, "ls-files", "-z", ...flags], { encoding: "utf8", maxBuffer: 2 ** 28 });
    return (stdout ?? "").split("\0").filter((file) => file !== "" && fs.lstatSync(path.join(checkout, file), { throwIfNoEntry: false }) !== undefined);
}

/** A link is where it leads and what it leads to; a folder that was walked already is not walked again. */
function entryFacts(root: string, entry: string, ignored: (file: string) => boolean): FileFacts {
    const facts: FileFacts = {};
    const walked = new Set<string>();
    const walk = (file: string): void => {
        const full = path.resolve(root, file);
        const found = fs.lstatSync(full, { throwIfNoEntry: false });
        if (found === undefined || ignored(file)) {
            return;
        }
        if (found.isSymbolicLink()) {
            const to = `link to ${fs.readlinkSync(full)} `;
            const target = fs.statSync(full, { throwIfNoEntry: false });
            if (!target?.isDirectory()) {
                facts[file] = `${to}${target?.isFile() ? fileFact(full, target) : "nothing that can be read"}`;
                return;
            }
            facts[file] = to.trim();
        }
        if (fs.statSync(full).isDirectory()) {
            const real = fs.realpathSync(full);
            if (!walked.has(real)) {
                walked.add(real);
                fs.readdirSync(full).forEach((name) => walk(path.join(file, name)));
            }
        } else {
            facts[file] = found.isFile() ? fileFact(full, found) : "nothing that can be read";
        }
    };
    walk(path.normalize(entry));
    return facts;
}

function fileFact(file: string, { mode }: fs.Stats): string {
    return `${sha256(fs.readFileSync(file))}${(mode & 0o100) !== 0 ? " executable" : ""}`;
}

const isFile = (file: string): boolean => fs.statSync(file, { throwIfNoEntry: false })?.isFile() ?? false;

/** As Node.js and TypeScript complete a name. */
const endings = ["", ".json", ".js", ".cjs", ".mjs", ".ts"];

/**
 * A file and, of one that configures what runs, whatever it names: `main`, `extends`, `--require`, a plug-in's folder. Each word that is
 * the path of something is taken for a name: one file too many in the digest costs nothing, one too few lets a change of it through.
 */
function follow(root: string, file: string, into: Set<string>): void {
    if (into.has(file)) {
        return;
    }
    into.add(file);
    const folders = [path.dirname(file), ".", "node_modules"];
    for (const word of namesIn(path.basename(file), path.resolve(root, file))) {
        const candidates = folders.flatMap((folder) => endings.map((ending) => path.join(folder, word + ending)));
        candidates.filter((candidate) => isFile(path.join(root, candidate))).forEach((found) => follow(root, found, into));
        if (path.basename(file) === "Pulumi.yaml" && isOwnFolder(root, word)) {
            into.add(path.normalize(word));
        }
    }
}

/** The words of a file that configures what runs. A lock names packages and no files; of package.json, what is loaded by name. */
function namesIn(name: string, file: string): string[] {
    if (!/^(Pulumi\.yaml|\.npmrc|.*\.json)$/.test(name) || /^(package-lock|npm-shrinkwrap)\.json$/.test(name)) {
        return [];
    }
    const text = fs.readFileSync(file, "utf8");
    const words = (name === "package.json" ? loadedBy(text) : text).split(/[\s"'`,;=()[\]{}]+/).map((word) => word.replace(/^file:(\/\/)?/, ""));
    // A path from the root is another on each machine; what is loaded by it is seen where it is loaded (loaded.ts).
    return [...new Set(words)].filter((word) => word.length > 1 && !path.isAbsolute(word));
}

function loadedBy(text: string): string {
    try {
        const { main, module, exports, imports, bin } = JSON.parse(text) as Record<string, unknown>;
        return JSON.stringify([main, module, exports, imports, bin]);
    } catch {
        return "";
    }
}

function isOwnFolder(root: string, word: string): boolean {
    const folder = path.normalize(word);
    const own = folder !== "." && !folder.startsWith("..") && !folder.startsWith("node_modules");
    return own && (fs.statSync(path.join(root, folder), { throwIfNoEntry: false })?.isDirectory() ?? false);
}
