/** The layers of a decoder, by its model_type, as vLLM 0.19.0's class of it makes them. */
import { classDefaults, range, type Sizes } from "./configSizes";
import { feedForward, latentCache, latentProjections, type Layer, layerName, projections, windowOnDemand } from "./decoderParts";
import { hybrids } from "./hybridDecoders";
import { AttentionKind, type AttentionLayersArgs } from "./modelShapeArgs";
import { Unknown } from "./unknown";

/** Decoders of which each layer has attention of the common kind: keys and values for each head. */
const common = new Set(
    (
        "afmoe apertus arcee cohere cohere2 deepseek dots1 ernie4_5 ernie4_5_moe exaone4 gemma gemma2 gemma3_text gemma3n_text gemma4_text glm glm4 glm4_moe " +
        "glm4v_text glm4v_moe_text gpt_oss gpt_neox granite granitemoe granitemoeshared hunyuan_v1_dense hunyuan_v1_moe internlm2 internlm3 llama llama4_text minimax_m2 " +
        "ministral3 mistral mixtral nemotron olmo olmo2 olmo3 olmoe persimmon phi phi3 phimoe qwen2 qwen2_moe qwen2_vl qwen2_vl_text qwen2_5_vl qwen2_5_vl_text " +
        "qwen3 qwen3_moe qwen3_vl_text qwen3_vl_moe_text seed_oss smollm3 solar stablelm starcoder2"
    ).split(" "),
);

/** Those that vLLM caches as MLA (transformers_utils/model_arch_config_convertor.py, is_deepseek_mla). */
const latent = new Set("deepseek_v2 deepseek_v3 deepseek_v32 glm_moe_dsa glm4_moe_lite kimi_k2 pangu_ultra_moe".split(" "));

export function decoderLayers(sizes: Sizes): Layer[] {
    const { type } = sizes;
    if (sizes.config.is_encoder_decoder === true) {
        throw new Unknown("it has an encoder");
    }
    if (common.has(type)) {
        return attentionDecoder(sizes);
    }
    if (latent.has(type)) {
        return latentDecoder(sizes);
    }
    const hybrid = hybrids[type];
    if (hybrid !== undefined) {
        return hybrid(sizes);
    }
    throw new Unknown(type === "" ? "model_type is missing" : `model_type ${type}`);
}

function attentionDecoder(sizes: Sizes): Layer[] {
    const kinds = layerKinds(sizes);
    const own = sizes.layers - (sizes.maybe("num_kv_shared_layers") ?? classDefaults[sizes.type]?.num_kv_shared_layers ?? 0);
    return kinds.map((kind, index) => {
        const { kvHeads, headDim } = headsOf(sizes, kind);
        const cache =
            kind === AttentionKind.Full
                ? { kind, kvHeads, headDim }
                : { kind, kvHeads, headDim, windowTokens: sizes.need(kind === AttentionKind.Sliding ? "sliding_window" : "attention_chunk_size") };
        return { cache: index < own ? [cache] : [], matrices: () => [...projections(sizes, index, kvHeads, headDim), ...feedForward(sizes, index)] };
    });
}

/** Gemma 4's layers with full attention have heads of their own. */
function headsOf(sizes: Sizes, kind: AttentionKind): { kvHeads: number; headDim: number } {
    if (sizes.type !== "gemma4_text" || kind !== AttentionKind.Full) {
        return { kvHeads: sizes.kvHeads, headDim: sizes.headDim };
    }
    const shared = sizes.config.attention_k_eq_v === true ? sizes.maybe("num_global_key_value_heads") : undefined;
    return { kvHeads: shared ?? sizes.kvHeads, headDim: sizes.maybe("global_head_dim") ?? sizes.headDim };
}

/** Of how many layers one has full attention, where the class decides and config.json names no layer. */
const fullEvery: Readonly<Record<string, number>> = { gemma2: 2, gemma3_text: 6, gemma3n_text: 5, gpt_oss: 2, cohere2: 4, llama4_text: 4 };

const namedKinds: Readonly<Record<string, AttentionKind>> = {
    full_attention: AttentionKind.Full,
    sliding_attention: AttentionKind.Sliding,
    chunked_attention: AttentionKind.Chunked,
};

/** What each layer sees, by its name or by the class's rule. */
function layerKinds(sizes: Sizes): AttentionKind[] {
    const named = sizes.list("layer_types");
    const bounded = sizes.type === "llama4_text" ? AttentionKind.Chunked : AttentionKind.Sliding;
    const window = sizes.maybe(bounded === AttentionKind.Chunked ? "attention_chunk_size" : "sliding_window") ?? classDefaults[sizes.type]?.sliding_window;
    const each = (isBounded: (index: number) => boolean) => range(sizes.layers).map((index) => (isBounded(index) ? bounded : AttentionKind.Full));
    if (window === undefined || (windowOnDemand.test(sizes.type) && sizes.config.use_sliding_window !== true)) {
        return each(() => false);
    }
    if (named !== undefined) {
        return range(sizes.layers).map((index) => namedKinds[layerName(named, index, Object.keys(namedKinds))]!);
    }
    const withoutRope = sizes.list("no_rope_layers");
    if (bounded === AttentionKind.Chunked && withoutRope !== undefined && withoutRope.length > 0) {
        return each((index) => withoutRope[index] === 1);
    }
    const pattern = sizes.maybe("sliding_window_pattern", "_sliding_window_pattern") ?? fullEvery[sizes.type];
    if (pattern !== undefined) {
        return each((index) => (index + 1) % pattern !== 0);
    }
    if (windowOnDemand.test(sizes.type)) {
        const first = sizes.maybe("max_window_layers") ?? 0;
        return each((index) => index >= first);
    }
    return each(() => true);
}

/** Values that share one scale in the sparse indexer's cache (model_executor/models/deepseek_v2.py). */
const indexerBlock = 128;

function latentDecoder(sizes: Sizes): Layer[] {
    const cache: Omit<AttentionLayersArgs, "layers">[] = [latentCache(sizes)];
    if (sizes.maybe("index_topk") !== undefined) {
        const width = sizes.need("index_head_dim");
        cache.push({ kind: AttentionKind.Latent, headDim: width + Math.floor(width / indexerBlock) * 4, valueBytes: 1 });
    }
    return range(sizes.layers).map((index) => ({ cache, matrices: () => [...latentProjections(sizes, index), ...feedForward(sizes, index)] }));
}
