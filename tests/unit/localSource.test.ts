import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { expect, test } from "vitest";
import { listFiles } from "../../components/internal/contexts";
import { localRevision } from "../../components/stages/localSource";
import { TestRepository } from "../support/gitServer";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const checkout = () => new TestRepository(path.join(temporaryFolder(), "vllm.git"), { "setup.py": "one\n", ".gitignore": "build/\n" });

test("a clean checkout is at its commit", () => {
    const { work, git } = bound(checkout());
    expect(localRevision(work)).toBe(git("rev-parse", "HEAD"));
});

test.each<[string, Record<string, string>]>([
    ["a changed file", { "setup.py": "two\n" }],
    ["a new file", { "new.py": "" }],
])("%s makes it dirty, and a file that git ignores does not", (_claim, files) => {
    const { work, git } = bound(checkout());
    writeTree(work, { "build/kernel.o": "object\n" });
    expect(localRevision(work)).toBe(git("rev-parse", "HEAD"));
    writeTree(work, files);
    expect(localRevision(work)).toBe(`${git("rev-parse", "HEAD")}-dirty`);
});

test("a folder that is no checkout of its own has no commit, even inside another repository", () => {
    const { work } = bound(checkout());
    writeTree(work, { "sources/vllm/setup.py": "" });
    expect(localRevision(path.join(work, "sources/vllm"))).toBe("local");
});

test("a worktree is a checkout too", () => {
    const repository = checkout();
    const { git } = bound(repository);
    const folder = path.join(path.dirname(repository.work), "tree");
    git("worktree", "add", "--quiet", folder, "HEAD");
    expect(localRevision(folder)).toBe(git("rev-parse", "HEAD"));
});

test("what is built of a checkout is what is committed, changed or new, submodules included, and nothing that git ignores", () => {
    const inner = new TestRepository(path.join(temporaryFolder(), "inner.git"), { "inner.h": "" });
    const { work } = bound(checkout());
    execFileSync("git", ["-C", work, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.bare, "third_party/inner"]);
    writeTree(work, { "build/kernel.o": "object\n", "new.py": "" });
    expect(listFiles(work, ".").sort()).toEqual([".gitignore", ".gitmodules", "new.py", "setup.py", "third_party/inner/inner.h"]);
    fs.rmSync(path.join(work, "setup.py"));
    expect(listFiles(work, ".")).not.toContain("setup.py");
});

function bound(repository: TestRepository): { work: string; git: (...args: string[]) => string } {
    return { work: repository.work, git: repository.git.bind(repository) };
}
