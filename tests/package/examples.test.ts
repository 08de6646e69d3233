import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { findTool } from "../../tools/toolchain";
import { emptyBackend } from "../live/programCopy";
import { repositoryRoot } from "../support/stackFile";
import { installPackage } from "./installPackage";

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let installed: ReturnType<typeof installPackage>;
beforeAll(async () => {
    backend = await emptyBackend();
    installed = installPackage();
}, 300_000);
afterAll(() => {
    backend?.remove();
    installed?.remove();
});

const image = `registry.example.com/team/vllm@sha256:${"1".repeat(64)}`;

/** What `pulumi preview` of an example shows, with the packed package and no builder, registry or cluster. */
function preview(example: string, config: Record<string, string>, ...options: string[]): string {
    const folder = path.join(installed.program, example);
    fs.cpSync(path.join(repositoryRoot, "examples", example), folder, { recursive: true });
    const pulumi = (...args: string[]) =>
        spawnSync(findTool("pulumi")?.path ?? "pulumi", [...args, "--non-interactive", "--color=never"], { cwd: folder, env: backend.env, encoding: "utf8" });
    pulumi("stack", "init", "dev");
    pulumi("config", "set-all", ...Object.entries(config).flatMap(([key, value]) => ["--plaintext", `${key}=${value}`]));
    const { stdout, stderr, status } = pulumi("preview", ...options);
    expect(status, stdout + stderr).toBe(0);
    return stdout;
}

test("the whole platform in one call", () => {
    const shown = preview("whole-platform", { registry: "registry.example.com/team" });
    expect(shown).toMatch(/gh200-vllm:index:CmmPlatform gh200 create/);
    expect(shown).toMatch(/kubernetes:apps\/v1:Deployment gh200-vllm create/);
    expect(shown).toContain(
        "builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; set builder.endpoint to tcp://HOST:PORT",
    );
    expect(shown).not.toContain("gh200-vllm:builder.endpoint");
}, 120_000);

test("a stage of the team's own, built first", () => {
    const shown = preview("eighth-stage", { registry: "registry.example.com/team" });
    expect(shown).toContain("stage 1 of 8, build-plugin: the team's vLLM plug-in; nothing to compile; about 1 min (estimate)");
    expect(shown).toContain("stage 2 of 8, build-triton");
    for (const image of ["gh200-build-plugin", "gh200-additional", "gh200-image"]) {
        expect(shown).toMatch(new RegExp(`docker-build:index:Image ${image} create`));
    }
    expect(shown).not.toContain("kubernetes:");
}, 120_000);

test("an image of one's own", () => {
    const shown = preview("bring-your-own-image", { image, model: "Qwen/Qwen2.5-7B-Instruct" });
    expect(shown).toMatch(/kubernetes:apps\/v1:Deployment vllm create/);
    expect(shown).not.toContain("docker-build");
    expect(shown).toContain("+ 12 to create");
}, 120_000);

test("another model server, with a sidecar, by a transform", () => {
    const shown = preview("another-server", { image, sidecarImage: image, model: "Qwen/Qwen2.5-7B-Instruct", pullSecret: "renewed" }, "--diff");
    expect(shown).toMatch(/command\s*: \[\s*\[0\]: "python3"\s*\[1\]: "-m"\s*\[2\]: "sglang.launch_server"/);
    expect(shown).toMatch(/name\s*: "logs"/);
    expect(shown).toMatch(/imagePullSecrets\s*: \[\s*\[0\]: \{\s*name: "renewed"/);
    expect(shown).not.toMatch(/kubernetes:core\/v1:Secret \S+-pull/);
    expect(shown).toContain("+ 11 to create");
}, 120_000);

test("the stages of a foreign Dockerfile", () => {
    const shown = preview("foreign-dockerfile", { repository: "registry.example.com/team/stages" });
    for (const stage of ["library", "program", "app"]) {
        expect(shown).toMatch(new RegExp(`docker-build:index:Image ${stage} create`));
    }
    expect(shown).toContain("+ 8 to create");
}, 120_000);
