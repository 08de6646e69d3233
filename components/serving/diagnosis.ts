import { connectionFault, Fault } from "../internal/connectionFault";
import { registryHost } from "../image/reference";
import { gib } from "../node/describe";
import { lastOfLauncher, rootCause } from "./rootCause";

/**
 * Why a pod does not serve, in one line, with the last lines of its log. Pure; the facts are the API
 * server's own objects, as far as they are read here.
 */

export interface PodFacts {
    metadata?: { name?: string | undefined } | undefined;
    spec?: { nodeName?: string | undefined; containers?: { image?: string | undefined }[] | undefined } | undefined;
    status?:
        | {
              phase?: string | undefined;
              /** Why the kubelet or a controller ended the whole pod: `Evicted`, `UnexpectedAdmissionError`, ... */
              reason?: string | undefined;
              message?: string | undefined;
              conditions?: { type?: string | undefined; status?: string | undefined; message?: string | undefined }[] | undefined;
              containerStatuses?: ContainerFacts[] | undefined;
          }
        | undefined;
}

interface ContainerFacts {
    ready?: boolean | undefined;
    restartCount?: number | undefined;
    state?: { waiting?: { reason?: string | undefined; message?: string | undefined } | undefined; terminated?: Ended | undefined } | undefined;
    lastState?: { terminated?: Ended | undefined } | undefined;
}

interface Ended {
    exitCode?: number | undefined;
    reason?: string | undefined;
    message?: string | undefined;
}

export interface EventFacts {
    type?: string | undefined;
    reason?: string | undefined;
    message?: string | undefined;
}

/** The pod's terms, for a pod that exceeds their sum. */
export interface PodTerms {
    podLimitMiB: number;
    hostBudgetMiB: number;
    shmMiB: number;
    placement: string;
}

