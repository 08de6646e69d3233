import { type Sandbox, allDaemons, prepare, withApi } from "./daemons";
import { simulatedNodes } from "./kwok";
import { type Layout, isSandbox, readJson } from "./layout";
import { findNamespace } from "./namespace";
import { type Daemon, findDaemon, logFile } from "./processes";
import { Problem, bold, green, red, row, say } from "./report";
import { complete, curlLine, findServer } from "./summary";

/** Each daemon's health and every address. Says whether all is well. */
export async function status(layout: Layout): Promise<boolean> {
    if (!isSandbox(layout) || readJson(layout.stateFile) === undefined) {
        throw new Problem(`${layout.dir}: no sandbox was started here; npm run sandbox`);
    }
    // Nothing is started, so the binaries do not matter.
    const sandbox = await prepare(layout, () => "");
    const namespace = findNamespace(layout);
    say(bold("Daemons"));
    let well = namespace !== undefined;
    for (const daemon of [...allDaemons(sandbox), sandbox.kwok]) {
        const running = namespace === undefined ? undefined : findDaemon(namespace, daemon.name);
        if (running === undefined && daemon === sandbox.kwok) {
            continue;
        }
        const reason = running === undefined ? "is not running" : await failure(daemon);
        row(daemon.name, reason === undefined ? `${green("ready")}, process ${running?.pid}` : red(`${reason}; ${logFile(layout, daemon.name)}`));
        well &&= reason === undefined;
    }
    printAddresses(layout, sandbox);
    if ((await failure(sandbox.controlPlane.apiServer)) === undefined) {
        await printServer(sandbox, layout);
    }
    if (!well) {
        say();
        say("npm run sandbox starts what is missing");
    }
    return well;
}

async function failure(daemon: Daemon): Promise<string | undefined> {
    return daemon.probe().then(
        () => undefined,
        (error: Error) => error.message,
    );
}

function printAddresses(layout: Layout, { registry, builder, controlPlane, node }: Sandbox): void {
    say(bold("Addresses"));
    row("registry", `https://${registry.address}, user ${registry.username}`);
    row("", `password in ${registry.passwordFile}`);
    row("BuildKit", `${builder.endpoint}, client key ${builder.client.key}`);
    row("Kubernetes", `https://127.0.0.1:${controlPlane.port}`);
    row("", `KUBECONFIG=${layout.kubeconfig}`);
    row("pods", node.network.subnet);
    row("logs", layout.logs);
}

async function printServer(sandbox: Sandbox, layout: Layout): Promise<void> {
    await withApi(sandbox, async (api) => {
        const simulated = await simulatedNodes(api);
        if (simulated.length > 0) {
            row("simulated nodes", simulated.join(", "));
        }
        say(bold("Server"));
        const server = await findServer(api);
        if (server === undefined) {
            row("pod", "none");
            return;
        }
        row("pod", `${server.namespace}/${server.pod} ${server.ready ? green("Ready") : red("not ready")} on ${server.node}`);
        if (server.ready) {
            const { model } = await complete(server, "Hello");
            say(`  ${curlLine(server, model, layout)}`);
        }
    });
}
