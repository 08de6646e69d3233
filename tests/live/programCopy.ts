import { execFileSync, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools } from "../../tools/toolchain";

const CHECKOUT = path.resolve(__dirname, "../..");
const PROGRAM = [
    "approval",
    "components",
    "assets",
    "sandbox/sources",
    "sandbox/wheelhouse",
    "tools/compileCache.cjs",
    "index.ts",
    "Pulumi.yaml",
    "Pulumi.gh200.yaml",
    "Pulumi.sandbox.yaml",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "tsconfig.pulumi.json",
];

export interface Answer {
    status: number | null;
    output: string;
}

/**
 * The program in a folder of its own, so that a test may edit it, with Pulumi's state wherever the test
 * says. It stands for another person's checkout too: nothing but its path differs.
 */
export class ProgramCopy {
    readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-program-"));

    constructor(
        private readonly env: NodeJS.ProcessEnv,
        private readonly checkout = CHECKOUT,
    ) {
        copyProgram(checkout, this.folder);
        fs.symlinkSync(path.join(CHECKOUT, "node_modules"), path.join(this.folder, "node_modules"));
    }

    /** Runs the CLI to its end; never throws for its answer. */
    async pulumi(args: string[], env: NodeJS.ProcessEnv = {}, input?: string): Promise<Answer> {
        return this.start(args, env, input).ended;
    }

    /** Starts the CLI in a process group of its own, for tests that kill it. */
    start(args: string[], env: NodeJS.ProcessEnv = {}, input?: string): { pid: number; ended: Promise<Answer>; seen: () => string } {
        const child = spawn(findTool("pulumi")?.path ?? "pulumi", [...args, "--non-interactive", "--color=never"], {
            cwd: this.folder,
            env: { ...this.env, ...env },
            stdio: "pipe",
            detached: true,
        });
        child.stdin.end(input);
        let output = "";
        child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
        child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
        const ended = new Promise<Answer>((resolve, reject) => {
            child.once("error", reject);
            child.once("close", (status) => resolve({ status, output }));
        });
        return { pid: child.pid ?? 0, ended, seen: () => output };
    }

    edit(file: string, change: (text: string) => string): void {
        const full = path.join(this.folder, file);
        const before = fs.readFileSync(full, "utf8");
        const after = change(before);
        if (after === before) {
            throw new Error(`${file}: the edit changed nothing`);
        }
        fs.writeFileSync(full, after);
    }

    restore(file: string): void {
        fs.copyFileSync(path.join(this.checkout, file), path.join(this.folder, file));
    }

    remove(): void {
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

export function copyProgram(from: string, to: string): void {
    for (const entry of PROGRAM) {
        fs.cpSync(path.join(from, entry), path.join(to, entry), { recursive: true });
    }
}

/** Pulumi with a local backend in a new folder: no daemon, builder, registry or cluster can be reached. */
export async function emptyBackend(): Promise<{ env: NodeJS.ProcessEnv; folder: string; remove: () => void }> {
    await ensureTools(pulumiTools);
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-state-"));
    const env = {
        ...(await pulumiEnvironment()),
        PULUMI_BACKEND_URL: `file://${folder}`,
        PULUMI_CONFIG_PASSPHRASE: "test",
        HOME: folder,
        DOCKER_HOST: "unix:///nowhere/docker.sock",
        KUBECONFIG: path.join(folder, "no-kubeconfig"),
    };
    return { env, folder, remove: () => fs.rmSync(folder, { recursive: true, force: true }) };
}

/** Names of the resources that a preview or update says it would change, by operation. */
export function plannedChanges(previewJson: string): Record<string, string[]> {
    const { steps = [] } = JSON.parse(previewJson) as { steps?: { op: string; urn: string }[] };
    const changes: Record<string, string[]> = {};
    for (const step of steps.filter(({ op }) => op !== "same")) {
        const name = step.urn.split("::").pop() ?? "";
        const type = step.urn.split("::")[2]?.split("$").pop() ?? "";
        (changes[step.op] ??= []).push(`${type.split(":").pop()} ${name}`);
    }
    return changes;
}

/** SIGKILL for a process and all that descends from it; Pulumi's plug-ins have process groups of their own. */
export function killTree(root: number): void {
    const children = new Map<number, number[]>();
    for (const line of execFileSync("ps", ["-eo", "pid=,ppid="], { encoding: "utf8" }).trim().split("\n")) {
        const [pid = 0, parent = 0] = line.trim().split(/\s+/).map(Number);
        children.set(parent, [...(children.get(parent) ?? []), pid]);
    }
    const tree = (pid: number): number[] => [pid, ...(children.get(pid) ?? []).flatMap(tree)];
    for (const pid of tree(root)) {
        try {
            process.kill(pid, "SIGKILL");
        } catch {
            // It ended with its parent.
        }
    }
}

export function processesUnder(folder: string): string[] {
    return execFileSync("ps", ["-eo", "pid,args"], { encoding: "utf8" })
        .split("\n")
        .filter((line) => line.includes(folder));
}