const logLines = 15;
/** EX_CONFIG of sysexits.h: how the launcher refuses (managed_mem/__init__.py). */
const refusedExit = 78;
/** 128 and the signal, as a shell and the container runtime say it (signal(7), on arm64 and x86-64 alike). */
const signals: Record<number, string> = { 132: "SIGILL", 134: "SIGABRT", 135: "SIGBUS", 136: "SIGFPE", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM" };

/** The first line is the cause; the others are events and the end of the log. Empty for a pod that is ready. */
export function diagnose(pod: PodFacts, events: readonly EventFacts[], log: string, terms: PodTerms): string[] {
    const container = pod.status?.containerStatuses?.[0];
    if (container?.ready === true) {
        return [];
    }
    const ended = container?.state?.terminated ?? container?.lastState?.terminated;
    const text = log.trim() === "" ? (ended?.message ?? "") : log;
    const warnings = [...new Set(events.filter(({ type }) => type === "Warning").map(({ reason, message }) => oneLine(`${reason}: ${message}`)))];
    return [
        `pod ${pod.metadata?.name}: ${cause(pod, container, ended, events, text, terms)}`,
        ...warnings.slice(-5).map((line) => `  event ${line}`),
        ...text
            .trimEnd()
            .split("\n")
            .filter(Boolean)
            .slice(-logLines)
            .map((line) => `  log ${line.slice(0, 300)}`),
    ];
}

/** The reports of all pods. Where a node rejects one pod after the other, the first says what hundreds would. */
export function together(reports: readonly string[][]): string[] {
    const cause = ([first = ""]: readonly string[]) => first.replace(/^pod \S+: /, "");
    return reports
        .filter((report, at) => report.length > 0 && reports.findIndex((other) => cause(other) === cause(report)) === at)
        .flatMap((report) => {
            const others = reports.filter((other) => cause(other) === cause(report)).length - 1;
            const [first = "", ...rest] = report;
            return [others === 0 ? first : `${first} (and ${others} more of its pods)`, ...rest];
        });
}

/** Why there is no pod at all, a line each: what the API server answered to the controller that would make it. */
export function uncreated(owner: string, events: readonly EventFacts[]): string[] {
    const refused = new Set(
        events.filter(({ reason }) => reason === "FailedCreate").map(({ message }) => oneLine(message ?? "").replace(/^Error creating: /, "")),
    );
    return [...refused].slice(-3).map((message) => `deployment ${owner}: ${notCreated(message)}`);
}

function notCreated(message: string): string {
    return `its pod is not let in: ${withMend(message, creationMends)}`;
}

const creationMends: Mend[] = [
    [/exceeded quota/, "raise the namespace's ResourceQuota, or lower what the pod asks for (node, serving.cpus)"],
    [/violates PodSecurity/, "the namespace demands another Pod Security Standard than restricted, or a webhook changes the pod"],
    [/RuntimeClass "?[^ "]*"? not found|runtimeclass.*not found/i, "make that RuntimeClass, or set serving.runtimeClassName"],
    [/PriorityClass/, "make that PriorityClass, or correct serving.priorityClassName"],
    [/admission webhook|ValidatingAdmissionPolicy|denied the request/, "ask who runs that policy"],
    [/(maximum|minimum) (cpu|memory|nvidia)\S* usage per|LimitRange/, "change the namespace's LimitRange, or what the pod asks for"],
    [/is being terminated/, "wait until the namespace is gone, and run the update again"],
];

function cause(
    pod: PodFacts,
    container: ContainerFacts | undefined,
    ended: Ended | undefined,
    events: readonly EventFacts[],
    log: string,
    terms: PodTerms,
): string {
    const rejected = pod.status?.reason;
    if (rejected !== undefined && rejected !== "") {
        return rejectedCause(rejected, pod.status?.message ?? "");
    }
    const unscheduled = pod.status?.conditions?.find(({ type, status }) => type === "PodScheduled" && status === "False");
    if (unscheduled !== undefined) {
        return pendingCause(unscheduled.message ?? "");
    }
    const waiting = container?.state?.waiting;
    if (/ImagePull|ErrImage|InvalidImage|ImageInspect|RegistryUnavailable|SignatureValidation/.test(waiting?.reason ?? "")) {
        return pullCause(pod, events, waiting?.reason ?? "", waiting?.message ?? "");
    }
    if (/CreateContainer|RunContainer|PostStartHook/.test(waiting?.reason ?? "")) {
        return startCause(waiting?.message ?? waiting?.reason ?? "");
    }
    if (/StartError|ContainerCannotRun/.test(ended?.reason ?? "")) {
        return startCause(ended?.message ?? "");
    }
    if (ended?.reason === "OOMKilled") {
        return memoryCause(terms, ended.exitCode ?? 0);
    }
    const root = rootCause(log);
    if (root?.kind === "refusal" || ended?.exitCode === refusedExit) {
        return `the launcher refused: ${root?.kind === "refusal" ? oneLine(root.text) : (lastOfLauncher(log) ?? "see its log")}`;
    }
    const probe = events.filter(({ reason }) => reason === "Unhealthy").at(-1);
    if (probe !== undefined && (ended === undefined || events.some(({ reason, message }) => reason === "Killing" && /probe/.test(message ?? "")))) {
        return `its probe fails: ${oneLine(probe.message ?? "")}`;
    }
    if (ended !== undefined) {
        return endedCause(ended, container?.restartCount ?? 0, root, lastWords(log));
    }
    const failed = events.filter(({ type, reason }) => type === "Warning" && reason?.startsWith("Failed")).at(-1);
    return failed === undefined ? `is not ready: ${waiting?.reason ?? pod.status?.phase ?? "no status yet"}` : withMend(failed.message ?? "", startMends);
}

/** A pod that the kubelet took back or never let in; the ReplicaSet makes the next, so that there may be many. */
function rejectedCause(reason: string, message: string): string {
    const told = oneLine(message.replace(/^Pod was rejected: /, ""));
    return `was rejected by its node (${reason})${told === "" ? "" : `: ${told}`}${mendOf(`${reason} ${told}`, rejectionMends)}`;
}

type Mend = [RegExp, string];

/* The kubelet's own reasons: pkg/kubelet/lifecycle, cm/topologymanager, cm/devicemanager, eviction, nodeshutdown. */
const rejectionMends: Mend[] = [
    [
        /^UnexpectedAdmissionError.*(unhealthy|GPU is lost|nvml|preferred allocation|device plugin)/i,
        "the GPU is not well: look at NVIDIA's device plugin and at nvidia-smi on the node",
    ],
    [/^UnexpectedAdmissionError/, "restart NVIDIA's device plugin on the node, and delete the rejected pods"],
    [/^TopologyAffinityError/, "let the kubelet's topologyManagerPolicy be none or best-effort, or ask for CPUs of one NUMA node (serving.cpus)"],
    [/^Evicted.*ephemeral/i, "keep models in serving.modelCacheClaim, not in the pod's own storage"],
    [/^Evicted.*(memory)/i, "the node ran short of memory: something else took it, or node promises what is not there"],
    [/^Evicted/, "free the node of what its message names"],
    [/^NodeAffinity/, "correct serving.nodeSelector and serving.gpuProduct, or the node's labels"],
    [/^OutOfnvidia/, "another pod has the GPU: end it"],
    [/^OutOf(cpu|pods)/, "lower serving.cpus, or free the node"],
    [/^OutOfmemory/, "the pod asks for more than the node has left: free it, or declare less (node)"],
    [/^Preempt/, "a pod of a higher priority took its place: serving.priorityClassName"],
    [/^(Terminated|NodeShutdown|Shutdown)/, "the node was shut down: start it again"],
    [/^(NodeLost|NodeUnreachable)/, "the node does not answer: look at its kubelet"],
    [/^(Taint|TaintToleration)/i, "tolerate the taint (serving.tolerations), or remove it"],
];

/** The scheduler's words without what it says of preemption, and what follows from each reason. */
function pendingCause(message: string): string {
    const told = oneLine(message).replace(/ ?preemption: .*$/, "");
    const mends = schedulingMends.filter(([pattern]) => pattern.test(told)).map(([, mend]) => mend);
    return `is pending: ${[told, ...mends].join("; ")}`;
}

/* The scheduler's own reasons: pkg/scheduler/framework/plugins. */
const schedulingMends: Mend[] = [
    [/Insufficient nvidia\.com\/gpu/, "free a GPU, and see that NVIDIA's device plugin runs"],
    [/Insufficient memory/, "free the node's memory, or declare less (node)"],
    [/Insufficient cpu/, "lower serving.cpus"],
    [/didn't match Pod's node affinity\/selector/, "set serving.gpuProduct and serving.nodeSelector to labels that a node has"],
    [/untolerated taint/, "tolerate the node's taint with serving.tolerations"],
    [/were unschedulable/, "kubectl uncordon the node"],
    [/pod anti-affinity rules/, "one pod a node: fewer serving.replicas, or another node"],
    [
        /persistentvolumeclaim .* not found|unbound immediate PersistentVolumeClaims|volume node affinity conflict/,
        "see serving.modelCacheClaim and its StorageClass",
    ],
    [/no nodes available/, "join a node to the cluster"],
];

function pullCause(pod: PodFacts, events: readonly EventFacts[], reason: string, message: string): string {
    const image = pod.spec?.containers?.[0]?.image ?? "";
    if (reason === "InvalidImageName") {
        return `image ${image} cannot be pulled: this is no image's name; correct image.use, registry.address or image.imageTag`;
    }
    if (reason === "ErrImageNeverPull") {
        return `image ${image} cannot be pulled: its pull policy is Never and the node does not have it; remove what sets the policy`;
    }
    const told = events.filter(({ reason: of, message: text }) => of === "Failed" && text?.startsWith("Failed to pull image")).at(-1)?.message ?? message;
    const fault = connectionFault(told);
    // The address that was dialled says less than the name; a token's or a layer's server is another host.
    const host = /^[\d.:[\]a-f]*$/.test(fault?.host ?? "") ? registryHost(image) : fault!.host;
    switch (fault?.fault) {
        case Fault.Credentials:
            return `image ${image} cannot be pulled: the registry refuses the credentials; set registry.pullUsername, or registry.username, and its password to a user who may pull it`;
        case Fault.Missing:
            return `image ${image} cannot be pulled: the registry has no such digest; deploy one that is there (image.use), or build it`;
        case Fault.NoSpace:
            return `image ${image} cannot be pulled: no space is left on the node's disk; free it, or give containerd more`;
        case Fault.Platform:
            return `image ${image} cannot be pulled: it is not for the node's platform; build it for linux/arm64`;
        case undefined:
            return `image ${image} cannot be pulled: ${oneLine(told)}`;
        default:
            return `image ${image} cannot be pulled: ${host}: ${fault!.wrong} (${fault!.reason}); ${nodeMends[fault!.fault]}`;
    }
}

/** What a node needs to reach a registry. */
const nodeMends: Partial<Record<Fault, string>> = {
    [Fault.Authority]: "give containerd on the node the registry's authority (/etc/containerd/certs.d/HOST/hosts.toml)",
    [Fault.ClientCertificate]: "give containerd on the node the certificate that the registry asks for",
    [Fault.Expired]: "renew the registry's certificate, and look at the clocks of both",
    [Fault.WrongName]: "name the registry as its certificate does (registry.address)",
    [Fault.PlainText]: "let the registry speak TLS",
    [Fault.Tls]: "look at the registry's TLS",
    [Fault.NoName]: "correct registry.address, or the node's DNS",
    [Fault.Refused]: "start the registry, or correct registry.address",
    [Fault.NoRoute]: "open the way from the node to the registry",
    [Fault.Timeout]: "open the way from the node to the registry: a firewall drops, or it is overloaded",
    [Fault.Closed]: "look at the registry's log, and at a proxy between",
    [Fault.RateLimited]: "wait, log in (registry.username), or mirror the image",
    [Fault.Server]: "look at the registry's log, and at a proxy before it",
};

/** A container that its runtime could not start. */
function startCause(message: string): string {
    return `its container cannot be started: ${withMend(message, startMends)}`;
}

const startMends: Mend[] = [
    [
        /no runtime for "?[^" ]+"? is configured/,
        "install NVIDIA's container toolkit for the node's containerd, or set serving.runtimeClassName to a class that it has",
    ],
    [/RuntimeClass.* not found/i, "make that RuntimeClass, or set serving.runtimeClassName"],
    [
        /libnvidia-ml|nvidia-container-cli|nvml|CDI device|could not select device driver/i,
        "let the node's NVIDIA driver and container toolkit run (nvidia-smi on the node)",
    ],
    [/secret "([^"]+)" not found|references non-existent secret key/, "the Secret is gone: run the update with --refresh"],
    [/configmap "([^"]+)" not found/i, "make that ConfigMap again"],
    [/runAsNonRoot|container has runAsNonRoot/, "deploy an image that is made for a user (assets/vllm/Dockerfile)"],
    [/exec format error/, "deploy an image for the node's processor, linux/arm64"],
    [/executable file not found|no such file or directory/, "deploy an image that was built with assets/vllm/Dockerfile"],
    [/persistentvolumeclaim .* not found/, "correct serving.modelCacheClaim"],
    [/Multi-Attach|already (exclusively )?attached/, "the volume is held by another node: end the pod there"],
    [/failed to setup network|cni plugin not initialized|plugin type=/, "look at the cluster's network plug-in on that node"],
];

