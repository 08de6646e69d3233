import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { LiveSandbox, type Machine } from "../../tests/live/liveSandbox";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory } from "../../tools/toolchain";
import { bakeFile } from "./bakeFile";
import { type Pair, table } from "./table";

const CHECKOUT = path.resolve(__dirname, "../..");
const INFINISTORE = "sandbox/sources/infinistore/src/infinistore.cpp";
const ROUNDS = 7;
const IMAGES_ONLY = ["--target", "**docker-build:index:Image::**", "--target-dependents"];

/**
 * What our program costs beside what a user would write instead, each pair measured in one run, the
 * two sides taking turns: a no-op against ten empty components, and a change of one stage against
 * `docker buildx bake` building the same targets of the same Dockerfile on the same builder. It uses the
 * sandbox that `npm run sandbox` started, and leaves it as it was.
 */
async function main(): Promise<void> {
    await ensureTools(pulumiTools);
    const sandbox = new LiveSandbox(sandboxDirectory());
    try {
        sandbox.start();
        const ours = await sandbox.machine();
        await must("up before the measurement", () => ours.up());
        const pairs = [...(await noOp(ours)), await oneStage(sandbox, ours)];
        const lines = table(pairs, { date: new Date().toISOString().slice(0, 10), machine: machine(), command: "npm run bench:speed" });
        fs.writeFileSync(path.join(__dirname, "RESULTS.md"), `${lines.join("\n")}\n`);
        console.log(lines.join("\n"));
        fs.copyFileSync(path.join(CHECKOUT, INFINISTORE), path.join(ours.program.folder, INFINISTORE));
        await must("up after the measurement", () => ours.up());
    } finally {
        sandbox.forget();
    }
}

async function noOp(ours: Machine): Promise<Pair[]> {
    const empty = new EmptyProgram(await pulumiEnvironment());
    try {
        empty.run("up", "--yes", "--skip-preview");
        const preview: Pair = { what: "preview without changes", ours: [], theirs: [], against: "a program of ten empty components" };
        const up: Pair = { what: "up without changes", ours: [], theirs: [], against: "a program of ten empty components" };
        for (let round = 0; round < ROUNDS; round += 1) {
            preview.theirs.push(await seconds(() => empty.run("preview")));
            preview.ours.push(await seconds(() => ours.preview()));
            up.theirs.push(await seconds(() => empty.run("up", "--yes", "--skip-preview")));
            up.ours.push(await seconds(() => must("up without changes", () => ours.up())));
        }
        return [preview, up];
    } finally {
        empty.remove();
    }
}

/** Both sides change InfiniStore's stand-in in a way that no cache has seen, and rebuild what follows from it. */
async function oneStage(sandbox: LiveSandbox, ours: Machine): Promise<Pair> {
    const pair: Pair = { what: "up after a change of one stage", ours: [], theirs: [], against: "docker buildx bake" };
    const file = path.join(ours.program.folder, INFINISTORE);
    const source = fs.readFileSync(file, "utf8");
    const change = (side: string, round: number) =>
        fs.writeFileSync(file, `${source}\nextern "C" const char *bench_marker() { return "${side} ${round} ${process.pid}"; }\n`);
    const bake = path.join(ours.home, "docker-bake.json");
    fs.writeFileSync(bake, JSON.stringify(bakeFile(ours.program.folder, sandbox.facts.registry.address, ours.stackConfig)));
    // Bake has caches of its own; it starts as warm as we do.
    runBake(sandbox, ours, bake);
    for (let round = 0; round < 3; round += 1) {
        change("ours", round);
        pair.ours.push(await seconds(() => must("one stage", () => ours.up(...IMAGES_ONLY))));
        change("bake", round);
        pair.theirs.push(await seconds(() => runBake(sandbox, ours, bake)));
    }
    return pair;
}

function runBake(sandbox: LiveSandbox, ours: Machine, file: string): void {
    const docker = path.join(ours.home, "docker");
    fs.mkdirSync(docker, { recursive: true });
    const auth = Buffer.from(`${sandbox.facts.registry.username}:${sandbox.password()}`).toString("base64");
    fs.writeFileSync(path.join(docker, "config.json"), JSON.stringify({ auths: { [sandbox.facts.registry.address]: { auth } } }));
    execFileSync(findTool("buildx")?.path ?? "buildx", ["bake", "--builder", "gh200-sandbox", "--file", file, "--allow", "fs.read=*", "--progress", "plain"], {
        cwd: ours.program.folder,
        env: { ...process.env, HOME: ours.home, DOCKER_CONFIG: docker, BUILDX_CONFIG: path.join(ours.home, "buildx") },
        stdio: ["ignore", "ignore", "pipe"],
    });
}

/** The least that a TypeScript program of ten components can be. */
class EmptyProgram {
    private readonly folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-empty-"));

    constructor(private readonly env: NodeJS.ProcessEnv) {
        const files: Record<string, string> = {
            "Pulumi.yaml": "name: empty\nruntime: nodejs\nmain: index.ts\n",
            "package.json": '{ "name": "empty", "devDependencies": { "typescript": "*" } }\n',
            "tsconfig.json": fs.readFileSync(path.join(__dirname, "../../tsconfig.json"), "utf8"),
            "index.ts": [
                'import * as pulumi from "@pulumi/pulumi";',
                "class Empty extends pulumi.ComponentResource {",
                '    constructor(name: string) { super("bench:index:Empty", name); this.registerOutputs({}); }',
                "}",
                "for (let i = 0; i < 10; i += 1) { new Empty(`empty-${i}`); }",
                "",
            ].join("\n"),
        };
        for (const [name, text] of Object.entries(files)) {
            fs.writeFileSync(path.join(this.folder, name), text);
        }
        fs.symlinkSync(path.resolve(__dirname, "../../node_modules"), path.join(this.folder, "node_modules"));
        fs.mkdirSync(path.join(this.folder, "state"));
        this.run("stack", "init", "bench");
    }

    run(...args: string[]): void {
        const stack = args[0] === "stack" ? [] : ["--stack", "bench"];
        const result = spawnSync(findTool("pulumi")?.path ?? "pulumi", [...args, ...stack, "--non-interactive"], {
            cwd: this.folder,
            env: { ...this.env, PULUMI_BACKEND_URL: `file://${this.folder}/state`, PULUMI_CONFIG_PASSPHRASE: "bench" },
            encoding: "utf8",
        });
        if (result.status !== 0) {
            throw new Error(`empty program: ${args.join(" ")}: ${result.stdout}${result.stderr}`);
        }
    }

    remove(): void {
        fs.rmSync(this.folder, { recursive: true, force: true });
    }
}

async function must(what: string, run: () => Promise<{ status: number | null; output: string }>): Promise<void> {
    const { status, output } = await run();
    if (status !== 0) {
        throw new Error(`${what}: ended with ${status}\n${output}`);
    }
}

async function seconds(run: () => unknown): Promise<number> {
    const start = process.hrtime.bigint();
    await run();
    return Number(process.hrtime.bigint() - start) / 1e9;
}

function machine(): string {
    const cpu = os.cpus();
    return `${cpu.length} cores of ${cpu[0]?.model.trim()}, ${Math.round(os.totalmem() / 2 ** 30)} GiB, Node ${process.version}`;
}

main().catch((error: unknown) => {
    console.error(error);
    process.exitCode = 1;
});
