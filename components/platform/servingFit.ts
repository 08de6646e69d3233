import type { Problem } from "../internal/errors";
import type { PlannedNode } from "../node/planNode";
import { lmcacheUrl } from "../serving/lmcachePod";
import { servingProblems } from "../serving/servingProblems";
import { type ServingArgs, vllmServerSchema } from "../serving/vllmServerArgs";

const deciding = vllmServerSchema
    .pick({ maxModelLenTokens: true, maxNumSeqs: true, kvCacheMemoryBytes: true, tensorParallelSize: true, pipelineParallelSize: true, gpusPerNode: true, modelShape: true, modelCacheClaim: true, modelCacheGiB: true, autoscaling: true })
    .strip();

/** What cannot be served on the planned node, before the first image is built for it. */
export function servingFitProblems(serving: Partial<ServingArgs>, { plan, node }: PlannedNode): Problem[] {
    const settings = deciding.safeParse(serving);
    // What is wrong in itself is reported by the component, with everything else that is.
    if (!settings.success) {
        return [];
    }
    const { hbmBudgetMiB, hostBudgetMiB } = plan;
    return servingProblems({ ...settings.data, hbmBudgetMiB, hostBudgetMiB, pinnedMiB: node.pinnedMiB, lmcacheUrl: node.lmcacheMiB > 0 ? lmcacheUrl("lmcache", "vllm") : "" });
}
