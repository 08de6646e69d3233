/**
 * What a model's own config.json, of the Hugging Face kind, says of its memory. Pure functions over the
 * parsed text; how each kind is cached is read from vLLM 0.19.0's model classes, and tests/runtime/test_kv_cache.py
 * holds these functions to them.
 */
import { asConfig, asText, type ModelConfig } from "./configJson";
import { classDefaults, Sizes } from "./configSizes";
import type { Layer, Matrix } from "./decoderParts";
import { decoderLayers } from "./decoders";
import type { AttentionLayersArgs } from "./modelShapeArgs";
import { quantizedWeights } from "./quantization";
import { known, Unknown } from "./unknown";

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

function decoder(config: ModelConfig): ModelConfig {
    const outer = asConfig(config.thinker_config) ?? config;
    const inner = decoderKeys.map((key) => asConfig(outer[key])).find((found) => found !== undefined);
    return inner === undefined ? outer : { model_type: `${asText(outer.model_type) ?? ""}_text`, ...inner };
}

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

/** Classes whose first and last embeddings are one, where config.json does not say. */
const tiedByClass = /^(gemma|cohere)/;

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
