import { spawn, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { hashFiles, listFiles, materialise } from "../../components/internal/contexts";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";
import { refusal } from "../support/refusal";

const temporaryFolder = temporaryFolders();

const tree = { "src/a.txt": "a\n", "src/run": "#!/bin/sh\n", "src/deep/b.txt": "b\n", "other.txt": "o\n" };

/** A program folder that holds `files`, as the working folder. */
function program(files: Record<string, string> = tree): string {
    const folder = temporaryFolder();
    writeTree(folder, files);
    process.chdir(folder);
    return folder;
}

function modes(folder: string): Record<string, string> {
    const entries = fs.readdirSync(folder, { withFileTypes: true, recursive: true });
    return Object.fromEntries(
        entries
            .map((entry) => path.join(entry.parentPath, entry.name))
            .map((entry) => [path.relative(folder, entry), (fs.statSync(entry).mode & 0o777).toString(8)]),
    );
}

describe("a materialised context", () => {
    test("lies under the program at a relative path of 16 hex digits", () => {
        program();
        expect(materialise("src", ["."])).toMatch(/^\.gh200\/contexts\/[0-9a-f]{16}$/);
    });

    test("has the named files alone, folders with all that is in them", () => {
        program();
        const context = materialise(".", ["src/deep", "other.txt"]);
        expect(listFiles(context, ".").sort()).toEqual(["other.txt", "src/deep/b.txt"]);
        expect(fs.readFileSync(path.join(context, "src/deep/b.txt"), "utf8")).toBe("b\n");
    });

    test.each<[string, (context: string) => void]>([
        ["a file changed under the name of another content", (context) => fs.writeFileSync(path.join(context, "a.txt"), "poison")],
        ["a file added under the name of another content", (context) => fs.writeFileSync(path.join(context, "sitecustomize.py"), "poison")],
        ["a file that no listing shows", (context) => writeTree(context, { "__pycache__/a.pyc": "poison" })],
        ["a file that became a link", (context) => (fs.rmSync(path.join(context, "a.txt")), fs.symlinkSync("/etc/passwd", path.join(context, "a.txt")))],
        ["a link in the place of the whole folder", (context) => (fs.renameSync(context, "kept"), fs.symlinkSync(path.resolve("kept"), context))],
        ["a file that was taken away", (context) => fs.rmSync(path.join(context, "a.txt"))],
        ["a file that may be run", (context) => fs.chmodSync(path.join(context, "a.txt"), 0o755)],
    ])("is made anew where its folder holds %s", (_, poison) => {
        program();
        const context = materialise("src", ["."]);
        const before = modes(context);
        poison(context);
        expect(materialise("src", ["."])).toBe(context);
        expect(fs.lstatSync(context).isSymbolicLink()).toBe(false);
        expect(modes(context)).toEqual(before);
        expect(fs.readFileSync(path.join(context, "a.txt"), "utf8")).toBe(fs.readFileSync("src/a.txt", "utf8"));
    });

    test("has the same modes whatever the umask was", () => {
        program();
        fs.chmodSync("src/a.txt", 0o600);
        fs.chmodSync("src/run", 0o700);
        fs.chmodSync("src/deep", 0o700);
        const before = process.umask(0o077);
        try {
            expect(modes(materialise("src", ["."]))).toEqual({ "a.txt": "644", deep: "755", "deep/b.txt": "644", run: "755" });
        } finally {
            process.umask(before);
        }
    });

    test("has the same path for the same content in another folder, with another umask and at another time", () => {
        program();
        const first = materialise("src", ["."]);
        const second = program();
        fs.renameSync("src", "elsewhere");
        for (const file of listFiles("elsewhere", ".")) {
            fs.chmodSync(path.join("elsewhere", file), file === "run" ? 0o700 : 0o600);
            fs.utimesSync(path.join("elsewhere", file), 1, 1);
        }
        expect(materialise(path.join(second, "elsewhere"), ["."])).toBe(first);
    });

    test("has the same path in whatever order its files are named", () => {
        program();
        expect(materialise(".", ["src", "other.txt"])).toBe(materialise(".", ["other.txt", "src"]));
    });

    test.each([
        ["a changed byte", () => fs.writeFileSync("src/a.txt", "b\n")],
        ["an executable bit", () => fs.chmodSync("src/a.txt", 0o755)],
        ["a renamed file", () => fs.renameSync("src/a.txt", "src/c.txt")],
        ["a file more", () => fs.writeFileSync("src/c.txt", "")],
        ["a file less", () => fs.rmSync("src/a.txt")],
    ])("has another path with %s", (_claim, change) => {
        program();
        const before = materialise("src", ["."]);
        change();
        expect(materialise("src", ["."])).not.toBe(before);
    });

    test("cannot be confused by a name that continues in the content", () => {
        program({ "one/ab": "c", "two/a": "bc" });
        expect(materialise("one", ["."])).not.toBe(materialise("two", ["."]));
    });

    test.each(["__pycache__/a.txt", "deep/.pytest_cache/x", ".DS_Store", "node_modules/a/index.js", ".gh200/x", ".sandbox/x", "deep/a.pyc"])(
        "leaves %s out",
        (name) => {
            program();
            const before = materialise("src", ["."]);
            writeTree("src", { [name]: "ignored" });
            expect(materialise("src", ["."])).toBe(before);
            expect(listFiles(before, ".").sort()).toEqual(["a.txt", "deep/b.txt", "run"]);
        },
    );

    test("of a broken checkout is refused in words", () => {
        program();
        writeTree("src", { ".git/HEAD": "no repository" });
        expect(refusal(() => materialise("src", ["."]))).toEqual([
            "src: has a .git that git cannot read; accepted: a checkout, or a folder without .git; git -C src status says why",
        ]);
    });

    test("of no files is an empty folder", () => {
        program();
        expect(fs.readdirSync(materialise(".", []))).toEqual([]);
    });

    test("is left as it is when it exists, and no staging folder stays behind", () => {
        program();
        const context = materialise("src", ["."]);
        const made = fs.statSync(context).ino;
        expect(materialise("src", ["."])).toBe(context);
        expect(fs.statSync(context).ino).toBe(made);
        expect(fs.readdirSync(".gh200/contexts")).toEqual([path.basename(context)]);
    });
});

describe("an ignore file", () => {
    const files = {
        "a.c": "",
        "b.c": "",
        ".env": "TOKEN",
        "deep/.env": "TOKEN",
        "deep/key.pem": "KEY",
        "docs/a.md": "",
        "docs/keep.md": "",
        "docs/sub/b.md": "",
    };
    const contextOf = (ignore: Record<string, string>, paths = ["."], dockerfile?: string): string[] => {
        program();
        writeTree("ctx", { ...files, ...ignore });
        return listFiles(materialise("ctx", paths, dockerfile), ".")
            .filter((file) => !(file in ignore) && !file.endsWith("/"))
            .sort();
    };

    // The patterns of docs.docker.com/build/concepts/context, and what people write of them.
    test.each<[string, string, string[]]>([
        ["a name, at the root alone", ".env\n", ["a.c", "b.c", "deep/.env", "deep/key.pem", "docs/a.md", "docs/keep.md", "docs/sub/b.md"]],
        ["any depth", "**/.env\n**/*.pem\n", ["a.c", "b.c", "docs/a.md", "docs/keep.md", "docs/sub/b.md"]],
        ["a folder, and one file of it again", "docs\n!docs/keep.md\n**/.env\n**/*.pem\n", ["a.c", "b.c", "docs/keep.md"]],
        ["everything but", "*\n!*.c\n", ["a.c", "b.c"]],
        ["a later rule over an earlier", "!a.c\n*.c\n**/.env\n*/*.pem\ndocs/\n", []],
        ["comments, blanks, slashes and dots", "# deep\n\n  /docs/  \n./deep\n.env\n", ["a.c", "b.c"]],
        ["one character, a range", "?.c\n[d]ocs\ndeep\n.env\n", []],
        ["upper case, which is another name", "A.C\n.ENV\ndocs\ndeep\n", [".env", "a.c", "b.c"]],
    ])("leaves out %s", (_, rules, left) => {
        expect(contextOf({ ".dockerignore": rules })).toEqual(left);
    });

    test("of the Dockerfile's own name comes before the context's", () => {
        const own = { "Dockerfile.dockerignore": "**/.env\n**/*.pem\ndocs\n.dockerignore\n", ".dockerignore": "*.c\n" };
        expect(contextOf(own, ["."], "ctx/Dockerfile")).toEqual(["a.c", "b.c"]);
        expect(refusal(() => contextOf({ ...own, "Dockerfile.dockerignore": "docs\n" }, ["."], "ctx/Dockerfile"))[0]).toMatch(
            /^ctx\/\.dockerignore: would be applied on top of ctx\/Dockerfile\.dockerignore/,
        );
    });

    test("moves nothing by what it leaves out", () => {
        program();
        writeTree("ctx", { ...files, ".dockerignore": "**/.env\n" });
        const before = materialise("ctx", ["."]);
        fs.writeFileSync("ctx/deep/.env", "ANOTHER");
        expect(materialise("ctx", ["."])).toBe(before);
    });

    test("leaves a folder empty whose files alone it names", () => {
        program();
        writeTree("ctx", { ...files, ".dockerignore": "docs/**\ndeep\n" });
        const folders = listFiles(materialise("ctx", ["."]), ".").filter((file) => file.endsWith("/"));
        expect(folders).toEqual(["docs/"]);
    });

    test("that leaves out what the Dockerfile reads is refused in words", () => {
        expect(refusal(() => contextOf({ ".dockerignore": "deep\n" }, ["deep"]))).toEqual([
            "ctx/deep: is left out by the ignore file, and the Dockerfile reads it; accepted: a file of the context",
        ]);
    });
});

describe("a link", () => {
    const linked = (links: Record<string, string>, files: Record<string, string> = { "real/a.txt": "a" }): void => {
        program({});
        writeTree("ctx", files);
        Object.entries(links).forEach(([name, target]) => fs.symlinkSync(target, path.join("ctx", name)));
    };

    test.each([
        ["to a folder", "real"],
        ["to its own folder", "."],
        ["to nothing", "nowhere"],
    ])("%s stays a link", (_, target) => {
        linked({ link: target });
        const context = materialise("ctx", ["."]);
        expect(fs.readlinkSync(path.join(context, "link"))).toBe(target);
        expect(listFiles(context, ".").sort()).toEqual(["link", "real/a.txt"]);
    });

    const leaving = (target: string, at = "link") =>
        `ctx/${at}: ${target}: is a link that leaves its context; accepted: a link within it; put the file itself there, or name the link in .dockerignore`;

    test.each<[string, string]>([
        ["to a file by its whole path", "/etc/passwd"],
        ["to a folder by its whole path", "/etc"],
        ["to a file beside the context", "../outside"],
        ["to the folder of the context", ".."],
        ["to nothing beside the context", "../nowhere"],
        ["out of the context and into it again", "../ctx/real"],
        ["out of the context by a folder of it", "real/../../outside"],
        ["out of the context by another link", "self/../outside"],
    ])("%s is refused, whether it is read by name or not", (_, target) => {
        linked({ link: target, self: "." });
        fs.writeFileSync("outside", "secret");
        for (const named of [".", "link", "link/a.txt", "l*"]) {
            expect(
                refusal(() => materialise("ctx", [named])),
                named,
            ).toEqual([leaving(target)]);
        }
    });

    test("that an ignore file has taken back is refused, and one that it leaves out is not", () => {
        linked({ link: "/etc/passwd", other: "../outside" }, { "real/a.txt": "a", ".dockerignore": "*\n!real\n!link\n" });
        expect(refusal(() => materialise("ctx", ["."]))).toEqual([leaving("/etc/passwd")]);
        writeTree("ctx", { ".dockerignore": "link\nother\n" });
        expect(listFiles(materialise("ctx", ["."]), ".").sort()).toEqual([".dockerignore", "real/a.txt"]);
    });

    test("below a folder is refused by what it is in the context, all of them at once", () => {
        linked({ "real/up": "../../outside", "real/in": "../real", link: "/etc" });
        expect(refusal(() => materialise("ctx", ["."])).sort()).toEqual([leaving("/etc"), leaving("../../outside", "real/up")]);
    });

    test("to somebody's checkout brings nothing of it", () => {
        linked({ link: "../theirs" });
        writeTree("theirs", { "secret.txt": "secret" });
        spawnSync("git", ["init", "--quiet", "theirs"]);
        expect(refusal(() => materialise("ctx", ["."]))).toEqual([leaving("../theirs")]);
    });

    test("in the place of a committed folder brings nothing of what it leads to", () => {
        linked({});
        const git = (...args: string[]) => spawnSync("git", ["-C", "ctx", "-c", "user.name=t", "-c", "user.email=t@example.com", ...args]);
        git("init", "--quiet");
        git("add", ".");
        fs.rmSync("ctx/real", { recursive: true });
        writeTree("theirs", { "a.txt": "secret" });
        fs.symlinkSync("../theirs", "ctx/real");
        expect(refusal(() => materialise("ctx", ["."]))).toEqual([leaving("../theirs", "real")]);
    });

    test("that is read by name brings what it leads to", () => {
        linked({ link: "real" });
        for (const named of ["link", "link/a.txt"]) {
            expect(listFiles(materialise("ctx", [named]), ".").sort(), named).toEqual(["link", "real/a.txt"]);
        }
    });

    test.each([
        ["to nothing", "nowhere", "nowhere"],
        ["to itself", "link", "link"],
    ])("that is read by name and leads %s is refused in words", (_, target, last) => {
        linked({ link: target });
        expect(refusal(() => materialise("ctx", ["link"]))).toEqual([
            `ctx/link: is a link that leads to ${last}, which is not there; accepted: a file or folder of the context`,
        ]);
    });

    test("is another context where it leads elsewhere", () => {
        linked({ link: "one" });
        const before = materialise("ctx", ["."]);
        fs.rmSync("ctx/link");
        fs.symlinkSync("two", "ctx/link");
        expect(materialise("ctx", ["."])).not.toBe(before);
    });

    test("of a git checkout may lead to a folder", () => {
        linked({ link: "real" });
        spawnSync("git", ["init", "--quiet", "ctx"]);
        expect(listFiles(materialise("ctx", ["."]), ".").sort()).toEqual(["link", "real/a.txt"]);
    });
});

test("a pattern names files as COPY does, and a folder with all that is in it", () => {
    program({ "ctx/a.c": "", "ctx/b.h": "", "ctx/sub/c.c": "", "ctx/sub/deep/d.c": "" });
    const matched = (...paths: string[]) => listFiles(materialise("ctx", paths), ".").sort();
    expect(matched("*.c")).toEqual(["a.c"]);
    expect(matched("[a-b].?")).toEqual(["a.c", "b.h"]);
    expect(matched("sub/*")).toEqual(["sub/c.c", "sub/deep/d.c"]);
    expect(matched("s*")).toEqual(["sub/c.c", "sub/deep/d.c"]);
    expect(matched("none*")).toEqual([]);
});

test("a path that is not there is refused in words", () => {
    program();
    expect(refusal(() => materialise("src", ["gone"]))).toEqual([
        "src/gone: does not exist, and the Dockerfile reads it; accepted: a file or folder of the context",
    ]);
});

test("an empty folder is a folder of the context", () => {
    program();
    fs.mkdirSync("src/empty");
    expect(fs.statSync(path.join(materialise("src", ["."]), "empty")).isDirectory()).toBe(true);
});

test("a path from above is one of the context", () => {
    program();
    expect(materialise("src", ["a.txt"])).toBe(materialise("src", ["../../a.txt"]));
});

test("a submodule that is not checked out is refused in words", () => {
    program({ "src/a.txt": "a" });
    const git = (...args: string[]) => spawnSync("git", ["-C", "src", "-c", "user.name=t", "-c", "user.email=t@example.com", ...args], { encoding: "utf8" });
    git("init", "--quiet");
    git("add", ".");
    git("update-index", "--add", "--cacheinfo", `160000,${"1".repeat(40)},sub`);
    fs.mkdirSync("src/sub");
    expect(refusal(() => materialise("src", ["."]))).toEqual([
        "src/sub: is a submodule that is not checked out; accepted: a checkout with its submodules; git -C src submodule update --init --recursive",
    ]);
});

test("two processes that materialise the same content at once both get it whole", async () => {
    const folder = program(Object.fromEntries(Array.from({ length: 200 }, (_, i) => [`src/${i}.txt`, `${i}`])));
    const module = path.join(repositoryRoot, "components", "internal", "contexts");
    const tsx = path.join(repositoryRoot, "node_modules", ".bin", "tsx");
    // Each waits for the same instant, so that they copy at the same time.
    const script = `const { materialise } = require(${JSON.stringify(module)});
        while (Date.now() < ${Date.now() + 1500}) {}
        process.stdout.write(materialise("src", ["."]));`;
    const run = () =>
        new Promise<string>((resolve, reject) => {
            const child = spawn(tsx, ["-e", script], { cwd: folder, stdio: ["ignore", "pipe", "inherit"] });
            let out = "";
            child.stdout.on("data", (data) => (out += data));
            child.on("close", (code) => (code === 0 ? resolve(out) : reject(new Error(`exit ${code}`))));
        });
    const [first, second] = await Promise.all([run(), run()]);
    expect(first).toBe(second);
    expect(listFiles(first, ".")).toHaveLength(200);
    expect(fs.readdirSync(".gh200/contexts")).toEqual([path.basename(first)]);
    expect(hashFiles(first, listFiles(first, ".").sort())).toBe(path.basename(first));
});
