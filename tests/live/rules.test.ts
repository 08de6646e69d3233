import { execFileSync, spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { recordFile, signersFile } from "../../approval/record";
import { sandboxState } from "../../tools/toolchain";
import { overlappingCompiles } from "./buildHistory";
import { builtImages, LiveSandbox, type Machine, summary } from "./liveSandbox";
import { type Answer, killTree } from "./programCopy";

// The hard rules against a real BuildKit, registry and API server. One story: each test starts from what the one before left.
const MINUTE = 60_000;
const INFINISTORE = "sandbox/sources/infinistore/src/infinistore.cpp";

let sandbox: LiveSandbox;
let machine: Machine;
let config: string;
const file = (name: string) => path.join(machine.program.folder, name);

beforeAll(async () => {
    sandbox = new LiveSandbox(process.env.GH200_TEST_SANDBOX);
    sandbox.start();
    machine = await sandbox.machine();
    for (const folder of ["tools", "report", "drift", "policy", "ci"]) {
        fs.cpSync(path.resolve(__dirname, "../..", folder), file(folder), { recursive: true });
    }
    fs.mkdirSync(file("approvals"));
    execFileSync("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-f", file("key")]);
    fs.writeFileSync(file(signersFile), `tester ${fs.readFileSync(file("key.pub"), "utf8")}`);
    config = machine.configWith((text) => text.replace("required: false", "required: true\n    approver: tester"));
    // What ci/ reads, and a lock file that is older than what was installed from it.
    fs.copyFileSync(config, file("Pulumi.sandbox.yaml"));
    fs.utimesSync(file("package-lock.json"), 0, 0);
}, 60 * MINUTE);

// A sandbox that was given is left as it is.
afterAll(() => (process.env.GH200_TEST_SANDBOX === undefined ? sandbox?.down() : sandbox?.forget()), 10 * MINUTE);

const up = () => machine.upWith(config);
const marker = (text: string) => `\nextern "C" const char *live_test_marker() { return "${text}"; }\n`;

/** One of our own commands, as a person runs it in that checkout. */
function command(script: string, ...args: string[]): Answer {
    const tsx = path.join(machine.program.folder, "node_modules", ".bin", "tsx");
    const env = { ...process.env, GH200_SANDBOX_DIR: sandbox.folder };
    const { status, stdout, stderr } = spawnSync(tsx, [script, "-s", "sandbox", "--config-file", config, ...args], {
        cwd: machine.program.folder,
        env,
        encoding: "utf8",
    });
    return { status, output: stdout + stderr };
}

/** The pipeline's own script, on a runner that has the stack's passphrase. */
function ciUp(digest: string): Answer {
    const env = { ...process.env, GH200_SANDBOX_DIR: sandbox.folder, PULUMI_CONFIG_PASSPHRASE_FILE: sandboxState(sandbox.folder).passphraseFile };
    const { status, stdout, stderr } = spawnSync(file("ci/up"), ["sandbox", digest], { cwd: machine.program.folder, env, encoding: "utf8" });
    return { status, output: stdout + stderr };
}

function approve(...args: string[]): Answer {
    const asked = command("approval/approve.ts", "--key", file("key"), "--change", "", ...args);
    const change = /accepted: ([0-9a-f]{64})/.exec(asked.output)?.[1] ?? asked.output;
    return command("approval/approve.ts", "--key", file("key"), "--change", change, ...args);
}

function ok(answer: Answer): Answer {
    expect(answer.status, answer.output.slice(-4000)).toBe(0);
    return answer;
}

/** A preview's comment; kept where GH200_PAGES says, so that a person can look at it. */
function report(name: string): string {
    const page = file(`${name}.md`);
    command("report/main.ts", "--out", page);
    if (process.env.GH200_PAGES !== undefined) {
        fs.copyFileSync(page, path.join(process.env.GH200_PAGES, `${name}.md`));
    }
    return fs.readFileSync(page, "utf8");
}

