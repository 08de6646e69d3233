import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";

/** An entry of package-lock.json, as npm documents it (docs.npmjs.com/cli/configuring-npm/package-lock-json). */
interface Locked {
    link?: boolean;
    dependencies?: Record<string, string>;
    optionalDependencies?: Record<string, string>;
    peerDependencies?: Record<string, string>;
    peerDependenciesMeta?: Record<string, unknown>;
}

/** Types, maps and prose: nothing of them is run. Their names count, because a name decides which file is found. */
const notRun = /\.(d\.[cm]?ts|map|md)$/;

/**
 * Hash over the installed packages that the program may load: those of package-lock.json that it depends on, by their own word, and
 * whatever else lies between them, since Node.js takes the nearest of a name. Test tools are left out; loaded.ts sees to it that they stay out.
 */
export function installedPackages(root: string): string {
    const lock = lockedPackages(root);
    const wanted = neededPackages(lock);
    const hash = createHash("sha256");
    const strangers = packageFolders(root, ["", ...wanted]).filter((name) => lock[name] === undefined);
    for (const name of [...wanted, ...strangers].sort()) {
        hash.update(`${name}\0`);
        hashFolder(path.join(root, name), hash, wanted.has(name));
    }
    return hash.digest("hex");
}

export function lockedPackages(root: string): Record<string, Locked> {
    const file = ["npm-shrinkwrap.json", "package-lock.json"].map((name) => path.join(root, name)).find(fs.existsSync);
    return file === undefined ? {} : (JSON.parse(fs.readFileSync(file, "utf8")) as { packages: Record<string, Locked> }).packages;
}

/** The folders of what the program and its components depend on, in turn; optional peers too, which are loaded where they are there. */
export function neededPackages(lock: Record<string, Locked>): Set<string> {
    const needed = new Set<string>();
    const visit = (from: string): void => {
        const { dependencies, optionalDependencies, peerDependencies, peerDependenciesMeta } = lock[from] ?? {};
        for (const name of Object.keys({ ...dependencies, ...optionalDependencies, ...peerDependencies, ...peerDependenciesMeta })) {
            const found = resolved(lock, from, name);
            if (found !== undefined && !needed.has(found)) {
                needed.add(found);
                visit(found);
            }
        }
    };
    ["", ...Object.keys(lock).filter((name) => name !== "" && !name.includes("node_modules"))].forEach(visit);
    return new Set([...needed].filter((name) => lock[name]?.link !== true));
}

/** Where Node.js finds a package of that name from that folder: the nearest. */
function resolved(lock: Record<string, Locked>, from: string, name: string): string | undefined {
    for (let folder = from; ; folder = folder.includes("/") ? path.dirname(folder) : "") {
        const candidate = path.join(folder, "node_modules", name);
        if (lock[candidate] !== undefined) {
            return candidate;
        }
        if (folder === "") {
            return undefined;
        }
    }
}

/** What lies in node_modules of each of these packages, by package. */
function packageFolders(root: string, packages: string[]): string[] {
    const inModules = packages.flatMap((name) => packagesIn(root, path.join(name, "node_modules")));
    return inModules.flatMap((name) => (path.basename(name).startsWith("@") ? packagesIn(root, name) : [name]));
}

/** Files count like folders: `require("x")` finds node_modules/x.js too. */
function packagesIn(root: string, folder: string): string[] {
    const full = path.join(root, folder);
    const names = fs.existsSync(full) && fs.statSync(full).isDirectory() ? fs.readdirSync(full) : [];
    return names.filter((name) => !name.startsWith(".")).map((name) => path.join(folder, name));
}

/** A package's own node_modules holds packages, each hashed as one; one that lies deeper is the package's. */
function hashFolder(folder: string, hash: ReturnType<typeof createHash>, isPackage = true): void {
    const found = fs.statSync(folder, { throwIfNoEntry: false });
    if (found?.isDirectory()) {
        const names = fs.readdirSync(folder).filter((name) => !(isPackage && name === "node_modules"));
        for (const name of names.sort()) {
            hash.update(`${name}\0`);
            hashFolder(path.join(folder, name), hash, false);
        }
    } else if (found?.isFile() && !notRun.test(folder)) {
        hash.update(createHash("sha256").update(fs.readFileSync(folder)).digest());
    }
}
