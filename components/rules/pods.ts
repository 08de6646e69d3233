import type { Problem } from "../internal/errors";

/** The part of a Kubernetes PodSpec that the rules look at. */
export interface PodRules {
    hostNetwork?: boolean;
    hostPID?: boolean;
    hostIPC?: boolean;
    volumes?: { name: string; hostPath?: object }[];
    containers?: ContainerRules[];
    initContainers?: ContainerRules[];
}

export interface ContainerRules {
    name: string;
    env?: { name: string; value?: string }[];
    resources?: { limits?: Record<string, string>; requests?: Record<string, string> };
    securityContext?: { privileged?: boolean; allowPrivilegeEscalation?: boolean; capabilities?: { add?: string[] } };
}

export const containersOf = (pod: PodRules): ContainerRules[] => [...(pod.initContainers ?? []), ...(pod.containers ?? [])];

/** What gives a pod more than its own of the node: Kubernetes' «baseline» Pod Security Standard, in the parts that a GPU server could break. */
export function privilegeProblems(path: string, pod: PodRules): Problem[] {
    const fix = "what needs the host runs as the node probe, not as a server";
    const shared = (["hostNetwork", "hostPID", "hostIPC"] as const).filter((key) => pod[key]);
    const volumes = (pod.volumes ?? []).filter(({ hostPath }) => hostPath !== undefined);
    return [
        ...shared.map((key) => ({ path: `${path}.${key}`, value: true, wrong: "shares the node's own", accepted: "false", fix })),
        ...volumes.map(({ name }) => ({ path: `${path}.volumes.${name}`, wrong: "is a folder of the node", accepted: "any other volume", fix })),
        ...containersOf(pod).flatMap(({ name, securityContext = {} }): Problem[] => {
            const at = `${path}.${name}.securityContext`;
            const { privileged, allowPrivilegeEscalation, capabilities } = securityContext;
            return [
                ...(privileged ? [{ path: `${at}.privileged`, value: true, wrong: "is privileged", accepted: "false", fix }] : []),
                ...(allowPrivilegeEscalation
                    ? [{ path: `${at}.allowPrivilegeEscalation`, value: true, wrong: "may gain privileges", accepted: "false", fix }]
                    : []),
                ...((capabilities?.add ?? []).length > 0
                    ? [{ path: `${at}.capabilities.add`, value: capabilities?.add, wrong: "adds capabilities", accepted: "none", fix }]
                    : []),
            ];
        }),
    ];
}

/** Names under which a secret would stand as plain text. */
const secretName = /(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|(API|PRIVATE|ACCESS)_?KEY)($|_)/i;
/** `https://USER:PASSWORD@HOST`. */
const urlWithPassword = /:\/\/[^/@\s:]+:[^/@\s]+@/;

/** Values that are readable by everybody who can read a pod, an image's history or Pulumi's state. The value itself is never shown. */
export function plaintextSecretProblems(path: string, values: Record<string, string | undefined>): Problem[] {
    return Object.entries(values)
        .filter(([name, value]) => value !== undefined && value !== "" && (secretName.test(name) || urlWithPassword.test(value)))
        .map(([name]) => ({
            path: `${path}.${name}`,
            wrong: "holds a secret as plain text",
            accepted: "a reference to a Kubernetes Secret, or a build secret",
            fix: "pulumi config set --secret, and pass it as a secret",
        }));
}

/** Kubernetes' quantities of memory in MiB; undefined for what is none. */
export function memoryMiB(quantity: string): number | undefined {
    const match = /^(\d+(?:\.\d+)?)(Ki|Mi|Gi|Ti|k|M|G|T)?$/.exec(quantity);
    const bytes: Record<string, number> = { "": 1, Ki: 2 ** 10, Mi: 2 ** 20, Gi: 2 ** 30, Ti: 2 ** 40, k: 1e3, M: 1e6, G: 1e9, T: 1e12 };
    return match === null ? undefined : (Number(match[1]) * (bytes[match[2] ?? ""] as number)) / 2 ** 20;
}

/** Memory limits of a pod against what its node's profile promises. */
export function memoryProblems(path: string, pod: PodRules, promisedMiB: number): Problem[] {
    const limits = (pod.containers ?? []).map(({ name, resources }) => ({ name, limit: resources?.limits?.memory, request: resources?.requests?.memory }));
    const missing = limits.filter(({ limit }) => limit === undefined);
    const totalMiB = limits.reduce((sum, { limit }) => sum + (memoryMiB(limit ?? "0") ?? 0), 0);
    return [
        ...missing.map(({ name }) => ({
            path: `${path}.${name}.resources.limits.memory`,
            wrong: "is unset, so that the kernel kills whom it likes",
            accepted: `at most ${promisedMiB}Mi`,
        })),
        ...limits
            .filter(({ limit, request }) => limit !== undefined && request !== undefined && memoryMiB(limit) !== memoryMiB(request))
            .map(({ name, request, limit }) => ({
                path: `${path}.${name}.resources.requests.memory`,
                value: request,
                wrong: "is not the limit, so that the pod is not Guaranteed",
                accepted: limit ?? "",
            })),
        ...(totalMiB > promisedMiB
            ? [
                  {
                      path: `${path}.resources.limits.memory`,
                      value: `${Math.round(totalMiB)}Mi`,
                      wrong: "exceeds what the node's memory profile promises",
                      accepted: `at most ${promisedMiB}Mi`,
                      fix: "docs/memory.md",
                  },
              ]
            : []),
    ];
}
