/** What each option of `vllm serve` in `extraArgs` means to the plan: one table, with the reason of each line. */
import { inputName, type Problem } from "../internal/errors";
import { jsonValue, lastValue, parseVllmArguments, type VllmArgument, type VllmArguments } from "./vllmArguments";
import { vllmOptionsOf } from "./vllmOptions";
import { Lpddr, Placement } from "./vllmServerArgs";

/** What the decision about an option may depend on. */
export interface FlagTerms {
    placement: string;
    lmcacheUrl: string;
    acknowledgeRemoteCode: boolean;
}

interface Rule {
    /** What comes of the option. */
    wrong: string;
    /** What is accepted in its place. */
    accepted: string;
    /** The input that `accepted` is the name of, which a stack's configuration and a program name differently. Default: none. */
    isInput?: boolean;
    /** Refused with these settings; named in a warning otherwise. Default: always. */
    refused?: (terms: FlagTerms, given: VllmArguments) => boolean;
    /** Whether the option is no matter with this value. Default: never. */
    harmless?: (value: string) => boolean;
    /** Its value must not be shown. */
    secret?: boolean;
}

const managed = ({ placement }: FlagTerms) => placement !== Placement.Off;
const never = () => false;
const isOne = (value: string) => value === "1";

/** An input of ours that sets the same. The last of two counts, so the plan would speak of another pod than the one that starts. */
const input = (accepted: string, wrong = "is set by an input, which the plan is made with"): Rule => ({ wrong, accepted, isInput: true });
const withoutIt = (wrong: string, accepted = "without it"): Rule => ({ wrong, accepted });
/** Memory that no term of the plan contains. */
const unplanned = (wrong: string, accepted = "with room left in the plan"): Rule => ({ wrong, accepted, refused: never });
const offloads = (option: string): Rule => ({
    wrong: `${option} takes host memory that the plan has promised to the launcher already`,
    accepted: `without it: placement ${Placement.HbmFirst} puts on the host what HBM cannot hold; or with placement ${Placement.Off}`,
    refused: managed,
});
const distributed = withoutIt("starts engines on GPUs that the pod does not ask for", "serving.replicas, tensorParallelSize or pipelineParallelSize");

const remoteCode = (wrong: string): Rule => ({
    wrong,
    accepted: "without it, or with serving.acknowledgeRemoteCode: true",
    refused: ({ acknowledgeRemoteCode }) => !acknowledgeRemoteCode,
});

/** Bytes of one cached value by `--kv-cache-dtype` (config/cache.py, CacheDType); undefined where the checkpoint decides. */
export const cacheTypes: Readonly<Record<string, number | undefined>> = {
    auto: undefined,
    bfloat16: 2,
    float16: 2,
    fp8: 1,
    fp8_e4m3: 1,
    fp8_e5m2: 1,
    fp8_inc: 1,
    fp8_ds_mla: 1,
};

