import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, expect, it } from "vitest";
import { withLock } from "./lock";

const before = process.env.GH200_CACHE;
let cache: string;
beforeEach(() => {
    cache = fs.mkdtempSync(path.join(os.tmpdir(), "lock-test-"));
    process.env.GH200_CACHE = cache;
});
afterEach(() => {
    fs.rmSync(cache, { recursive: true });
    if (before === undefined) {
        delete process.env.GH200_CACHE;
    } else {
        process.env.GH200_CACHE = before;
    }
});

const lockFile = (): string => path.join(cache, "tools", "lock");

it("runs holders one after another and tells the second whom it waits for", async () => {
    const order: string[] = [];
    const told: string[] = [];
    const first = withLock(
        () => undefined,
        async () => {
            order.push("first begins");
            await new Promise((resolve) => setTimeout(resolve, 50));
            order.push("first ends");
        },
    );
    await Promise.all([
        first,
        withLock(
            (line) => told.push(line),
            async () => void order.push("second"),
        ),
    ]);
    expect(order).toEqual(["first begins", "first ends", "second"]);
    expect(told).toEqual([`process ${process.pid} is building tools; waiting for it`]);
    expect(fs.readdirSync(path.dirname(lockFile()))).toEqual([]);
});

it.each([
    ["a process that is gone", () => ({ pid: spawnSync("true").pid, started: "1" })],
    ["another process under the same id", () => ({ pid: process.pid, started: "1" })],
])("takes over from %s", async (_, holder) => {
    fs.mkdirSync(path.dirname(lockFile()));
    fs.writeFileSync(lockFile(), JSON.stringify(holder()));
    expect(
        await withLock(
            () => undefined,
            async () => "ran",
        ),
    ).toBe("ran");
});

it("is free again after a failure", async () => {
    await expect(
        withLock(
            () => undefined,
            () => Promise.reject(new Error("no")),
        ),
    ).rejects.toThrow("no");
    expect(fs.existsSync(lockFile())).toBe(false);
});
