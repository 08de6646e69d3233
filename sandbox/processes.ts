import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Layout } from "./layout";
import { type Namespace, findNamespace, nsPid, processesIn, tail } from "./namespace";
import { Problem } from "./report";

export interface Daemon {
    readonly name: string;
    readonly command: readonly string[];
    readonly env?: NodeJS.ProcessEnv;
    /** Files whose content the daemon reads once, at its start: it is restarted when one of them changes. */
    readonly files?: readonly string[];
    /** One attempt; rejects with the reason while the daemon is not ready. */
    readonly probe: () => Promise<void>;
    readonly timeoutSeconds: number;
}

export interface Running {
    readonly pid: number;
    /** In clock ticks since boot: with the number it names one process for ever. */
    readonly startTime: string;
}

export type Outcome = "running" | "started" | "restarted";

// A daemon that runs but does not answer is given this long before it is replaced: it may just be busy.
const PATIENCE_SECONDS = 3;
const LOG_LIMIT = 16 * 1024 * 1024;

/** Makes sure that the daemon runs as described and answers. */
export async function ensureDaemon(layout: Layout, daemon: Daemon): Promise<Outcome> {
    const namespace = findNamespace(layout);
    if (namespace === undefined) {
        throw new Problem(`${daemon.name}: the sandbox's namespace ended while daemons were being started; run the same command again`);
    }
    const fingerprint = fingerprintOf(daemon);
    const running = findDaemon(namespace, daemon.name);
    if (running !== undefined) {
        if (readText(recordFile(namespace, daemon.name, "spec")) === fingerprint && (await waitReady(daemon, PATIENCE_SECONDS, () => true)) === undefined) {
            return "running";
        }
        await stopDaemon(layout, daemon.name);
    }
    await launch(layout, namespace, daemon, fingerprint);
    const reason = await waitReady(daemon, daemon.timeoutSeconds, () => findDaemon(namespace, daemon.name) !== undefined);
    if (reason !== undefined) {
        const log = logFile(layout, daemon.name);
        throw new Problem(`${daemon.name} did not become ready: ${reason}. Last lines of ${log}:\n${tail(log)}`);
    }
    return running === undefined ? "started" : "restarted";
}

export async function stopDaemon(layout: Layout, name: string): Promise<void> {
    const namespace = findNamespace(layout);
    for (let waited = 0; namespace !== undefined; waited += 20) {
        const running = findDaemon(namespace, name);
        if (running === undefined) {
            return;
        }
        if (waited === 0 || waited >= 5_000) {
            kill(running.pid, waited === 0 ? "SIGTERM" : "SIGKILL");
        }
        await sleep(20);
    }
}

/** The daemon's process, if the one that was started still lives. */
export function findDaemon(namespace: Namespace, name: string): Running | undefined {
    const recorded = statOf(readText(recordFile(namespace, name, "stat")));
    if (recorded === undefined) {
        return undefined;
    }
    const now = statOf(readText(`${namespace.root}/proc/${recorded.pid}/stat`));
    if (now === undefined || now.startTime !== recorded.startTime || now.state === "Z") {
        return undefined;
    }
    // The record holds the number inside the namespace; signals from here need the host's.
    const pid = processesIn(fs.readlinkSync(`/proc/${namespace.pid}/ns/pid`)).find((candidate) => {
        try {
            return nsPid(candidate) === recorded.pid;
        } catch {
            return false;
        }
    });
    return pid === undefined ? undefined : { pid, startTime: now.startTime };
}

export const logFile = (layout: Layout, name: string): string => path.join(layout.logs, `${name}.log`);

/** Runs a command inside the namespace to its end. */
export function runInside(namespace: Namespace, command: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
    return run("nsenter", ["--target", String(namespace.pid), "--mount", "--root", "--pid", "--", ...command], {
        env: { PATH: DAEMON_PATH, LANG: "C.UTF-8", ...env },
    });
}

