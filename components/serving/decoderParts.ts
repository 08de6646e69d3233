/** What decoders of all kinds are made of: a layer's cache, its projections and its feed-forward block. */
import type { Sizes } from "./configSizes";
import { AttentionKind, type AttentionLayersArgs } from "./modelShapeArgs";
import { Unknown } from "./unknown";

/** One layer: what it remembers, and the sizes of its matrices. */
export interface Layer {
    cache: readonly Omit<AttentionLayersArgs, "layers">[];
    /** Its matrices; asked for where weights are counted, which needs more sizes than the cache does. */
    matrices: () => readonly Matrix[];
}

export interface Matrix {
    module: string;
    values: number;
    /** The part that one token reads. Default: 1. */
    active?: number;
}

export function full(sizes: Sizes): Omit<AttentionLayersArgs, "layers"> {
    return { kind: AttentionKind.Full, kvHeads: sizes.kvHeads, headDim: sizes.headDim };
}

export function state(stateBytes: number): Omit<AttentionLayersArgs, "layers"> {
    return { kind: AttentionKind.State, stateBytes };
}

export function layerName(named: unknown[], index: number, known: string[]): string {
    const name = named[index];
    if (typeof name !== "string" || !known.includes(name)) {
        throw new Unknown(`layer_types has ${JSON.stringify(name)} for layer ${index}`);
    }
    return name;
}

export function projections(sizes: Sizes, index: number, kvHeads = sizes.kvHeads, headDim = sizes.headDim): Matrix[] {
    const { hidden, heads } = sizes;
    const gate = sizes.config.attn_output_gate === true || sizes.type === "qwen3_next" ? 2 : 1;
    return [{ module: `layers.${index}.self_attn.q_proj`, values: hidden * headDim * (heads * (1 + gate) + 2 * kvHeads) }];
}

export function latentCache(sizes: Sizes): Omit<AttentionLayersArgs, "layers"> {
    return { kind: AttentionKind.Latent, headDim: sizes.need("kv_lora_rank") + (sizes.maybe("qk_rope_head_dim") ?? 0) };
}

export function latentProjections(sizes: Sizes, index: number): Matrix[] {
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

/** Classes that read `sliding_window` only where `use_sliding_window` is true. */
export const windowOnDemand = /^qwen(2|3)/;

/** Experts, one way or the other: DeepSeek's, Qwen's, Mixtral's, Llama's, Jamba's and Gemma's names. */
const expertCounts = ["n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts"];

const expertsOfToken = ["num_experts_per_tok", "num_experts_per_token", "experts_per_token", "top_k_experts", "moe_k", "moe_topk"];

/** A block with a gate has three matrices, one without has two. */
const withoutGate = new Set(["nemotron", "persimmon", "phi", "gpt_neox", "starcoder2"]);

export function feedForward(sizes: Sizes, index: number): Matrix[] {
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

export function experts(sizes: Sizes, module: string, matrices: number): Matrix[] {
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
