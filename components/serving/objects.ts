import type { types } from "@pulumi/kubernetes";
import type { Input, Output } from "@pulumi/pulumi";
import { selectorLabels, vllmPort } from "./manifests";
import type { ResolvedVllmServer } from "./vllmServerArgs";

/*
 * The objects around a vLLM pod, from resolved values. Those of other projects' kinds are plain: their
 * types are not Kubernetes' own.
 */

type Strategy = types.input.apps.v1.DeploymentStrategy;

/**
 * Without a spare GPU the new pod waits for one that an old pod holds: with one replica the old pod goes
 * first (Recreate), with several one at a time. With a spare GPU the new pod comes first.
 */
export function rolloutStrategy(replicas: number, spareGpus: number): Strategy {
    if (spareGpus > 0) {
        return { type: "RollingUpdate", rollingUpdate: { maxSurge: 1, maxUnavailable: 0 } };
    }
    return replicas === 1 ? { type: "Recreate" } : { type: "RollingUpdate", rollingUpdate: { maxSurge: 0, maxUnavailable: 1 } };
}

/** One pod at a time may be taken away: that never blocks the drain of a node, not even with one replica. */
export function disruptionBudget(name: string): types.input.policy.v1.PodDisruptionBudgetSpec {
    return { maxUnavailable: 1, selector: { matchLabels: selectorLabels(name) } };
}

export interface Traffic {
    allowFromNamespaces: string[];
    /** Namespace of the Gateway; undefined without a route. */
    gatewayNamespace?: string | undefined;
    /** Namespace of Prometheus; undefined where nothing is scraped. */
    prometheusNamespace?: string | undefined;
    modelDownload: boolean;
    /** CIDRs that are no part of the internet. */
    clusterRanges: string[];
    /** Port of the LMCache server in the same namespace; undefined without one. */
    lmcachePort?: number | undefined;
    /** Whether pods of one replica talk to each other, over several nodes. */
    manyNodes: boolean;
}

