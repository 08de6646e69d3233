import type { Problem } from "../internal/errors";
import type { PlannedNode } from "../node/planNode";
import { lmcacheUrl } from "../serving/lmcachePod";
import { servingProblems, type ServingSettings } from "../serving/servingProblems";
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
    })
    .strip();

/** What decides whether a model fits, against the planned node; undefined where it is wrong in itself, which the component reports with everything else that is. */
export function servingOn(serving: Partial<ServingArgs>, { plan, node }: PlannedNode): ServingSettings | undefined {
    const { data } = deciding.safeParse(serving);
    const { hbmBudgetMiB, hostBudgetMiB } = plan;
    return data && { ...data, hbmBudgetMiB, hostBudgetMiB, pinnedMiB: node.pinnedMiB, lmcacheUrl: node.lmcacheMiB > 0 ? lmcacheUrl("lmcache", "vllm") : "" };
}

/** What cannot be served on the planned node, before the first image is built for it. */
export function servingFitProblems(serving: Partial<ServingArgs>, planned: PlannedNode): Problem[] {
    const settings = servingOn(serving, planned);
    return settings === undefined ? [] : servingProblems(settings);
}
