import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
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
  refuseRunningUpdate(layout);
  const events = path.join(layout.logs, "update-events.json");
  fs.rmSync(events, { force: true });
  const timer = new BuildTimer(events);
  const polling = setInterval(() => timer.read(), 100);
  // Ctrl-C reaches Pulumi too, which then ends in an orderly way; this process waits for it.
  const ignore = (): void => undefined;
  process.on("SIGINT", ignore);
  try {
    const status = await new Promise<number | null>((resolve, reject) => {
      const child = spawn(pulumi.path, ["up", "--yes", "--skip-preview", "--stack", STACK, `--config-file=${layout.stackConfig}`, `--event-log=${events}`], {
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

/** An update that was killed leaves its lock. It is removed when the process that took it is gone, and only then. */
function refuseRunningUpdate(layout: Layout): void {
  for (const lock of clearStaleLocks(sandboxState(layout.dir).backend)) {
    say(`removed the state lock of process ${lock.pid}, which no longer runs`);
  }
  const locks = path.join(layout.pulumi, ".pulumi", "locks");
  for (const file of fs.existsSync(locks) ? fs.readdirSync(locks, { recursive: true, encoding: "utf8" }).filter((name) => name.endsWith(".json")) : []) {
    const lock = readJson<{ pid: number }>(path.join(locks, file));
    throw new Problem(`stack ${STACK}: process ${lock?.pid} is updating it; wait for it or end it, then run the same command again`);
  }
}
