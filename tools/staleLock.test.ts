import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { expect, it } from "vitest";
import { clearStaleLocks } from "./staleLock";

it("removes only the lock of a process of this host that is gone", () => {
    const backend = fs.mkdtempSync(path.join(os.tmpdir(), "lock-test-"));
    const folder = path.join(backend, ".pulumi", "locks", "organization", "project", "stack");
    fs.mkdirSync(folder, { recursive: true });
    const gone = spawnSync("true").pid;
    const lock = (name: string, content: object | string): void =>
        fs.writeFileSync(path.join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
    lock("gone.json", { pid: gone, hostname: os.hostname() });
    lock("alive.json", { pid: process.pid, hostname: os.hostname() });
    lock("elsewhere.json", { pid: gone, hostname: `not-${os.hostname()}` });
    lock("broken.json", "{");

    expect(clearStaleLocks(pathToFileURL(backend).href).map((found) => found.pid)).toEqual([gone]);
    expect(fs.readdirSync(folder).sort()).toEqual(["alive.json", "broken.json", "elsewhere.json"]);
    fs.rmSync(backend, { recursive: true });
});

it.each([undefined, "s3://bucket", "https://state.example", "file:///does/not/exist"])("does nothing for %s", (backend) => {
    expect(clearStaleLocks(backend)).toEqual([]);
});
