import { BuilderPlace, hbmTerms, memoryProfiles, type MemoryPlan, type NodeMemory, osView } from "./memory";

/** One piece of a node's memory, as the plan's text and picture show it. */
export interface MemoryTerm {
    name: string;
    /** Where it lies. */
    where: "hbm" | "lpddr";
    mib: number;
    /** What it is, in a few words. */
    meaning: string;
}

/**
 * All of a node's memory, piece by piece: the terms of each side add up to what is soldered on. A plan
 * that was refused may promise more than there is, and then they do not.
 */
export function memoryTerms(node: NodeMemory, plan: MemoryPlan): MemoryTerm[] {
    const { view, podTermsMiB: pod, besideMiB: beside } = plan;
    const hbm = hbmTerms(node);
    const fixed = pod.hostProcess + pod.shm + pod.pinned + pod.headroom;
    const visibleLeft = Math.max(0, view.lpddrMiB - plan.systemReserveMiB - fixed - beside.lmcache - beside.builder);
    const overflow = Math.min(pod.hostOverflow, visibleLeft);
    const beyond = pod.hostOverflow - overflow;
    const terms: MemoryTerm[] = [
        { name: "driver", where: "hbm", mib: hbm.driver, meaning: "kept by the driver" },
        { name: "in use", where: "hbm", mib: hbm.inUse, meaning: "on the idle node" },
        { name: "weights and KV cache", where: "hbm", mib: plan.hbmBudgetMiB, meaning: "cudaMalloc, which nothing can evict" },
        { name: "CUDA context", where: "hbm", mib: hbm.context, meaning: "and the libraries of vLLM's worker" },
        { name: "HBM reserve", where: "hbm", mib: hbm.reserve, meaning: "activations, CUDA graphs, NCCL" },
        { name: "host processes", where: "lpddr", mib: pod.hostProcess, meaning: "API server and engine" },
        { name: "overflow", where: "lpddr", mib: overflow, meaning: "managed memory that the GPU reads over the link" },
        { name: "/dev/shm", where: "lpddr", mib: pod.shm, meaning: "charged to the pod" },
        { name: "pinned", where: "lpddr", mib: pod.pinned, meaning: "held, whether or not it is charged" },
        { name: "headroom", where: "lpddr", mib: pod.headroom, meaning: "between the sum and the limit" },
        { name: "LMCache", where: "lpddr", mib: beside.lmcache, meaning: "the KV cache server beside the pod" },
        { name: "builder", where: "lpddr", mib: beside.builder, meaning: "BuildKit while vLLM serves" },
        { name: "system", where: "lpddr", mib: plan.systemReserveMiB, meaning: "kernel, kubelet, page cache" },
        { name: "not promised", where: "lpddr", mib: visibleLeft - overflow, meaning: "free for other pods" },
        { name: "overflow beyond Linux", where: "lpddr", mib: beyond, meaning: "proved by the capacity test" },
        { name: "hidden by EGM", where: "lpddr", mib: view.hiddenMiB - beyond, meaning: "kept from Linux by the firmware" },
        { name: "huge pages", where: "lpddr", mib: node.hugePagesMiB ?? 0, meaning: "held by the kernel for others" },
        {
            name: "firmware",
            where: "lpddr",
            mib: node.lpddrMiB - view.hiddenMiB - view.lpddrMiB - (node.hugePagesMiB ?? 0),
            meaning: "firmware and the kernel's own tables",
        },
    ];
    return terms.filter(({ mib }) => mib > 0);
}

