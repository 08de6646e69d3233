import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { digestFolder, keyOf, link } from "./cache";

let folder: string;
beforeEach(() => {
    folder = fs.mkdtempSync(path.join(os.tmpdir(), "cache-test-"));
});
afterEach(() => fs.rmSync(folder, { recursive: true }));

const write = (name: string, text: string, mode = 0o644): void => {
    const file = path.join(folder, name);
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, text, { mode });
};

describe("digestFolder", () => {
    it("is the same for the same text at another place, time and mode", () => {
        write("a/go.mod", "module a", 0o644);
        write("a/sub/main.go", "package main");
        write("b/sub/main.go", "package main");
        write("b/go.mod", "module a", 0o600);
        fs.utimesSync(path.join(folder, "b/go.mod"), 0, 0);
        expect(digestFolder(path.join(folder, "a"))).toBe(digestFolder(path.join(folder, "b")));
    });

    it("changes with a file's text, name or presence", () => {
        write("a/go.mod", "module a");
        const seen = new Set([digestFolder(folder)]);
        write("a/go.mod", "module b");
        seen.add(digestFolder(folder));
        fs.renameSync(path.join(folder, "a/go.mod"), path.join(folder, "a/go.sum"));
        seen.add(digestFolder(folder));
        write("a/main.go", "");
        seen.add(digestFolder(folder));
        expect(seen.size).toBe(4);
    });
});

describe("keyOf", () => {
    const recipe = { package: ".", linkerFlags: ["-X a.B=1"] };

    it("separates packages, linker flags, sources and platforms", () => {
        const keys = [
            keyOf(recipe, "d", "linux-x64"),
            keyOf({ ...recipe, package: "./x" }, "d", "linux-x64"),
            keyOf({ ...recipe, linkerFlags: ["-X a.B=2"] }, "d", "linux-x64"),
            keyOf(recipe, "e", "linux-x64"),
            keyOf(recipe, "d", "linux-arm64"),
        ];
        expect(new Set(keys).size).toBe(keys.length);
        expect(keyOf({ ...recipe }, "d", "linux-x64")).toBe(keys[0]);
    });
});

describe("link", () => {
    it("replaces a link to something else and leaves one that is right", () => {
        const at = path.join(folder, "bin", "tool");
        link("/one", at);
        expect(fs.readlinkSync(at)).toBe("/one");
        const made = fs.lstatSync(at).ino;
        link("/one", at);
        expect(fs.lstatSync(at).ino).toBe(made);
        link("/two", at);
        expect(fs.readlinkSync(at)).toBe("/two");
        expect(fs.readdirSync(path.dirname(at))).toEqual(["tool"]);
    });
});
