/** Decoders in which layers of several kinds stand side by side, each by its own keys in config.json. */
import { asConfig, asText } from "./configJson";
import { range, Sizes } from "./configSizes";
import { experts, feedForward, full, latentCache, latentProjections, type Layer, layerName, projections, state } from "./decoderParts";
import { AttentionKind, type AttentionLayersArgs } from "./modelShapeArgs";
import { Unknown } from "./unknown";

/** By model_type. */
export const hybrids: Readonly<Record<string, (sizes: Sizes) => Layer[]>> = {
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
