import { spawnSync } from "node:child_process";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bandwidth, type CacheFit, describeFit, type EngineLimits, fitModel, kvCache, type ModelFit, type ModelShape } from "../../components/serving/modelFit";
import { repositoryRoot } from "../support/stackFile";

/** Qwen2.5-7B-Instruct: config.json has 28 layers, 4 KV heads and 3584 / 28; its files hold 15.2e9 bytes. */
const qwen: ModelShape = { weightsGiB: 14.2, activeWeightsGiB: 14.2, attention: [{ kind: "full", layers: 28, kvHeads: 4, headDim: 128 }] };
/** 70B in bfloat16 (research: 140e9 bytes); 80 layers, 8 KV heads of 128. */
const llama: ModelShape = {
    weightsGiB: 140e9 / 2 ** 30,
    activeWeightsGiB: 140e9 / 2 ** 30,
    attention: [{ kind: "full", layers: 80, kvHeads: 8, headDim: 128 }],
};
const limits: EngineLimits = {
    maxModelLenTokens: 8192,
    maxNumSeqs: 256,
    tensorParallelSize: 1,
    pipelineParallelSize: 1,
    valueBytes: 2,
    maxBatchedTokens: 8192,
    hybrid: true,
};

function cacheOf(fit: ModelFit): CacheFit {
    expect(fit.cache).toBeDefined();
    return fit.cache!;
}

test("a model that fits the HBM leaves the rest to its KV cache", () => {
    const fit = fitModel(qwen, limits, 79_036, 0);
    expect(fit).toMatchObject({ weightsHbmMiB: 14_541, weightsHostMiB: 0, missingMiB: 0 });
    const cache = cacheOf(fit);
    // (79,036 - 14,541) MiB less two segments of 2 MiB for each of 28 layers, 56 KiB a token.
    expect(cache).toMatchObject({ tokenBytes: 57_344, sequenceBytes: 0 });
    expect(cache.kvMiB).toBe(79_036 - 14_541 - 4 * 28);
    // In blocks of 16 tokens.
    expect(cache.tokens).toBe(Math.floor((cache.kvMiB * 1024) / 56 / 16) * 16);
    expect(cache.sequences).toBe(Math.floor(cache.tokens / 8192));
    expect(fit.tokensPerSecond).toBeCloseTo(3.72e12 / (14.2 * 2 ** 30), 6);
    expect(describeFit(fit, limits)).toEqual([
        "model: weights 14.2 GiB in HBM and 0.0 GiB on the host; KV cache 62.9 GiB, 56 KiB a token: 1,177,280 tokens fit, or 143 sequences of 8192; of 256 at once the rest waits when all are long",
        "one stream: at most 244 tokens/s (active weights once a token at 3.72 TB/s from HBM, 0.33 TB/s over the link)",
    ]);
});

test("windows and states are what a sequence needs whatever its length", () => {
    // gemma-3-27b: 10 of 62 layers remember all, 52 the last 1,024 tokens.
    const gemma: ModelShape = {
        ...qwen,
        attention: [
            { kind: "sliding", layers: 52, kvHeads: 16, headDim: 128, windowTokens: 1024 },
            { kind: "full", layers: 10, kvHeads: 16, headDim: 128 },
        ],
    };
    const cache = cacheOf(fitModel(gemma, { ...limits, maxModelLenTokens: 131_072 }, 79_036, 0));
    // 10 tensors of 8 KiB a token and layer; of the 52 layers two tensors hold padding (vLLM's groups of 10).
    expect(cache.tokenBytes).toBe(10 * 2 * 16 * 128 * 2);
    expect(cache.sequenceBytes).toBe(6 * (Math.ceil((1023 + 8192) / 16) + 1) * 16 * 10 * 8192);
    expect(describeFit(fitModel(gemma, limits, 79_036, 0), limits)[0]).toMatch(/80 KiB a token and \d+(\.\d+)? MiB a sequence: /);
    const windows: ModelShape = { ...qwen, attention: [{ kind: "sliding", layers: 32, kvHeads: 8, headDim: 128, windowTokens: 4096 }] };
    expect(cacheOf(fitModel(windows, limits, 79_036, 0)).tokens).toBe(Infinity);
    expect(describeFit(fitModel(windows, limits, 79_036, 0), limits)[0]).toMatch(
        /KV cache 62\.9 GiB, \d+(\.\d+)? MiB a sequence: any context fits, or \d+ sequences of 8192/,
    );
});

