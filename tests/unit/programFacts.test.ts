import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { beforeEach, describe, expect, test } from "vitest";
import { clusterIdentity } from "../../approval/cluster";
import { changeFacts, coveredFiles, factsDigest } from "../../approval/facts";
import { uncoveredProblems } from "../../approval/loaded";
import { installedPackages, neededPackages } from "../../approval/packages";
import { contextFacts, programFacts } from "../../approval/tree";
import { problemLine } from "../../components/internal/errors";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

// What the digest is made of, of folders on the disk. tests/program/attacks.test.ts has the same by the engine.
const newFolder = temporaryFolders();
let root: string;
const folder = () => root;
const at = (name: string) => path.join(root, name);
const write = (files: Record<string, string>) => writeTree(root, files);

const named = () => Object.keys(programFacts(folder())).sort();

beforeEach(() => {
    root = newFolder();
    write({ "index.ts": "", "Pulumi.yaml": "name: test\n", "package.json": "{}" });
});

describe("the files of a program", () => {
    test("are those that run, and no documentation, tests or build results", () => {
        write({
            "docs/a.md": "",
            "tests/a.ts": "",
            "tools/a.ts": "",
            "components/bin/a.js": "",
            "components/a.ts": "",
            "notes.txt": "",
            "sandbox/sources/a": "",
        });
        expect(named()).toEqual(["Pulumi.yaml", "components/a.ts", "index.ts", "package.json", "tools/a.ts"]);
    });

    test.each<[string, Record<string, string>, string]>([
        ["main of package.json", { "package.json": '{ "main": "./lib/start" }', "lib/start.js": "" }, "lib/start.js"],
        ["exports of package.json", { "package.json": '{ "exports": { ".": { "require": "./lib/start.cjs" } } }', "lib/start.cjs": "" }, "lib/start.cjs"],
        ["imports of package.json", { "package.json": '{ "imports": { "#x": "./lib/x.js" } }', "lib/x.js": "" }, "lib/x.js"],
        ["nodeargs", { "Pulumi.yaml": "runtime: { name: nodejs, options: { nodeargs: --import=./lib/x.mjs } }\n", "lib/x.mjs": "" }, "lib/x.mjs"],
        ["nodeargs, without its ending", { "Pulumi.yaml": "nodeargs: -r ./lib/x\n", "lib/x.js": "" }, "lib/x.js"],
        ["a folder of Pulumi.yaml", { "Pulumi.yaml": "plugins: { providers: [{ name: x, path: bin/x }] }\n", "bin/x/run": "" }, "bin/x/run"],
        ["node-options of .npmrc", { ".npmrc": "node-options=--require=./lib/x.cjs\n", "lib/x.cjs": "" }, "lib/x.cjs"],
        [
            "a list of settings that are extended",
            { "tsconfig.json": '{ "extends": ["./a/one", "./a/two.json"] }', "a/one.json": "{}", "a/two.json": "{}" },
            "a/two.json",
        ],
        [
            "settings of a package",
            { "tsconfig.json": '{ "extends": "base/tsconfig.json" }', "node_modules/base/tsconfig.json": "{}" },
            "node_modules/base/tsconfig.json",
        ],
        ["what ts-node requires, past a comment", { "tsconfig.json": '{ // why\n "ts-node": { "require": ["./lib/x"] } }', "lib/x.ts": "" }, "lib/x.ts"],
        [
            "settings of another name",
            { "tsconfig.pulumi.json": '{ "extends": "./a/one" }', "a/one.json": '{ "extends": "./two" }', "a/two.json": "{}" },
            "a/two.json",
        ],
    ])("hold what is named by %s", (_, files, wanted) => {
        write(files);
        expect(named()).toContain(wanted);
    });

    test("hold nothing that a pipeline or a command writes beside the program, by a word of a comment or otherwise", () => {
        const files = ["Pulumi.yaml", "package.json", "tsconfig.json", "tsconfig.pulumi.json"];
        write(Object.fromEntries(files.map((file) => [file, fs.readFileSync(path.join(repositoryRoot, file), "utf8")])));
        const before = factsDigest(programFacts(folder()));
        const written = ["preview.md", "preview.json", "preview/preview.md", "preview/preview.json", ".gh200/failures/a.md"];
        write(Object.fromEntries(written.map((file) => [file, "{}"])));
        expect(named().filter((file) => written.includes(file))).toEqual([]);
        expect(factsDigest(programFacts(folder()))).toBe(before);
    });

    test("tell a link by where it leads and by what it leads to", () => {
        write({ "outside/a.ts": "1" });
        fs.mkdirSync(at("tools"));
        fs.symlinkSync("../outside/a.ts", at("tools/a.ts"));
        const before = programFacts(folder())["tools/a.ts"];
        write({ "outside/a.ts": "2", "outside/b.ts": "2" });
        const edited = programFacts(folder())["tools/a.ts"];
        fs.rmSync(at("tools/a.ts"));
        fs.symlinkSync("../outside/b.ts", at("tools/a.ts"));
        expect(new Set([before, edited, programFacts(folder())["tools/a.ts"]]).size).toBe(3);
    });

    test("end where a link leads back, and name what cannot be read", () => {
        fs.mkdirSync(at("tools"));
        fs.symlinkSync("..", at("tools/up"));
        fs.symlinkSync("nowhere", at("tools/dangling"));
        execFileSync("mkfifo", [at("tools/pipe")]);
        expect(programFacts(folder())).toMatchObject({
            "tools/up": "link to ..",
            "tools/dangling": "link to nowhere nothing that can be read",
            "tools/pipe": "nothing that can be read",
        });
    });

    test("tell whether a file may be executed", () => {
        write({ "ci/up": "" });
        const before = programFacts(folder())["ci/up"];
        fs.chmodSync(at("ci/up"), 0o755);
        expect(programFacts(folder())["ci/up"]).not.toBe(before);
    });
});

