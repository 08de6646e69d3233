import { type Problem, refuse } from "../internal/errors";
import { zodProblems } from "../internal/resolve";
import { gib } from "./describe";
import { type Gh200NodeArgs, gh200NodeSchema, type ResolvedGh200Node } from "./gh200NodeArgs";
import { BuilderPlace, memoryProfiles, type MemoryPlan, type NodeMemory, planMemory, podExcessMiB } from "./memory";

export interface PlannedNode {
    node: ResolvedGh200Node;
    /** The node as the memory model takes it. */
    memory: NodeMemory;
    plan: MemoryPlan;
    /** Managed memory that was declared in all. */
    managedMiB: number;
}

/** Checks declared facts and plans a pod; throws every problem at once. */
export function planNode(args: Gh200NodeArgs): PlannedNode {
    const parsed = gh200NodeSchema.safeParse(args);
    refuse(zodProblems("node", parsed.error, args));
    const node = parsed.data as ResolvedGh200Node;
    const memory = { ...node, lpddrMiB: Math.round(node.lpddrGiB * 1024) };
    const managedMiB = node.managedGiB === undefined ? node.hbmMiB : Math.round(node.managedGiB * 1024);
    const plan = planMemory(memory, { ...node, managedMiB });
    refuse(planProblems(node, plan));
    return { node, memory, plan, managedMiB };
}

function planProblems(node: ResolvedGh200Node, plan: MemoryPlan): Problem[] {
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
        problems.push({
            path: "node.lpddrGiB",
            value: node.lpddrGiB,
            wrong: "is less than EGM's reserved memory",
            accepted: `${node.egmReservedMiB / 1024} or more`,
        });
    }
    if (plan.hbmBudgetMiB === 0) {
        problems.push({
            path: "node.hbmInUseMiB",
            value: node.hbmInUseMiB,
            wrong: "leaves nothing of the HBM",
            accepted: `below ${node.hbmMiB} less a reserve`,
        });
    }
    if (plan.builderPlace !== BuilderPlace.Elsewhere && node.builderMiB > plan.builderMostMiB) {
        problems.push({
            path: "node.builderMiB",
            value: node.builderMiB,
            wrong:
                plan.builderPlace === BuilderPlace.BesideServing
                    ? "is more than real LPDDR leaves beside the pod"
                    : "is more than Linux has when vLLM is scaled to zero",
            accepted: `at most ${plan.builderMostMiB} (${gib(plan.builderMostMiB)})`,
            fix: "lower stages.builderMemoryGiB, or build on another machine (node.builderPlace: elsewhere)",
        });
    }
    const excess = podExcessMiB(plan);
    if (excess > 0) {
        const beside = plan.besideMiB.lmcache + plan.besideMiB.builder;
        problems.push({
            path: "node",
            value: `pod of ${gib(plan.podLimitMiB)}${beside > 0 ? ` and ${gib(beside)} beside it` : ""}`,
            wrong: `exceeds the real LPDDR less the system's reserve by ${gib(excess)}, though the node's capacity may say that it fits`,
            accepted: `at most ${gib(plan.podLimitMiB + beside - excess)}`,
            fix: "lower node.hostProcessMiB, shmMiB, pinnedMiB or headroomMiB, or turn EGM off in the BIOS",
        });
    }
    return problems;
}
