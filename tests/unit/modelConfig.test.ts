import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { parseConfig } from "../../components/serving/configJson";
import { cacheLayout } from "../../components/serving/kvCache";
import { readModelConfig } from "../../components/serving/modelConfig";
import { modelShapeSchema } from "../../components/serving/modelShapeArgs";
import { quantizedWeights } from "../../components/serving/quantization";
import { repositoryRoot } from "../support/stackFile";

const folder = path.join(repositoryRoot, "tests", "fixtures", "models");
const texts = fs
    .readdirSync(folder)
    .filter((file) => file.endsWith(".json") && !file.includes("hf_quant"))
    .map((file) => [file.replace(/\.json$/, ""), fs.readFileSync(path.join(folder, file), "utf8")] as const);
const config = (model: string) => parseConfig(Object.fromEntries(texts)[model]!)!;

/** Kinds that vLLM 0.19.0 has no class for here (a newer transformers, an image processor): as its classes' source reads. */
describe("kinds that the record of vLLM's own count has not", () => {
    test.each([
        [
            "qwen3.5-35b-a3b",
            // 8,192 values of the convolution's last three inputs, and 32 heads of 128 x 128 in float32 (mamba_ssm_dtype).
            [
                { kind: "state", layers: 30, stateBytes: 8192 * 3 * 2 + 32 * 128 * 128 * 4 },
                { kind: "full", layers: 10, kvHeads: 2, headDim: 256 },
            ],
        ],
        [
            "gemma-4-26b-a4b",
            [
                { kind: "sliding", layers: 25, kvHeads: 8, headDim: 256, windowTokens: 1024 },
                { kind: "full", layers: 5, kvHeads: 2, headDim: 512 },
            ],
        ],
        ["kimi-k2.5", [{ kind: "latent", layers: 61, headDim: 576 }]],
        [
            "mimo-v2-flash",
            [
                { kind: "full", layers: 9, kvHeads: 4, headDim: 192 },
                { kind: "sliding", layers: 39, kvHeads: 8, headDim: 192, windowTokens: 128 },
            ],
        ],
    ])("%s", (model, attention) => {
        expect(readModelConfig(config(model)).attention).toEqual(attention);
    });

    test("a later model is unknown, and no number is made of it", () => {
        expect(readModelConfig(config("deepseek-v4-flash"))).toMatchObject({ attention: undefined, unknown: "model_type deepseek_v4" });
        expect(readModelConfig(config("deepseek-v4-flash"))).not.toHaveProperty("weights");
    });

    test("layers that share another's cache do not count", () => {
        const gemma3n = {
            model_type: "gemma3n_text",
            num_hidden_layers: 35,
            num_kv_shared_layers: 15,
            num_attention_heads: 8,
            num_key_value_heads: 2,
            head_dim: 256,
            sliding_window: 512,
        };
        expect(readModelConfig(gemma3n).attention).toEqual([
            { kind: "sliding", layers: 16, kvHeads: 2, headDim: 256, windowTokens: 512 },
            { kind: "full", layers: 4, kvHeads: 2, headDim: 256 },
        ]);
    });
});

describe("quantised weights", () => {
    const beside = parseConfig(fs.readFileSync(path.join(folder, "qwen3-235b-a22b-nvfp4.hf_quant_config.json"), "utf8"));

    test.each<[string, unknown, number | undefined]>([
        ["none", undefined, 2],
        ["fp8", { quant_method: "fp8", weight_block_size: [128, 128] }, 1],
        ["mxfp4", { quant_method: "mxfp4" }, 4.25 / 8],
        ["awq", { quant_method: "awq", bits: 4, group_size: 128 }, (4 + 20 / 128) / 8],
        ["gptq without groups", { quant_method: "gptq", bits: 8, group_size: -1 }, 1],
        ["NVFP4 of ModelOpt", beside, 4.5 / 8],
        [
            "compressed-tensors, int4",
            { quant_method: "compressed-tensors", config_groups: { a: { weights: { num_bits: 4, type: "int", group_size: 32 } } } },
            4.5 / 8,
        ],
        ["compressed-tensors, fp8", { quant_method: "compressed-tensors", config_groups: { a: { weights: { num_bits: 8, type: "float" } } } }, 1],
        [
            "compressed-tensors, NVFP4",
            { quant_method: "compressed-tensors", config_groups: { a: { weights: { num_bits: 4, type: "float", group_size: 16 } } } },
            4.5 / 8,
        ],
        ["one that is not known", { quant_method: "torchao" }, undefined],
        [
            "two widths at once",
            { quant_method: "compressed-tensors", config_groups: { a: { weights: { num_bits: 4 } }, b: { weights: { num_bits: 8 } } } },
            undefined,
        ],
    ])("%s", (_, quantization, bytes) => {
        expect(quantizedWeights(quantization === undefined ? {} : { quantization_config: quantization })?.("layers.5.mlp.experts.0.gate_proj")).toBe(bytes);
    });

    test.each<[string, string, string, boolean]>([
        ["a name", "lm_head", "lm_head", true],
        ["the beginning of a name", "model.layers.0.self_attn", "layers.0.self_attn.q_proj", true],
        ["a name that another begins with", "model.layers.0.mlp.gate", "layers.0.mlp.gate_proj", false],
        ["another layer", "model.layers.1.self_attn", "layers.11.self_attn.q_proj", false],
        ["a glob", "model.layers.*.self_attn", "layers.7.self_attn.q_proj", true],
        ["an expression", "re:.*mlp\\.(gate|up)_proj.*", "layers.7.mlp.gate_proj", true],
        ["an expression for other modules", "re:.*mlp\\.(gate|up)_proj.*", "layers.7.mlp.experts.0.gate_proj", false],
        ["an expression that is none", "re:(", "layers.7.mlp.gate_proj", false],
    ])("what stays as it is: %s", (_, entry, module, left) => {
        const bytes = quantizedWeights({ quantization_config: { quant_method: "fp8", modules_to_not_convert: [entry] } })!(module);
        expect(bytes).toBe(left ? 2 : 1);
    });

    test("an FP8 cache of the checkpoint's own counts one byte a value", () => {
        expect(readModelConfig({ ...config("qwen3-235b-a22b-nvfp4"), quantization_config: beside }).kvValueBytes).toBe(1);
        expect(readModelConfig(config("kimi-k2.5"))).not.toHaveProperty("kvValueBytes");
    });

    test("a mixture of experts reads a part, whatever it is quantised to", () => {
        const gib = (model: string, more = {}) => {
            const { weights } = readModelConfig({ ...config(model), ...more });
            return [weights!.bytes, weights!.activeBytes].map((bytes) => Math.round((bytes / 2 ** 30) * 10) / 10);
        };
        expect(gib("gpt-oss-120b")).toEqual([60.7, 4.7]);
        expect(gib("qwen3-235b-a22b")).toEqual([437.9, 40.2]);
        expect(gib("qwen3-235b-a22b-nvfp4", { quantization_config: beside })).toEqual([124.9, 12.2]);
        expect(gib("kimi-k2.5")).toEqual([553.4, 30.7]);
    });
});

