import { z } from "zod";
import type { SameShape } from "../internal/sameShape";

/** What a layer of a decoder remembers of a sequence; vLLM's own division (v1/kv_cache_interface.py). */
export const AttentionKind = {
    /** Keys and values of every token: MHA, GQA, MQA. */
    Full: "full",
    /** Keys and values of the last `windowTokens`. */
    Sliding: "sliding",
    /** Keys and values of the current chunk of `windowTokens`. */
    Chunked: "chunked",
    /** One vector for every token, whatever the number of heads: MLA's latent, or the keys of a sparse indexer. */
    Latent: "latent",
    /** A state of fixed size for every sequence: linear attention, Mamba, short convolutions. */
    State: "state",
} as const;
export type AttentionKind = (typeof AttentionKind)[keyof typeof AttentionKind];

/** Layers of a decoder that remember a sequence in the same way. */
export interface AttentionLayersArgs {
    /** `full`, `sliding`, `chunked`, `latent` or `state`. */
    kind: AttentionKind;
    /** How many layers are so; layers that share another layer's cache do not count. */
    layers: number;
    /** Heads of keys and values; `full`, `sliding` and `chunked` need it. */
    kvHeads?: number;
    /** Values of one head, `head_dim`; for `latent` those of the vector, `kv_lora_rank` + `qk_rope_head_dim`. All but `state` need it. */
    headDim?: number;
    /** Values of one head of `full` attention's values, where they are not `headDim`. */
    valueHeadDim?: number;
    /** `sliding_window` or `attention_chunk_size` in tokens; `sliding` and `chunked` need it. */
    windowTokens?: number;
    /** Bytes of one sequence's state in one layer, over all GPUs; `state` needs it. */
    stateBytes?: number;
    /** Bytes of one cached value in these layers, whatever the cache's own type. Default: the cache's. */
    valueBytes?: number;
}

/**
 * A decoder's size, from its config.json and its files; `npm run init -- --model-config` writes it. Without
 * `attention` and without `layers`, `kvHeads` and `headDim` the KV cache stays unchecked.
 */
export interface ModelShapeArgs {
    /** All weights in GiB, as loaded. */
    weightsGiB: number;
    /** Weights in GiB that one token reads: less than all in a mixture of experts. Default: all of them. */
    activeWeightsGiB?: number;
    /** What the layers remember, kind by kind. Default: `layers`, `kvHeads` and `headDim`. */
    attention?: AttentionLayersArgs[];
    /** `num_hidden_layers`, where all of them have full attention. */
    layers?: number;
    /** `num_key_value_heads`, where all layers have full attention. */
    kvHeads?: number;
    /** `head_dim`, or hidden_size / num_attention_heads, where all layers have full attention. */
    headDim?: number;
    /** Bytes of one cached value: 2 for bfloat16, 1 for FP8. Default: 2; `--kv-cache-dtype` in `extraArgs` decides before it. */
    kvValueBytes?: number;
    /** Longest context in tokens that the model knows, as vLLM derives it from `max_position_embeddings` and rope scaling. Default: not checked. */
    maxPositionTokens?: number;
}

const count = z.int({ error: "is no whole number" }).positive();

/** What each kind cannot do without. */
const needs: Record<AttentionKind, readonly (keyof AttentionLayersArgs)[]> = {
    full: ["kvHeads", "headDim"],
    sliding: ["kvHeads", "headDim", "windowTokens"],
    chunked: ["kvHeads", "headDim", "windowTokens"],
    latent: ["headDim"],
    state: ["stateBytes"],
};
/** What each kind may have besides. */
const may: Record<AttentionKind, readonly (keyof AttentionLayersArgs)[]> = {
    full: ["valueHeadDim", "valueBytes"],
    sliding: ["valueBytes"],
    chunked: ["valueBytes"],
    latent: ["valueBytes"],
    state: [],
};

