import * as fs from "node:fs";
import * as http from "node:http";
import * as path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { type Api } from "./api";
import { cgroupOf } from "./cgroup";
import { kubeconfig } from "./controlPlane";
import { grpcHealth, httpHealth } from "./health";
import { type Layout, writeFile } from "./layout";
import { findNamespace } from "./namespace";
import { type NodeNetwork, cniFolder, writeCniConfig } from "./network";
import { PAUSE_IMAGE, pauseArchive } from "./pause";
import { caFile, ensureCertificate } from "./pki";
import { portOf } from "./ports";
import { DAEMON_PATH, type Daemon, runInside } from "./processes";
import type { Registry } from "./registry";
import { Problem } from "./report";

export const NODE = "gh200-sandbox";
const CONTAINERD = "/run/containerd/containerd.sock";

/** What GPU feature discovery and the usual practice put on a GH200 node (GPU product name: NIM's support matrix; 97871 MiB: nvidia-smi). */
export const GPU_LABELS: Record<string, string> = {
    "nvidia.com/gpu.present": "true",
    "nvidia.com/gpu.count": "1",
    "nvidia.com/gpu.family": "hopper",
    "nvidia.com/gpu.product": "NVIDIA-GH200-480GB",
    "nvidia.com/gpu.memory": "97871",
    "nvidia.com/gpu.compute.major": "9",
    "nvidia.com/gpu.compute.minor": "0",
};
export const GPU_TAINT = { key: "nvidia.com/gpu", value: "present", effect: "NoSchedule" };

export interface RealNode {
    readonly network: NodeNetwork;
    readonly containerd: Daemon;
    readonly kubelet: Daemon;
}

export async function prepareNode(
    layout: Layout,
    binaries: { containerd: string; shim: string; kubernetes: string },
    registry: Registry,
    apiServerPort: number,
    network: NodeNetwork,
): Promise<RealNode> {
    const cni = path.join(layout.node, "cni");
    writeCniConfig(cni, network);
    return {
        network,
        containerd: containerd(layout, binaries, registry, cni),
        kubelet: await kubelet(layout, binaries.kubernetes, network, apiServerPort),
    };
}

