import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { coherentMode, dmidecode, free, link, numactl, nvidiaSmi, onlinedByDriver, parseFacts, splitSections } from "../../components/node/facts";
import { asScriptOutput, egmOff, recommended, sourceDocument } from "../support/nodeTexts";

test("the source document's node, from its tools' own text", () => {
    expect(parseFacts(sourceDocument)).toEqual({
        gpuName: "NVIDIA GH200 480GB",
        hbmMiB: 97_871,
        hbmInUseMiB: 14_920,
        driverVersion: "595.45.04",
        gpuBusy: false,
        linkGBps: 447,
        numaNodes: [
            { id: 0, hasCpus: true, sizeMiB: 8080, freeMiB: 3021 },
            { id: 1, hasCpus: false, sizeMiB: 0, freeMiB: 0 },
            { id: 2, hasCpus: false, sizeMiB: 97_280, freeMiB: 82_015 },
            ...[3, 4, 5, 6, 7, 8, 9].map((id) => ({ id, hasCpus: false, sizeMiB: 0, freeMiB: 0 })),
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

test.each(Object.entries({ sourceDocument, egmOff, recommended }))("%s says the same through the script's sections", (_, sections) => {
    expect(parseFacts(splitSections(asScriptOutput(sections)))).toEqual(parseFacts(sections));
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

    test.each([
        "",
        "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.",
        "NVIDIA GH200 480GB, [N/A], [N/A], 580.65.06",
        `|   ${"9".repeat(400)}MiB / 97871MiB |`,
    ])("without figures: %s", (text) => {
        expect(nvidiaSmi(text).hbmInUseMiB).toBeUndefined();
    });
});

test.each([
    ["Mem:           102Gi        17Gi", 104_448],
    ["Mem:          587317        9000", 587_317],
    ["Mem:           7,9Gi        17Gi", 8090],
    ["Mem:           lots", undefined],
    ["Swap:             0B", undefined],
])("free: %s", (text, expected) => {
    expect(free(text)).toBe(expected);
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
    ["\tSize: Unknown", undefined],
])("dmidecode: %j", (text, expected) => {
    expect(dmidecode(text)).toBe(expected);
});

test("links that are not shown are no speed", () => {
    expect(link("Unable to retrieve C2C")).toBeUndefined();
    expect(numactl("No NUMA support available on this system.")).toBeUndefined();
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

    test("cannot reach an object's prototype by a section's name", () => {
        const sections = splitSections("== __proto__\npolluted\n== constructor\nx\n");
        expect(Object.getPrototypeOf(sections)).toBeNull();
        expect(({} as Record<string, unknown>).polluted).toBeUndefined();
    });
});