/** A server that ended, by its status and what its log says. Nobody asked it to: the report reads no pod that is being deleted. */
function endedCause(ended: Ended, restarts: number, root: ReturnType<typeof rootCause>, last: string | undefined): string {
    const { exitCode = 0 } = ended;
    const how = [signals[exitCode], `${restarts} restart${restarts === 1 ? "" : "s"}`].filter(Boolean).join(", ");
    if (root?.kind === "killed") {
        return (
            `its engine was killed and the server ended with exit status ${exitCode} (${how}): ${root.text}; ` +
            "look for the kernel's OOM killer on the node (dmesg), and raise node.hostProcessMiB"
        );
    }
    const why = root && oneLine([cut(root.text), root.kind === "error" ? root.mend : undefined].filter(Boolean).join("; "));
    if (exitCode === 0) {
        return `its server ended with exit status 0 (${how}), which nobody asked it to: ${why ?? "its log does not say why"}`;
    }
    if (exitCode === 137) {
        return `was killed below its memory limit (exit status 137, ${how}): by the node's OOM killer or by hand; look at the node's kernel log (dmesg)`;
    }
    const told = why ?? (exitCode === 135 ? "a bus error, as of a full /dev/shm; raise node.shmMiB" : last);
    return `its container ends with exit status ${exitCode} (${how})${told === undefined ? "" : `: ${told}`}`;
}

