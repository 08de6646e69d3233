import { problemLine, type Problem } from "../internal/errors";
import { gib } from "./describe";
import type { NodeFacts } from "./facts";
import { type MemoryProfile, memoryProfile, memoryProfiles, type NodeMemory, osView } from "./memory";

/** What was measured of a node, in the model's own terms. Undefined where the node did not say. */
export interface MeasuredNode {
    profile?: MemoryProfile | undefined;
    /** Real LPDDR: the NUMA nodes that have CPUs. */
    lpddrMiB?: number | undefined;
    /** NUMA nodes without CPUs: HBM that Linux counts. */
    onlinedHbmMiB?: number | undefined;
    egmEnabled?: boolean | undefined;
    /** The BIOS's reserved memory, inferred from the LPDDR that Linux has. */
    egmReservedMiB?: number | undefined;
    coherentMode?: "numa" | "driver" | undefined;
}

/** Firmware and kernel take 112 MiB of the 8,192 that EGM reserves (memory.ts); reserved values are whole 512 MiB (an assumption). */
const reservedStepMiB = 512;

/** Kernels differ in what they keep for themselves; the system's reserve covers a hundredth (an estimate). */
const kernelShare = 0.01;

/** NVLink-C2C's 900 GB/s are both directions added; a link that carries less than 9 of its 10 lanes' share is degraded (an estimate). */
const linkGBps = { declaredBothWays: 900, least: 400 };

