import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { parseFacts } from "../../components/node/facts";
import { memoryProfiles, type NodeMemory } from "../../components/node/memory";
import { declarationOf, judge, measureNode, verdictLines } from "../../components/node/verdict";
import { egmOff, recommended, sourceDocument } from "../support/nodeTexts";

const declared: NodeMemory = { hbmMiB: 97_871, hbmInUseMiB: 14_920, lpddrMiB: 491_520, egmEnabled: true, egmReservedMiB: 8192, coherentMode: "numa" };
const problems = (node: NodeMemory, sections: Record<string, string>, managedMiB = 97_871) =>
    judge(node, managedMiB, parseFacts(sections)).problems.map(problemLine);

describe("a node is in profile", () => {
    test.each([
        ["egm-numa", sourceDocument],
        ["numa", egmOff],
        ["driver", recommended],
        ["egm-driver", { ...recommended, "numactl --hardware": "node 0 cpus: 0-71\nnode 0 size: 8080 MB\n" }],
    ])("%s by what its tools print", (profile, sections) => {
        expect(measureNode(parseFacts(sections), 491_520).profile).toBe(profile);
    });

    test("none where it says nothing", () => {
        expect(measureNode({}, 491_520)).toEqual({});
    });
});

test("the reserved value is inferred from node 0, and said to be", () => {
    expect(measureNode(parseFacts(sourceDocument), 491_520).egmReservedMiB).toBe(8192);
    expect(judge(declared, 97_871, parseFacts(sourceDocument)).notes).toContain(
        "EGM's reserved memory is 8192 MiB, inferred from the 8080 MB of LPDDR that Linux has",
    );
});

describe("declared as the source document has it", () => {
    test("the node is what was declared, but for its 475 GiB, with both numbers and the mend", () => {
        expect(problems(declared, sourceDocument)).toEqual([]);
        expect(problems(declared, sourceDocument, 475 * 1024)).toEqual([
            "node.managedGiB: 475: is more than the measured 103.5 GiB of HBM and LPDDR; accepted: at most 103; " +
                "turn EGM off in the BIOS, or set node.acknowledgeDeclaredExceedsMeasured: true to run with what was measured",
        ]);
    });

    test("475 GiB hold where the capacity test proved them, or EGM is off", () => {
        expect(problems({ ...declared, provenHostMiB: 400_000 }, sourceDocument, 475 * 1024)).toEqual([]);
        expect(problems({ ...declared, egmEnabled: false }, egmOff, 475 * 1024)).toEqual([]);
    });

    test("a node after a driver upgrade to R615 is refused by its mode", () => {
        const upgraded = {
            ...sourceDocument,
            "nvidia-smi": sourceDocument["nvidia-smi"]!.replaceAll("595.45.04", "615.10.01"),
            "numactl --hardware": "node 0 cpus: 0-71\nnode 0 size: 8080 MB\n",
        };
        expect(problems(declared, upgraded)).toEqual([
            "node.coherentMode: numa: but the driver 615.10.01 runs in mode driver; accepted: driver; " +
                "declare it, or set NVreg_CoherentGPUMemoryMode=numa in /etc/modprobe.d and load the driver again",
        ]);
    });

    test("another reserved value in the BIOS is refused, with what it was inferred from", () => {
        const other = {
            ...sourceDocument,
            "numactl --hardware": sourceDocument["numactl --hardware"]!.replace("node 0 size: 8080 MB", "node 0 size: 16270 MB"),
        };
        expect(problems(declared, other)).toEqual([
            "node.egmReservedMiB: 8192: but the node's is 16384 MiB, inferred from 16270 MB of LPDDR; accepted: 8192, the only reserved value that works; set 8192 in the BIOS",
        ]);
    });
});

test.each([
    [
        "hbmMiB",
        { ...declared, hbmMiB: 144_000 },
        "node.hbmMiB: 144000: is more than the measured 97871 MiB; accepted: at most 97871; declare what nvidia-smi shows",
    ],
    [
        "hbmInUseMiB",
        { ...declared, hbmInUseMiB: 0 },
        "node.hbmInUseMiB: 0: is less than the measured 14920 MiB in use on the idle node; accepted: 14920 or more; declare it, or drop the page cache in HBM by turning on coherentMode: driver",
    ],
    [
        "egmEnabled",
        { ...declared, egmEnabled: false },
        "node.egmEnabled: false: but EGM is on: Linux has 7.9 GiB of LPDDR; accepted: true; turn EGM off in the BIOS, or declare it",
    ],
])("%s above what was measured is refused in one line with both numbers and the mend", (_, node, line) => {
    expect(problems(node, sourceDocument)).toEqual([line]);
});

