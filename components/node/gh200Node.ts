import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { type Problem, refuse } from "../internal/errors";
import { zodProblems } from "../internal/resolve";
import type { SameShape } from "../internal/sameShape";
import { describePlan, gib, memoryProfiles, type MemoryPlan, planMemory, podExcessMiB } from "./memory";

/** How the GPU's HBM is managed; NVreg_CoherentGPUMemoryMode of the driver. */
export const CoherentMode = {
    /** The driver onlines HBM as a NUMA node; Linux and the kubelet count it as memory. */
    Numa: "numa",
    /** Coherent Driver-based Memory Management (CDMM): HBM belongs to the driver alone. */
    Driver: "driver",
} as const;
export type CoherentMode = (typeof CoherentMode)[keyof typeof CoherentMode];

export interface Gh200NodeArgs {
    /** HBM in MiB as nvidia-smi reports it. Default: 97871, the 96 GB part's (source document). */
    hbmMiB?: number;
    /** HBM in MiB that is in use on the idle node. Default: 0. The source document's node shows 14920. */
    hbmInUseMiB?: number;
    /** LPDDR5X in GiB. Default: 480. */
    lpddrGiB?: number;
    /** Whether Extended GPU Memory is on in the BIOS. Required, since no guess is safe. */
    egmEnabled: boolean;
    /** The BIOS's reserved memory in MiB. Accepted: 8192, the only value that works (source document). */
    egmReservedMiB?: number;
    /** `numa` or `driver`. Required: it decides how much of `free` is real. */
    coherentMode: CoherentMode;
    /**
     * Managed memory in GiB that is wanted in all, HBM included. Default: HBM alone. What exceeds the
     * real LPDDR is shown as unproven and never promised.
     */
    managedGiB?: number;
    /**
     * Must be true where EGM hides LPDDR from Linux (profiles egm-numa and egm-driver): a person has
     * read that only what Linux still has can be promised. Default: false.
     */
    acknowledgeEgmHidesMemory?: boolean;
    /**
     * Resident memory of vLLM's processes in MiB. Default: 4096. API server and engine of vLLM 0.22.1 held
     * 2.7 GiB on an H100 (bench/runtime/RESULTS.md); the rest is room for larger models, an estimate.
     */
    hostProcessMiB?: number;
    /** `/dev/shm` in MiB. Default: 1024, KServe's for one GPU. */
    shmMiB?: number;
    /** Pinned buffers in MiB. Default: 0. */
    pinnedMiB?: number;
    /** Room between the sum and the limit in MiB. Default: 512. */
    headroomMiB?: number;
}

const mib = z.int({ error: "is no whole number of MiB" }).nonnegative({ error: "is negative" });

export const gh200NodeSchema = z.strictObject({
    hbmMiB: mib.default(97_871).meta({ description: "HBM as nvidia-smi reports it.", unit: "MiB", source: "source document" }),
    hbmInUseMiB: mib.default(0).meta({ description: "HBM in use on the idle node.", unit: "MiB" }),
    lpddrGiB: z.number().positive().default(480).meta({ description: "LPDDR5X of the node.", unit: "GiB" }),
    egmEnabled: z.boolean({ error: "accepted: true or false; Extended GPU Memory in the BIOS" }).meta({ description: "Whether Extended GPU Memory is on in the BIOS." }),
    egmReservedMiB: z
        .number()
        .refine((value) => value === 8192, { error: "is refused; accepted: 8192, the only reserved value that works" })
        .default(8192)
        .meta({ description: "The BIOS's reserved memory.", unit: "MiB", source: "source document" }),
    coherentMode: z.enum(CoherentMode, { error: "accepted: numa or driver; see /proc/driver/nvidia/params" }).meta({ description: "How HBM is managed." }),
    managedGiB: z.number().positive().optional().meta({ description: "Managed memory wanted in all, HBM included.", unit: "GiB" }),
    acknowledgeEgmHidesMemory: z.boolean().default(false).meta({ description: "A person has read that EGM hides LPDDR from Linux." }),
    hostProcessMiB: mib.default(4096).meta({ description: "Resident memory of vLLM's processes.", unit: "MiB", source: "2.7 GiB measured on an H100 (bench/runtime/RESULTS.md), and room" }),
    shmMiB: mib.default(1024).meta({ description: "Size of /dev/shm.", unit: "MiB", source: "KServe's default for one GPU" }),
    pinnedMiB: mib.default(0).meta({ description: "Pinned buffers.", unit: "MiB" }),
    headroomMiB: mib.default(512).meta({ description: "Room between the sum and the limit.", unit: "MiB" }),
});
type Gh200NodeInput = z.input<typeof gh200NodeSchema>;
const shapesAgree: SameShape<Gh200NodeArgs, Gh200NodeInput> = true;
void shapesAgree;

