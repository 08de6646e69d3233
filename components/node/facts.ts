/**
 * Reads the text of a node's own tools. What is absent or makes no sense is undefined: a number is
 * never guessed from half a line. The text comes from assets/node/facts, or from files as a person saved them.
 */

/** What a node says of itself. All sizes in MiB. */
export interface NodeFacts {
    gpuName?: string | undefined;
    hbmMiB?: number | undefined;
    hbmInUseMiB?: number | undefined;
    driverVersion?: string | undefined;
    /** Whether a process computes on the GPU: then what is in use is not what is in use at idle. */
    gpuBusy?: boolean | undefined;
    /** NVLink-C2C in GB/s each way, as the driver reports its links. */
    linkGBps?: number | undefined;
    numaNodes?: NumaNode[] | undefined;
    /** `free`'s total. */
    memoryTotalMiB?: number | undefined;
    /** `System RAM (NVIDIA)` of /proc/iomem: HBM that the driver onlined. Undefined where the addresses are masked. */
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
    hasCpus: boolean;
    sizeMiB: number;
    freeMiB?: number | undefined;
}

/** Sections as assets/node/facts prints them; the names are also the names of saved files. */
export function parseFacts(sections: Record<string, string>): NodeFacts {
    const smi = nvidiaSmi(sections["nvidia-smi"] ?? "");
    const iomem = onlinedByDriver(sections["/proc/iomem"] ?? sections["iomem"] ?? "");
    const driverVersion = smi.driverVersion ?? /(?:Kernel Module|for aarch64)\s+(\d+\.\d+(?:\.\d+)?)/.exec(sections["/proc/driver/nvidia/version"] ?? "")?.[1];
    const apps = sections["compute apps"];
    const egm = sections["egm"];
    return {
        ...smi,
        driverVersion,
        gpuBusy: apps === undefined ? undefined : /^\s*\d+/m.test(apps),
        linkGBps: link(sections["c2c"] ?? ""),
        numaNodes: numactl(sections["numactl --hardware"] ?? sections["numactl"] ?? ""),
        memoryTotalMiB: free(sections["free"] ?? ""),
        onlinedByDriverMiB: iomem,
        coherentMode: coherentMode(sections["/proc/driver/nvidia/params"] ?? sections["params"] ?? "", driverVersion),
        solderedMiB: dmidecode(sections["dmidecode"] ?? ""),
        pageKiB: count(/^\s*(\d+)\s*$/.exec(sections["page size"] ?? "")?.[1], 1 / 1024),
        iommu: sections["iommu"]?.trim().split(/\s+/).filter(Boolean).join(", ") || undefined,
        egmDevice: egm === undefined ? undefined : /\/dev\/egm/.test(egm),
    };
}

/** `== NAME` starts a section; the last section of a name wins. */
export function splitSections(text: string): Record<string, string> {
    const sections: Record<string, string> = Object.create(null) as Record<string, string>;
    let name: string | undefined;
    for (const line of text.split(/\r?\n/)) {
        const head = /^== (\S.*)$/.exec(line);
        if (head !== null) {
            name = (head[1] ?? "").trim();
            sections[name] = "";
        } else if (name !== undefined) {
            sections[name] += `${line}\n`;
        }
    }
    return sections;
}

/** The table that a person sees, or `--query-gpu=name,memory.total,memory.used,driver_version --format=csv,noheader`. */
export function nvidiaSmi(text: string): Pick<NodeFacts, "gpuName" | "hbmMiB" | "hbmInUseMiB" | "driverVersion"> {
    const csv = /^\s*([^,|\n]+),\s*(\d+) MiB,\s*(\d+) MiB,\s*(\d+\.\d+(?:\.\d+)?)\s*$/m.exec(text);
    if (csv !== null) {
        return { gpuName: csv[1]?.trim(), hbmMiB: count(csv[2]), hbmInUseMiB: count(csv[3]), driverVersion: csv[4] };
    }
    const use = /\|\s*(\d+)MiB\s*\/\s*(\d+)MiB\s*\|/.exec(text);
    return {
        gpuName: /^\|\s+\d+\s+(\S.*?)\s+(?:On|Off|N\/A)\s+\|/m.exec(text)?.[1],
        hbmMiB: count(use?.[2]),
        hbmInUseMiB: count(use?.[1]),
        driverVersion: /Driver Version:\s*(\d+\.\d+(?:\.\d+)?)/.exec(text)?.[1],
    };
}