describe("an approval stack", () => {
    test(
        "builds and deploys nothing that was not approved, and by the pipeline's script everything that was",
        async () => {
            const refused = await up();
            const [, digest = ""] = /error: approval: change ([0-9a-f]{64}): is not approved; tester approves it with: npm run approve -- -s sandbox/.exec(
                refused.output,
            ) ?? [refused.output];
            ok(approve());
            expect(ciUp("0".repeat(64)).output).toContain(`--expect ${"0".repeat(64)}: is not this change; accepted: ${digest}`);
            expect(sandbox.buildRefs()).toEqual([]);
            expect(builtImages(ok(ciUp(digest)).output)).toContain("gh200-release");
            expect(summary(ok(await up()).output)).toEqual({ unchanged: expect.any(Number) as number });
        },
        20 * MINUTE,
    );

    test(
        "is reported as unchanged, and then by the one stage that changes",
        () => {
            expect(report("no-change")).toContain("## Preview of sandbox: no change");
            machine.program.edit(INFINISTORE, (text) => text + marker("report"));
            const page = report("one-stage");
            machine.program.restore(INFINISTORE);
            expect(page).toContain("### Rebuilt: 1 stage, about 3 min");
            expect(page).toContain(`  ${INFINISTORE}: edited`);
            expect(page).toContain("! update  Image gh200-build-infinistore");
        },
        5 * MINUTE,
    );
});