test("more LPDDR than the node has is refused, a hundredth that the kernel keeps is not", () => {
    const node: NodeMemory = { ...declared, egmEnabled: false, coherentMode: "driver" };
    const with_ = (mb: number) => ({ ...recommended, "numactl --hardware": `node 0 cpus: 0-71\nnode 0 size: ${mb} MB\n` });
    expect(problems(node, with_(486_000))).toEqual([]);
    expect(problems(node, with_(400_000))).toEqual([
        "node.lpddrGiB: 480: gives Linux 490037 MiB, more than the measured 400000 MiB; accepted: what the node has; declare less, or free memory that the kernel or huge pages hold",
    ]);
});

test("HBM that vLLM holds is not what is in use on the idle node", () => {
    expect(problems({ ...declared, hbmInUseMiB: 0 }, { ...sourceDocument, "compute apps": "4711\n" })).toEqual([]);
});

test("a machine without a GPU or NUMA nodes is no GH200", () => {
    expect(problems(declared, {})).toEqual(["node: did not say its HBM (nvidia-smi); install the NVIDIA driver, or run it on the GH200"]);
});

test("the notes tell capacity from LPDDR, the link's declared speed from the driver's, and what would mend the node", () => {
    expect(judge(declared, 97_871, parseFacts(sourceDocument)).notes).toEqual([
        "profile egm-numa: 7.9 GiB of LPDDR, 95.0 GiB of HBM beside it that Linux counts as memory",
        "EGM's reserved memory is 8192 MiB, inferred from the 8080 MB of LPDDR that Linux has",
        "/proc/iomem: 95.0 GiB of «System RAM (NVIDIA)», which is HBM that the driver onlined",
        "HBM: 97871 MiB (95.6 GiB), 14920 MiB in use at idle",
        "driver R615 and NVIDIA's driver container change the mode to driver: the HBM then leaves what Linux counts; set NVreg_CoherentGPUMemoryMode to keep a mode",
        "NVLink-C2C: 900 GB/s declared (both directions), 447 GB/s each way by the driver; LPDDR5X gives 384",
        "IOMMU: arm-smmu-v3.0.auto",
        "/dev/egm is there: the hidden memory is offered to virtual machines",
        "node capacity will be 102.0 GiB, 94.1 GiB more than the LPDDR: Kubernetes counts HBM",
        "turn EGM off in the BIOS and set NVreg_CoherentGPUMemoryMode=driver: managed memory then reaches about 478 GiB of LPDDR",
    ]);
    expect(
        judge(
            { ...declared, egmEnabled: false, coherentMode: "driver" },
            97_871,
            parseFacts({ ...recommended, "page size": "4096\n", c2c: "C2C Link 0: 44.712 GB/s" }),
        ).notes,
    ).toEqual(
        expect.arrayContaining([
            "kernel pages are 4 KiB; NVIDIA recommends a 64 KiB kernel on Grace",
            "NVLink-C2C: 900 GB/s declared (both directions), 45 GB/s each way by the driver; LPDDR5X gives 384; below 400: the link is degraded",
        ]),
    );
});

test("a node is always what its own facts declare it to be", () => {
    for (const sections of [sourceDocument, egmOff, recommended]) {
        const facts = parseFacts(sections);
        const own = declarationOf(facts, 491_520)!;
        const verdict = judge(own, own.hbmMiB, facts);
        expect(verdict.problems).toEqual([]);
        expect(verdictLines(verdict, own).at(-1)).toMatch(/^verdict: the node is what was declared/);
    }
});

test("whatever is declared, no accepted declaration has more HBM, LPDDR or another profile than was measured", () => {
    const mib = (max: number) => fc.integer({ min: 0, max });
    const node = fc.record({
        hbmMiB: mib(200_000),
        hbmInUseMiB: mib(50_000),
        lpddrMiB: fc.integer({ min: 8192, max: 1_000_000 }),
        egmEnabled: fc.boolean(),
        egmReservedMiB: fc.constant(8192),
        coherentMode: fc.constantFrom("numa", "driver"),
    });
    fc.assert(
        fc.property(node, fc.constantFrom(sourceDocument, egmOff, recommended), mib(1_000_000), (wish, sections, managedMiB) => {
            const facts = parseFacts(sections);
            fc.pre(judge(wish, managedMiB, facts).problems.length === 0);
            const measured = measureNode(facts, wish.lpddrMiB);
            expect(wish.hbmMiB).toBeLessThanOrEqual(facts.hbmMiB!);
            expect(managedMiB).toBeLessThanOrEqual(facts.hbmMiB! + measured.lpddrMiB!);
            expect(memoryProfiles[measured.profile!].egmEnabled).toBe(wish.egmEnabled);
            expect(measured.coherentMode).toBe(wish.coherentMode);
        }),
        { numRuns: 2000 },
    );
});
