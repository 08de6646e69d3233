import { execFile } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { parseArgs, promisify } from "node:util";
import { main, Problem } from "../tools/report";
import { renderPair } from "../tools/table";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory, sandboxState } from "../tools/toolchain";
import { curlLines, type HistoryEntry, pictureOf, type Resource, statusRows } from "./report";

const CHECKOUT = path.resolve(__dirname, "..");

const USAGE = `usage: npm run status [-- -s STACK] [--picture FILE]
  -s, --stack    the stack that is asked about; $PULUMI_STACK, else sandbox
  --picture      writes its memory plan as an SVG instead`;

/** `npm run status`: what a stack has deployed. Reads state only; nothing is dialled but the state's backend. */
main(async () => {
    const { stack, picture } = parse(process.argv.slice(2));
    await ensureTools(pulumiTools);
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
    const resources = state.deployment.resources ?? [];
    if (picture !== undefined) {
        writePicture(picture, stack, resources);
        return 0;
    }
    const history = await ask<HistoryEntry[] | null>("stack", "history", "--json");
    const config = await ask<Record<string, { objectValue?: { required?: boolean; approver?: string } }>>("config", "--json");
    const approval = config["gh200-vllm:approval"]?.objectValue;
    const rows = statusRows({
        stack,
        resources,
        history: history ?? [],
        approver: approval?.required ? (approval.approver ?? "unnamed") : undefined,
    });
    const width = Math.max(...rows.map(([label]) => label.length));
    const columns = process.stdout.columns || Infinity;
    for (const [label, value] of rows) {
        renderPair(label, value, width, columns).forEach((line) => console.log(line));
    }
    for (const line of curlLines(resources, inSandbox ? path.join(sandboxDirectory(), "kubeconfig") : undefined)) {
        console.log(`  ${line}`);
    }
    return 0;
});

function parse(args: string[]): { stack: string; picture: string | undefined } {
    try {
        const { values } = parseArgs({ args, options: { stack: { type: "string", short: "s" }, picture: { type: "string" } } });
        return { stack: values.stack ?? process.env.PULUMI_STACK ?? "sandbox", picture: values.picture };
    } catch (error) {
        throw new Problem(`${(error as Error).message}\n${USAGE}`);
    }
}

function writePicture(file: string, stack: string, resources: Resource[]): void {
    const svg = pictureOf(resources);
    if (svg === undefined) {
        throw new Problem(
            `--picture: ${file}: the state of stack ${stack} has no picture; accepted: a stack that was updated; npm run pulumi -- up --stack ${stack}`,
        );
    }
    fs.writeFileSync(file, svg);
    console.log(`the memory plan of stack ${stack} is in ${file}`);
}
