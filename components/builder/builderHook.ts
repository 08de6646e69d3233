import * as pulumi from "@pulumi/pulumi";
import { collectedProblems } from "../image/collected";
import { refuse } from "../internal/errors";
import { hookName } from "../internal/hookName";
import { inContext } from "../internal/inContext";
import { writeBuilder } from "./buildxStore";
import { type BuilderArgs, type BuilderConnection, resolvedConnection } from "./connection";
import { buildLog, listBuilds, withControl } from "./control";
import { failureReport, type Inputs, writeReport } from "./failureReport";
import { busyProblem, holderLine } from "./holder";
import { builderProblems, probeBuilder, unreachableProblem } from "./probe";

/**
 * A hook that makes the builder usable just before an image is built: it writes the builder into this
 * machine's buildx store and refuses a dead, foreign, old, emulating or untrusted daemon in one line.
 * So is an image that the build takes files from and its registry no longer has. It does not run in a preview, nor for an image that does not change.
 *
 * @param component whose image it is, and the image's name: the engine refuses two hooks of one name.
 * @param announcement is said when the builder is ready and the build starts.
 */
export function builderHook(component: pulumi.Resource, image: string, builder: BuilderArgs, announcement?: string): pulumi.ResourceHook {
    const connection = resolvedConnection(builder);
    return new pulumi.ResourceHook(
        hookName(component, `${image}:builder`),
        inContext(async ({ newInputs = {} }) => {
            // An image that was first built under another name of the builder keeps it, and that is the one the provider looks up.
            const { name = (await connection).name } = (newInputs as { builder?: { name?: string } }).builder ?? {};
            const resolved = { ...(await connection), name };
            if (resolved.endpoint === "") {
                refuse([{ path: "builder.endpoint", wrong: "is missing", accepted: "tcp://HOST:PORT of a BuildKit daemon" }]);
            }
            writeBuilder(resolved);
            const facts = await probeBuilder(resolved).catch((error: unknown) => {
                refuse([unreachableProblem(resolved, error)]);
                throw error;
            });
            refuse([...builderProblems(resolved, facts), ...(await collectedProblems(newInputs))]);
            builders.set(resolved.endpoint, facts.id);
            const active = await withControl(resolved, (client) => listBuilds(client, true));
            if (active.length > 0) {
                refuse(resolved.refuseWhenBusy ? [busyProblem(resolved.endpoint, active, new Date())] : []);
                await pulumi.log.info(holderLine(resolved.endpoint, active, new Date()));
            }
            if (announcement !== undefined) {
                await pulumi.log.info(announcement);
            }
        }),
    );
}

const builders = new Map<string, string>();

/** Worker of the builder that this run built on; undefined where it has built nothing there. */
export function usedBuilder(endpoint: string): string | undefined {
    return builders.get(endpoint);
}

/**
 * A hook for a build that failed: it writes the report (stage, end of the log, what changed, how to go on) to a file,
 * shows it, and answers that nothing is retried. One serves every image of a builder.
 */
export function failureHook(component: pulumi.Resource, image: string, builder: BuilderArgs): pulumi.ErrorHook {
    const known = failureHooks.get(builder);
    if (known !== undefined) {
        return known;
    }
    const connection = resolvedConnection(builder);
    const hook = new pulumi.ErrorHook(
        hookName(component, `${image}:failure`),
        inContext(async ({ name, errors, newInputs = {}, oldInputs }) => {
            const resolved = await connection;
            const target = String((newInputs as { target?: string }).target ?? "");
            const { ref, log } = await failedBuild(resolved, target);
            const failure = {
                ...{ stack: `${pulumi.getProject()}/${pulumi.getStack()}`, resource: name, target, endpoint: resolved.endpoint, time: new Date() },
                ...{ ref, log, errors, oldInputs: oldInputs as Inputs | undefined, newInputs: newInputs as Inputs },
            };
            await pulumi.log.error(`${failureReport(failure)}\nThis report: ${writeReport(failure)}`);
            return false;
        }),
    );
    failureHooks.set(builder, hook);
    return hook;
}

const failureHooks = new WeakMap<BuilderArgs, pulumi.ErrorHook>();

/** The latest build of the target that failed, and what it printed. A builder that is gone has nothing to say. */
async function failedBuild(connection: BuilderConnection, target: string): Promise<{ ref: string | undefined; log: string[] }> {
    try {
        return await withControl(connection, async (client) => {
            const failed = (await listBuilds(client, false)).filter((build) => build.error !== "" && build.target === target).at(-1);
            return { ref: failed?.ref, log: failed === undefined ? [] : await buildLog(client, failed.ref) };
        });
    } catch {
        return { ref: undefined, log: [] };
    }
}
