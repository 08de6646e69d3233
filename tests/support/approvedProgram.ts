import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { recordFile, signersFile } from "../../approval/record";
import { cacheRoot } from "../../tools/cache";
import { type Answer, ProgramCopy } from "../live/programCopy";
import { repositoryRoot } from "./stackFile";

/** The gate of the program, with one resource in the platform's place that fails on demand: a build of hours takes no time. */
const PROGRAM = `
import * as fs from "node:fs";
import * as pulumi from "@pulumi/pulumi";
import { stackChange } from "./approval/stackChange";
import { loadConfig } from "./components/config/load";

export = async () => {
    const change = await stackChange(loadConfig());
    const build = new pulumi.ResourceHook("build", () => {
        if (fs.existsSync("fail")) {
            throw new Error("the build failed");
        }
    });
    const source = fs.readFileSync("assets/vllm/managed_alloc.cu", "utf8");
    const platform = new pulumi.Stash("platform", { input: source.length }, { dependsOn: change.first, hooks: { beforeCreate: [build], beforeUpdate: [build] } });
    const deployRef = fs.existsSync("deployRef") ? fs.readFileSync("deployRef", "utf8") : "";
    change.complete(platform, { deployRef: platform.output.apply(() => deployRef), images: {} });
};
`;

interface Backend {
    env: NodeJS.ProcessEnv;
    folder: string;
}

/** A copy of the program under approval, with the real engine, state, hooks and ssh-keygen. */
export class ApprovedProgram {
    readonly copy: ProgramCopy;

    constructor(private readonly backend: Backend) {
        this.copy = new ProgramCopy(backend.env);
        for (const folder of ["tools", "policy", "ci", "status"]) {
            fs.cpSync(path.join(repositoryRoot, folder), this.file(folder), { recursive: true });
        }
        fs.writeFileSync(this.file("index.ts"), PROGRAM);
        fs.mkdirSync(this.file("approvals"), { recursive: true });
        this.allow({ mike: this.newKey("approver") });
        this.newKey("stranger");
    }

    file(name: string): string {
        return path.join(this.copy.folder, name);
    }

    newKey(name: string): string {
        execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", name, "-f", this.file(name)]);
        return fs.readFileSync(this.file(`${name}.pub`), "utf8").trim();
    }

    allow(keys: Record<string, string>): void {
        const lines = Object.entries(keys).map(([who, key]) => `${who} ${key}\n`);
        fs.writeFileSync(this.file(signersFile), lines.join(""));
    }

    preview(env: NodeJS.ProcessEnv = {}): Promise<Answer> {
        return this.copy.pulumi(["preview", "--stack", "gh200"], env);
    }

    up(env: NodeJS.ProcessEnv = {}, ...args: string[]): Promise<Answer> {
        return this.copy.pulumi(["up", "--yes", "--skip-preview", "--stack", "gh200", ...args], env);
    }

    destroy(...args: string[]): Promise<Answer> {
        return this.copy.pulumi(["destroy", ...args, "--yes", "--skip-preview", "--stack", "gh200"]);
    }

    /** `npm run approve` as a person runs it, who has read the digest. */
    approve(change: string, ...args: string[]): Answer {
        return this.command(["approval/approve.ts", "-s", "gh200", "--key", this.file("approver"), "--change", change, ...args]);
    }

    /** `npm run approved`. */
    approved(...args: string[]): Answer {
        return this.command(["approval/check.ts", "-s", "gh200", ...args]);
    }

    private command(args: string[]): Answer {
        const { status, stdout, stderr } = spawnSync(this.file("node_modules/.bin/tsx"), args, {
            cwd: this.copy.folder,
            // The tools of this machine are found by its own home, which the program is not given.
            env: { ...this.backend.env, GH200_CACHE: cacheRoot() },
            encoding: "utf8",
        });
        return { status, output: stdout + stderr };
    }

    get record(): Record<string, unknown> {
        return JSON.parse(fs.readFileSync(this.file(recordFile("gh200")), "utf8")) as Record<string, unknown>;
    }

    set record(value: unknown) {
        fs.writeFileSync(this.file(recordFile("gh200")), JSON.stringify(value));
    }

    /** What the stack's state says of the ledger and of the platform. */
    state(): string {
        const text = fs.readFileSync(path.join(this.backend.folder, ".pulumi", "stacks", "gh200-vllm", "gh200.json"), "utf8");
        const { checkpoint } = JSON.parse(text) as { checkpoint: { latest?: { resources?: { urn: string; outputs: unknown }[] } } };
        return JSON.stringify((checkpoint.latest?.resources ?? []).filter(({ urn }) => urn.includes("Stash")).map(({ urn, outputs }) => [urn, outputs]));
    }
}

export const digestIn = (output: string): string => /change(?: digest:)?\s+([0-9a-f]{64})/.exec(output)?.[1] ?? `no digest in ${output}`;
