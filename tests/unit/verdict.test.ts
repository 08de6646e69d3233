import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { parseFacts } from "../../components/node/facts";
import { hbmOfProduct, lpddrOfProduct } from "../../components/node/gpuProduct";
import { memoryProfiles, type NodeMemory, osView } from "../../components/node/memory";
import { declarationOf, judge, measureNode, refusalOf, verdictLines } from "../../components/node/verdict";
import { readSaved } from "../../nodecheck/ask";
import { egmDriver, egmOff, recommended, savedNodes, sourceDocument } from "../support/nodeTexts";

const declared: NodeMemory = { hbmMiB: 97_871, hbmInUseMiB: 14_920, lpddrMiB: 491_520, egmEnabled: true, egmReservedMiB: 8192, coherentMode: "numa" };
const problems = (node: NodeMemory, sections: Record<string, string>, managedMiB = 97_871) =>
    judge(node, managedMiB, parseFacts(sections)).problems.map(problemLine);

describe("a node is in profile", () => {
    test.each([
        ["egm-numa", sourceDocument],
        ["numa", egmOff],
        ["driver", recommended],
        ["egm-driver", egmDriver],
    ])("%s by what its tools print", (profile, sections) => {
        expect(measureNode(parseFacts(sections)).profile).toBe(profile);
    });

    test("none where it says nothing", () => {
        expect(measureNode({})).toEqual({});
    });
});

test("the reserved value is inferred from node 0, and said to be", () => {
    expect(measureNode(parseFacts(sourceDocument)).egmReservedMiB).toBe(8192);
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
        "node.hbmInUseMiB: 0: is less than the measured 14920 MiB in use on the idle node; accepted: 14920 or more; declare it, or keep page cache out of HBM: set NVreg_CoherentGPUMemoryMode=driver (coherentMode: driver)",
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
        "node.lpddrGiB: 480: gives Linux 490037 MiB, more than the measured 400000 MiB; accepted: at most 391.8; declare what the node has",
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
            parseFacts({ ...recommended, "page size": "4096\n", c2c: "GPU 0: 10 links 45.000 GB/s" }),
        ).notes,
    ).toEqual(
        expect.arrayContaining([
            "kernel pages are 4 KiB; NVIDIA recommends a 64 KiB kernel on Grace",
            "NVLink-C2C: 900 GB/s declared (both directions), 45 GB/s each way by the driver; LPDDR5X gives 384; below 400: the link is degraded",
        ]),
    );
});

test("a node is always what its own facts declare it to be", () => {
    const saved = [
        "gh200-120gb",
        "gh200-120gb-quad",
        "gh200-120gb-quad-driver",
        "gh200-144g-dual",
        "gh200-480gb-gap",
        "gh200-480gb-log",
        "gh200-480gb-numa-fake",
        "gh200-480gb-vm",
    ];
    for (const facts of [
        ...[sourceDocument, egmOff, recommended, egmDriver].map(parseFacts),
        ...saved.map((folder) => readSaved(path.join(savedNodes, folder))),
    ]) {
        const own = declarationOf(facts)!;
        const verdict = judge(own, own.hbmMiB, facts);
        expect(verdict.problems).toEqual([]);
        expect(verdictLines(verdict, own).at(-1)).toMatch(/^verdict: the node is what was declared/);
    }
});

const facts = (folder: string) => readSaved(path.join(savedNodes, folder));
const held = { ...recommended, meminfo: "Hugetlb:        131072000 kB\n" };

