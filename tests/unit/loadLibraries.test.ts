import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders } from "../support/temporaryFolder";

/* What the image's check makes of compiled libraries: small ones, made by this machine's C compiler. */
const temporaryFolder = temporaryFolders();
const script = path.join(repositoryRoot, "assets/vllm/build/common/load-libraries");
const compiler = ["cc", "gcc", "clang"].find((name) => spawnSync(name, ["--version"]).status === 0);

function library(folder: string, name: string, code: string, ...flags: string[]): string {
    const file = path.join(folder, `${name}.so`);
    execFileSync(compiler!, ["-shared", "-fPIC", "-x", "c", "-", "-x", "none", "-o", file, ...flags], { input: code });
    return file;
}
const load = (...files: string[]) => {
    const { status, stdout } = spawnSync("python3", [script, ...files], { encoding: "utf8" });
    return { status, lines: stdout.split("\n").filter((line) => line !== "") };
};

test.skipIf(compiler === undefined)("a library whose symbols are all found passes", () => {
    const folder = temporaryFolder();
    expect(load(library(folder, "good", "int answer(void) { return 42; }"))).toEqual({ status: 0, lines: [] });
});

test.skipIf(compiler === undefined)(
    "every library that does not load is named with its reason, also where a symbol would only be missed when it is called",
    () => {
        const folder = temporaryFolder();
        const undefinedSymbol = library(folder, "lazy", "int absent(void); int answer(void) { return absent(); }", "-Wl,-z,lazy");
        const gone = library(folder, "libgone", "int gone(void) { return 1; }");
        const orphan = library(folder, "orphan", "int gone(void); int answer(void) { return gone(); }", gone);
        fs.rmSync(gone);
        const crash = library(folder, "crash", "#include <stdlib.h>\n__attribute__((constructor)) static void start(void) { abort(); }");
        const good = library(folder, "good", "int answer(void) { return 42; }");
        expect(load(undefinedSymbol, good, orphan, crash)).toEqual({
            status: 1,
            lines: [
                `${undefinedSymbol}: undefined symbol: absent`,
                expect.stringMatching(/libgone\.so: cannot open shared object file/),
                `${crash}: loading it ended with signal 6`,
            ],
        });
    },
);

test("the image's checks and LMCache's ask it for all libraries, and take no import for proof", () => {
    const text = (file: string): string => fs.readFileSync(path.join(repositoryRoot, "assets", file), "utf8");
    expect(text("vllm/build/final/check-image")).toContain('"/common/load-libraries", *libraries]');
    expect(text("lmcache/install")).toContain('python3 /stage/install/load-libraries "${libraries[@]}"');
    expect(text("vllm/build/final/check-image") + text("lmcache/install")).not.toMatch(/lmcache\.c_ops|vllm\._C/);
});