export function measureNode(facts: NodeFacts, solderedMiB: number): MeasuredNode {
    const nodes = facts.numaNodes;
    const sum = (hasCpus: boolean) => nodes?.filter((node) => node.hasCpus === hasCpus).reduce((total, { sizeMiB }) => total + sizeMiB, 0);
    const [lpddrMiB, onlinedHbmMiB] = [sum(true), sum(false)];
    const coherentMode = facts.coherentMode ?? (onlinedHbmMiB === undefined ? undefined : onlinedHbmMiB > 0 ? "numa" : "driver");
    // EGM takes all but the reserved part; nothing else takes half.
    const egmEnabled = lpddrMiB === undefined ? undefined : lpddrMiB < (facts.solderedMiB ?? solderedMiB) / 2;
    return {
        profile: egmEnabled === undefined || coherentMode === undefined ? undefined : egmEnabled ? `egm-${coherentMode}` : coherentMode,
        lpddrMiB,
        onlinedHbmMiB,
        egmEnabled,
        egmReservedMiB: egmEnabled && lpddrMiB !== undefined ? Math.ceil(lpddrMiB / reservedStepMiB) * reservedStepMiB : undefined,
        coherentMode,
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
    const measured = measureNode(facts, declared.lpddrMiB);
    return {
        problems: [...factProblems(declared, facts, measured), ...managedProblems(declared, managedMiB, facts, measured)],
        notes: notes(declared, facts, measured),
    };
}

function factProblems(declared: NodeMemory, facts: NodeFacts, measured: MeasuredNode): Problem[] {
    const problems: Problem[] = [];
    const view = osView(declared);
    if (facts.hbmMiB === undefined || facts.numaNodes === undefined) {
        problems.push({
            path: "node",
            wrong: `did not say ${facts.hbmMiB === undefined ? "its HBM (nvidia-smi)" : "its NUMA nodes"}`,
            fix: "install the NVIDIA driver, or run it on the GH200",
        });
    }
    if (facts.hbmMiB !== undefined && declared.hbmMiB > facts.hbmMiB) {
        problems.push({
            path: "node.hbmMiB",
            value: declared.hbmMiB,
            wrong: `is more than the measured ${facts.hbmMiB} MiB`,
            accepted: `at most ${facts.hbmMiB}`,
            fix: "declare what nvidia-smi shows",
        });
    }
    if (facts.gpuBusy === false && facts.hbmInUseMiB !== undefined && facts.hbmInUseMiB > declared.hbmInUseMiB) {
        problems.push({
            path: "node.hbmInUseMiB",
            value: declared.hbmInUseMiB,
            wrong: `is less than the measured ${facts.hbmInUseMiB} MiB in use on the idle node`,
            accepted: `${facts.hbmInUseMiB} or more`,
            fix: "declare it, or drop the page cache in HBM by turning on coherentMode: driver",
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
            fix: `declare it, or set NVreg_CoherentGPUMemoryMode=${declared.coherentMode} in /etc/modprobe.d and load the driver again`,
        });
    }
    if (measured.egmEnabled === declared.egmEnabled && measured.lpddrMiB !== undefined && view.lpddrMiB * (1 - kernelShare) > measured.lpddrMiB) {
        problems.push({
            path: "node.lpddrGiB",
            value: declared.lpddrMiB / 1024,
            wrong: `gives Linux ${view.lpddrMiB} MiB, more than the measured ${measured.lpddrMiB} MiB`,
            accepted: `what the node has`,
            fix: "declare less, or free memory that the kernel or huge pages hold",
        });
    }
    return problems;
}

function managedProblems(declared: NodeMemory, managedMiB: number, facts: NodeFacts, measured: MeasuredNode): Problem[] {
    if (measured.lpddrMiB === undefined) {
        return [];
    }
    const reachableMiB = Math.min(declared.hbmMiB, facts.hbmMiB ?? declared.hbmMiB) + Math.max(measured.lpddrMiB, declared.provenHostMiB ?? 0);
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

function notes(declared: NodeMemory, facts: NodeFacts, measured: MeasuredNode): string[] {
    const lines: string[] = [];
    const branch = Number(facts.driverVersion?.split(".")[0] ?? Number.NaN);
    if (measured.profile !== undefined) {
        lines.push(
            `profile ${measured.profile}: ${gib(measured.lpddrMiB ?? 0)} of LPDDR, ${gib(measured.onlinedHbmMiB ?? 0)} of HBM beside it that Linux counts as memory`,
        );
    }
    if (measured.egmReservedMiB !== undefined) {
        lines.push(`EGM's reserved memory is ${measured.egmReservedMiB} MiB, inferred from the ${measured.lpddrMiB} MB of LPDDR that Linux has`);
    }
    if (facts.onlinedByDriverMiB !== undefined) {
        lines.push(`/proc/iomem: ${gib(facts.onlinedByDriverMiB)} of «System RAM (NVIDIA)», which is HBM that the driver onlined`);
    }
    if (facts.hbmInUseMiB !== undefined && facts.hbmMiB !== undefined) {
        lines.push(
            `HBM: ${facts.hbmMiB} MiB (${gib(facts.hbmMiB)}), ${facts.hbmInUseMiB} MiB in use ${facts.gpuBusy === false ? "at idle" : "while something computes, or may compute, on it"}`,
        );
    }
    if (measured.coherentMode === "numa" && branch < 615) {
        lines.push(
            "driver R615 and NVIDIA's driver container change the mode to driver: the HBM then leaves what Linux counts; set NVreg_CoherentGPUMemoryMode to keep a mode",
        );
    }
    if (facts.linkGBps !== undefined) {
        const degraded = facts.linkGBps < linkGBps.least ? `; below ${linkGBps.least}: the link is degraded` : "";
        lines.push(
            `NVLink-C2C: ${linkGBps.declaredBothWays} GB/s declared (both directions), ${facts.linkGBps} GB/s each way by the driver; LPDDR5X gives 384${degraded}`,
        );
    }
    if (facts.pageKiB !== undefined && facts.pageKiB !== 64) {
        lines.push(`kernel pages are ${facts.pageKiB} KiB; NVIDIA recommends a 64 KiB kernel on Grace`);
    }
    lines.push(`IOMMU: ${facts.iommu ?? "none shown"}`);
    if (facts.egmDevice) {
        lines.push("/dev/egm is there: the hidden memory is offered to virtual machines");
    }
    if (facts.memoryTotalMiB !== undefined && measured.lpddrMiB !== undefined && facts.memoryTotalMiB > measured.lpddrMiB * (1 + kernelShare)) {
        lines.push(
            `node capacity will be ${gib(facts.memoryTotalMiB)}, ${gib(facts.memoryTotalMiB - measured.lpddrMiB)} more than the LPDDR: Kubernetes counts HBM`,
        );
    }
    if (declared.egmEnabled || measured.egmEnabled) {
        lines.push("turn EGM off in the BIOS and set NVreg_CoherentGPUMemoryMode=driver: managed memory then reaches about 478 GiB of LPDDR");
    } else if (measured.profile !== undefined && memoryProfiles[measured.profile].coherentMode === "numa") {
        lines.push("set NVreg_CoherentGPUMemoryMode=driver: Kubernetes then counts LPDDR alone");
    }
    return lines;
}

/** The declaration that a node's own facts amount to, for a node that nobody has declared yet. */
export function declarationOf(facts: NodeFacts, solderedMiB: number): NodeMemory | undefined {
    const measured = measureNode(facts, solderedMiB);
    if (facts.hbmMiB === undefined || measured.egmEnabled === undefined || measured.coherentMode === undefined) {
        return undefined;
    }
    return {
        hbmMiB: facts.hbmMiB,
        hbmInUseMiB: facts.gpuBusy === true ? 0 : (facts.hbmInUseMiB ?? 0),
        lpddrMiB: facts.solderedMiB ?? solderedMiB,
        egmEnabled: measured.egmEnabled,
        egmReservedMiB: measured.egmReservedMiB ?? 8192,
        coherentMode: measured.coherentMode,
    };
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
