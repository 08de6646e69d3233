import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { cacheLayout, type CacheLayout, type CacheTerms, longestSequence, sequenceBlocks, tokenBytes } from "../../components/serving/kvCache";
import { parseConfig } from "../../components/serving/configJson";
import { readModelConfig } from "../../components/serving/modelConfig";
import type { AttentionLayersArgs } from "../../components/serving/modelShapeArgs";
import { repositoryRoot } from "../support/stackFile";

const fixtures = path.join(repositoryRoot, "tests", "fixtures");

interface Recorded {
    model: string;
    cacheDtype: string;
    hybrid: boolean;
    blocks: number;
    tensors: number;
    blockBytes: number;
    requestBytes: Record<string, number>;
    maxBatchedTokens: number;
    maxPositionTokens: number;
    weightBytes: number;
}
/** What vLLM 0.19.0's own classes count: tests/runtime/test_kv_cache.py made it and holds it to them. */
const { cases } = JSON.parse(fs.readFileSync(path.join(fixtures, "kvCache.json"), "utf8")) as { cases: Recorded[] };
/** What the recording gave vLLM for the cache of each. */
const availableBytes = 40 * 2 ** 30;

const read = (model: string) => readModelConfig(parseConfig(fs.readFileSync(path.join(fixtures, "models", `${model}.json`), "utf8"))!);

const plain: CacheTerms = { valueBytes: 2, tensorParallelSize: 1, pipelineParallelSize: 1, maxBatchedTokens: 8192, hybrid: true };

function laidOut(attention: readonly AttentionLayersArgs[], terms: Partial<CacheTerms> = {}): CacheLayout {
    const layout = cacheLayout(attention, { ...plain, ...terms });
    expect(layout).not.toHaveProperty("refused");
    return layout as CacheLayout;
}

describe("KV caches of public models are vLLM's own count", () => {
    test.each(cases)("$model, $cacheDtype, kinds apart: $hybrid", ({ model, cacheDtype, hybrid, weightBytes: _, ...counted }) => {
        const { attention = [], maxPositionTokens } = read(model);
        const latents = attention.filter(({ kind }) => kind === "latent").length;
        const fp8 = cacheDtype === "fp8" ? { valueBytes: 1, latentTokenBytes: latents > 1 ? 656 : undefined } : {};
        const layout = laidOut(attention, { ...fp8, hybrid, maxBatchedTokens: counted.maxBatchedTokens });
        expect({
            tensors: layout.tensors,
            blockBytes: layout.blockBytes,
            blocks: Math.floor(availableBytes / layout.blockBytes),
            requestBytes: Object.fromEntries(
                Object.keys(counted.requestBytes).map((tokens) => [
                    tokens,
                    sequenceBlocks(layout, Number(tokens), counted.maxBatchedTokens) * layout.blockBytes,
                ]),
            ),
            maxPositionTokens,
            maxBatchedTokens: counted.maxBatchedTokens,
        }).toEqual(counted);
    });
});

describe("weights in bfloat16 are those of vLLM's own model classes, within a hundredth", () => {
    const decoders = cases.filter(({ cacheDtype, hybrid }) => cacheDtype === "auto" && hybrid);
    test.each(decoders)("$model", ({ model, weightBytes }) => {
        const { quantization_config: _, ...config } = parseConfig(fs.readFileSync(path.join(fixtures, "models", `${model}.json`), "utf8"))!;
        const { weights } = readModelConfig(config);
        // Norms, biases and a vocabulary rounded up to 64 are not counted.
        expect(weights!.bytes / weightBytes).toBeGreaterThan(0.99);
        expect(weights!.bytes / weightBytes).toBeLessThan(1.01);
        expect(weights!.activeBytes).toBeLessThanOrEqual(weights!.bytes);
    });
});

describe("for any layers", () => {
    const heads = { kvHeads: fc.integer({ min: 1, max: 64 }), headDim: fc.constantFrom(64, 128), layers: fc.integer({ min: 1, max: 80 }) };
    const layers = fc.array(
        fc.oneof(
            fc.record({ kind: fc.constant("full" as const), ...heads }),
            fc.record({ kind: fc.constant("sliding" as const), ...heads, windowTokens: fc.integer({ min: 1, max: 9000 }) }),
            fc.record({ kind: fc.constant("chunked" as const), ...heads, windowTokens: fc.integer({ min: 1, max: 9000 }) }),
            fc.record({ kind: fc.constant("state" as const), stateBytes: fc.integer({ min: 1, max: 1e7 }), layers: heads.layers }),
        ),
        { minLength: 1, maxLength: 4 },
    );
    const made = (attention: AttentionLayersArgs[]) => {
        const layout = cacheLayout(attention, plain);
        fc.pre(!("refused" in layout));
        return layout;
    };

    test("a longer sequence never needs fewer blocks, and the longest that fits is the longest", () => {
        fc.assert(
            fc.property(layers, fc.integer({ min: 1, max: 200_000 }), fc.integer({ min: 0, max: 200_000 }), (attention, tokens, available) => {
                const layout = made(attention);
                expect(sequenceBlocks(layout, tokens + 1, 8192)).toBeGreaterThanOrEqual(sequenceBlocks(layout, tokens, 8192));
                const longest = longestSequence(layout, available, 8192);
                if (Number.isFinite(longest)) {
                    expect(longest === 0 || sequenceBlocks(layout, longest, 8192) <= available).toBe(true);
                    expect(sequenceBlocks(layout, longest + 1, 8192)).toBeGreaterThan(available);
                }
            }),
            { numRuns: 500 },
        );
    });

    test("over more GPUs a token costs each of them no more", () => {
        fc.assert(
            fc.property(layers, fc.constantFrom(2, 4, 8), (attention, tensorParallelSize) => {
                const halved = cacheLayout(attention, { ...plain, tensorParallelSize });
                fc.pre(!("refused" in halved) && attention.every(({ kind }) => kind !== "state"));
                expect(tokenBytes(halved as CacheLayout)).toBeLessThanOrEqual(tokenBytes(made(attention)) + 1e-6);
            }),
            { numRuns: 300 },
        );
    });
});

test("each GPU of a tensor-parallel group has MLA's whole vector, and its part of the heads", () => {
    const latent = [{ kind: "latent" as const, layers: 61, headDim: 576 }];
    expect(tokenBytes(laidOut(latent, { tensorParallelSize: 8 }))).toBe(70_272);
    const grouped = [{ kind: "full" as const, layers: 80, kvHeads: 8, headDim: 128 }];
    expect(tokenBytes(laidOut(grouped, { tensorParallelSize: 4 }))).toBe(tokenBytes(laidOut(grouped)) / 4);
    // With more GPUs than heads each head is on several.
    expect(tokenBytes(laidOut(grouped, { tensorParallelSize: 16 }))).toBe(tokenBytes(laidOut(grouped, { tensorParallelSize: 8 })));
    expect(laidOut(grouped, { pipelineParallelSize: 3 }).tensors).toBe(27);
});

test("with a KV connector windows are kept whole, and a state beside attention is refused", () => {
    const gemma = read("gemma-3-27b").attention!;
    expect(laidOut(gemma, { hybrid: false }).groups).toEqual([{ kind: "full", blockTokens: 16 }]);
    expect(cacheLayout(read("qwen3-next-80b-a3b").attention!, { ...plain, hybrid: false })).toEqual({
        refused: "vLLM keeps a state beside attention only without a KV connector and without --disable-hybrid-kv-cache-manager",
    });
});
