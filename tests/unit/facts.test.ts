import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import {
    coherentMode,
    dmidecode,
    free,
    hugePages,
    link,
    type NodeFacts,
    numactl,
    onlinedByDriver,
    parseFacts,
    splitSections,
} from "../../components/node/facts";
import { nvidiaSmi } from "../../components/node/nvidiaSmi";
import { declarationOf, judge } from "../../components/node/verdict";
import { readSaved } from "../../nodecheck/ask";
import { asScriptOutput, egmDriver, egmOff, recommended, savedNodes, sourceDocument } from "../support/nodeTexts";

test("the source document's node, from its tools' own text", () => {
    expect(parseFacts(sourceDocument)).toEqual({
        gpuName: "NVIDIA GH200 480GB",
        gpus: 1,
        hbmMiB: 97_871,
        hbmInUseMiB: 14_920,
        driverVersion: "595.45.04",
        gpuBusy: false,
        linkGBps: 447,
        numaNodes: [
            { id: 0, firstCpu: 0, sizeMiB: 8080, freeMiB: 3021 },
            { id: 1, sizeMiB: 0, freeMiB: 0 },
            { id: 2, sizeMiB: 97_280, freeMiB: 82_015 },
            ...[3, 4, 5, 6, 7, 8, 9].map((id) => ({ id, sizeMiB: 0, freeMiB: 0 })),
        ],
        memoryTotalMiB: 102 * 1024,
        onlinedByDriverMiB: 97_280,
        coherentMode: "numa",
        solderedMiB: 480 * 1024,
        pageKiB: 64,
        iommu: "arm-smmu-v3.0.auto",
        egmDevice: true,
    });
});

test.each(Object.entries({ sourceDocument, egmOff, recommended, egmDriver }))("%s says the same through the script's sections", (_, sections) => {
    expect(parseFacts(splitSections(asScriptOutput(sections)))).toEqual(parseFacts(sections));
});

/** What a saved node says, without the list of its NUMA nodes, which is given as its number, CPUs' and GPUs' sizes. */
function saidBy(folder: string): object {
    const { numaNodes, ...facts } = readSaved(path.join(savedNodes, folder));
    const sizes = (hasCpu: boolean) => numaNodes?.filter((node) => (node.firstCpu !== undefined) === hasCpu && node.sizeMiB > 0).map(({ sizeMiB }) => sizeMiB);
    return { ...facts, ...(numaNodes !== undefined && { numa: [numaNodes.length, sizes(true), sizes(false)] }) };
}

const gh200 = { gpuName: "NVIDIA GH200 480GB", gpus: 1, hbmMiB: 97_871 };

