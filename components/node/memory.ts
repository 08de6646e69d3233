/**
 * What a GH200 has, what its operating system is told, and what a pod may be promised. Pure functions;
 * the reasons and sources are in docs/memory.md.
 */

import { hbmAccount } from "./hbmAccount";

/** A GH200 as it is declared or measured. All sizes in MiB. */
export interface NodeMemory {
    /** HBM as nvidia-smi reports it in total: 97,871 on the 96 GB part. */
    hbmMiB: number;
    /** HBM that the driver keeps, which no program can have: `Reserved` of `nvidia-smi -q`. Default: hbm.json's driverMiB. */
    hbmReservedMiB?: number | undefined;
    /** HBM in use before vLLM starts, from nvidia-smi on the idle node. */
    hbmInUseMiB: number;
    /** LPDDR5X that is soldered on: 491,520 on the 480 GB part. */
    lpddrMiB: number;
    /** Whether Extended GPU Memory is enabled in the BIOS, which hides most LPDDR from Linux. */
    egmEnabled: boolean;
    /** The BIOS's reserved memory: what EGM leaves to Linux. */
    egmReservedMiB: number;
    /** `numa`: the driver onlines HBM as a NUMA node. `driver`: Coherent Driver-based Memory Management (CDMM). */
    coherentMode: "numa" | "driver";
    /** LPDDR that the kernel holds as huge pages: neither page cache nor a pod without a `hugepages-` request gets it. */
    hugePagesMiB?: number | undefined;
    /** Host memory that the capacity test (assets/node/capacity) proved managed memory to reach. */
    provenHostMiB?: number | undefined;
}

/** Where images are built, as seen from the node that serves. */
export const BuilderPlace = {
    /** On another machine. */
    Elsewhere: "elsewhere",
    /** On this node, while vLLM is scaled to zero: the builder may have what the pod had, and HBM that Linux counts. */
    ServingStops: "serving-stops",
    /** On this node, while vLLM serves: both are promised their memory, out of real LPDDR. */
    BesideServing: "beside-serving",
} as const;
export type BuilderPlace = (typeof BuilderPlace)[keyof typeof BuilderPlace];

/** What the pod holds in host memory besides the overflow, in MiB. */
export interface PodDemand {
    /** Resident memory of vLLM's processes outside managed memory. */
    hostProcessMiB: number;
    /** `/dev/shm`, which is charged to the pod that writes it. */
    shmMiB: number;
    /** Pinned buffers: physically held, whether or not the kernel charges them. */
    pinnedMiB: number;
    /** Room between the sum of the terms and the limit. */
    headroomMiB: number;
    /** Managed memory that is wanted in all, HBM included. */
    managedMiB: number;
    /** An LMCache server beside the pod, which holds KV cache in the same LPDDR. */
    lmcacheMiB: number;
    /** Memory of the builder, where it is on this node. */
    builderMiB: number;
    builderPlace: BuilderPlace;
}

/**
 * NUMA nodes, those without memory included: 10 in the source document's numactl, 9 in NVIDIA's kernel log. Without onlined
 * HBM its node alone is missing: lscpu of a GH200 then shows 0 and 2-8 (github.com/slitvinov/grace).
 */
export const memoryProfiles = {
    "egm-numa": { egmEnabled: true, coherentMode: "numa", hidesMemory: true, numaNodes: 10 },
    "egm-driver": { egmEnabled: true, coherentMode: "driver", hidesMemory: true, numaNodes: 9 },
    numa: { egmEnabled: false, coherentMode: "numa", hidesMemory: false, numaNodes: 9 },
    driver: { egmEnabled: false, coherentMode: "driver", hidesMemory: false, numaNodes: 8 },
} as const;
export type MemoryProfile = keyof typeof memoryProfiles;

export function memoryProfile(node: NodeMemory): MemoryProfile {
    const suffix = node.coherentMode;
    return node.egmEnabled ? `egm-${suffix}` : suffix;
}

