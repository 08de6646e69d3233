/**
 * The root cause in a vLLM server's log, which stands above what its other processes say of it. Pure.
 *
 * A server is several processes: API server, engine, a worker for each GPU. The one that fails prints its exception; each one
 * above it then prints its own, forty lines long, whose text is that another one failed.
 */

/** What a log tells of its end. */
export type RootCause =
    /** The launcher, or the worker in the engine, refused before vLLM took memory (managed_mem.refuse). */
    | { kind: "refusal"; text: string }
    /** The exception that the others follow from, and how it is mended where that is known. */
    | { kind: "error"; text: string; mend: string | undefined }
    /** A process was killed from outside and printed nothing. */
    | { kind: "killed"; text: string };

/** Written by managed_mem.refuse; an image older than that word is told by what every refusal says. */
const refusal = /^managed-mem: (?:refused: (.+)|(.+; accepted: .+))$/;

/** Exceptions that only say that another process failed (vLLM 0.18 to 0.22: v1/engine, v1/executor, and asyncio around them). */
const wrappers =
    /Engine core initialization failed|See root cause above|failed to be inspected|See stack trace for (the )?root cause|EngineDeadError|EngineCore encountered an issue|WorkerProc (initialization failed|failed to start)|(Executor|[Ww]orker) failed|^(SystemExit|KeyboardInterrupt|asyncio\.exceptions\.CancelledError|concurrent\.futures\S*CancelledError|RuntimeError: cancelled)/;

/** What the processes beside the failed one see of it: their connection to it ends. */
const echoes =
    /DistBackendError|NCCL (error|WARN)|ncclRemoteError|Connection closed by peer|BrokenPipeError|ConnectionResetError|ConnectionAbortedError|EOFError|zmq\.error|DistNetworkError|TCPStore/;