export function numactl(text: string): NumaNode[] | undefined {
    const nodes = [...text.matchAll(/^node (\d{1,4}) size:\s*(\d+) MB$/gm)].map((match): NumaNode => {
        const id = Number(match[1]);
        const cpus = new RegExp(`^node ${id} cpus:[ \\t]*(.*)$`, "m").exec(text)?.[1]?.trim() ?? "";
        const freeMiB = count(new RegExp(`^node ${id} free:\\s*(\\d+) MB$`, "m").exec(text)?.[1]);
        return { id, hasCpus: cpus !== "", sizeMiB: count(match[2]) ?? 0, freeMiB };
    });
    return nodes.length === 0 ? undefined : nodes;
}

/** `free -m`, `free -h` or `free -g`: the total of the line Mem. */
export function free(text: string): number | undefined {
    const match = /^Mem:\s+(\d+(?:[.,]\d+)?)\s*(Gi|Mi|Ti|Ki)?\b/m.exec(text);
    const scale = { Ki: 1 / 1024, Mi: 1, Gi: 1024, Ti: 1024 * 1024 };
    const unit = match?.[2] as keyof typeof scale | undefined;
    return count(match?.[1]?.replace(",", "."), unit === undefined ? 1 : scale[unit]);
}

/** Undefined where the addresses are masked (all zero), as for everyone but root. */
export function onlinedByDriver(text: string): number | undefined {
    const ranges = [...text.matchAll(/^\s*([0-9a-f]{1,16})-([0-9a-f]{1,16}) : (System RAM.*?)\s*$/gim)];
    const readable = ranges.filter(([, from, to]) => BigInt(`0x${to}`) > BigInt(`0x${from}`));
    if (readable.length === 0) {
        return undefined;
    }
    const bytes = readable
        .filter(([, , , name]) => name === "System RAM (NVIDIA)")
        .reduce((sum, [, from, to]) => sum + BigInt(`0x${to}`) - BigInt(`0x${from}`) + 1n, 0n);
    return Number(bytes / 1048576n);
}

/** NVreg_CoherentGPUMemoryMode; unset it is NUMA before R615 and the driver's own management from there on. */
export function coherentMode(params: string, driverVersion: string | undefined): "numa" | "driver" | undefined {
    const match = /^\s*CoherentGPUMemoryMode:\s*"?(\w*)"?\s*$/m.exec(params);
    const value = match?.[1];
    if (value === "numa" || value === "driver") {
        return value;
    }
    const branch = Number(driverVersion?.split(".")[0] ?? Number.NaN);
    return match === null || value !== "" || Number.isNaN(branch) ? undefined : branch >= 615 ? "driver" : "numa";
}

/** The sizes of all memory devices; `uniq -c` may have counted equal lines. */
export function dmidecode(text: string): number | undefined {
    const sizes = [...text.matchAll(/^\s*(?:(\d{1,3})\s+)?Size:\s*(\d+) ([MGT]B)\s*$/gm)];
    const scale = { MB: 1, GB: 1024, TB: 1024 * 1024 };
    const sum = sizes.reduce((total, [, times, size, unit]) => total + Number(times ?? 1) * Number(size) * scale[unit as keyof typeof scale], 0);
    return sum === 0 ? undefined : count(String(sum));
}

/** Ten links of NVLink-C2C; their sum is one direction. */
export function link(text: string): number | undefined {
    const links = [...text.matchAll(/(\d+(?:\.\d+)?) GB\/s/g)].map((match) => Number(match[1]));
    return links.length === 0 ? undefined : Math.round(links.reduce((sum, speed) => sum + speed, 0));
}

/** More than 16 TiB is no size of such a node, and no number that a text hides in 400 digits is either. */
function count(digits: string | undefined, scale = 1): number | undefined {
    const value = digits === undefined ? Number.NaN : Math.round(Number(digits) * scale);
    return Number.isSafeInteger(value) && value >= 0 && value <= 16 * 1024 * 1024 ? value : undefined;
}
