import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { expect, test } from "vitest";
import { hashOfRecipe } from "./base/base";

/* What the image's recipes, locks, patches and stand-ins must agree on; nothing is built here. */
const root = path.dirname(__dirname);
const vllm = path.join(root, "assets", "vllm");
const read = (...parts: string[]): string => fs.readFileSync(path.join(root, ...parts), "utf8");
const files = (folder: string): string[] =>
    fs
        .readdirSync(folder, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => path.join(entry.parentPath, entry.name));

const temporary = (): string => fs.mkdtempSync(path.join(os.tmpdir(), "gh200-recipes-"));

test("the stand-in wheels and their locks are what their generator makes", () => {
    execFileSync("python3", [path.join(root, "sandbox", "wheelhouse", "make.py"), "--check"]);
});

test("each lock has a stand-in, and a hash for every package", () => {
    const real = [path.join(vllm, "locks"), path.join(root, "assets", "lmcache", "locks")].flatMap((folder) => files(folder));
    expect(fs.readdirSync(path.join(root, "sandbox", "wheelhouse", "locks")).sort()).toEqual(real.map((file) => path.basename(file)).sort());
    for (const file of real) {
        const text = fs.readFileSync(file, "utf8");
        expect(text.match(/^[a-z0-9][^ ]*==/gm)!.length, file).toBeLessThanOrEqual(text.match(/--hash=sha256:/g)!.length);
    }
});

test.each(fs.readdirSync(path.join(vllm, "patches")))("the patches of %s fit its stand-in once, and only once", (name) => {
    const tree = path.join(temporary(), name);
    fs.cpSync(path.join(root, "sandbox", "sources", name), tree, { recursive: true });
    const apply = (): string =>
        execFileSync(path.join(vllm, "build", "common", "apply-patches"), [path.join(vllm, "patches", name)], { cwd: tree, encoding: "utf8" });
    apply();
    expect(apply()).toContain("the source has it already");
    for (const patch of files(path.join(vllm, "patches", name))) {
        const changed = /^\+\+\+ b\/(\S+)/m.exec(fs.readFileSync(patch, "utf8"))![1]!;
        fs.writeFileSync(path.join(tree, changed), "upstream has moved\n");
    }
    expect(apply).toThrow(/does not fit this source/);
    fs.rmSync(path.dirname(tree), { recursive: true });
});

test("every build argument of the Dockerfiles is used", () => {
    for (const image of ["vllm", "lmcache"]) {
        const text = read("assets", image, "Dockerfile");
        const used =
            text +
            files(path.join(root, "assets", image))
                .filter((file) => !file.includes("locks"))
                .map((file) => fs.readFileSync(file, "utf8"))
                .join("\n");
        const named = [...text.matchAll(/^ARG ((?:.*\\\n)*.*)$/gm)].flatMap(([, words]) =>
            words!
                .replaceAll("\\\n", "")
                .trim()
                .split(/\s+/)
                .map((word) => word.split("=")[0]!),
        );
        for (const name of named) {
            // SOURCE_DATE_EPOCH is read by BuildKit, Python and the tools that make wheels.
            const uses = used.match(new RegExp(`\\$\\{?${name}\\b|export [^\\n]*\\b${name}\\b|environ\\[?[^\\n]*${name}\\b`, "g")) ?? [];
            expect(uses.length > 0 || name === "SOURCE_DATE_EPOCH" || /^SRC_/.test(name), `${image}: ARG ${name}`).toBe(true);
        }
    }
});

test("the base's label names the compiler that is installed", () => {
    const config = JSON.parse(read("sandbox", "base", "config.json")) as { config: { Labels: Record<string, string> } };
    expect(read("sandbox", "base", "cuda.txt")).toContain(`nvidia-cuda-nvcc==${config.config.Labels["ai.vllm.gh200.nvcc"]} `);
});

test("the base's constraints contradict the locks, as the real base's do, and nothing that installs is held to them", () => {
    const constraints = read("sandbox", "base", "root", "etc", "pip", "constraint.txt");
    const locked = [read("sandbox", "wheelhouse", "locks", "runtime.txt"), read("sandbox", "wheelhouse", "locks", "triton.txt")].join("");
    for (const name of ["numpy", "triton"]) {
        const version = (text: string): string => new RegExp(`^${name}==(\\S+)`, "m").exec(text)![1]!;
        expect(version(locked), name).not.toBe(version(constraints));
    }
    // The stages and `final` stand on `base`; LMCache's own image is installed by two scripts that clear it themselves.
    expect(read("assets", "vllm", "Dockerfile")).toMatch(/^FROM \$\{BASE_IMAGE\} AS base\nENV PIP_CONFIG_FILE=\S+ PIP_CONSTRAINT=$/m);
    for (const script of ["vllm/build/common/pip-install", "lmcache/install"]) {
        expect(read("assets", script).match(/^.*python3 -m pip install /gm)).toEqual(["PIP_CONSTRAINT= python3 -m pip install "]);
    }
});

test("every script parses", () => {
    const scripts = [path.join(vllm, "build"), path.join(root, "assets", "lmcache"), path.join(root, "sandbox", "base")]
        .flatMap((folder) => files(folder))
        .filter((file) => fs.readFileSync(file, "utf8").startsWith("#!/bin/bash"));
    expect(scripts.length).toBeGreaterThan(15);
    for (const script of scripts) {
        execFileSync("bash", ["-n", script]);
        expect(fs.statSync(script).mode & 0o111, `${script}: executable`).not.toBe(0);
    }
});

test("the base's recipe hash knows contents and executable bits, not the place, time or umask", () => {
    const copy = path.join(temporary(), "elsewhere");
    fs.cpSync(path.join(root, "sandbox", "base"), copy, { recursive: true });
    const hash = hashOfRecipe(path.join(root, "sandbox", "base"));
    for (const file of files(copy)) {
        fs.chmodSync(file, fs.statSync(file).mode & 0o700);
        fs.utimesSync(file, 1, 1);
    }
    expect(hashOfRecipe(copy)).toBe(hash);
    fs.appendFileSync(path.join(copy, "debian.txt"), "cowsay\n");
    expect(hashOfRecipe(copy)).not.toBe(hash);
    fs.rmSync(path.dirname(copy), { recursive: true });
});