const mends: [RegExp, string][] = [
    [/No space left on device.*\/dev\/shm|shm_?size|shared memory \(shm\)|Bus error|bus error/i, "raise node.shmMiB"],
    [
        /CUDA out of memory|OutOfMemoryError|cudaErrorMemoryAllocation|CUDA error: out of memory/,
        "lower serving.maxModelLenTokens or serving.maxNumSeqs, or serve a smaller model",
    ],
    [
        /larger than the available KV cache memory|that can be stored in KV cache|No available memory for the cache blocks/,
        "lower serving.maxModelLenTokens, or raise what the pod is promised (node)",
    ],
    [/Free memory on device .* is less than desired/, "end what else uses the GPU, or declare it as node.hbmInUseMiB"],
    [
        /gated repo|GatedRepoError|(401|403) Client Error|Access to model .* is restricted|(401|403) (Unauthorized|Forbidden)/,
        "set the secret hfToken to a token that may read serving.model",
    ],
    [
        /not a valid model identifier|RepositoryNotFoundError|Repository Not Found|404 Client Error|does not appear to have a file named|Invalid repository ID/,
        "correct serving.model; a private one needs the secret hfToken",
    ],
    [
        /couldn't connect to|LocalEntryNotFoundError|Max retries exceeded|OfflineModeIsEnabled|name resolution|An error happened while trying to locate the file/,
        "let the pod reach the hub (serving.modelDownload, DNS, a proxy), or serve the model from serving.modelCacheClaim",
    ],
    [
        /libcuda\.so|libnvidia-\S+\.so|No CUDA GPUs are available|Failed to infer device type|no CUDA-capable device|Found no NVIDIA driver|CUDA driver initialization failed|CUDA unknown error|NVMLError|initialize NVML/,
        "give the pod its GPU: serving.runtimeClassName must be NVIDIA's, and the node's driver must run",
    ],
    [
        /driver version is insufficient|driver on your system is too old|unsupported display driver|forward compatibility/,
        "update the node's NVIDIA driver to one for the image's CUDA",
    ],
    [/cannot open shared object file|undefined symbol|version `\S+' not found/, "build the image again from this base: a part of it was made for another"],
    [/[Aa]ddress already in use|EADDRINUSE/, "remove what takes the port from serving.extraArgs"],
    [/derived max_model_len|max_position_embeddings|model_max_length/, "lower serving.maxModelLenTokens to what the model allows"],
    [
        /[Mm]odel architectures? .*not supported|does not recognize this architecture|No model architectures are specified/,
        "serve another model, or a vLLM that knows this one",
    ],
    [/trust_remote_code/, "add --trust-remote-code to serving.extraArgs, where you trust the model's own code"],
    [/unrecognized arguments|error: argument |invalid choice|expected (one|at least one) argument/, "correct serving.extraArgs"],
    [/No space left on device|Errno 28|Disk quota exceeded/, "a larger serving.modelCacheGiB or modelCacheClaim"],
    [/Read-only file system|Errno 30/, "a folder that the pod may write, or serving.readOnlyRootFilesystem: false"],
    [/Permission denied|Errno 13/, "make the volume writable for user 2000 and group 0"],
    [/[Ee]xec format error/, "an image for the node's processor, linux/arm64"],
];

/** What the log says of its own end; undefined where it says nothing of it. */
export function rootCause(log: string): RootCause | undefined {
    const lines = log.split("\n").map(spoken);
    const refused = lines.flatMap(({ text }) => refusal.exec(text) ?? []);
    if (refused.length > 0) {
        return { kind: "refusal", text: refused[1] ?? refused[2] ?? "" };
    }
    const killed = killedProcess(log);
    // A server that had served for hours has errors of requests in its log; what ended it, its engine or a worker says.
    const errors = exceptions(lines).filter(({ text, process }) => !wrappers.test(text) && (killed === undefined || /Engine|Worker/.test(process)));
    const last = errors.filter(({ text }) => !echoes.test(text)).at(-1) ?? (killed === undefined ? errors.at(-1) : undefined);
    if (last !== undefined && killed?.signal !== true) {
        return { kind: "error", text: last.text, mend: mends.find(([pattern]) => pattern.test(last.text))?.[1] };
    }
    if (killed !== undefined) {
        return { kind: "killed", text: killed.text };
    }
    return /Engine core initialization failed/.test(log) ? { kind: "killed", text: "the engine left no error in the log" } : undefined;
}

/** The last line of the launcher's, whatever it is: the refusal of a server that ended with the launcher's own status. */
export function lastOfLauncher(log: string): string | undefined {
    const said = log
        .split("\n")
        .map(spoken)
        .filter(({ text }) => text.startsWith("managed-mem: "));
    return said.at(-1)?.text.slice("managed-mem: ".length);
}

interface Spoken {
    /** The process that says it, as vLLM names it; empty for the first one. */
    process: string;
    text: string;
}

/** Without colours, and without what vLLM (`(EngineCore pid=7) `), its logger and torchrun put before a line. */
function spoken(line: string): Spoken {
    const plain = line.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "").trimEnd();
    const [prefix = ""] = /^(\([A-Za-z]\w*(?: rank=\d+)? pid=\d+\) ?|\[rank\d+\]: ?)*/.exec(plain) ?? [];
    const text = plain.slice(prefix.length).replace(/^(DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:.]+ (\[[^\]]+\] ?)+/, "");
    return { process: prefix.trim(), text };
}

/** The last line of each traceback, and what programs without one print. */
function exceptions(lines: readonly Spoken[]): Spoken[] {
    const found: Spoken[] = [];
    const inTraceback = new Set<string>();
    for (const [at, { process, text }] of lines.entries()) {
        if (/^Traceback \(most recent call last\):/.test(text)) {
            inTraceback.add(process);
        } else if (/^\S/.test(text) && (isException(text) || (inTraceback.delete(process) && /^[A-Za-z_][\w.]*(: |$)/.test(text)))) {
            inTraceback.delete(process);
            found.push({
                process,
                text: whole(
                    text,
                    lines.slice(at + 1).filter((line) => line.process === process),
                ),
            });
        } else if (/^\s+what\(\):/.test(text)) {
            found.push({ process, text: text.trim() });
        }
    }
    return found;
}

function isException(text: string): boolean {
    return (
        /^(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)(?:: |:?$)/.test(text) ||
        /^Fatal Python error: |^\S+(?: \S+)?: error: |error while loading shared libraries|[Ee]xec format error$/.test(text)
    );
}

/** Pydantic's message stands on the lines below its count of errors. */
function whole(text: string, rest: readonly Spoken[]): string {
    if (!/validation errors? for |:$/.test(text)) {
        return text;
    }
    const below =
        rest
            .slice(0, 4)
            .find((line) => /^\s+\S/.test(line.text))
            ?.text.trim() ?? "";
    return `${text} ${below.replace(/ \[type=.*$/, "").replace(/^Value error, /, "")}`.trim();
}

/** vLLM's own words for a process that ended without an exception; -9 is SIGKILL. */
function killedProcess(log: string): { text: string; signal: boolean } | undefined {
    const status = /Failed core proc\(s\): \{'([^']+)': -(\d+)/.exec(log);
    if (status !== null) {
        return { text: `${status[1]} was ended by signal ${status[2]}`, signal: true };
    }
    const died = /(?:Engine core|Worker) proc ([\w-]+) died unexpectedly/.exec(log);
    return died === null ? undefined : { text: `${died[1]} died without a word of its own`, signal: false };
}
