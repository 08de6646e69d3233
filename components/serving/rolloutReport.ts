import * as pulumi from "@pulumi/pulumi";
import { selectorLabels } from "./manifests";
import { diagnose, type PodTerms } from "./diagnosis";

/** The cluster as the Kubernetes provider reaches it. */
export interface ClusterAccess {
    /** kubeconfig as text; the ambient one where empty. */
    kubeconfig: string;
    /** Context of it; the current one where empty. */
    context: string;
}

/**
 * A hook for a rollout that failed: it asks the cluster why, and says for each pod that does not serve the
 * cause in one line, its events and the end of its log. Kubernetes' own answer is that time ran out.
 *
 * It never retries: a person decides.
 */
export function rolloutReport(owner: string, component: pulumi.Resource, facts: pulumi.Output<{ namespace: string; access: ClusterAccess; terms: PodTerms }>): pulumi.ErrorHook {
    const known = new Promise<{ namespace: string; access: ClusterAccess; terms: PodTerms }>((done) => void facts.apply(done));
    return new pulumi.ErrorHook(`${owner}:report`, async () => {
        const { namespace, access, terms } = await known;
        const lines = await report(owner, namespace, access, terms).catch((error: unknown) => [`the cluster cannot be asked why: ${error instanceof Error ? error.message.split("\n")[0] : String(error)}`]);
        if (lines.length > 0) {
            await pulumi.log.error(lines.join("\n"), component);
        }
        return false;
    });
}

async function report(owner: string, namespace: string, access: ClusterAccess, terms: PodTerms): Promise<string[]> {
    // Half a second to load, so only where something failed.
    const { CoreV1Api, KubeConfig } = await import("@kubernetes/client-node");
    const config = new KubeConfig();
    if (access.kubeconfig === "") {
        config.loadFromDefault();
    } else {
        config.loadFromString(access.kubeconfig);
    }
    if (access.context !== "") {
        config.setCurrentContext(access.context);
    }
    const api = config.makeApiClient(CoreV1Api);
    const labelSelector = Object.entries(selectorLabels(owner)).map(([key, value]) => `${key}=${value}`).join(",");
    const { items } = await api.listNamespacedPod({ namespace, labelSelector });
    const lines: string[] = [];
    for (const pod of items.filter(({ metadata }) => metadata?.deletionTimestamp === undefined)) {
        const name = pod.metadata?.name ?? "";
        const { items: events } = await api.listNamespacedEvent({ namespace, fieldSelector: `involvedObject.name=${name}` });
        const started = pod.status?.containerStatuses?.[0];
        const previous = started?.state?.running === undefined && started?.lastState?.terminated !== undefined;
        const log = started?.containerID === undefined ? "" : await api.readNamespacedPodLog({ name, namespace, tailLines: 40, previous }).catch(() => "");
        const byTime = events.sort((a, b) => time(a.lastTimestamp ?? a.eventTime) - time(b.lastTimestamp ?? b.eventTime));
        lines.push(...diagnose(pod, byTime, log, terms));
    }
    return lines;
}

function time(when: Date | string | undefined): number {
    return when === undefined ? 0 : new Date(when).getTime();
}
