import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Layout } from "./layout";
import { Problem } from "./report";

/**
 * All of a sandbox's daemons, build steps and pods live in one mount and one PID namespace, held by a process that does
 * nothing else. Killing that process ends every process and removes every mount and network namespace at once, which is
 * what makes `down` and recovery certain: there is no list of things to undo that could be incomplete.
 * The network is the host's own, so that the registry and the API server are reached on loopback by everybody.
 */
export interface Namespace {
    /** The holder, as the host numbers it. */
    readonly pid: number;
    /** The namespace's file system, seen from the host. */
    readonly root: string;
}

// The kubelet and the CNI plug-ins want these kernel settings, and would set them for the whole machine. They read and
// write files of the namespace instead. Pods talk to this host only, so nothing has to be forwarded.
const TUNABLES: Record<string, string> = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
    "net/ipv4/ip_forward": "1",
};

// $1 the sandbox's folder. Its argument zero is what `find` looks for.
// /run and /var are covered by a file system in memory, because containerd, the kubelet and CNI have paths of their own
// there, and what they keep there must not outlive the processes it describes.
const HOLDER = `
set -eu
cd "$1"
mkdir -p private logs/node
mount -t tmpfs -o mode=0755 tmpfs private
for top in run var; do
  mkdir -p private/$top private/$top.work
  mount -t overlay overlay -o lowerdir=/$top,upperdir=private/$top,workdir=private/$top.work /$top
done
mount -c --bind . "$1"
cd "$1"
mount --bind logs/node /var/log
mount -t proc proc /proc
[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
${Object.entries(TUNABLES)
    .map(
        ([name, value]) =>
            `[ ! -e /proc/sys/${name} ] || { mkdir -p private/sysctl/${path.dirname(name)}; echo ${value} > private/sysctl/${name}; mount --bind private/sysctl/${name} /proc/sys/${name}; }`,
    )
    .join("\n")}
mkdir -p /run/sandbox
mount --make-rshared /
: > /run/sandbox/ready
while :; do sleep 2147483647 & wait $! || true; done
`;

const marker = (layout: Layout): string => `gh200-sandbox-${layout.id}`;

/** The holder is found in the process list itself, so there is no record of it that could be lost or wrong. */
export function findNamespace(layout: Layout): Namespace | undefined {
    return findNamespaces(layout)[0];
}

function findNamespaces(layout: Layout): Namespace[] {
    const own = fs.readlinkSync("/proc/self/ns/pid");
    const found: Namespace[] = [];
    for (const entry of fs.readdirSync("/proc")) {
        if (!/^\d+$/.test(entry)) {
            continue;
        }
        try {
            const words = fs.readFileSync(`/proc/${entry}/cmdline`, "utf8").split("\0");
            if (words[0] === "/bin/sh" && words[3] === marker(layout) && fs.readlinkSync(`/proc/${entry}/ns/pid`) !== own && nsPid(entry) === 1) {
                found.push({ pid: Number(entry), root: `/proc/${entry}/root` });
            }
        } catch {
            // The process ended while we looked.
        }
    }
    return found;
}

export async function ensureNamespace(layout: Layout): Promise<Namespace> {
    const log = path.join(layout.logs, "namespace.log");
    let namespace = findNamespace(layout);
    if (namespace === undefined) {
        const out = fs.openSync(log, "a", 0o600);
        spawn("unshare", ["--mount", "--pid", "--fork", "/bin/sh", "-c", HOLDER, marker(layout), layout.dir], {
            detached: true,
            stdio: ["ignore", out, out],
            cwd: "/",
            env: { PATH: process.env.PATH },
        }).unref();
        fs.closeSync(out);
    }
    for (const deadline = Date.now() + 5_000; Date.now() < deadline; await sleep(20)) {
        namespace = findNamespace(layout);
        if (namespace !== undefined && fs.existsSync(`${namespace.root}/run/sandbox/ready`)) {
            return namespace;
        }
    }
    // A holder that got half way (killed helpers, no rights) is of no use to the next attempt.
    await destroyNamespace(layout);
    throw new Problem(`the sandbox's namespace could not be set up; it needs root. Last lines of ${log}:\n${tail(log)}`);
}

/** Ends every process of the sandbox. Mounts and network namespaces go with the last one. */
export async function destroyNamespace(layout: Layout): Promise<void> {
    const inside = findNamespaces(layout).map(({ pid }) => {
        const name = fs.readlinkSync(`/proc/${pid}/ns/pid`);
        process.kill(pid, "SIGKILL");
        return name;
    });
    const left = () => inside.flatMap(processesIn);
    for (const deadline = Date.now() + 20_000; left().length > 0; await sleep(20)) {
        if (Date.now() > deadline) {
            throw new Problem(`processes of the sandbox do not end: ${left().join(", ")}`);
        }
    }
}

/** Processes of a PID namespace, as the host numbers them. */
export function processesIn(pidNamespace: string): number[] {
    return fs
        .readdirSync("/proc")
        .filter((entry) => {
            try {
                return /^\d+$/.test(entry) && fs.readlinkSync(`/proc/${entry}/ns/pid`) === pidNamespace;
            } catch {
                return false;
            }
        })
        .map(Number);
}

/** The number that a process has inside its own PID namespace. */
export function nsPid(pid: number | string): number {
    const line = /^NSpid:\s+(.*)$/m.exec(fs.readFileSync(`/proc/${pid}/status`, "utf8"));
    return Number(line?.[1]?.split(/\s+/).pop());
}

/** The end of a log, lines cut to what a terminal can show. */
export function tail(file: string, lines = 12): string {
    try {
        return fs
            .readFileSync(file, "utf8")
            .trimEnd()
            .split("\n")
            .slice(-lines)
            .map((line) => `    ${line.slice(0, 400)}`)
            .join("\n");
    } catch {
        return "    (no log)";
    }
}