/**
 * One GH200 by its memory: which of the four profiles it is in, and what a pod on it may be promised.
 *
 * Facts are declared, since a preview must be complete without a node; a plan that exceeds the real
 * LPDDR is refused. It creates nothing by itself.
 */
export class Gh200Node extends pulumi.ComponentResource {
    /** Memory profile: `egm-numa`, `egm-driver`, `numa` or `driver`. */
    public readonly profile!: pulumi.Output<string>;
    /** HBM in MiB for weights, KV cache and activations. */
    public readonly hbmBudgetMiB!: pulumi.Output<number>;
    /** HBM in MiB that stays free. */
    public readonly hbmReserveMiB!: pulumi.Output<number>;
    /** Host memory in MiB that managed memory may overflow into. */
    public readonly hostBudgetMiB!: pulumi.Output<number>;
    /** Memory request and limit of the pod in MiB. */
    public readonly podLimitMiB!: pulumi.Output<number>;
    /** Size of `/dev/shm` in MiB, which is part of the pod's limit. */
    public readonly shmMiB!: pulumi.Output<number>;
    /** Room in MiB between the pod's terms and its limit, which the launcher leaves alone. */
    public readonly headroomMiB!: pulumi.Output<number>;
    /** The plan in words. */
    public readonly description!: pulumi.Output<string>;

    constructor(name: string, args: Gh200NodeArgs, opts?: pulumi.ComponentResourceOptions) {
        super("gh200-vllm:index:Gh200Node", name, {}, opts);
        const plan = planNode(args);
        const outputs = {
            profile: pulumi.output(plan.profile as string),
            hbmBudgetMiB: pulumi.output(plan.hbmBudgetMiB),
            hbmReserveMiB: pulumi.output(plan.hbmReserveMiB),
            hostBudgetMiB: pulumi.output(plan.hostBudgetMiB),
            podLimitMiB: pulumi.output(plan.podLimitMiB),
            shmMiB: pulumi.output(plan.podTermsMiB.shm),
            headroomMiB: pulumi.output(plan.podTermsMiB.headroom),
            description: pulumi.output(describePlan(plan).join("\n")),
        };
        Object.assign(this, outputs);
        this.registerOutputs(outputs);
    }
}

/** Checks declared facts and plans a pod; throws every problem at once. */
export function planNode(args: Gh200NodeArgs): MemoryPlan {
    const parsed = gh200NodeSchema.safeParse(args);
    refuse(zodProblems("node", parsed.error, args));
    const node = parsed.data as z.output<typeof gh200NodeSchema>;
    const plan = planMemory(
        { ...node, lpddrMiB: Math.round(node.lpddrGiB * 1024) },
        { ...node, managedMiB: node.managedGiB === undefined ? node.hbmMiB : Math.round(node.managedGiB * 1024) },
    );
    refuse(planProblems(node, plan));
    return plan;
}

function planProblems(node: z.output<typeof gh200NodeSchema>, plan: MemoryPlan): Problem[] {
    const problems: Problem[] = [];
    if (memoryProfiles[plan.profile].hidesMemory && !node.acknowledgeEgmHidesMemory) {
        problems.push({
            path: "node.egmEnabled",
            value: true,
            wrong: `EGM hides ${gib(plan.view.hiddenMiB)} of LPDDR from Linux, where managed memory cannot be shown to reach it`,
            accepted: "egmEnabled: false (recommended, with coherentMode: driver)",
            fix: "turn EGM off in the BIOS, or set node.acknowledgeEgmHidesMemory: true to run with what Linux still has",
        });
    }
    if (node.egmEnabled && node.lpddrGiB * 1024 < node.egmReservedMiB) {
        problems.push({ path: "node.lpddrGiB", value: node.lpddrGiB, wrong: "is less than EGM's reserved memory", accepted: `${node.egmReservedMiB / 1024} or more` });
    }
    if (plan.hbmBudgetMiB === 0) {
        problems.push({ path: "node.hbmInUseMiB", value: node.hbmInUseMiB, wrong: "leaves nothing of the HBM", accepted: `below ${node.hbmMiB} less a reserve` });
    }
    const excess = podExcessMiB(plan);
    if (excess > 0) {
        problems.push({
            path: "node",
            value: `pod of ${gib(plan.podLimitMiB)}`,
            wrong: `exceeds the real LPDDR less the system's reserve by ${gib(excess)}, though the node's capacity may say that it fits`,
            accepted: `at most ${gib(plan.podLimitMiB - excess)}`,
            fix: "lower node.hostProcessMiB, shmMiB, pinnedMiB or headroomMiB, or turn EGM off in the BIOS",
        });
    }
    return problems;
}