describe("the words of real machines (tests/fixtures/node/SOURCES.md)", () => {
    test.each<[string, object]>([
        ["b200-r610", { gpuName: "NVIDIA B200", gpus: 2, hbmMiB: 183_359, hbmInUseMiB: 0, mig: false, driverVersion: "610.43.02", gpuBusy: false }],
        ["gh200-120gb", { gpuName: "NVIDIA GH200 120GB", hbmMiB: 97_871, hbmInUseMiB: 2, driverVersion: "580.95.05", numa: [9, [122_509], [97_280]] }],
        [
            "gh200-120gb-quad",
            {
                gpuName: "GH200 120GB",
                gpus: 4,
                hbmMiB: 97_871,
                hbmInUseMiB: 37,
                mig: false,
                driverVersion: "535.129.03",
                gpuBusy: false,
                numa: [36, [122_200, 122_509, 122_509, 122_509], [97_280, 97_280, 97_280, 97_280]],
            },
        ],
        [
            "gh200-120gb-quad-driver",
            {
                gpuName: "NVIDIA GH200 120GB",
                gpus: 4,
                hbmMiB: 97_871,
                // Of 5, 40, 35 and 23: the most.
                hbmInUseMiB: 40,
                mig: false,
                driverVersion: "590.48.01",
                gpuBusy: false,
                coherentMode: "driver",
                numa: [32, [122_509, 122_509, 122_509, 122_509], []],
            },
        ],
        [
            "gh200-144g-dual",
            { gpuName: "NVIDIA GH200 144G HBM3e", hbmMiB: 146_831, driverVersion: "580.173.02", numa: [18, [483_094, 481_158], [146_176, 146_176]] },
        ],
        // A table of processes, and one of MIG devices with sizes of their own, are no GPUs.
        ["gh200-480gb-busy", { ...gh200, hbmInUseMiB: 48_427, mig: false, driverVersion: "570.133.20", gpuBusy: true }],
        ["gh200-480gb-mig", { ...gh200, hbmInUseMiB: 29_465, mig: true, driverVersion: "570.133.20", gpuBusy: true }],
        // Node 1 is absent.
        ["gh200-480gb-gap", { ...gh200, hbmInUseMiB: 1, mig: false, driverVersion: "535.154.05", gpuBusy: false, numa: [8, [490_037], []] }],
        [
            "gh200-480gb-log",
            {
                ...gh200,
                hbmInUseMiB: 2,
                hbmReservedMiB: 1103,
                mig: false,
                driverVersion: "550.127.05",
                gpuBusy: false,
                virtualMachine: true,
                numa: [9, [441_015], [97_280]],
            },
        ],
        ["gh200-480gb-numa", { ...gh200, gpus: undefined, hbmInUseMiB: 512, driverVersion: "595.45.04", numa: [9, [490_037], [97_280]] }],
        [
            "gh200-480gb-numa-fake",
            { ...gh200, gpus: undefined, hbmInUseMiB: 512, driverVersion: "595.45.04", numa: [12, [122_518, 122_631, 122_599, 122_479], [97_280]] },
        ],
        [
            "gh200-480gb-vm",
            { ...gh200, hbmInUseMiB: 1, mig: false, driverVersion: "570.124.06", gpuBusy: false, memoryTotalMiB: 525 * 1024, numa: [9, [441_015], [97_280]] },
        ],
        [
            "h20",
            {
                gpuName: "NVIDIA H20",
                gpus: 1,
                hbmMiB: 97_871,
                hbmInUseMiB: 4,
                mig: false,
                driverVersion: "550.144.03",
                gpuBusy: false,
                numa: [2, [515_000, 515_000], []],
            },
        ],
        ["h200", { gpuName: "NVIDIA H200", hbmMiB: 143_771, hbmInUseMiB: 0, driverVersion: "580.159.04", numa: [1, [128_000], []] }],
    ])("%s", (folder, said) => {
        expect(saidBy(folder)).toEqual(said);
    });

    test("each has its source", () => {
        const sources = fs.readFileSync(path.join(savedNodes, "SOURCES.md"), "utf8");
        const folders = fs.readdirSync(savedNodes).filter((name) => !name.endsWith(".md"));
        expect([...sources.matchAll(/^\| ([a-z0-9-]*[a-z0-9]) \| \S/gm)].map((match) => match[1]).filter((name) => name !== "folder")).toEqual(folders);
    });
});

