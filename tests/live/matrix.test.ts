import * as fs from "node:fs";
import * as path from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { clearStaleLocks } from "../../tools/staleLock";
import { sandboxState } from "../../tools/toolchain";
import { type Cell, matrix, type Operation, operations, type State, states } from "../../docs/operations";
import { type Answer, killTree } from "./programCopy";
import { LiveServers, ok, type Servers } from "./servers";

/*
 * Every operation in every state, as docs/operations.ts says it: one server with its models, beside another stack's in the same
 * namespace. Its pod becomes ready where the cell ends serving, and never where it does not.
 */
const MINUTE = 60_000;
const namespace = "matrix";
const bystander = { b: { namespace } };

let live: LiveServers;
let stack = "matrix";
let backend: string;
/** What the stack's file declares of the server; another number is another pod. */
let sequences = 1;
let state: State = "fresh";
let modelsUid: string | undefined;
let bystandersUid: string;

beforeAll(async () => {
    live = await LiveServers.start();
    backend = sandboxState(live.sandbox.folder).backend;
    await live.init("bystander");
    ok(await live.serving(live.up("bystander", bystander), namespace));
    bystandersUid = live.deployment(namespace, "b").metadata.uid;
    await live.init(stack);
}, 15 * MINUTE);
afterAll(() => live?.end(), 10 * MINUTE);

const declared = (): Servers => ({ a: { namespace, createNamespace: false, modelCacheGiB: 1, maxNumSeqs: sequences } });
const up = (...args: string[]) => live.up(stack, declared(), ...args);
const served = <T>(work: Promise<T>) => live.serving(work, namespace);
const urn = (type: string) => `urn:pulumi:${stack}::gh200-vllm::gh200-vllm:index:VllmServer${type}::a`;

/** The server's Deployment; undefined where there is none. */
function found(): ReturnType<LiveServers["deployment"]> | undefined {
    const names = live.kubectl("get", "deployments", `--namespace=${namespace}`, "--output=name").trim().split("\n");
    return names.includes("deployment.apps/a") ? live.deployment(namespace, "a") : undefined;
}

/** What the cluster shows, in the table's words. */
function seen(): State {
    const deployment = found();
    return deployment === undefined ? "fresh" : deployment.status.readyReplicas === 1 ? "serving" : "failed";
}

/** Brings the stack into a state, from whichever it is in. */
async function reach(wanted: State): Promise<void> {
    if (state !== wanted) {
        ok(wanted === "fresh" ? await commands.destroy() : await served(up("--refresh")));
        state = wanted;
        await vi.waitFor(() => expect(seen()).toBe(wanted), { timeout: MINUTE });
    }
}

/** An update of a changed server that ends in its middle, while the new pod is waited for. */
async function interrupted(end: (pid: number) => void): Promise<Answer> {
    sequences += 1;
    live.configure(stack, declared());
    const run = live.startUp(stack);
    await vi.waitFor(() => expect(run.seen()).toMatch(/Deployment a (creating|updating)/), { timeout: MINUTE, interval: 200 });
    await new Promise((done) => setTimeout(done, 2000));
    end(run.pid);
    const answer = await run.ended;
    expect(answer.status).not.toBe(0);
    clearStaleLocks(live.shell.PULUMI_BACKEND_URL ?? backend);
    return served(up());
}

