import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { maxJobs, stageTable } from "../../components/stages/table";

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
        expect(stage.memoryPerJobGiB > 0, stage.target).toBe(stage.compiled);
    }
});

test("only FlashAttention and InfiniStore can be left out, and each says what is lost", () => {
    expect(stageTable.filter((stage) => stage.lostWithout !== undefined).map(({ target }) => target)).toEqual([
        "build-flash-attention",
        "build-infinistore",
    ]);
});

describe("compile jobs", () => {
    const stage = (target: string) => stageTable.find((candidate) => candidate.target === target)!;

    // (102 - 8) GiB divided by what one job holds, rounded down; 72 cores.
    test.each([
        ["build-triton", 72],
        ["build-triton-kernels", 72],
        ["build-flashinfer", 11],
        ["build-lmcache", 31],
        ["build-flash-attention", 13],
        ["build-vllm", 13],
        ["build-infinistore", 72],
    ])("%s gets %d on the source document's node (102 GiB, 72 cores)", (target, jobs) => {
        expect(maxJobs(stage(target), 102, 72)).toBe(jobs);
    });

    test("are one where the builder is smaller than a single job", () => {
        expect(maxJobs(stage("build-vllm"), 10, 72)).toBe(1);
    });

    test("never exceed the cores, and together with the system's 8 GiB never the builder's memory, but for a single job", () => {
        fc.assert(
            fc.property(fc.constantFrom(...stageTable), fc.double({ min: 10, max: 2048, noNaN: true }), fc.integer({ min: 1, max: 512 }), (facts, memory, cores) => {
                const jobs = maxJobs(facts, memory, cores);
                expect(Number.isInteger(jobs)).toBe(true);
                expect(jobs).toBeGreaterThanOrEqual(1);
                expect(jobs).toBeLessThanOrEqual(cores);
                expect(jobs === 1 || 8 + jobs * facts.memoryPerJobGiB <= memory).toBe(true);
            }),
        );
    });

    test("never fall when memory or cores are added", () => {
        fc.assert(
            fc.property(
                fc.constantFrom(...stageTable),
                fc.integer({ min: 10, max: 1024 }),
                fc.integer({ min: 1, max: 144 }),
                fc.nat(64),
                fc.nat(64),
                (facts, memory, cores, moreMemory, moreCores) => {
                    expect(maxJobs(facts, memory + moreMemory, cores + moreCores)).toBeGreaterThanOrEqual(maxJobs(facts, memory, cores));
                },
            ),
        );
    });
});
