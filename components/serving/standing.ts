import * as pulumi from "@pulumi/pulumi";
import { type Problem, problemLine, refuse } from "../internal/errors";
import { type ClusterAccess, kubeConfig } from "./clusterAccess";
import { type Rollout, unservedCauses } from "./rolloutReport";

/** A workload as its last update left it, from Pulumi's state. */
export interface Workload {
    kind: "Deployment" | "LeaderWorkerSet";
    namespace: string;
    name: string;
    spec: unknown;
    /** Absent where no API server made it: under Pulumi's mocks, or where manifests are only rendered. */
    uid: string | undefined;
}

/** What is read of the object in the cluster. */
export interface Live {
    metadata?: { generation?: number };
    spec?: { replicas?: number };
    status?: { observedGeneration?: number; replicas?: number; updatedReplicas?: number; readyReplicas?: number };
}

const apis = {
    Deployment: { group: "apps", version: "v1", plural: "deployments" },
    LeaderWorkerSet: { group: "leaderworkerset.x-k8s.io", version: "v1", plural: "leaderworkersets" },
};

/**
 * For the Kubernetes provider's `pulumi.com/waitFor`: that every replica is of the newest generation and ready, and none of an older
 * one is left. Its own wait compares the new ReplicaSet with the replicas that it wants at that moment, which is none while the old
 * pod still holds the GPU, and called an image that never starts a success (pulumi-kubernetes 4.25.0, pkg/await/deployment.go). The
 * expression picks the status, the only member of the object that has these numbers; the provider looks at it only once the
 * controller has seen the newest generation (condition/jsonpath.go). Without blanks: its parser takes none before a second `&&`.
 */
export const everyReplicaServes = "jsonpath={$[?@.updatedReplicas==$.spec.replicas&&@.readyReplicas==$.spec.replicas&&@.replicas==$.spec.replicas]}";

/**
 * Refuses what the engine takes for unchanged and is not so: it compares inputs with its state, and asks no cluster. What was changed
 * by hand is named, and pods that do not serve are waited for as long as a rollout may take.
 *
 * @param ignored properties of the spec that somebody else sets, e.g. an autoscaler `replicas`.
 */
export async function refuseUnserved(owner: pulumi.Resource, workload: Workload, rollout: Rollout, seconds: number, ignored: string[]): Promise<void> {
    if (workload.uid === undefined) {
        return;
    }
    const path = `${workload.kind} ${workload.namespace}/${workload.name}`;
    const fix = "pulumi up --refresh puts it back";
    for (const deadline = Date.now() + seconds * 1000; ;) {
        const live = await liveObject(workload, rollout.access, path);
        if (live === undefined) {
            refuse([{ path, wrong: "is gone, and the state says that it serves", accepted: "what is declared", fix: "pulumi up --refresh makes it again" }]);
        }
        const changes = changed(workload.spec, live!.spec, "spec").filter((line) => !ignored.some((name) => line.startsWith(`spec.${name} `)));
        refuse(changes.length === 0 ? [] : [{ path, wrong: `is not as the last update left it: ${changes.join(", ")}`, accepted: "what is declared", fix }]);
        if (serves(live!)) {
            return;
        }
        if (Date.now() > deadline) {
            throw new pulumi.RunError([`${path}: does not serve after ${seconds} s`, ...(await unservedCauses(workload.name, rollout))].join("\n"));
        }
        void pulumi.log.info(`${path} does not serve; waiting for its pods`, owner, undefined, true);
        await new Promise((done) => setTimeout(done, 2000));
    }
}

/** Whether every replica is of the newest generation and ready, at least one, and none of an older one is left. */
export function serves({ metadata, spec, status = {} }: Live): boolean {
    const wanted = spec?.replicas ?? 1;
    const { generation = 1 } = metadata ?? {};
    const { observedGeneration = generation, updatedReplicas, readyReplicas, replicas } = status;
    return wanted > 0 && observedGeneration >= generation && updatedReplicas === wanted && readyReplicas === wanted && replicas === wanted;
}

/**
 * `PATH BEFORE → AFTER` of each recorded property that is another one now. What the API server or a restart adds beside them is nobody's
 * change; an entry more or less in a list is one.
 */
export function changed(recorded: unknown, live: unknown, path: string): string[] {
    if (Array.isArray(recorded) && Array.isArray(live) && recorded.length === live.length) {
        return recorded.flatMap((entry, index) => changed(entry, live[index], `${path}[${index}]`));
    }
    if (isObject(recorded) && isObject(live)) {
        return Object.entries(recorded).flatMap(([key, value]) => changed(value, live[key], `${path}.${key}`));
    }
    return same(recorded, live) ? [] : [`${path} ${shown(recorded)} → ${shown(live)}`];
}

async function liveObject(workload: Workload, access: ClusterAccess, path: string): Promise<Live | undefined> {
    const { CustomObjectsApi } = await import("@kubernetes/client-node");
    const { namespace, name, kind } = workload;
    try {
        const api = (await kubeConfig(access)).makeApiClient(CustomObjectsApi);
        // As the API server says it: typed clients leave out what they do not know.
        return (await api.getNamespacedCustomObject({ ...apis[kind], namespace, name })) as Live;
    } catch (error) {
        if ((error as { code?: number }).code === 404) {
            return undefined;
        }
        const reason = (error instanceof Error ? error.message : String(error)).split("\n")[0];
        const problem: Problem = {
            path,
            wrong: `cannot be asked whether it serves: ${reason}`,
            accepted: "a cluster that answers this program as it answers the Kubernetes provider",
        };
        throw new pulumi.RunError(problemLine(problem));
    }
}

function isObject(value: unknown): value is Record<string, unknown> {
    return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Absent, null, and empty are one to the API server. */
function same(left: unknown, right: unknown): boolean {
    const empty = (value: unknown) => value === undefined || value === null || value === "" || (typeof value === "object" && Object.keys(value).length === 0);
    return left === right || (empty(left) && empty(right));
}

/** Single values alone: a list would fill the line. */
function shown(value: unknown): string {
    return Array.isArray(value) ? `${value.length} entries` : isObject(value) ? "…" : String((value as string | undefined) ?? "none");
}
