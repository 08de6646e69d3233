import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { cacheRoot } from "../../tools/cache";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools } from "../../tools/toolchain";
import { repositoryRoot } from "../support/stackFile";
import { type StandInAws, standInAws } from "../support/standInAws";

/*
 * The pipeline's own scripts with the state in S3 and the secrets under a KMS key, without any passphrase: Pulumi's own clients of both, over their
 * protocols, against a stand-in of AWS. Pulumi Cloud cannot be had here: what it needs is a table of tests/unit/access.test.ts alone.
 */
const MINUTE = 60_000;

/** The change and its record as they are; no builder, registry or cluster, which an update would need. */
const PROGRAM = `
import * as pulumi from "@pulumi/pulumi";
import { stackChange } from "./approval/stackChange";
import { loadConfig } from "./components/config/load";

class Last extends pulumi.ComponentResource {}
export = async () => {
    const config = loadConfig();
    const change = await stackChange(config);
    change.complete(new Last("test:index:Last", "last", {}, { dependsOn: change.first }), "result");
    return { token: config.secrets.hfToken };
};
`;

let aws: StandInAws;
let checkout: string;
let home: string;
let env: NodeJS.ProcessEnv;

beforeAll(async () => {
    await ensureTools(pulumiTools);
    aws = await standInAws();
    home = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-home-"));
    checkout = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-checkout-"));
    const left = [".git", ".gh200", "node_modules", ".sandbox", "tests", "bench"].map((name) => path.join(repositoryRoot, name));
    fs.cpSync(repositoryRoot, checkout, { recursive: true, filter: (file) => !left.includes(file) });
    fs.symlinkSync(path.join(repositoryRoot, "node_modules"), path.join(checkout, "node_modules"));
    // It would install the packages again, into the folder that the link leads to.
    fs.writeFileSync(path.join(checkout, "tools/prepare.mjs"), "");
    fs.writeFileSync(path.join(checkout, "index.ts"), PROGRAM);
    const file = path.join(checkout, "Pulumi.gh200.yaml");
    fs.writeFileSync(file, fs.readFileSync(file, "utf8").replace("required: true", "required: false"));
    env = { ...process.env, GH200_CACHE: cacheRoot(), HOME: home, PULUMI_BACKEND_URL: await aws.bucket("state"), ...aws.env };
    for (const name of ["PULUMI_CONFIG_PASSPHRASE", "PULUMI_CONFIG_PASSPHRASE_FILE", "PULUMI_ACCESS_TOKEN"]) {
        delete env[name];
    }
    await pulumi("stack", "init", "gh200", "--no-select", `--secrets-provider=${await aws.key()}`);
    await pulumi("config", "set", "--stack", "gh200", "--secret", "gh200-vllm:hfToken", "hf_of_the_test");
}, 10 * MINUTE);

afterAll(() => {
    aws?.stop();
    [checkout, home].filter(Boolean).forEach((folder) => fs.rmSync(folder, { recursive: true, force: true }));
});

/** Asynchronous, so that a test's own time-out can end it. */
function run(command: string, args: string[], more: NodeJS.ProcessEnv = {}): Promise<{ status: number | null; output: string }> {
    const child = spawn(command, args, { cwd: checkout, env: { ...env, ...more } });
    let output = "";
    child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
    child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
    return new Promise((done) => child.once("close", (status) => done({ status, output })));
}

async function pulumi(...args: string[]): Promise<string> {
    const { status, output } = await run(
        findTool("pulumi")?.path ?? "pulumi",
        [...args, "--non-interactive"],
        await pulumiEnvironment().then((found) => ({ PATH: found.PATH, PULUMI_HOME: found.PULUMI_HOME })),
    );
    expect(status, output).toBe(0);
    return output;
}

async function preview(more: NodeJS.ProcessEnv = {}): Promise<{ comment: string; digest: string }> {
    const { status, output } = await run("ci/preview", ["gh200", "preview.md"], more);
    expect(status, output).toBe(0);
    const comment = fs.readFileSync(path.join(checkout, "preview.md"), "utf8");
    return { comment, digest: /[0-9a-f]{64}/.exec(comment)?.[0] ?? "" };
}
const up = (digest: string, more: NodeJS.ProcessEnv = {}) => run("ci/up", ["gh200", digest], more);

test(
    "a preview is compared with the stack, and an update runs the change that it showed, and no other",
    async () => {
        const first = await preview();
        expect(first.comment).not.toContain("Not compared");
        const made = await up(first.digest);
        expect(made.status, made.output).toBe(0);
        expect((await preview()).comment).toContain("no change");

        const next = await preview({ VLLM_VERSION: "v0.20.0" });
        expect(next.digest).not.toBe(first.digest);
        expect(next.comment).toContain("gh200-vllm:image.vllmVersion: cmm → v0.20.0");
        const other = await up(first.digest, { VLLM_VERSION: "v0.20.0" });
        expect(other.status).not.toBe(0);
        expect(other.output).toContain(`--expect ${first.digest}: is not this change`);
        expect((await up(next.digest, { VLLM_VERSION: "v0.20.0" })).status).toBe(0);
        expect(await pulumi("stack", "output", "--stack", "gh200", "--show-secrets")).toContain("hf_of_the_test");
        // The state itself has it under the key alone.
        expect(await pulumi("stack", "export", "--stack", "gh200")).not.toContain("hf_of_the_test");
    },
    8 * MINUTE,
);

test(
    "without a backend a preview compares with nothing and says why, and an update is refused in one line",
    async () => {
        const without = { PULUMI_BACKEND_URL: "", AWS_ENDPOINT_URL: "" };
        expect((await preview(without)).comment).toContain("Not compared with what is deployed");
        const refused = await up("a".repeat(64), without);
        expect(refused.status).not.toBe(0);
        expect(refused.output.trim()).toMatch(/^PULUMI_BACKEND_URL: is unset, [^\n]*$/);
    },
    5 * MINUTE,
);