const commands: Record<Operation, () => Promise<Answer>> = {
    up: () => up(),
    "up again": async () => {
        await up();
        return up();
    },
    refresh: () => live.pulumi("refresh", "--yes", "--skip-preview", "--stack", stack),
    "up --refresh": () => up("--refresh"),
    "up --target": () => up("--target", urn(""), "--target-dependents"),
    "up --replace": () => up("--replace", urn("$kubernetes:apps/v1:Deployment")),
    "cancelled up": () => interrupted((pid) => process.kill(pid, "SIGINT")),
    "killed up": () => interrupted(killTree),
    import: async () => {
        const name = `kept-${state.replaceAll(" ", "-")}`;
        live.kubectl("create", "configmap", name, `--namespace=${namespace}`);
        live.shell.KUBECONFIG = path.join(live.sandbox.folder, "kubeconfig");
        const answer = await live.pulumi(
            "import",
            "kubernetes:core/v1:ConfigMap",
            name,
            `${namespace}/${name}`,
            "--yes",
            "--skip-preview",
            "--generate-code=false",
            "--stack",
            stack,
        );
        delete live.shell.KUBECONFIG;
        // It is no part of the program: an update would take it away, and is refused.
        expect((await live.pulumi("preview", "--stack", stack)).output).toMatch(/protect/);
        ok(
            await live.pulumi(
                "state",
                "delete",
                `urn:pulumi:${stack}::gh200-vllm::kubernetes:core/v1:ConfigMap::${name}`,
                "--force",
                "--yes",
                "--stack",
                stack,
            ),
        );
        live.kubectl("get", "configmap", name, `--namespace=${namespace}`);
        return answer;
    },
    rename: async () => {
        const other = stack === "matrix" ? "renamed" : "matrix";
        const answer = ok(await live.pulumi("stack", "rename", other, "--stack", stack));
        stack = other;
        const next = await served(up());
        // Models that an earlier destroy kept are the old name's until somebody says otherwise, by the command that the refusal names.
        const command = /kubectl (-n \S+ annotate \S+ a-models \S+-)$/m.exec(next.output)?.[1];
        expect([next.status === 0, command !== undefined], next.output.slice(-3000)).toContainEqual(true);
        if (command !== undefined) {
            live.kubectl(...command.split(" "));
        }
        const last = command === undefined ? next : ok(await served(up()));
        expect(last.output).not.toMatch(/replac/);
        return answer;
    },
    "passphrase change": async () => {
        const passphrase = `after ${state}`;
        const answer = ok(await live.answering(passphrase, "stack", "change-secrets-provider", "passphrase", "--stack", stack));
        live.shell.PULUMI_CONFIG_PASSPHRASE = passphrase;
        return answer;
    },
    "backend move": async () => {
        const file = path.join(live.machine.home, `${state}.json`);
        ok(await live.pulumi("stack", "export", "--file", file, "--stack", stack));
        const folder = fs.mkdtempSync(path.join(live.machine.home, "backend-"));
        live.shell.PULUMI_BACKEND_URL = pathToFileURL(folder).href;
        await live.init(stack);
        return live.pulumi("stack", "import", "--file", file, "--stack", stack);
    },
    "a second server goes": async () => {
        const both = { ...declared(), c: { namespace, createNamespace: false } };
        await live.up(stack, both);
        return up();
    },
    destroy: () => live.pulumi("destroy", "--yes", "--skip-preview", "--stack", stack),
};

/** In their middle no pod is ready; they see to it themselves afterwards. */
const interruptions: Operation[] = ["cancelled up", "killed up"];

/** What no operation may lose, in no state. */
async function nothingIsLost(): Promise<void> {
    const { metadata, status } = live.deployment(namespace, "b");
    expect([metadata.uid, status.readyReplicas], "the other stack's server").toEqual([bystandersUid, 1]);
    ok(await live.pulumi("stack", "export", "--show-secrets", "--stack", stack));
    const claims = live
        .kubectl("get", "pvc", `--namespace=${namespace}`, "--output=jsonpath={range .items[*]}{.metadata.uid}{.metadata.deletionTimestamp}{end}")
        .trim();
    modelsUid ??= claims || undefined;
    expect(claims, "the models' claim").toBe(modelsUid ?? "");
}

describe.each(states)("%s", (from) => {
    test.each(operations)(
        `%s`,
        async (operation) => {
            await reach(from);
            const cell: Cell = matrix[operation][from];
            const ready = cell.leaves === "serving" && !interruptions.includes(operation);
            const answer = await (ready ? served(commands[operation]()) : commands[operation]());
            state = seen();
            expect([answer.status === 0, state], answer.output.slice(-3000)).toEqual([cell.green, cell.leaves]);
            await nothingIsLost();
        },
        5 * MINUTE,
    );
});