test("a model of which only the weights are known is said to be unchecked, and a mixture of experts is as fast as what a token reads", () => {
    const unknown: ModelShape = { weightsGiB: 60, activeWeightsGiB: 3, attention: undefined };
    const fit = fitModel(unknown, limits, 79_036, 0);
    expect(fit.cache).toBeUndefined();
    expect(fit.tokensPerSecond).toBeCloseTo(3.72e12 / (3 * 2 ** 30), 6);
    expect(describeFit(fit, limits)[0]).toBe(
        "model: weights 60.0 GiB in HBM and 0.0 GiB on the host; KV cache unchecked: modelShape does not say what the layers remember (attention)",
    );
});

test("70B in bfloat16 with 90e9 bytes of it in HBM has the ceiling of research's formula, 5.7 tokens/s", () => {
    const fit = fitModel(llama, limits, Math.round(90e9 / 2 ** 20), 400_000);
    expect(fit.tokensPerSecond).toBeCloseTo(1 / (90e9 / bandwidth.hbm + 50e9 / bandwidth.link), 2);
    expect(fit.tokensPerSecond).toBeGreaterThan(5.6);
    expect(fit.tokensPerSecond).toBeLessThan(5.8);
});

test("a model that fits nowhere says by how much", () => {
    expect(fitModel(llama, limits, 79_036, 1438).missingMiB).toBe(Math.ceil(140e9 / 2 ** 20) - 79_036 - 1438);
    expect(cacheOf(fitModel(llama, limits, 79_036, 1438)).tokens).toBe(0);
});

test("over two GPUs each holds half of the weights, and the cache of both counts", () => {
    const one = fitModel(llama, limits, 93_956, 100_000);
    const two = fitModel(llama, { ...limits, tensorParallelSize: 2 }, 93_956, 100_000);
    expect(two.weightsHbmMiB + two.weightsHostMiB).toBe(Math.ceil(140e9 / 2 ** 20 / 2));
    expect(two.weightsHostMiB).toBe(0);
    expect(cacheOf(two).tokens).toBeGreaterThan(cacheOf(one).tokens);
});

test("a request that HBM can hold waits for it, so that the host's blocks add length and no number", () => {
    const [alone, beside] = [0, 100_000].map((host) => cacheOf(fitModel(qwen, limits, 79_036, host)));
    expect(beside!.tokens).toBeGreaterThan(2 * alone!.tokens);
    // The roundings of 28 layers are taken from the host there: at most a sequence more.
    expect(beside!.sequences - alone!.sequences).toBeLessThanOrEqual(1);
    // A context that HBM alone cannot hold counts on both sides.
    const long = cacheOf(fitModel(qwen, { ...limits, maxModelLenTokens: alone!.tokens + 16_384 }, 79_036, 100_000));
    expect(long.sequences).toBe(Math.floor(long.tokens / (alone!.tokens + 16_384)));
    // With weights on the host each step reads over the link anyhow, and nobody waits.
    const spilled = cacheOf(fitModel(llama, limits, 100_000, 400_000));
    expect(spilled.sequences).toBe(Math.floor(spilled.tokens / 8192));
});

test("a tier for prefixes has all host memory that the weights leave, and the cache stays in HBM", () => {
    const fit = fitModel(qwen, { ...limits, prefixTier: true }, 79_036, 100_000);
    expect(fit.prefixTierMiB).toBe(100_000);
    expect(cacheOf(fit)).toEqual(cacheOf(fitModel(qwen, limits, 79_036, 0)));
    expect(describeFit(fit, limits)[1]).toBe(
        "prefixes: 97.7 GiB of host memory keep what left the HBM, about 1,828,571 tokens, and give it back when it is asked for again",
    );
    const spilled = fitModel(llama, { ...limits, prefixTier: true }, 100_000, 400_000);
    expect(spilled.prefixTierMiB).toBe(400_000 - spilled.weightsHostMiB);
});

