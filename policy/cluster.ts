import type { ResourceValidationArgs, ResourceValidationPolicy, StackValidationPolicy } from "@pulumi/policy";
import { isDigestReference } from "../components/image/reference";
import { type Problem, problemLine } from "../components/internal/errors";
import { containersOf, memoryProblems, plaintextSecretProblems, type PodRules, privilegeProblems } from "../components/rules/pods";
import { declaredBuilderProblems } from "../components/rules/builder";
import { known, knownEntries } from "./known";

/** The pod that a Kubernetes object runs; undefined for one that runs none. */
function podOf(type: string, props: Record<string, unknown>): PodRules | undefined {
    const spec = () => props.spec as PodRules & { template: { spec: PodRules }; jobTemplate: { spec: { template: { spec: PodRules } } } };
    const kind = /^kubernetes:[^:]+:(\w+?)(Patch)?$/.exec(type)?.[1];
    switch (kind) {
        case "Pod":
            return known(spec);
        case "CronJob":
            return known(() => spec().jobTemplate.spec.template.spec);
        case "Deployment":
        case "DaemonSet":
        case "StatefulSet":
        case "ReplicaSet":
        case "Job":
            return known(() => spec().template.spec);
        default:
            return undefined;
    }
}

function podPolicy(
    policy: Omit<ResourceValidationPolicy, "validateResource" | "remediateResource">,
    problems: (pod: PodRules, args: ResourceValidationArgs) => Problem[],
): ResourceValidationPolicy {
    return {
        enforcementLevel: "mandatory",
        ...policy,
        validateResource: (args, reportViolation) => {
            const pod = podOf(args.type, args.props);
            for (const problem of pod === undefined ? [] : problems(pod, args)) {
                reportViolation(problemLine(problem));
            }
        },
    };
}

/** The probe of the node's memory needs the host's files and the GPU's device files (components/node/factsPod.ts). */
const nodeProbe = "gh200-node-facts";

export const clusterPolicies: (ResourceValidationPolicy | StackValidationPolicy)[] = [
    podPolicy({ name: "pods-by-digest", description: "Every container runs an image by digest." }, (pod, { name }) =>
        containersOf(pod).flatMap((container) => {
            const image = known(() => (container as { image?: string }).image);
            return image === undefined || isDigestReference(image)
                ? []
                : [{ path: `${name}.${container.name}.image`, value: image, wrong: "is not named by digest", accepted: "REPOSITORY@sha256:DIGEST" }];
        }),
    ),
    podPolicy(
        {
            name: "no-privileged-pod",
            description: `No pod gets more than its own of the node. Excepted by name: ${nodeProbe}, the probe of the node's memory, and what the pack's configuration names.`,
            configSchema: {
                properties: {
                    exceptions: { type: "array", items: { type: "string" }, default: [nodeProbe], description: "Names of Pulumi resources whose pods may." },
                },
            },
        },
        (pod, args) => (args.getConfig<{ exceptions: string[] }>().exceptions.includes(args.name) ? [] : privilegeProblems(args.name, pod)),
    ),
    podPolicy({ name: "no-plaintext-secret-in-pod", description: "No environment variable of a container holds a secret as plain text." }, (pod, { name }) =>
        containersOf(pod).flatMap((container) =>
            plaintextSecretProblems(
                `${name}.${container.name}.env`,
                knownEntries(() => Object.fromEntries((container.env ?? []).map((entry) => [entry.name, known(() => entry.value)]))),
            ),
        ),
    ),
    {
        name: "builder-native-and-encrypted",
        description: "A builder on another machine is reached over mutual TLS and may not emulate; whether it is native it is asked before each build.",
        enforcementLevel: "mandatory",
        validateResource: ({ type, props, name }, reportViolation) => {
            if (type === "gh200-vllm:index:RemoteBuilder") {
                const builder = {
                    endpoint: known(() => props.endpoint as string) ?? "",
                    encrypted: props.encrypted === true,
                    allowEmulation: props.allowEmulation === true,
                };
                declaredBuilderProblems(name, builder)
                    .map(problemLine)
                    .forEach((line) => reportViolation(line));
            }
            if (type === "docker:index:BuildxBuilder" || type === "docker:index/buildxBuilder:BuildxBuilder") {
                const encrypted = known(() => (props.remote as { cacert?: string } | undefined)?.cacert) !== undefined;
                declaredBuilderProblems(name, { endpoint: known(() => props.endpoint as string) ?? "", encrypted, allowEmulation: false })
                    .map(problemLine)
                    .forEach((line) => reportViolation(line));
            }
        },
    },
    {
        name: "memory-within-profile",
        description: "A pod's memory limit equals its request and is within what the node's memory profile promises (Gh200Node).",
        enforcementLevel: "mandatory",
        validateStack: ({ resources }, reportViolation) => {
            const promises = resources
                .filter(({ type }) => type === "gh200-vllm:index:Gh200Node")
                .map(({ props }) => known(() => props.podLimitMiB as number | undefined))
                .filter((limit) => limit !== undefined);
            const promisedMiB = Math.max(...promises);
            for (const { type, props, name, urn } of promises.length === 0 ? [] : resources) {
                const pod = podOf(type, props);
                if (pod !== undefined && containersOf(pod).some(({ resources: wanted }) => wanted?.limits?.["nvidia.com/gpu"] !== undefined)) {
                    memoryProblems(name, pod, promisedMiB)
                        .map(problemLine)
                        .forEach((line) => reportViolation(line, urn));
                }
            }
        },
    },
];
