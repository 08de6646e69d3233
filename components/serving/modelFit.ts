/**
 * What a model needs and what is left for its KV cache, from the memory plan. Pure functions; a
 * ceiling of the token rate from bytes and bandwidths, never a promise.
 */

/** A decoder's size, from its config.json and its files. */
export interface ModelShape {
    /** All weights in GiB, as loaded. */
    weightsGiB: number;
    /** Weights in GiB that one token reads: less than all in a mixture of experts. */
    activeWeightsGiB: number;
    /** `num_hidden_layers`. */
    layers: number;
    /** `num_key_value_heads`. */
    kvHeads: number;
    /** `head_dim`, or hidden_size / num_attention_heads. */
    headDim: number;
    /** Bytes of one cached value: 2 for bfloat16, 1 for FP8. */
    kvValueBytes: number;
}

/** vLLM's own flags that decide how much memory a model needs. */
export interface EngineLimits {
    maxModelLenTokens: number;
    maxNumSeqs: number;
    /** GPUs that share the weights and the cache: tensor times pipeline parallel size. */
    gpus: number;
    kvCacheMemoryBytes?: number | undefined;
}

export interface ModelFit {
    weightsHbmMiB: number;
    weightsHostMiB: number;
    /** KV cache of each GPU, in whole layers on one side or the other. */
    kvMiB: number;
    kvHbmMiB: number;
    /** KV cache of one token over all GPUs. */
    tokenBytes: number;
    tokens: number;
    /** Sequences of the longest context that fit at once. */
    sequences: number;
    /** Ceiling for one stream at a short context, tokens per second. */
    tokensPerSecond: number;
    /** By how many MiB the weights exceed all budgets; 0 where they fit. */
    missingMiB: number;
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

/** Budgets are those of one GPU; weights and cache divide evenly over the GPUs. */
export function fitModel(shape: ModelShape, limits: EngineLimits, hbmBudgetMiB: number, hostBudgetMiB: number): ModelFit {
    const weightsMiB = Math.ceil((shape.weightsGiB * 1024) / limits.gpus);
    const weightsHbmMiB = Math.min(weightsMiB, hbmBudgetMiB);
    const weightsHostMiB = Math.min(weightsMiB - weightsHbmMiB, hostBudgetMiB);
    const [hbmLeft, hostLeft] = [hbmBudgetMiB - weightsHbmMiB, hostBudgetMiB - weightsHostMiB];
    const cache = kvCache(hbmLeft * MIB, hostLeft * MIB, shape.layers);
    const kvBytes = Math.min(cache.bytes, limits.kvCacheMemoryBytes ?? cache.bytes);
    const tokenBytes = 2 * shape.layers * shape.kvHeads * shape.headDim * shape.kvValueBytes;
    const tokens = Math.floor((kvBytes * limits.gpus) / tokenBytes);
    const hostShare = weightsMiB === 0 ? 0 : weightsHostMiB / weightsMiB;
    const readBytes = (shape.activeWeightsGiB * 2 ** 30) / limits.gpus;
    const seconds = (readBytes * (1 - hostShare)) / bandwidth.hbm + (readBytes * hostShare) / bandwidth.link;
    return {
        weightsHbmMiB,
        weightsHostMiB,
        kvMiB: kvBytes / MIB,
        kvHbmMiB: (kvBytes / MIB) * (cache.layersInHbm / shape.layers),
        tokenBytes,
        tokens,
        sequences: Math.floor(tokens / limits.maxModelLenTokens),
        tokensPerSecond: 1 / seconds,
        missingMiB: weightsMiB - weightsHbmMiB - weightsHostMiB,
    };
}

/**
 * The largest cache of equal layers: one lies in HBM or on the host as a whole. With k layers in HBM each
 * may have hbm / k bytes and host / (layers - k). The launcher's own rule (managed_mem/plan.py, kv_bytes).
 */
export function kvCache(hbmBytes: number, hostBytes: number, layers: number): { bytes: number; layersInHbm: number } {
    let best = { bytes: 0, layersInHbm: 0 };
    for (let k = 0; k <= layers; k++) {
        const layer = Math.min(k > 0 ? Math.floor(hbmBytes / k) : Infinity, k < layers ? Math.floor(hostBytes / (layers - k)) : Infinity);
        const bytes = Math.floor(layer / segmentBytes) * segmentBytes * layers;
        if (bytes > best.bytes) {
            best = { bytes, layersInHbm: k };
        }
    }
    return best;
}

export function describeFit(fit: ModelFit, limits: EngineLimits): string[] {
    const each = limits.gpus > 1 ? " on each GPU" : "";
    return [
        `model: weights ${gib(fit.weightsHbmMiB)} in HBM and ${gib(fit.weightsHostMiB)} on the host${each}; KV cache ${gib(fit.kvMiB)}${each}, ` +
            `${fit.tokenBytes / 1024} KiB a token: ${fit.tokens.toLocaleString("en")} tokens fit, or ${fit.sequences} sequences of ${limits.maxModelLenTokens}` +
            (fit.sequences < limits.maxNumSeqs ? `; of ${limits.maxNumSeqs} at once the rest waits when all are long` : ""),
        `one stream: at most ${fit.tokensPerSecond.toPrecision(3)} tokens/s (active weights once a token at ${bandwidth.hbm / 1e12} TB/s from HBM, ` +
            `${bandwidth.link / 1e12} TB/s over the link)`,
    ];
}

function gib(mib: number): string {
    return `${(mib / 1024).toFixed(1)} GiB`;
}
