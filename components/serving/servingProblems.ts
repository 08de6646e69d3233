import { inputName, type Problem } from "../internal/errors";
import { gib } from "../node/describe";
import { describeFit, type EngineLimits, fitModel, type ModelFit } from "./modelFit";
import { AttentionKind, attentionLayers, type ResolvedModelShape } from "./modelShapeArgs";
import { jsonValue, lastValue, parseVllmArguments } from "./vllmArguments";
import { cacheTypes, flagProblems, unplannedFlags } from "./vllmFlags";
import { Lpddr, Placement, type ResolvedVllmServer } from "./vllmServerArgs";

/** The settings that decide whether a model fits, resolved. */
export type ServingSettings = Pick<
    ResolvedVllmServer,
    | "hbmBudgetMiB"
    | "hostBudgetMiB"
    | "maxModelLenTokens"
    | "maxNumSeqs"
    | "kvCacheMemoryBytes"
    | "tensorParallelSize"
    | "pipelineParallelSize"
    | "gpusPerNode"
    | "modelShape"
    | "modelCacheClaim"
    | "modelCacheGiB"
    | "autoscaling"
    | "lmcacheUrl"
    | "pinnedMiB"
    | "extraArgs"
    | "placement"
    | "lpddr"
    | "acknowledgeRemoteCode"
    | "route"
    | "apiKey"
    | "acknowledgeOpenRoute"
> & {
    /** Ways to more host memory of each GPU, where the node is planned here. Default: a larger hostBudgetMiB. */
    moreMemory?: readonly MoreMemory[];
};

/** A way to more host memory. */
export interface MoreMemory {
    way: string;
    /** How much it gives at most. */
    mib: number;
}

const anyMore: readonly MoreMemory[] = [{ way: "raise hostBudgetMiB", mib: Infinity }];

const GIB = 2 ** 30;

/** Nodes of one replica. */
export function nodesPerReplica(settings: Pick<ServingSettings, "tensorParallelSize" | "pipelineParallelSize" | "gpusPerNode">): number {
    return Math.ceil((settings.tensorParallelSize * settings.pipelineParallelSize) / settings.gpusPerNode);
}

/** Default of `--max-num-batched-tokens` for a server on a GPU of 70 GiB or more (engine/arg_utils.py, get_batch_defaults). */
const defaultBatchedTokens = 8192;
/** Bytes of a latent vector in the cache of sparse MLA in FP8 (v1/kv_cache_interface.py, MLAAttentionSpec). */
const sparseLatentBytes = 656;

/** What vLLM is told, by inputs and by `extraArgs`. */
export function engineLimits(settings: ServingSettings, shape: ResolvedModelShape): EngineLimits {
    const given = parseVllmArguments(settings.extraArgs);
    const { maxModelLenTokens, maxNumSeqs } = settings;
    const cacheType = lastValue(given, "--kv-cache-dtype") ?? "auto";
    const sparse = (shape.attention ?? []).filter(({ kind }) => kind === AttentionKind.Latent).length > 1;
    const inThroughputMode = lastValue(given, "--performance-mode") === "throughput";
    const batched = defaultBatchedTokens * (inThroughputMode ? 2 : 1);
    return {
        maxModelLenTokens,
        maxNumSeqs,
        kvCacheMemoryBytes: settings.kvCacheMemoryBytes,
        prefixTier: settings.lpddr === Lpddr.Prefixes,
        tensorParallelSize: settings.tensorParallelSize,
        pipelineParallelSize: settings.pipelineParallelSize,
        valueBytes: cacheTypes[cacheType] ?? shape.kvValueBytes,
        latentTokenBytes: sparse && cacheType.startsWith("fp8") ? sparseLatentBytes : undefined,
        maxBatchedTokens: wholeNumber(lastValue(given, "--max-num-batched-tokens")) ?? Math.min(batched, maxNumSeqs * maxModelLenTokens),
        blockTokens: wholeNumber(lastValue(given, "--block-size")),
        hybrid: keepsKindsApart(settings),
    };
}

/** vLLM turns its hybrid KV cache off for a connector or for events, unless it is told not to (config/vllm.py). */
function keepsKindsApart({ extraArgs, lmcacheUrl, lpddr }: ServingSettings): boolean {
    const given = parseVllmArguments(extraArgs);
    const choice = given.options.filter(({ option }) => option.endsWith("disable-hybrid-kv-cache-manager")).at(-1)?.option;
    if (choice !== undefined) {
        return choice.startsWith("--no-");
    }
    return (
        lmcacheUrl === "" &&
        lpddr !== Lpddr.Prefixes &&
        jsonValue(given, "--kv-transfer-config") === undefined &&
        jsonValue(given, "--kv-events-config") === undefined
    );
}

