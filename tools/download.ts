import { spawn } from "node:child_process";
import * as os from "node:os";
import * as path from "node:path";
import type { Entry } from "./catalogue";
import { ownPulumiHome, type Tool } from "./locate";
import type { Report } from "./report";

/** Enough for the largest plug-in (45 MB) at 3 Mbit/s. A network that lets nothing through answers at once or after Pulumi's own 30 s. */
const TIMEOUT_MS = 120_000;

let reachable = true;

/**
 * The official plug-in by Pulumi's own installer. One attempt, no retry: where it fails, the network lets no download
 * through, and what can be built is built.
 */
export async function download(entry: Entry, pulumi: Tool, report: Report): Promise<boolean> {
    if (entry.plugin === undefined || !reachable) {
        return false;
    }
    report(`downloading plug-in ${entry.plugin} ${entry.version}`);
    reachable = await install(pulumi, entry.plugin, entry.version);
    if (!reachable) {
        report("plug-ins cannot be downloaded here; building them instead");
    }
    return reachable;
}

/** With a Pulumi of the user's own, plug-ins go where it keeps them. */
export const downloadHome = (pulumi: Tool): string =>
    process.env.PULUMI_HOME ?? (pulumi.origin === "PATH" ? path.join(os.homedir(), ".pulumi") : ownPulumiHome());

function install(pulumi: Tool, plugin: string, version: string): Promise<boolean> {
    return new Promise((resolve) => {
        const env = { ...process.env, PULUMI_HOME: downloadHome(pulumi), PULUMI_SKIP_UPDATE_CHECK: "true" };
        const child = spawn(pulumi.path, ["plugin", "install", "resource", plugin, version], { env, stdio: ["ignore", "pipe", "pipe"] });
        const timer = setTimeout(() => child.kill("SIGKILL"), TIMEOUT_MS);
        const watch = (text: Buffer): void => {
            if (text.includes("Will retry")) {
                child.kill("SIGKILL");
            }
        };
        child.stdout.on("data", watch);
        child.stderr.on("data", watch);
        const end = (succeeded: boolean): void => {
            clearTimeout(timer);
            resolve(succeeded);
        };
        child.on("error", () => end(false));
        child.on("exit", (code) => end(code === 0));
    });
}
