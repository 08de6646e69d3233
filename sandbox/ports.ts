import * as net from "node:net";
import { type Layout, readJson, writeFile } from "./layout";
import { Problem } from "./report";

export type PortName =
    "registry" | "buildkit" | "etcd" | "kube-apiserver" | "kube-controller-manager" | "kube-scheduler" | "kubelet" | "kubelet-health" | "kwok";

// Below the range that Linux hands out to outgoing connections (net.ipv4.ip_local_port_range starts at 32768), so that a
// port which is free now is still free after a restart. The start depends on the folder, so that two sandboxes rarely meet.
const FIRST = 20000;
const BLOCK = 20;
const BLOCKS = 600;

/** A port stays the same for the sandbox's life: image references contain the registry's. */
export async function portOf(layout: Layout, name: PortName): Promise<number> {
    const ports = readJson<Record<string, number>>(layout.portsFile) ?? {};
    const known = ports[name];
    if (known !== undefined) {
        return known;
    }
    const taken = new Set(Object.values(ports));
    const start = FIRST + (parseInt(layout.id, 16) % BLOCKS) * BLOCK;
    for (let offset = 0; offset < BLOCKS * BLOCK; offset++) {
        const port = FIRST + ((start - FIRST + offset) % (BLOCKS * BLOCK));
        if (!taken.has(port) && (await isFree(port))) {
            writeFile(layout.portsFile, JSON.stringify({ ...ports, [name]: port }, null, 2));
            return port;
        }
    }
    throw new Problem(`${name}: no free TCP port between ${FIRST} and ${FIRST + BLOCKS * BLOCK}`);
}

export function isFree(port: number): Promise<boolean> {
    return new Promise((resolve) => {
        const server = net.createServer();
        server.once("error", () => resolve(false));
        server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
}
