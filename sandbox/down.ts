import * as fs from "node:fs";
import { removeEmulation } from "./binfmt";
import { removeCgroup } from "./cgroup";
import { type Layout, isSandbox } from "./layout";
import { destroyNamespace } from "./namespace";
import { removeNetwork } from "./network";
import { row } from "./report";
import { endUpdates } from "./update";

/**
 * Nothing is left. Everything outside the folder is found by the folder's path alone, so this also ends a sandbox that was
 * only half started, or whose files are damaged.
 */
export async function down(layout: Layout): Promise<boolean> {
    await endUpdates(layout);
    await destroyNamespace(layout);
    row("processes", "ended, and their mounts and networks with them");
    await removeCgroup(layout);
    await removeNetwork(layout);
    await removeEmulation(layout);
    row("outside the folder", "cgroups, address and binfmt entry removed");
    const existed = isSandbox(layout);
    if (existed) {
        // Gigabytes of layers: on a busy disk the longest part.
        row("files", `removing ${layout.dir}`);
        fs.rmSync(layout.dir, { recursive: true, force: true, maxRetries: 3 });
    }
    return existed;
}
