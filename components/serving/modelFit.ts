/**
 * What a model needs and what is left for its KV cache, from the memory plan. Pure functions; a
 * ceiling of the token rate from bytes and bandwidths, never a promise.
 */
import { gib } from "../node/describe";
import { cacheLayout, type CacheTerms, longestSequence, sequenceBlocks, tokenBytes } from "./kvCache";
import type { AttentionLayersArgs } from "./modelShapeArgs";

/** A decoder's size. */
export interface ModelShape {
    /** All weights in GiB, as loaded. */
    weightsGiB: number;
    /** Weights in GiB that one token reads: less than all in a mixture of experts. */
    activeWeightsGiB: number;
    /** What the layers remember; undefined where it is not known. */
    attention: readonly AttentionLayersArgs[] | undefined;
}

/** vLLM's own flags that decide how much memory a model needs. */
export interface EngineLimits extends CacheTerms {
    maxModelLenTokens: number;
    maxNumSeqs: number;
    /** KV cache of each GPU; all that the budgets leave where absent. */
    kvCacheMemoryBytes?: number | undefined;
    /** Whether the host memory beside the weights is a tier for prefixes; the cache then lies in HBM alone. */
    prefixTier?: boolean | undefined;
}

export interface ModelFit {
    weightsHbmMiB: number;
    weightsHostMiB: number;
    /** Host memory of each GPU in which vLLM keeps prefixes that left the HBM. */
    prefixTierMiB: number;
    /** By how many MiB the weights exceed all budgets; 0 where they fit. */
    missingMiB: number;
    /** Ceiling for one stream at a short context, tokens per second. */
    tokensPerSecond: number;
    /** undefined where it is not known what the layers remember. */
    cache: CacheFit | undefined;
}

export interface CacheFit {
    /** KV cache of each GPU. */
    kvMiB: number;
    kvHbmMiB: number;
    /** The largest that the budgets leave beside the weights. */
    mostBytes: number;
    /** What a token adds to a long sequence, over all GPUs. */
    tokenBytes: number;
    /** What a sequence of the longest context needs besides, whatever its length: windows and states. */
    sequenceBytes: number;
    /** The longest sequence that fits; Infinity where no length needs more. */
    tokens: number;
    /** Sequences of the longest context that run at once. With all weights in HBM, those that HBM can hold wait for it (managed_mem/blocks.py). */
    sequences: number;
    /** Why vLLM would refuse the model with these settings. */
    refused?: string;
}

const MIB = 2 ** 20;
/** Segments are multiples of 2 MiB (assets/vllm/managed_mem/worker.py). */
const segmentBytes = 2 * MIB;

/**
 * Bytes per second. HBM: 3.72e12 of 4.0e12 reached by BabelStream on a GH200 96 GB. Link: 0.33e12, what
 * GPU kernels reach in reading LPDDR (0.328 to 0.339e12). dnhkng.github.io, 2026-04, driver 580.105.08.
 * The 900 GB/s of the data sheet are both directions of the link added; LPDDR5X gives 384e9.
 */
export const bandwidth = { hbm: 3.72e12, link: 0.33e12 };

/** Budgets are those of one GPU; weights divide evenly over the GPUs, the cache as vLLM divides it. */
export function fitModel(shape: ModelShape, limits: EngineLimits, hbmBudgetMiB: number, hostBudgetMiB: number): ModelFit {
    const gpus = limits.tensorParallelSize * limits.pipelineParallelSize;
    const weightsMiB = Math.ceil((shape.weightsGiB * 1024) / gpus);
    const weightsHbmMiB = Math.min(weightsMiB, hbmBudgetMiB);
    const weightsHostMiB = Math.min(weightsMiB - weightsHbmMiB, hostBudgetMiB);
    const [hbmLeft, hostLeft] = [hbmBudgetMiB - weightsHbmMiB, hostBudgetMiB - weightsHostMiB];
    const prefixTierMiB = limits.prefixTier === true ? hostLeft : 0;
    const hostShare = weightsMiB === 0 ? 0 : weightsHostMiB / weightsMiB;
    const readBytes = (shape.activeWeightsGiB * 2 ** 30) / gpus;
    const seconds = (readBytes * (1 - hostShare)) / bandwidth.hbm + (readBytes * hostShare) / bandwidth.link;
    return {
        weightsHbmMiB,
        weightsHostMiB,
        prefixTierMiB,
        missingMiB: weightsMiB - weightsHbmMiB - weightsHostMiB,
        tokensPerSecond: 1 / seconds,
        cache: shape.attention && fitCache(shape.attention, limits, hbmLeft * MIB, (hostLeft - prefixTierMiB) * MIB, weightsHostMiB > 0),
    };
}

