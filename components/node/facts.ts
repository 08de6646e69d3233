import { nvidiaSmi, type SmiFacts } from "./nvidiaSmi";

export { nvidiaSmi };

/*
 * Reads the text of a node's own tools. What is absent or makes no sense is undefined: a number is never guessed from half
 * a line, nor a sum from half a list. The text comes from assets/node/facts, or from files as a person saved them.
 */

/** What a node says of itself. All sizes in MiB; what nvidia-smi says is of one GPU, the rest of the whole node. */
export interface NodeFacts extends SmiFacts {
    /** Whether the text lost its beginning or its end: then nothing of it was read. */
    truncated?: boolean | undefined;
    /** NVLink-C2C in GB/s each way, as the driver reports its links: of the GPU that has least. */
    linkGBps?: number | undefined;
    numaNodes?: NumaNode[] | undefined;
    /** `MemTotal`, which is `free`'s total. */
    memoryTotalMiB?: number | undefined;
    /** What the kernel holds as huge pages of all sizes. */
    hugePagesMiB?: number | undefined;
    /** `System RAM (NVIDIA)` of /proc/iomem: HBM that the driver onlined. Undefined where the addresses are masked, or NUMA nodes say otherwise. */
    onlinedByDriverMiB?: number | undefined;
    coherentMode?: "numa" | "driver" | undefined;
    /** Memory that the firmware lists as soldered on. */
    solderedMiB?: number | undefined;
    pageKiB?: number | undefined;
    iommu?: string | undefined;
    /** Whether the kernel offers EGM regions to virtual machines. */
    egmDevice?: boolean | undefined;
}

export interface NumaNode {
    id: number;
    /** Its lowest CPU, which the pieces of one Grace CPU share (numa=fake); absent where it has none, as HBM. */
    firstCpu?: number | undefined;
    sizeMiB: number;
    freeMiB?: number | undefined;
}

/** Sections as assets/node/facts prints them; the names are also the names of saved files. */
export function parseFacts(given: Record<string, string>): NodeFacts {
    if (given[truncated] !== undefined) {
        return { truncated: true };
    }
    const section = (...names: string[]) => (names.map((name) => given[name]).find((text) => text !== undefined) ?? "").replace(/\r\n?/g, "\n");
    const smi = nvidiaSmi(section("nvidia-smi"));
    const version = /(?:Kernel Module|for aarch64)\s+(\d+\.\d+(?:\.\d+)?)\s/.exec(section("/proc/driver/nvidia/version"))?.[1];
    const driverVersion = smi.driverVersion ?? version;
    const numaNodes = numactl(section("numactl --hardware", "numactl"));
    const meminfo = section("meminfo");
    const apps = computeApps(section("compute apps"));
    return {
        ...smi,
        driverVersion,
        gpuBusy: apps === true ? true : (smi.gpuBusy ?? apps),
        virtualMachine: smi.virtualMachine ?? (/\b(QEMU|KVM|OpenStack|VMware|Amazon EC2|Google|KubeVirt)\b/.test(section("machine")) ? true : undefined),
        linkGBps: link(section("c2c")),
        numaNodes,
        memoryTotalMiB: kB(meminfo, "MemTotal") ?? free(section("free")),
        hugePagesMiB: hugePages(meminfo),
        onlinedByDriverMiB: confirmed(onlinedByDriver(section("/proc/iomem", "iomem")), numaNodes),
        coherentMode: coherentMode(section("/proc/driver/nvidia/params", "params"), driverVersion),
        solderedMiB: dmidecode(section("dmidecode")),
        pageKiB: pageSize(section("page size")),
        iommu: wholeLines(section("iommu")).join(" ").trim().split(/\s+/).filter(Boolean).join(", ") || undefined,
        egmDevice: egmDevice(section("egm")),
    };
}

/** The name of the section that stands for what is missing. */
const truncated = "truncated";
const [firstSection, lastSection] = ["gh200-facts", "end"];

/**
 * `== NAME` starts a section; the last section of a name wins. A text of assets/node/facts that lost its beginning (the
 * kubelet keeps the last 4,096 bytes of a termination message) or its end has the section `truncated`.
 */
export function splitSections(text: string): Record<string, string> {
    const sections: Record<string, string> = Object.create(null) as Record<string, string>;
    const lines = text.split(/\r?\n/);
    let name: string | undefined;
    for (const line of lines) {
        const head = /^== (\S.*)$/.exec(line);
        if (head !== null) {
            name = (head[1] ?? "").trim();
            sections[name] = "";
        } else if (name !== undefined) {
            sections[name] += `${line}\n`;
        }
    }
    const begins = /^== \S/.test(lines.find((line) => line.trim() !== "") ?? "== nothing");
    const [begun, ended] = [firstSection in sections, lastSection in sections];
    if (begun !== ended || (!begun && !begins && name !== undefined)) {
        sections[truncated] = "";
    }
    return sections;
}

