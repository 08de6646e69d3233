import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { promisify } from "node:util";
import { main, Problem } from "../tools/report";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory, sandboxState } from "../tools/toolchain";
import { stackOf } from "../tools/stack";
import { curlLines, type HistoryEntry, type Resource, statusRows } from "./report";

const CHECKOUT = path.resolve(__dirname, "..");

/** `npm run status [-- -s STACK]`: what a stack has deployed. Reads state only; nothing is dialled but the state's backend. */
main(async () => {
    await ensureTools(pulumiTools);
    const stack = stackOf(process.argv.slice(2), process.env) ?? "sandbox";
    const inSandbox = stack === "sandbox";
    if (inSandbox && !fs.existsSync(sandboxState(sandboxDirectory()).stackConfig)) {
        throw new Problem("stack: sandbox: does not exist yet; accepted: a stack that was updated; npm run sandbox");
    }
    const env = await pulumiEnvironment(inSandbox ? sandboxDirectory() : undefined);
    const ask = async <T>(...args: string[]): Promise<T> => {
        const config = inSandbox && args[0] === "config" ? ["--config-file", sandboxState(sandboxDirectory()).stackConfig] : [];
        const { stdout } = await promisify(execFile)(findTool("pulumi")?.path ?? "pulumi", [...args, "--stack", stack, ...config], {
            cwd: CHECKOUT,
            env,
            maxBuffer: 256 * 2 ** 20,
        });
        return JSON.parse(stdout || "null") as T;
    };
    const state = await ask<{ deployment: { resources?: Resource[] } }>("stack", "export");
    const history = await ask<HistoryEntry[] | null>("stack", "history", "--json");
    const config = await ask<Record<string, { objectValue?: { required?: boolean; approver?: string } }>>("config", "--json");
    const approval = config["gh200-vllm:approval"]?.objectValue;
    const resources = state.deployment.resources ?? [];
    const rows = statusRows({
        stack,
        resources,
        history: history ?? [],
        approver: approval?.required ? (approval.approver ?? "unnamed") : undefined,
    });
    const width = Math.max(...rows.map(([label]) => label.length));
    for (const [label, value] of rows) {
        console.log(`${label.padEnd(width)}  ${value}`);
    }
    for (const line of curlLines(resources, inSandbox ? path.join(sandboxDirectory(), "kubeconfig") : undefined)) {
        console.log(`  ${line}`);
    }
    return 0;
});
