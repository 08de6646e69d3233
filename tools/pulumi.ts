import { spawn } from "node:child_process";
import * as fs from "node:fs";
import * as os from "node:os";
import * as path from "node:path";
import { problemLine } from "../components/internal/errors";
import { unreadableStates } from "./checkpoint";
import { main, terminalReport } from "./report";
import { configFileOf, isPreview, stackOf, withConfigFile } from "./stack";
import { clearStaleLocks } from "./staleLock";
import { temporaryStack } from "./temporaryStack";
import { ensureTools, findTool, pulumiEnvironment, pulumiTools, sandboxDirectory, sandboxState } from "./toolchain";

const CHECKOUT = path.resolve(__dirname, "..");
const SANDBOX_STACK = "sandbox";

/** Someone who told Pulumi where their state is does not want the sandbox's. */
function hasOwnBackend(environment: NodeJS.ProcessEnv): boolean {
    return [environment.PULUMI_BACKEND_URL, environment.PULUMI_ACCESS_TOKEN].some((value) => value !== undefined && value !== "");
}

/** Whether someone has logged in, by `pulumi login` (pulumi/pulumi, sdk/go/common/workspace/creds.go). */
function isLoggedIn({ PULUMI_HOME = path.join(os.homedir(), ".pulumi") }: NodeJS.ProcessEnv): boolean {
    const file = path.join(PULUMI_HOME, "credentials.json");
    return fs.existsSync(file) && Boolean((JSON.parse(fs.readFileSync(file, "utf8")) as { current?: string }).current);
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
    if (inSandbox) {
        return run(withConfigFile(args, state.stackConfig), environment);
    }
    if (asked !== undefined && isPreview(args) && configFileOf(args) === undefined && !hasOwnBackend(process.env) && !isLoggedIn(environment)) {
        report(
            `stack ${asked}: nobody is logged in, so it is previewed without its state and secrets, as a new stack; npm run pulumi -- login, or PULUMI_BACKEND_URL`,
        );
        return previewWithoutState(args, asked, environment);
    }
    return run(args, environment);
});

/** What an update of a new stack would do. A temporary backend holds it, and the checkout stays as it is. */
async function previewWithoutState(args: string[], stack: string, environment: NodeJS.ProcessEnv): Promise<number> {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), "gh200-preview-"));
    try {
        const temporary = await temporaryStack(stack, path.join(CHECKOUT, `Pulumi.${stack}.yaml`), folder);
        return await run(withConfigFile(args, temporary.configFile), { ...environment, ...temporary.environment });
    } finally {
        fs.rmSync(folder, { recursive: true, force: true });
    }
}

/** Pulumi ends an update by itself when it is interrupted; this process only waits for it and passes its answer on. */
function run(args: string[], environment: NodeJS.ProcessEnv): Promise<number> {
    return new Promise((resolve, reject) => {
        const child = spawn(findTool("pulumi")?.path ?? "pulumi", args, { cwd: CHECKOUT, env: environment, stdio: "inherit" });
        process.on("SIGINT", () => undefined);
        process.on("SIGTERM", () => void child.kill("SIGTERM"));
        child.on("error", reject);
        child.on("close", (code, signal) => resolve(code ?? (signal === "SIGKILL" ? 137 : 1)));
    });
}
