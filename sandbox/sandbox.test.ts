import { type ChildProcess, spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { CHECKOUT, type Layout, layoutOf, readJson } from "./layout";
import { withLock } from "./lock";
import { traces } from "./traces";

// The real daemons on this machine: needs root, and the tools that `npm run sandbox` prepares.
const MINUTE = 60_000;

interface State {
    readonly namespace: { pid: number };
    readonly node: { podSubnet: string };
    readonly processes: Record<string, { pid: number; startTime: string }>;
}

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-sandbox-test-"));
const [first, second] = ["first", "second"].map((name) => layoutOf(path.join(folder, name))) as [Layout, Layout];

const state = (layout: Layout): State => readJson<State>(layout.stateFile) as State;

function begin(layout: Layout, ...args: string[]): ChildProcess {
    return spawn(process.execPath, [path.join(CHECKOUT, "node_modules", "tsx", "dist", "cli.mjs"), "sandbox/main.ts", ...args, "--dir", layout.dir], {
        cwd: CHECKOUT,
        stdio: ["ignore", "pipe", "pipe"],
        detached: true,
    });
}

function command(layout: Layout, ...args: string[]): Promise<{ status: number | null; output: string }> {
    const child = begin(layout, ...args);
    let output = "";
    child.stdout?.on("data", (data: Buffer) => (output += data.toString()));
    child.stderr?.on("data", (data: Buffer) => (output += data.toString()));
    return new Promise((resolve) => child.once("close", (status) => resolve({ status, output })));
}

async function up(layout: Layout, ...args: string[]): Promise<string> {
    const { status, output } = await command(layout, "up", "--no-up", ...args);
    expect(status, output).toBe(0);
    return output;
}

/** What of the machine must be the same before and after, whatever else goes on. */
function machine(): Record<string, string[]> {
    const list = (dir: string): string[] => (fs.existsSync(dir) ? fs.readdirSync(dir).sort() : []);
    return {
        // Of the kinds that name no folder: mounts of the sandbox's own folder are among its traces.
        mounts: fs
            .readFileSync("/proc/self/mounts", "utf8")
            .split("\n")
            .filter((line) => /^\S+ \S+ (nsfs|tmpfs|proc|sysfs|cgroup2?|mqueue|devpts|binfmt_misc) /.test(line)),
        ...Object.fromEntries(["/run", "/var/lib", "/var/log", "/etc", "/opt", "/usr/libexec", "/sys/fs/cgroup"].map((dir) => [dir, list(dir)])),
        tunables: ["vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward"].map((name) =>
            fs.readFileSync(`/proc/sys/${name}`, "utf8"),
        ),
    };
}

describe("sandbox", () => {
    const before = machine();

    beforeAll(() => up(first), 30 * MINUTE);

    afterAll(async () => {
        await command(first, "down");
        await command(second, "down");
        fs.rmSync(folder, { recursive: true, force: true });
    }, MINUTE);

    test(
        "a second start leaves every process alone",
        async () => {
            const was = state(first).processes;
            await up(first);
            expect(state(first).processes).toEqual(was);
        },
        MINUTE,
    );

    test(
        "status tells health and addresses",
        async () => {
            const { status, output } = await command(first, "status");
            expect(status, output).toBe(0);
            expect(output).toContain("https://localhost:");
            expect(output).not.toContain("\u001b[");
        },
        MINUTE,
    );

    test(
        "a daemon that was killed comes back, and only that one",
        async () => {
            for (const name of Object.keys(state(first).processes)) {
                const was = state(first).processes;
                process.kill(was[name]!.pid, "SIGKILL");
                await up(first);
                const now = state(first).processes;
                expect(now[name]).not.toEqual(was[name]);
                // A controller manager that is still starting does not survive the loss of its API.
                const alsoGone = ["etcd", "kube-apiserver"].includes(name) ? { "kube-controller-manager": undefined } : {};
                expect({ ...now, [name]: undefined, ...alsoGone }).toEqual({ ...was, [name]: undefined, ...alsoGone });
            }
        },
        5 * MINUTE,
    );

    test(
        "a daemon that no longer answers is replaced",
        async () => {
            const was = state(first).processes.registry!;
            process.kill(was.pid, "SIGSTOP");
            expect(await up(first)).toMatch(/registry +restarted/);
            expect(state(first).processes.registry).not.toEqual(was);
        },
        MINUTE,
    );

    test(
        "after a kill of everything the same command brings everything back",
        async () => {
            process.kill(state(first).namespace.pid, "SIGKILL");
            expect((await command(first, "status")).status).toBe(1);
            await up(first);
            expect((await command(first, "status")).status).toBe(0);
        },
        2 * MINUTE,
    );

    test(
        "a start that is killed at any moment is finished by the next",
        async () => {
            for (const moment of [700, 1000, 1300, 2000, 3500, 5000]) {
                await command(second, "down");
                const started = begin(second, "up", "--no-up");
                await sleep(moment);
                process.kill(-(started.pid as number), "SIGKILL");
                await up(second);
                expect((await command(second, "status")).status).toBe(0);
            }
        },
        5 * MINUTE,
    );

    test(
        "a start beside another up or down is refused, and done once that has ended",
        async () => {
            const { status, output } = await withLock(first, () => command(first, "up", "--no-up"));
            expect(status, output).toBe(1);
            expect(output).toContain("another up or down of this sandbox is running");
            await up(first);
        },
        MINUTE,
    );

    test(
        "removing one sandbox leaves nothing of it and the other untouched",
        async () => {
            const subnet = state(second).node.podSubnet;
            expect((await traces(second, subnet)).length).toBeGreaterThan(10);
            const was = state(first).processes;
            expect((await command(second, "down")).status).toBe(0);
            expect(await traces(second, subnet)).toEqual([]);
            expect((await command(first, "status")).status).toBe(0);
            await up(first);
            expect(state(first).processes).toEqual(was);
        },
        MINUTE,
    );

    test(
        "a folder that is no sandbox is neither filled nor removed",
        async () => {
            const stranger = layoutOf(path.join(folder, "stranger"));
            fs.mkdirSync(stranger.dir);
            fs.writeFileSync(path.join(stranger.dir, "precious"), "");
            const { status, output } = await command(stranger, "up", "--no-up");
            expect(status).toBe(1);
            expect(output).toContain("is not empty and not a sandbox");
            await command(stranger, "down");
            expect(fs.readdirSync(stranger.dir)).toEqual(["precious"]);
        },
        MINUTE,
    );

    test(
        "down leaves nothing",
        async () => {
            const subnet = state(first).node.podSubnet;
            expect((await command(first, "down")).status).toBe(0);
            expect(await traces(first, subnet)).toEqual([]);
            // Others may have gone from the machine meanwhile; what counts is that nothing came.
            for (const [name, entries] of Object.entries(machine())) {
                expect(before[name], name).toEqual(expect.arrayContaining(entries));
            }
        },
        MINUTE,
    );
});
