import * as pulumi from "@pulumi/pulumi";
import { hookName } from "../internal/hookName";
import { inContext } from "../internal/inContext";
import { type ClusterAccess, kubeConfig } from "./clusterAccess";
import { selectorLabels } from "./manifests";
import { diagnose, type PodTerms, together, uncreated } from "./diagnosis";
import { rootCause } from "./rootCause";

/** What is known of a rollout once it runs. */
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
        hookName(component, "report"),
        inContext(async () => {
            const lines = await unservedCauses(owner, await known);
            if (lines.length > 0) {
                await pulumi.log.error(lines.join("\n"), component);
            }
            return false;
        }),
    );
}

function once(rollout: pulumi.Output<Rollout>): Promise<Rollout> {
    return new Promise((done) => void rollout.apply(done));
}

/** Why pods of a server do not serve, a line each with its evidence. */
export async function unservedCauses(owner: string, rollout: Rollout): Promise<string[]> {
    try {
        return await causes(owner, rollout);
    } catch (error) {
        return [`the cluster cannot be asked why: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`];
    }
}

async function causes(owner: string, { namespace, access, terms }: Rollout): Promise<string[]> {
    const { CoreV1Api } = await import("@kubernetes/client-node");
    const api = (await kubeConfig(access)).makeApiClient(CoreV1Api);
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
 * The first log that says why its container ended, else the first that is there. In a crash loop the kubelet removes a container
 * between its status and its log, and says so where the log would be; and the one that it starts has said nothing of an end yet.
 */
export async function firstLog(...reads: (() => Promise<string>)[]): Promise<string> {
    let first = "";
    for (const read of reads) {
        const log = await read();
        if (log === "" || log.startsWith("unable to retrieve container logs")) {
            continue;
        }
        if (rootCause(log) !== undefined) {
            return log;
        }
        first ||= log;
    }
    return first;
}

function time(when: Date | string | undefined): number {
    return when === undefined ? 0 : new Date(when).getTime();
}