test("a KV cache that is set by its size is that, where so much is there", () => {
    expect(cacheOf(fitModel(qwen, { ...limits, kvCacheMemoryBytes: 2 ** 30 }, 79_036, 0)).kvMiB).toBe(1024);
    expect(cacheOf(fitModel(qwen, { ...limits, kvCacheMemoryBytes: 2 ** 40 }, 79_036, 0)).kvMiB).toBeLessThan(79_036);
});

describe("for any model and any budget", () => {
    const heads = { kvHeads: fc.integer({ min: 1, max: 64 }), headDim: fc.constantFrom(64, 128, 256), layers: fc.integer({ min: 1, max: 128 }) };
    const layers = fc.oneof(
        fc.record({ kind: fc.constant("full" as const), ...heads }),
        fc.record({ kind: fc.constant("sliding" as const), ...heads, windowTokens: fc.integer({ min: 1, max: 8192 }) }),
        fc.record({ kind: fc.constant("latent" as const), headDim: fc.constantFrom(132, 576), layers: heads.layers }),
        fc.record({ kind: fc.constant("state" as const), stateBytes: fc.integer({ min: 1, max: 1e7 }), layers: heads.layers }),
    );
    const shape = fc.record({ weightsGiB: fc.double({ min: 0.1, max: 700, noNaN: true }), attention: fc.array(layers, { minLength: 1, maxLength: 3 }) });
    const mib = fc.integer({ min: 0, max: 500_000 });

    test("weights and cache never exceed the budgets", () => {
        fc.assert(
            fc.property(shape, mib, mib, fc.integer({ min: 1, max: 8 }), fc.boolean(), (model, hbm, host, tensorParallelSize, hybrid) => {
                const terms = { ...limits, tensorParallelSize, hybrid };
                const fit = fitModel({ ...model, activeWeightsGiB: model.weightsGiB }, terms, hbm, host);
                const cache = cacheOf(fit);
                expect(fit.weightsHbmMiB + cache.kvHbmMiB).toBeLessThanOrEqual(hbm + 1e-6);
                expect(fit.weightsHostMiB + cache.kvMiB - cache.kvHbmMiB).toBeLessThanOrEqual(host + 1e-6);
                // What is said to fit at once does, and the longest sequence is one that fits.
                if (Number.isFinite(cache.tokens)) {
                    expect(cache.tokens * cache.tokenBytes).toBeLessThanOrEqual(cache.kvMiB * 2 ** 20 * tensorParallelSize + 1e-3);
                }
                expect(cache.sequences >= 1 && cache.refused === undefined).toBe(cache.tokens >= terms.maxModelLenTokens);
                expect(fit.tokensPerSecond).toBeLessThanOrEqual((bandwidth.hbm * tensorParallelSize) / (model.weightsGiB * 2 ** 30) + 1e-6);
            }),
            { numRuns: 1000 },
        );
    });

    test("the cache is the one that the launcher makes (managed_mem/plan.py)", () => {
        const samples = fc
            .sample(fc.tuple(mib, mib, fc.integer({ min: 1, max: 128 })), 200)
            .map(([hbm, host, layers]) => [hbm * 2 ** 20 + 12_345, host * 2 ** 20 + 54_321, layers] as const);
        const code =
            "import json, sys; from managed_mem.plan import kv_bytes; print(json.dumps([kv_bytes(a, b, n, 2 << 20) for a, b, n in json.load(sys.stdin)]))";
        const python = spawnSync("python3", ["-c", code], {
            cwd: path.join(repositoryRoot, "assets", "vllm"),
            input: JSON.stringify(samples),
            encoding: "utf8",
            env: { ...process.env, PYTHONDONTWRITEBYTECODE: "1" },
        });
        expect(python.stderr).toBe("");
        expect(samples.map(([hbm, host, layers]) => kvCache(hbm, host, layers).bytes)).toEqual(JSON.parse(python.stdout));
    });
});
