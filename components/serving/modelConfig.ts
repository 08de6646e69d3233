/**
 * What a model's own config.json, of the Hugging Face kind, says of its memory. Pure functions over the
 * parsed text; how each kind is cached is read from vLLM 0.19.0's model classes, and tests/runtime/test_kv_cache.py
 * holds these functions to them.
 */
import { asConfig, asText, type ModelConfig } from "./configJson";
import { AttentionKind, type AttentionLayersArgs } from "./modelShapeArgs";
import { quantizedWeights } from "./quantization";

export interface ReadModel {
    /** What the layers remember; undefined where it is not known. */
    attention: AttentionLayersArgs[] | undefined;
    /** Why it is not known, in a few words. */
    unknown?: string;
    /** Bytes of one cached value, where the checkpoint sets them. */
    kvValueBytes?: number;
    /** Longest context that vLLM accepts. */
    maxPositionTokens?: number;
    /** Bytes of the decoder's weights and of those that one token reads; undefined where they cannot be computed. */
    weights?: { bytes: number; activeBytes: number };
}

/** One layer: what it remembers, and the sizes of its matrices. */
interface Layer {
    cache: readonly Omit<AttentionLayersArgs, "layers">[];
    /** Its matrices; asked for where weights are counted, which needs more sizes than the cache does. */
    matrices: () => readonly Matrix[];
}

interface Matrix {
    module: string;
    values: number;
    /** The part that one token reads. Default: 1. */
    active?: number;
}

class Unknown extends Error {}

/** Keys below which a model that also sees or hears keeps its decoder. */
const decoderKeys = ["text_config", "llm_config", "language_config"];

export function readModelConfig(config: ModelConfig): ReadModel {
    const text = decoder(config);
    const maxPositionTokens = longestContext(text);
    const kvValueBytes = checkpointCacheBytes(config, text);
    const facts = { ...(maxPositionTokens !== undefined && { maxPositionTokens }), ...(kvValueBytes !== undefined && { kvValueBytes }) };
    const sizes = new Sizes(text);
    const read = known(() => {
        const layers = decoderLayers(sizes);
        return { layers, attention: grouped(layers) };
    });
    return "unknown" in read
        ? { ...facts, attention: undefined, unknown: read.unknown }
        : { ...facts, attention: read.value.attention, ...weightsOf(config, sizes, read.value.layers) };
}

/** What can be read, or why not. */
function known<T>(reading: () => T): { value: T } | { unknown: string } {
    try {
        return { value: reading() };
    } catch (error) {
        if (error instanceof Unknown) {
            return { unknown: error.message };
        }
        throw error;
    }
}

function decoder(config: ModelConfig): ModelConfig {
    const outer = asConfig(config.thinker_config) ?? config;
    const inner = decoderKeys.map((key) => asConfig(outer[key])).find((found) => found !== undefined);
    return inner === undefined ? outer : { model_type: `${asText(outer.model_type) ?? ""}_text`, ...inner };
}

/** More layers than any decoder has: a mistake in the file. */
const mostLayers = 4096;

/** The decoder's numbers, each checked where it is asked for. */
class Sizes {
    readonly type: string;

    constructor(readonly config: ModelConfig) {
        this.type = asText(config.model_type) ?? "";
    }

    /** The first of these that is a number; undefined where none is. */
    maybe(...keys: string[]): number | undefined {
        const key = keys.find((name) => typeof this.config[name] === "number");
        const value = key === undefined ? undefined : (this.config[key] as number);
        if (value !== undefined && (!Number.isInteger(value) || value < 0)) {
            throw new Unknown(`${key} is ${value}`);
        }
        return value;
    }

    /** A whole number of one or more. */
    need(...keys: string[]): number {
        const value = this.maybe(...keys) ?? classDefaults[this.type]?.[keys[0]!];
        if (value === undefined || !Number.isInteger(value) || value < 1) {
            throw new Unknown(`${keys[0]} ${value === undefined ? "is missing" : `is ${value}`}`);
        }
        return value;
    }

    list(key: string): unknown[] | undefined {
        const value = this.config[key];
        return Array.isArray(value) ? value : undefined;
    }

