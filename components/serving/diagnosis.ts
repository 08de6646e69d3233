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

function cause(
    pod: PodFacts,
    container: ContainerFacts | undefined,
    ended: Ended | undefined,
    events: readonly EventFacts[],
    log: string,
    terms: PodTerms,
): string {
    const unscheduled = pod.status?.conditions?.find(({ type, status }) => type === "PodScheduled" && status === "False");
    if (unscheduled !== undefined) {
        return `is pending: ${oneLine(unscheduled.message ?? "")}`;
    }
    const waiting = container?.state?.waiting;
    if (/ImagePull|ErrImage|InvalidImage/.test(waiting?.reason ?? "")) {
        return pullCause(pod, events, waiting?.message ?? "");
    }
    if (ended?.reason === "OOMKilled") {
        return memoryCause(terms);
    }
    if (ended?.exitCode === refusedExit) {
        const refusal = log
            .split("\n")
            .filter((line) => line.startsWith("managed-mem: "))
            .at(-1);
        return `the launcher refused: ${refusal?.slice("managed-mem: ".length) ?? "see its log"}`;
    }
    const probe = events.filter(({ reason }) => reason === "Unhealthy").at(-1);
    if (probe !== undefined && (ended === undefined || events.some(({ reason, message }) => reason === "Killing" && /probe/.test(message ?? "")))) {
        return `its probe fails: ${oneLine(probe.message ?? "")}`;
    }
    if (ended !== undefined && ended.exitCode !== 0) {
        const restarts = container?.restartCount ?? 0;
        const last = log
            .trimEnd()
            .split("\n")
            .filter((line) => /\S/.test(line))
            .at(-1);
        return `its container ends with exit status ${ended.exitCode} (${restarts} restart${restarts === 1 ? "" : "s"})${last === undefined ? "" : `: ${last.trim().slice(0, 300)}`}`;
    }
    const failed = events.filter(({ type, reason }) => type === "Warning" && reason?.startsWith("Failed")).at(-1);
    return failed === undefined ? `is not ready: ${waiting?.reason ?? pod.status?.phase ?? "no status yet"}` : oneLine(failed.message ?? "");
}

function pullCause(pod: PodFacts, events: readonly EventFacts[], message: string): string {
    const image = pod.spec?.containers?.[0]?.image ?? "";
    const told = events.filter(({ reason, message: text }) => reason === "Failed" && text?.startsWith("Failed to pull image")).at(-1)?.message ?? message;
    if (/40[13]|unauthorized|denied|authorization|credential/i.test(told)) {
        return `image ${image} cannot be pulled: the registry refuses the credentials; set registry.username and registryPassword to a user who may pull it`;
    }
    if (/not found|manifest unknown|404/i.test(told)) {
        return `image ${image} cannot be pulled: the registry has no such digest; deploy one that is there (image.use), or build it`;
    }
    return `image ${image} cannot be pulled: ${oneLine(told)}`;
}

/**
 * Overflow is held to its budget by the allocator and /dev/shm by its size, both hard: what went beyond is
 * what has no limit of its own.
 */
function memoryCause(terms: PodTerms): string {
    const limit = gib(terms.podLimitMiB);
    if (terms.placement === "off") {
        return `was killed at its memory limit of ${limit}: vLLM's processes exceeded hostProcess and headroom; raise node.hostProcessMiB`;
    }
    const rest = terms.podLimitMiB - terms.hostBudgetMiB - terms.shmMiB;
    return (
        `was killed at its memory limit of ${limit}: term hostProcess (with pinned and headroom, ${gib(rest)}) was exceeded, since hostOverflow ` +
        `(${gib(terms.hostBudgetMiB)}) and shm (${gib(terms.shmMiB)}) have hard limits of their own; raise node.hostProcessMiB`
    );
}

function oneLine(text: string): string {
    const flat = text.replace(/\s+/g, " ").trim();
    return flat.length > 400 ? `${flat.slice(0, 397)}...` : flat;
}

function gib(mib: number): string {
    return `${(mib / 1024).toFixed(1)} GiB`;
}
