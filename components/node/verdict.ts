import { problemLine, type Problem } from "../internal/errors";
import { gib } from "./describe";
import type { NodeFacts, NumaNode } from "./facts";
import { hbmOfProduct, isGh200, lpddrOfProduct } from "./gpuProduct";
import { hbmTerms, type MemoryProfile, memoryProfile, memoryProfiles, type NodeMemory, osView } from "./memory";

/** What was measured of one GH200 of a node, in the model's own terms. Undefined where the node did not say. */
export interface MeasuredNode {
    profile?: MemoryProfile | undefined;
    /** GH200s on the node: everything else here is of one, and a pod with one GPU is promised no more. */
    superchips?: number | undefined;
    /** NUMA nodes of the whole node, those without memory included. */
    numaNodes?: number | undefined;
    hbmMiB?: number | undefined;
    /** Real LPDDR: the NUMA nodes that have CPUs, huge pages included. */
    lpddrMiB?: number | undefined;
    /** LPDDR that the kernel holds as huge pages. */
    hugePagesMiB?: number | undefined;
    /** NUMA nodes without CPUs: HBM that Linux counts. */
    onlinedHbmMiB?: number | undefined;
    /** LPDDR that is soldered on, by the firmware or by the product's name. */
    solderedMiB?: number | undefined;
    egmEnabled?: boolean | undefined;
    /** The BIOS's reserved memory, inferred from the LPDDR that Linux has. */
    egmReservedMiB?: number | undefined;
    coherentMode?: "numa" | "driver" | undefined;
}

/** Firmware and kernel take 112 MiB of the 8,192 that EGM reserves (memory.ts); reserved values are whole 512 MiB (an assumption). */
const reservedStepMiB = 512;

/** Kernels differ in what they keep for themselves; the system's reserve covers a hundredth (an estimate). */
const kernelShare = 0.01;

/** Idle GH200s show 1 to 40 MiB in use where nothing runs on them (tests/fixtures/node/SOURCES.md). */
const idleMiB = 64;

/** NVLink-C2C's 900 GB/s are both directions added; a link that carries less than 9 of its 10 lanes' share is degraded (an estimate). */
const linkGBps = { declaredBothWays: 900, least: 400 };

/** LPDDR of the smallest GH200 (product names): where neither firmware nor name says a size, it is at least this. */
const smallestMiB = 120 * 1024;

/** LPDDR5X's own rate in GB/s: the 480 GB part's, and the most of the 120 and 240 GB parts' (NVIDIA's Grace tuning guide). */
const lpddrGBps = { largest: 384, smaller: 512 };

export function measureNode(facts: NodeFacts): MeasuredNode {
    const lpddr = facts.numaNodes && lpddrByCpu(facts.numaNodes);
    const all = lpddr?.reduce((sum, mib) => sum + mib, 0);
    // A Grace CPU is one NUMA node; those of a virtual machine are its host's invention. A GPU may be hidden, or lost.
    const cpus = facts.virtualMachine ? 1 : (lpddr?.length ?? 1);
    const superchips = lpddr === undefined ? facts.gpus : Math.max(facts.gpus ?? 1, cpus);
    // Of several CPUs the one that has least; of one that serves several GPUs a share.
    const lpddrMiB = all === undefined ? undefined : Math.min(share(all, superchips) ?? all, ...(facts.virtualMachine ? [] : (lpddr ?? [])));
    const onlined = facts.numaNodes?.filter(({ firstCpu }) => firstCpu === undefined).reduce((total, { sizeMiB }) => total + sizeMiB, 0);
    const onlinedHbmMiB = share(onlined, superchips);
    // What Linux counts decides; the driver's parameter only where it does not say.
    const coherentMode = onlinedHbmMiB === undefined ? facts.coherentMode : onlinedHbmMiB > 0 ? "numa" : "driver";
    const solderedMiB = share(facts.solderedMiB, superchips) ?? lpddrOfProduct(facts.gpuName);
    // EGM takes all but the reserved part; nothing else takes half. A virtual machine has what its host gives it.
    const egmEnabled = lpddrMiB === undefined ? undefined : lpddrMiB < (solderedMiB ?? smallestMiB) / 2 && facts.virtualMachine !== true;
    return {
        profile: egmEnabled === undefined || coherentMode === undefined ? undefined : egmEnabled ? `egm-${coherentMode}` : coherentMode,
        superchips,
        numaNodes: facts.numaNodes?.length,
        hbmMiB: facts.hbmMiB ?? hbmOfProduct(facts.gpuName),
        lpddrMiB,
        hugePagesMiB: share(facts.hugePagesMiB, superchips),
        onlinedHbmMiB,
        solderedMiB,
        egmEnabled,
        egmReservedMiB: egmEnabled && lpddrMiB !== undefined ? Math.ceil(lpddrMiB / reservedStepMiB) * reservedStepMiB : undefined,
        coherentMode,
    };
}