test("the longest context is what vLLM accepts: rope scaling applied once, and not where the number has it already", () => {
    const most = (more: object) => readModelConfig({ model_type: "llama", max_position_embeddings: 8192, ...more }).maxPositionTokens;
    expect(most({})).toBe(8192);
    expect(most({ rope_scaling: { rope_type: "linear", factor: 4 } })).toBe(32_768);
    expect(most({ rope_scaling: { type: "yarn", factor: 4, original_max_position_embeddings: 4096 } })).toBe(16_384);
    expect(most({ rope_scaling: { rope_type: "llama3", factor: 8, original_max_position_embeddings: 8192 } })).toBe(8192);
    expect(most({ rope_scaling: { type: "longrope", long_factor: [1] } })).toBe(8192);
    expect(most({ model_type: "gemma3_text", rope_scaling: { rope_type: "linear", factor: 8 } })).toBe(8192);
    expect(most({ rope_parameters: { full_attention: { rope_type: "yarn", factor: 2, original_max_position_embeddings: 8192 } } })).toBe(16_384);
    expect(most({ max_position_embeddings: undefined })).toBeUndefined();
});

test("Python's Infinity and NaN are read past, and the same words in text stay", () => {
    expect(parseConfig('{"a": [0.0, Infinity, -Infinity, NaN], "b": "NaN \\" Infinity"}')).toEqual({ a: [0, null, null, null], b: 'NaN " Infinity' });
    expect([parseConfig("[1]"), parseConfig("null"), parseConfig(""), parseConfig("{")]).toEqual([undefined, undefined, undefined, undefined]);
});

describe("a config.json that something happened to", () => {
    const sound = (text: string) => {
        const parsed = parseConfig(text);
        if (parsed === undefined) {
            return;
        }
        const { attention, unknown, kvValueBytes, maxPositionTokens, weights } = readModelConfig(parsed);
        expect(attention === undefined).toBe(unknown !== undefined);
        // What is read is a shape that the schema takes, and no number is made up.
        const shape = {
            weightsGiB: 1,
            ...(attention && { attention }),
            ...(kvValueBytes && { kvValueBytes }),
            ...(maxPositionTokens && { maxPositionTokens }),
        };
        expect(attention?.length === 0 || modelShapeSchema.safeParse(shape).success).toBe(true);
        const layout = cacheLayout(attention ?? [], { valueBytes: 2, tensorParallelSize: 1, pipelineParallelSize: 1, maxBatchedTokens: 8192, hybrid: true });
        expect("refused" in layout || Number.isFinite(layout.blockBytes)).toBe(true);
        expect(weights === undefined || (Number.isFinite(weights.bytes) && weights.activeBytes <= weights.bytes)).toBe(true);
    };

    test("cut anywhere, or with a line left out, gives a sound answer or none", () => {
        for (const [, text] of texts) {
            const lines = text.split("\n");
            lines.forEach((_, index) => sound(lines.filter((__, other) => other !== index).join("\n")));
            fc.assert(
                fc.property(fc.integer({ min: 0, max: text.length }), (at) => sound(text.slice(0, at))),
                { numRuns: 20 },
            );
        }
    });

    test("with any value in any place gives a sound answer", () => {
        const value = fc.oneof(
            fc.constantFrom(null, 0, -1, 0.5, 1e12, "x", "", [], {}, true, [1, "full_attention"], { factor: "x" }),
            fc.integer({ min: -5, max: 200 }),
        );
        fc.assert(
            fc.property(fc.constantFrom(...texts), fc.nat(), value, ([, text], at, put) => {
                const parsed = parseConfig(text)!;
                const inner = (parsed.text_config ?? parsed) as Record<string, unknown>;
                const keys = Object.keys(inner);
                inner[keys[at % keys.length]!] = put;
                sound(JSON.stringify(parsed));
            }),
            { numRuns: 2000 },
        );
    });
});
