import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { plannedStages, planProblems, planText, type StagePlanArgs } from "../../components/stages/plan";
import { exceptions, stageTable } from "../../components/stages/table";

test("the stages are the source document's seven, in its order", () => {
    expect(stageTable.map(({ target }) => target)).toEqual([
        "build-triton",
        "build-triton-kernels",
        "build-flashinfer",
        "build-lmcache",
        "build-flash-attention",
        "build-vllm",
        "build-infinistore",
    ]);
});

test("a stage that compiles nothing says why rule 2 allows it, and no other claims an exception", () => {
    for (const stage of stageTable) {
        expect(stage.exception !== undefined, stage.target).toBe(!stage.compiled);
        expect(stage.memoryPerJobGiB.value > 0, stage.target).toBe(stage.compiled);
    }
});

test("only FlashAttention and InfiniStore can be left out, and each says what is lost", () => {
    expect(stageTable.filter((stage) => stage.lostWithout !== undefined).map(({ target }) => target)).toEqual(["build-flash-attention", "build-infinistore"]);
});

test("every figure says how it is known, and by what", () => {
    for (const { target, memoryPerJobGiB, cpuSeconds } of stageTable) {
        for (const figure of [memoryPerJobGiB, cpuSeconds]) {
            expect(["measured", "upstream", "estimate"], target).toContain(figure.basis);
            expect(figure.source.length, target).toBeGreaterThan(5);
            expect(figure.basis !== "measured" || /\d{4}-\d{2}-\d{2}/.test(figure.source), `${target}: a measurement has a date`).toBe(true);
        }
    }
});

/** The source document's builder. */
const builder: StagePlanArgs = { disabled: [], builderMemoryGiB: 102, builderCores: 72 };
const jobs = (target: string, args: Partial<StagePlanArgs> = {}) => plannedStages({ ...builder, ...args }).find((stage) => stage.target === target)!.jobs;
const problems = (args: Partial<StagePlanArgs>) => planProblems({ ...builder, ...args }).map(problemLine);

describe("compile jobs", () => {
    // (102 - 8) GiB divided by what one job holds, rounded down; 72 cores.
    test.each([
        ["build-triton", 72],
        ["build-triton-kernels", 72],
        ["build-flashinfer", 11],
        ["build-lmcache", 31],
        ["build-flash-attention", 13],
        ["build-vllm", 13],
        ["build-infinistore", 72],
    ])("%s gets %d on the source document's node (102 GiB, 72 cores)", (target, expected) => {
        expect(jobs(target)).toBe(expected);
    });

    test("of Triton are bounded by memory once it is compiled", () => {
        expect(jobs("build-triton", { tritonOrigin: "source", builderMemoryGiB: 40 })).toBe(16);
    });

    test("are what the stack says, where they fit", () => {
        expect(jobs("build-vllm", { maxJobs: { "build-vllm": 5 } })).toBe(5);
        expect(problems({ maxJobs: { "build-vllm": 13 } })).toEqual([]);
    });

    test("that would not fit the builder's memory are refused, with the most that would", () => {
        expect(problems({ maxJobs: { "build-vllm": 14, "build-flashinfer": 12 } })).toEqual([
            "stages.maxJobs.build-flashinfer: 12: build-flashinfer needs 104.0 GiB: 12 jobs of 8 GiB and 8 GiB for the system; accepted: at most 11 with 102 GiB",
            "stages.maxJobs.build-vllm: 14: build-vllm needs 104.6 GiB: 14 jobs of 6.9 GiB and 8 GiB for the system; accepted: at most 13 with 102 GiB",
        ]);
    });

    test("a builder that is too small for one job of a stage is refused, unless that stage is left out", () => {
        expect(problems({ builderMemoryGiB: 15.5 })).toEqual([
            "stages.builderMemoryGiB: 15.5: build-flashinfer needs 16.0 GiB: 1 job of 8 GiB and 8 GiB for the system; accepted: 16.0 or more",
        ]);
        expect(problems({ builderMemoryGiB: 15.5, disabled: ["build-flashinfer"] })).toEqual([]);
    });

    test("never exceed the cores, and together with the system's 8 GiB never the builder's memory without a refusal", () => {
        fc.assert(
            fc.property(fc.double({ min: 10, max: 2048, noNaN: true }), fc.integer({ min: 1, max: 512 }), (builderMemoryGiB, builderCores) => {
                const args = { disabled: [], builderMemoryGiB, builderCores };
                const fits = plannedStages(args).every(({ jobs: planned, memoryPerJobGiB }) => 8 + planned * memoryPerJobGiB.value <= builderMemoryGiB);
                expect(plannedStages(args).every(({ jobs: planned }) => Number.isInteger(planned) && planned >= 1 && planned <= builderCores)).toBe(true);
                expect(planProblems(args).length === 0).toBe(fits);
            }),
        );
    });

    test("never fall when memory or cores are added", () => {
        fc.assert(
            fc.property(
                fc.integer({ min: 10, max: 1024 }),
                fc.integer({ min: 1, max: 144 }),
                fc.nat(64),
                fc.nat(64),
                (memory, cores, moreMemory, moreCores) => {
                    const less = plannedStages({ disabled: [], builderMemoryGiB: memory, builderCores: cores });
                    const more = plannedStages({ disabled: [], builderMemoryGiB: memory + moreMemory, builderCores: cores + moreCores });
                    expect(more.every((stage, index) => stage.jobs >= less[index]!.jobs)).toBe(true);
                },
            ),
        );
    });
});