/** What Linux sees, in MiB. */
export interface OsView {
    /** Real LPDDR: the memory of the CPU's own NUMA node, less its huge pages. */
    lpddrMiB: number;
    /** HBM that is onlined beside it and counted by `free` and by the kubelet. */
    onlinedHbmMiB: number;
    /** LPDDR that the firmware keeps from Linux. */
    hiddenMiB: number;
    /** `free`'s total less huge pages, and the node capacity that the scheduler believes in. */
    totalMiB: number;
}

/**
 * - Firmware and kernel take 112 MiB of the 8,192 that EGM reserves: numactl shows 8,080 (source document).
 * - Without EGM the 480 GB part shows 490,037 of 491,520 MiB (mm/fake-numa patch by NVIDIA, 2026-01).
 * - The driver keeps 591 MiB of HBM and onlines whole 512 MiB blocks: 97,280 of 97,871 (source document).
 */
export function osView(node: NodeMemory): OsView {
    const kernelMiB = node.egmEnabled ? node.egmReservedMiB - 112 : Math.floor((node.lpddrMiB * 490_037) / 491_520);
    const lpddrMiB = Math.max(0, kernelMiB - (node.hugePagesMiB ?? 0));
    const onlinedHbmMiB = node.coherentMode === "numa" ? Math.max(0, Math.floor((node.hbmMiB - 591) / 512) * 512) : 0;
    return {
        lpddrMiB,
        onlinedHbmMiB,
        hiddenMiB: node.egmEnabled ? node.lpddrMiB - node.egmReservedMiB : 0,
        totalMiB: lpddrMiB + onlinedHbmMiB,
    };
}

/** Real LPDDR that stays with the system and its page cache: an eighth, at most 16 GiB (an estimate). */
export function systemReserveMiB(view: OsView): number {
    return Math.min(16 * 1024, Math.ceil(view.lpddrMiB / 8));
}

/** HBM that stays free: 4 percent, or 1 GiB where that is more and no small card is meant. */
export function hbmReserveMiB(node: NodeMemory): number {
    const { reserveShare, reserveLeastMiB, reserveMostShare } = hbmAccount();
    return Math.max(Math.ceil(node.hbmMiB * reserveShare), Math.min(reserveLeastMiB, Math.floor(node.hbmMiB * reserveMostShare)));
}

/** The board's HBM, term by term, in MiB. The launcher counts the same terms on the card (managed_mem/plan.py). */
export interface HbmTerms {
    /** What the driver keeps. CUDA's total is the board's less this. */
    driver: number;
    /** What others use on the idle node: page cache in NUMA mode, a display, a monitoring agent. */
    inUse: number;
    /** The CUDA context and libraries of vLLM's worker. */
    context: number;
    /** What stays free for activations, CUDA graphs and NCCL. */
    reserve: number;
    /** What is left, and promised: weights and KV cache. */
    budget: number;
}

/** The one account of HBM: only what remains after all other terms is promised. */
export function hbmTerms(node: NodeMemory): HbmTerms {
    const terms = hbmAccount();
    const driver = node.hbmReservedMiB ?? terms.driverMiB;
    const context = Math.min(terms.contextMiB, Math.floor(node.hbmMiB * terms.contextMostShare));
    const reserve = hbmReserveMiB(node);
    return { driver, inUse: node.hbmInUseMiB, context, reserve, budget: Math.max(0, node.hbmMiB - driver - node.hbmInUseMiB - context - reserve) };
}

/**
 * The share of CUDA's total memory that a vLLM without placement may take (`--gpu-memory-utilization`), in thousandths
 * rounded down: vLLM's own default of 0.9 is refused where more than a tenth is in use.
 */
export function gpuMemoryUtilization(node: NodeMemory): number {
    const { driver, budget } = hbmTerms(node);
    return budget === 0 ? 0 : Math.floor((budget / (node.hbmMiB - driver)) * 1000) / 1000;
}

