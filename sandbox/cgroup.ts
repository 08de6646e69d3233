import * as fs from "node:fs";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Layout } from "./layout";
import { Problem } from "./report";

const ROOT = "/sys/fs/cgroup";

/** The cgroup that all pods and build steps of the sandbox are below; relative to the hierarchy's root. */
export const cgroupOf = (layout: Layout): string => `gh200-sandbox-${layout.id}`;

/** Version 2 has one tree at /sys/fs/cgroup, version 1 a tree for each controller below it. */
function hierarchies(): string[] {
    return fs.existsSync(path.join(ROOT, "cgroup.controllers"))
        ? [ROOT]
        : fs
              .readdirSync(ROOT)
              .map((name) => path.join(ROOT, name))
              .filter((dir) => !fs.lstatSync(dir).isSymbolicLink());
}

/** The kubelet expects its root cgroup to exist. */
export function ensureCgroup(layout: Layout): void {
    for (const hierarchy of hierarchies()) {
        const own = path.join(hierarchy, cgroupOf(layout));
        fs.mkdirSync(own, { recursive: true });
        if (hierarchy === ROOT) {
            delegate(ROOT);
            delegate(own);
        } else if (hierarchy === path.join(ROOT, "cpuset")) {
            // Version 1 starts a cpuset empty, and nothing can run in an empty one.
            for (const file of ["cpuset.cpus", "cpuset.mems"]) {
                fs.writeFileSync(path.join(own, file), fs.readFileSync(path.join(hierarchy, file)));
            }
        }
    }
}

/** Version 2: a controller works in a cgroup only where its parent hands it down. */
function delegate(dir: string): void {
    const wanted = ["cpu", "cpuset", "hugetlb", "io", "memory", "pids"];
    const available = new Set(fs.readFileSync(path.join(dir, "cgroup.controllers"), "utf8").trim().split(" "));
    for (const controller of wanted.filter((name) => available.has(name))) {
        try {
            fs.writeFileSync(path.join(dir, "cgroup.subtree_control"), `+${controller}`);
        } catch (error) {
            throw new Problem(
                `${dir}/cgroup.subtree_control: ${controller} cannot be handed down (${(error as Error).message}); run the sandbox outside a container, or in one with a writable cgroup root of its own`,
            );
        }
    }
}

/** After the last process: only empty cgroups can be removed, the deepest first. */
export async function removeCgroup(layout: Layout): Promise<void> {
    for (const hierarchy of hierarchies()) {
        const own = path.join(hierarchy, cgroupOf(layout));
        // A process that was killed counts until the kernel has finished with it.
        for (let attempt = 0; fs.existsSync(own); attempt++) {
            try {
                removeTree(own);
            } catch (error) {
                if (attempt === 100) {
                    throw error;
                }
                await sleep(50);
            }
        }
    }
}

function removeTree(dir: string): void {
    for (const entry of fs.readdirSync(dir, { withFileTypes: true })) {
        if (entry.isDirectory()) {
            removeTree(path.join(dir, entry.name));
        }
    }
    fs.rmdirSync(dir);
}
