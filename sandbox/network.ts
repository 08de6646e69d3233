import * as fs from "node:fs";
import * as path from "node:path";
import { type Layout, readJson, writeFile } from "./layout";
import { run } from "./processes";
import { Problem } from "./report";

/**
 * The node's address and its pods' subnet. The address is one more of the loopback interface: the kubelet refuses
 * 127.0.0.1, and any other of the host's addresses is seen from outside and changes with the network one is in.
 */
export interface NodeNetwork {
    readonly address: string;
    readonly subnet: string;
}

// A corner of 10/8 that container tools' defaults leave alone (Docker 172.17/16, kind 10.244/16, k3s 10.42/16, libvirt 192.168.122/24).
const PREFIX = "10.231";

const label = (layout: Layout): string => `lo:gh${layout.id}`;

/** Chosen once, so that the kubelet's certificate and the node object stay true. */
export async function planNetwork(layout: Layout): Promise<NodeNetwork> {
    const record = path.join(layout.node, "network.json");
    const known = readJson<NodeNetwork>(record);
    if (known !== undefined) {
        return known;
    }
    const inUse = `${await addresses()}\n${await run("ip", ["-4", "route"])}`;
    const used = new Set([...inUse.matchAll(/\b10\.231\.(\d+)\./g)].map((match) => Number(match[1])));
    const first = parseInt(layout.id.slice(0, 2), 16);
    const third = Array.from({ length: 256 }, (_, offset) => (first + offset) % 256).find((candidate) => !used.has(candidate));
    if (third === undefined) {
        throw new Problem(`the sandbox's node: every subnet of ${PREFIX}.0.0/16 is in use on this machine`);
    }
    const network = { address: `${PREFIX}.${third}.1`, subnet: `${PREFIX}.${third}.0/24` };
    writeFile(record, JSON.stringify(network, null, 2));
    return network;
}

export async function ensureAddress(layout: Layout, network: NodeNetwork): Promise<void> {
    if (!(await addresses()).includes(` ${network.address}/32 `)) {
        await run("ip", ["address", "add", `${network.address}/32`, "dev", "lo", "label", label(layout)]);
    }
}

const addresses = (): Promise<string> => run("ip", ["-4", "-oneline", "address"]);

/** Found by its label, so that nothing but the folder's path is needed to remove it. */
export async function removeNetwork(layout: Layout): Promise<void> {
    for (const line of (await run("ip", ["-4", "-oneline", "address", "show", "dev", "lo"])).split("\n")) {
        const match = / inet (\S+) .* (lo:\S+)\\/.exec(line);
        if (match?.[2] === label(layout)) {
            await run("ip", ["address", "delete", match[1] as string, "dev", "lo"]);
        }
    }
}

/** Every pod is a point-to-point link to the host: reached from here by its address, and reaching nothing but this host. */
export function writeCniConfig(dir: string, network: NodeNetwork): void {
    const host = network.subnet.replace(/0\/24$/, "");
    writeFile(
        path.join(dir, "10-sandbox.conflist"),
        JSON.stringify(
            {
                cniVersion: "1.0.0",
                name: "gh200-sandbox",
                plugins: [
                    {
                        type: "ptp",
                        ipMasq: false,
                        ipam: {
                            type: "host-local",
                            ranges: [[{ subnet: network.subnet, rangeStart: `${host}10`, rangeEnd: `${host}250`, gateway: network.address }]],
                            routes: [{ dst: "0.0.0.0/0" }],
                        },
                    },
                ],
            },
            null,
            2,
        ),
    );
}

export function cniFolder(): string {
    const found = ["/usr/lib/cni", "/opt/cni/bin"].find((dir) => fs.existsSync(path.join(dir, "ptp")));
    if (found === undefined) {
        throw new Problem("CNI plug-ins ptp, host-local, loopback: not in /usr/lib/cni or /opt/cni/bin; apt-get install containernetworking-plugins");
    }
    return found;
}