function wholeNumber(text: string | undefined): number | undefined {
    return text !== undefined && /^[1-9]\d*$/.test(text) ? Number(text) : undefined;
}

/** The fit of the model whose size is declared; undefined where it is not. */
export function fitOf(settings: ServingSettings): { fit: ModelFit; limits: EngineLimits } | undefined {
    const { modelShape } = settings;
    if (modelShape === undefined) {
        return undefined;
    }
    const limits = engineLimits(settings, modelShape);
    const { weightsGiB, activeWeightsGiB = weightsGiB } = modelShape;
    const shape = { weightsGiB, activeWeightsGiB, attention: attentionLayers(modelShape) };
    return { fit: fitModel(shape, limits, settings.hbmBudgetMiB, hostBudgetOfGpuMiB(settings)), limits };
}

/** GPUs of one pod. */
function gpusPerPod({ tensorParallelSize, pipelineParallelSize, gpusPerNode }: ServingSettings): number {
    return Math.min(tensorParallelSize * pipelineParallelSize, gpusPerNode);
}

/** The pod's host budget is one sum, which its GPUs share evenly (managed_mem/worker.py). */
function hostBudgetOfGpuMiB(settings: ServingSettings): number {
    return Math.floor(settings.hostBudgetMiB / gpusPerPod(settings));
}

/** Host memory of the pod in which vLLM keeps prefixes: all that the weights leave, where that was chosen. */
export function prefixTierMiB(settings: ServingSettings): number {
    return settings.lpddr === Lpddr.Prefixes ? Math.floor((fitOf(settings)?.fit.prefixTierMiB ?? 0) * gpusPerPod(settings)) : 0;
}

/** The tokens that fit and the ceiling of their rate, in words, or that nothing is known of them. */
export function describeServing(settings: ServingSettings): string[] {
    const fitted = fitOf(settings);
    return fitted === undefined
        ? [
              `model: unchecked: ${inputName("serving.modelShape")} is not declared, so whether weights and KV cache fit shows at the pod's start; npm run init -- --model-config CONFIG_JSON shows and writes one`,
          ]
        : describeFit(fitted.fit, fitted.limits);
}

/** What is accepted and warned of: a model that floats, and options in `extraArgs` that the plan does not know of. */
export function servingWarnings(settings: ServingSettings & Pick<ResolvedVllmServer, "model" | "modelRevision" | "acceptStandIn">): Problem[] {
    const { model, modelRevision, acceptStandIn } = settings;
    const floats = modelRevision === "" && !acceptStandIn && !model.startsWith("/");
    return [
        ...(floats
            ? [
                  {
                      path: inputName("serving.modelRevision"),
                      wrong: `is unset, so that each start takes whatever ${model} leads to`,
                      accepted: "a commit of the model's repository",
                  },
              ]
            : []),
        ...unplannedFlags(settings.extraArgs, settings),
    ];
}

/** What cannot work, against the memory plan and against each other. */
export function servingProblems(settings: ServingSettings): Problem[] {
    const problems: Problem[] = [...flagProblems(settings.extraArgs, settings), ...modelProblems(settings)];
    const gpus = settings.tensorParallelSize * settings.pipelineParallelSize;
    if (gpus > settings.gpusPerNode && gpus % settings.gpusPerNode !== 0) {
        problems.push({
            path: inputName("serving.tensorParallelSize"),
            value: settings.tensorParallelSize,
            wrong: `with pipelineParallelSize ${settings.pipelineParallelSize} needs ${gpus} GPUs, which no number of nodes with ${settings.gpusPerNode} has`,
            accepted: `a multiple of gpusPerNode`,
        });
    }
    if (settings.autoscaling !== undefined && nodesPerReplica(settings) > 1) {
        problems.push({
            path: inputName("serving.autoscaling"),
            wrong: "scales a Deployment, and a model over several nodes has none",
            accepted: "serving.replicas",
        });
    }
    if (settings.route !== undefined && settings.apiKey === "" && !settings.acknowledgeOpenRoute) {
        problems.push({
            path: inputName("serving.apiKey"),
            value: "",
            wrong: "lets everybody whom the route reaches use the API",
            accepted: "a Secret's name, or left out, so that a key is generated",
            fix: "or acknowledgeOpenRoute: true, where the Gateway asks for keys itself",
        });
    }
    if (settings.modelCacheClaim !== "" && settings.modelCacheGiB !== undefined) {
        problems.push({
            path: inputName("serving.modelCacheGiB"),
            value: settings.modelCacheGiB,
            wrong: "makes a claim beside the existing modelCacheClaim",
            accepted: "one of them",
        });
    }
    problems.push(...prefixProblems(settings));
    if (settings.lmcacheUrl !== "" && settings.pinnedMiB < 1024) {
        problems.push({
            path: inputName("serving.pinnedMiB"),
            value: settings.pinnedMiB,
            wrong: "leaves KV cache no pinned buffers on its way to LMCache",
            accepted: "1024 or more",
            fix: "raise node.pinnedMiB",
        });
    }
    return problems;
}