/** Lines that have an end: the last one of a text without is half a line. */
function wholeLines(text: string): string[] {
    return text.split("\n").slice(0, -1);
}

/** Process identities, a line each, or `none`; what else nvidia-smi says in their place is no answer. */
function computeApps(text: string): boolean | undefined {
    const lines = wholeLines(text).map((line) => line.trim());
    return lines.length === 0 || lines.some((line) => !/^(\d+|none|)$/.test(line)) ? undefined : lines.some((line) => /^\d/.test(line));
}

function egmDevice(text: string): boolean | undefined {
    const said = wholeLines(text).join(" ");
    return /\/dev\/egm\d/.test(said) ? true : /\bnone\b/.test(said) ? false : undefined;
}

/**
 * `numactl --hardware`, or as assets/node/facts prints it: nodes without CPUs and memory in one line. Undefined where fewer
 * nodes are listed than are «available», or one without its size.
 */
export function numactl(text: string): NumaNode[] | undefined {
    const fields = new Map<string, Record<string, string>>();
    for (const [, id = "", name = "", value = ""] of text.matchAll(/^node (\d{1,4}) (cpus|size|free):[ \t]*(.*)$/gm)) {
        fields.set(id, { ...fields.get(id), [name]: value });
    }
    const empty = /^empty nodes:((?: \d{1,4})+)\n/m.exec(text)?.[1]?.trim().split(" ") ?? [];
    const available = /^available: (\d{1,4}) nodes?\b/m.exec(text)?.[1];
    const mb = (value: string | undefined) => count(/^(\d+) MB[ \t]*$/.exec(value ?? "")?.[1]);
    const nodes = [...fields].flatMap(([id, { cpus, size, free: unused }]): NumaNode[] => {
        const [sizeMiB, freeMiB] = [mb(size), mb(unused)];
        const firstCpu = count(/^\d+/.exec(cpus ?? "")?.[0]);
        return sizeMiB === undefined || (available !== undefined && freeMiB === undefined) ? [] : [{ id: Number(id), firstCpu, sizeMiB, freeMiB }];
    });
    const all = [...nodes, ...empty.filter((id) => !fields.has(id)).map((id): NumaNode => ({ id: Number(id), sizeMiB: 0 }))];
    const complete = nodes.length === fields.size && (available === undefined || all.length === Number(available));
    return all.length === 0 || !complete ? undefined : all.sort((a, b) => a.id - b.id);
}

/** Bytes of the letters that `free` writes behind a number: with an i of 1024, without (`--si`) of 1000. */
const units: Record<string, number> = {
    B: 1,
    Ki: 2 ** 10,
    Mi: 2 ** 20,
    Gi: 2 ** 30,
    Ti: 2 ** 40,
    K: 1e3,
    k: 1e3,
    M: 1e6,
    G: 1e9,
    T: 1e12,
};

/**
 * The total of `free`, with whatever flag. A bare number is of the unit that makes it the memory of such a node, which is
 * between 4 GiB and 4 TiB: `free -g`, `-m`, none or `-b`.
 */
export function free(text: string): number | undefined {
    const [, digits, unit] = /^(?:Mem|Speicher)[ \t]*:[ \t]+(\d{1,15}(?:[.,]\d{1,3})?)[ \t]?(B|[KMGT]i?|k)?[ \t]/m.exec(text) ?? [];
    const value = Number(digits?.replace(",", ".") ?? Number.NaN);
    const bytes =
        unit === undefined ? [2 ** 30, 2 ** 20, 2 ** 10, 1].map((scale) => value * scale).find((size) => size < 2 ** 42) : value * (units[unit] ?? Number.NaN);
    return bytes === undefined || (unit === undefined && bytes < 2 ** 32) ? undefined : count(String(bytes / 2 ** 20));
}

function kB(meminfo: string, name: string): number | undefined {
    return count(new RegExp(`^${name}:[ \\t]*(\\d{1,15}) kB[ \\t]*$`, "m").exec(meminfo)?.[1], 1 / 1024);
}

/** `Hugetlb` is the sum of all sizes (Linux 4.16); before it, there is what the pages of the default size make. */
export function hugePages(meminfo: string): number | undefined {
    const pages = count(/^HugePages_Total:[ \t]*(\d{1,12})[ \t]*\n/m.exec(meminfo)?.[1]);
    const sizeKiB = /^Hugepagesize:[ \t]*(\d{1,9}) kB[ \t]*$/m.exec(meminfo)?.[1];
    return kB(meminfo, "Hugetlb") ?? (pages === undefined || sizeKiB === undefined ? undefined : count(String((pages * Number(sizeKiB)) / 1024)));
}

