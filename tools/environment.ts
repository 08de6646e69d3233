import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { link } from "./cache";
import { entryOf, pulumiTools, type ToolName } from "./catalogue";
import { findTool, ownPulumiHome, pluginFolder, type Tool } from "./locate";

const CHECKOUT = path.resolve(__dirname, "..");

export function sandboxDirectory(): string {
    return path.resolve(process.env.GH200_SANDBOX_DIR ?? path.join(CHECKOUT, ".sandbox"));
}

/** Where a sandbox keeps Pulumi's state and the passphrase of its secrets. */
export function sandboxState(dir: string): { folder: string; backend: string; passphraseFile: string; stackConfig: string } {
    const folder = path.join(dir, "pulumi");
    return { folder, backend: pathToFileURL(folder).href, passphraseFile: path.join(folder, "passphrase"), stackConfig: path.join(dir, "Pulumi.sandbox.yaml") };
}

/**
 * What Pulumi needs around it: itself, its language host and buildx on PATH, its plug-ins in a home, and with
 * `sandboxDir` that sandbox's state. Only what was found is in it; `ensureTools(pulumiTools)` comes first.
 */
export async function pulumiEnvironment(sandboxDir?: string): Promise<NodeJS.ProcessEnv> {
    const tools = pulumiTools.map(findTool).filter((tool) => tool !== undefined);
    const home = homeOf(tools);
    const environment: NodeJS.ProcessEnv = { ...process.env, PULUMI_SKIP_UPDATE_CHECK: "true" };
    if (home !== undefined) {
        environment.PULUMI_HOME = home;
        for (const tool of tools) {
            linkPlugin(home, tool);
        }
    }
    // Without a download nothing is fetched at run time either: a missing plug-in fails at once instead of after retries.
    if (tools.some((tool) => entryOf(tool.name).plugin !== undefined && tool.origin !== "plugin")) {
        environment.PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION = "true";
    }
    environment.PATH = [linkBinaries(tools), process.env.PATH ?? ""].join(path.delimiter);
    if (sandboxDir !== undefined && fs.existsSync(sandboxState(sandboxDir).passphraseFile)) {
        const state = sandboxState(sandboxDir);
        environment.PULUMI_BACKEND_URL = state.backend;
        environment.PULUMI_CONFIG_PASSPHRASE_FILE = state.passphraseFile;
        delete environment.PULUMI_CONFIG_PASSPHRASE;
        // The builder's entry and certificates are the sandbox's too, and go with it.
        environment.BUILDX_CONFIG = path.join(sandboxDir, "buildx");
        environment.NODE_EXTRA_CA_CERTS = trustedAuthorities(sandboxDir);
        // At each run the Kubernetes provider leaves the kubeconfig there, credentials and all (pulumi-kubernetes 4.25, writeKubeconfigToFile).
        environment.TMPDIR = path.join(sandboxDir, "tmp");
    }
    return environment;
}

/** The sandbox registry's authority, beside the ones that the user has Node.js trust. */
function trustedAuthorities(sandboxDir: string): string {
    const own = path.join(sandboxDir, "pki", "registry-ca.crt");
    const given = process.env.NODE_EXTRA_CA_CERTS;
    if (given === undefined || given === own || !fs.existsSync(given) || !fs.existsSync(own)) {
        return own;
    }
    const both = path.join(sandboxDir, "pki", "trusted.crt");
    if (given !== both) {
        fs.writeFileSync(both, `${fs.readFileSync(given, "utf8")}\n${fs.readFileSync(own, "utf8")}`);
    }
    return both;
}

/**
 * The user's own home where it has all that is needed, because the login is there too; undefined leaves it to Pulumi.
 * Otherwise a home of ours: what we built, stand-ins above all, is no business of the user's other projects.
 */
function homeOf(tools: readonly Tool[]): string | undefined {
    if (process.env.PULUMI_HOME !== undefined) {
        return process.env.PULUMI_HOME;
    }
    const userHome = path.join(os.homedir(), ".pulumi");
    const usersOwn = tools.every((tool) => tool.origin === "PATH" || tool.path.startsWith(userHome + path.sep));
    return usersOwn ? undefined : ownPulumiHome();
}

function linkPlugin(home: string, tool: Tool): void {
    const { plugin, version } = entryOf(tool.name);
    if (plugin === undefined) {
        return;
    }
    // Build metadata does not count in comparing versions, so Pulumi takes the stand-in and still shows its name.
    const standIn = pluginFolder(home, plugin, `${version}+stand-in`);
    const folder = tool.origin === "stand-in" ? standIn : pluginFolder(home, plugin, version);
    if (tool.origin !== "stand-in") {
        fs.rmSync(standIn, { recursive: true, force: true });
    }
    if (path.dirname(tool.path) !== folder) {
        link(tool.path, path.join(folder, tool.name));
    }
}

/** One folder for PATH. Plug-ins are not in it: Pulumi warns of each that it finds there. */
function linkBinaries(tools: readonly Tool[]): string {
    const folder = path.join(ownPulumiHome(), "bin");
    fs.mkdirSync(folder, { recursive: true });
    const ours = (name: ToolName): Tool | undefined => tools.find((tool) => tool.name === name && tool.origin === "built");
    const pulumi = ours("pulumi");
    const languageHost = ours("pulumi-language-nodejs");
    const buildx = findTool("buildx");
    if (pulumi) {
        link(pulumi.path, path.join(folder, pulumi.name));
    }
    if (languageHost) {
        // It belongs beside the CLI, as in the official archive; only to a CLI of the user's own it comes by PATH.
        link(languageHost.path, path.join(pulumi ? path.dirname(pulumi.path) : folder, languageHost.name));
    }
    if (buildx) {
        link(buildx.path, path.join(folder, buildx.name));
    }
    return folder;
}
