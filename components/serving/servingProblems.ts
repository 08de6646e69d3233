import type { Problem } from "../internal/errors";
import { describeFit, type EngineLimits, fitModel, type ModelFit, kvCache } from "./modelFit";
import type { ResolvedVllmServer } from "./vllmServerArgs";

/** The settings that decide whether a model fits, resolved. */
export type ServingSettings = Pick<
    ResolvedVllmServer,
    | "hbmBudgetMiB"
    | "hostBudgetMiB"
    | "maxModelLenTokens"
    | "maxNumSeqs"
    | "kvCacheMemoryBytes"
    | "tensorParallelSize"
    | "pipelineParallelSize"
    | "gpusPerNode"
    | "modelShape"
    | "modelCacheClaim"
    | "modelCacheGiB"
    | "autoscaling"
    | "lmcacheUrl"
    | "pinnedMiB"
>;

const GIB = 2 ** 30;

/** Nodes of one replica. */
export function nodesPerReplica(settings: Pick<ServingSettings, "tensorParallelSize" | "pipelineParallelSize" | "gpusPerNode">): number {
    return Math.ceil((settings.tensorParallelSize * settings.pipelineParallelSize) / settings.gpusPerNode);
}

/** The fit of the model whose size is declared; undefined where it is not. */
export function fitOf(settings: ServingSettings): { fit: ModelFit; limits: EngineLimits } | undefined {
    if (settings.modelShape === undefined) {
        return undefined;
    }
    const limits = {
        maxModelLenTokens: settings.maxModelLenTokens,
        maxNumSeqs: settings.maxNumSeqs,
        gpus: settings.tensorParallelSize * settings.pipelineParallelSize,
        kvCacheMemoryBytes: settings.kvCacheMemoryBytes,
    };
    const shape = { ...settings.modelShape, activeWeightsGiB: settings.modelShape.activeWeightsGiB ?? settings.modelShape.weightsGiB };
    return { fit: fitModel(shape, limits, settings.hbmBudgetMiB, settings.hostBudgetMiB), limits };
}

/** The tokens that fit and the ceiling of their rate, in words; nothing where the model's size is not declared. */
export function describeServing(settings: ServingSettings): string[] {
    const fitted = fitOf(settings);
    return fitted === undefined ? [] : describeFit(fitted.fit, fitted.limits);
}

/** What cannot work, against the memory plan and against each other. */
export function servingProblems(settings: ServingSettings): Problem[] {
    const problems: Problem[] = [...modelProblems(settings)];
    const gpus = settings.tensorParallelSize * settings.pipelineParallelSize;
    if (gpus > settings.gpusPerNode && gpus % settings.gpusPerNode !== 0) {
        problems.push({
            path: "serving.tensorParallelSize",
            value: settings.tensorParallelSize,
            wrong: `with pipelineParallelSize ${settings.pipelineParallelSize} needs ${gpus} GPUs, which no number of nodes with ${settings.gpusPerNode} has`,
            accepted: `a multiple of gpusPerNode`,
        });
    }
    if (settings.autoscaling !== undefined && nodesPerReplica(settings) > 1) {
        problems.push({ path: "serving.autoscaling", wrong: "scales a Deployment, and a model over several nodes has none", accepted: "serving.replicas" });
    }
    if (settings.modelCacheClaim !== "" && settings.modelCacheGiB !== undefined) {
        problems.push({
            path: "serving.modelCacheGiB",
            value: settings.modelCacheGiB,
            wrong: "makes a claim beside the existing modelCacheClaim",
            accepted: "one of them",
        });
    }
    if (settings.lmcacheUrl !== "" && settings.pinnedMiB < 1024) {
        problems.push({
            path: "serving.pinnedMiB",
            value: settings.pinnedMiB,
            wrong: "leaves KV cache no pinned buffers on its way to LMCache",
            accepted: "1024 or more",
            fix: "raise node.pinnedMiB",
        });
    }
    return problems;
}

function modelProblems(settings: ServingSettings): Problem[] {
    const fitted = fitOf(settings);
    if (fitted === undefined || settings.modelShape === undefined) {
        return [];
    }
    const { fit, limits } = fitted;
    const budgets = `${gib(settings.hbmBudgetMiB)} of HBM and ${gib(settings.hostBudgetMiB)} of host memory${limits.gpus > 1 ? ` on each of ${limits.gpus} GPUs` : ""}`;
    if (fit.missingMiB > 0) {
        return [
            {
                path: "serving.modelShape.weightsGiB",
                value: settings.modelShape.weightsGiB,
                wrong: `exceeds ${budgets} by ${gib(fit.missingMiB)}${limits.gpus > 1 ? " each" : ""}`,
                accepted: "weights that fit",
                fix: "raise node.managedGiB, turn EGM off, take more GPUs, or quantise",
            },
        ];
    }
    const most = kvCache(
        (settings.hbmBudgetMiB - fit.weightsHbmMiB) * 2 ** 20,
        (settings.hostBudgetMiB - fit.weightsHostMiB) * 2 ** 20,
        settings.modelShape.layers,
    ).bytes;
    if (settings.kvCacheMemoryBytes !== undefined && settings.kvCacheMemoryBytes > most) {
        return [
            {
                path: "serving.kvCacheMemoryBytes",
                value: settings.kvCacheMemoryBytes,
                wrong: `is more than ${budgets} leave beside the weights`,
                accepted: `at most ${most} (${(most / GIB).toFixed(1)} GiB)`,
                fix: "lower it or leave it out",
            },
        ];
    }
    if (fit.tokens < settings.maxModelLenTokens) {
        return [
            {
                path: "serving.maxModelLenTokens",
                value: settings.maxModelLenTokens,
                wrong: `is more than the ${fit.tokens} tokens whose KV cache fits ${budgets}`,
                accepted: `at most ${fit.tokens}`,
                fix: "lower it, or raise node.managedGiB",
            },
        ];
    }
    return [];
}

function gib(mib: number): string {
    return `${(mib / 1024).toFixed(1)} GiB`;
}
