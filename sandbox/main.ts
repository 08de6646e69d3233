import * as path from "node:path";
import { parseArgs } from "node:util";
import { cacheRoot } from "../tools/cache";
import { installPackages, missingPackages } from "../tools/packages";
import { main, terminalReport } from "../tools/report";
import { type ToolName, ensureTools, pulumiEnvironment, pulumiTools } from "../tools/toolchain";
import { ensureBase } from "./base/base";
import { pushBase } from "./base/push";
import { type Sandbox, withApi } from "./daemons";
import { down } from "./down";
import { CHECKOUT, type Layout, createFolders, layoutOf, sandboxDirectory } from "./layout";
import { withLock } from "./lock";
import { Problem, bold, row, say, seconds } from "./report";
import { ensurePassphrase, ensureStackConfig, stackValues } from "./stackConfig";
import { start } from "./start";
import { status } from "./status";
import { printSummary } from "./summary";
import { buildSeconds, stackOutputs, update } from "./update";

const USAGE = `usage: npm run sandbox [-- OPTION ...] | sandbox:status | sandbox:down
  sandbox            starts what is missing, then pulumi up of the program;
                     also the repair after anything was killed
    --no-up            only the daemons and the stack's configuration
    --simulated-nodes  N full-size GH200 nodes that exist in the API only
  sandbox:status     each daemon's health, and the addresses
  sandbox:down       leaves nothing
  --dir FOLDER       of the sandbox; $GH200_SANDBOX_DIR, else .sandbox`;

const TOOLS: ToolName[] = ["registry", "buildkitd", "buildx", "etcd", "kubernetes", "containerd", "containerd-shim-runc-v2", "ctr", "kwok", ...pulumiTools];

interface UpOptions {
    readonly update: boolean;
    readonly simulatedNodes?: number;
}

async function up(layout: Layout, options: UpOptions): Promise<void> {
    const began = Date.now();
    if (process.getuid?.() !== 0) {
        throw new Problem("sandbox: not root; accepted: root, because containers, namespaces and emulation of arm64 are set up; sudo -E npm run sandbox");
    }
    const missing = missingPackages();
    if (missing.length > 0) {
        installPackages(missing, terminalReport());
    }
    const tools = await ensureTools(TOOLS, terminalReport());
    const binary = (name: ToolName): string => (tools.get(name) as { path: string }).path;
    createFolders(layout);
    ensurePassphrase(layout);
    say(bold(`Sandbox in ${layout.dir}`));
    const sandbox = await start(layout, {
        binary,
        ...(options.simulatedNodes !== undefined && { simulatedNodes: options.simulatedNodes }),
        pushBase: async (registry) => {
            const since = Date.now();
            const image = await ensureBase(cacheRoot(), (line) => row("base image", line));
            const reference = await pushBase(registry, image);
            row("base image", `${image.digest.slice(0, 19)} after ${seconds(since)}`);
            return reference;
        },
    });
    const pulumi = { path: binary("pulumi"), env: await pulumiEnvironment(layout.dir) };
    await ensureStackConfig(layout, stackValues(layout, sandbox), pulumi);
    row("stack", `configuration in ${path.relative(CHECKOUT, layout.stackConfig)}`);
    say(`ready after ${seconds(began)}`);
    if (options.update) {
        await deploy(layout, sandbox, pulumi);
    }
}

async function deploy(layout: Layout, sandbox: Sandbox, pulumi: { path: string; env: NodeJS.ProcessEnv }): Promise<void> {
    say();
    await update(layout, pulumi);
    const outputs = await stackOutputs(pulumi);
    await withApi(sandbox, (api) => printSummary(layout, api, outputs, buildSeconds(layout)));
}

async function run(): Promise<number> {
    const { command, dir, options } = parse(process.argv.slice(2));
    const layout = layoutOf(sandboxDirectory(dir));
    switch (command) {
        case "up":
            await withLock(layout, () => up(layout, options));
            return 0;
        case "status":
            return (await status(layout)) ? 0 : 1;
        case "down":
            say((await withLock(layout, () => down(layout))) ? `${layout.dir}: removed, with everything it had outside` : `${layout.dir}: no sandbox is there`);
            return 0;
        default:
            say(USAGE);
            return 2;
    }
}

function parse(args: string[]): { command: string; dir?: string; options: UpOptions } {
    try {
        const { values, positionals } = parseArgs({
            args,
            allowPositionals: true,
            options: { dir: { type: "string" }, "no-up": { type: "boolean" }, "simulated-nodes": { type: "string" } },
        });
        const count = values["simulated-nodes"];
        if (count !== undefined && !/^\d{1,3}$/.test(count)) {
            throw new Problem(`--simulated-nodes ${count}: is no number of nodes; accepted: 0 to 999`);
        }
        return {
            command: positionals.length === 1 ? (positionals[0] as string) : "",
            ...(values.dir !== undefined && { dir: values.dir }),
            options: { update: values["no-up"] !== true, ...(count !== undefined && { simulatedNodes: Number(count) }) },
        };
    } catch (error) {
        throw new Problem(`${(error as Error).message}\n${USAGE}`);
    }
}

main(run);
