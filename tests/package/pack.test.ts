import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { installPackage } from "./installPackage";

let program: string;
let installed: string;
let remove: () => void;
beforeAll(() => {
    ({ program, installed, remove } = installPackage());
}, 180_000);
afterAll(() => remove?.());

function node(script: string): string {
    return execFileSync(process.execPath, ["-e", script], { cwd: program, encoding: "utf8" }).trim();
}

test("the archive holds code, types, recipes, schema and README, and neither sources nor tests", () => {
    const files = fs.readdirSync(installed, { recursive: true, encoding: "utf8" });
    for (const file of [
        "README.md",
        "PulumiPlugin.yaml",
        "plugin.js",
        "schema.json",
        "bin/index.js",
        "bin/index.d.ts",
        "bin/builder/control.proto",
        "assets/vllm/Dockerfile",
        "assets/node/facts",
    ]) {
        expect(files).toContain(file);
    }
    expect(files.filter((file) => (file.endsWith(".ts") && !file.endsWith(".d.ts")) || /test|__pycache__|pack\.mjs/.test(path.basename(file)))).toEqual([
        "assets/vllm/managed_mem/self_test.py",
    ]);
});

test("a program gets every component from the package, and the recipes that lie in it", () => {
    expect(node(`console.log(Object.keys(require("@gh200/gh200-vllm")).filter((key) => key.length > 0).includes("CmmPlatform"))`)).toBe("true");
    const file = JSON.stringify(path.join(installed, "bin/internal/assets.js"));
    expect(node(`console.log(require(${file}).assetsFolder("vllm"))`)).toBe(path.join(installed, "assets", "vllm"));
});

test("every path that package.json names is in the archive", () => {
    const { main, types, exports } = JSON.parse(fs.readFileSync(path.join(installed, "package.json"), "utf8")) as {
        main: string;
        types: string;
        exports: Record<string, string | Record<string, string>>;
    };
    const named = [main, types, ...Object.values(exports).flatMap((entry) => (typeof entry === "string" ? [entry] : Object.values(entry)))];
    expect(named.filter((file) => !fs.existsSync(path.join(installed, file)))).toEqual([]);
});

/** Of the SDKs that the components use, those that a program has loaded after `script`. */
function loadedSdks(script: string): string[] {
    const loaded = JSON.parse(node(`${script}; console.log(JSON.stringify(Object.keys(require.cache)))`)) as string[];
    return ["command", "docker", "docker-build", "kubernetes"].filter((sdk) => loaded.some((file) => file.includes(`/@pulumi/${sdk}/`)));
}

test.each([
    ["serving", 'const { VllmServer } = require("@gh200/gh200-vllm/serving")', ["kubernetes"]],
    ["builder", 'const { RemoteBuilder } = require("@gh200/gh200-vllm/builder")', ["docker"]],
    ["stages", 'const { BuildStage } = require("@gh200/gh200-vllm/stages")', ["docker-build"]],
    ["allocator", 'const { ManagedAllocator } = require("@gh200/gh200-vllm/allocator")', ["docker-build"]],
    ["node", 'const { Gh200Node } = require("@gh200/gh200-vllm/node")', ["command", "kubernetes"]],
    ["the whole package", 'require("@gh200/gh200-vllm")', ["command", "docker", "docker-build", "kubernetes"]],
])("%s loads the SDKs that it uses and no other", (_, script, sdks) => {
    expect(loadedSdks(script)).toEqual(sdks);
});
