import { ensureEmulation } from "./binfmt";
import { ensureCgroup, removeCgroup } from "./cgroup";
import { type Binary, type Sandbox, allDaemons, prepare, withApi } from "./daemons";
import { allowKwok, setSimulatedNodes, simulatedNodes } from "./kwok";
import { type Layout, createFolders, writeFile } from "./layout";
import { ensureNamespace, findNamespace } from "./namespace";
import { ensureAddress } from "./network";
import { NODE, applyClusterObjects, ensurePauseImage, waitForNode } from "./node";
import { type Daemon, type Outcome, ensureDaemon, findDaemon, stopDaemon } from "./processes";
import type { Registry } from "./registry";
import { row, seconds } from "./report";

export interface StartOptions {
    readonly binary: (name: Binary) => string;
    /** Puts the base image into the registry, while the control plane starts; gives its reference by digest. */
    readonly pushBase: (registry: Registry) => Promise<string>;
    /** Undefined leaves the simulated nodes as they are. */
    readonly simulatedNodes?: number;
}

/** Brings every daemon to the state «runs and answers». What runs already is left alone, so that this is also the repair. */
export async function start(layout: Layout, options: StartOptions): Promise<Sandbox & { base: string }> {
    createFolders(layout);
    if (findNamespace(layout) === undefined) {
        // What an earlier namespace left when it was killed: the kubelet would wait three seconds for each dead container.
        await removeCgroup(layout);
    }
    const namespace = await ensureNamespace(layout);
    const emulation = ensureEmulation(layout, namespace);
    ensureCgroup(layout);
    const sandbox = await prepare(layout, options.binary);
    await ensureAddress(layout, sandbox.node.network);

    const ensure = async (daemon: Daemon, detail = ""): Promise<Outcome> => {
        const began = Date.now();
        const outcome = await ensureDaemon(layout, daemon);
        row(daemon.name, `${outcome === "running" ? "running already" : `${outcome} in ${seconds(began)}`}${detail === "" ? "" : `, ${detail}`}`);
        return outcome;
    };
    const { registry, builder, controlPlane, node } = sandbox;
    let base = "";
    const images = async (): Promise<void> => {
        await ensure(registry.daemon, registry.address);
        await ensure(builder.daemon, emulation === "native" ? "linux/arm64" : "linux/arm64 emulated by qemu");
        base = await options.pushBase(registry);
    };
    const cluster = async (): Promise<void> => {
        await ensure(controlPlane.etcd);
        await ensure(controlPlane.apiServer, `127.0.0.1:${controlPlane.port}`);
        await Promise.all([withApi(sandbox, applyClusterObjects), ...controlPlane.controllers.map((daemon) => ensure(daemon))]);
    };
    const runtime = async (): Promise<void> => {
        await ensure(node.containerd);
        await ensurePauseImage(layout, options.binary("ctr"));
    };
    await all([images(), cluster(), runtime()]);
    const began = Date.now();
    const kubelet = await ensure(node.kubelet);
    await withApi(sandbox, async (api) => {
        await waitForNode(api, kubelet === "running" ? 0 : began);
        row(`node ${NODE}`, `Ready in ${seconds(began)}: linux/arm64, nvidia.com/gpu 1`);
        const simulated = options.simulatedNodes ?? (await simulatedNodes(api)).length;
        if (simulated > 0) {
            await allowKwok(api);
            await ensure(sandbox.kwok);
        }
        await setSimulatedNodes(api, simulated);
        if (simulated > 0) {
            row("simulated nodes", String(simulated));
        } else {
            await stopDaemon(layout, sandbox.kwok.name);
        }
    });
    writeState(layout, sandbox, base);
    return { ...sandbox, base };
}

/** Like Promise.all, but the others have come to rest too before the first failure is passed on. */
async function all(work: Promise<void>[]): Promise<void> {
    for (const result of await Promise.allSettled(work)) {
        if (result.status === "rejected") {
            throw result.reason;
        }
    }
}

/** For other programs: where everything is. The truth about what runs is the process list. */
function writeState(layout: Layout, sandbox: Sandbox, base: string): void {
    const namespace = findNamespace(layout);
    const { registry, builder, node } = sandbox;
    const processes =
        namespace === undefined
            ? []
            : [...allDaemons(sandbox), sandbox.kwok].flatMap((daemon) => {
                  const running = findDaemon(namespace, daemon.name);
                  return running === undefined ? [] : [[daemon.name, running] as const];
              });
    writeFile(
        layout.stateFile,
        `${JSON.stringify(
            {
                id: layout.id,
                registry: { address: registry.address, username: registry.username, passwordFile: registry.passwordFile, caFile: registry.caFile },
                builder: {
                    endpoint: builder.endpoint,
                    serverName: builder.serverName,
                    caFile: builder.client.ca,
                    certFile: builder.client.cert,
                    keyFile: builder.client.key,
                },
                kubernetes: { kubeconfigFile: layout.kubeconfig },
                base: { image: base },
                node: { name: NODE, address: node.network.address, podSubnet: node.network.subnet },
                namespace: { pid: namespace?.pid },
                processes: Object.fromEntries(processes),
            },
            null,
            2,
        )}\n`,
    );
}