describe("nvidia-smi", () => {
    test("as comma-separated values", () => {
        expect(nvidiaSmi("NVIDIA GH200 480GB, 97871 MiB, 14920 MiB, 580.65.06\n")).toEqual({
            gpuName: "NVIDIA GH200 480GB",
            hbmMiB: 97_871,
            hbmInUseMiB: 14_920,
            driverVersion: "580.65.06",
        });
    });

    const line = (used: number, reserved: number, mig = "Disabled", count = 2) =>
        `NVIDIA GH200 480GB, 97871 MiB, ${used} MiB, ${reserved} MiB, ${mig}, 590.48.01, ${count}\n`;

    test("as assets/node/facts asks: of several the most in use and reserved, and no list that is short of one", () => {
        expect(nvidiaSmi(line(5, 591) + line(40, 1103))).toMatchObject({ gpus: 2, hbmMiB: 97_871, hbmInUseMiB: 40, hbmReservedMiB: 1103, mig: false });
        expect(nvidiaSmi(line(5, 591)).gpus).toBeUndefined();
        expect(nvidiaSmi(line(5, 591) + line(40, 1103, "Enabled")).mig).toBe(true);
        expect(nvidiaSmi(line(5, 591, "[N/A]", 1)).mig).toBe(false);
    });

    test("with a header in any order, with and without units", () => {
        expect(nvidiaSmi("memory.total [MiB], name, memory.reserved [MiB]\n97871 MiB, NVIDIA GH200 480GB, 591 MiB\n")).toMatchObject({
            hbmMiB: 97_871,
            hbmReservedMiB: 591,
        });
        expect(nvidiaSmi("name, memory.total [MiB], memory.used [MiB]\nNVIDIA GH200 480GB, 97871, 12\n")).toMatchObject({ hbmMiB: 97_871, hbmInUseMiB: 12 });
    });

    test("a field that a driver does not know is asked without", () => {
        const text = 'Field "mig.mode.current" is not a valid field to query.\n\nNVIDIA GH200 480GB, 97871 MiB, 5 MiB, 535.54.03\n';
        expect(nvidiaSmi(text)).toMatchObject({ hbmMiB: 97_871, hbmInUseMiB: 5, driverVersion: "535.54.03" });
    });

    test("a GH200 beside another card is the one that is planned on", () => {
        const text = "NVIDIA RTX A2000, 6138 MiB, 3 MiB, 580.65.06\nNVIDIA GH200 480GB, 97871 MiB, 5 MiB, 580.65.06\n";
        expect(nvidiaSmi(text)).toMatchObject({ gpuName: "NVIDIA GH200 480GB", otherGpus: ["NVIDIA RTX A2000"], hbmMiB: 97_871 });
    });

    test("the table of GPUs alone, where an empty line ends it", () => {
        const [alone] = fs.readFileSync(path.join(savedNodes, "gh200-480gb-vm", "nvidia-smi.txt"), "utf8").split("| Processes");
        const end = alone!.lastIndexOf("+---", alone!.length - 10);
        expect(nvidiaSmi(alone!.slice(0, end))).toMatchObject({ gpus: 1, hbmMiB: 97_871, gpuBusy: undefined });
    });

    test("the table and what the log adds to it, in one file", () => {
        const saved = (folder: string) => fs.readFileSync(path.join(savedNodes, folder, "nvidia-smi.txt"), "utf8");
        expect(nvidiaSmi(saved("gh200-480gb-vm") + saved("gh200-480gb-log"))).toMatchObject({ gpus: 1, hbmInUseMiB: 1, hbmReservedMiB: 1103 });
    });

    test.each([
        [
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest NVIDIA driver is installed and running.\n",
            /^NVIDIA-SMI has failed because it couldn't communicate/,
        ],
        ["No devices were found\n", /^No devices were found$/],
        [
            "Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 580.173\n",
            /^Failed to initialize NVML: Driver\/library version mismatch$/,
        ],
        ["|   0  NVIDIA GH200 480GB             On  |   00000009:01:00.0 Off |                    0 |\n", /^its table is cut off$/],
        ["\u001b[31mbad\u0007\n", /^\[31mbad$/],
    ])("that shows no GPU says why: %s", (text, why) => {
        expect(nvidiaSmi(text).nvidiaSmiSays).toMatch(why);
        expect(nvidiaSmi(text).gpus).toBeUndefined();
    });

    test.each([
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "NVIDIA GH200 480GB, [N/A], [N/A], 580.65.06",
        "NVIDIA GH200 480GB, 97871 MiB, [N/A], 580.65.06\n",
        "NVIDIA GH200 480GB, 97871 MiB, 97872 MiB, 580.65.06\n",
        "NVIDIA GH200 480GB, [Unknown Error], [GPU is lost], 580.65.06\n",
        `|   ${"9".repeat(400)}MiB / 97871MiB |`,
    ])("without figures: %s", (text) => {
        expect(nvidiaSmi(text).hbmInUseMiB).toBeUndefined();
    });

    test.each(["9787 MiB", "978710 MiB", "0 MiB"])("no GH200 has %s of HBM", (size) => {
        expect(nvidiaSmi(`NVIDIA GH200 480GB, ${size}, 5 MiB, 580.65.06\n`).hbmMiB).toBeUndefined();
    });

    test("a size that one of several GPUs does not give is not known", () => {
        expect(nvidiaSmi("NVIDIA GH200 480GB, [N/A], 5 MiB, 580.65.06\nNVIDIA GH200 480GB, 97871 MiB, 5 MiB, 580.65.06\n")).toMatchObject({
            gpuName: "NVIDIA GH200 480GB",
            hbmMiB: undefined,
        });
    });
});

test.each([
    ["Mem:           102Gi        17Gi", 104_448],
    ["Mem:          587317        9000", 587_317],
    ["Mem:           7,9Gi        17Gi", 8090],
    // -g, no flag, -b, and -h --si, of the 587,317 MiB of a node in profile numa.
    ["Mem:             573           9", 573 * 1024],
    ["Mem:       601412608     9000000", 587_317],
    ["Mem:    615846510592  9000000000", 587_317],
    ["Mem:          615.8G        9.4G", 587_273],
    ["Mem:          615,8G        9,4G", 587_273],
    ["Mem :          573Gi         9Gi", 573 * 1024],
    ["Speicher:      573Gi         9Gi", 573 * 1024],
    ["Mem:            8080        5059", 8080],
    ["Mem:           1.2Ti        17Gi", 1_258_291],
    ["Mem:           lots", undefined],
    ["Mem:           5733", undefined],
    ["Mem:           0 0", undefined],
    ["Swap:             0B", undefined],
])("free: %s", (text, expected) => {
    expect(free(text)).toBe(expected);
});

test.each([
    ["HugePages_Total:     250\nHugepagesize:     524288 kB\nHugetlb:        131072000 kB\n", 128_000],
    ["HugePages_Total:     250\nHugepagesize:     524288 kB\n", 128_000],
    // Pages of another size than the default are in the sum alone.
    ["HugePages_Total:       0\nHugepagesize:     524288 kB\nHugetlb:        2097152 kB\n", 2048],
    ["HugePages_Total:       0\nHugepagesize:     524288 kB\nHugetlb:              0 kB\n", 0],
    ["HugePages_Total:     250\n", undefined],
    ["", undefined],
])("huge pages: %j", (text, expected) => {
    expect(hugePages(text)).toBe(expected);
});

describe("/proc/iomem", () => {
    test("masked addresses are no measurement", () => {
        expect(onlinedByDriver("00000000-00000000 : System RAM\n00000000-00000000 : System RAM (NVIDIA)\n")).toBeUndefined();
    });

    test("readable and without the driver's name is zero", () => {
        expect(onlinedByDriver("80000000-fffeffff : System RAM\n")).toBe(0);
    });

    test("other kinds of memory with similar names do not count", () => {
        expect(onlinedByDriver("100000-1fffff : System RAM (kmem)\n200000-2fffff : System RAM (NVIDIA)\n300000-3fffff : System RAM (NVIDIA) x\n")).toBe(1);
    });
});

describe("the coherent mode", () => {
    test.each([
        ['CoherentGPUMemoryMode: "driver"', "595.45.04", "driver"],
        ['CoherentGPUMemoryMode: "numa"', "615.10", "numa"],
        ['CoherentGPUMemoryMode: ""', "595.45.04", "numa"],
        // The driver's own default changes there.
        ['CoherentGPUMemoryMode: ""', "615.10", "driver"],
        ['CoherentGPUMemoryMode: ""', undefined, undefined],
        ["CoherentGPUMemoryMode: \nEnableUserNUMAManagement: 1\n", "595.45.04", "numa"],
        ['CoherentGPUMemoryMode: "', "595.45.04", undefined],
        ['CoherentGPUMemoryMode: "weird"', "595.45.04", undefined],
        ["", "595.45.04", undefined],
    ])("%s with driver %s is %s", (params, driver, mode) => {
        expect(coherentMode(params, driver)).toBe(mode);
    });
});

test.each([
    ["\tSize: 480 GB", 491_520],
    ["     16 \tSize: 30 GB\n", 491_520],
    ["\tSize: No Module Installed\n\tSize: 122880 MB\n\tVolatile Size: 1 TB", 122_880],
    // dmidecode 3.7 (unraid/webgui#2562)
    ["\tSize: 480 GiB", 491_520],
    ["\tSize: 122880 MiB\n\tSize: None", 122_880],
    ["Number Of Devices: 4\n      4 \tSize: 120 GiB\n", 491_520],
    ["\tNumber Of Devices: 16\n\tSize: 30 GB\n\tSize: 30 GB\n", undefined],
    ["\tSize: Unknown", undefined],
])("dmidecode: %j", (text, expected) => {
    expect(dmidecode(text)).toBe(expected);
});

/** github.com/dmlc/xgboost, tests/cpp/common/test_cuda_dr_utils.cc. */
const c2c = `GPU 0: NVIDIA GH200 480GB (UUID: GPU-********-****-****-****-************)\n${Array.from({ length: 10 }, (_, index) => `    C2C Link ${index}: 44.712 GB/s\n`).join("")}`;

describe("links", () => {
    test("are those of one GPU, the slowest", () => {
        expect(link(c2c)).toBe(447);
        expect(link(c2c + c2c + c2c.replace("C2C Link 4: 44.712 GB/s", "C2C Link 4: 22.356 GB/s") + c2c)).toBe(425);
        expect(link("GPU 0: 10 links 447.120 GB/s\nGPU 1: 10 links 402.408 GB/s\n")).toBe(402);
        expect(link(c2c.replace("C2C Link 9: 44.712 GB/s", "C2C Link 9: <inactive>"))).toBe(402);
    });

    test.each(["Unable to retrieve C2C", "No Devices support C2C.\n", "C2C Link 0: 44.712 GB/s\n", c2c.replace(/44\.712/g, "944.712")])(
        "that are not all shown, or cannot be so fast, are no speed: %s",
        (text) => {
            expect(link(text)).toBeUndefined();
        },
    );
});

test("NUMA nodes that are not all listed are none", () => {
    expect(numactl("No NUMA support available on this system.")).toBeUndefined();
    expect(numactl("available: 2 nodes (0-1)\nnode 0 cpus: 0\nnode 0 size: 1 MB\nnode 0 free: 1 MB\n")).toBeUndefined();
    expect(numactl("available: 1 nodes (0)\nnode 0 cpus: 0\nnode 0 size: <not available>\nnode 0 free: <not available>\n")).toBeUndefined();
    expect(numactl("available: 3 nodes\nnode 0 cpus: 0-71\nnode 0 size: 490037 MB\nnode 0 free: 1 MB\nempty nodes: 2 3\n")).toEqual([
        { id: 0, firstCpu: 0, sizeMiB: 490_037, freeMiB: 1 },
        { id: 2, sizeMiB: 0 },
        { id: 3, sizeMiB: 0 },
    ]);
});

test("texts saved on Windows say the same", () => {
    const windows = Object.fromEntries(Object.entries(sourceDocument).map(([name, text]) => [name, text.replaceAll("\n", "\r\n")]));
    expect(parseFacts(windows)).toEqual(parseFacts(sourceDocument));
});

/** All texts that there are, by name, each as the sections that are read. */
const names: Record<string, string> = { numactl: "numactl --hardware", iomem: "/proc/iomem", params: "/proc/driver/nvidia/params" };
const texts: [string, Record<string, string>][] = [
    ...Object.entries({ sourceDocument, egmOff, recommended, egmDriver }),
    [
        "a busy node with huge pages",
        {
            ...egmOff,
            c2c,
            "compute apps": "4711\n4712\n",
            meminfo: "MemTotal:       601412608 kB\nHugePages_Total:     250\nHugepagesize:     524288 kB\nHugetlb:        131072000 kB\n",
        },
    ],
    ...fs
        .readdirSync(savedNodes)
        .filter((name) => !name.endsWith(".md"))
        .map((folder): [string, Record<string, string>] => [
            folder,
            Object.fromEntries(
                fs.readdirSync(path.join(savedNodes, folder)).map((file) => {
                    const name = file.replace(/\.txt$/, "");
                    return [names[name] ?? name, fs.readFileSync(path.join(savedNodes, folder, file), "utf8")];
                }),
            ),
        ]),
];

describe("half a text", () => {
    /** Facts that are neither the whole text's nor absent. What it says for want of GPUs is no fact. */
    function wrong(whole: NodeFacts, half: NodeFacts): string[] {
        const [all, some] = [whole, half].map((facts) => facts as Record<string, unknown>);
        return Object.keys(some!).filter(
            (key) => key !== "nvidiaSmiSays" && some![key] !== undefined && JSON.stringify(some![key]) !== JSON.stringify(all![key]),
        );
    }

    test.each(texts)("of %s gives each fact as the whole text does, or not at all, wherever it is cut", (_, sections) => {
        const whole = parseFacts(sections);
        for (const [name, text] of Object.entries(sections)) {
            for (let at = 0; at < text.length; at++) {
                const half = parseFacts({ ...sections, [name]: text.slice(0, at) });
                expect([name, at, wrong(whole, half)]).toEqual([name, at, []]);
            }
        }
    });

    test.each(texts)("of what the script prints on %s is known for one, from either end", (_, sections) => {
        const text = asScriptOutput(sections);
        const whole = parseFacts(splitSections(text));
        expect(whole.truncated).toBeUndefined();
        for (let at = 1; at < text.length - 1; at += 7) {
            for (const part of [text.slice(0, at), text.slice(at)]) {
                const half = parseFacts(splitSections(part));
                expect([at, half.truncated === true ? Object.keys(half) : wrong(whole, half)]).toEqual([at, half.truncated === true ? ["truncated"] : []]);
            }
        }
    });

    test("without its head, as the kubelet keeps it, says that it is one", () => {
        expect(parseFacts(splitSections(asScriptOutput(sourceDocument).slice(-300)))).toEqual({ truncated: true });
        expect(parseFacts(splitSections(`Welcome to gh200-1\n${asScriptOutput(recommended)}`))).toEqual(parseFacts(recommended));
    });
});

describe("hostile text", () => {
    const words = fc.constantFrom(
        "== ",
        "__proto__",
        "constructor",
        "node 0 size: ",
        "node 0 cpus:",
        "MB\n",
        "\n",
        "\r\n",
        "|",
        "MiB / ",
        "MiB |",
        "Mem: ",
        "99999999999999999999",
        "-1",
        "1e9",
        "Size: ",
        " GB\n",
        "0-f : System RAM (NVIDIA)\n",
        "ffffffffffffffff-0 : System RAM\n",
        "CoherentGPUMemoryMode: ",
        '"numa"',
        "\u0000",
        "é",
        "$(reboot)",
        " ".repeat(2000),
        "9".repeat(2000),
    );
    const text = fc.oneof(
        fc.array(words, { maxLength: 30 }).map((parts) => parts.join("")),
        fc.string({ maxLength: 500 }),
    );

    test("gives no exception, no negative, broken or impossible size, and takes no time", () => {
        const started = Date.now();
        fc.assert(
            fc.property(text, (hostile) => {
                const names = [
                    "nvidia-smi",
                    "compute apps",
                    "numactl --hardware",
                    "free",
                    "/proc/iomem",
                    "/proc/driver/nvidia/params",
                    "dmidecode",
                    "page size",
                    "c2c",
                ];
                const facts = parseFacts({ ...splitSections(hostile), ...Object.fromEntries(names.map((name) => [name, hostile])) });
                const sizes = [
                    facts.hbmMiB,
                    facts.hbmInUseMiB,
                    facts.memoryTotalMiB,
                    facts.solderedMiB,
                    facts.pageKiB,
                    ...(facts.numaNodes ?? []).map(({ sizeMiB }) => sizeMiB),
                ];
                for (const size of sizes.filter((candidate) => candidate !== undefined)) {
                    expect(Number.isSafeInteger(size) && size >= 0 && size <= 16 * 1024 * 1024).toBe(true);
                }
            }),
            { numRuns: 2000 },
        );
        expect(Date.now() - started).toBeLessThan(15_000);
    });

    test("of two hundred texts that were changed at random gives none either", () => {
        const change = fc.record({ at: fc.double({ min: 0, max: 1, noNaN: true }), length: fc.nat(20), put: fc.oneof(fc.string({ maxLength: 8 }), words) });
        const changed = fc
            .tuple(fc.constantFrom(...texts.map(([, sections]) => sections)), fc.array(change, { minLength: 1, maxLength: 6 }))
            .map(([sections, changes]) =>
                Object.fromEntries(
                    Object.entries(sections).map(([name, whole]) => [
                        name,
                        changes.reduce((said, { at, length, put }) => {
                            const from = Math.floor(at * said.length);
                            return said.slice(0, from) + put + said.slice(from + length);
                        }, whole),
                    ]),
                ),
            );
        fc.assert(
            fc.property(changed, (sections) => {
                const facts = parseFacts(sections);
                const most = 16 * 1024 * 1024;
                const bounds: [number | undefined, number, number][] = [
                    [facts.gpus, 1, 16],
                    [facts.hbmMiB, 1, 288 * 1024],
                    [facts.hbmInUseMiB, 0, facts.hbmMiB ?? 288 * 1024],
                    [facts.hbmReservedMiB, 0, facts.hbmMiB ?? 288 * 1024],
                    [facts.linkGBps, 0, 450],
                    [facts.memoryTotalMiB, 0, most],
                    [facts.hugePagesMiB, 0, most],
                    [facts.onlinedByDriverMiB, 0, most],
                    [facts.solderedMiB, 1, most],
                    [facts.pageKiB, 4, 64],
                    ...(facts.numaNodes ?? []).map(({ sizeMiB }): [number, number, number] => [sizeMiB, 0, most]),
                ];
                for (const [size, least, greatest] of bounds) {
                    expect(size === undefined || (Number.isSafeInteger(size) && size >= least && size <= greatest)).toBe(true);
                }
                expect(() =>
                    judge(
                        { hbmMiB: 97_871, hbmInUseMiB: 0, lpddrMiB: 491_520, egmEnabled: false, egmReservedMiB: 8192, coherentMode: "driver" },
                        97_871,
                        facts,
                    ),
                ).not.toThrow();
                expect(() => declarationOf(facts)).not.toThrow();
            }),
            { numRuns: 200 },
        );
    });

    test("cannot reach an object's prototype by a section's name", () => {
        const sections = splitSections("== __proto__\npolluted\n== constructor\nx\n");
        expect(Object.getPrototypeOf(sections)).toBeNull();
        expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    });
});
