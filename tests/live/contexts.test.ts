import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { materialise } from "../../components/internal/contexts";
import { sliceDockerfile } from "../../components/internal/dockerfile";
import { writeTree } from "../support/temporaryFolder";
import { LiveSandbox } from "./liveSandbox";

/*
 * A real BuildKit builds the same target twice: from a folder and its Dockerfile as a person has them, and from the slice and the copied context
 * of this package. What comes out is the same, file by file; what the ignore file names is in neither, nor in the copied context.
 */
const MINUTE = 60_000;

let sandbox: LiveSandbox;
const before = process.cwd();

beforeAll(() => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
}, 15 * MINUTE);
// A sandbox that was given is left as it is.
afterAll(() => {
    process.chdir(before);
    process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget();
}, 10 * MINUTE);

/** Every file, link and folder below, with what it holds. */
function tree(folder: string): string[] {
    return fs
        .readdirSync(folder, { recursive: true, withFileTypes: true })
        .map((entry) => {
            const file = path.join(entry.parentPath, entry.name);
            const what = entry.isSymbolicLink() ? `-> ${fs.readlinkSync(file)}` : entry.isDirectory() ? "/" : fs.readFileSync(file, "utf8");
            return `${path.relative(folder, file)} ${what}`;
        })
        .sort();
}

/** What BuildKit makes of a context and a Dockerfile; the last lines of its refusal where it does not. */
function built(context: string, dockerfile: string, target: string, ...options: string[]): string[] | string {
    const out = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-out-"));
    try {
        const { dir, base } = path.parse(path.resolve(dockerfile));
        const locals = ["--local", `context=${context}`, "--local", `dockerfile=${dir}`, "--opt", `filename=${base}`, "--opt", `target=${target}`];
        sandbox.buildctl("build", "--frontend=dockerfile.v0", "--progress=quiet", ...locals, ...options, "--output", `type=local,dest=${out}`);
        return tree(out);
    } catch (error) {
        return String(error).slice(-400);
    } finally {
        fs.rmSync(out, { recursive: true, force: true });
    }
}

const files = {
    "a.c": "a",
    "b.c": "b",
    "c.h": "c",
    ".env": "TOKEN=1",
    "src/.env": "TOKEN=2",
    "src/key.pem": "KEY",
    "src/main.c": "main",
    "src/deep/x.c": "x",
    "docs/a.md": "a",
    "docs/keep.md": "keep",
    "a b.txt": "blank",
};

interface Case {
    ignore?: string;
    /** Beside the Dockerfile, in its name. */
    own?: string;
    links?: Record<string, string>;
    dockerfile: string;
    options?: string[];
}

const all = "FROM scratch AS final\nCOPY . /\n";
const cases: Record<string, Case> = {
    "an ignore file by name, at the root alone": { ignore: ".env\n", dockerfile: all },
    "any depth": { ignore: "**/.env\n**/*.pem\n", dockerfile: all },
    "an ignore file where a folder alone is copied": { ignore: "**/.env\n**/*.pem\n", dockerfile: "FROM scratch AS final\nCOPY src /x\n" },
    "a folder, and one file of it again": { ignore: "docs\n!docs/keep.md\n", dockerfile: all },
    "everything but": { ignore: "*\n!src\nsrc/*.pem\n!a.c\n", dockerfile: all },
    "a later rule over an earlier": { ignore: "!a.c\n*.c\n!b.c\n", dockerfile: all },
    "comments, blanks, slashes and dots": { ignore: "# src\n\n  /docs/  \n./src\n", dockerfile: all },
    "a range, one character, a star within": { ignore: "[a-b].c\n?.h\ns*c/d*p\n", dockerfile: all },
    "two stars in the middle and at the end": { ignore: "src/**/x.c\ndocs/**\n", dockerfile: all },
    "upper case, which is another name": { ignore: ".ENV\nDOCS\n", dockerfile: all },
    "a rule that ends everything, with a path into it again": { ignore: "**\n!src/deep/x.c\n", dockerfile: all },
    "the Dockerfile's own": { own: "**/.env\n**/*.pem\n.dockerignore\n*.dockerignore\n", ignore: "*.c\n", dockerfile: all },
    patterns: { dockerfile: "FROM scratch AS final\nCOPY *.c ?.h src/*.c /x/\nCOPY s* /y/\n" },
    "a list in JSON": { dockerfile: 'FROM scratch AS final\nCOPY ["a b.txt", "src/main.c", "/x/"]\n' },
    "paths from above": { dockerfile: "FROM scratch AS final\nCOPY ../a.c src/../b.c /src/main.c /x/\n" },
    "links, to nothing too": { links: { in: "src", none: "nowhere", "docs/up": "../src/main.c" }, dockerfile: all },
    "a link that is named": { links: { in: "src", file: "docs/a.md" }, dockerfile: "FROM scratch AS final\nCOPY in /x\nCOPY in/deep/x.c file /y/\n" },
    "a stage that an argument chooses": {
        dockerfile: "ARG KIND=one\nFROM scratch AS pick_one\nCOPY a.c /\nFROM scratch AS pick_two\nONBUILD COPY b.c /\nFROM pick_${KIND} AS final\n",
    },
    "another stage that is given": {
        dockerfile: "ARG KIND=one\nFROM scratch AS pick_one\nCOPY a.c /\nFROM scratch AS pick_two\nONBUILD COPY b.c /\nFROM pick_${KIND} AS final\n",
        options: ["KIND=two"],
    },
    "a stage for the platform": {
        dockerfile: "FROM scratch AS for-amd64\nCOPY a.c /\nFROM scratch AS for-arm64\nCOPY b.c /\nFROM for-${TARGETARCH} AS final\n",
    },
    "a directive": { dockerfile: "# escape=`\nFROM scratch AS final\nCOPY a.c `\n  b.c /x/\n" },
    "a here-document beside files": { dockerfile: "FROM scratch AS final\nCOPY <<EOF a.c /x/\nhello\nEOF\nCOPY b.c /\n" },
};

describe("the same comes out of a slice and its copied context as of the folder itself", () => {
    test.each(Object.entries(cases))(
        "with %s",
        (_, { ignore, own, links = {}, dockerfile, options = [] }) => {
            const program = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-context-"));
            process.chdir(program);
            const given = { ...(ignore !== undefined && { ".dockerignore": ignore }), ...(own !== undefined && { "D.dockerignore": own }) };
            writeTree("ctx", { ...files, ...given, D: dockerfile });
            Object.entries(links).forEach(([name, target]) => fs.symlinkSync(target, path.join("ctx", name)));
            const args = options.flatMap((option) => ["--opt", `build-arg:${option}`]);
            const expected = built("ctx", "ctx/D", "final", ...args);
            expect(Array.isArray(expected), String(expected)).toBe(true);
            const slice = sliceDockerfile(dockerfile, "final", [], Object.fromEntries(options.map((option) => option.split("=") as [string, string])));
            const context = materialise("ctx", slice.contextPaths, "ctx/D");
            fs.writeFileSync("Slice", slice.text);
            expect(built(context, "Slice", "final", ...args)).toEqual(expected);
            const secrets = (expected as string[]).some((line) => line.includes("TOKEN"));
            expect(tree(context).some((line) => line.includes("TOKEN"))).toBe(secrets);
            fs.rmSync(program, { recursive: true, force: true });
        },
        2 * MINUTE,
    );
});
