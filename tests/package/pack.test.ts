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
    for (const file of ["README.md", "PulumiPlugin.yaml", "plugin.js", "schema.json", "bin/index.js", "bin/index.d.ts", "bin/builder/control.proto", "assets/vllm/Dockerfile", "assets/node/facts"]) {
        expect(files).toContain(file);
    }
    expect(files.filter((file) => (file.endsWith(".ts") && !file.endsWith(".d.ts")) || /test|__pycache__|pack\.mjs/.test(path.basename(file)))).toEqual(["assets/vllm/managed_mem/self_test.py"]);
});

test("a program gets every component from the package, and the recipes that lie in it", () => {
    expect(node(`console.log(Object.keys(require("@gh200/gh200-vllm")).filter((key) => key.length > 0).includes("CmmPlatform"))`)).toBe("true");
    const file = JSON.stringify(path.join(installed, "bin/internal/assets.js"));
    expect(node(`console.log(require(${file}).assetsFolder("vllm"))`)).toBe(path.join(installed, "assets", "vllm"));
});

test("who builds stages alone loads no Kubernetes SDK", () => {
    const loaded = node(`require("@gh200/gh200-vllm/stages"); console.log(Object.keys(require.cache).filter((file) => file.includes("@pulumi/kubernetes")).length)`);
    expect(loaded).toBe("0");
    expect(Number(node(`require("@gh200/gh200-vllm/serving"); console.log(Object.keys(require.cache).filter((file) => file.includes("@pulumi/kubernetes")).length)`))).toBeGreaterThan(0);
});
