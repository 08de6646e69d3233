import * as fs from "node:fs";
import * as path from "node:path";
import { isDeepStrictEqual } from "node:util";
import type { ResourceValidationArgs, ResourceValidationPolicy, StackValidationPolicy } from "@pulumi/policy";
import { isDigestReference } from "../components/image/reference";
import { type Problem, problemLine } from "../components/internal/errors";
import { containersOf, memoryProblems, plaintextSecretProblems, type PodRules, privilegeProblems } from "../components/rules/pods";
import { declaredBuilderProblems } from "../components/rules/builder";
import { assetsFolder } from "../components/internal/assets";
import { factsPodSpec } from "../components/node/factsPod";
import { known, knownEntries } from "./known";
import { podsOf } from "./pods";

function podPolicy(
    policy: Omit<ResourceValidationPolicy, "validateResource" | "remediateResource">,
    problems: (pod: PodRules, args: ResourceValidationArgs) => Problem[],
): ResourceValidationPolicy {
    return {
        enforcementLevel: "mandatory",
        ...policy,
        validateResource: (args, reportViolation) => {
            for (const problem of podsOf(args.type, args.props).flatMap((pod) => problems(pod, args))) {
                reportViolation(problemLine(problem));
            }
        },
    };
}

/**
 * The probe of the node's memory needs the host's files and the GPU's device files (components/node/factsPod.ts). It is known by all that
 * it does, not by its name, which anybody can give.
 */
function isNodeProbe(type: string, pod: PodRules): boolean {
    const found = known(() => JSON.parse(JSON.stringify(pod)) as FoundProbe);
    if (type !== "kubernetes:core/v1:Pod" || found === undefined) {
        return false;
    }
    const probe = factsPodSpec({
        script: fs.readFileSync(path.join(assetsFolder("node"), "facts"), "utf8"),
        image: found.containers[0]?.image ?? "",
        imagePullSecret: found.imagePullSecrets?.[0]?.name,
        nodeName: found.nodeSelector?.["kubernetes.io/hostname"],
        gpuProduct: found.nodeSelector?.["nvidia.com/gpu.product"] ?? "",
        runtimeClassName: found.runtimeClassName,
    });
    return isDeepStrictEqual(found, JSON.parse(JSON.stringify(probe)));
}

interface FoundProbe {
    containers: { image?: string }[];
    imagePullSecrets?: { name: string }[];
    nodeSelector?: Record<string, string>;
    runtimeClassName?: string;
}

export const clusterPolicies: (ResourceValidationPolicy | StackValidationPolicy)[] = [
    podPolicy({ name: "pods-by-digest", description: "Every container runs an image by digest." }, (pod, { name }) =>
        [
            ...containersOf(pod).map((container) => ({ of: container.name, image: known(() => container.image) })),
            ...(pod.volumes ?? []).map((volume) => ({ of: `volumes.${volume.name}`, image: known(() => volume.image?.reference) })),
        ]
            .filter(({ image }) => image !== undefined && !isDigestReference(image))
            .map(({ of, image }) => ({ path: `${name}.${of}.image`, value: image, wrong: "is not named by digest", accepted: "REPOSITORY@sha256:DIGEST" })),
    ),
    podPolicy(
        {
            name: "no-privileged-pod",
            description: `No pod gets more than its own of the node. Excepted: the probe of the node's memory, by what it does, and by name what the pack's configuration names.`,
            configSchema: {
                properties: {
                    exceptions: { type: "array", items: { type: "string" }, default: [], description: "Names of Pulumi resources whose pods may." },
                },
            },
        },
        (pod, args) =>
            args.getConfig<{ exceptions: string[] }>().exceptions.includes(args.name) || isNodeProbe(args.type, pod) ? [] : privilegeProblems(args.name, pod),
    ),
    podPolicy({ name: "no-plaintext-secret-in-pod", description: "No environment variable of a container holds a secret as plain text." }, (pod, { name }) =>
        containersOf(pod).flatMap((container) => [
            ...plaintextSecretProblems(
                `${name}.${container.name}.env`,
                knownEntries(() => Object.fromEntries((container.env ?? []).map((entry) => [entry.name, known(() => entry.value)]))),
            ),
            ...plaintextSecretProblems(
                `${name}.${container.name}`,
                knownEntries(() =>
                    Object.fromEntries(
                        Object.entries({ command: container.command, args: container.args }).map(([key, words]) => [key, known(() => words?.join(" "))]),
                    ),
                ),
            ),
        ]),
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
                for (const pod of podsOf(type, props).filter((one) =>
                    containersOf(one).some(({ resources: wanted }) => wanted?.limits?.["nvidia.com/gpu"] !== undefined),
                )) {
                    memoryProblems(name, pod, promisedMiB)
                        .map(problemLine)
                        .forEach((line) => reportViolation(line, urn));
                }
            }
        },
    },
];
