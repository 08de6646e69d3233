import { isGh200 } from "./gpuProduct";

/** What nvidia-smi says. Sizes in MiB and of one GPU: where a node has several alike, the least HBM, and the most in use and reserved. */
export interface SmiFacts {
    /** Product of the GPU that is planned on: a GH200 where the node has one. */
    gpuName?: string | undefined;
    /** GPUs of that product. Undefined for comma-separated values without `count`, whose end does not show. */
    gpus?: number | undefined;
    /** Products of the other GPUs. */
    otherGpus?: string[] | undefined;
    hbmMiB?: number | undefined;
    hbmInUseMiB?: number | undefined;
    /** What the driver keeps (`Reserved` of `nvidia-smi -q -d MEMORY`), which `hbmInUseMiB` is without. Absent with old drivers. */
    hbmReservedMiB?: number | undefined;
    /** Whether one of the GPUs is divided by Multi-Instance GPU. */
    mig?: boolean | undefined;
    driverVersion?: string | undefined;
    /** Whether a process computes on a GPU: then what is in use is not what is in use at idle. */
    gpuBusy?: boolean | undefined;
    /** Whether the GPU is passed through to this machine, which then is a virtual one. */
    virtualMachine?: boolean | undefined;
    /** Its first line, where it shows no GPU: why. */
    nvidiaSmiSays?: string | undefined;
}

interface Gpu {
    name?: string | undefined;
    hbm?: number | undefined;
    used?: number | undefined;
    reserved?: number | undefined;
    mig?: boolean | undefined;
}

/**
 * Reads the table that a person sees, `nvidia-smi -q`, or comma-separated values (with a header in any order, or as
 * assets/node/facts asks for them), also one after the other in one text. A list of GPUs that may be cut is no list.
 */
export function nvidiaSmi(text: string): SmiFacts {
    const [csv, table, log] = [csvGpus(text), tableGpus(text), logGpus(text)];
    const listed = csv ?? table ?? log;
    const reserved = listed?.length === log?.length ? log : undefined;
    const gpus = listed?.map((gpu, index) => ({ ...gpu, reserved: gpu.reserved ?? reserved?.[index]?.reserved }));
    return {
        ...planned(gpus, listed !== csv || csvRows(text).some((row) => "count" in row)),
        driverVersion: csvVersion(text) ?? /(?:Driver|KMD) Version\s*:\s*(\d+\.\d+(?:\.\d+)?)\s/.exec(text)?.[1],
        gpuBusy: busy(text),
        virtualMachine: /Virtualization Mode\s*:\s*Pass-Through\s/.test(text) ? true : undefined,
        nvidiaSmiSays: gpus === undefined ? firstLine(text) : undefined,
    };
}

function planned(gpus: readonly Gpu[] | undefined, counted: boolean): SmiFacts {
    if (gpus === undefined) {
        return {};
    }
    const gpuName = (gpus.find(({ name }) => isGh200(name ?? "")) ?? gpus[0])?.name;
    const alike = gpus.filter(({ name }) => name === gpuName);
    const others = gpus.flatMap(({ name }) => (name === undefined || name === gpuName ? [] : [name]));
    const possible = possibleMiB[isGh200(gpuName ?? "") ? "gh200" : "other"];
    const hbmMiB = bound(Math.min, alike, ({ hbm }) => hbm, possible);
    return {
        gpuName,
        gpus: counted ? alike.length : undefined,
        otherGpus: others.length === 0 ? undefined : others,
        hbmMiB,
        hbmInUseMiB: bound(Math.max, alike, ({ used }) => used, [0, hbmMiB ?? possible[1]]),
        hbmReservedMiB: bound(Math.max, alike, ({ reserved }) => reserved, [0, hbmMiB ?? possible[1]]),
        mig: alike.some(({ mig }) => mig === true) ? true : alike.every(({ mig }) => mig === false) ? false : undefined,
    };
}

/** HBM that a GPU can have: a GH200 96 or 144 GB, and none more than a GB300's 288 (2026). */
const possibleMiB = { gh200: [90 * 1024, 144 * 1024], other: [1, 288 * 1024] } as const;

/** Undefined where one of the GPUs does not say, or says what cannot be. */
function bound(
    of: (...sizes: number[]) => number,
    gpus: readonly Gpu[],
    size: (gpu: Gpu) => number | undefined,
    [least, most]: readonly [number, number],
): number | undefined {
    const sizes = gpus.map(size).filter((mib) => mib !== undefined && mib >= least && mib <= most) as number[];
    return sizes.length < gpus.length || sizes.length === 0 ? undefined : of(...sizes);
}

/** As assets/node/facts asks, with a fallback for drivers that do not know all of it; `count` tells whether a line is missing. */
const orders = [
    ["name", "memory.total", "memory.used", "memory.reserved", "mig.mode.current", "driver_version", "count"],
    ["name", "memory.total", "memory.used", "driver_version"],
];

function csvRows(text: string): Record<string, string>[] {
    const lines = text.split("\n");
    const fields = lines.map((line) => line.split(",").map((field) => field.trim()));
    const header = fields.find((names) => names.includes("name") && names.some((name) => name.startsWith("memory.total")));
    return fields.flatMap((values, index): Record<string, string>[] => {
        const order = header?.map((name) => name.replace(/ \[.*\]$/, "")) ?? orders.find((names) => names.length === values.length);
        if (order === undefined || values === header || values.length !== order.length) {
            return [];
        }
        // The last field of a line without an end may be half of itself.
        const whole = index < lines.length - 1 ? values : values.slice(0, -1);
        const row = Object.fromEntries(whole.map((value, at) => [order[at] ?? "", value]));
        const isSize = header === undefined ? /^(\d+ MiB|\[.*\])$/ : /^(\d+( MiB)?|\[.*\])$/;
        const isRow = [row["memory.total"], row["memory.used"]].every((size) => size === undefined || isSize.test(size));
        return isRow && (header !== undefined || "count" in row === order.includes("count")) ? [row] : [];
    });
}

