import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { cacheRoot } from "../../tools/cache";
import { unreadableStates } from "../../tools/checkpoint";
import { emptyBackend, ProgramCopy } from "../live/programCopy";
import { repositoryRoot } from "../support/stackFile";

// A state that a killed process left half written, with the real engine's own files.
const MINUTE = 60_000;

const PROGRAM = `
import * as pulumi from "@pulumi/pulumi";
new pulumi.Stash("number", { input: process.env.TEST_NUMBER ?? "" });
`;

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;
let url: string;
let checkpoint: string;

beforeAll(async () => {
    backend = await emptyBackend();
    url = pathToFileURL(backend.folder).href;
    program = new ProgramCopy(backend.env);
    program.edit("index.ts", () => PROGRAM);
    await pulumi("stack", "init", "stack");
    await up("1");
    await up("2");
    checkpoint = path.join(backend.folder, ".pulumi/stacks/gh200-vllm/stack.json");
}, 5 * MINUTE);
afterAll(() => {
    program?.remove();
    backend?.remove();
});

async function pulumi(...args: string[]): Promise<string> {
    const { status, output } = await program.pulumi(args, { TEST_NUMBER: args.at(-1) });
    expect(status, output).toBe(0);
    return output;
}
const up = (number: string) => pulumi("up", "--yes", "--skip-preview", "--stack", "stack", "--message", number);

/** What a person at the terminal reads. */
function npmRunPulumi(): string {
    const tsx = path.join(repositoryRoot, "node_modules/.bin/tsx");
    const { stderr } = spawnSync(tsx, ["tools/pulumi.ts", "stack", "ls"], {
        cwd: repositoryRoot,
        env: { ...backend.env, GH200_CACHE: cacheRoot() },
        encoding: "utf8",
    });
    return stderr;
}

test("a whole state is nothing to talk about", () => expect(unreadableStates(url)).toEqual([]));

describe.each([
    ["empty", (text: string) => text.slice(0, 0)],
    ["cut off", (text: string) => text.slice(0, text.length / 2)],
])("one that is %s", (_, cut) => {
    test(
        "is named with the copy that takes its place, and the engine goes on from there",
        async () => {
            const whole = fs.readFileSync(checkpoint, "utf8");
            fs.writeFileSync(checkpoint, cut(whole));
            const broken = await program.pulumi(["up", "--yes", "--skip-preview", "--stack", "stack"]);
            expect(broken.status).not.toBe(0);
            const line = `${checkpoint}: is no whole state: a process was killed while it wrote it; cp ${checkpoint}.bak ${checkpoint}, then pulumi up --refresh`;
            expect(npmRunPulumi().split("\n")).toContain(line);
            fs.copyFileSync(`${checkpoint}.bak`, checkpoint);
            await pulumi("up", "--refresh", "--yes", "--skip-preview", "--stack", "stack", "--message", "3");
            expect(unreadableStates(url)).toEqual([]);
        },
        2 * MINUTE,
    );
});

test("without a copy beside it, the newest of the history takes its place", () => {
    const kept = [checkpoint, `${checkpoint}.bak`].map((file) => [file, fs.readFileSync(file)] as const);
    kept.forEach(([file]) => fs.writeFileSync(file, ""));
    const [{ fix = "" } = {}] = unreadableStates(url);
    const copy = /^cp (\S+\.checkpoint\.json) /.exec(fix)?.[1] ?? "";
    const history = fs.readdirSync(path.dirname(copy)).filter((name) => name.endsWith(".checkpoint.json"));
    expect(path.basename(copy)).toBe(history.sort().at(-1));
    kept.forEach(([file, content]) => fs.writeFileSync(file, content));
});

test.each([undefined, "s3://bucket", "https://state.example", "file:///does/not/exist", pathToFileURL(os.tmpdir()).href])("%s has none", (other) => {
    expect(unreadableStates(other)).toEqual([]);
});