/** The plan as a person reads it, one line each. */
export function describePlan(plan: MemoryPlan): string[] {
    const terms = Object.entries(plan.podTermsMiB).map(([name, mib]) => `${name} ${gib(mib)}`);
    return [
        `profile ${plan.profile}: Linux sees ${gib(plan.view.totalMiB)}, of which ${gib(plan.view.lpddrMiB)} is LPDDR` +
            (plan.view.hiddenMiB > 0 ? ` and ${gib(plan.view.hiddenMiB)} of LPDDR is hidden by EGM` : ""),
        `vLLM: ${gib(plan.hbmBudgetMiB)} of HBM, ${gib(plan.hostBudgetMiB)} of host memory`,
        `pod: ${gib(plan.podLimitMiB)} (${terms.join(" + ")})`,
        ...(plan.besideMiB.lmcache > 0 ? [`LMCache beside it: ${gib(plan.besideMiB.lmcache)} of the same LPDDR`] : []),
        ...describeBuilder(plan),
        ...(plan.unprovenMiB > 0 ? [`${gib(plan.unprovenMiB)} of the declared managed memory is unproven and not promised`] : []),
    ];
}

function describeBuilder(plan: MemoryPlan): string[] {
    switch (plan.builderPlace) {
        case BuilderPlace.Elsewhere:
            return [];
        case BuilderPlace.ServingStops:
            return [`builder on this node: up to ${gib(plan.builderMostMiB)}, while vLLM is scaled to zero; serving stops during a build`];
        case BuilderPlace.BesideServing:
            return [`builder on this node: ${gib(plan.besideMiB.builder)} of the same LPDDR; serving goes on during a build`];
    }
}

/** The two readings of what Linux shows with EGM on; neither was settled on such a node. docs/memory.md has the evidence. */
export function readings(node: NodeMemory): string[] {
    if (!node.egmEnabled) {
        return [];
    }
    const view = osView(node);
    const managedMiB = node.lpddrMiB - view.totalMiB + node.hbmMiB;
    const noNode = "there is no such node in driver mode";
    const onlined = view.onlinedHbmMiB > 0;
    return [
        `node 2 of numactl (${view.onlinedHbmMiB.toLocaleString("en")} MB): first reading: LPDDR that EGM did not take; ` +
            `second reading: ${onlined ? "HBM, onlined by the driver" : noNode}`,
        `«System RAM (NVIDIA)» of /proc/iomem: first reading: the EGM region; second reading: ${onlined ? "HBM; the driver uses that name for nothing else" : noNode}`,
        `managed memory: first reading: ${gib(managedMiB)}; second reading: ${gib(node.hbmMiB)} of HBM and what is free of ${gib(view.lpddrMiB)}; the plan follows the second`,
    ];
}

/** Default of the kubelet's evictionHard memory.available, in MiB. */
const evictionMiB = 100;

/** More NUMA nodes, those without memory included, and a kubelet with a topology manager policy does not start (KEP-4622). */
const mostNumaNodes = 8;

/**
 * What the kubelet of such a node should be told. Reported only: no pod can set it, and no API shows it
 * to this program. The plan is for one superchip; `measured` is of the whole node, where it was asked.
 *
 * Topology manager: more than 8 NUMA nodes are refused at start unless allowed (KEP-4622).
 * Memory manager: the sum of reservedMemory must equal all reservations (KEP-1769).
 */
export function kubeletAdvice(plan: MemoryPlan, measured: { numaNodes?: number | undefined; superchips?: number | undefined } = {}): string[] {
    const { view } = plan;
    const { numaNodes = memoryProfiles[plan.profile].numaNodes, superchips = 1 } = measured;
    const reservedMiB = superchips * (view.totalMiB - (view.lpddrMiB - plan.systemReserveMiB)) - evictionMiB;
    const advice = [`systemReserved: memory: ${Math.max(0, reservedMiB)}Mi, so that allocatable is the real LPDDR less the system's reserve`];
    if (numaNodes > mostNumaNodes) {
        advice.push(
            `topologyManagerPolicyOptions: max-allowable-numa-nodes: "${numaNodes}", where a topology manager policy is set: the node has ${numaNodes} NUMA nodes`,
        );
    }
    if (view.onlinedHbmMiB > 0) {
        advice.push("memoryManagerPolicy: None: Static would take the HBM's node for ordinary memory and may pin the pod to it");
    }
    return advice;
}

export function gib(mib: number): string {
    return `${(mib / 1024).toFixed(1)} GiB`;
}
