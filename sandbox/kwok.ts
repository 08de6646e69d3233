import * as http from "node:http";
import * as path from "node:path";
import { type Api } from "./api";
import { kubeconfig } from "./controlPlane";
import { httpHealth } from "./health";
import { CHECKOUT, type Layout, writeFile } from "./layout";
import { GPU_LABELS, GPU_TAINT } from "./node";
import { ensureCertificate } from "./pki";
import { portOf } from "./ports";
import type { Daemon } from "./processes";

/**
 * Full-size GH200 nodes that exist in the API only, for scheduling tests: the real scheduler places pods on them, and
 * kwok says that the pods run. A taint of their own keeps everything away that does not ask for them, so that the
 * program's server always lands on the node that is real.
 */
const SIMULATED = "gh200-sandbox/simulated";
const USER = "kwok";

// A GH200 480GB with EGM off: `numactl --hardware` of node 0 in the commit message of Linux 63db8170bf34.
const CAPACITY = { cpu: "72", memory: "490037Mi", "ephemeral-storage": "1Ti", pods: "110", "nvidia.com/gpu": "1" };

export async function prepareKwok(layout: Layout, binary: string, apiServerPort: number): Promise<Daemon> {
    const port = await portOf(layout, "kwok");
    const client = await ensureCertificate(layout, { authority: "kubernetes", name: "kwok", usage: "client", commonName: USER });
    const access = path.join(layout.dir, "control-plane", "kwok.kubeconfig");
    writeFile(access, kubeconfig(apiServerPort, client));
    const stages = path.join(CHECKOUT, "sandbox", "kwok", "stages.yaml");
    return {
        name: "kwok",
        command: [
            binary,
            `--kubeconfig=${access}`,
            `--config=${stages}`,
            `--manage-nodes-with-label-selector=${SIMULATED}=true`,
            "--node-lease-duration-seconds=40",
            `--server-address=127.0.0.1:${port}`,
            "--v=WARN",
        ],
        files: [access, stages, client.cert],
        probe: () => httpHealth(http, { host: "127.0.0.1", port, path: "/healthz" }),
        timeoutSeconds: 30,
    };
}

export async function allowKwok(api: Api): Promise<void> {
    const rbac = "/apis/rbac.authorization.k8s.io/v1";
    await api.apply(`${rbac}/clusterroles/${USER}`, {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRole",
        metadata: { name: USER },
        rules: [
            { apiGroups: [""], resources: ["nodes"], verbs: ["get", "list", "watch"] },
            { apiGroups: [""], resources: ["nodes/status", "pods/status"], verbs: ["patch", "update"] },
            { apiGroups: [""], resources: ["pods"], verbs: ["get", "list", "watch", "delete", "patch", "update"] },
            { apiGroups: ["", "events.k8s.io"], resources: ["events"], verbs: ["create", "patch", "update"] },
            { apiGroups: ["coordination.k8s.io"], resources: ["leases"], verbs: ["get", "list", "watch", "create", "patch", "update", "delete"] },
        ],
    });
    await api.apply(`${rbac}/clusterrolebindings/${USER}`, {
        apiVersion: "rbac.authorization.k8s.io/v1",
        kind: "ClusterRoleBinding",
        metadata: { name: USER },
        roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name: USER },
        subjects: [{ kind: "User", name: USER }],
    });
}

/** Exactly `count` simulated nodes: missing ones are added, others removed. */
export async function setSimulatedNodes(api: Api, count: number): Promise<void> {
    const wanted = Array.from({ length: count }, (_, index) => `gh200-simulated-${index}`);
    for (const name of wanted) {
        const identity = { apiVersion: "v1", kind: "Node" };
        await api.apply(`/api/v1/nodes/${name}`, {
            ...identity,
            metadata: {
                name,
                labels: { ...GPU_LABELS, [SIMULATED]: "true", "kubernetes.io/arch": "arm64", "kubernetes.io/os": "linux", "kubernetes.io/hostname": name },
            },
            spec: { taints: [GPU_TAINT, { key: SIMULATED, value: "true", effect: "NoSchedule" }] },
        });
        await api.apply(`/api/v1/nodes/${name}/status`, { ...identity, metadata: { name }, status: { capacity: CAPACITY, allocatable: CAPACITY } });
    }
    for (const name of await simulatedNodes(api)) {
        if (!wanted.includes(name)) {
            await api.delete(`/api/v1/nodes/${name}`);
        }
    }
}

export async function simulatedNodes(api: Api): Promise<string[]> {
    const nodes = await api.get<{ items: { metadata: { name: string } }[] }>(`/api/v1/nodes?labelSelector=${encodeURIComponent(`${SIMULATED}=true`)}`);
    return nodes.items.map((node) => node.metadata.name);
}
