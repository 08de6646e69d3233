import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { repositoryRoot } from "../support/stackFile";

/** `npm pack` of the components, from a copy of the checkout; the archive's path. */
export function packPackage(folder: string): string {
    const checkout = path.join(folder, "checkout");
    for (const entry of ["components", "assets", "tsconfig.json"]) {
        fs.cpSync(path.join(repositoryRoot, entry), path.join(checkout, entry), { recursive: true });
    }
    fs.symlinkSync(path.join(repositoryRoot, "node_modules"), path.join(checkout, "node_modules"));
    execFileSync("npm", ["pack", "--pack-destination", folder], { cwd: path.join(checkout, "components"), stdio: "pipe" });
    return path.join(folder, fs.readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "");
}

export const temporaryFolder = (): string => fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "gh200-package-")));

/** A program's folder with nothing in it but the packed package; its dependencies are this checkout's. */
export function installPackage(): { program: string; installed: string; remove: () => void } {
    const folder = temporaryFolder();
    const program = path.join(folder, "program");
    const installed = path.join(program, "node_modules", "@gh200", "gh200-vllm");
    const archive = packPackage(folder);
    fs.mkdirSync(installed, { recursive: true });
    execFileSync("tar", ["xzf", archive, "--strip-components=1", "-C", installed]);
    fs.symlinkSync(path.join(repositoryRoot, "node_modules"), path.join(folder, "node_modules"));
    return { program, installed, remove: () => fs.rmSync(folder, { recursive: true, force: true }) };
}