/** LPDDR of each Grace CPU: nodes with the same first CPU are pieces of one. */
function lpddrByCpu(nodes: readonly NumaNode[]): number[] {
    const sizes = new Map<number, number>();
    for (const { firstCpu, sizeMiB } of nodes) {
        if (firstCpu !== undefined && sizeMiB > 0) {
            sizes.set(firstCpu, (sizes.get(firstCpu) ?? 0) + sizeMiB);
        }
    }
    return [...sizes.values()];
}

/** Huge pages are spread evenly over the nodes (Linux, admin-guide/mm/hugetlbpage). */
function share(mib: number | undefined, superchips = 1): number | undefined {
    return mib === undefined ? undefined : Math.floor(mib / Math.max(1, superchips));
}

/** The LPDDR that, declared, gives Linux what was measured: tenths of a GiB, rounded down. */
function lpddrGiBFor(measuredMiB: number): number {
    return Math.floor(((measuredMiB * 491_520) / 490_037 / 1024) * 10) / 10;
}

/** Why a node cannot be planned at all: the first reason, and then nothing else is to be said of it. */
export function refusalOf(facts: NodeFacts): Problem | undefined {
    const { gpuName, mig, truncated, numaNodes, nvidiaSmiSays } = facts;
    if (truncated) {
        return {
            path: "node",
            wrong: "said only part of its facts: the text lost its beginning or its end",
            fix: "ask it over ssh (npm run node:check -- --host NAME), or raise probe.run",
        };
    }
    if (gpuName !== undefined && !isGh200(gpuName)) {
        return { path: "node", value: gpuName, wrong: "is no GH200", accepted: "NVIDIA GH200", fix: "name the node that has one" };
    }
    if (mig) {
        return {
            path: "node",
            value: `${gpuName} with MIG enabled`,
            wrong: "divides its HBM between instances, and a plan is for a whole GPU",
            accepted: "MIG disabled",
            fix: "nvidia-smi -mig 0",
        };
    }
    const missing = gpuName === undefined || measureNode(facts).hbmMiB === undefined;
    if (!missing && numaNodes !== undefined) {
        return undefined;
    }
    const smi = nvidiaSmiSays === undefined ? "nvidia-smi" : `nvidia-smi: «${nvidiaSmiSays}»`;
    return {
        path: "node",
        wrong: `did not say ${missing ? `its HBM (${smi})` : "its NUMA nodes"}`,
        fix: "install the NVIDIA driver, or run it on the GH200",
    };
}

export interface Verdict {
    /** What must be mended: the declaration or the node. */
    problems: Problem[];
    /** What a person should know. */
    notes: string[];
}

/** Compares what was declared with what was measured. `managedMiB` is the managed memory that was declared in all. */
export function judge(declared: NodeMemory, managedMiB: number, facts: NodeFacts): Verdict {
    const refused = refusalOf(facts);
    if (refused !== undefined) {
        return { problems: [refused], notes: [] };
    }
    const measured = measureNode(facts);
    return {
        problems: [...factProblems(declared, facts, measured), ...managedProblems(declared, managedMiB, measured)],
        notes: notes(declared, facts, measured),
    };
}

