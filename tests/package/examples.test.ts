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

test("two stages of a foreign Dockerfile preview from the packed package, with no builder, registry or cluster", () => {
    fs.cpSync(path.join(repositoryRoot, "examples", "foreign-dockerfile"), installed.program, { recursive: true });
    const pulumi = (...args: string[]) => spawnSync(findTool("pulumi")?.path ?? "pulumi", [...args, "--non-interactive", "--color=never"], { cwd: installed.program, env: backend.env, encoding: "utf8" });
    pulumi("stack", "init", "dev");
    pulumi("config", "set", "repository", "registry.example.com/team/stages");
    const { stdout, stderr, status } = pulumi("preview");
    expect(status, stdout + stderr).toBe(0);
    expect(stdout).toMatch(/docker-build:index:Image wheels create/);
    expect(stdout).toMatch(/docker-build:index:Image app create/);
    expect(stdout).toContain("+ 6 to create");
}, 120_000);
