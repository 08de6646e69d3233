import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as http from "node:http";
import type { AddressInfo } from "node:net";
import * as path from "node:path";
import * as yaml from "yaml";
import { afterAll, afterEach, describe, expect, test } from "vitest";
import { parameters, withParameters } from "../../ci/parameters";
import { cacheRoot } from "../../tools/cache";
import type { PreviewFacts } from "../../report/facts";
import { previewComment } from "../../report/markdown";
import { uploadedFacts } from "../../report/uploaded";
import { withoutBlocks } from "../support/hostileTexts";
import { repositoryRoot } from "../support/stackFile";
import { temporaryFolders } from "../support/temporaryFolder";

// The workflows' own steps, run here as a runner does: expressions are put into the environment, `run` goes to bash.
// What no test here can show: the forge's side (permissions, artifacts, environments with reviewers).
interface Step {
    uses?: string;
    run?: string;
    if?: string;
    env?: Record<string, string>;
    with?: Record<string, unknown>;
}
interface Workflow {
    on: Record<string, unknown>;
    permissions: Record<string, string>;
    jobs: Record<string, { permissions?: Record<string, string>; env?: Record<string, string>; environment?: string; if?: string; steps: Step[] }>;
}
const files = [".github/workflows", ".gitea/workflows"].flatMap((folder) =>
    fs.readdirSync(path.join(repositoryRoot, folder)).map((name) => path.join(folder, name)),
);
const workflows = Object.fromEntries(files.map((file) => [file, yaml.parse(fs.readFileSync(path.join(repositoryRoot, file), "utf8")) as Workflow]));
const steps = (file: string) => Object.values(workflows[file]!.jobs).flatMap((job) => job.steps.map((step) => ({ ...step, env: { ...job.env, ...step.env } })));
const temporaryFolder = temporaryFolders();

describe("the workflows", () => {
    test("are a preview, an update and a drift check for each forge, and the comment's own", () => {
        expect(files.sort()).toEqual([
            ".gitea/workflows/drift.yml",
            ".gitea/workflows/pull-request.yml",
            ".gitea/workflows/update.yml",
            ".github/workflows/comment.yml",
            ".github/workflows/drift.yml",
            ".github/workflows/pull-request.yml",
            ".github/workflows/update.yml",
        ]);
    });

    test.each(files)("%s pins each action by its full commit and takes no credential along with the checkout", (file) => {
        const used = steps(file).filter(({ uses }) => uses !== undefined);
        expect(used.length).toBeGreaterThan(0);
        for (const { uses, with: given } of used) {
            expect(uses).toMatch(/^actions\/[a-z-]+@[0-9a-f]{40}$/);
            if (uses?.startsWith("actions/checkout@")) {
                expect(given).toMatchObject({ "persist-credentials": false });
            }
        }
    });

    test.each(files)("%s pastes no expression into a script", (file) => {
        for (const { run = "" } of steps(file)) {
            expect(run).not.toContain("${{");
        }
    });

    test.each(files)("%s may read the repository, and write nothing but a comment", (file) => {
        const { permissions, jobs } = workflows[file]!;
        const granted = [permissions, ...Object.values(jobs).map((job) => job.permissions ?? {})].flatMap((map) => Object.entries(map));
        const writes = granted.filter(([, level]) => level !== "read").map(([scope]) => scope);
        expect(writes.every((scope) => scope === "pull-requests")).toBe(true);
        expect(writes).toEqual(file.endsWith("comment.yml") ? ["pull-requests"] : []);
        expect(fs.readFileSync(path.join(repositoryRoot, file), "utf8")).not.toMatch(/git (commit|push)|contents: write|pull_request_target/);
    });

    test("of a pull request see no secret; only an update that a person starts, and the drift check, do", () => {
        const withSecrets = files.filter((file) => fs.readFileSync(path.join(repositoryRoot, file), "utf8").includes("secrets."));
        expect(withSecrets.map((file) => path.basename(file)).sort()).toEqual(["drift.yml", "drift.yml", "update.yml", "update.yml"]);
        for (const file of files.filter((name) => name.endsWith("update.yml"))) {
            expect(Object.keys(workflows[file]!.on)).toEqual(["workflow_dispatch"]);
        }
    });

    test("that hold secrets run on a protected branch alone, and in GitHub in an environment", () => {
        for (const file of files.filter((name) => /(update|drift)\.yml$/.test(name))) {
            for (const job of Object.values(workflows[file]!.jobs)) {
                expect(job.if, file).toBe(file.startsWith(".github") ? "github.ref_protected" : "github.ref == 'refs/heads/main'");
                expect(job.environment !== undefined, file).toBe(file.startsWith(".github"));
            }
        }
    });

    test("that may write run no code of a pull request", () => {
        for (const file of files.filter((name) => JSON.stringify(workflows[name]).includes('"write"'))) {
            expect(Object.keys(workflows[file]!.on), file).toEqual(["workflow_run"]);
            expect(steps(file).filter(({ uses, with: given }) => uses?.includes("checkout") && given?.ref !== undefined)).toEqual([]);
        }
    });

    test("of Jenkins give credentials to main alone, and what is not reviewed an agent of its own", () => {
        const stages = fs.readFileSync(path.join(repositoryRoot, "Jenkinsfile"), "utf8").split("stage('").slice(1);
        const withCredentials = stages.filter((stage) => stage.includes("withCredentials"));
        expect(withCredentials.map((stage) => stage.split("'")[0])).toEqual(["Preview", "Approval"]);
        for (const stage of withCredentials) {
            expect(stage).toMatch(/branch 'main'(;|\n)\s*not \{ changeRequest\(\) \}/);
        }
        const all = fs.readFileSync(path.join(repositoryRoot, "Jenkinsfile"), "utf8");
        expect(all).toContain("env.BRANCH_NAME == 'main' && env.CHANGE_ID == null ? 'gh200-release' : 'gh200-unreviewed'");
    });

    test("install packages without their scripts, and update with the policies", () => {
        expect(fs.readFileSync(path.join(repositoryRoot, "tools/prepare.mjs"), "utf8")).toContain('["ci", "--ignore-scripts"');
        expect(fs.readFileSync(path.join(repositoryRoot, "ci/up"), "utf8")).toMatch(/pulumi -- up .*--policy-pack policy/);
    });

    test("of a forge differ from the other's in nothing but the forge", () => {
        const runs = (file: string) =>
            steps(file)
                .map(({ run }) => run)
                .filter((run) => run !== undefined && !run.includes("GITHUB_STEP_SUMMARY") && !run.includes("preview.md") && !run.includes(".gh200"));
        for (const name of ["update.yml", "drift.yml"]) {
            expect(runs(`.gitea/workflows/${name}`)).toEqual(runs(`.github/workflows/${name}`));
        }
    });
});

