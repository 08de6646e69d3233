import { spawnSync } from "node:child_process";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { bandwidth, describeFit, fitModel, kvCache, type ModelShape } from "../../components/serving/modelFit";
import { repositoryRoot } from "../support/stackFile";

/** Qwen2.5-7B-Instruct: config.json has 28 layers, 4 KV heads and 3584 / 28; its files hold 15.2e9 bytes. */
const qwen: ModelShape = { weightsGiB: 14.2, activeWeightsGiB: 14.2, layers: 28, kvHeads: 4, headDim: 128, kvValueBytes: 2 };
/** 70B in bfloat16 (research: 140e9 bytes); 80 layers, 8 KV heads of 128. */
const llama: ModelShape = { weightsGiB: 140e9 / 2 ** 30, activeWeightsGiB: 140e9 / 2 ** 30, layers: 80, kvHeads: 8, headDim: 128, kvValueBytes: 2 };
const limits = { maxModelLenTokens: 8192, maxNumSeqs: 256, gpus: 1 };

test("a model that fits the HBM leaves the rest to its KV cache", () => {
    const fit = fitModel(qwen, limits, 79_036, 0);
    expect(fit).toMatchObject({ weightsHbmMiB: 14_541, weightsHostMiB: 0, tokenBytes: 57_344, missingMiB: 0 });
    // (79,036 - 14,541) MiB over 28 layers of whole 2 MiB segments, 56 KiB a token.
    expect(fit.kvMiB).toBe(Math.floor((79_036 - 14_541) / 28 / 2) * 2 * 28);
    expect(fit.tokens).toBe(Math.floor((fit.kvMiB * 1024) / 56));
    expect(fit.sequences).toBe(Math.floor(fit.tokens / 8192));
    expect(fit.tokensPerSecond).toBeCloseTo(3.72e12 / (14.2 * 2 ** 30), 6);
    expect(describeFit(fit, limits)).toEqual([
        "model: weights 14.2 GiB in HBM and 0.0 GiB on the host; KV cache 62.9 GiB, 56 KiB a token: 1,178,624 tokens fit, or 143 sequences of 8192; of 256 at once the rest waits when all are long",
        "one stream: at most 244 tokens/s (active weights once a token at 3.72 TB/s from HBM, 0.33 TB/s over the link)",
    ]);
});

test("70B in bfloat16 with 90e9 bytes of it in HBM has the ceiling of research's formula, 5.7 tokens/s", () => {
    const fit = fitModel(llama, limits, Math.round(90e9 / 2 ** 20), 400_000);
    expect(fit.tokensPerSecond).toBeCloseTo(1 / (90e9 / bandwidth.hbm + 50e9 / bandwidth.link), 2);
    expect(fit.tokensPerSecond).toBeGreaterThan(5.6);
    expect(fit.tokensPerSecond).toBeLessThan(5.8);
});

test("a model that fits nowhere says by how much", () => {
    expect(fitModel(llama, limits, 79_036, 1438).missingMiB).toBe(Math.ceil(140e9 / 2 ** 20) - 79_036 - 1438);
    expect(fitModel(llama, limits, 79_036, 1438).tokens).toBe(0);
});

test("over two GPUs each holds half of the weights, and the cache of both counts", () => {
    const one = fitModel(llama, limits, 93_956, 100_000);
    const two = fitModel(llama, { ...limits, gpus: 2 }, 93_956, 100_000);
    expect(two.weightsHbmMiB + two.weightsHostMiB).toBe(Math.ceil(140e9 / 2 ** 20 / 2));
    expect(two.weightsHostMiB).toBe(0);
    expect(two.tokens).toBeGreaterThan(one.tokens);
});

test("a KV cache that is set by its size is that, where so much is there", () => {
    expect(fitModel(qwen, { ...limits, kvCacheMemoryBytes: 2 ** 30 }, 79_036, 0).kvMiB).toBe(1024);
    expect(fitModel(qwen, { ...limits, kvCacheMemoryBytes: 2 ** 40 }, 79_036, 0).kvMiB).toBeLessThan(79_036);
});

describe("for any model and any budget", () => {
    const shape = fc.record({
        weightsGiB: fc.double({ min: 0.1, max: 700, noNaN: true }),
        layers: fc.integer({ min: 1, max: 128 }),
        kvHeads: fc.integer({ min: 1, max: 64 }),
        headDim: fc.constantFrom(64, 128, 256),
        kvValueBytes: fc.constantFrom(1, 2),
    });
    const mib = fc.integer({ min: 0, max: 500_000 });

    test("weights and cache never exceed the budgets", () => {
        fc.assert(
            fc.property(shape, mib, mib, fc.integer({ min: 1, max: 8 }), (model, hbm, host, gpus) => {
                const fit = fitModel({ ...model, activeWeightsGiB: model.weightsGiB }, { ...limits, gpus }, hbm, host);
                expect(fit.weightsHbmMiB + fit.kvHbmMiB).toBeLessThanOrEqual(hbm + 1e-6);
                expect(fit.weightsHostMiB + fit.kvMiB - fit.kvHbmMiB).toBeLessThanOrEqual(host + 1e-6);
                expect(fit.tokens * fit.tokenBytes).toBeLessThanOrEqual(fit.kvMiB * 2 ** 20 * gpus);
                expect(fit.tokensPerSecond).toBeLessThanOrEqual((bandwidth.hbm * gpus) / (model.weightsGiB * 2 ** 30) + 1e-6);
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
