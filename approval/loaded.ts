import * as fs from "node:fs";
import * as path from "node:path";
import type { Problem } from "../components/internal/errors";
import { lockedPackages, neededPackages } from "./packages";

/** What this process runs, beside what the digest covers. */
export interface Loaded {
    /** Modules that were loaded, by their absolute path. */
    modules: string[];
    /** Node.js's options, of the command line and of NODE_OPTIONS. */
    options: string[];
}

export function loadedHere(): Loaded {
    return { modules: Object.keys(require.cache), options: [...process.execArgv, ...(process.env.NODE_OPTIONS ?? "").split(/\s+/)] };
}

/** Options that load a file in a way that leaves it out of the loaded modules. */
const loader = /^--(?:import|loader|experimental-loader)(?:=(.*))?$/;

/**
 * Code that runs here and that no approval covers: a module beside the program and its packages, of NODE_OPTIONS or of a parent folder for
 * instance.
 *
 * @param covered files of the program, relative to `root`.
 */
export function uncoveredProblems(root: string, covered: readonly string[], { modules, options }: Loaded): Problem[] {
    const real = (file: string): string => (fs.existsSync(file) ? fs.realpathSync(file) : path.resolve(root, file));
    const files = new Set(covered.map((file) => real(path.resolve(root, file))));
    const folders = [...neededPackages(lockedPackages(root))].map((name) => `${real(path.join(root, name))}${path.sep}`);
    // A package's file belongs to the nearest package: a test tool may lie within a folder of one that is needed.
    const packageOf = (file: string): string => /^.*\/node_modules\/(?:@[^/]+\/)?[^/]+\//.exec(file)?.[0] ?? "";
    const isCovered = (file: string): boolean => files.has(real(file)) || folders.includes(packageOf(real(file)));
    const imported = options.flatMap((option, index) => {
        const [, value] = loader.exec(option) ?? [undefined, undefined];
        return loader.test(option) ? [value ?? options[index + 1] ?? ""] : [];
    });
    return [...new Set([...modules, ...imported.map((file) => path.resolve(root, file))])]
        .filter((file) => !isCovered(file))
        .map((file) => ({
            path: "approval",
            value: file,
            wrong: "runs in this update and is not part of what is approved",
            accepted: "files of the program and packages of package-lock.json",
            fix: "unset NODE_OPTIONS and NODE_PATH, or move it into the program",
        }));
}
