import type { KubeConfig, V1Deployment } from "@kubernetes/client-node";
import * as pulumi from "@pulumi/pulumi";
import { inContext } from "../internal/inContext";
import { selectorLabels } from "./manifests";
import { diagnose, type PodTerms, together, uncreated } from "./diagnosis";

/** The cluster as the Kubernetes provider reaches it. */
export interface ClusterAccess {
    /** kubeconfig as text; the ambient one where empty. */
    kubeconfig: string;
    /** Context of it; the current one where empty. */
    context: string;
}

/** What the hooks of a rollout know of it, once it runs. */
export interface Rollout {
    namespace: string;
    access: ClusterAccess;
    terms: PodTerms;
}

/**
 * A hook for a rollout that failed: it asks the cluster why, and says for each pod that does not serve the
 * cause in one line, its events and the end of its log. Kubernetes' own answer is that time ran out.
 *
 * It never retries: a person decides.
 */
export function rolloutReport(owner: string, component: pulumi.Resource, rollout: pulumi.Output<Rollout>): pulumi.ErrorHook {
    const known = once(rollout);
    return new pulumi.ErrorHook(
        `${owner}:report`,
        inContext(async () => {
            const lines = await report(owner, await known);
            if (lines.length > 0) {
                await pulumi.log.error(lines.join("\n"), component);
            }
            return false;
        }),
    );
}

/**
 * A hook that ends a rollout only when its pods serve. The provider compares the new ReplicaSet with the
 * replicas that it wants at that moment, which is none while the old pod still holds the GPU: an image that
 * never starts was called a success after seconds (pulumi-kubernetes 4.25.0, pkg/await/deployment.go).
 *
 * @param seconds how long a pod may take until it serves.
 */
export function rolloutGate(owner: string, rollout: pulumi.Output<Rollout>, seconds: number): pulumi.ResourceHook {
    const known = once(rollout);
    return new pulumi.ResourceHook(`${owner}:ready`, async () => {
        const { namespace, access } = await known;
        const { AppsV1Api } = await import("@kubernetes/client-node");
        const api = (await cluster(access)).makeApiClient(AppsV1Api);
        for (const deadline = Date.now() + seconds * 1000; !served(await api.readNamespacedDeployment({ name: owner, namespace }));) {
            if (Date.now() > deadline) {
                throw new pulumi.RunError([`deployment ${owner}: is not ready after ${seconds} s`, ...(await report(owner, await known))].join("\n"));
            }
            await new Promise((done) => setTimeout(done, 1000));
        }
    });
}

/** Whether every replica is of the newest generation and ready, and none of an older one is left. */
export function served({ metadata, spec, status }: V1Deployment): boolean {
    const wanted = spec?.replicas ?? 1;
    return (
        (status?.observedGeneration ?? 0) >= (metadata?.generation ?? 1) &&
        (status?.updatedReplicas ?? 0) === wanted &&
        (status?.readyReplicas ?? 0) === wanted &&
        (status?.replicas ?? 0) === wanted
    );
}

function once(rollout: pulumi.Output<Rollout>): Promise<Rollout> {
    return new Promise((done) => void rollout.apply(done));
}

/** Half a second to load, so only where something changed. */
async function cluster(access: ClusterAccess): Promise<KubeConfig> {
    const client = await import("@kubernetes/client-node");
    const config = new client.KubeConfig();
    if (access.kubeconfig === "") {
        config.loadFromDefault();
    } else {
        config.loadFromString(access.kubeconfig);
    }
    if (access.context !== "") {
        config.setCurrentContext(access.context);
    }
    return config;
}

async function report(owner: string, rollout: Rollout): Promise<string[]> {
    try {
        return await causes(owner, rollout);
    } catch (error) {
        return [`the cluster cannot be asked why: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`];
    }
}

async function causes(owner: string, { namespace, access, terms }: Rollout): Promise<string[]> {
    const { CoreV1Api } = await import("@kubernetes/client-node");
    const api = (await cluster(access)).makeApiClient(CoreV1Api);
    const labelSelector = Object.entries(selectorLabels(owner))
        .map(([key, value]) => `${key}=${value}`)
        .join(",");
    const { items: pods } = await api.listNamespacedPod({ namespace, labelSelector });
    const { items } = await api.listNamespacedEvent({ namespace });
    const byTime = items.sort((a, b) => time(a.lastTimestamp ?? a.eventTime) - time(b.lastTimestamp ?? b.eventTime));
    const reports: string[][] = [];
    for (const pod of pods.filter(({ metadata }) => metadata?.deletionTimestamp === undefined)) {
        const name = pod.metadata?.name ?? "";
        const started = pod.status?.containerStatuses?.[0];
        const previous = started?.state?.running === undefined && started?.lastState?.terminated !== undefined;
        const read = (ofPrevious: boolean) => api.readNamespacedPodLog({ name, namespace, tailLines, previous: ofPrevious }).catch(() => "");
        const log =
            started?.containerID === undefined
                ? ""
                : await firstLog(
                      () => read(previous),
                      () => read(!previous),
                      () => read(previous),
                  );
        const events = byTime.filter(({ involvedObject }) => involvedObject.kind === "Pod" && involvedObject.name === name);
        reports.push(diagnose(pod, events, log, terms));
    }
    const lines = together(reports);
    // What makes the pods is named by its owner, or by that and a hash.
    const makers = byTime.filter(({ involvedObject: { kind, name = "" } }) => kind !== "Pod" && (name === owner || name.startsWith(`${owner}-`)));
    return lines.length > 0 ? lines : uncreated(owner, makers);
}

/**
 * Lines of a pod's log that are read. The cause stood 57 lines before the end of an engine's failure on one GPU (an H200, vLLM 0.22.1);
 * each worker of several GPUs adds its traceback twice, some 50 lines each time (inferred from vLLM 0.19.0's v1/executor).
 */
const tailLines = 1000;

/**
 * The first log that is there. In a crash loop the kubelet removes a container between its status and its log, and
 * says so where the log would be; the next container's is the same by then.
 */
export async function firstLog(...reads: (() => Promise<string>)[]): Promise<string> {
    for (const read of reads) {
        const log = await read();
        if (log !== "" && !log.startsWith("unable to retrieve container logs")) {
            return log;
        }
    }
    return "";
}

function time(when: Date | string | undefined): number {
    return when === undefined ? 0 : new Date(when).getTime();
}
