import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { LiveSandbox, type Machine } from "../../tests/live/liveSandbox";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory } from "../../tools/toolchain";
import { bakeFile } from "./bakeFile";
import { Baseline, tenEmptyComponents } from "./baseline";
import { plainProgram, plainResources, plainState, type State } from "./plainProgram";
import { type Pair, table } from "./table";

const CHECKOUT = path.resolve(__dirname, "../..");
const INFINISTORE = "sandbox/sources/infinistore/src/infinistore.cpp";
const ROUNDS = 7;
/** The images and nothing that follows from them: bake rolls nothing out. */
const IMAGES_ONLY = ["--target", "**docker-build:index:Image::**"];

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
    const env = await pulumiEnvironment();
    const state = JSON.parse(await ours.exportState()) as State;
    const empty = new Baseline(env, tenEmptyComponents);
    const plain = new Baseline(
        env,
        plainProgram,
        { "resources.json": JSON.stringify(plainResources(state)) },
        { ".gh200": path.join(ours.program.folder, ".gh200") },
    );
    try {
        empty.run("up", "--yes", "--skip-preview");
        plain.import(plainState(state));
        const [none, flat] = ["a program of ten empty components", "the same resources written down flat"];
        const pair = (what: string, against: string): Pair => ({ what, against, ours: [], theirs: [] });
        const pairs = {
            preview: [pair("preview without changes", none), pair("preview without changes", flat)] as const,
            up: [pair("up without changes", none), pair("up without changes", flat)] as const,
        };
        for (let round = 0; round < ROUNDS; round += 1) {
            for (const [command, args] of [
                ["preview", []],
                ["up", ["--yes", "--skip-preview"]],
            ] as const) {
                const [toEmpty, toPlain] = pairs[command];
                toEmpty.theirs.push(await seconds(() => empty.run(command, ...args)));
                toPlain.theirs.push(await seconds(() => unchanged(plain.run(command, ...args))));
                const mine = await seconds(() => (command === "preview" ? ours.preview() : must("up without changes", () => ours.up())));
                toEmpty.ours.push(mine);
                toPlain.ours.push(mine);
            }
        }
        return [...pairs.preview, ...pairs.up];
    } finally {
        empty.remove();
        plain.remove();
    }
}

/** A baseline that had something to do would be no baseline for a run without changes. */
function unchanged(output: string): void {
    if (!/Resources:\s+\d+ unchanged/.test(output)) {
        throw new Error(`the flat program is not without changes:\n${output}`);
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
    // Both sides start warm: ours has told buildx of the builder, bake has its own cache.
    change("warm", 0);
    await must("one stage before the measurement", () => ours.up(...IMAGES_ONLY));
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
