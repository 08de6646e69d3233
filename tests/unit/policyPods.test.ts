import { expect, test } from "vitest";
import { podsOf } from "../../policy/pods";

const pod = { containers: [{ name: "a" }] };

// Kinds that the engine creates are tried through it (tests/program/policy.test.ts); lists it refuses to create itself.
test.each<[string, string, object, number]>([
    ["a list of pods", "kubernetes:core/v1:PodList", { items: [{ spec: pod }, { spec: pod }] }, 2],
    ["a replication controller", "kubernetes:core/v1:ReplicationController", { spec: { template: { spec: pod } } }, 1],
    ["a template alone", "kubernetes:core/v1:PodTemplate", { template: { spec: pod } }, 1],
    ["a job of a schedule", "kubernetes:batch/v1:CronJob", { spec: { jobTemplate: { spec: { template: { spec: pod } } } } }, 1],
    [
        "leader and workers",
        "kubernetes:leaderworkerset.x-k8s.io/v1:LeaderWorkerSet",
        { spec: { a: { leaderTemplate: { spec: pod }, workerTemplate: { spec: pod } } } },
        2,
    ],
    ["a kind that nobody knows", "kubernetes:example.com/v1:Anything", { spec: { groups: [{ replicas: { pod } }] } }, 1],
    ["an object without pods", "kubernetes:core/v1:Service", { spec: { selector: {} } }, 0],
    ["no Kubernetes object", "aws:ecs:Service", { spec: pod }, 0],
])("%s", (_, type, props, count) => {
    expect(podsOf(type, props as Record<string, unknown>)).toHaveLength(count);
});
