import { execFile } from "node:child_process";
import { createHash } from "node:crypto";
import { promisify } from "node:util";
import * as pulumi from "@pulumi/pulumi";
import { type ClusterAccess, clusterAccess, kubeConfig } from "../serving/clusterAccess";
import type { ResolvedGh200Node } from "./gh200NodeArgs";

type Probe = NonNullable<ResolvedGh200Node["probe"]>;

/** ssh to the node, without a prompt; what follows is the command there. A host never begins with a dash (gh200NodeArgs). */
export function sshTo(host: string): [string, ...string[]] {
    return ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", host];
}

/**
 * What an old measurement is void with: another boot, driver, or parameter of the driver, which the coherent mode is. In 12 hex digits;
 * `unasked` where the node or its cluster does not answer, so that the measurement itself says why. A preview asks nobody.
 */
export function nodeState(component: pulumi.Resource, probe: Probe): pulumi.Output<string> {
    if (pulumi.runtime.isDryRun()) {
        return pulumi.output(pulumi.unknown as unknown as string);
    }
    const said =
        probe.method === "ssh"
            ? pulumi.output(overSsh(probe.host ?? ""))
            : clusterAccess(component, pulumi.output({})).apply((cluster) => fromCluster(cluster, probe));
    // Nothing of the kubeconfig is in it.
    return pulumi.unsecret(said).apply((text) => (text === undefined ? "unasked" : createHash("sha256").update(text).digest("hex").slice(0, 12)));
}

const stateFiles = "/proc/sys/kernel/random/boot_id /proc/driver/nvidia/version /proc/driver/nvidia/params";

async function overSsh(host: string): Promise<string | undefined> {
    const [command, ...args] = sshTo(host);
    return promisify(execFile)(command, [...args, `cat ${stateFiles} 2>/dev/null; true`]).then(
        ({ stdout }) => stdout,
        () => undefined,
    );
}

/** What of a Node in the cluster says its boot and driver. */
interface ClusterNode {
    metadata?: { name?: string; labels?: Record<string, string> };
    status?: { nodeInfo?: { bootID?: string } };
}

async function fromCluster(access: ClusterAccess, { nodeName, gpuProduct }: Probe): Promise<string | undefined> {
    try {
        const { CoreV1Api } = await import("@kubernetes/client-node");
        const api = (await kubeConfig(access)).makeApiClient(CoreV1Api);
        const labelSelector = nodeName === undefined ? `nvidia.com/gpu.product=${gpuProduct}` : `kubernetes.io/hostname=${nodeName}`;
        return clusterState((await api.listNode({ labelSelector })).items);
    } catch {
        return undefined;
    }
}

/** Boot and driver of each node, as kubelet and GPU feature discovery say them (`nvidia.com/cuda.driver-version.full`, `nvidia.com/cuda.driver.major`). */
export function clusterState(nodes: readonly ClusterNode[]): string {
    const line = ({ metadata = {}, status }: ClusterNode): string => {
        const driver = Object.entries(metadata.labels ?? {}).filter(([key]) => key.startsWith("nvidia.com/cuda.driver"));
        return [metadata.name, status?.nodeInfo?.bootID, ...driver.map((label) => label.join("=")).sort()].join(" ");
    };
    return nodes.map(line).sort().join("\n");
}
