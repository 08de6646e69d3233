import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, emptyBackend, ProgramCopy } from "../live/programCopy";
import { repositoryRoot } from "../support/stackFile";

/** What `npm run init` is made of, besides the program. */
const tool = ["init", "nodecheck", "tools", "sandbox/report.ts", "approvals"];

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;

beforeAll(async () => {
    backend = await emptyBackend();
    program = new ProgramCopy(backend.env);
    for (const entry of tool) {
        fs.cpSync(path.join(repositoryRoot, entry), path.join(program.folder, entry), { recursive: true });
    }
}, 300_000);

afterAll(() => {
    program?.remove();
    backend?.remove();
});

const stackFile = (stack: string) => path.join(program.folder, `Pulumi.${stack}.yaml`);
const tsx = path.join(repositoryRoot, "node_modules", ".bin", "tsx");

function init(...args: string[]): Promise<Answer> {
    return talk(spawn(tsx, ["init/main.ts", ...args], { cwd: program.folder, env: backend.env, stdio: ["pipe", "pipe", "pipe"] }), []);
}

/** The same at a terminal of that width: each answer is typed when it is asked for. */
function initAtTerminal(columns: number, args: string[], typed: string[]): Promise<Answer> {
    const command = `stty columns ${columns} && exec ${tsx} init/main.ts ${args.join(" ")}`;
    return talk(
        spawn("script", ["--quiet", "--return", "--flush", "--command", command, "/dev/null"], {
            cwd: program.folder,
            env: { ...backend.env, NO_COLOR: "1" },
            stdio: ["pipe", "pipe", "pipe"],
        }),
        typed,
    );
}

function talk(child: ReturnType<typeof spawn>, typed: string[]): Promise<Answer> {
    let output = "";
    let answered = 0;
    const read = (chunk: Buffer) => {
        output += chunk.toString();
        // readline sets the cursor behind the prompt.
        const prompt = /(?:--[a-z-]+|\?)(?: \[[^\]]*\])?: (?:\u001b\[\d+G)?$/.exec(output.slice(answered));
        if (prompt !== null && typed.length > 0) {
            answered = output.length;
            child.stdin?.write(typed.shift() ?? "");
        }
    };
    child.stdout?.on("data", read);
    child.stderr?.on("data", read);
    return new Promise((resolve, reject) => {
        child.once("error", reject);
        child.once("close", (status) => resolve({ status, output }));
    });
}

const answers = [
    "--builder",
    "tcp://localhost:1234",
    "--registry",
    "registry.example/vllm",
    "--profile",
    "driver",
    "--builder-memory",
    "400",
    "--model",
    "Qwen/Qwen2.5-7B-Instruct",
    "--approver",
    "none",
];

