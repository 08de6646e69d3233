import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { repositoryRoot } from "../support/stackFile";

/** A program's folder with nothing in it but the packed package; its dependencies are this checkout's. */
const folder = fs.realpathSync(fs.mkdtempSync(path.join(os.tmpdir(), "gh200-package-")));
const installed = path.join(folder, "program", "node_modules", "@gh200", "gh200-vllm");

beforeAll(() => {
    const checkout = path.join(folder, "checkout");
    for (const entry of ["components", "assets", "tsconfig.json"]) {
        fs.cpSync(path.join(repositoryRoot, entry), path.join(checkout, entry), { recursive: true });
    }
    fs.symlinkSync(path.join(repositoryRoot, "node_modules"), path.join(checkout, "node_modules"));
    execFileSync("npm", ["pack", "--pack-destination", folder], { cwd: path.join(checkout, "components"), stdio: "pipe" });
    const archive = fs.readdirSync(folder).find((name) => name.endsWith(".tgz")) ?? "";
    fs.mkdirSync(installed, { recursive: true });
    execFileSync("tar", ["xzf", path.join(folder, archive), "--strip-components=1", "-C", installed]);
    fs.symlinkSync(path.join(repositoryRoot, "node_modules"), path.join(folder, "node_modules"));
}, 180_000);

afterAll(() => fs.rmSync(folder, { recursive: true, force: true }));

function node(script: string): string {
    return execFileSync(process.execPath, ["-e", script], { cwd: path.join(folder, "program"), encoding: "utf8" }).trim();
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