describe("what is no whole GH200 is refused by name, and nothing else is said of it", () => {
    const others = [
        "NVIDIA H100 80GB HBM3",
        "NVIDIA H100 NVL",
        "NVIDIA H100 PCIe",
        "NVIDIA H200",
        "NVIDIA H200 NVL",
        "NVIDIA H20",
        "NVIDIA H800",
        "NVIDIA GB200",
        "NVIDIA GB300",
        "NVIDIA GB10",
        "NVIDIA B200",
        "NVIDIA A100-SXM4-80GB",
        "NVIDIA L40S",
    ];
    test.each(others)("%s, with the same HBM and profile as a GH200", (name) => {
        const other = { ...sourceDocument, "nvidia-smi": `${name}, 97871 MiB, 14920 MiB, 595.45.04\n` };
        expect(judge({ ...declared, egmEnabled: false }, 500_000, parseFacts(other))).toEqual({
            problems: [{ path: "node", value: name, wrong: "is no GH200", accepted: "NVIDIA GH200", fix: "name the node that has one" }],
            notes: [],
        });
        expect(declarationOf(parseFacts(other))).toBeUndefined();
    });

    test.each(["NVIDIA GH200 480GB", "NVIDIA GH200 120GB", "GH200 120GB", "NVIDIA GH200 144G HBM3e", "NVIDIA GH200 96GB HBM3", "NVIDIA-GH200-480GB"])(
        "%s is one",
        (name) => {
            expect(refusalOf(parseFacts({ ...egmOff, "nvidia-smi": `${name}, 97871 MiB, 0 MiB, 595.45.04\n` }))).toBeUndefined();
        },
    );

    test.each([
        [
            facts("gh200-480gb-mig"),
            "node: NVIDIA GH200 480GB with MIG enabled: divides its HBM between instances, and a plan is for a whole GPU; accepted: MIG disabled; nvidia-smi -mig 0",
        ],
        [
            { truncated: true },
            "node: said only part of its facts: the text lost its beginning or its end; ask it over ssh (npm run node:check -- --host NAME), or raise probe.run",
        ],
        [
            parseFacts({ ...egmOff, "nvidia-smi": "No devices were found\n" }),
            "node: did not say its HBM (nvidia-smi: «No devices were found»); install the NVIDIA driver, or run it on the GH200",
        ],
        [facts("gh200-480gb-busy"), "node: did not say its NUMA nodes; install the NVIDIA driver, or run it on the GH200"],
    ])("%#: in one line", (said, line) => {
        expect(judge(declared, 97_871, said).problems.map(problemLine)).toEqual([line]);
        expect(judge(declared, 97_871, said).notes).toEqual([]);
    });
});

describe("sizes", () => {
    test.each([
        ["NVIDIA GH200 480GB", 480 * 1024, undefined],
        ["NVIDIA GH200 120GB", 120 * 1024, undefined],
        ["GH200 120GB", 120 * 1024, undefined],
        ["NVIDIA GH200 240GB", 240 * 1024, undefined],
        // These are sizes of HBM.
        ["NVIDIA GH200 144G HBM3e", undefined, 146_831],
        ["NVIDIA GH200 96GB HBM3", undefined, 97_871],
        ["NVIDIA H100 80GB HBM3", undefined, undefined],
        ["NVIDIA GH200", undefined, undefined],
    ])("%s says %s MiB of LPDDR and %s MiB of HBM", (name, lpddr, hbm) => {
        expect([lpddrOfProduct(name), hbmOfProduct(name)]).toEqual([lpddr, hbm]);
    });

    test("a card whose HBM nvidia-smi does not give has what its name says", () => {
        const nameless = { ...egmOff, "nvidia-smi": "NVIDIA GH200 144G HBM3e, [N/A], [N/A], 595.45.04\n" };
        expect(declarationOf(parseFacts(nameless))?.hbmMiB).toBe(146_831);
    });
});

