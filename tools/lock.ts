import * as fs from "node:fs";
import * as path from "node:path";
import { cacheRoot } from "./cache";
import type { Report } from "./report";

const POLL_MS = 500;

interface Holder {
    readonly pid: number;
    /** A process id is used again after a while; with its start it names one process. */
    readonly started: string;
}

/** Field 22 of /proc/PID/stat. Empty where there is no /proc: then the process id alone must do. */
function startOf(pid: number): string {
    try {
        const stat = fs.readFileSync(`/proc/${pid}/stat`, "utf8");
        return stat.slice(stat.lastIndexOf(")") + 2).split(" ")[19] ?? "";
    } catch {
        return "";
    }
}

export function isAlive(pid: number, started = ""): boolean {
    try {
        process.kill(pid, 0);
    } catch (error) {
        return (error as NodeJS.ErrnoException).code === "EPERM";
    }
    return started === "" || startOf(pid) === started;
}

/**
 * Builds go one after another, across processes too: two Go builds at once take twice the memory and finish no sooner.
 * The lock saves work only. What is correct without it stays so, because binaries appear by renaming.
 */
export async function withLock<T>(report: Report, run: () => Promise<T>): Promise<T> {
    const file = path.join(cacheRoot(), "tools", "lock");
    fs.mkdirSync(path.dirname(file), { recursive: true });
    const mine = JSON.stringify({ pid: process.pid, started: startOf(process.pid) } satisfies Holder);
    let told = false;
    while (!take(file, mine)) {
        const holder = read(file);
        if (holder !== undefined && isAlive(holder.pid, holder.started)) {
            if (!told) {
                report(`process ${holder.pid} is building tools; waiting for it`);
                told = true;
            }
            await new Promise((resolve) => setTimeout(resolve, POLL_MS));
        } else if (holder !== undefined) {
            takeAway(file, holder);
        }
    }
    try {
        return await run();
    } finally {
        fs.rmSync(file, { force: true });
    }
}

/** Linked from a complete file, so that nobody ever reads a lock without its holder. */
function take(file: string, content: string): boolean {
    const made = `${file}.${process.pid}`;
    fs.writeFileSync(made, content);
    try {
        fs.linkSync(made, file);
        return true;
    } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== "EEXIST") {
            throw error;
        }
        return false;
    } finally {
        fs.rmSync(made, { force: true });
    }
}

function read(file: string): Holder | undefined {
    try {
        return JSON.parse(fs.readFileSync(file, "utf8")) as Holder;
    } catch {
        return undefined;
    }
}

function takeAway(file: string, dead: Holder): void {
    const moved = `${file}.dead.${process.pid}`;
    try {
        fs.renameSync(file, moved);
        const found = read(moved);
        // Someone else took the dead holder's lock away and locked since: give theirs back.
        if (found !== undefined && found.pid !== dead.pid) {
            fs.linkSync(moved, file);
        }
    } catch {
        // Someone else was faster.
    }
    fs.rmSync(moved, { force: true });
}