function factProblems(declared: NodeMemory, facts: NodeFacts, measured: MeasuredNode): Problem[] {
    const problems: Problem[] = [];
    const view = osView({ ...declared, hugePagesMiB: 0 });
    if (measured.hbmMiB !== undefined && declared.hbmMiB > measured.hbmMiB) {
        problems.push({
            path: "node.hbmMiB",
            value: declared.hbmMiB,
            wrong: `is more than the measured ${measured.hbmMiB} MiB`,
            accepted: `at most ${measured.hbmMiB}`,
            fix: "declare what nvidia-smi shows",
        });
    }
    const keptMiB = hbmTerms(declared).driver;
    if (facts.hbmReservedMiB !== undefined && facts.hbmReservedMiB > keptMiB) {
        problems.push({
            path: "node.hbmReservedMiB",
            value: keptMiB,
            wrong: `is less than the measured ${facts.hbmReservedMiB} MiB that the driver keeps`,
            accepted: `${facts.hbmReservedMiB} or more`,
            fix: "declare it",
        });
    }
    if (facts.gpuBusy === false && facts.hbmInUseMiB !== undefined && facts.hbmInUseMiB > declared.hbmInUseMiB + idleMiB) {
        problems.push({
            path: "node.hbmInUseMiB",
            value: declared.hbmInUseMiB,
            wrong: `is less than the measured ${facts.hbmInUseMiB} MiB in use on the idle node`,
            accepted: `${facts.hbmInUseMiB} or more`,
            fix:
                measured.coherentMode === "driver"
                    ? "declare it, or end what holds it"
                    : `declare it, or keep page cache out of HBM: ${inMode("driver", facts)} (coherentMode: driver)`,
        });
    }
    if ((measured.hugePagesMiB ?? 0) > (declared.hugePagesMiB ?? 0)) {
        problems.push({
            path: "node.hugePagesMiB",
            value: declared.hugePagesMiB ?? 0,
            wrong: `is less than the measured ${measured.hugePagesMiB} MiB of huge pages, which no pod of this stack gets`,
            accepted: `${measured.hugePagesMiB} or more`,
            fix: "declare it, or free them (vm.nr_hugepages, hugepages= on the kernel's command line)",
        });
    }
    if (measured.egmEnabled !== undefined && measured.egmEnabled !== declared.egmEnabled) {
        problems.push({
            path: "node.egmEnabled",
            value: declared.egmEnabled,
            wrong: `but EGM is ${measured.egmEnabled ? "on" : "off"}: Linux has ${gib(measured.lpddrMiB ?? 0)} of LPDDR`,
            accepted: `${measured.egmEnabled}`,
            fix: `turn EGM ${declared.egmEnabled ? "on" : "off"} in the BIOS, or declare it`,
        });
    }
    if (measured.egmReservedMiB !== undefined && measured.egmReservedMiB !== 8192) {
        problems.push({
            path: "node.egmReservedMiB",
            value: declared.egmReservedMiB,
            wrong: `but the node's is ${measured.egmReservedMiB} MiB, inferred from ${measured.lpddrMiB} MB of LPDDR`,
            accepted: "8192, the only reserved value that works",
            fix: "set 8192 in the BIOS",
        });
    }
    if (measured.coherentMode !== undefined && measured.coherentMode !== declared.coherentMode) {
        problems.push({
            path: "node.coherentMode",
            value: declared.coherentMode,
            wrong: `but the driver${facts.driverVersion === undefined ? "" : ` ${facts.driverVersion}`} runs in mode ${measured.coherentMode}`,
            accepted: measured.coherentMode,
            fix: `declare it, or ${inMode(declared.coherentMode, facts)} in /etc/modprobe.d and load the driver again`,
        });
    }
    if (measured.egmEnabled === declared.egmEnabled && measured.lpddrMiB !== undefined && view.lpddrMiB * (1 - kernelShare) > measured.lpddrMiB) {
        problems.push({
            path: "node.lpddrGiB",
            value: declared.lpddrMiB / 1024,
            wrong: `gives Linux ${view.lpddrMiB} MiB, more than the measured ${measured.lpddrMiB} MiB`,
            accepted: `at most ${lpddrGiBFor(measured.lpddrMiB)}`,
            fix: "declare what the node has",
        });
    }
    return problems;
}

/** How a driver is brought into a mode; the parameter is there from 580.65.06 on (its release notes). */
function inMode(mode: "numa" | "driver", { driverVersion }: NodeFacts): string {
    const update = Number(driverVersion?.split(".")[0] ?? Number.NaN) < 580 ? "update the driver to R580 and " : "";
    return `${update}set NVreg_CoherentGPUMemoryMode=${mode}`;
}

