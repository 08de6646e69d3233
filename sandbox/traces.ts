import * as fs from "node:fs";
import * as path from "node:path";
import { cgroupOf } from "./cgroup";
import type { Layout } from "./layout";
import { findNamespace } from "./namespace";
import { run } from "./processes";

/** Everything of one sandbox that can be found on this machine, for the test that `down` leaves nothing. Read from the kernel, not from the sandbox's records. */
export async function traces(layout: Layout, subnet: string): Promise<string[]> {
    const network = subnet.replace(/0\/24$/, "");
    const lines = async (file: string, args: string[], mark: string): Promise<string[]> =>
        (await run(file, args)).split("\n").filter((line) => line.includes(mark));
    const entry = `gh200-${layout.id}-aarch64`;
    return [
        ...processes(layout),
        ...mounts(layout),
        ...(await lines("ip", ["-4", "-oneline", "address"], ` ${network}`)).map((line) => `address ${line}`),
        ...(await lines("ip", ["-4", "route", "show", "table", "all"], ` ${network}`)).map((line) => `route ${line}`),
        ...(
            await lines(
                "unshare",
                [
                    "--mount",
                    "/bin/sh",
                    "-c",
                    "[ -e /proc/sys/fs/binfmt_misc/register ] || mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; ls /proc/sys/fs/binfmt_misc",
                ],
                entry,
            )
        ).map((line) => `binfmt ${line}`),
        ...["", ...fs.readdirSync("/sys/fs/cgroup")].map((name) => path.join("/sys/fs/cgroup", name, cgroupOf(layout))).filter((dir) => fs.existsSync(dir)),
        ...fs
            .readFileSync("/proc/net/unix", "utf8")
            .split("\n")
            .filter((line) => line.includes(layout.dir) || line.includes(`gh200-sandbox-${layout.id}`)),
        ...(fs.existsSync(layout.dir) ? [layout.dir] : []),
    ];
}

function processes(layout: Layout): string[] {
    const inside = findNamespace(layout);
    const namespace = inside && fs.readlinkSync(`/proc/${inside.pid}/ns/pid`);
    return fs
        .readdirSync("/proc")
        .filter((pid) => /^\d+$/.test(pid) && Number(pid) !== process.pid)
        .flatMap((pid) => {
            try {
                const command = fs.readFileSync(`/proc/${pid}/cmdline`, "utf8").replaceAll("\0", " ");
                const ours =
                    command.includes(layout.dir) ||
                    command.includes(`gh200-sandbox-${layout.id}`) ||
                    fs.readlinkSync(`/proc/${pid}/cwd`).startsWith(layout.dir) ||
                    fs.readlinkSync(`/proc/${pid}/ns/pid`) === namespace;
                return ours ? [`process ${pid} ${command.slice(0, 100)}`] : [];
            } catch {
                return [];
            }
        });
}

/** In any mount namespace that a process of this machine is in. */
function mounts(layout: Layout): string[] {
    const seen = new Set<string>();
    return fs
        .readdirSync("/proc")
        .filter((pid) => /^\d+$/.test(pid))
        .flatMap((pid) => {
            try {
                const namespace = fs.readlinkSync(`/proc/${pid}/ns/mnt`);
                if (seen.has(namespace)) {
                    return [];
                }
                seen.add(namespace);
                return fs
                    .readFileSync(`/proc/${pid}/mountinfo`, "utf8")
                    .split("\n")
                    .filter((line) => line.includes(layout.dir))
                    .map((line) => `mount ${line}`);
            } catch {
                return [];
            }
        });
}