test("of a folder that is built, what no build is given does not count", () => {
    write({ "assets/a.py": "", "assets/__pycache__/a.pyc": "", "assets/b.pyc": "", "assets/node_modules/x": "" });
    expect(Object.keys(contextFacts(folder(), "assets"))).toEqual(["assets/a.py"]);
});

describe("the installed packages", () => {
    const lock = (packages: Record<string, object>) => ({ "package-lock.json": JSON.stringify({ packages }) });
    const two = lock({
        "": { dependencies: { a: "1" }, devDependencies: { tool: "1" } },
        "node_modules/a": { peerDependenciesMeta: { b: { optional: true } } },
        "node_modules/b": { dev: true },
        "node_modules/tool": { dev: true },
    });
    const installed = { ...two, "node_modules/a/index.js": "a", "node_modules/b/index.js": "b", "node_modules/tool/index.js": "t" };

    test("are those that the program depends on, each from where it is nearest", () => {
        const packages = {
            "": { dependencies: { a: "1" } },
            components: { dependencies: { c: "1" } },
            "node_modules/a": { dependencies: { b: "2" } },
            "node_modules/a/node_modules/b": {},
            "node_modules/b": {},
            "components/node_modules/c": {},
            "node_modules/c": {},
            "node_modules/components": { link: true },
        };
        expect([...neededPackages(packages)].sort()).toEqual(["components/node_modules/c", "node_modules/a", "node_modules/a/node_modules/b"]);
    });

    test.each<[string, Record<string, string>, boolean]>([
        ["a file of a package", { "node_modules/a/index.js": "evil" }, true],
        ["a file of an optional peer", { "node_modules/b/index.js": "evil" }, true],
        ["a new file of a package, of any kind", { "node_modules/a/index": "evil" }, true],
        ["packages deep within a package", { "node_modules/a/lib/node_modules/x/index.js": "evil" }, true],
        ["a package that no lock names", { "node_modules/evil/index.js": "evil" }, true],
        ["a package that no lock names, of a scope", { "node_modules/@evil/x/index.js": "evil" }, true],
        ["a file beside the packages", { "node_modules/a.js": "evil" }, true],
        ["a test tool, which the program must not load", { "node_modules/tool/index.js": "other" }, false],
        ["a tool's cache", { "node_modules/.cache/x": "other" }, false],
    ])("by content: %s", (_, files, changes) => {
        write(installed);
        const before = installedPackages(folder());
        write(files);
        expect(installedPackages(folder()) !== before).toBe(changes);
    });

    test("of this checkout are the same where they are reached by a link", () => {
        write({ "package-lock.json": fs.readFileSync(path.join(repositoryRoot, "package-lock.json"), "utf8") });
        fs.symlinkSync(path.join(repositoryRoot, "node_modules"), at("node_modules"));
        expect(installedPackages(folder())).toBe(installedPackages(repositoryRoot));
    }, 60_000);
});

describe("code that runs beside what is approved", () => {
    const problems = (modules: string[], options: string[] = []) => {
        write({
            "package-lock.json": JSON.stringify({ packages: { "": { dependencies: { a: "1" } }, "node_modules/a": {}, "node_modules/tool": { dev: true } } }),
        });
        return uncoveredProblems(folder(), ["index.ts"], { modules: modules.map(at), options }).map(problemLine);
    };

    test("is none of the program's own files and packages", () => {
        write({ "node_modules/a/index.js": "" });
        expect(problems(["index.ts", "node_modules/a/index.js"], ["--stack-trace-limit=3"])).toEqual([]);
    });

    test.each<[string, string[], string[]]>([
        ["another file", ["notes.ts"], []],
        ["a test tool", ["node_modules/tool/index.js"], []],
        ["a package within a package", ["node_modules/a/node_modules/b/index.js"], []],
        ["a package of a parent folder", ["../node_modules/a/index.js"], []],
        ["a module of --import", [], ["--import", "./x.mjs"]],
        ["a module of --import=", [], ["--import=./x.mjs"]],
        ["a loader", [], ["--experimental-loader", "./x.mjs"]],
    ])("is refused: %s", (_, modules, options) => {
        expect(problems(modules, options)).toEqual([expect.stringMatching(/^approval: \S+: runs in this update and is not part of what is approved; /)]);
    });
});