function fitCache(attention: readonly AttentionLayersArgs[], limits: EngineLimits, hbmBytes: number, hostBytes: number, weightsSpill: boolean): CacheFit {
    const layout = cacheLayout(attention, limits);
    if ("refused" in layout) {
        return { kvMiB: 0, kvHbmMiB: 0, mostBytes: 0, tokenBytes: 0, sequenceBytes: 0, tokens: 0, sequences: 0, refused: layout.refused };
    }
    const most = kvCache(hbmBytes, hostBytes, layout.layers);
    const kvBytes = Math.min(most.bytes, limits.kvCacheMemoryBytes ?? most.bytes);
    const blocks = (bytes: number) => (layout.blockBytes === 0 ? 0 : Math.floor(bytes / layout.blockBytes));
    const available = blocks(kvBytes);
    const inHbm = blocks(Math.min(kvBytes, most.hbmBytes));
    const { maxModelLenTokens, maxBatchedTokens } = limits;
    const needed = sequenceBlocks(layout, maxModelLenTokens, maxBatchedTokens);
    const perToken = tokenBytes(layout);
    const gpus = limits.tensorParallelSize * limits.pipelineParallelSize;
    return {
        kvMiB: kvBytes / MIB,
        kvHbmMiB: Math.min(kvBytes, most.hbmBytes) / MIB,
        mostBytes: most.bytes,
        tokenBytes: perToken * gpus,
        sequenceBytes: layout.groups.length === 1 && perToken > 0 ? 0 : (needed * layout.blockBytes - maxModelLenTokens * perToken) * gpus,
        tokens: longestSequence(layout, available, maxBatchedTokens),
        sequences: needed === 0 ? Infinity : Math.floor((weightsSpill || needed > inHbm ? available : inHbm) / needed),
    };
}

/**
 * The largest cache that fits, and its part in HBM, which is filled first. A tensor can lie on both sides, so that only roundings are
 * lost: two segments for each layer. The launcher's own rule (managed_mem/plan.py, kv_bytes).
 */
export function kvCache(hbmBytes: number, hostBytes: number, layers: number): { bytes: number; hbmBytes: number } {
    const bytes = Math.max(0, hbmBytes + hostBytes - 2 * segmentBytes * layers);
    return { bytes, hbmBytes: Math.min(bytes, hbmBytes) };
}

export function describeFit(fit: ModelFit, limits: EngineLimits): string[] {
    const each = limits.tensorParallelSize * limits.pipelineParallelSize > 1 ? " on each GPU" : "";
    return [
        `model: weights ${gib(fit.weightsHbmMiB)} in HBM and ${gib(fit.weightsHostMiB)} on the host${each}; ${describeCache(fit.cache, limits, each)}`,
        ...(fit.prefixTierMiB > 0 ? [describeTier(fit, each)] : []),
        `one stream: at most ${fit.tokensPerSecond.toPrecision(3)} tokens/s (active weights once a token at ${bandwidth.hbm / 1e12} TB/s from HBM, ` +
            `${bandwidth.link / 1e12} TB/s over the link)`,
    ];
}

function describeTier({ prefixTierMiB, cache }: ModelFit, each: string): string {
    const tokens =
        cache === undefined || cache.tokenBytes === 0 ? "" : `, about ${Math.floor((prefixTierMiB * MIB) / cache.tokenBytes).toLocaleString("en")} tokens`;
    return `prefixes: ${gib(prefixTierMiB)} of host memory${each} keep what left the HBM${tokens}, and give it back when it is asked for again`;
}

function describeCache(cache: CacheFit | undefined, limits: EngineLimits, each: string): string {
    if (cache === undefined) {
        return "KV cache unchecked: modelShape does not say what the layers remember (attention)";
    }
    if (cache.refused !== undefined) {
        return `no KV cache: ${cache.refused}`;
    }
    const growth = [
        ...(cache.tokenBytes > 0 ? [`${round(cache.tokenBytes / 1024)} KiB a token`] : []),
        ...(cache.sequenceBytes > 0 ? [`${round(cache.sequenceBytes / MIB)} MiB a sequence`] : []),
    ];
    const longest = cache.tokens === Infinity ? "any context fits" : `${cache.tokens.toLocaleString("en")} tokens fit`;
    return (
        `KV cache ${gib(cache.kvMiB)}${each}, ${growth.join(" and ")}: ${longest}, or ${cache.sequences} sequences of ${limits.maxModelLenTokens}` +
        (cache.sequences < limits.maxNumSeqs ? `; of ${limits.maxNumSeqs} at once the rest waits when all are long` : "")
    );
}

function round(value: number): number {
    return Number(value.toPrecision(4));
}
