import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { ensureTools, findTool, Problem, pulumiEnvironment, pulumiTools, sandboxDirectory, sandboxState, terminalReport } from "./toolchain";

const CHECKOUT = path.resolve(__dirname, "..");

/** One of the engine's events, of the kinds that are read here (pulumi/pulumi, sdk/go/common/apitype/events.go). */
export interface EngineEvent {
    resourcePreEvent?: { metadata: StepMetadata };
    resOutputsEvent?: { metadata: StepMetadata };
    resOpFailedEvent?: { metadata: StepMetadata };
    diagnosticEvent?: { urn?: string; prefix?: string; message: string; severity: string; ephemeral?: boolean };
    policyEvent?: { resourceUrn?: string; message: string; policyName: string; policyPackName: string; enforcementLevel: string };
    summaryEvent?: { resourceChanges: Record<string, number>; durationSeconds: number };
}

export interface StepMetadata {
    op: string;
    urn: string;
    type: string;
    old: StepState | null;
    new: StepState | null;
    diffs?: string[];
    detailedDiff: Record<string, { diffKind: string; inputDiff: boolean }> | null;
}

export interface StepState {
    inputs: Record<string, unknown>;
    outputs: Record<string, unknown>;
}

export interface Resource {
    urn: string;
    type: string;
    inputs?: Record<string, unknown>;
    outputs?: Record<string, unknown>;
}

export interface Answer {
    status: number | null;
    output: string;
}

export interface EngineRun extends Answer {
    events: EngineEvent[];
}

/** Pulumi for one stack of this checkout, for commands that read its answers instead of showing them. */
export class Engine {
    private constructor(
        readonly stack: string,
        private readonly binary: string,
        private readonly env: NodeJS.ProcessEnv,
        private readonly configFile: string | undefined,
        private readonly folder: string,
    ) {}

    /** @param folder of the program; this checkout where absent. */
    static async of(stack: string, configFile?: string, overrides: NodeJS.ProcessEnv = {}, folder = CHECKOUT): Promise<Engine> {
        await ensureTools(pulumiTools, terminalReport(process.stderr));
        const state = sandboxState(sandboxDirectory());
        const inSandbox = stack === "sandbox" && fs.existsSync(state.stackConfig);
        const file = configFile ?? (inSandbox ? state.stackConfig : undefined);
        const env = { ...(await pulumiEnvironment(inSandbox ? sandboxDirectory() : undefined)), ...overrides };
        return new Engine(stack, findTool("pulumi")?.path ?? "pulumi", env, file, folder);
    }

    /** File of the authorities that this stack's registry may need beside Node.js's own; undefined where it needs none. */
    get certificates(): string | undefined {
        return this.env.NODE_EXTRA_CA_CERTS;
    }

    /** `preview`, `refresh` and the like, with the engine's events. */
    async events(command: string, ...args: string[]): Promise<EngineRun> {
        const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-events-"));
        try {
            const log = path.join(folder, "events.json");
            const config = this.configFile === undefined ? [] : ["--config-file", this.configFile];
            // --event-log is among the debugging flags.
            const answer = await this.run([command, ...args, ...config, `--event-log=${log}`], { PULUMI_DEBUG_COMMANDS: "true" });
            const lines = fs.existsSync(log) ? fs.readFileSync(log, "utf8").split("\n").filter(Boolean) : [];
            return { ...answer, events: lines.map((line) => JSON.parse(line) as EngineEvent) };
        } finally {
            fs.rmSync(folder, { recursive: true, force: true });
        }
    }

    /** Makes the stack, in a backend that does not have it yet. From `folder`, because Pulumi writes a stack file where it stands. */
    async create(folder: string): Promise<void> {
        fs.copyFileSync(path.join(CHECKOUT, "Pulumi.yaml"), path.join(folder, "Pulumi.yaml"));
        const { status, output } = await this.run(["stack", "init", "--no-select", "--secrets-provider=passphrase", "--cwd", folder]);
        if (status !== 0) {
            throw new Problem(`stack: ${this.stack}: cannot be made: ${firstError(output)}`);
        }
    }

    /** The stack's resources as they are in its state; secrets stay encrypted. */
    async resources(): Promise<Resource[]> {
        const answer = await this.run(["stack", "export"]);
        if (answer.status !== 0) {
            throw new Problem(`stack: ${this.stack}: has no state that can be read; accepted: a stack of this backend; ${firstError(answer.output)}`);
        }
        const state = JSON.parse(answer.output) as { deployment: { resources?: Resource[] } };
        return state.deployment.resources ?? [];
    }

    /** The stack's configuration as the program is given it, without the secrets' values. */
    async rawConfig(): Promise<Record<string, { value?: string; secret: boolean }>> {
        return this.readConfig();
    }

    /** The stack's configuration with its secrets, for what has to log in; sections as JSON. Never to be shown. */
    async config(): Promise<Record<string, string>> {
        const values = await this.readConfig("--show-secrets");
        return Object.fromEntries(Object.entries(values).map(([key, { value = "" }]) => [key, value]));
    }

    private async readConfig(...flags: string[]): Promise<Record<string, { value?: string; secret: boolean }>> {
        const config = this.configFile === undefined ? [] : ["--config-file", this.configFile];
        const answer = await this.run(["config", ...flags, "--json", ...config]);
        if (answer.status !== 0) {
            throw new Problem(`stack: ${this.stack}: its configuration cannot be read: ${firstError(answer.output)}`);
        }
        return JSON.parse(answer.output) as Record<string, { value?: string; secret: boolean }>;
    }

    private run(args: string[], env: NodeJS.ProcessEnv = {}): Promise<Answer> {
        return new Promise((resolve, reject) => {
            const child = spawn(this.binary, [...args, "--stack", this.stack, "--non-interactive", "--color=never"], {
                cwd: this.folder,
                env: { ...this.env, ...env },
                stdio: ["ignore", "pipe", "pipe"],
            });
            let [output, errors] = ["", ""];
            child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
            child.stderr.on("data", (chunk: Buffer) => (errors += chunk.toString()));
            child.once("error", reject);
            child.once("close", (status) => resolve({ status, output: status === 0 ? output : output + errors }));
        });
    }
}

/** The line of an output that says what went wrong. */
export function firstError(output: string): string {
    return (
        output
            .split("\n")
            .map((line) => line.trim())
            .find((line) => line.startsWith("error:")) ?? "see the output of pulumi itself"
    );
}