describe("the cluster", () => {
    const pem = (text: string) => `-----BEGIN CERTIFICATE-----\n${Buffer.from(text).toString("base64")}\n-----END CERTIFICATE-----\n`;
    const config = (cluster: object, context = "c") =>
        JSON.stringify({ "current-context": context, contexts: [{ name: "c", context: { cluster: "k" } }], clusters: [{ name: "k", cluster }] }, null, 1);
    const identity = (text: string | undefined, context?: string, env: NodeJS.ProcessEnv = { HOME: folder() }) => clusterIdentity(text, context, env);
    const ours = { server: "https://one.example", "certificate-authority-data": Buffer.from(pem("ours")).toString("base64") };

    test("is known by its authority, whatever its address, and whether that stands in the kubeconfig or beside it", async () => {
        write({ "ca.crt": pem("ours"), kubeconfig: config({ server: "https://two.example", "certificate-authority": "ca.crt" }) });
        const known = await identity(config(ours));
        expect(known).toMatch(/^certificate authority sha256:[0-9a-f]{64}$/);
        expect(await identity(undefined, undefined, { KUBECONFIG: at("kubeconfig") })).toBe(known);
        expect(await identity(config({ ...ours, "certificate-authority-data": Buffer.from(pem("theirs")).toString("base64") }))).not.toBe(known);
    });

    test("has the fingerprint that openssl shows", async () => {
        spawnSync("openssl", ["req", "-x509", "-newkey", "ed25519", "-nodes", "-subj", "/CN=ca", "-keyout", at("ca.key"), "-out", at("ca.crt")]);
        const { stdout } = spawnSync("openssl", ["x509", "-in", at("ca.crt"), "-noout", "-fingerprint", "-sha256"], { encoding: "utf8" });
        const fingerprint = stdout.trim().split("=")[1]?.replaceAll(":", "").toLowerCase();
        const data = fs.readFileSync(at("ca.crt")).toString("base64");
        expect(await identity(config({ ...ours, "certificate-authority-data": data }))).toBe(`certificate authority sha256:${fingerprint}`);
    });

    test.each<[string, string | undefined, string | undefined, string]>([
        [
            "whoever answers, where nothing is checked",
            config({ ...ours, "insecure-skip-tls-verify": true }),
            undefined,
            "whoever answers at https://one.example",
        ],
        ["whoever answers, without TLS", config({ server: "http://user:word@one.example" }), undefined, "whoever answers at http://one.example"],
        ["one by a public authority", config({ server: "https://one.example" }), undefined, "https://one.example, by a public authority"],
        ["none, of a context that is not there", config(ours), "other", "none: no context other"],
        ["none, without a kubeconfig", undefined, undefined, "none"],
        ["none, of text that is no kubeconfig", "\n: [", undefined, "none"],
    ])("is %s", async (_, text, context, said) => expect(await identity(text, context)).toBe(said));

    test("is that of the first file of KUBECONFIG that names the context", async () => {
        write({ one: config({ server: "https://one.example" }), two: config({ server: "https://two.example" }) });
        expect(await identity(undefined, undefined, { KUBECONFIG: `${at("one")}:${at("two")}` })).toContain("one.example");
    });
});

describe("the facts", () => {
    test("are the configuration of every namespace, secrets as set, without the approver", () => {
        const facts = changeFacts(
            folder(),
            {
                "gh200-vllm:approval": { value: '{"approver":"mike","required":true}', secret: false },
                "kubernetes:context": { value: "here", secret: false },
                "gh200-vllm:hfToken": { value: "hf_x", secret: true },
            },
            undefined,
        );
        expect(Object.entries(facts).filter(([name]) => !name.startsWith("file "))).toEqual([
            ["gh200-vllm:approval.required", "true"],
            ["kubernetes:context", "here"],
            ["secret gh200-vllm:hfToken", "set"],
        ]);
        expect(coveredFiles(facts)).toContain("index.ts");
    });

    test("are the same from the engine's JSON and from the CLI's, whatever the order of the keys", () => {
        const facts = (value: string) => factsDigest(changeFacts(folder(), { "gh200-vllm:node": { value, secret: false } }, undefined));
        expect(facts('{"a":1,"b":{"c":"x"}}')).toBe(facts('{ "b": { "c": "x" }, "a": 1 }'));
        expect(facts('{"a":1}')).not.toBe(facts('{"a":2}'));
    });

    test("have the folders that the configuration names", () => {
        write({ "src/a.cpp": "", "wheels/w.whl": "", "assets/x": "" });
        const config = {
            "gh200-vllm:sources": { value: '{"src-x":{"path":"src"}}', secret: false },
            "gh200-vllm:stages": { value: '{"wheelhouse":"wheels"}', secret: false },
        };
        expect(coveredFiles(changeFacts(folder(), config, undefined))).toEqual(expect.arrayContaining(["src/a.cpp", "wheels/w.whl", "assets/x"]));
    });
});
