import type { Problem } from "../internal/errors";

/** The part of a Kubernetes PodSpec that the rules look at. */
export interface PodRules {
    hostNetwork?: boolean;
    hostPID?: boolean;
    hostIPC?: boolean;
    volumes?: { name: string; hostPath?: object; image?: { reference?: string } }[];
    containers?: ContainerRules[];
    initContainers?: ContainerRules[];
    ephemeralContainers?: ContainerRules[];
    securityContext?: SecurityRules;
}

/** What pods and containers alike may say of their security. */
interface SecurityRules {
    runAsUser?: number;
    runAsNonRoot?: boolean;
    seccompProfile?: { type?: string };
    appArmorProfile?: { type?: string };
    windowsOptions?: { hostProcess?: boolean };
    sysctls?: object[];
}

export interface ContainerRules {
    name: string;
    image?: string;
    command?: string[];
    args?: string[];
    ports?: { hostPort?: number }[];
    env?: { name: string; value?: string }[];
    resources?: { limits?: Record<string, string>; requests?: Record<string, string> };
    securityContext?: SecurityRules & { privileged?: boolean; allowPrivilegeEscalation?: boolean; procMount?: string; capabilities?: { add?: string[] } };
}

export const containersOf = (pod: PodRules): ContainerRules[] => [...(pod.initContainers ?? []), ...(pod.containers ?? []), ...(pod.ephemeralContainers ?? [])];

/** What gives a pod more than its own of the node: Kubernetes' «baseline» Pod Security Standard, in the parts that a GPU server could break. */
export function privilegeProblems(path: string, pod: PodRules): Problem[] {
    const fix = "what needs the host runs as the node probe, not as a server";
    const shared = (["hostNetwork", "hostPID", "hostIPC"] as const).filter((key) => pod[key]);
    const volumes = (pod.volumes ?? []).filter(({ hostPath }) => hostPath !== undefined);
    return [
        ...shared.map((key) => ({ path: `${path}.${key}`, value: true, wrong: "shares the node's own", accepted: "false", fix })),
        ...volumes.map(({ name }) => ({ path: `${path}.volumes.${name}`, wrong: "is a folder of the node", accepted: "any other volume", fix })),
        ...securityProblems(`${path}.securityContext`, pod.securityContext ?? {}),
        ...containersOf(pod).flatMap(({ name, ports, securityContext = {} }): Problem[] => {
            const at = `${path}.${name}.securityContext`;
            const { privileged, allowPrivilegeEscalation, procMount, capabilities } = securityContext;
            const hostPorts = (ports ?? []).filter(({ hostPort }) => hostPort);
            return [
                ...securityProblems(at, securityContext),
                ...hostPorts.map(({ hostPort }) => ({
                    path: `${path}.${name}.ports`,
                    value: hostPort,
                    wrong: "is a port of the node",
                    accepted: "a Service",
                    fix,
                })),
                ...(procMount === "Unmasked"
                    ? [{ path: `${at}.procMount`, value: procMount, wrong: "shows what the kernel hides", accepted: "Default", fix }]
                    : []),
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

function securityProblems(at: string, { runAsUser, runAsNonRoot, seccompProfile, appArmorProfile, windowsOptions, sysctls }: SecurityRules): Problem[] {
    return [
        ...(runAsUser === 0 ? [{ path: `${at}.runAsUser`, value: 0, wrong: "is root", accepted: "another user" }] : []),
        ...(runAsNonRoot === false ? [{ path: `${at}.runAsNonRoot`, value: false, wrong: "lets the image run as root", accepted: "true" }] : []),
        ...Object.entries({ seccompProfile, appArmorProfile })
            .filter(([, profile]) => profile?.type === "Unconfined")
            .map(([key]) => ({
                path: `${at}.${key}.type`,
                value: "Unconfined",
                wrong: "takes the kernel's guard away",
                accepted: "RuntimeDefault or Localhost",
            })),
        ...(windowsOptions?.hostProcess ? [{ path: `${at}.windowsOptions.hostProcess`, value: true, wrong: "shares the node's own", accepted: "false" }] : []),
        ...((sysctls ?? []).length > 0 ? [{ path: `${at}.sysctls`, wrong: "changes settings of the kernel", accepted: "none" }] : []),
    ];
}

/** Names under which a secret would stand as plain text. */
const secretName = /(^|_)(TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIALS?|(API|PRIVATE|ACCESS)_?KEY)($|_)/i;
/** `https://USER:PASSWORD@HOST`, over HTTP a user alone (there it is a token), and tokens among an address's parameters. */
const urlWithPassword =
    /:\/\/[^/@\s:]*:[^/@\s]+@|https?:\/\/[^/@\s]+@|[?&](?:(?:access|private|auth|job)[_-]?)?(?:token|api[_-]?key|password|passwd|secret|sig|signature|x-amz-signature)=[^&\s]/i;
/** Tokens that say what they are: GitHub's, GitLab's, Hugging Face's, OpenAI's, AWS', Slack's, JSON Web Tokens and private keys. */
const tokenItself =
    /\b(?:gh[pousr]_\w{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|hf_[A-Za-z0-9]{20,}|sk-[\w-]{20,}|AKIA[0-9A-Z]{16}|xox[abprs]-[\w-]{10,}|eyJ[\w-]{10,}\.eyJ[\w-]{10,}\.[\w-]+)|-----BEGIN [A-Z ]*PRIVATE KEY-----/;

/** Values that are readable by everybody who can read a pod, an image's history or Pulumi's state. The value itself is never shown. */
export function plaintextSecretProblems(path: string, values: Record<string, string | undefined>): Problem[] {
    return Object.entries(values)
        .filter(([name, value]) => value !== undefined && value !== "" && (secretName.test(name) || urlWithPassword.test(value) || tokenItself.test(value)))
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
