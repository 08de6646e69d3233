import { asText, type ModelConfig } from "./configJson";
import { Unknown } from "./unknown";

/** More layers than any decoder has: a mistake in the file. */
const mostLayers = 4096;

/** The decoder's numbers, each checked where it is asked for. */
export class Sizes {
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
export const classDefaults: Readonly<Record<string, Readonly<Record<string, number>>>> = {
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

export function range(length: number): number[] {
    return Array.from({ length }, (_, index) => index);
}