/** What a tier for prefixes needs, and what it cannot stand beside. */
function prefixProblems(settings: ServingSettings): Problem[] {
    const wrong = [
        ...(settings.placement === Placement.Off ? ["is a part of the launcher's budget, and placement off has no launcher's budget"] : []),
        ...(settings.modelShape === undefined ? ["needs serving.modelShape, since the tier is what the weights leave of the host memory"] : []),
        ...(settings.lmcacheUrl === "" ? [] : ["and an LMCache server (node.lmcacheMiB) are two connectors, and vLLM takes one"]),
    ];
    return settings.lpddr === Lpddr.Prefixes
        ? wrong.map((text) => ({
              path: inputName("serving.lpddr"),
              value: settings.lpddr,
              wrong: text,
              accepted: `${Lpddr.Contexts}, or ${Lpddr.Prefixes} without that`,
          }))
        : [];
}

function modelProblems(settings: ServingSettings): Problem[] {
    const fitted = fitOf(settings);
    if (fitted === undefined || settings.modelShape === undefined) {
        return [];
    }
    const { fit, limits } = fitted;
    const { modelShape, maxModelLenTokens } = settings;
    const gpus = limits.tensorParallelSize * limits.pipelineParallelSize;
    const budgets = `${gib(settings.hbmBudgetMiB)} of HBM and ${gib(hostBudgetOfGpuMiB(settings))} of host memory${gpus > 1 ? ` on each of ${gpus} GPUs` : ""}`;
    const ways = (mib: number) => (settings.moreMemory ?? anyMore).filter((more) => more.mib >= mib).map(({ way }) => way);
    const problems: Problem[] = [];
    if (modelShape.maxPositionTokens !== undefined && maxModelLenTokens > modelShape.maxPositionTokens) {
        problems.push({
            path: inputName("serving.maxModelLenTokens"),
            value: maxModelLenTokens,
            wrong: "is more than the model's own longest context, which vLLM refuses",
            accepted: `at most ${modelShape.maxPositionTokens}`,
            fix: "lower it, or correct modelShape.maxPositionTokens",
        });
    }
    if (fit.missingMiB > 0) {
        problems.push({
            path: inputName("serving.modelShape.weightsGiB"),
            value: modelShape.weightsGiB,
            wrong: `exceeds ${budgets} by ${gib(fit.missingMiB)}${gpus > 1 ? " each" : ""}`,
            accepted: "weights that fit",
            fix: [...ways(fit.missingMiB), "take more GPUs", "or quantise"].join(", "),
        });
        return problems;
    }
    return [...problems, ...cacheProblems(settings, fit, budgets, ways(1))];
}

function cacheProblems({ kvCacheMemoryBytes, maxModelLenTokens }: ServingSettings, { cache }: ModelFit, budgets: string, ways: string[]): Problem[] {
    if (cache === undefined) {
        return [];
    }
    if (cache.refused !== undefined) {
        return [
            {
                path: inputName("serving.modelShape.attention"),
                wrong: cache.refused,
                accepted: "a model of one kind of layers, or no connector (node.lmcacheMiB: 0)",
            },
        ];
    }
    if (kvCacheMemoryBytes !== undefined && kvCacheMemoryBytes > cache.mostBytes) {
        return [
            {
                path: inputName("serving.kvCacheMemoryBytes"),
                value: kvCacheMemoryBytes,
                wrong: `is more than ${budgets} leave beside the weights`,
                accepted: `at most ${cache.mostBytes} (${(cache.mostBytes / GIB).toFixed(1)} GiB)`,
                fix: "lower it or leave it out",
            },
        ];
    }
    if (cache.sequences < 1) {
        return [
            {
                path: inputName("serving.maxModelLenTokens"),
                value: maxModelLenTokens,
                wrong:
                    cache.tokens > 0
                        ? `is more than the ${cache.tokens} tokens whose KV cache fits ${budgets}`
                        : `has no room: the KV cache of one token does not fit ${budgets}`,
                accepted: cache.tokens > 0 ? `at most ${cache.tokens}` : "a model that leaves room for its KV cache",
                fix: [cache.tokens > 0 ? "lower it" : "take a smaller or quantised model", ...ways].join(", or "),
            },
        ];
    }
    return [];
}
