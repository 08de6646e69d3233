import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { ledgerOf } from "../approval/ledger";
import { probeBuilder, unreachableProblem } from "../components/builder/probe";
import { remoteBuilderSchema } from "../components/builder/remoteBuilder";
import { RegistryError, tagDigest } from "../components/image/registryClient";
import { type Problem, problemLine } from "../components/internal/errors";
import { Engine, firstError } from "../tools/engine";
import { main, Problem as Refusal } from "../tools/report";
import { builderDrift, resourceDrift, tagDrift } from "./drift";

const USAGE = "usage: npm run drift -- -s STACK [--config-file FILE]";

/**
 * `npm run drift`: what was changed by hand since the last update: resources (by `pulumi refresh --preview-only`, which
 * saves nothing), the release tag, the builder. Exits with 1 where something was, so that a schedule tells.
 */
main(async () => {
    const { stack, configFile } = parse(process.argv.slice(2));
    const engine = await Engine.of(stack, configFile);
    if (engine.certificates !== process.env.NODE_EXTRA_CA_CERTS) {
        // Node.js reads its authorities once, when it starts.
        const env = { ...process.env, NODE_EXTRA_CA_CERTS: engine.certificates };
        return spawnSync(process.execPath, [...process.execArgv, ...process.argv.slice(1)], { stdio: "inherit", env }).status ?? 1;
    }
    const ledger = ledgerOf(await engine.resources());
    const config = await engine.config();
    const refresh = await engine.events("refresh", "--preview-only");
    if (refresh.status !== 0) {
        throw new Refusal(`stack ${stack}: cannot be compared: ${firstError(refresh.output)}`);
    }
    const problems: Problem[] = resourceDrift(refresh.events);
    const section = (name: string) => JSON.parse(config[`gh200-vllm:${name}`] ?? "{}") as Record<string, unknown>;
    if (ledger.releaseRef !== undefined && ledger.deployRef !== undefined && ledger.releaseRef !== ledger.deployRef) {
        const { username } = section("registry");
        const credentials = typeof username === "string" ? { username, password: config["gh200-vllm:registryPassword"] ?? "" } : undefined;
        problems.push(...tagDrift(ledger.releaseRef, ledger.deployRef, await namedDigest(ledger.releaseRef, credentials)));
    }
    const builder = { ...remoteBuilderSchema.parse(section("builder")), clientKey: config["gh200-vllm:builderClientKey"] ?? "" };
    if (builder.endpoint !== "") {
        const found = await probeBuilder(builder).catch((error: unknown) => void problems.push(unreachableProblem(builder, error)));
        problems.push(...(found ? builderDrift(builder.endpoint, ledger.deployed?.builder, found.id) : []));
    }
    console.log(problems.length === 0 ? `stack ${stack}: nothing was changed by hand` : problems.map(problemLine).join("\n"));
    return problems.length === 0 ? 0 : 1;
});

async function namedDigest(...tag: Parameters<typeof tagDigest>): Promise<string | undefined> {
    try {
        return await tagDigest(...tag);
    } catch (error) {
        if (error instanceof RegistryError && error.status === 404) {
            return undefined;
        }
        throw error;
    }
}

function parse(args: string[]): { stack: string; configFile: string | undefined } {
    try {
        const { values } = parseArgs({ args, options: { stack: { type: "string", short: "s" }, "config-file": { type: "string" } } });
        if (values.stack !== undefined) {
            return { stack: values.stack, configFile: values["config-file"] };
        }
    } catch (error) {
        throw new Refusal(`${(error as Error).message}\n${USAGE}`);
    }
    throw new Refusal(USAGE);
}