function managedProblems(declared: NodeMemory, managedMiB: number, measured: MeasuredNode): Problem[] {
    if (measured.lpddrMiB === undefined) {
        return [];
    }
    const reachableMiB =
        Math.min(declared.hbmMiB, measured.hbmMiB ?? declared.hbmMiB) + Math.max(measured.lpddrMiB - (measured.hugePagesMiB ?? 0), declared.provenHostMiB ?? 0);
    if (managedMiB <= reachableMiB) {
        return [];
    }
    return [
        {
            path: managedPath,
            value: Math.round((managedMiB / 1024) * 10) / 10,
            wrong: `is more than the measured ${gib(reachableMiB)} of HBM and LPDDR`,
            accepted: `at most ${Math.floor(reachableMiB / 1024)}`,
            fix: "turn EGM off in the BIOS, or set node.acknowledgeDeclaredExceedsMeasured: true to run with what was measured",
        },
    ];
}

/** The one problem that a person may acknowledge: the pod is promised what was measured all the same. */
export const managedPath = "node.managedGiB";

/** What makes a node other than the usual one: why less is planned on it than its parts add up to. */
export function remarksOn(facts: NodeFacts): string[] {
    const measured = measureNode(facts);
    const lines: string[] = [];
    if (measured.superchips !== undefined && measured.superchips > 1) {
        const shown = facts.gpus !== undefined && facts.gpus < measured.superchips ? `, of which nvidia-smi shows ${facts.gpus}` : "";
        lines.push(`${measured.superchips} GH200s on this node${shown}: all figures are one's, and a pod with one GPU is promised no more`);
    }
    if (facts.otherGpus !== undefined) {
        lines.push(`beside the GH200 there is ${facts.otherGpus.join(", ")}: nvidia.com/gpu may give a pod either`);
    }
    if (facts.virtualMachine) {
        lines.push("a virtual machine: it has the LPDDR that its host gives it");
    }
    if (facts.coherentMode !== undefined && facts.coherentMode !== measured.coherentMode) {
        lines.push(
            `the driver's mode is ${facts.coherentMode}, but Linux counts ${measured.onlinedHbmMiB === 0 ? "no HBM: it was not onlined" : "HBM as memory"}`,
        );
    }
    if (measured.hugePagesMiB) {
        lines.push(`huge pages hold ${gib(measured.hugePagesMiB)} of the LPDDR, which no pod of this stack gets`);
    }
    return lines;
}

