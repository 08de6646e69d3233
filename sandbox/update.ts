import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { sandboxState } from "../tools/environment";
import { clearStaleLocks } from "../tools/staleLock";
import { CHECKOUT, type Layout, readJson, writeFile } from "./layout";
import { run } from "./processes";
import { Problem, say } from "./report";
import { STACK } from "./stackConfig";

export interface Pulumi {
  readonly path: string;
  readonly env: NodeJS.ProcessEnv;
}

/** How long each image took when it was last built, by the name of its resource. */
export type BuildSeconds = Record<string, number>;

const secondsFile = (layout: Layout): string => path.join(layout.dir, "build-seconds.json");

/** `pulumi up` of the real program, as a person would type it; its output goes straight to the terminal. */
export async function update(layout: Layout, pulumi: Pulumi): Promise<void> {
  await waitForEarlierUpdate(layout);
  const events = path.join(layout.logs, "update-events.json");
  fs.rmSync(events, { force: true });
  const timer = new BuildTimer(events);
  const polling = setInterval(() => timer.read(), 100);
  // Ctrl-C reaches Pulumi too, which then ends in an orderly way; this process waits for it.
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore);
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      // When this process is killed, Pulumi is told to stop after the operation it is at, instead of going on unseen.
      const child = spawn("setpriv", ["--pdeathsig", "INT", pulumi.path, "up", "--yes", "--skip-preview", "--stack", STACK, `--config-file=${layout.stackConfig}`, `--event-log=${events}`], {
        cwd: CHECKOUT,
        // --event-log exists among the debugging flags only.
        env: { ...pulumi.env, PULUMI_DEBUG_COMMANDS: "true" },
        stdio: ["ignore", "inherit", "inherit"],
      });
      child.once("error", reject);
      child.once("close", resolve);
    });
    if (status !== 0) {
      throw new Problem(`pulumi up ended with ${status}; nothing is retried: mend the cause above and run the same command again`);
    }
  } finally {
    process.off("SIGINT", ignore);
    clearInterval(polling);
    timer.read();
    writeFile(secondsFile(layout), JSON.stringify({ ...buildSeconds(layout), ...timer.seconds }, null, 2));
  }
}

export const buildSeconds = (layout: Layout): BuildSeconds => readJson<BuildSeconds>(secondsFile(layout)) ?? {};

export async function stackOutputs(pulumi: Pulumi): Promise<Record<string, unknown>> {
  return JSON.parse(await run(pulumi.path, ["stack", "output", "--json", "--stack", STACK], { env: pulumi.env, cwd: CHECKOUT })) as Record<string, unknown>;
}

/** The engine's events carry whole seconds; a stage that takes a third of one is timed by when its events arrive. */
class BuildTimer {
  readonly seconds: BuildSeconds = {};
  private readonly began = new Map<string, number>();
  private offset = 0;
  private rest = "";

  constructor(private readonly file: string) {}

  read(): void {
    if (!fs.existsSync(this.file)) {
      return;
    }
    const handle = fs.openSync(this.file, "r");
    const bytes = Buffer.alloc(fs.fstatSync(handle).size - this.offset);
    this.offset += fs.readSync(handle, bytes, 0, bytes.length, this.offset);
    fs.closeSync(handle);
    const lines = (this.rest + bytes.toString("utf8")).split("\n");
    this.rest = lines.pop() ?? "";
    for (const line of lines) {
      this.take(JSON.parse(line) as EngineEvent);
    }
  }

  private take(event: EngineEvent): void {
    const before = event.resourcePreEvent?.metadata;
    const after = event.resOutputsEvent?.metadata;
    if (before?.type === IMAGE && before.op !== "same") {
      this.began.set(before.urn, Date.now());
    }
    const began = this.began.get(after?.urn ?? "");
    if (after !== undefined && began !== undefined) {
      this.seconds[after.urn.split("::").pop() ?? ""] = (Date.now() - began) / 1000;
    }
  }
}

const IMAGE = "docker-build:index:Image";

interface EngineEvent {
  resourcePreEvent?: { metadata: { op: string; urn: string; type: string } };
  resOutputsEvent?: { metadata: { op: string; urn: string; type: string } };
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
  return files.flatMap((file) => readJson<{ pid: number }>(path.join(locks, file))?.pid ?? []).filter((pid) => {
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
    for (const deadline = Date.now() + 3_000; running.length > 0 && updateProcesses(layout).length > 0 && Date.now() < deadline; ) {
      await sleep(100);
    }
  }
}