function csvGpus(text: string): Gpu[] | undefined {
    const rows = csvRows(text);
    const size = (value: string | undefined) => {
        const digits = /^(\d{1,9})(?: MiB)?$/.exec(value ?? "")?.[1];
        return digits === undefined ? undefined : Number(digits);
    };
    const short = rows.some((row) => "count" in row && Number(row.count) !== rows.length);
    return rows.length === 0 || short
        ? undefined
        : rows.map((row) => ({
              name: row.name,
              hbm: size(row["memory.total"]),
              used: size(row["memory.used"]),
              reserved: size(row["memory.reserved"]),
              mig: migMode(row["mig.mode.current"]),
          }));
}

function csvVersion(text: string): string | undefined {
    return csvRows(text)
        .map((row) => /^\d+\.\d+(\.\d+)?$/.exec(row.driver_version ?? "")?.[0])
        .find((version) => version !== undefined);
}

/** The table of GPUs ends with an empty line, or where that of MIG devices or of processes begins; a text without is cut. */
function tableGpus(text: string): Gpu[] | undefined {
    const end = /^[ \t]*(?:\|\s*(?:MIG devices|Processes):|(?:\+-+){3}\+\n[ \t]*\n)/m.exec(text)?.index;
    const table = end === undefined ? "" : text.slice(0, end);
    const starts = [...table.matchAll(/^[ \t]*\|\s+\d+\s+(\S.*?)\s+(?:On|Off|N\/A|WDDM|TCC|MCDM)\s+\|\s+[0-9a-f]{4,8}:/gim)];
    if (starts.length === 0) {
        return undefined;
    }
    return starts.map((start, index) => {
        const rows = table.slice(start.index, starts[index + 1]?.index);
        const use = /\|\s*(\d{1,9})MiB\s*\/\s*(\d{1,9})MiB\s*\|/.exec(rows);
        // Of a GPU's three lines the last one says it.
        const mode = [...rows.matchAll(/\|[ \t]*(Enabled|Disabled|N\/A)[ \t]*\|[ \t]*$/gm)].at(-1)?.[1];
        return { name: start[1], hbm: use === null ? undefined : Number(use[2]), used: use === null ? undefined : Number(use[1]), mig: migMode(mode) };
    });
}

/** `nvidia-smi -q`, which says first how many GPUs follow; `-d MEMORY` leaves out their names. */
function logGpus(text: string): Gpu[] | undefined {
    const count = /^Attached GPUs\s*:\s*(\d+)\n/m.exec(text)?.[1];
    const blocks = text.split(/^GPU [0-9a-f]{8}:.*$/im).slice(1);
    const gpus = blocks.flatMap((block): Gpu[] => {
        const memory = /FB Memory Usage\n\s*Total\s*:\s*(\d{1,9}) MiB\n(?:\s*Reserved\s*:\s*(\d{1,9}) MiB\n)?\s*Used\s*:\s*(\d{1,9}) MiB\n/.exec(block);
        const [, total, reserved, used] = memory ?? [];
        const mode = /MIG Mode\n\s*Current\s*:\s*(\S+)\n/.exec(block)?.[1];
        const name = /Product Name\s*:\s*(\S.*?)\s*\n/.exec(block)?.[1];
        const mib = (digits: string | undefined) => (digits === undefined ? undefined : Number(digits));
        return /FB Memory Usage\n(?:.*\n){4}/.test(block) ? [{ name, hbm: mib(total), used: mib(used), reserved: mib(reserved), mig: migMode(mode) }] : [];
    });
    return count === undefined || gpus.length === 0 || gpus.length !== Number(count) ? undefined : gpus;
}

function migMode(mode: string | undefined): boolean | undefined {
    return mode === "Enabled" ? true : mode === "Disabled" || mode === "N/A" || mode === "[N/A]" ? false : undefined;
}

function busy(text: string): boolean | undefined {
    const processes = /^[ \t]*\|\s*Processes:/m.exec(text);
    if (processes !== null) {
        const table = text.slice(processes.index);
        // GPU, GI and CI, process, type: C computes, G draws.
        if (/^[ \t]*\|\s+\d+\s+(?:\S+\s+\S+\s+)?\d+\s+(?:M\+)?C(?:\+G)?\s/m.test(table)) {
            return true;
        }
        return /No running processes found/.test(table) || /^[ \t]*\|=+\|\n(?:\s*\|.*\|\n)+\s*\+-+\+/m.test(table) ? false : undefined;
    }
    const count = /^Attached GPUs\s*:\s*(\d+)\n/m.exec(text)?.[1];
    if (/^\s*Type\s*:\s*(?:M\+)?C(?:\+G)?\n/m.test(text)) {
        return true;
    }
    return count !== undefined && [...text.matchAll(/^\s*Processes\s*:\s*None\n/gm)].length === Number(count) ? false : undefined;
}

function firstLine(text: string): string | undefined {
    const cut = /^[ \t]*\|\s+\d+\s+\S.*\|\s+[0-9a-f]{4,8}:/im.test(text) ? "its table is cut off" : undefined;
    const line = text
        .split("\n")
        // What a terminal would obey is not shown.
        .map((said) => said.replace(/[\u0000-\u001f\u007f-\u009f]/g, " ").trim())
        .find((said) => said !== "");
    return cut ?? (line === undefined ? undefined : line.slice(0, 100));
}