    get layers(): number {
        const layers = this.need("num_hidden_layers");
        if (layers > mostLayers) {
            throw new Unknown(`num_hidden_layers is ${layers}`);
        }
        return layers;
    }
    get hidden(): number {
        return this.need("hidden_size");
    }
    get heads(): number {
        return this.need("num_attention_heads");
    }
    get kvHeads(): number {
        return this.maybe("num_key_value_heads") ?? classDefaults[this.type]?.num_key_value_heads ?? this.heads;
    }
    get headDim(): number {
        return this.maybe("head_dim", "attention_head_dim") ?? classDefaults[this.type]?.head_dim ?? this.hidden / this.heads;
    }
}

/** What the classes of transformers 4.57.6 take where a config.json of theirs says nothing. */
const classDefaults: Readonly<Record<string, Readonly<Record<string, number>>>> = {
    gemma3_text: {
        num_attention_heads: 8,
        num_key_value_heads: 4,
        head_dim: 256,
        num_hidden_layers: 26,
        hidden_size: 2304,
        intermediate_size: 9216,
        vocab_size: 262208,
        sliding_window: 4096,
        max_position_embeddings: 131072,
    },
    gemma3n_text: {
        num_attention_heads: 8,
        num_key_value_heads: 2,
        head_dim: 256,
        num_hidden_layers: 35,
        num_kv_shared_layers: 15,
        hidden_size: 2048,
        sliding_window: 512,
        max_position_embeddings: 32768,
    },
    gemma2: { num_attention_heads: 8, num_key_value_heads: 4, head_dim: 256, sliding_window: 4096 },
    gemma: { head_dim: 256 },
};

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

