import { spawn } from "node:child_process";
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