const attentionLayersSchema = z
    .strictObject({
        kind: z
            .enum(AttentionKind, { error: "accepted: full, sliding, chunked, latent or state" })
            .meta({ description: "What these layers remember of a sequence." }),
        layers: count.meta({ description: "How many layers; those that share another's cache do not count." }),
        kvHeads: count.optional().meta({ description: "Heads of keys and values (full, sliding, chunked)." }),
        headDim: count.optional().meta({ description: "head_dim; for latent kv_lora_rank + qk_rope_head_dim." }),
        valueHeadDim: count.optional().meta({ description: "head_dim of the values, where it is another (full)." }),
        windowTokens: count.optional().meta({ description: "sliding_window, or attention_chunk_size (sliding, chunked).", unit: "tokens" }),
        stateBytes: count.optional().meta({ description: "State of one sequence in one layer, over all GPUs (state).", unit: "B" }),
        valueBytes: z.number().positive().optional().meta({ description: "Bytes of one cached value here, whatever the cache's type.", unit: "B" }),
    })
    .superRefine((group, context) => {
        for (const key of needs[group.kind]) {
            if (group[key] === undefined) {
                context.addIssue({ code: "custom", path: [key], message: `is missing; accepted: a number, which ${group.kind} layers need` });
            }
        }
        const known: readonly string[] = ["kind", "layers", ...needs[group.kind], ...may[group.kind]];
        for (const key of Object.keys(group).filter((name) => !known.includes(name) && group[name as keyof AttentionLayersArgs] !== undefined)) {
            context.addIssue({ code: "custom", path: [key], message: `says nothing of ${group.kind} layers; accepted: ${known.slice(2).join(", ")}` });
        }
    });

const flat = ["layers", "kvHeads", "headDim"] as const;

export const modelShapeSchema = z
    .strictObject({
        weightsGiB: z.number().positive().meta({ description: "All weights, as loaded.", unit: "GiB" }),
        activeWeightsGiB: z.number().positive().optional().meta({ description: "Weights that one token reads; all of them where absent.", unit: "GiB" }),
        attention: z
            .array(attentionLayersSchema)
            .min(1, { error: "is empty; accepted: one kind of layers or more" })
            .optional()
            .meta({ description: "What the layers remember, kind by kind." }),
        layers: count.optional().meta({ description: "num_hidden_layers, where all have full attention." }),
        kvHeads: count.optional().meta({ description: "num_key_value_heads, where all layers have full attention." }),
        headDim: count.optional().meta({ description: "head_dim, or hidden_size / num_attention_heads, where all layers have full attention." }),
        kvValueBytes: z
            .number()
            .positive()
            .default(2)
            .meta({ description: "Bytes of one cached value: 2 for bfloat16, 1 for FP8; `--kv-cache-dtype` decides before it.", unit: "B" }),
        maxPositionTokens: count.optional().meta({ description: "Longest context that the model knows, rope scaling applied.", unit: "tokens" }),
    })
    .superRefine((shape, context) => {
        const given = flat.filter((key) => shape[key] !== undefined);
        if (shape.attention !== undefined) {
            given.forEach((key) => context.addIssue({ code: "custom", path: [key], message: "stands beside attention; accepted: one of them" }));
        } else if (given.length > 0) {
            flat.filter((key) => shape[key] === undefined).forEach((key) =>
                context.addIssue({ code: "custom", path: [key], message: `is missing; accepted: a whole number, as ${given.join(" and ")} have` }),
            );
        }
        if ((shape.activeWeightsGiB ?? 0) > shape.weightsGiB) {
            context.addIssue({ code: "custom", path: ["activeWeightsGiB"], message: `is more than all weights; accepted: at most ${shape.weightsGiB}` });
        }
    });
export type ResolvedModelShape = z.output<typeof modelShapeSchema>;
const shapesAgree: SameShape<ModelShapeArgs, z.input<typeof modelShapeSchema>> = true;
void shapesAgree;

/** The layers, kind by kind; undefined where only the weights are known. */
export function attentionLayers(shape: Pick<ModelShapeArgs, "attention" | (typeof flat)[number]>): AttentionLayersArgs[] | undefined {
    const { attention, layers, kvHeads, headDim } = shape;
    return (
        attention ??
        (layers !== undefined && kvHeads !== undefined && headDim !== undefined ? [{ kind: AttentionKind.Full, layers, kvHeads, headDim }] : undefined)
    );
}