describe("a plan is for one GPU, of what was measured", () => {
    test.each([
        // folder, GH200s, LPDDR of one, its onlined HBM, what is declared
        ["gh200-120gb", 1, 122_509, 97_280, 120],
        ["gh200-120gb-quad", 4, 122_200, 97_280, 119.6],
        ["gh200-120gb-quad-driver", 4, 122_509, 0, 120],
        ["gh200-144g-dual", 2, 481_158, 146_176, 471.3],
        ["gh200-480gb-vm", 1, 441_015, 97_280, 431.9],
        ["gh200-480gb-numa-fake", 1, 490_227, 97_280, 480],
        ["gh200-480gb-gap", 1, 490_037, 0, 480],
    ])("%s", (folder, superchips, lpddrMiB, onlinedHbmMiB, lpddrGiB) => {
        expect(measureNode(facts(folder))).toMatchObject({ superchips, lpddrMiB, onlinedHbmMiB, egmEnabled: false });
        const own = declarationOf(facts(folder))!;
        expect(own.lpddrMiB / 1024).toBeCloseTo(lpddrGiB, 1);
        expect(osView(own).lpddrMiB).toBeLessThanOrEqual(lpddrMiB);
    });

    test("a virtual machine with one CPU's memory for two GPUs has half of it for each", () => {
        const two = { ...facts("gh200-480gb-log"), gpus: 2 };
        expect(measureNode(two).lpddrMiB).toBe(Math.floor(441_015 / 2));
    });

    test("a virtual machine's own NUMA nodes are no CPUs of their own", () => {
        const split: Record<string, string> = { ...egmOff, machine: "QEMU\n" };
        const nodes = split["numactl --hardware"]!.replace(/^node 1 cpus:$/m, "node 1 cpus: 72 73");
        expect(measureNode(parseFacts({ ...split, "numactl --hardware": nodes }))).toMatchObject({ superchips: 1, lpddrMiB: 490_037 + 97_280 });
    });

    test("GPUs that are hidden or lost make the others' share no larger, nor EGM of what the firmware lists for all", () => {
        const one = { ...facts("gh200-120gb-quad"), gpus: 1, solderedMiB: 4 * 120 * 1024 };
        expect(measureNode(one)).toMatchObject({ superchips: 4, lpddrMiB: 122_200, onlinedHbmMiB: 97_280, egmEnabled: false });
        expect(judge(declarationOf(one)!, 97_871, one).notes[0]).toBe(
            "4 GH200s on this node, of which nvidia-smi shows 1: all figures are one's, and a pod with one GPU is promised no more",
        );
    });

    test("a virtual machine of any size has no EGM of its own", () => {
        const small = { ...egmOff, "numactl --hardware": egmOff["numactl --hardware"]!.replace("size: 490037", "size: 100000") };
        expect(measureNode(parseFacts(small)).egmEnabled).toBe(true);
        expect(measureNode(parseFacts({ ...small, machine: "QEMU\n" })).egmEnabled).toBe(false);
    });

    test("and says so, with nothing added up", () => {
        const quad = facts("gh200-120gb-quad");
        expect(judge(declarationOf(quad)!, 97_871, quad).notes.slice(0, 2)).toEqual([
            "4 GH200s on this node: all figures are one's, and a pod with one GPU is promised no more",
            "profile numa: 119.3 GiB of LPDDR, 95.0 GiB of HBM beside it that Linux counts as memory",
        ]);
    });

    test("480 GiB declared for a machine that has less is refused with what would be accepted", () => {
        const vm = facts("gh200-480gb-vm");
        expect(judge({ ...declared, hbmInUseMiB: 0, egmEnabled: false }, 97_871, vm).problems.map(problemLine)).toEqual([
            "node.lpddrGiB: 480: gives Linux 490037 MiB, more than the measured 441015 MiB; accepted: at most 431.9; declare what the node has",
        ]);
    });
});

describe("huge pages", () => {
    const node: NodeMemory = { ...declared, hbmInUseMiB: 512, egmEnabled: false, coherentMode: "driver" };

    test("that were not declared are refused, and declared they are no part of the plan", () => {
        expect(problems(node, held)).toEqual([
            "node.hugePagesMiB: 0: is less than the measured 128000 MiB of huge pages, which no pod of this stack gets; accepted: 128000 or more; " +
                "declare it, or free them (vm.nr_hugepages, hugepages= on the kernel's command line)",
        ]);
        expect(problems({ ...node, hugePagesMiB: 128_000 }, held)).toEqual([]);
        expect(declarationOf(parseFacts(held))).toMatchObject({ lpddrMiB: 491_520, hugePagesMiB: 128_000 });
        expect(judge(node, 97_871, parseFacts(held)).notes).toContain("huge pages hold 125.0 GiB of the LPDDR, which no pod of this stack gets");
    });

    test("bound the managed memory that may be declared", () => {
        expect(problems({ ...node, hugePagesMiB: 128_000 }, held, 475 * 1024)).toEqual([
            expect.stringMatching(/^node\.managedGiB: 475: is more than the measured 449\.1 GiB of HBM and LPDDR;/),
        ]);
    });
});

describe("HBM in use at idle", () => {
    const node: NodeMemory = { ...declared, hbmInUseMiB: 0, egmEnabled: false, coherentMode: "driver", lpddrMiB: 120 * 1024 };
    const quad = facts("gh200-120gb-quad-driver");

    test("is not worth a word where it is the 1 to 40 MiB of a card that nobody uses", () => {
        expect(judge(node, 97_871, quad).problems).toEqual([]);
        expect(declarationOf(quad)?.hbmInUseMiB).toBe(0);
    });

    test("beyond is refused, with an advice that names no mode that is on already", () => {
        const used = { ...quad, hbmInUseMiB: 700 };
        expect(judge(node, 97_871, used).problems.map(problemLine)).toEqual([
            "node.hbmInUseMiB: 0: is less than the measured 700 MiB in use on the idle node; accepted: 700 or more; declare it, or end what holds it",
        ]);
        expect(declarationOf(used)?.hbmInUseMiB).toBe(700);
        expect(declarationOf({ ...used, gpuBusy: true })?.hbmInUseMiB).toBe(0);
    });
});

