import * as fs from "node:fs";
import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import type { Gh200NodeArgs } from "../../components/node/gh200NodeArgs";
import { planNode } from "../../components/node/planNode";
import { probeProblems, servingFitProblems, servingOn } from "../../components/platform/servingFit";
import { parseConfig } from "../../components/serving/configJson";
import { readModelConfig } from "../../components/serving/modelConfig";
import type { ModelShapeArgs } from "../../components/serving/modelShapeArgs";
import { describeServing, engineLimits, prefixTierMiB } from "../../components/serving/servingProblems";
import type { ServingArgs } from "../../components/serving/vllmServerArgs";
import { repositoryRoot } from "../support/stackFile";

const driver: Gh200NodeArgs = { egmEnabled: false, coherentMode: "driver", managedGiB: 300 };
const hidden: Gh200NodeArgs = {
    egmEnabled: true,
    coherentMode: "numa",
    managedGiB: 475,
    acknowledgeEgmHidesMemory: true,
    acknowledgeDeclaredExceedsMeasured: true,
};

function shapeOf(model: string, weightsGiB: number): ModelShapeArgs {
    const { attention, maxPositionTokens } = readModelConfig(
        parseConfig(fs.readFileSync(path.join(repositoryRoot, "tests", "fixtures", "models", `${model}.json`), "utf8"))!,
    );
    return { weightsGiB, ...(attention && { attention }), ...(maxPositionTokens && { maxPositionTokens }) };
}

const refused = (serving: Partial<ServingArgs>, node = driver) => servingFitProblems(serving, planNode(node)).map(problemLine);
const limitsOf = (serving: Partial<ServingArgs>, node = driver) => {
    const settings = servingOn(serving, planNode(node))!;
    return engineLimits(settings, settings.modelShape!);
};

describe("what host memory is for", () => {
    const modelShape = shapeOf("llama-3.1-8b", 15);

    test("a tier for prefixes is what the weights leave of it, on every GPU of a pod alike", () => {
        const settings = servingOn({ modelShape, lpddr: "prefixes" }, planNode(driver))!;
        expect(prefixTierMiB(settings)).toBe(settings.hostBudgetMiB);
        expect(prefixTierMiB({ ...settings, lpddr: "contexts" })).toBe(0);
        const four = { ...settings, tensorParallelSize: 4, gpusPerNode: 4, hostBudgetMiB: 100_001 };
        expect(prefixTierMiB(four)).toBe(100_000);
        // 500 GiB of weights: what overflows of them on each of four GPUs is taken off four times.
        const spilled = { ...four, hostBudgetMiB: 400_000, hbmBudgetMiB: 90_000, modelShape: { ...four.modelShape!, weightsGiB: 500 } };
        expect(prefixTierMiB(spilled)).toBe(400_000 - 4 * (128_000 - 90_000));
    });

    test("it needs a placement, a shape, and no other connector", () => {
        const node = { ...driver, lmcacheMiB: 20_480, pinnedMiB: 4096 };
        expect(refused({ lpddr: "prefixes", placement: "off" }, node)).toEqual([
            "serving.lpddr: prefixes: is a part of the launcher's budget, and placement off has no launcher's budget; accepted: contexts, or prefixes without that",
            "serving.lpddr: prefixes: needs serving.modelShape, since the tier is what the weights leave of the host memory; accepted: contexts, or prefixes without that",
            "serving.lpddr: prefixes: and an LMCache server (node.lmcacheMiB) are two connectors, and vLLM takes one; accepted: contexts, or prefixes without that",
        ]);
        expect(refused({ lpddr: "prefixes", modelShape })).toEqual([]);
    });
});

describe("what vLLM is told decides how it caches", () => {
    const modelShape = shapeOf("gemma-3-27b", 50);

    test("by inputs alone", () => {
        expect(limitsOf({ modelShape, maxNumSeqs: 4, maxModelLenTokens: 1024 })).toMatchObject({ valueBytes: 2, maxBatchedTokens: 4096, hybrid: true });
        expect(limitsOf({ modelShape: { ...modelShape, kvValueBytes: 1 } })).toMatchObject({ valueBytes: 1, maxBatchedTokens: 8192 });
    });

    test("by extraArgs before them", () => {
        const extraArgs = ["--kv_cache_dtype=fp8", "--max-num-batched-tokens", "2048", "--block-size=32"];
        expect(limitsOf({ modelShape, extraArgs })).toMatchObject({ valueBytes: 1, maxBatchedTokens: 2048, blockTokens: 32 });
        expect(limitsOf({ modelShape: { ...modelShape, kvValueBytes: 1 }, extraArgs: ["--kv-cache-dtype", "bfloat16"] }).valueBytes).toBe(2);
        expect(limitsOf({ modelShape, extraArgs: ["--performance-mode", "throughput"] }).maxBatchedTokens).toBe(16_384);
        expect(limitsOf({ modelShape: shapeOf("deepseek-v3.2", 300), extraArgs: ["--kv-cache-dtype=fp8"] }).latentTokenBytes).toBe(656);
    });

    test("a connector, events or an option keep windows whole, and one option keeps them apart", () => {
        const hybrid = (extraArgs: string[], node = driver) => limitsOf({ modelShape, extraArgs }, node).hybrid;
        expect(hybrid([])).toBe(true);
        expect(hybrid(["--disable-hybrid-kv-cache-manager"])).toBe(false);
        expect(hybrid(["--kv-events-config.enable_kv_cache_events", "true"])).toBe(false);
        expect(hybrid([], { ...driver, lmcacheMiB: 20_480, pinnedMiB: 4096 })).toBe(false);
        expect(limitsOf({ modelShape, lpddr: "prefixes" }).hybrid).toBe(false);
        expect(hybrid(["--no-disable-hybrid-kv-cache-manager"], { ...driver, lmcacheMiB: 20_480, pinnedMiB: 4096 })).toBe(true);
    });
});

