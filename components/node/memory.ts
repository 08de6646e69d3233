/**
 * What a GH200 has, what its operating system is told, and what a pod may be promised. Pure functions;
 * the reasons and sources are in docs/memory.md.
 */

/** A GH200 as it is declared or measured. All sizes in MiB. */
export interface NodeMemory {
    /** HBM as nvidia-smi reports it in total: 97,871 on the 96 GB part. */
    hbmMiB: number;
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
}

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
}

export const memoryProfiles = {
    "egm-numa": { egmEnabled: true, coherentMode: "numa", hidesMemory: true },
    "egm-driver": { egmEnabled: true, coherentMode: "driver", hidesMemory: true },
    numa: { egmEnabled: false, coherentMode: "numa", hidesMemory: false },
    driver: { egmEnabled: false, coherentMode: "driver", hidesMemory: false },
} as const;
export type MemoryProfile = keyof typeof memoryProfiles;

export function memoryProfile(node: NodeMemory): MemoryProfile {
    const suffix = node.coherentMode;
    return node.egmEnabled ? `egm-${suffix}` : suffix;
}

/** What Linux sees, in MiB. */
export interface OsView {
    /** Real LPDDR: the memory of the CPU's own NUMA node. */
    lpddrMiB: number;
    /** HBM that is onlined beside it and counted by `free` and by the kubelet. */
    onlinedHbmMiB: number;
    /** LPDDR that the firmware keeps from Linux. */
    hiddenMiB: number;
    /** `free`'s total, and the node capacity that the scheduler believes in. */
    totalMiB: number;
}

/**
 * - Firmware and kernel take 112 MiB of the 8,192 that EGM reserves: numactl shows 8,080 (source document).
 * - Without EGM the 480 GB part shows 490,037 of 491,520 MiB (mm/fake-numa patch by NVIDIA, 2026-01).
 * - The driver keeps 591 MiB of HBM and onlines whole 512 MiB blocks: 97,280 of 97,871 (source document).
 */
export function osView(node: NodeMemory): OsView {
    const lpddrMiB = node.egmEnabled
        ? Math.max(0, node.egmReservedMiB - 112)
        : Math.floor((node.lpddrMiB * 490_037) / 491_520);
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

/** HBM that stays free: 4 percent (below it the driver evicts managed pages in NUMA mode) or 1 GiB. */
export function hbmReserveMiB(node: NodeMemory): number {
    return Math.max(Math.ceil(node.hbmMiB * 0.04), Math.min(1024, Math.floor(node.hbmMiB / 8)));
}

export interface MemoryPlan {
    profile: MemoryProfile;
    view: OsView;
    /** HBM for weights, KV cache and activations. */
    hbmBudgetMiB: number;
    /** HBM that stays free. */
    hbmReserveMiB: number;
    /** Host memory that managed memory may overflow into. */
    hostBudgetMiB: number;
    /** The pod's memory, request and limit alike, term by term. */
    podTermsMiB: { hostProcess: number; hostOverflow: number; shm: number; pinned: number; headroom: number };
    podLimitMiB: number;
    /** Managed memory that was asked for and is not promised. */
    unprovenMiB: number;
}

/**
 * Plans a vLLM pod on a node. The host budget never exceeds the real LPDDR less the system's reserve
 * and the pod's other terms, whatever was declared.
 */
export function planMemory(node: NodeMemory, demand: PodDemand): MemoryPlan {
    const view = osView(node);
    const hbmBudgetMiB = Math.max(0, node.hbmMiB - node.hbmInUseMiB - hbmReserveMiB(node));
    const fixedMiB = demand.hostProcessMiB + demand.shmMiB + demand.pinnedMiB + demand.headroomMiB;
    const reachableMiB = Math.max(0, view.lpddrMiB - systemReserveMiB(view) - fixedMiB);
    const wantedMiB = Math.max(0, demand.managedMiB - node.hbmMiB);
    const hostBudgetMiB = Math.min(wantedMiB, reachableMiB);
    return {
        profile: memoryProfile(node),
        view,
        hbmBudgetMiB,
        hbmReserveMiB: hbmReserveMiB(node),
        hostBudgetMiB,
        podTermsMiB: {
            hostProcess: demand.hostProcessMiB,
            hostOverflow: hostBudgetMiB,
            shm: demand.shmMiB,
            pinned: demand.pinnedMiB,
            headroom: demand.headroomMiB,
        },
        podLimitMiB: fixedMiB + hostBudgetMiB,
        unprovenMiB: wantedMiB - hostBudgetMiB,
    };
}

/** Whether the pod fits the real LPDDR; where not, by how many MiB it is too large. */
export function podExcessMiB(plan: MemoryPlan): number {
    return Math.max(0, plan.podLimitMiB - (plan.view.lpddrMiB - systemReserveMiB(plan.view)));
}

/** The plan as a person reads it, one line each. */
export function describePlan(plan: MemoryPlan): string[] {
    const terms = Object.entries(plan.podTermsMiB).map(([name, mib]) => `${name} ${gib(mib)}`);
    return [
        `profile ${plan.profile}: Linux sees ${gib(plan.view.totalMiB)}, of which ${gib(plan.view.lpddrMiB)} is LPDDR` +
            (plan.view.hiddenMiB > 0 ? ` and ${gib(plan.view.hiddenMiB)} of LPDDR is hidden by EGM` : ""),
        `vLLM: ${gib(plan.hbmBudgetMiB)} of HBM, ${gib(plan.hostBudgetMiB)} of host memory`,
        `pod: ${gib(plan.podLimitMiB)} (${terms.join(" + ")})`,
        ...(plan.unprovenMiB > 0 ? [`${gib(plan.unprovenMiB)} of the declared managed memory is unproven and not promised`] : []),
    ];
}

export function gib(mib: number): string {
    return `${(mib / 1024).toFixed(1)} GiB`;
}