describe("the plan in words", () => {
    test("has a line per stage with its place, jobs, memory and time, each marked as what it is", () => {
        const lines = planText(builder).split("\n");
        expect(lines[0]).toBe("a build from nothing, on 72 cores with 102 GiB, one stage at a time, about 4 h 13 min in all:");
        expect(lines[3]).toBe(
            "  stage 3 of 7, build-flashinfer: FlashInfer v0.6.6 with its kernels ahead of time; 11 jobs of 8 GiB (upstream); about 150 min (estimate)",
        );
        expect(lines.filter((line) => line.startsWith("  stage "))).toHaveLength(7);
    });

    test.each([
        ["the source document's node", { builderMemoryGiB: 102, builderCores: 72 }, "4 h 13 min"],
        ["as many cores and all of the memory", { builderMemoryGiB: 480, builderCores: 72 }, "1 h 10 min"],
        ["four cores", { builderMemoryGiB: 64, builderCores: 4 }, "11 h 27 min"],
    ])("gives %s its own time", (_, size, time) => {
        expect(planText({ ...builder, ...size }).split("\n")[0]).toContain(`about ${time} in all`);
    });

    test("names what an image takes the place of, and counts it neither as a stage nor as minutes", () => {
        const args = { ...builder, prebuilt: { "build-vllm": "registry.example.com/vllm@sha256:0", "build-triton": undefined } };
        expect(plannedStages(args).map(({ target }) => target)).not.toContain("build-vllm");
        expect(planText(args)).toContain("  prebuilt, build-vllm: vLLM, branch cmm, taken from an image as it is");
        expect(planText(args)).toMatch(/about 3 h 13 min in all:\n  stage 1 of 6, build-triton/);
    });

    test("says what is lost without a stage that is left out, and counts without it", () => {
        const text = planText({ ...builder, disabled: ["build-flash-attention"] });
        expect(text).toContain("  left out, build-flash-attention: without flash_attn_interface for programs other than vLLM");
        expect(text).toContain("stage 6 of 6, build-infinistore");
    });

    test("names each exception from «everything from source» with its reason", () => {
        for (const { part, reason } of exceptions) {
            expect(planText(builder)).toMatch(new RegExp(`not built from source, ${part}: .*${reason.slice(0, 30)}`));
        }
    });
});