describe("what the driver keeps of the HBM", () => {
    const log = facts("gh200-480gb-log");

    test("is declared as measured, and refused where less was declared", () => {
        const own = declarationOf(log)!;
        expect(own.hbmReservedMiB).toBe(1103);
        expect(judge({ ...own, hbmReservedMiB: 591 }, 97_871, log).problems.map(problemLine)).toEqual([
            "node.hbmReservedMiB: 591: is less than the measured 1103 MiB that the driver keeps; accepted: 1103 or more; declare it",
        ]);
        expect(judge({ ...own, hbmReservedMiB: undefined }, 97_871, log).problems).toEqual([]);
    });

    test("more than the account's default is refused where nothing was declared", () => {
        const more = { ...log, hbmReservedMiB: 1500 };
        expect(judge({ ...declarationOf(log)!, hbmReservedMiB: undefined }, 97_871, more).problems.map(problemLine)).toEqual([
            "node.hbmReservedMiB: 1103: is less than the measured 1500 MiB that the driver keeps; accepted: 1500 or more; declare it",
        ]);
    });
});

test("no advice names what is done already", () => {
    const advice = (sections: Record<string, string>, node = declared) =>
        judge(node, 97_871, parseFacts(sections)).notes.filter((line) => /EGM off|=driver/.test(line));
    expect(advice(egmDriver)).toEqual(["turn EGM off in the BIOS: managed memory then reaches about 478 GiB of LPDDR"]);
    expect(advice(recommended)).toEqual([]);
    expect(advice(egmOff)).toEqual(["set NVreg_CoherentGPUMemoryMode=driver: Kubernetes then counts LPDDR alone"]);
});

describe("the mode", () => {
    test("is what Linux counts, whatever the driver's parameter says, and the difference is said", () => {
        const offline = parseFacts({ ...recommended, "/proc/driver/nvidia/params": 'CoherentGPUMemoryMode: "numa"\n' });
        expect(measureNode(offline).profile).toBe("driver");
        expect(judge(declarationOf(offline)!, 97_871, offline).notes).toContain("the driver's mode is numa, but Linux counts no HBM: it was not onlined");
    });

    test("needs a driver that knows it", () => {
        expect(judge(declarationOf(facts("gh200-120gb-quad"))!, 97_871, facts("gh200-120gb-quad")).notes.at(-1)).toBe(
            "update the driver to R580 and set NVreg_CoherentGPUMemoryMode=driver: Kubernetes then counts LPDDR alone",
        );
    });
});

test("LPDDR5X's own rate is the part's: 384 GB/s of the 480 GB part, up to 512 of the smaller ones", () => {
    const c2c = { linkGBps: 447 };
    expect(judge(declared, 97_871, { ...facts("gh200-120gb"), ...c2c }).notes).toContain(
        "NVLink-C2C: 900 GB/s declared (both directions), 447 GB/s each way by the driver; LPDDR5X gives up to 512",
    );
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
        hugePagesMiB: fc.constantFrom(undefined, 128_000, 200_000),
    });
    fc.assert(
        fc.property(
            node,
            fc.constantFrom(...[sourceDocument, egmOff, recommended, held].map(parseFacts), facts("gh200-120gb-quad"), facts("gh200-480gb-vm")),
            mib(1_000_000),
            (wish, said, managedMiB) => {
                fc.pre(judge(wish, managedMiB, said).problems.length === 0);
                const measured = measureNode(said);
                expect(wish.hbmMiB).toBeLessThanOrEqual(said.hbmMiB!);
                expect(managedMiB).toBeLessThanOrEqual(said.hbmMiB! + measured.lpddrMiB! - (measured.hugePagesMiB ?? 0));
                // A kernel may keep a hundredth more; every huge page is the pod's loss.
                expect(osView({ ...wish, hugePagesMiB: 0 }).lpddrMiB * 0.99).toBeLessThanOrEqual(measured.lpddrMiB!);
                expect(wish.hugePagesMiB ?? 0).toBeGreaterThanOrEqual(measured.hugePagesMiB ?? 0);
                expect(memoryProfiles[measured.profile!].egmEnabled).toBe(wish.egmEnabled);
                expect(measured.coherentMode).toBe(wish.coherentMode);
            },
        ),
        { numRuns: 2000 },
    );
});