const rules: Readonly<Record<string, Rule>> = {
    // What inputs set.
    "--model": input("serving.model"),
    "--served-model-name": input("serving.servedModelName"),
    "--max-model-len": input("serving.maxModelLenTokens"),
    "--max-num-seqs": input("serving.maxNumSeqs"),
    "--kv-cache-memory-bytes": input("serving.kvCacheMemoryBytes"),
    "--tensor-parallel-size": input("serving.tensorParallelSize"),
    "--pipeline-parallel-size": input("serving.pipelineParallelSize"),
    "--shutdown-timeout": input("serving.shutdownSeconds"),
    "--num-gpu-blocks-override": input("serving.kvCacheMemoryBytes", "makes a KV cache of so many blocks, whatever memory there is"),

    // Where the server listens, which probes, Service and network policy rely on.
    "--port": withoutIt("is another port than the Service's and the probes'", "without it, which is port 8000"),
    "--host": {
        ...withoutIt("may be an address that the probes do not reach", "without it, which is every address"),
        harmless: (value) => value === "0.0.0.0" || value === "::",
    },
    "--uds": withoutIt("listens on a socket that neither Service nor probes reach"),
    "--headless": withoutIt("starts no API server, so that the pod is never ready"),
    "--ssl-keyfile": withoutIt("serves HTTPS, and the probes ask for HTTP", "serving.route, whose Gateway has the certificate"),
    "--ssl-certfile": withoutIt("serves HTTPS, and the probes ask for HTTP", "serving.route, whose Gateway has the certificate"),
    "--help": withoutIt("prints a text and ends"),

    // Secrets, which would stand in the Deployment as plain text.
    "--api-key": {
        ...withoutIt("is a secret that would stand in the Deployment as plain text", "without it: serving.apiKey, a Secret's name"),
        secret: true,
    },
    "--hf-token": { ...input("hfToken", "is a secret that would stand in the Deployment as plain text"), secret: true },

    // Code that is not the image's.
    "--trust-remote-code": remoteCode("runs Python code of the model's repository"),
    "--tool-parser-plugin": remoteCode("runs a Python file that is not the image's"),
    "--reasoning-parser-plugin": remoteCode("runs a Python file that is not the image's"),
    "--enable-prompt-embeds": remoteCode("unpickles tensors that a request brings"),
    "--revision": input("serving.modelRevision", "is set by an input"),

    // Options that a preview cannot read.
    "--config": withoutIt("names a file whose options no preview reads", "its options as items of extraArgs, or inputs"),

    // Memory outside the launcher's budget.
    "--cpu-offload-gb": { ...offloads("offloading"), harmless: (value) => Number(value) === 0 },
    "--cpu-offload-params": offloads("offloading"),
    "--offload-backend": offloads("offloading"),
    "--offload-group-size": { ...offloads("offloading"), harmless: (value) => Number(value) === 0 },
    "--offload-params": offloads("offloading"),
    "--swap-space": { ...offloads("swapping"), harmless: (value) => Number(value) === 0 },
    "--kv-offloading-size": {
        wrong: "pins host memory beside the plan's",
        accepted: `serving.lpddr: ${Lpddr.Prefixes}, which gives it a part of the plan's; or with placement ${Placement.Off}`,
        refused: managed,
    },
    "--kv-offloading-backend": {
        wrong: "chooses another tier for prefixes than the one that the plan counts",
        accepted: `serving.lpddr: ${Lpddr.Prefixes}, with vLLM's native one; or with placement ${Placement.Off}`,
        refused: managed,
    },
    "--kv-transfer-config": {
        wrong: "registers or re-allocates the KV cache outside the launcher's budget",
        accepted: `node.lmcacheMiB, which makes an LMCache server and its connector; or with placement ${Placement.Off}`,
        refused: (terms, given) =>
            terms.lmcacheUrl !== "" || (managed(terms) && jsonValue(given, "--kv-transfer-config")?.kv_connector !== "LMCacheConnectorV1"),
    },
    "--ec-transfer-config": unplanned("keeps encoder outputs in memory that no term of the plan contains"),
    "--enable-sleep-mode": {
        ...withoutIt("frees weights and KV cache through an allocator of its own, which the launcher refuses", `without it, or placement ${Placement.Off}`),
        refused: managed,
    },
    "--enable-cumem-allocator": {
        ...withoutIt("takes weights and KV cache from an allocator of its own, which the launcher refuses", `without it, or placement ${Placement.Off}`),
        refused: managed,
    },
    "--enable-elastic-ep": {
        ...withoutIt("moves weights between processes through CUDA IPC, which the launcher refuses", `without it, or placement ${Placement.Off}`),
        refused: managed,
    },
    "--weight-transfer-config": {
        ...withoutIt("moves weights between processes, which the launcher refuses", `without it, or placement ${Placement.Off}`),
        refused: managed,
    },
    "--worker-cls": {
        ...withoutIt("takes the place of the launcher's own worker, which holds the budget", `without it, or placement ${Placement.Off}`),
        refused: managed,
    },
    // With a placement the launcher obeys it where it is given; without one the pod has it already, from the plan.
    "--gpu-memory-utilization": {
        wrong: "is a fraction of HBM and host memory together, and may leave a smaller KV cache than the plan says",
        accepted: "serving.kvCacheMemoryBytes",
        isInput: true,
        refused: (terms) => !managed(terms),
    },
    "--speculative-config": unplanned("loads a draft model, whose weights and KV cache no term of the plan contains"),
    "--enable-lora": unplanned("loads adapters, whose weights no term of the plan contains"),
    "--enable-eplb": unplanned("loads experts twice, and no term of the plan contains the copies"),
    "--api-server-count": { ...unplanned("starts processes that node.hostProcessMiB must contain", "with a larger node.hostProcessMiB"), harmless: isOne },
    "--mm-processor-cache-gb": {
        ...unplanned("keeps inputs in host memory of each process, which node.hostProcessMiB must contain", "with a larger node.hostProcessMiB"),
        harmless: (value) => Number(value) === 0,
    },
    "--hf-overrides": unplanned("changes the model that modelShape describes", "with a modelShape of the changed model"),
    "--mamba-cache-dtype": {
        ...unplanned("changes the size of states, which modelShape says in bytes", "with stateBytes of that type"),
        harmless: (value) => value === "auto",
    },
    "--mamba-ssm-cache-dtype": {
        ...unplanned("changes the size of states, which modelShape says in bytes", "with stateBytes of that type"),
        harmless: (value) => value === "auto",
    },
    "--mamba-cache-mode": { ...unplanned("keeps more than one state of a sequence, and the plan counts one"), harmless: (value) => value === "none" },
    "--kv-cache-dtype-skip-layers": unplanned("caches some layers in another type, and the plan counts one for all"),
    "--decode-context-parallel-size": { ...unplanned("divides the KV cache of a sequence over GPUs, and the plan counts it whole"), harmless: isOne },
    "--kv-cache-dtype": {
        ...unplanned("is no type of KV cache that the plan knows", Object.keys(cacheTypes).join(", ")),
        harmless: (value) => Object.hasOwn(cacheTypes, value),
    },
    "--dtype": {
        ...unplanned("loads weights in another type than modelShape says", "with the modelShape of that type"),
        harmless: (value) => value !== "float32" && value !== "float",
    },

    // GPUs that the pod does not ask for.
    "--data-parallel-size": { ...distributed, harmless: isOne },
    "--data-parallel-size-local": { ...distributed, harmless: isOne },
    "--data-parallel-rank": distributed,
    "--data-parallel-start-rank": distributed,
    "--data-parallel-address": distributed,
    "--data-parallel-rpc-port": distributed,
    "--data-parallel-backend": { ...distributed, harmless: (value) => value === "mp" },
    "--data-parallel-hybrid-lb": distributed,
    "--data-parallel-external-lb": distributed,
    "--prefill-context-parallel-size": { ...distributed, harmless: isOne },
    "--nnodes": { ...distributed, harmless: isOne },
    "--node-rank": distributed,
    "--master-addr": distributed,
    "--master-port": distributed,
    "--distributed-executor-backend": {
        ...withoutIt("starts workers before the launcher can cover them, which it refuses", `mp, or placement ${Placement.Off}`),
        refused: (terms, given) => managed(terms) && lastValue(given, "--distributed-executor-backend") === "ray",
        harmless: (value) => value !== "ray",
    },
};