function decoderLayers(sizes: Sizes): Layer[] {
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

// Attention of the common kind -----------------------------------------------------------------------------------------

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
/** Classes that read `sliding_window` only where `use_sliding_window` is true. */
const windowOnDemand = /^qwen(2|3)/;

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

function layerName(named: unknown[], index: number, known: string[]): string {
    const name = named[index];
    if (typeof name !== "string" || !known.includes(name)) {
        throw new Unknown(`layer_types has ${JSON.stringify(name)} for layer ${index}`);
    }
    return name;
}

function projections(sizes: Sizes, index: number, kvHeads = sizes.kvHeads, headDim = sizes.headDim): Matrix[] {
    const { hidden, heads } = sizes;
    const gate = sizes.config.attn_output_gate === true || sizes.type === "qwen3_next" ? 2 : 1;
    return [{ module: `layers.${index}.self_attn.q_proj`, values: hidden * headDim * (heads * (1 + gate) + 2 * kvHeads) }];
}

// MLA ------------------------------------------------------------------------------------------------------------------

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

function latentCache(sizes: Sizes): Omit<AttentionLayersArgs, "layers"> {
    return { kind: AttentionKind.Latent, headDim: sizes.need("kv_lora_rank") + (sizes.maybe("qk_rope_head_dim") ?? 0) };
}

function latentProjections(sizes: Sizes, index: number): Matrix[] {
    const { hidden, heads } = sizes;
    const [rope, plain, value, rank] = [
        sizes.maybe("qk_rope_head_dim") ?? 0,
        sizes.need("qk_nope_head_dim"),
        sizes.need("v_head_dim"),
        sizes.need("kv_lora_rank"),
    ];
    const queryRank = sizes.maybe("q_lora_rank");
    const queries = queryRank === undefined ? hidden * heads * (plain + rope) : queryRank * (hidden + heads * (plain + rope));
    const [indexHeads, indexDim] = [sizes.maybe("index_n_heads") ?? 0, sizes.maybe("index_head_dim") ?? 0];
    const indexer = (queryRank ?? hidden) * indexHeads * indexDim + hidden * (indexDim + indexHeads);
    return [
        { module: `layers.${index}.self_attn.q_b_proj`, values: queries + hidden * (rank + rope) + rank * heads * (plain + value) + heads * value * hidden },
        { module: `layers.${index}.self_attn.indexer.wk`, values: indexer },
    ];
}

// States beside attention ----------------------------------------------------------------------------------------------

const hybrids: Readonly<Record<string, (sizes: Sizes) => Layer[]>> = {
    qwen3_next: deltaNet,
    qwen3_5_text: deltaNet,
    qwen3_5_moe_text: deltaNet,
    kimi_linear: kimiLinear,
    nemotron_h: nemotron,
    jamba,
    bamba,
    granitemoehybrid: (sizes) => mamba2Layers(sizes, (index) => sizes.list("layer_types")?.[index]),
    falcon_h1: (sizes) => mamba2Layers(sizes, () => "attention").map((layer) => ({ ...layer, cache: [...layer.cache, mamba2(sizes).cache] })),
    lfm2: shortConvolutions,
    lfm2_moe: shortConvolutions,
    mimo_v2_flash: mimo,
};

/** Bytes of a value of a recurrent state; the model's own type where the config names none. */
function stateValueBytes(sizes: Sizes, key: string, otherwise: string): number {
    const name = asText(sizes.config[key]) ?? otherwise;
    return name === "float32" ? 4 : 2;
}

function state(stateBytes: number): Omit<AttentionLayersArgs, "layers"> {
    return { kind: AttentionKind.State, stateBytes };
}

function full(sizes: Sizes): Omit<AttentionLayersArgs, "layers"> {
    return { kind: AttentionKind.Full, kvHeads: sizes.kvHeads, headDim: sizes.headDim };
}

/** Qwen3-Next and Qwen3.5: gated delta nets, and full attention in every fourth layer. */
function deltaNet(sizes: Sizes): Layer[] {
    const [keyHeads, valueHeads] = [sizes.need("linear_num_key_heads"), sizes.need("linear_num_value_heads")];
    const [keyDim, valueDim] = [sizes.need("linear_key_head_dim"), sizes.need("linear_value_head_dim")];
    const width = 2 * keyHeads * keyDim + valueHeads * valueDim;
    const recurrent = valueHeads * valueDim * keyDim * stateValueBytes(sizes, "mamba_ssm_dtype", "auto");
    const cache = state(width * (sizes.need("linear_conv_kernel_dim") - 1) * 2 + recurrent);
    const named = sizes.list("layer_types");
    const interval = sizes.maybe("full_attention_interval") ?? 4;
    return range(sizes.layers).map((index) => {
        const linear =
            named === undefined ? (index + 1) % interval !== 0 : layerName(named, index, ["linear_attention", "full_attention"]) === "linear_attention";
        const values = sizes.hidden * (width + 2 * valueHeads * valueDim + 2 * valueHeads);
        return {
            cache: [linear ? cache : full(sizes)],
            matrices: () => [
                ...(linear ? [{ module: `layers.${index}.linear_attn.in_proj_qkvz`, values }] : projections(sizes, index)),
                ...feedForward(sizes, index),
            ],
        };
    });
}

/** Kimi Linear: delta attention with three convolutions, and MLA in the layers that are named. */
function kimiLinear(sizes: Sizes): Layer[] {
    const linear = new Sizes(asConfig(sizes.config.linear_attn_config) ?? {});
    const [heads, dim, kernel] = [linear.need("num_heads"), linear.need("head_dim"), linear.need("short_conv_kernel_size")];
    const cache = state(3 * heads * dim * (kernel - 1) * 2 + heads * dim * dim * 4);
    const delta = new Set(linear.list("kda_layers") ?? []);
    return range(sizes.layers).map((index) => {
        const isDelta = delta.has(index + 1);
        const values = sizes.hidden * heads * (6 * dim + 1);
        return {
            cache: [isDelta ? cache : latentCache(sizes)],
            matrices: () => [
                ...(isDelta ? [{ module: `layers.${index}.self_attn.q_proj`, values }] : latentProjections(sizes, index)),
                ...feedForward(sizes, index),
            ],
        };
    });
}

interface Mamba {
    cache: Omit<AttentionLayersArgs, "layers">;
    values: number;
}

/** Convolution over the input and two groups of states, and the recurrent state of each head (MambaStateShapeCalculator.mamba2_state_shape). */
function mamba2(sizes: Sizes): Mamba {
    const heads = sizes.need("mamba_num_heads", "mamba_n_heads");
    const dim = sizes.need("mamba_head_dim", "mamba_d_head");
    const width = sizes.type === "nemotron_h" ? heads * dim : (sizes.maybe("mamba_d_ssm") ?? (sizes.maybe("mamba_expand") ?? 2) * sizes.hidden);
    const [groups, states, kernel] = [
        sizes.need("n_groups", "mamba_n_groups"),
        sizes.need("ssm_state_size", "mamba_d_state"),
        sizes.need("conv_kernel", "mamba_d_conv"),
    ];
    // NemotronHForCausalLMConfig takes float16 where config.json names no type.
    const recurrentBytes = sizes.type === "nemotron_h" ? stateValueBytes(sizes, "mamba_ssm_cache_dtype", "float16") : 2;
    return {
        cache: state((width + 2 * groups * states) * (kernel - 1) * 2 + heads * dim * states * recurrentBytes),
        values: sizes.hidden * (2 * width + 2 * groups * states + heads) + width * sizes.hidden,
    };
}

function mamba2Layers(sizes: Sizes, kindOf: (index: number) => unknown): Layer[] {
    const mamba = mamba2(sizes);
    return range(sizes.layers).map((index) => {
        const kind = kindOf(index);
        if (kind !== "mamba" && kind !== "attention") {
            throw new Unknown(`layer ${index} is ${JSON.stringify(kind)}`);
        }
        const matrices = kind === "mamba" ? [{ module: `layers.${index}.mamba.in_proj`, values: mamba.values }] : projections(sizes, index);
        return { cache: [kind === "mamba" ? mamba.cache : full(sizes)], matrices: () => [...matrices, ...feedForward(sizes, index)] };
    });
}

function bamba(sizes: Sizes): Layer[] {
    const attention = new Set(sizes.list("attn_layer_indices") ?? []);
    return mamba2Layers(sizes, (index) => (attention.has(index) ? "attention" : "mamba"));
}

/** Nemotron-H: one letter for each layer, which is a Mamba, attention, a feed-forward block or experts. */
function nemotron(sizes: Sizes): Layer[] {
    const letters = asText(sizes.config.hybrid_override_pattern);
    if (letters === undefined) {
        throw new Unknown("hybrid_override_pattern is missing");
    }
    const mamba = mamba2(sizes);
    const kinds: Record<string, (index: number) => Layer> = {
        M: (index) => ({ cache: [mamba.cache], matrices: () => [{ module: `layers.${index}.mixer.in_proj`, values: mamba.values }] }),
        "*": (index) => ({
            cache: [full(sizes)],
            matrices: () => projections(sizes, index).map((matrix) => ({ ...matrix, module: `layers.${index}.mixer.q_proj` })),
        }),
        "-": (index) => ({
            cache: [],
            matrices: () => [{ module: `layers.${index}.mixer.up_proj`, values: 2 * sizes.hidden * sizes.need("intermediate_size") }],
        }),
        E: (index) => ({ cache: [], matrices: () => experts(sizes, `layers.${index}.mixer`, 2) }),
    };
    return [...letters].map((letter, index) => {
        const kind = kinds[letter];
        if (kind === undefined) {
            throw new Unknown(`hybrid_override_pattern has ${JSON.stringify(letter)}`);
        }
        return kind(index);
    });
}

/** Jamba: Mamba of the first kind, and attention in one layer of each period. */
function jamba(sizes: Sizes): Layer[] {
    const width = (sizes.maybe("mamba_expand") ?? 2) * sizes.hidden;
    const [states, kernel] = [sizes.need("mamba_d_state"), sizes.need("mamba_d_conv")];
    const rank = sizes.maybe("mamba_dt_rank") ?? Math.ceil(sizes.hidden / 16);
    const [period, offset] = [sizes.need("attn_layer_period"), sizes.maybe("attn_layer_offset") ?? 0];
    const cache = state(width * (kernel - 1) * 2 + width * states * 2);
    const values = 3 * sizes.hidden * width + width * (rank + 2 * states) + rank * width;
    return range(sizes.layers).map((index) => {
        const isMamba = index % period !== offset;
        const matrices = isMamba ? [{ module: `layers.${index}.mamba.in_proj`, values }] : projections(sizes, index);
        return { cache: [isMamba ? cache : full(sizes)], matrices: () => [...matrices, ...feedForward(sizes, index)] };
    });
}

/** LFM2: a short convolution in the layers without attention. */
function shortConvolutions(sizes: Sizes): Layer[] {
    const width = sizes.maybe("conv_dim") ?? sizes.hidden;
    const cache = state(width * (sizes.need("conv_L_cache") - 1) * 2);
    const named = sizes.list("layer_types") ?? [];
    return range(sizes.layers).map((index) => {
        const convolves = layerName(named, index, ["conv", "full_attention"]) === "conv";
        const values = 3 * sizes.hidden * width + width * sizes.hidden;
        return {
            cache: [convolves ? cache : full(sizes)],
            matrices: () => [...(convolves ? [{ module: `layers.${index}.conv.in_proj`, values }] : projections(sizes, index)), ...feedForward(sizes, index)],
        };
    });
}

/** MiMo-V2-Flash: windows with heads of their own; vLLM pads the values to the keys' size. */
function mimo(sizes: Sizes): Layer[] {
    const pattern = sizes.list("hybrid_layer_pattern") ?? [];
    return range(sizes.layers).map((index) => {
        const sliding = pattern[index] === 1;
        const [kvHeads, headDim] = sliding ? [sizes.need("swa_num_key_value_heads"), sizes.need("swa_head_dim")] : [sizes.kvHeads, sizes.headDim];
        const cache = sliding
            ? { kind: AttentionKind.Sliding, kvHeads, headDim, windowTokens: sizes.need("sliding_window_size", "sliding_window") }
            : { kind: AttentionKind.Full, kvHeads, headDim };
        return { cache: [cache], matrices: () => [...projections(sizes, index, kvHeads, headDim), ...feedForward(sizes, index)] };
    });
}

// Feed-forward blocks --------------------------------------------------------------------------------------------------

/** Experts, one way or the other: DeepSeek's, Qwen's, Mixtral's, Llama's, Jamba's and Gemma's names. */
const expertCounts = ["n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"];
const expertsOfToken = ["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_k", "moe_topk"];
/** A block with a gate has three matrices, one without has two. */
const withoutGate = new Set(["nemotron", "persimmon", "phi", "gpt_neox", "starcoder2"]);

function feedForward(sizes: Sizes, index: number): Matrix[] {
    const matrices = withoutGate.has(sizes.type) ? 2 : 3;
    const sparse = hasExperts(sizes, index) ? experts(sizes, `layers.${index}.mlp`, matrices) : [];
    // Gemma 4 has both in each layer.
    if (sparse.length > 0 && sizes.type !== "gemma4_text") {
        return sparse;
    }
    const width = (sizes.type === "llama4_text" ? sizes.maybe("intermediate_size_mlp") : undefined) ?? sizes.need("intermediate_size");
    return [{ module: `layers.${index}.mlp.gate_proj`, values: matrices * sizes.hidden * width }, ...sparse];
}

function hasExperts(sizes: Sizes, index: number): boolean {
    if ((sizes.maybe(...expertCounts) ?? 0) <= 1 || index < (sizes.maybe("first_k_dense_replace", "num_dense_layers") ?? 0)) {
        return false;
    }
    if (sizes.list("mlp_only_layers")?.includes(index) === true) {
        return false;
    }
    const frequency = sizes.list("moe_layer_freq");
    if (frequency !== undefined) {
        return frequency[index] === 1;
    }
    if (sizes.type === "jamba") {
        return index % (sizes.maybe("expert_layer_period") ?? 2) === (sizes.maybe("expert_layer_offset") ?? 1);
    }
    const step = sizes.maybe("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_freq", "moe_layer_interval") ?? 1;
    return windowOnDemand.test(sizes.type) || sizes.type === "llama4_text" ? (index + 1) % step === 0 : index % step === 0;
}

function experts(sizes: Sizes, module: string, matrices: number): Matrix[] {
    const { hidden } = sizes;
    const [all, chosen] = [sizes.need(...expertCounts), sizes.need(...expertsOfToken)];
    const width = sizes.maybe("moe_intermediate_size", "expert_ffn_hidden_size") ?? sizes.need("intermediate_size");
    const sharedWidth =
        sizes.maybe("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size") ??
        (sizes.type === "llama4_text" ? width : (sizes.maybe("n_shared_experts", "num_shared_experts", "moe_num_shared_experts") ?? 0) * width);
    return [
        { module: `${module}.experts.0.gate_proj`, values: all * matrices * hidden * width, active: Math.min(1, chosen / all) },
        { module: `${module}.shared_experts.gate_proj`, values: matrices * hidden * sharedWidth },
        { module: `${module}.gate`, values: hidden * all },
    ];
}

// What follows from the layers -----------------------------------------------------------------------------------------

function grouped(layers: Layer[]): AttentionLayersArgs[] {
    const groups = new Map<string, AttentionLayersArgs>();
    for (const cache of layers.flatMap((layer) => layer.cache)) {
        const key = JSON.stringify(cache);
        groups.set(key, { ...cache, layers: (groups.get(key)?.layers ?? 0) + 1 });
    }
    return [...groups.values()].map(whole);
}

/** Nothing is made of sizes that cannot be. */
function whole(group: AttentionLayersArgs): AttentionLayersArgs {
    const wrong = Object.entries(group).find(([, value]) => typeof value === "number" && (!Number.isSafeInteger(value) || value < 1));
    if (wrong !== undefined) {
        throw new Unknown(`${wrong[0]} would be ${wrong[1]}`);
    }
    return group;
}

/** Gemma 3n and 4 have matrices for each layer's own embeddings, which are not counted here. */
const uncounted = new Set(["gemma3n_text"]);

function weightsOf(config: ModelConfig, sizes: Sizes, layers: Layer[]): Pick<ReadModel, "weights"> {
    const bytesOf = quantizedWeights(config);
    const counted = known(() => {
        if (uncounted.has(sizes.type) || (sizes.maybe("hidden_size_per_layer_input") ?? 0) > 0) {
            throw new Unknown("each layer has embeddings of its own");
        }
        return { matrices: layers.flatMap((layer) => layer.matrices()), vocabulary: sizes.need("vocab_size"), hidden: sizes.hidden };
    });
    if (bytesOf === undefined || "unknown" in counted) {
        return {};
    }
    const { matrices, vocabulary, hidden } = counted.value;
    const weigh = (matrix: Matrix) => (/\.gate$/.test(matrix.module) ? 2 : bytesOf(matrix.module)) * matrix.values;
    const embedding = 2 * vocabulary * hidden;
    const tied = (sizes.config.tie_word_embeddings ?? config.tie_word_embeddings ?? tiedByClass.test(sizes.type)) === true;
    const all = matrices.reduce((total, matrix) => total + weigh(matrix), 0);
    const active = matrices.reduce((total, matrix) => total + weigh(matrix) * (matrix.active ?? 1), 0);
    if (!(all > 0) || !Number.isFinite(all)) {
        return {};
    }
    // Of the embeddings at the start a token reads one row, of those at the end all.
    return { weights: { bytes: all + embedding * (tied ? 1 : 2), activeBytes: active + embedding } };
}

/** Classes whose first and last embeddings are one, where config.json does not say. */
const tiedByClass = /^(gemma|cohere)/;

/** Where a longest context may stand; vLLM takes the least of them, and `model_max_length` before all. */
const lengthKeys = ["max_position_embeddings", "n_positions", "max_seq_len", "seq_length", "max_sequence_length", "max_seq_length", "seq_len"];

/** As vLLM derives it (config/model.py, _get_and_verify_max_len), for a model that is not pooling. */
function longestContext(text: ModelConfig): number | undefined {
    const type = asText(text.model_type) ?? "";
    const given = (key: string) => (typeof text[key] === "number" ? text[key] : undefined);
    const lengths = lengthKeys.map((key) => given(key) ?? classDefaults[type]?.[key]).filter((length) => length !== undefined);
    const most = given("model_max_length") ?? (lengths.length === 0 ? undefined : Math.min(...lengths));
    const rope = asConfig(text.rope_scaling) ?? asConfig(text.rope_parameters);
    const scaled = most === undefined || rope === undefined || type.includes("gemma3") ? most : ropeScaled(most, rope);
    return scaled !== undefined && scaled >= 1 && Number.isSafeInteger(Math.floor(scaled)) ? Math.floor(scaled) : undefined;
}

function ropeScaled(most: number, rope: ModelConfig): number {
    // One rope for all layers, or one for each kind of them.
    const kinds = [rope, ...Object.values(rope)].map(asConfig).filter((kind) => kind !== undefined);
    let [longest, factor] = [most, 1];
    for (const kind of kinds) {
        const type = asText(kind.rope_type) ?? asText(kind.type);
        if (type === undefined || ["su", "longrope", "llama3"].includes(type)) {
            continue;
        }
        factor = typeof kind.factor === "number" ? kind.factor : factor;
        if (type === "yarn" && typeof kind.original_max_position_embeddings === "number") {
            longest = kind.original_max_position_embeddings;
        }
    }
    return longest * factor;
}

/** FP8 caches that the checkpoint itself asks for: compressed-tensors' and ModelOpt's. */
function checkpointCacheBytes(config: ModelConfig, text: ModelConfig): number | undefined {
    const quantization = asConfig(config.quantization_config) ?? asConfig(text.quantization_config);
    const inner = asConfig(quantization?.quantization) ?? quantization;
    const scheme = asConfig(inner?.kv_cache_scheme);
    return scheme?.num_bits === 8 || asText(inner?.kv_cache_quant_algo)?.toUpperCase() === "FP8" ? 1 : undefined;
}

function range(length: number): number[] {
    return Array.from({ length }, (_, index) => index);
}