describe("the pipeline's parameters", () => {
    const stack = fs.readFileSync(path.join(repositoryRoot, "Pulumi.gh200.yaml"), "utf8");
    const image = (text: string) => (yaml.parse(text) as { config: Record<string, Record<string, unknown>> }).config["gh200-vllm:image"]!;

    test("are configuration keys, and leave the rest of the stack file alone", () => {
        const changed = withParameters(stack, { VLLM_VERSION: "v0.20.0", IMAGE_TAG: "other", IMAGE_SUFFIX: "-x" });
        expect(image(changed)).toEqual({ ...image(stack), vllmVersion: "v0.20.0", imageTag: "other", imageSuffix: "-x" });
        expect(yaml.parse(withParameters(stack, { VLLM_VERSION: "" }))).toEqual(yaml.parse(stack));
    });

    test.each(["a b", "$(touch pwned)", "a\nb: c", "../x", "`id`", "a;b", "\u202ea", "a".repeat(101)])("refuse %j in one line", (value) => {
        for (const { name } of parameters) {
            expect(() => withParameters(stack, { [name]: value })).toThrow(`${name}: ${JSON.stringify(value)}: is no part of an image's name`);
        }
    });

    test("stand in the table of docs/from-jenkins.md, in the Jenkinsfile and in both update workflows", () => {
        const [page, jenkins] = ["docs/from-jenkins.md", "Jenkinsfile"].map((file) => fs.readFileSync(path.join(repositoryRoot, file), "utf8"));
        for (const { name, section, key } of parameters) {
            expect(page).toContain(`| parameter \`${name}\` | \`${section.replace("gh200-vllm:", "")}.${key}\` |`);
            expect(jenkins).toContain(`string(name: '${name}'`);
            expect(jenkins).toContain(`${section}.${key}`);
            for (const forge of [".github", ".gitea"]) {
                expect(fs.readFileSync(path.join(repositoryRoot, forge, "workflows/update.yml"), "utf8")).toContain(
                    `${name}: \${{ inputs.${name.toLowerCase()} }}`,
                );
            }
        }
        expect(jenkins).toContain("disableConcurrentBuilds()");
        expect(jenkins).not.toMatch(/sh\s+"/); // Groovy would paste parameters into double quotes.
    });
});

/** What a stranger can choose of a pull request: title, branch, body, names. None may be more than text. */
const hostile = '"; touch pwned; echo "$(touch pwned)`touch pwned`${{ secrets.X }}\n\'; touch pwned #';

interface Seen {
    method: string;
    url: string;
    body: string;
}

describe("the pull request's steps", () => {
    const servers: http.Server[] = [];
    afterEach(() => servers.splice(0).forEach((server) => server.close()));
    afterAll(() => fs.rmSync(path.join(repositoryRoot, "pwned"), { force: true }));

    /** A forge that has the pull request and these comments. */
    async function forge(head: string, comments: object[]): Promise<{ url: string; seen: Seen[] }> {
        const seen: Seen[] = [];
        const server = http.createServer((request, response) => {
            let body = "";
            request.on("data", (chunk: Buffer) => (body += chunk.toString()));
            request.on("end", () => {
                seen.push({ method: request.method ?? "", url: request.url ?? "", body });
                response.setHeader("content-type", "application/json");
                response.end(JSON.stringify(request.url?.includes("/comments?") ? comments : request.url?.includes("/pulls/") ? { head: { sha: head } } : {}));
            });
        });
        servers.push(server);
        await new Promise<void>((listening) => server.listen(0, "127.0.0.1", listening));
        return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen };
    }

    const context = (overrides: Record<string, string>): Record<string, string> => ({
        "github.event.pull_request.number": "7",
        "github.event.pull_request.title": hostile,
        "github.event.pull_request.head.sha": "a".repeat(40),
        "github.event.workflow_run.head_sha": "a".repeat(40),
        "github.event.workflow_run.id": "1",
        "github.repository": "owner/name",
        "github.token": "token",
        ...overrides,
    });

    /** One `run` step with bash, as a runner starts it. */
    function runStep({ run = "", env = {} }: Step, values: Record<string, string>, cwd: string, more: NodeJS.ProcessEnv = {}) {
        const resolved = Object.fromEntries(
            Object.entries(env).map(([name, text]) => [name, text.replace(/\$\{\{\s*([^}]+?)\s*\}\}/g, (_, key: string) => values[key] ?? "")]),
        );
        return spawnSync("bash", ["--noprofile", "--norc", "-eo", "pipefail", "-c", run], {
            cwd,
            encoding: "utf8",
            env: { ...process.env, ...resolved, ...more },
        });
    }

    test("preview gh200 without any credential and leave the comment as a file", () => {
        const folder = temporaryFolder();
        const [preview, number] = steps(".github/workflows/pull-request.yml").filter(({ run }) => run?.includes("preview/"));
        const empty = {
            HOME: folder,
            GH200_CACHE: cacheRoot(),
            PULUMI_CONFIG_PASSPHRASE: "",
            PULUMI_ACCESS_TOKEN: "",
            PULUMI_BACKEND_URL: "",
            KUBECONFIG: path.join(folder, "none"),
            GITHUB_HEAD_REF: hostile,
            GITHUB_ACTOR: hostile,
        };
        const made = runStep(preview!, context({}), repositoryRoot, empty);
        expect(made.stderr + made.stdout).not.toContain("error");
        expect(made.status).toBe(0);
        const comment = fs.readFileSync(path.join(repositoryRoot, "preview/preview.md"), "utf8");
        expect(comment).toMatch(/^<!-- gh200-vllm preview of gh200 -->\n## Preview of gh200: \d+ changes/);
        expect(comment).toContain("Not compared with what is deployed");
        expect(comment).toContain("### Rebuilt: 7 stages");
        const facts = fs.readFileSync(path.join(repositoryRoot, "preview/preview.json"), "utf8");
        expect(previewComment(uploadedFacts("gh200", facts))).toBe(comment);
        expect(runStep(number!, context({}), repositoryRoot).status).toBe(0);
        expect(fs.readFileSync(path.join(repositoryRoot, "preview/pull-request"), "utf8")).toBe("7\n");
        fs.rmSync(path.join(repositoryRoot, "preview"), { recursive: true });
    }, 300_000);

    const change = { op: "update", type: "Image", name: hostile, properties: [hostile] };
    const said: PreviewFacts = {
        ...{ stack: "other", compared: true, succeeded: true, changes: [change], unchanged: 3, digest: undefined, change: [hostile], warnings: [hostile] },
        ...{
            errors: [hostile],
            violations: [{ policy: hostile, level: hostile, message: hostile }],
            policyPacks: [hostile],
            memoryPlan: [hostile],
            short: [hostile],
        },
        rebuilt: [{ target: "build-vllm", delivers: hostile, minutes: 1 }],
    };
    const comment = previewComment(uploadedFacts("gh200", JSON.stringify(said)));

    /** What comment.yml does after the download, as far as it comes. */
    async function commentSteps(url: string, uploaded: { facts?: string; number?: string } = {}) {
        const folder = temporaryFolder();
        fs.mkdirSync(path.join(folder, "preview"));
        fs.writeFileSync(path.join(folder, "preview/preview.json"), uploaded.facts ?? JSON.stringify(said));
        fs.writeFileSync(path.join(folder, "preview/preview.md"), "<!-- gh200-vllm preview of gh200 -->\n[as the bot](https://example.com) @everyone\n");
        fs.writeFileSync(path.join(folder, "preview/pull-request"), uploaded.number ?? "7");
        let answer = { status: null as number | null, output: "" };
        for (const step of steps(".github/workflows/comment.yml").filter(({ run }) => run?.includes("RUNNER_TEMP") && !run.includes("gh run download"))) {
            answer = await runStepAsync(step, context({ "github.api_url": url }), { RUNNER_TEMP: folder });
            if (answer.status !== 0) {
                break;
            }
        }
        return answer;
    }

    /** Asynchronous, because the forge that it talks to lives in this process. */
    async function runStepAsync(step: Step, values: Record<string, string>, more: NodeJS.ProcessEnv): Promise<{ status: number | null; output: string }> {
        const { spawn } = await import("node:child_process");
        const resolved = Object.fromEntries(
            Object.entries(step.env ?? {}).map(([name, text]) => [name, text.replace(/\$\{\{\s*([^}]+?)\s*\}\}/g, (_, key: string) => values[key] ?? "")]),
        );
        const child = spawn("bash", ["-eo", "pipefail", "-c", step.run ?? ""], { cwd: repositoryRoot, env: { ...process.env, ...resolved, ...more } });
        let output = "";
        child.stdout.on("data", (chunk: Buffer) => (output += chunk.toString()));
        child.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
        return new Promise((done) => child.once("close", (status) => done({ status, output })));
    }

    test("write one comment, made of the uploaded facts by reviewed code and never run", async () => {
        const { url, seen } = await forge("a".repeat(40), []);
        expect(await commentSteps(url)).toEqual({ status: 0, output: "commented\n" });
        expect(seen.map(({ method, url: at }) => `${method} ${at}`)).toEqual([
            "GET /repos/owner/name/pulls/7",
            "GET /repos/owner/name/issues/7/comments?per_page=100&limit=100&page=1",
            "POST /repos/owner/name/issues/7/comments",
        ]);
        expect(JSON.parse(seen[2]!.body)).toEqual({ body: comment });
        expect(comment).toMatch(/^<!-- gh200-vllm preview of gh200 -->\n## Preview of gh200: 1 change/);
        expect(comment).toContain("Not compared with what is deployed");
        expect(withoutBlocks(comment)).not.toMatch(/pwned|secrets\.|as the bot/);
        expect(fs.existsSync(path.join(repositoryRoot, "pwned"))).toBe(false);
    }, 60_000);

    test.each([
        ["Markdown in the place of facts", "[as the bot](https://example.com) @everyone"],
        ["facts with a field more", JSON.stringify({ ...said, footer: "[as the bot](https://example.com)" })],
        ["a stage that is none", JSON.stringify({ ...said, rebuilt: [{ target: "| [as the bot](https://example.com) |" }] })],
        ["a digest that is none", JSON.stringify({ ...said, digest: "[as the bot](https://example.com)" })],
    ])(
        "write no comment of %s",
        async (_, facts) => {
            const { url, seen } = await forge("a".repeat(40), []);
            const { status, output } = await commentSteps(url, { facts });
            expect(status).not.toBe(0);
            expect(output).toContain("preview of gh200: holds no facts of a preview; accepted: what ci/preview writes");
            expect(seen).toEqual([]);
        },
        60_000,
    );

    test("have the token in no step that runs packages", () => {
        const holding = steps(".github/workflows/comment.yml").filter(({ env }) => Object.values(env).some((value) => value.includes("github.token")));
        expect(holding.map(({ run }) => run?.split(" ").slice(0, 3).join(" "))).toEqual(["gh run download", expect.stringMatching(/^PULL_REQUEST=/)]);
        expect(holding.map(({ run }) => run).join("\n")).not.toMatch(/npx|npm|tsx/);
    });

    test("update the comment that is there, and not one of a person who copied its marker", async () => {
        const { url, seen } = await forge("a".repeat(40), [
            { id: 3, body: comment },
            { id: 1, body: comment, user: { type: "User" } },
            { id: 2, body: comment, user: { type: "Bot" } },
        ]);
        expect((await commentSteps(url)).output).toBe("updated the comment\n");
        expect(seen.at(-1)).toMatchObject({ method: "PATCH", url: "/repos/owner/name/issues/comments/2" });
    }, 60_000);

    test("write nothing to a pull request whose head is another commit, nor to one that is no number", async () => {
        const { url, seen } = await forge("b".repeat(40), []);
        const other = await commentSteps(url);
        expect(other.status).not.toBe(0);
        expect(other.output).toContain("the preview is of another commit");
        expect(seen).toHaveLength(1);
        const injected = await commentSteps(url, { number: "7/../../8\n" });
        expect(injected.output).toContain("PULL_REQUEST: is missing or malformed");
        expect(seen).toHaveLength(1);
    }, 60_000);

    test("start no update without the digest that a person looked at", () => {
        const step = steps(".github/workflows/update.yml").find(({ run }) => run?.startsWith("ci/up"));
        for (const digest of ["", "latest", hostile, "a".repeat(63)]) {
            const answer = runStep(step!, { "inputs.digest": digest }, repositoryRoot);
            expect(answer.status).not.toBe(0);
            expect(answer.stderr).toContain("digest: is no change digest");
        }
        expect(fs.existsSync(path.join(repositoryRoot, "pwned"))).toBe(false);
    }, 60_000);
});