/** The file itself, or its sum as assets/node/facts prints it. Undefined where the addresses are masked (all zero), as for everyone but root. */
export function onlinedByDriver(text: string): number | undefined {
    if (/^System RAM: \d+ MiB\n/m.test(text)) {
        return count(/^System RAM \(NVIDIA\): (\d+) MiB\n/m.exec(text)?.[1]);
    }
    const ranges = wholeLines(text).flatMap((line) => {
        const [, from, to, name] = /^\s*([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (System RAM.*?)\s*$/i.exec(line) ?? [];
        return from === undefined || to === undefined ? [] : [{ from: BigInt(`0x${from}`), to: BigInt(`0x${to}`), name }];
    });
    const readable = ranges.filter(({ from, to }) => to > from);
    const bytes = readable.filter(({ name }) => name === "System RAM (NVIDIA)").reduce((sum, { from, to }) => sum + to - from + 1n, 0n);
    return readable.length === 0 ? undefined : count(String(bytes / 1048576n));
}

/** A list of ranges has no end by which a cut would show; it counts where the NUMA nodes without CPUs have as much, to a hundredth. */
function confirmed(onlinedMiB: number | undefined, nodes: readonly NumaNode[] | undefined): number | undefined {
    const hbmMiB = nodes?.filter(({ firstCpu }) => firstCpu === undefined).reduce((sum, { sizeMiB }) => sum + sizeMiB, 0);
    return onlinedMiB !== undefined && hbmMiB !== undefined && Math.abs(onlinedMiB - hbmMiB) * 100 <= hbmMiB ? onlinedMiB : undefined;
}

/** NVreg_CoherentGPUMemoryMode; empty it is NUMA before R615 and the driver's own management from there on. */
export function coherentMode(params: string, driverVersion: string | undefined): "numa" | "driver" | undefined {
    const match = /^[ \t]*CoherentGPUMemoryMode:[ \t]*(?:"(\w*)"|(\w*)[ \t]*\n)/m.exec(params);
    const value = match?.[1] ?? match?.[2];
    if (value === "numa" || value === "driver") {
        return value;
    }
    const branch = Number(driverVersion?.split(".")[0] ?? Number.NaN);
    return value !== "" || Number.isNaN(branch) ? undefined : branch >= 615 ? "driver" : "numa";
}

/**
 * The sizes of all memory devices; `uniq -c` may have counted equal lines. dmidecode 3.7 says GiB where it said GB, both are
 * of 1024. Undefined where fewer devices are listed than it names.
 */
export function dmidecode(text: string): number | undefined {
    const devices = [...text.matchAll(/^[ \t]*(?:(\d{1,4})[ \t]+)?Size:[ \t]*(?:(\d{1,9}) ([MGT])i?B|No Module Installed|Unknown)[ \t]*$/gm)];
    const scale: Record<string, number> = { M: 1, G: 1024, T: 1024 * 1024 };
    const [listed, sum] = devices.reduce(
        ([number, total], [, times = "1", size = "0", unit = "M"]) => [number + Number(times), total + Number(times) * Number(size) * (scale[unit] ?? 0)],
        [0, 0],
    );
    const named = [...text.matchAll(/^[ \t]*Number Of Devices:[ \t]*(\d{1,4})[ \t]*\n/gm)].reduce((total, match) => total + Number(match[1]), 0);
    return sum === 0 || (named > 0 && listed !== named) ? undefined : count(String(sum));
}

function pageSize(text: string): number | undefined {
    const bytes = Number(/^\s*(\d{4,6})\s*\n/.exec(text)?.[1]);
    return [4096, 16_384, 65_536].includes(bytes) ? bytes / 1024 : undefined;
}

/** Links of NVLink-C2C between one Grace CPU and one Hopper GPU, and the most that they carry each way (half of the 900 GB/s of both). */
const [links, mostGBps] = [10, 450];

/** `nvidia-smi c2c -s`, or a line for each GPU as assets/node/facts sums it. The links' sum is one direction, of the GPU that has least. */
export function link(text: string): number | undefined {
    const sums = [...text.matchAll(/^GPU \d+: (\d+) links (\d{1,4}(?:\.\d+)?) GB\/s$/gm)].map(([, number, sum]) => ({
        number: Number(number),
        sum: Number(sum),
    }));
    for (const [, index, speed] of text.matchAll(/^[ \t]*C2C Link (\d+): (?:(\d{1,4}(?:\.\d+)?) GB\/s$|\S.*(?=\n))/gm)) {
        const gpu = index === "0" ? undefined : sums.at(-1);
        const added = { number: (gpu?.number ?? 0) + 1, sum: (gpu?.sum ?? 0) + Number(speed ?? 0) };
        sums.splice(gpu === undefined ? sums.length : -1, gpu === undefined ? 0 : 1, added);
    }
    const least = Math.round(Math.min(...sums.map(({ sum }) => sum)));
    return sums.length === 0 || sums.some(({ number }) => number !== links) || least > mostGBps ? undefined : least;
}

/** More than 16 TiB is no size of such a node, and no number that a text hides in 400 digits is either. */
function count(digits: string | undefined, scale = 1): number | undefined {
    const value = digits === undefined ? Number.NaN : Math.round(Number(digits) * scale);
    return Number.isSafeInteger(value) && value >= 0 && value <= 16 * 1024 * 1024 ? value : undefined;
}