describe("before anything is built", () => {
    test("a flag that breaks the plan, a context that the model does not know, and weights that do not fit are named together", () => {
        expect(refused({ modelShape: shapeOf("llama-3.1-8b", 900), maxModelLenTokens: 262_144, extraArgs: ["--port=1"] })).toEqual([
            "serving.extraArgs: --port: is another port than the Service's and the probes'; accepted: without it, which is port 8000",
            "serving.maxModelLenTokens: 262144: is more than the model's own longest context, which vLLM refuses; accepted: at most 131072; lower it, or correct modelShape.maxPositionTokens",
            expect.stringMatching(/^serving\.modelShape\.weightsGiB: 900: exceeds .* GiB; accepted: weights that fit; take more GPUs, or quantise$/),
        ]);
    });

    test("only a remedy that would do is named", () => {
        // 156 GiB more of a node that has them may be declared; what EGM hides, only the firmware gives back.
        expect(refused({ modelShape: shapeOf("llama-3.1-8b", 400) })).toEqual([
            expect.stringMatching(/; raise node\.managedGiB, take more GPUs, or quantise$/),
        ]);
        expect(refused({ modelShape: shapeOf("llama-3.1-8b", 400) }, hidden)).toEqual([
            expect.stringMatching(/; turn EGM off \(node\.egmEnabled: false\), take more GPUs, or quantise$/),
        ]);
    });

    test("MLA's cache is not refused by the size that its heads would have", () => {
        expect(refused({ modelShape: shapeOf("deepseek-v3", 280), maxModelLenTokens: 131_072 })).toEqual([]);
        // The same model as if each of its 128 heads were cached.
        expect(refused({ modelShape: { weightsGiB: 280, layers: 61, kvHeads: 128, headDim: 192 }, maxModelLenTokens: 131_072 })).toEqual([
            expect.stringMatching(/^serving\.maxModelLenTokens: 131072: is more than the \d+ tokens whose KV cache fits /),
        ]);
    });

    test("a state beside attention cannot be served with LMCache", () => {
        expect(refused({ modelShape: shapeOf("qwen3-next-80b-a3b", 80) }, { ...driver, lmcacheMiB: 20_480, pinnedMiB: 4096 })).toEqual([
            "serving.modelShape.attention: vLLM keeps a state beside attention only without a KV connector and without --disable-hybrid-kv-cache-manager; accepted: a model of one kind of layers, or no connector (node.lmcacheMiB: 0)",
        ]);
    });

    test("what is not known is said to be unchecked, and not refused", () => {
        expect(refused({ maxModelLenTokens: 10_000_000 })).toEqual([]);
        expect(describeServing(servingOn({}, planNode(driver))!)).toEqual([expect.stringMatching(/^model: unchecked: /)]);
        expect(refused({ modelShape: { weightsGiB: 60 }, maxModelLenTokens: 10_000_000 })).toEqual([]);
    });
});

test.each([
    [
        { method: "pod", namespace: "vllm" },
        {},
        [
            "node.probe.namespace: vllm: is the server's, which admits no privileged pod; accepted: a namespace that does, with the image's pull Secret in it; kube-system where absent",
        ],
    ],
    [{ method: "pod" }, { namespace: "kube-system" }, [expect.stringContaining("kube-system: is the server's")]],
    [{ method: "pod" }, {}, []],
    [{ method: "pod", namespace: "vllm" }, { createNamespace: false }, []],
    [{ method: "ssh", namespace: "vllm" }, {}, []],
])("a facts Pod beside the server: %j, %j", (probe, serving, said) => {
    expect(probeProblems(probe as Parameters<typeof probeProblems>[0], serving).map(problemLine)).toEqual(said);
});
