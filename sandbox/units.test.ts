import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { temporaryFolders } from "../tests/support/temporaryFolder";
import { createFolders, layoutOf, writeFile } from "./layout";
import { pauseProgram } from "./pause";
import { portOf } from "./ports";

const temporary = temporaryFolders();

test("a sandbox is the same through a symbolic link, and before and after its folder exists", () => {
    const real = path.join(temporary(), "real");
    const before = layoutOf(path.join(real, "sandbox")).id;
    fs.mkdirSync(path.join(real, "sandbox"), { recursive: true });
    fs.symlinkSync(real, `${real}-link`);
    expect(layoutOf(path.join(real, "sandbox")).id).toBe(before);
    expect(layoutOf(path.join(`${real}-link`, "sandbox")).id).toBe(before);
    expect(layoutOf(path.join(real, "other")).id).not.toBe(before);
});

test("a folder with something else in it is refused", () => {
    const layout = layoutOf(temporary());
    fs.writeFileSync(path.join(layout.dir, "thesis.tex"), "");
    expect(() => createFolders(layout)).toThrow("is not empty and not a sandbox");
});

test("a port is kept, and no two names share one", async () => {
    const layout = layoutOf(temporary());
    const registry = await portOf(layout, "registry");
    expect(await portOf(layout, "buildkit")).not.toBe(registry);
    expect(await portOf(layout, "registry")).toBe(registry);
});

test("a file is written for its owner alone, and its change is told", () => {
    const file = path.join(temporary(), "sub", "secret");
    expect(writeFile(file, "one")).toBe(true);
    expect(writeFile(file, "one")).toBe(false);
    expect(writeFile(file, "two")).toBe(true);
    expect(fs.statSync(file).mode & 0o777).toBe(0o600);
});

test.runIf(process.arch === "x64" || process.arch === "arm64")("the pause program waits until it is killed", () => {
    const file = path.join(temporary(), "pause");
    fs.writeFileSync(file, pauseProgram(), { mode: 0o755 });
    expect(spawnSync(file, { timeout: 300, killSignal: "SIGKILL" }).signal).toBe("SIGKILL");
});

test.each([
    ["x64", 62],
    ["arm64", 183],
] as const)("the pause program for %s is an ELF executable of that machine", (arch, machine) => {
    const program = pauseProgram(arch);
    expect(program.subarray(0, 4)).toEqual(Buffer.from([0x7f, 0x45, 0x4c, 0x46]));
    expect(program.readUInt16LE(18)).toBe(machine);
    expect(program.readBigUInt64LE(96)).toBe(BigInt(program.length));
});