export interface MemoryPlan {
    profile: MemoryProfile;
    view: OsView;
    /** HBM for weights and KV cache. */
    hbmBudgetMiB: number;
    /** HBM that stays free for activations, CUDA graphs and NCCL. */
    hbmReserveMiB: number;
    /** The share of CUDA's total for a vLLM without placement. */
    gpuMemoryUtilization: number;
    /** Real LPDDR that stays with the system. */
    systemReserveMiB: number;
    /** Host memory that managed memory may overflow into. */
    hostBudgetMiB: number;
    /** The pod's memory, request and limit alike, term by term. */
    podTermsMiB: { hostProcess: number; hostOverflow: number; shm: number; pinned: number; headroom: number };
    podLimitMiB: number;
    /** What else is promised while the pod runs. */
    besideMiB: { lmcache: number; builder: number };
    builderPlace: BuilderPlace;
    /** The most that a builder may have in the place where it is; 0 where it is elsewhere. */
    builderMostMiB: number;
    /** Managed memory that was asked for and is not promised. */
    unprovenMiB: number;
}

/**
 * Plans a vLLM pod on a node. The host budget never exceeds what the capacity test proved, and without
 * one never the real LPDDR less the system's reserve and everything else that is promised.
 */
export function planMemory(node: NodeMemory, demand: PodDemand): MemoryPlan {
    const view = osView(node);
    const hbm = hbmTerms(node);
    const reserveMiB = systemReserveMiB(view);
    const beside = { lmcache: demand.lmcacheMiB, builder: demand.builderPlace === BuilderPlace.BesideServing ? demand.builderMiB : 0 };
    const besideMiB = beside.lmcache + beside.builder;
    const fixedMiB = demand.hostProcessMiB + demand.shmMiB + demand.pinnedMiB + demand.headroomMiB;
    const leftMiB = (of: number) => Math.max(0, of - reserveMiB - besideMiB - fixedMiB);
    const reachableMiB = node.provenHostMiB === undefined ? leftMiB(view.lpddrMiB) : Math.min(node.provenHostMiB, leftMiB(view.lpddrMiB + view.hiddenMiB));
    const wantedMiB = Math.max(0, demand.managedMiB - node.hbmMiB);
    const hostBudgetMiB = Math.min(wantedMiB, reachableMiB);
    const podTermsMiB = {
        hostProcess: demand.hostProcessMiB,
        hostOverflow: hostBudgetMiB,
        shm: demand.shmMiB,
        pinned: demand.pinnedMiB,
        headroom: demand.headroomMiB,
    };
    return {
        profile: memoryProfile(node),
        view,
        hbmBudgetMiB: hbm.budget,
        hbmReserveMiB: hbm.reserve,
        gpuMemoryUtilization: gpuMemoryUtilization(node),
        systemReserveMiB: reserveMiB,
        hostBudgetMiB,
        podTermsMiB,
        podLimitMiB: fixedMiB + hostBudgetMiB,
        besideMiB: beside,
        builderPlace: demand.builderPlace,
        builderMostMiB: builderMostMiB(view, demand, fixedMiB),
        unprovenMiB: wantedMiB - hostBudgetMiB,
    };
}

/** Compilers' memory is movable, so that HBM that Linux counts serves them too, once vLLM does not use it. */
function builderMostMiB(view: OsView, demand: PodDemand, fixedMiB: number): number {
    switch (demand.builderPlace) {
        case BuilderPlace.Elsewhere:
            return 0;
        case BuilderPlace.ServingStops:
            return Math.max(0, view.totalMiB - systemReserveMiB(view) - demand.lmcacheMiB);
        case BuilderPlace.BesideServing:
            return Math.max(0, view.lpddrMiB - systemReserveMiB(view) - demand.lmcacheMiB - fixedMiB);
    }
}

/** Whether everything that is promised at once fits; where not, by how many MiB it is too large. */
export function podExcessMiB(plan: MemoryPlan): number {
    const { hostOverflow } = plan.podTermsMiB;
    const besideMiB = plan.besideMiB.lmcache + plan.besideMiB.builder;
    // Only overflow can lie beyond what Linux has, where the capacity test proved it.
    return Math.max(0, plan.podLimitMiB - hostOverflow + besideMiB + plan.systemReserveMiB - plan.view.lpddrMiB);
}