export function run(file: string, args: readonly string[], options: { env?: NodeJS.ProcessEnv; input?: string; cwd?: string } = {}): Promise<string> {
    return new Promise((resolve, reject) => {
        const child = spawn(file, args, {
            env: options.env ?? process.env,
            cwd: options.cwd,
            stdio: [options.input === undefined ? "ignore" : "pipe", "pipe", "pipe"],
        });
        let out = "";
        let err = "";
        child.stdout?.setEncoding("utf8").on("data", (text: string) => (out += text));
        child.stderr?.setEncoding("utf8").on("data", (text: string) => (err += text));
        child.stdin?.end(options.input);
        child.once("error", (error) => reject(new Problem(`${path.basename(file)}: ${error.message}`)));
        child.once("close", (code) =>
            code === 0 ? resolve(out) : reject(new Problem(`${path.basename(file)} ${args.slice(0, 3).join(" ")}: ${(err || out).trim().slice(-2000)}`)),
        );
    });
}

/** Nothing of the caller's environment: a daemon must not differ with the terminal it was started from. */
export const DAEMON_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

// Runs inside the namespace. $1 name, $2 log. The process writes down who it is before it becomes the daemon, so that a
// kill of the start-up at any moment leaves no daemon that the next one would not know.
const LAUNCH = `
cd "$3"
(
  read -r stat < /proc/self/stat
  printf '%s' "$stat" > "/run/sandbox/$1.stat.new" && mv "/run/sandbox/$1.stat.new" "/run/sandbox/$1.stat"
  name=$1 log=$2
  shift 3
  exec setsid "$@"
) < /dev/null >> "$2" 2>&1 &
`;

async function launch(layout: Layout, namespace: Namespace, daemon: Daemon, fingerprint: string): Promise<void> {
    const log = logFile(layout, daemon.name);
    if (fs.existsSync(log) && fs.statSync(log).size > LOG_LIMIT) {
        fs.renameSync(log, `${log}.1`);
    }
    fs.rmSync(recordFile(namespace, daemon.name, "stat"), { force: true });
    fs.writeFileSync(recordFile(namespace, daemon.name, "spec"), fingerprint);
    await runInside(namespace, ["/bin/sh", "-c", LAUNCH, "launch", daemon.name, log, layout.dir, ...daemon.command], {
        HOME: layout.dir,
        TMPDIR: path.join(layout.dir, "tmp"),
        ...daemon.env,
    });
    for (const deadline = Date.now() + 5_000; !fs.existsSync(recordFile(namespace, daemon.name, "stat")) && Date.now() < deadline;) {
        await sleep(5);
    }
}

/** Undefined when ready, else the last reason. */
async function waitReady(daemon: Daemon, limit: number, alive: () => boolean): Promise<string | undefined> {
    for (const deadline = Date.now() + limit * 1000; ; await sleep(50)) {
        try {
            await daemon.probe();
            return undefined;
        } catch (error) {
            const reason = error instanceof Error ? error.message : String(error);
            if (!alive()) {
                return "it ended";
            }
            if (Date.now() > deadline) {
                return `${reason} after ${limit} s`;
            }
        }
    }
}

function fingerprintOf(daemon: Daemon): string {
    // A program from PATH may be upgraded where it is.
    const { ino, size, mtimeMs } = fs.statSync(daemon.command[0] as string);
    const hash = createHash("sha256").update(JSON.stringify([daemon.command, daemon.env ?? {}, ino, size, mtimeMs]));
    for (const file of daemon.files ?? []) {
        hash.update(fs.readFileSync(file));
    }
    return hash.digest("hex");
}

const recordFile = (namespace: Namespace, name: string, kind: "stat" | "spec"): string => `${namespace.root}/run/sandbox/${name}.${kind}`;

function readText(file: string): string | undefined {
    try {
        return fs.readFileSync(file, "utf8");
    } catch {
        return undefined;
    }
}

/** proc_pid_stat(5); the second field is in parentheses and may contain blanks. */
function statOf(line: string | undefined): { pid: number; state: string; startTime: string } | undefined {
    const match = /^(\d+) \(.*\) (.*)$/s.exec(line ?? "");
    const fields = match?.[2]?.trim().split(" ");
    const [state, startTime] = [fields?.[0], fields?.[19]];
    return match === null || state === undefined || startTime === undefined ? undefined : { pid: Number(match[1]), state, startTime };
}

function kill(pid: number, signal: NodeJS.Signals): void {
    try {
        process.kill(pid, signal);
    } catch {
        // It has just ended.
    }
}
