import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { contextAddressProblems, isGitAddress, isGitRef } from "../../components/rules/gitAddress";
import { defaultSources, gitContext } from "../../components/stages/sources";
import { isAncestor, resolveRef } from "../../pins/git";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const commit = "0123456789abcdef0123456789abcdef01234567";

/** Each ran a command, read a file, or gave a password away, somewhere in git's history. */
const notAddresses = [
    "--upload-pack=touch pwned; false",
    "-u touch pwned",
    "ext::sh -c touch% pwned",
    "file:///etc",
    "/etc",
    "../other",
    "git@github.com:vllm-project/vllm.git",
    "git://example.com/vllm.git",
    "ftp://example.com/vllm.git",
    "http://example.com/vllm.git",
    "http://127.0.0.1.example.com/vllm.git",
    "http://localhost@example.com/vllm.git",
    "https://token@example.com/vllm.git",
    "https://me:secret@example.com/vllm.git",
    "ssh://me:secret@example.com/vllm.git",
    "ssh://-oProxyCommand=touch pwned/x",
    "ssh://-oProxyCommand=id@example.com/x",
    "https://example.com",
    "https://example.com/",
    "https:///vllm.git",
    "https://example.com/a b",
    "https://example.com/a\n--upload-pack=id",
    "https://example.com/vllm.git#main",
    "https://example.com/vllm.git?ref=main",
    "https://example.com/a/../../etc",
    "https://example.com/%0aid",
    "https://example.com/$(id)",
    "https://example.com\\@evil.example/x",
    "HTTP://EXAMPLE.COM/x",
    "",
];
const addresses = [
    ...Object.values(defaultSources).map(({ repository }) => repository),
    "https://example.com:3000/group/sub-group/vllm.git",
    "https://dev.azure.com/org/my%20project/_git/vllm",
    "https://git.sr.ht/~me/vllm",
    "ssh://git@example.com:2222/vllm.git",
    "ssh://example.com/vllm",
    "http://127.0.0.1:8080/vllm.git",
    "http://localhost/vllm.git",
    "http://[::1]:80/vllm.git",
];
const notRefs = [
    ...["--upload-pack=id", "-b", "", "a b", "a..b", "a:b", "a#b", "a~1", "a^{}", "@", "a@{1}", "a\nb", "refs//x", "a/.b", "a.lock", "a.lock/b", "a/"],
    ...["/a", ".a", "a.", "a/-b", "a*", "$(id)", "a\\b", "a;id"],
];
const refs = ["main", "cmm", "v0.6.6", "release/2.11", "feature/a_b+c", commit, "refs/heads/main", "dependabot/npm_and_yarn/@types/node-1"];

describe("a repository's address", () => {
    test.each(addresses)("%s is one", (text) => expect(isGitAddress(text)).toBe(true));
    test.each(notAddresses)("%j is none", (text) => expect(isGitAddress(text)).toBe(false));

    test("is never an option, a local path or a place for a password", () => {
        fc.assert(
            fc.property(
                fc.oneof(
                    fc.string(),
                    fc.tuple(fc.constantFrom("https://", "ssh://", "http://"), fc.string()).map(([a, b]) => a + b),
                ),
                (text) => {
                    if (isGitAddress(text)) {
                        expect(text).toMatch(/^(https|ssh|http):\/\/[^-\s]\S*$/i);
                        expect(new URL(text).password).toBe("");
                    }
                },
            ),
            { numRuns: 5000 },
        );
    });
});

describe("a ref", () => {
    test.each(refs)("%s is one", (text) => expect(isGitRef(text)).toBe(true));
    test.each(notRefs)("%j is none", (text) => expect(isGitRef(text)).toBe(false));

    test("is none where git says so", () => {
        fc.assert(
            fc.property(fc.string({ unit: fc.constantFrom(..."ab/.-@{~^:?*[\\ #"), minLength: 1, maxLength: 8 }), (text) => {
                if (isGitRef(text)) {
                    expect(spawnSync("git", ["check-ref-format", `refs/heads/${text}`]).status, text).toBe(0);
                }
            }),
            { numRuns: 300 },
        );
    });
});

describe("a context's address", () => {
    test.each([
        ...Object.values(defaultSources).map(gitContext),
        `https://git.example.com:3000/lmcache.git?submodules=false#${commit}`,
        "https://e.com/a.git#main:folder",
        "docker-image://example.com/x@sha256:00",
    ])("%s is handed on", (location) => expect(contextAddressProblems("namedContexts.src", location)).toEqual([]));

    test.each([
        ...notAddresses.filter((text) => text.includes("://") && !/[?#]/.test(text)),
        "https://e.com/a.git#--upload-pack=id",
        "https://e.com/a.git#main:../..",
        "https://e.com/a.git?x=$(id)#main",
        "http://e.com/context.tar.gz",
    ])("%j is refused", (location) => expect(contextAddressProblems("namedContexts.src", location)).toHaveLength(1));

    test("with a password is refused without showing it", () => {
        expect(contextAddressProblems("namedContexts.src", "https://me:hunter2@e.com/a.git").map(problemLine)).toEqual([
            "namedContexts.src: https://…@e.com/a.git: is no git address; accepted: https://HOST/PATH or ssh://USER@HOST/PATH, without a password",
        ]);
    });
});

describe("npm run pins", () => {
    /** Runs it on a stack file in a folder of its own; `pwned` is what an attack would leave there. */
    function pins(sources: string): { output: string; status: number | null; files: string[] } {
        const folder = temporaryFolder();
        writeTree(folder, { "Pulumi.yaml": "name: gh200-vllm\nruntime: nodejs\n", "Pulumi.evil.yaml": `config:\n  gh200-vllm:sources:\n${sources}` });
        const tsx = path.join(repositoryRoot, "node_modules/.bin/tsx");
        const { stdout, stderr, status } = spawnSync(tsx, [path.join(repositoryRoot, "pins/main.ts"), "--stack", "evil"], { cwd: folder, encoding: "utf8" });
        return { output: stdout + stderr, status, files: fs.readdirSync(folder).sort() };
    }

    test("runs nothing that a repository or a ref says, and names both", () => {
        const { output, status, files } = pins(
            ['    src-triton: { repository: "--upload-pack=touch pwned; false", ref: main }', '    src-vllm: { ref: "--upload-pack=touch pwned" }', ""].join(
                "\n",
            ),
        );
        expect(files).toEqual(["Pulumi.evil.yaml", "Pulumi.yaml"]);
        expect(status).toBe(1);
        expect(output.trim().split("\n")).toEqual([
            "gh200-vllm:sources.src-triton.repository: --upload-pack=touch pwned; false: is no git address; accepted: https://HOST/PATH or ssh://USER@HOST/PATH, without a password",
            "gh200-vllm:sources.src-vllm.ref: --upload-pack=touch pwned: is no branch or tag; accepted: its name alone",
        ]);
    }, 60_000);

    test.each(notAddresses)("asks git nothing about %j, whoever calls", async (repository) => {
        await expect(resolveRef(repository, "main")).rejects.toThrow("is no git address");
        await expect(isAncestor(repository, commit, commit)).rejects.toThrow("is no git address");
    });

    test.each(notRefs)("asks git nothing about the ref %j", async (ref) => {
        await expect(resolveRef("https://127.0.0.1:1/a.git", ref)).rejects.toThrow("is no branch or tag");
        await expect(isAncestor("https://127.0.0.1:1/a.git", ref, commit)).rejects.toThrow("is no commit");
    });
});
