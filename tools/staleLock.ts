import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { fileURLToPath } from "node:url";
import { isAlive } from "./lock";

interface Lock {
    readonly pid: number;
    readonly hostname: string;
}

/**
 * `kill -9` of a Pulumi leaves its lock in a file backend, and every later run refuses. Such a lock is removed only when
 * it was taken on this host by a process that is gone; any other holder may be at work. Returns what was removed.
 */
export function clearStaleLocks(backend: string | undefined): Lock[] {
    if (backend === undefined || !backend.startsWith("file:///")) {
        return [];
    }
    const folder = path.join(fileURLToPath(backend), ".pulumi", "locks");
    if (!fs.existsSync(folder)) {
        return [];
    }
    const files = fs
        .readdirSync(folder, { recursive: true, encoding: "utf8" })
        .filter((name) => name.endsWith(".json"))
        .map((name) => path.join(folder, name));
    const stale = files.map((file) => ({ file, lock: read(file) })).filter((found) => found.lock?.hostname === os.hostname() && !isAlive(found.lock.pid));
    for (const { file } of stale) {
        fs.rmSync(file, { force: true });
    }
    return stale.map(({ lock }) => lock as Lock);
}

function read(file: string): Lock | undefined {
    try {
        return JSON.parse(fs.readFileSync(file, "utf8")) as Lock;
    } catch {
        return undefined;
    }
}