/** Words of the launcher, which come before vLLM's (assets/vllm/vllm_managed_mem.py). */
const launcherWords = ["--dry-run", "--self-test"];

/** What of `extraArgs` cannot be kept. */
export function flagProblems(extraArgs: readonly string[], terms: FlagTerms): Problem[] {
    return judged(extraArgs, terms).flatMap(({ problem, refused }) => (refused ? [problem] : []));
}

/** What of `extraArgs` the plan does not know of. */
export function unplannedFlags(extraArgs: readonly string[], terms: FlagTerms): Problem[] {
    return judged(extraArgs, terms).flatMap(({ problem, refused }) => (refused ? [] : [problem]));
}

function judged(extraArgs: readonly string[], terms: FlagTerms): { problem: Problem; refused: boolean }[] {
    const given = parseVllmArguments(extraArgs);
    const path = inputName("serving.extraArgs");
    // What follows a secret may be one too.
    const secret = given.options.some(({ option }) => Object.hasOwn(rules, option) && rules[option]!.secret === true);
    const strays = given.stray.map((value) => {
        const joined = value.startsWith("-");
        return {
            problem: {
                path,
                ...(joined ? { value: value.split(" ")[0] } : secret ? {} : { value }),
                wrong: joined ? "holds an option and its value in one item" : "has an item that belongs to no option, and vLLM would take it for a model",
                accepted: joined ? "an item for each, or OPTION=VALUE" : "options and their values",
            },
            refused: true,
        };
    });
    const seen = new Set<string>();
    const options = given.options.flatMap((argument) => {
        const found = judge(argument, given, terms);
        // Repeated options and dotted keys are one thing to mend.
        if (found === undefined || seen.has(argument.option)) {
            return [];
        }
        seen.add(argument.option);
        return [{ problem: { path, ...found.problem }, refused: found.refused }];
    });
    return [...strays, ...options];
}

function judge(argument: VllmArgument, given: VllmArguments, terms: FlagTerms): { problem: Omit<Problem, "path">; refused: boolean } | undefined {
    const { option, ambiguous, known, written } = argument;
    const value = shown(argument);
    if (launcherWords.includes(written)) {
        return { problem: { value, wrong: "is a word of the launcher, which then starts no server", accepted: "options of vllm serve" }, refused: true };
    }
    if (ambiguous.length > 1) {
        return { problem: { value, wrong: "could be several options, and vLLM ends at once", accepted: ambiguous.slice(0, 4).join(", ") }, refused: true };
    }
    const rule = Object.hasOwn(rules, option) ? rules[option] : undefined;
    if (rule === undefined) {
        return known
            ? undefined
            : { problem: { value, wrong: `is no option of vLLM ${vllmOptionsOf}, and another release may not know it either` }, refused: false };
    }
    const counts = lastValue(given, option);
    if (counts !== undefined && rule.harmless?.(counts) === true) {
        return undefined;
    }
    const accepted = rule.isInput === true ? inputName(rule.accepted) : rule.accepted;
    return { problem: { value, wrong: rule.wrong, accepted }, refused: rule.refused?.(terms, given) ?? true };
}

/** The option as it was written, without a value, which may be a secret. */
function shown({ written }: VllmArgument): string {
    return written.split("=")[0]!;
}