function notes(declared: NodeMemory, facts: NodeFacts, measured: MeasuredNode): string[] {
    const lines = remarksOn(facts);
    const branch = Number(facts.driverVersion?.split(".")[0] ?? Number.NaN);
    if (measured.profile !== undefined) {
        lines.push(
            `profile ${measured.profile}: ${gib(measured.lpddrMiB ?? 0)} of LPDDR, ${gib(measured.onlinedHbmMiB ?? 0)} of HBM beside it that Linux counts as memory`,
        );
    }
    if (measured.egmReservedMiB !== undefined) {
        lines.push(`EGM's reserved memory is ${measured.egmReservedMiB} MiB, inferred from the ${measured.lpddrMiB} MB of LPDDR that Linux has`);
    }
    if (facts.onlinedByDriverMiB) {
        lines.push(`/proc/iomem: ${gib(facts.onlinedByDriverMiB)} of «System RAM (NVIDIA)», which is HBM that the driver onlined`);
    }
    if (facts.hbmInUseMiB !== undefined && measured.hbmMiB !== undefined) {
        const reserved = facts.hbmReservedMiB === undefined ? "" : `${facts.hbmReservedMiB} MiB kept by the driver, `;
        lines.push(
            `HBM: ${measured.hbmMiB} MiB (${gib(measured.hbmMiB)}), ${reserved}${facts.hbmInUseMiB} MiB in use ` +
                (facts.gpuBusy === false ? "at idle" : "while something computes, or may compute, on it"),
        );
    }
    if (measured.coherentMode === "numa" && branch < 615) {
        lines.push(
            "driver R615 and NVIDIA's driver container change the mode to driver: the HBM then leaves what Linux counts; set NVreg_CoherentGPUMemoryMode to keep a mode",
        );
    }
    if (facts.linkGBps !== undefined) {
        const degraded = facts.linkGBps < linkGBps.least ? `; below ${linkGBps.least}: the link is degraded` : "";
        const own = (measured.solderedMiB ?? declared.lpddrMiB) < 480 * 1024 ? `up to ${lpddrGBps.smaller}` : lpddrGBps.largest;
        lines.push(
            `NVLink-C2C: ${linkGBps.declaredBothWays} GB/s declared (both directions), ${facts.linkGBps} GB/s each way by the driver; LPDDR5X gives ${own}${degraded}`,
        );
    }
    if (facts.pageKiB !== undefined && facts.pageKiB !== 64) {
        lines.push(`kernel pages are ${facts.pageKiB} KiB; NVIDIA recommends a 64 KiB kernel on Grace`);
    }
    lines.push(`IOMMU: ${facts.iommu ?? "none shown"}`);
    if (facts.egmDevice) {
        lines.push("/dev/egm is there: the hidden memory is offered to virtual machines");
    }
    const lpddrMiB = facts.numaNodes?.filter(({ firstCpu }) => firstCpu !== undefined).reduce((sum, { sizeMiB }) => sum + sizeMiB, 0);
    if (facts.memoryTotalMiB !== undefined && lpddrMiB !== undefined && facts.memoryTotalMiB > lpddrMiB * (1 + kernelShare)) {
        lines.push(`node capacity will be ${gib(facts.memoryTotalMiB)}, ${gib(facts.memoryTotalMiB - lpddrMiB)} more than the LPDDR: Kubernetes counts HBM`);
    }
    if (measured.egmEnabled ?? declared.egmEnabled) {
        const off = osView({ ...declared, egmEnabled: false, lpddrMiB: measured.solderedMiB ?? declared.lpddrMiB });
        lines.push(
            `turn EGM off in the BIOS${measured.coherentMode === "driver" ? "" : ` and ${inMode("driver", facts)}`}: ` +
                `managed memory then reaches about ${Math.floor(off.lpddrMiB / 1024)} GiB of LPDDR`,
        );
    } else if (measured.profile !== undefined && memoryProfiles[measured.profile].coherentMode === "numa") {
        lines.push(`${inMode("driver", facts)}: Kubernetes then counts LPDDR alone`);
    }
    return lines;
}

/**
 * The declaration that a node's own facts amount to, for a node that nobody has declared yet: what is soldered on by the
 * firmware, the product's name or else the 480 GB part's, and never more than Linux has.
 */
export function declarationOf(facts: NodeFacts): NodeMemory | undefined {
    const measured = measureNode(facts);
    const { hbmMiB, lpddrMiB, egmEnabled, coherentMode, hugePagesMiB } = measured;
    if (refusalOf(facts) !== undefined || hbmMiB === undefined || lpddrMiB === undefined || egmEnabled === undefined || coherentMode === undefined) {
        return undefined;
    }
    const solderedMiB = measured.solderedMiB ?? 480 * 1024;
    const inUseMiB = facts.gpuBusy === true ? 0 : (facts.hbmInUseMiB ?? 0);
    return {
        hbmMiB,
        hbmReservedMiB: facts.hbmReservedMiB,
        hbmInUseMiB: inUseMiB > idleMiB ? inUseMiB : 0,
        lpddrMiB: egmEnabled ? solderedMiB : boundedBy(lpddrMiB, solderedMiB),
        hugePagesMiB: hugePagesMiB === 0 ? undefined : hugePagesMiB,
        egmEnabled,
        egmReservedMiB: measured.egmReservedMiB ?? 8192,
        coherentMode,
    };
}

function boundedBy(measuredMiB: number, solderedMiB: number): number {
    const whole = osView({ hbmMiB: 0, hbmInUseMiB: 0, lpddrMiB: solderedMiB, egmEnabled: false, egmReservedMiB: 8192, coherentMode: "driver" });
    return whole.lpddrMiB <= measuredMiB ? solderedMiB : Math.round(lpddrGiBFor(measuredMiB) * 1024);
}

/** Everything as text, the problems last; for the command line and a component's output. */
export function verdictLines(verdict: Verdict, declared: NodeMemory): string[] {
    return [
        ...verdict.notes,
        ...(verdict.problems.length === 0
            ? [`verdict: the node is what was declared (${memoryProfile(declared)})`]
            : [
                  `verdict: ${verdict.problems.length} of the declared facts ${verdict.problems.length === 1 ? "does" : "do"} not hold`,
                  ...verdict.problems.map(problemLine),
              ]),
    ];
}