describe("a build that fails", () => {
    test(
        "leaves a report with the stage, the compiler's own words, what changed and how to go on",
        async () => {
            machine.program.edit(INFINISTORE, (text) => `${text}\n#error planted by the test\n`);
            ok(approve());
            const failure = await up();
            expect(failure.status).not.toBe(0);
            const reports = fs.readdirSync(file(".gh200/failures"));
            expect(reports).toHaveLength(1);
            const page = fs.readFileSync(file(`.gh200/failures/${reports[0]}`), "utf8");
            expect(page).toMatch(/^# build-infinistore failed: .*#error planted by the test/);
            expect(page).toMatch(/- builder: tcp:\S+, build [a-z0-9]{20,}/);
            expect(page).toMatch(/```text\n[^]*#error planted\s+by\s+the\s+test/);
            expect(page).toContain("context src-infinistore: src/infinistore.cpp edited");
            expect(page).toContain("npm run approve -- -s sandbox --after-failure REASON");
            expect(failure.output).toContain(page.split("\n")[0]);
            expect(failure.output).toContain(`This report: .gh200/failures/${reports[0]}`);
        },
        5 * MINUTE,
    );

    test(
        "is followed by a decision, not by another try",
        async () => {
            machine.program.restore(INFINISTORE);
            machine.program.edit(INFINISTORE, (text) => text + marker("mended"));
            expect((await up()).output).toContain("did not end well and nothing is retried: a person decides");
            ok(approve("--after-failure", "the planted error is out"));
            expect(builtImages(ok(await up()).output)[0]).toBe("gh200-build-infinistore");
        },
        10 * MINUTE,
    );
});

describe("two stacks on one builder", () => {
    test(
        "take turns; who waits or is refused is told for whom, and a holder that is killed holds nothing",
        async () => {
            const others = [await sandbox.machine(), await sandbox.machine(), await sandbox.machine()];
            for (const [index, other] of others.entries()) {
                // Long enough under emulation for the other to come along.
                other.program.edit("sandbox/sources/infinistore/setup.py", (text) => `${text}\nimport time\ntime.sleep(${index === 0 ? 120 : 1})\n`);
                ok(await other.program.pulumi(["stack", "init", `turn-${index}`]));
                fs.copyFileSync(other.stackConfig, path.join(other.home, "stack.yaml"));
            }
            const imagesOnly = ["--exclude", "**VllmServer$**", "--exclude", "**ImageRelease$**", "--exclude", "**Stash::gh200-change"];
            const since = Date.now();
            const [holder, waiter, third] = others as [Machine, Machine, Machine];
            const holding = holder.program.start([
                "up",
                "--yes",
                "--skip-preview",
                "--stack",
                "turn-0",
                "--config-file",
                path.join(holder.home, "stack.yaml"),
                ...imagesOnly,
            ]);
            await until(() => holding.seen().includes("gh200-build-infinistore creating"), holding.seen);
            const waiting = waiter.program.start([
                "up",
                "--yes",
                "--skip-preview",
                "--stack",
                "turn-1",
                "--config-file",
                path.join(waiter.home, "stack.yaml"),
                ...imagesOnly,
            ]);
            await until(() => waiting.seen().includes("is building build-infinistore for stack gh200-vllm/turn-0 since"), waiting.seen);
            fs.copyFileSync(
                third.configWith((text) => text.replace(/allowEmulation: true.*/, "$&\n    refuseWhenBusy: true")),
                path.join(third.home, "stack.yaml"),
            );
            const refused = await third.buildOnly("turn-2", imagesOnly);
            expect(refused.output).toMatch(
                /builder\.endpoint: tcp:\S+: is building build-infinistore for stack gh200-vllm\/turn-0 since .*accepted: a daemon that builds nothing/,
            );
            killTree(holding.pid);
            await holding.ended;
            ok(await waiting.ended);
            const compiles = overlappingCompiles(sandbox, since);
            expect(compiles.overlapping).toEqual([]);
            expect(compiles.total).toBeGreaterThanOrEqual(1);
        },
        10 * MINUTE,
    );
});

describe("drift", () => {
    test(
        "is none where nobody changed anything",
        () => {
            expect(ok(command("drift/main.ts")).output).toContain("stack sandbox: nothing was changed by hand");
        },
        3 * MINUTE,
    );

    test(
        "names a deployment that was edited and a tag that was moved",
        async () => {
            sandbox.kubectl("--namespace=vllm", "scale", "deployment", "gh200-vllm", "--replicas=0");
            sandbox.kubectl("--namespace=vllm", "patch", "service", "gh200-vllm", "--patch", '{"spec":{"ports":[{"port":8000,"name":"http","targetPort":9}]}}');
            const { deployRef, releaseRef } = await machine.outputs();
            await sandbox.retag(String(releaseRef));
            const answer = command("drift/main.ts");
            expect(answer.status).toBe(1);
            expect(answer.output).toMatch(/Deployment gh200-vllm: was changed by hand: .*spec\.replicas 1 → 0/);
            expect(answer.output).toMatch(/Service gh200-vllm: was changed by hand: .*targetPort.*9/);
            expect(answer.output).toContain(`tag ${String(releaseRef)}: was moved by hand: ${String(deployRef).split("@")[1]} → sha256:`);
        },
        3 * MINUTE,
    );
});

describe("destroy", () => {
    test(
        "is refused before any step, and done once it is approved",
        async () => {
            const bare = await machine.program.pulumi(["destroy", "--yes", "--skip-preview", "--stack", "sandbox", "--config-file", config]);
            expect(bare.status).not.toBe(0);
            expect(sandbox.kubectl("get", "deployments", "--namespace=vllm", "--output=name")).toContain("gh200-vllm");
            ok(approve("--destroy", "the test is over"));
            expect((JSON.parse(fs.readFileSync(file(recordFile("sandbox")), "utf8")) as { decision: string }).decision).toBe("destroy");
            ok(await machine.program.pulumi(["destroy", "--run-program", "--yes", "--skip-preview", "--stack", "sandbox", "--config-file", config]));
            expect(sandbox.kubectl("get", "deployments,services,serviceaccounts", "--namespace=vllm", "--output=name")).not.toContain("gh200-vllm");
            // A namespace is never deleted.
            expect(sandbox.kubectl("get", "namespaces", "--output=name")).toContain("namespace/vllm");
        },
        5 * MINUTE,
    );
});

async function until(condition: () => boolean, seen: () => string): Promise<void> {
    for (const deadline = Date.now() + 5 * MINUTE; !condition();) {
        if (Date.now() > deadline) {
            throw new Error(`did not happen within five minutes; seen: ${seen().slice(-2000)}`);
        }
        await new Promise((done) => setTimeout(done, 50));
    }
}
