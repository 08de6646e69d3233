import { inputName, type Problem } from "../internal/errors";
import type { Gh200NodeArgs } from "../node/gh200NodeArgs";
import { planMemory } from "../node/memory";
import type { PlannedNode } from "../node/planNode";
import { lmcacheUrl } from "../serving/lmcachePod";
import { type MoreMemory, servingProblems, type ServingSettings } from "../serving/servingProblems";
import { type ServingArgs, vllmServerSchema } from "../serving/vllmServerArgs";

const deciding = vllmServerSchema
    .pick({
        maxModelLenTokens: true,
        maxNumSeqs: true,
        kvCacheMemoryBytes: true,
        tensorParallelSize: true,
        pipelineParallelSize: true,
        gpusPerNode: true,
        modelShape: true,
        modelCacheClaim: true,
        modelCacheGiB: true,
        autoscaling: true,
        extraArgs: true,
        placement: true,
        lpddr: true,
        acknowledgeRemoteCode: true,
        route: true,
        apiKey: true,
        acknowledgeOpenRoute: true,
    })
    .strip();

/** What decides whether a model fits, against the planned node; undefined where it is wrong in itself, which the component reports with everything else that is. */
export function servingOn(serving: Partial<ServingArgs>, planned: PlannedNode): ServingSettings | undefined {
    const { data } = deciding.safeParse(serving);
    const { plan, node } = planned;
    const { hbmBudgetMiB, hostBudgetMiB } = plan;
    return (
        data && {
            ...data,
            hbmBudgetMiB,
            hostBudgetMiB,
            pinnedMiB: node.pinnedMiB,
            lmcacheUrl: node.lmcacheMiB > 0 ? lmcacheUrl("lmcache", "vllm") : "",
            moreMemory: moreMemory(planned),
        }
    );
}

/** What cannot be served on the planned node, before the first image is built for it. */
export function servingFitProblems(serving: Partial<ServingArgs>, planned: PlannedNode): Problem[] {
    const settings = servingOn(serving, planned);
    return settings === undefined ? [] : servingProblems(settings);
}

/** The facts Pod is privileged, and the namespace that is made for the server admits no such pod. */
export function probeProblems(probe: Gh200NodeArgs["probe"], { namespace = "vllm", createNamespace = true }: Partial<ServingArgs>): Problem[] {
    const ofProbe = probe?.namespace ?? "kube-system";
    if (probe?.method !== "pod" || !createNamespace || ofProbe !== namespace) {
        return [];
    }
    return [
        {
            path: inputName("node.probe.namespace"),
            value: ofProbe,
            wrong: "is the server's, which admits no privileged pod",
            accepted: "a namespace that does, with the image's pull Secret in it; kube-system where absent",
        },
    ];
}

/** What would give the pod more host memory on this node: a larger declaration where the node has more, EGM off where it hides some. */
function moreMemory({ node, memory, plan }: PlannedNode): MoreMemory[] {
    const most = planMemory(memory, { ...node, managedMiB: Number.MAX_SAFE_INTEGER }).hostBudgetMiB;
    return [
        { way: "raise node.managedGiB", mib: most - plan.hostBudgetMiB },
        { way: "turn EGM off (node.egmEnabled: false)", mib: plan.view.hiddenMiB },
    ].filter(({ mib }) => mib > 0);
}
