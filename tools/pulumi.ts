import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { problemLine } from "../components/internal/errors";
import { unreadableStates } from "./checkpoint";
import { main, terminalReport } from "./report";
import { stackOf, withConfigFile } from "./stack";
import { clearStaleLocks } from "./staleLock";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory, sandboxState } from "./toolchain";

const SANDBOX_STACK = "sandbox";

/** Someone who told Pulumi where their state is does not want the sandbox's. */
function hasOwnBackend(environment: NodeJS.ProcessEnv): boolean {
    return [environment.PULUMI_BACKEND_URL, environment.PULUMI_ACCESS_TOKEN].some((value) => value !== undefined && value !== "");
}

/** `npm run pulumi -- ARGS`: the CLI that was found or built, with plug-ins and state settings in place. */
main(async () => {
    const report = terminalReport(process.stderr);
    await ensureTools(pulumiTools, report);
    const args = process.argv.slice(2);
    const asked = stackOf(args, process.env);
    const state = sandboxState(sandboxDirectory());
    const hasSandbox = fs.existsSync(state.stackConfig);
    const inSandbox = hasSandbox && (asked === SANDBOX_STACK || (asked === undefined && !hasOwnBackend(process.env)));
    const environment = await pulumiEnvironment(inSandbox ? sandboxDirectory() : undefined);
    if (inSandbox) {
        environment.PULUMI_STACK = SANDBOX_STACK;
    }
    for (const lock of clearStaleLocks(environment.PULUMI_BACKEND_URL)) {
        report(`removed the state lock of process ${lock.pid}, which no longer runs`);
    }
    for (const problem of unreadableStates(environment.PULUMI_BACKEND_URL)) {
        report(problemLine(problem));
    }
    const pulumi = findTool("pulumi");
    return run(pulumi?.path ?? "pulumi", inSandbox ? withConfigFile(args, state.stackConfig) : args, environment);
});

/** Pulumi ends an update by itself when it is interrupted; this process only waits for it and passes its answer on. */
function run(command: string, args: string[], environment: NodeJS.ProcessEnv): Promise<number> {
    return new Promise((resolve, reject) => {
        const child = spawn(command, args, { cwd: path.resolve(__dirname, ".."), env: environment, stdio: "inherit" });
        process.on("SIGINT", () => undefined);
        process.on("SIGTERM", () => void child.kill("SIGTERM"));
        child.on("error", reject);
        child.on("close", (code, signal) => resolve(code ?? (signal === "SIGKILL" ? 137 : 1)));
    });
}
