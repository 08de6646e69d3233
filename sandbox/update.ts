import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";
import { sandboxState } from "../tools/environment";
import { clearStaleLocks } from "../tools/staleLock";
import { type BuildSeconds, UpdateEvents, lineFilter } from "./events";
import { CHECKOUT, type Layout, readJson, writeFile } from "./layout";
import { run } from "./processes";
import { Problem, say } from "./report";
import { STACK } from "./stackConfig";

export interface Pulumi {
    readonly path: string;
    readonly env: NodeJS.ProcessEnv;
}

const secondsFile = (layout: Layout): string => path.join(layout.dir, "build-seconds.json");

/** `pulumi up` of the real program, as a person would type it; its output goes straight to the terminal. */
export async function update(layout: Layout, pulumi: Pulumi): Promise<void> {
    await waitForEarlierUpdate(layout);
    const file = path.join(layout.logs, "update-events.json");
    fs.rmSync(file, { force: true });
    const events = new UpdateEvents(file);
    const polling = setInterval(() => events.read(), 100);
    // Ctrl-C reaches Pulumi too, which then ends in an orderly way; this process waits for it.
    const ignore = (): void => undefined;
    process.on("SIGINT", ignore);
    try {
        const status = await runUpdate(layout, pulumi, file);
        events.read();
        if (status !== 0) {
            throw new Problem(`pulumi up ended with ${status}; nothing is retried: mend the cause above and run the same command again`);
        }
    } finally {
        process.off("SIGINT", ignore);
        clearInterval(polling);
        writeFile(secondsFile(layout), JSON.stringify({ ...buildSeconds(layout), ...events.seconds }, null, 2));
    }
}

/** At a terminal Pulumi draws its tree, for which it needs the keyboard too; elsewhere it writes every line of every build. */
function runUpdate(layout: Layout, pulumi: Pulumi, events: string): Promise<number | null> {
    const atTerminal = process.stdin.isTTY && process.stdout.isTTY;
    return new Promise((resolve, reject) => {
        // When this process is killed, Pulumi is told to stop after the operation it is at, instead of going on unseen.
        const child = spawn(
            "setpriv",
            [
                "--pdeathsig",
                "INT",
                pulumi.path,
                "up",
                "--yes",
                "--skip-preview",
                "--stack",
                STACK,
                `--config-file=${layout.stackConfig}`,
                `--event-log=${events}`,
            ],
            {
                cwd: CHECKOUT,
                // --event-log exists among the debugging flags only.
                env: { ...pulumi.env, PULUMI_DEBUG_COMMANDS: "true" },
                stdio: atTerminal ? "inherit" : ["ignore", "pipe", "inherit"],
            },
        );
        if (child.stdout !== null) {
            const filter = lineFilter();
            createInterface({ input: child.stdout }).on("line", (line) => {
                const shown = filter(line);
                if (shown !== undefined) {
                    say(shown);
                }
            });
        }
        child.once("error", reject);
        child.once("close", resolve);
    });
}

export const buildSeconds = (layout: Layout): BuildSeconds => readJson<BuildSeconds>(secondsFile(layout)) ?? {};

export async function stackOutputs(pulumi: Pulumi): Promise<Record<string, unknown>> {
    return JSON.parse(await run(pulumi.path, ["stack", "output", "--json", "--stack", STACK], { env: pulumi.env, cwd: CHECKOUT })) as Record<string, unknown>;
}

/** The lock of an update that was killed is removed; one that still runs is waited for, as it is ending or somebody's. */
async function waitForEarlierUpdate(layout: Layout): Promise<void> {
    for (const lock of clearStaleLocks(sandboxState(layout.dir).backend)) {
        say(`removed the state lock of process ${lock.pid}, which no longer runs`);
    }
    for (let told = false; updateProcesses(layout).length > 0; told = true, await sleep(500)) {
        if (!told) {
            say(`stack ${STACK} is being updated by process ${updateProcesses(layout).join(", ")}; waiting for it`);
        }
    }
    clearStaleLocks(sandboxState(layout.dir).backend);
}

/** Pulumi processes that hold a lock of this sandbox's state. */
function updateProcesses(layout: Layout): number[] {
    const locks = path.join(layout.pulumi, ".pulumi", "locks");
    const files = fs.existsSync(locks) ? fs.readdirSync(locks, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json")) : [];
    return files
        .flatMap((file) => readJson<{ pid: number }>(path.join(locks, file))?.pid ?? [])
        .filter((pid) => {
            try {
                return path.basename(fs.readlinkSync(`/proc/${pid}/exe`)).startsWith("pulumi");
            } catch {
                return false;
            }
        });
}

/** For `down`. Asked twice, Pulumi ends its plug-ins at once; killed, it would leave them. */
export async function endUpdates(layout: Layout): Promise<void> {
    for (const signal of ["SIGINT", "SIGINT", "SIGKILL"] as const) {
        const running = updateProcesses(layout);
        running.forEach((pid) => process.kill(pid, signal));
        for (const deadline = Date.now() + 3_000; running.length > 0 && updateProcesses(layout).length > 0 && Date.now() < deadline;) {
            await sleep(100);
        }
    }
}