function containerd(layout: Layout, binaries: { containerd: string; shim: string }, registry: Registry, cni: string): Daemon {
    const quote = JSON.stringify;
    const hosts = path.join(layout.node, "hosts");
    const hostFile = path.join(hosts, registry.address, "hosts.toml");
    writeFile(hostFile, `server = ${quote(`https://${registry.address}`)}\nca = ${quote(registry.caFile)}\n`);
    const config = path.join(layout.node, "containerd.toml");
    writeFile(
        config,
        `version = 3
root = ${quote(path.join(layout.node, "containerd"))}
# The host's own containerd configuration and plug-ins are not this one's.
imports = []
disabled_plugins = ["io.containerd.nri.v1.nri", "io.containerd.internal.v1.opt", "io.containerd.image-verifier.v1.bindir"]

[grpc]
  address = ${quote(CONTAINERD)}

[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = ${quote(PAUSE_IMAGE)}
[plugins."io.containerd.cri.v1.images".registry]
  config_path = ${quote(hosts)}
# Pods of the runtime class nvidia get arm64 images whatever this machine is: the kernel runs them through qemu.
[plugins."io.containerd.cri.v1.images".runtime_platforms.nvidia]
  platform = "linux/arm64"

[plugins."io.containerd.cri.v1.runtime"]
  # Lowering oom_score_adj needs CAP_SYS_RESOURCE; without it runc ends with «can't get final child's PID from pipe».
  restrict_oom_score_adj = ${!hasCapSysResource()}
  # A profile would be loaded into the host's kernel and stay there.
  disable_apparmor = true
[plugins."io.containerd.cri.v1.runtime".cni]
  bin_dirs = [${quote(cniFolder())}]
  conf_dir = ${quote(cni)}
  use_internal_loopback = true
[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "runc"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.nvidia]
  runtime_type = "io.containerd.runc.v2"
`,
    );
    return {
        name: "containerd",
        command: [binaries.containerd, "--config", config],
        // It looks the shim up there.
        env: { PATH: `${path.dirname(binaries.shim)}:${DAEMON_PATH}` },
        files: [config],
        probe: () => grpcHealth({ socketPath: `${findNamespace(layout)?.root ?? ""}${CONTAINERD}` }),
        timeoutSeconds: 30,
    };
}

async function kubelet(layout: Layout, binary: string, network: NodeNetwork, apiServerPort: number): Promise<Daemon> {
    const [port, healthPort] = [await portOf(layout, "kubelet"), await portOf(layout, "kubelet-health")];
    const ca = caFile(layout, "kubernetes");
    const client = await ensureCertificate(layout, {
        authority: "kubernetes",
        name: "kubelet-client",
        usage: "client",
        commonName: `system:node:${NODE}`,
        organization: "system:nodes",
    });
    const server = await ensureCertificate(layout, {
        authority: "kubernetes",
        name: "kubelet",
        usage: "server",
        commonName: NODE,
        names: [`IP:${network.address}`],
    });
    const [config, access] = [path.join(layout.node, "kubelet.json"), path.join(layout.node, "kubelet.kubeconfig")];
    writeFile(access, kubeconfig(apiServerPort, client));
    writeFile(
        config,
        JSON.stringify(
            {
                apiVersion: "kubelet.config.k8s.io/v1beta1",
                kind: "KubeletConfiguration",
                address: network.address,
                port,
                readOnlyPort: 0,
                healthzBindAddress: "127.0.0.1",
                healthzPort: healthPort,
                tlsCertFile: server.cert,
                tlsPrivateKeyFile: server.key,
                authentication: { anonymous: { enabled: false }, webhook: { enabled: true }, x509: { clientCAFile: ca } },
                authorization: { mode: "Webhook" },
                containerRuntimeEndpoint: `unix://${CONTAINERD}`,
                cgroupDriver: "cgroupfs",
                cgroupRoot: `/${cgroupOf(layout)}`,
                failCgroupV1: false,
                enforceNodeAllocatable: ["pods"],
                failSwapOn: false,
                oomScoreAdj: 0,
                makeIPTablesUtilChains: false,
                // How full the workstation's disk is says nothing about the sandbox.
                evictionHard: { "memory.available": "100Mi" },
                imageGCHighThresholdPercent: 100,
                volumePluginDir: path.join(layout.node, "volume-plugins"),
                registerWithTaints: [GPU_TAINT],
            },
            null,
            2,
        ),
    );
    return {
        name: "kubelet",
        command: [
            binary,
            "kubelet",
            `--config=${config}`,
            `--kubeconfig=${access}`,
            `--root-dir=${path.join(layout.node, "kubelet")}`,
            `--cert-dir=${path.join(layout.node, "kubelet-pki")}`,
            `--hostname-override=${NODE}`,
            `--node-ip=${network.address}`,
            `--node-labels=${Object.entries(GPU_LABELS)
                .map(([name, value]) => `${name}=${value}`)
                .join(",")}`,
        ],
        files: [config, access, client.cert, server.cert, ca],
        probe: () => httpHealth(http, { host: "127.0.0.1", port: healthPort, path: "/healthz" }),
        timeoutSeconds: 60,
    };
}

/** CAP_SYS_RESOURCE is bit 24 of capability sets (linux/capability.h). */
function hasCapSysResource(): boolean {
    const effective = /^CapEff:\s+([0-9a-f]+)$/m.exec(fs.readFileSync("/proc/self/status", "utf8"))?.[1] ?? "0";
    return ((BigInt(`0x${effective}`) >> 24n) & 1n) === 1n;
}

/** The image is kept by containerd; importing it again does nothing, but costs a tenth of a second. */
export async function ensurePauseImage(layout: Layout, ctr: string): Promise<void> {
    const namespace = findNamespace(layout);
    if (namespace === undefined) {
        throw new Problem("containerd: the sandbox's namespace ended; run the same command again");
    }
    const images = (...args: string[]): Promise<string> => runInside(namespace, [ctr, "--namespace=k8s.io", "images", ...args]);
    if (!(await images("list", "--quiet")).split("\n").includes(PAUSE_IMAGE)) {
        await images("import", await pauseArchive(layout.node));
    }
}

interface NodeObject {
    metadata: { labels: Record<string, string> };
    spec: { taints?: { key: string }[] };
    status: {
        allocatable: Record<string, string>;
        nodeInfo: { architecture: string; kubeletVersion: string };
        conditions: { type: string; status: string; message: string; lastHeartbeatTime: string }[];
    };
}

/** What a cluster with the GPU operator has before anybody deploys to it. Applied before the kubelet registers. */
export async function applyClusterObjects(api: Api): Promise<void> {
    await api.apply("/apis/node.k8s.io/v1/runtimeclasses/nvidia", {
        apiVersion: "node.k8s.io/v1",
        kind: "RuntimeClass",
        metadata: { name: "nvidia" },
        handler: "nvidia",
    });
    const admission = "/apis/admissionregistration.k8s.io/v1";
    const name = "gh200-sandbox-node";
    await api.apply(`${admission}/mutatingadmissionpolicies/${name}`, {
        apiVersion: "admissionregistration.k8s.io/v1",
        kind: "MutatingAdmissionPolicy",
        metadata: { name },
        // The kubelet reports the machine it runs on, whatever its flags say, and takes away resources that no device plug-in
        // offers. Correcting every one of its reports leaves no moment at which the node is anything but a GH200, a restart included.
        spec: {
            failurePolicy: "Fail",
            reinvocationPolicy: "Never",
            matchConstraints: {
                resourceRules: [{ apiGroups: [""], apiVersions: ["v1"], resources: ["nodes", "nodes/status"], operations: ["CREATE", "UPDATE"] }],
            },
            matchConditions: [{ name: "real-node", expression: `object.metadata.name == "${NODE}"` }],
            mutations: [
                {
                    patchType: "JSONPatch",
                    jsonPatch: {
                        expression: `[
            JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("kubernetes.io/arch"), value: "arm64"},
            JSONPatch{op: "add", path: "/metadata/labels/" + jsonpatch.escapeKey("beta.kubernetes.io/arch"), value: "arm64"}
          ] + (has(object.status.capacity) ? [
            JSONPatch{op: "add", path: "/status/capacity/" + jsonpatch.escapeKey("nvidia.com/gpu"), value: "1"},
            JSONPatch{op: "add", path: "/status/allocatable/" + jsonpatch.escapeKey("nvidia.com/gpu"), value: "1"},
            JSONPatch{op: "replace", path: "/status/nodeInfo/architecture", value: "arm64"}
          ] : [])`,
                    },
                },
            ],
        },
    });
    await api.apply(`${admission}/mutatingadmissionpolicybindings/${name}`, {
        apiVersion: "admissionregistration.k8s.io/v1",
        kind: "MutatingAdmissionPolicyBinding",
        metadata: { name },
        spec: { policyName: name },
    });
}

/** Waits until the node takes arm64 pods with a GPU. A report from before `since` is that of an earlier kubelet. */
export async function waitForNode(api: Api, since: number): Promise<void> {
    let reason = "it has not registered";
    for (const deadline = Date.now() + 60_000; Date.now() < deadline; await sleep(100)) {
        const node = await api.find<NodeObject>(`/api/v1/nodes/${NODE}`);
        if (node === undefined) {
            continue;
        }
        const ready = node.status.conditions.find((condition) => condition.type === "Ready");
        const corrected = node.metadata.labels["kubernetes.io/arch"] === "arm64" && node.status.allocatable["nvidia.com/gpu"] === "1";
        // The API keeps whole seconds.
        const current = Date.parse(ready?.lastHeartbeatTime ?? "") >= Math.floor(since / 1000) * 1000;
        if (ready?.status === "True" && current && corrected) {
            return;
        }
        reason = !current
            ? "the kubelet has not reported yet"
            : ready?.status === "True"
              ? "the API server does not yet correct the kubelet's reports"
              : (ready?.message ?? "no Ready condition");
        if (!corrected) {
            // The policy takes effect a moment after it was written; any write brings the correction about.
            await api.patch(`/api/v1/nodes/${NODE}/status`, { metadata: { annotations: { "gh200-sandbox/corrected": new Date().toISOString() } } });
        }
    }
    throw new Problem(`node ${NODE} is not ready after 60 s: ${reason}`);
}