function lastWords(log: string): string | undefined {
    const last = log
        .trimEnd()
        .split("\n")
        // What the launcher says of its plan is no cause of an end.
        .filter((line) => /\S/.test(line) && !/managed-mem: (?!refused: )/.test(line))
        .at(-1);
    return last?.trim().slice(0, 300);
}

/**
 * Overflow is held to its budget by the allocator and /dev/shm by its size, both hard: what went beyond is
 * what has no limit of its own.
 */
function memoryCause(terms: PodTerms, exitCode: number): string {
    const limit = gib(terms.podLimitMiB);
    // The runtime says OOMKilled too where a child was killed and the server then ended by itself.
    const who = exitCode === 137 ? "was" : "had a process";
    if (terms.placement === "off") {
        return `${who} killed at its memory limit of ${limit}: vLLM's processes exceeded hostProcess and headroom; raise node.hostProcessMiB`;
    }
    const rest = terms.podLimitMiB - terms.hostBudgetMiB - terms.shmMiB;
    return (
        `${who} killed at its memory limit of ${limit}: term hostProcess (with pinned and headroom, ${gib(rest)}) was exceeded, since hostOverflow ` +
        `(${gib(terms.hostBudgetMiB)}) and shm (${gib(terms.shmMiB)}) have hard limits of their own; raise node.hostProcessMiB`
    );
}

/** A message of the cluster's, and how it is mended where that is known. */
function withMend(message: string, mends: readonly Mend[]): string {
    return `${oneLine(message)}${mendOf(message, mends)}`;
}

function mendOf(text: string, mends: readonly Mend[]): string {
    const mend = mends.find(([pattern]) => pattern.test(text))?.[1];
    return mend === undefined ? "" : `; ${mend}`;
}

/** Room is left for the mend. */
function cut(text: string): string {
    return text.length > 300 ? `${text.slice(0, 297)}...` : text;
}

function oneLine(text: string): string {
    const flat = text.replace(/\s+/g, " ").trim();
    return flat.length > 400 ? `${flat.slice(0, 397)}...` : flat;
}
