import { Api } from "./api";
import { type Builder, prepareBuilder } from "./buildkit";
import { type ControlPlane, prepareControlPlane } from "./controlPlane";
import { prepareKwok } from "./kwok";
import type { Layout } from "./layout";
import { planNetwork } from "./network";
import { type RealNode, prepareNode } from "./node";
import type { Daemon } from "./processes";
import { type Registry, prepareRegistry } from "./registry";

export type Binary = "registry" | "buildkitd" | "etcd" | "kubernetes" | "containerd" | "containerd-shim-runc-v2" | "ctr" | "kwok";

/** Everything that runs in a sandbox, described but not started. */
export interface Sandbox {
    readonly registry: Registry;
    readonly builder: Builder;
    readonly controlPlane: ControlPlane;
    readonly node: RealNode;
    readonly kwok: Daemon;
}

/** One after the other, because each may take a port or issue a certificate. What exists already is left as it is. */
export async function prepare(layout: Layout, binary: (name: Binary) => string): Promise<Sandbox> {
    const registry = await prepareRegistry(layout, binary("registry"));
    const builder = await prepareBuilder(layout, binary("buildkitd"), registry);
    const network = await planNetwork(layout);
    const controlPlane = await prepareControlPlane(layout, { etcd: binary("etcd"), kubernetes: binary("kubernetes") }, network.address);
    const node = await prepareNode(
        layout,
        { containerd: binary("containerd"), shim: binary("containerd-shim-runc-v2"), kubernetes: binary("kubernetes") },
        registry,
        controlPlane.port,
        network,
    );
    const kwok = await prepareKwok(layout, binary("kwok"), controlPlane.port);
    return { registry, builder, controlPlane, node, kwok };
}

export const allDaemons = (sandbox: Sandbox): Daemon[] => [
    sandbox.registry.daemon,
    sandbox.builder.daemon,
    sandbox.controlPlane.etcd,
    sandbox.controlPlane.apiServer,
    ...sandbox.controlPlane.controllers,
    sandbox.node.containerd,
    sandbox.node.kubelet,
];

export async function withApi<T>(sandbox: Sandbox, work: (api: Api) => Promise<T>): Promise<T> {
    const api = new Api(sandbox.controlPlane.port, sandbox.controlPlane.admin);
    try {
        return await work(api);
    } finally {
        api.close();
    }
}