/** DNS of the cluster, by the labels that kubeadm, the clouds and k3s give it, and NodeLocal DNSCache by its documented address. */
const clusterDns = [
    { namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": "kube-system" } }, podSelector: { matchLabels: { "k8s-app": "kube-dns" } } },
    { ipBlock: { cidr: "169.254.20.10/32" } },
];

/** The internet: every address but those of the cluster and its network. */
function outside(clusterRanges: readonly string[]): types.input.networking.v1.NetworkPolicyPeer[] {
    return [
        ["0.0.0.0/0", clusterRanges.filter((range) => !range.includes(":"))] as const,
        ["::/0", clusterRanges.filter((range) => range.includes(":"))] as const,
    ].map(([cidr, except]) => ({ ipBlock: { cidr, ...(except.length > 0 && { except }) } }));
}

/** Whoever has no policy of its own in the namespace reaches nobody and is reached by nobody. */
export const defaultDeny: types.input.networking.v1.NetworkPolicySpec = { podSelector: {}, policyTypes: ["Ingress", "Egress"] };

/** Nothing in or out but what is named. Images are pulled by the kubelet, and probes come from it, which no policy concerns. */
export function networkPolicy(name: string, traffic: Traffic): types.input.networking.v1.NetworkPolicySpec {
    const podSelector = { matchLabels: selectorLabels(name) };
    const named = [...traffic.allowFromNamespaces, traffic.gatewayNamespace, traffic.prometheusNamespace].filter((namespace) => namespace !== undefined);
    const from = [...new Set(named)].map((namespace) => ({ namespaceSelector: { matchLabels: { "kubernetes.io/metadata.name": namespace } } }));
    return {
        podSelector,
        policyTypes: ["Ingress", "Egress"],
        ingress: [
            // To Kubernetes an empty list of sources is everybody.
            ...(from.length === 0 ? [] : [{ ports: [{ port: vllmPort, protocol: "TCP" }], from }]),
            ...(traffic.manyNodes ? [{ from: [{ podSelector }] }] : []),
        ],
        egress: [
            {
                to: clusterDns,
                ports: [
                    { port: 53, protocol: "UDP" },
                    { port: 53, protocol: "TCP" },
                ],
            },
            ...(traffic.modelDownload ? [{ to: outside(traffic.clusterRanges), ports: [{ port: 443, protocol: "TCP" }] }] : []),
            ...(traffic.lmcachePort === undefined
                ? []
                : [
                      {
                          to: [{ podSelector: { matchLabels: { "app.kubernetes.io/name": "lmcache" } } }],
                          ports: [{ port: traffic.lmcachePort, protocol: "TCP" }],
                      },
                  ]),
            ...(traffic.manyNodes ? [{ to: [{ podSelector }] }] : []),
        ],
    };
}

/** Prometheus operator's ServiceMonitor (monitoring.coreos.com/v1): vLLM's metrics and the launcher's managed_mem_*. */
export function serviceMonitorSpec(name: string): object {
    return { selector: { matchLabels: selectorLabels(name) }, endpoints: [{ port: "http", path: "/metrics", interval: "15s" }] };
}

/** KEDA's ScaledObject (keda.sh/v1alpha1) on vLLM's own queue; CPU and memory say nothing about it. */
export function scaledObjectSpec(name: string, namespace: string, scaling: NonNullable<ResolvedVllmServer["autoscaling"]>): object {
    return {
        scaleTargetRef: { name },
        minReplicaCount: scaling.minReplicas,
        maxReplicaCount: scaling.maxReplicas,
        // A start takes minutes: a queue that comes and goes must not stop a pod that has just loaded its model.
        cooldownPeriod: 600,
        triggers: [
            {
                type: "prometheus",
                metadata: {
                    serverAddress: scaling.prometheusAddress,
                    query: `sum(vllm:num_requests_waiting{namespace="${namespace}",service="${name}"})`,
                    threshold: `${scaling.waitingRequests}`,
                },
            },
        ],
    };
}

/** Gateway API's HTTPRoute (v1). The Gateway's listener has the certificate. */
export function routeSpec(name: string, route: NonNullable<ResolvedVllmServer["route"]>): object {
    return {
        parentRefs: [{ name: route.gateway, namespace: route.gatewayNamespace, sectionName: route.sectionName }],
        hostnames: [route.hostname],
        rules: [
            {
                matches: [{ path: { type: "PathPrefix", value: "/v1" } }],
                backendRefs: [{ name, port: vllmPort }],
                // A long answer is no dead one; vLLM ends requests itself.
                timeouts: { request: "0s" },
            },
        ],
    };
}

/**
 * LeaderWorkerSet (leaderworkerset.x-k8s.io/v1) of a model over several nodes. vLLM's own multi-node mode: the
 * leader serves, workers are headless; LWS gives each pod its index and the leader's address.
 */
export function leaderWorkerSetSpec(template: Output<object>, replicas: Input<number>, nodes: number): Record<string, unknown> {
    const shared = ["--nnodes", `${nodes}`, "--node-rank", "$(LWS_WORKER_INDEX)", "--master-addr", "$(LWS_LEADER_ADDRESS)"];
    const member = (extra: string[], without: string[]) => template.apply((pod) => memberOf(pod as MemberPod, extra, without));
    return {
        replicas,
        leaderWorkerTemplate: {
            size: nodes,
            // A worker alone is no model.
            restartPolicy: "RecreateGroupOnPodRestart",
            leaderTemplate: member(shared, []),
            workerTemplate: member([...shared, "--headless"], ["startupProbe", "readinessProbe", "livenessProbe", "ports", "lifecycle"]),
        },
    };
}

interface MemberPod {
    metadata: object;
    spec: { containers: (Record<string, unknown> & { args?: string[] })[] };
}

/** The pod with further arguments of vLLM, which is the first container, and without what a worker has not. */
function memberOf({ metadata, spec }: MemberPod, extra: string[], without: string[]): object {
    const [server = {}, ...others] = spec.containers;
    const kept = Object.fromEntries(Object.entries(server).filter(([key]) => !without.includes(key)));
    return { metadata, spec: { ...spec, containers: [{ ...kept, args: [...(server.args ?? []), ...extra] }, ...others] } };
}