describe("what a runner would obey", () => {
    const verbatim = (env: Record<string, string>, ...command: string[]) =>
        spawnSync(path.join(repositoryRoot, "ci/verbatim"), command, { encoding: "utf8", env: { PATH: process.env.PATH, ...env } });
    const lines = ["::error file=a.ts,line=1::planted", "   ::set-output name=digest::aaaa", "##[add-path]/tmp/evil", "::stop-commands::other"];

    test("is printed between two words that nobody who prints knows, and its status is handed on", () => {
        const { status, stdout } = verbatim({ GITHUB_ACTIONS: "true" }, "sh", "-c", 'printf "%s\\n" "$@"; env; exit 3', "sh", ...lines);
        expect(status).toBe(3);
        const told = stdout.trimEnd().split("\n");
        const word = /^::stop-commands::([0-9a-f]{32})$/.exec(told[0]!)?.[1];
        expect(told.at(-1)).toBe(`::${word}::`);
        expect(told.slice(1, 5)).toEqual(lines);
        expect(told.slice(1, -1).join("\n")).not.toContain(word);
        expect(verbatim({ GITHUB_ACTIONS: "true" }, "true").stdout.split("\n")[0]).not.toBe(told[0]);
    });

    test("does not end with a line that was left open", () => {
        expect(verbatim({ GITHUB_ACTIONS: "true" }, "printf", "no end").stdout).toMatch(/\nno end\n::[0-9a-f]{32}::\n$/);
    });

    test("is nothing to anybody else", () => expect(verbatim({}, "echo", "a").stdout).toBe("a\n"));

    test("is what every step of a workflow prints beside secrets, or of a preview", () => {
        const texts = ["ci/up", "ci/preview"].map((file) => fs.readFileSync(path.join(repositoryRoot, file), "utf8"));
        for (const run of [...files.flatMap(steps).map(({ run: step = "" }) => step), ...texts.flatMap((text) => text.split("\n"))]) {
            if (/pulumi -- up|preview:report|run --silent drift|^cat .*(failures|preview)\S*$/.test(run) && !run.startsWith("#")) {
                expect(run).toMatch(/^ci\/verbatim /);
            }
        }
        expect(texts.join("\n").match(/^ci\/verbatim /gm)).toHaveLength(2);
    });
});
