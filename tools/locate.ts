import { execFileSync } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { builtPath, cacheRoot, toolsFolder } from "./cache";
import { type Entry, entryOf, type ToolName } from "./catalogue";
import { atLeast, parseVersion } from "./versions";

export interface Tool {
    readonly name: ToolName;
    readonly path: string;
    readonly version: string;
    readonly origin: "PATH" | "plugin" | "built" | "stand-in";
}

const PROBE_TIMEOUT_MS = 10_000;

/** Docker keeps buildx as a plug-in of its CLI; the file also runs on its own. */
const dockerPluginFolders = [
    path.join(os.homedir(), ".docker", "cli-plugins"),
    "/usr/local/lib/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
];

/** The tool as this machine has it. Never builds or downloads. */
export const findTool = (name: ToolName): Tool | undefined => locate(entryOf(name));

/** Official before built. */
export function locate(entry: Entry): Tool | undefined {
    return fromPath(entry) ?? besides(entry) ?? officialPlugin(entry) ?? built(entry);
}

function fromPath(entry: Entry): Tool | undefined {
    if (entry.onPath === undefined) {
        return undefined;
    }
    const folders = [...(process.env.PATH ?? "").split(path.delimiter), ...(entry.name === "buildx" ? dockerPluginFolders : [])];
    for (const candidate of entry.onPath.commands.flatMap((command) => folders.map((folder) => path.join(folder, command)))) {
        const version = isForeign(candidate) ? versionOf(candidate, entry.onPath.versionArguments) : undefined;
        if (version !== undefined && atLeast(version, entry.onPath.minimum)) {
            return { name: entry.name, path: candidate, version, origin: "PATH" };
        }
    }
    return undefined;
}

/** Executable, and not a link to something that we built: our own folder is on PATH of whatever we start. */
function isForeign(file: string): boolean {
    try {
        fs.accessSync(file, fs.constants.X_OK);
        return fs.statSync(file).isFile() && !fs.realpathSync(file).startsWith(toolsFolder());
    } catch {
        return false;
    }
}

function besides(entry: Entry): Tool | undefined {
    const owner = entry.besides === undefined ? undefined : fromPath(entryOf(entry.besides));
    const file = owner && path.join(path.dirname(fs.realpathSync(owner.path)), entry.name);
    return owner && file && isForeign(file) ? { name: entry.name, path: file, version: owner.version, origin: "PATH" } : undefined;
}

/** Homes that Pulumi keeps plug-ins in: the user's own first. */
export const pulumiHomes = (): string[] => [process.env.PULUMI_HOME, path.join(os.homedir(), ".pulumi"), ownPulumiHome()].filter((home) => home !== undefined);

export const ownPulumiHome = (): string => path.join(cacheRoot(), "pulumi");

export const pluginFolder = (home: string, plugin: string, version: string): string => path.join(home, "plugins", `resource-${plugin}-v${version}`);

function officialPlugin(entry: Entry): Tool | undefined {
    if (entry.plugin === undefined) {
        return undefined;
    }
    for (const home of pulumiHomes()) {
        const file = path.join(pluginFolder(home, entry.plugin, entry.version), entry.name);
        // Pulumi leaves this mark while it unpacks.
        if (isForeign(file) && !fs.existsSync(`${path.dirname(file)}.partial`)) {
            return { name: entry.name, path: file, version: entry.version, origin: "plugin" };
        }
    }
    return undefined;
}

function built(entry: Entry): Tool | undefined {
    if (entry.aliasOf !== undefined) {
        const whole = built(entryOf(entry.aliasOf));
        const file = whole && path.join(path.dirname(whole.path), entry.name);
        return file && fs.existsSync(file) ? { name: entry.name, path: file, version: entry.version, origin: "built" } : undefined;
    }
    const file = builtPath(entry);
    if (!fs.existsSync(file)) {
        return undefined;
    }
    return { name: entry.name, path: file, version: entry.standIn ? `${entry.version}+stand-in` : entry.version, origin: entry.standIn ? "stand-in" : "built" };
}

const probed = new Map<string, string | undefined>();

function versionOf(file: string, args: readonly string[]): string | undefined {
    if (!probed.has(file)) {
        let answer = "";
        try {
            answer = execFileSync(file, args, {
                encoding: "utf8",
                timeout: PROBE_TIMEOUT_MS,
                stdio: ["ignore", "pipe", "ignore"],
                env: { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" },
            });
        } catch {
            // A program that cannot say its version is not the one we look for.
        }
        probed.set(file, parseVersion(answer));
    }
    return probed.get(file);
}