describe("npm run init by flags", () => {
    test("writes a stack file that the program previews", async () => {
        const made = await init("--yes", "--offline", "--stack", "made", ...answers);
        expect(made.output).toContain("offline: builder, registry, cluster and node are not asked");
        expect(made.output).toContain("Pulumi.made.yaml is written");
        expect(made.status).toBe(0);
        expect((await program.pulumi(["stack", "init", "made"])).status).toBe(0);
        const preview = await program.pulumi(["preview", "--stack", "made"]);
        expect(preview.output).toContain("to create");
        expect(preview.output).toContain("registry.example/vllm/gh200-vllm-cmm:cmm-cmm-made");
        expect(preview.status).toBe(0);
        // What is left is what npm run pins settles.
        const open = preview.output.split("\n").filter((line) => /^\s*gh200-vllm:(?!index:)/.test(line));
        expect(open.length).toBeGreaterThan(0);
        expect(open.filter((line) => !line.includes("is unpinned"))).toEqual([]);
    }, 300_000);

    test("names all that is missing or wrong at once, a line each, and writes nothing", async () => {
        const [refused, unasked, unreached] = await Promise.all([
            init("--yes", "--stack", "refused", "--builder", "localhost:1234", "--profile", "driver", "--builder-memory", "400"),
            init("--stack", "refused"),
            init("--yes", "--stack", "refused", ...answers.map((answer) => answer.replace("1234", "1").replace("registry.example", "localhost:1"))),
        ]);
        expect(refused.output.trim().split("\n")).toEqual([
            "--registry: is missing; accepted: HOST/NAMESPACE; add --registry",
            "--model: is missing; accepted: NAME or OWNER/NAME of Hugging Face, or a path; add --model",
            "--approver: is missing; accepted: a principal of approvals/allowed_signers, or none; add --approver",
            "--builder: localhost:1234: is no BuildKit address; accepted: tcp://HOST:PORT",
        ]);
        expect(refused.status).toBe(1);
        expect(unasked.output).toContain("--yes: is missing, and standard input is no terminal to ask at;");
        expect(unasked.status).toBe(1);
        expect(unreached.output).toMatch(/^--builder: tcp:\/\/localhost:1: no BuildKit daemon answered within 4 s: nothing listens there /m);
        expect(unreached.output).toMatch(/^--registry: localhost:1\/vllm: no registry answers https:\/\/localhost:1\/v2\/ /m);
        expect(unreached.status).toBe(1);
        expect(fs.existsSync(stackFile("refused"))).toBe(false);
    }, 120_000);

    test("takes no stack's file away, unless it is told to", async () => {
        const before = fs.readFileSync(stackFile("gh200"), "utf8");
        const refused = await init("--yes", "--offline", "--stack", "gh200", ...answers);
        expect(refused.output.trim().split("\n")).toContain(
            "--stack: gh200: has the file Pulumi.gh200.yaml already; accepted: a new stack; take another name, or --force to write the file anew",
        );
        expect(fs.readFileSync(stackFile("gh200"), "utf8")).toBe(before);
        expect((await init("--yes", "--offline", "--force", "--stack", "gh200", ...answers)).status).toBe(0);
        expect(fs.readFileSync(stackFile("gh200"), "utf8")).not.toBe(before);
        program.restore("Pulumi.gh200.yaml");
    }, 60_000);
});

describe("npm run init at a terminal", () => {
    test("asks for what no flag gives, in 40 columns and without colour, and writes the file at the end", async () => {
        const typed = ["asked\r", "none\r", "yes\r"];
        const made = await initAtTerminal(
            40,
            [
                "--offline",
                ...answers.slice(0, -2),
                "--repository",
                "r",
                "--user",
                "ci",
                "--pull-user",
                "puller",
                "--context",
                "none",
                "--node",
                "none",
                "--builder-place",
                "elsewhere",
                "--builder-cores",
                "72",
                "--managed",
                "200",
                "--model-config",
                "none",
                "--weights",
                "none",
                "--max-model-len",
                "8192",
            ],
            typed,
        );
        expect(made.status).toBe(0);
        expect(fs.readFileSync(stackFile("asked"), "utf8")).toMatch(/username: ci #.*\n +pullUsername: puller #/);
        expect(made.output).not.toMatch(/\u001b\[\d+m/);
        const commands = made.output.split("\r\n").filter((line) => line.startsWith("  npm run"));
        expect(commands).toContain("  npm run pulumi -- stack init asked");
        // Commands stay whole, so that they can be copied; all else keeps within the width.
        const shown = made.output
            .replace(/\u001b\[\d*[A-Z]/g, "")
            .split("\r\n")
            .filter((line) => !line.startsWith("  npm run"));
        expect(shown.filter((line) => line.length > 40)).toEqual([]);
    }, 60_000);

    test.each([
        ["Ctrl-C", "\u0003"],
        ["Ctrl-D", "\u0004"],
    ])(
        "%s leaves nothing half done",
        async (_, key) => {
            const left = await initAtTerminal(80, ["--offline", ...answers], ["left\r", key]);
            expect(left.output).toContain("nothing is written");
            expect(left.status).toBe(130);
            expect(fs.existsSync(stackFile("left"))).toBe(false);
        },
        60_000,
    );
});
