import { inputName, type Problem } from "../internal/errors";
import { type AdditionalStage, additionalFacts, additionalProblems, inOrder } from "./additional";
import { exceptions, stageTable, type StageFacts } from "./table";

export interface StagePlanArgs {
    /** Stages that are left out; only those that the stage table says can be. Default: none. */
    disabled: string[];
    /** Stages that an image takes the place of, by name. Default: none. */
    prebuilt?: Record<string, unknown>;
    /** Stages that a team adds, by name. Default: none. */
    additional?: Record<string, AdditionalStage>;
    /** Stages that are built before the others, in this order. Default: none. */
    order?: string[];
    /** Memory of the builder in GiB, which bounds each stage's compile jobs. */
    builderMemoryGiB: number;
    /** Cores of the builder. */
    builderCores: number;
    /** Compile jobs by stage, in place of as many as fit. Too many for the memory are refused. Default: none. */
    maxJobs?: Record<string, number | undefined>;
    /** Triton's wheel from PyPI by hash, or compiled from src-triton. Default: `wheel`. */
    tritonOrigin?: "wheel" | "source";
}

export type PlannedStage = StageFacts & { jobs: number; minutes: number };

/** What a stage is expected to take with so many jobs, minutes; the last whole one is counted. */
export function expectedMinutes({ cpuSeconds, files = Infinity, fixedMinutes }: StageFacts, jobs: number): number {
    return Math.ceil(fixedMinutes + cpuSeconds.value / 60 / Math.min(jobs, files));
}

/** The operating system, BuildKit and page cache beside the compilers, GiB; an estimate. */
const systemGiB = 8;

/** Triton compiled, with the LLVM that it downloads, in figures that are all estimates: 1 to 2 GB a C++ job, 10 to 20 minutes with 16 jobs. */
const tritonFromSource: Partial<StageFacts> = {
    compiled: true,
    exception: undefined,
    memoryPerJobGiB: { value: 2, basis: "estimate", source: "C++ files of LLVM's kind" },
    cpuSeconds: { value: 14_400, basis: "estimate", source: "15 minutes with 16 jobs" },
};

/** The stages that are built, in order, each with its compile jobs. */
export function plannedStages(args: StagePlanArgs): PlannedStage[] {
    const additional = Object.entries(args.additional ?? {}).map(([target, stage]) => additionalFacts(target, stage));
    return inOrder([...stageTable, ...additional], args.order ?? [])
        .filter(({ target }) => !args.disabled.includes(target) && args.prebuilt?.[target] === undefined)
        .map((stage) => ({ ...stage, ...(stage.target === "build-triton" && args.tritonOrigin === "source" && tritonFromSource) }))
        .map((stage) => {
            const jobs = args.maxJobs?.[stage.target] ?? fittingJobs(stage, args);
            return { ...stage, jobs, minutes: expectedMinutes(stage, jobs) };
        });
}

/** Compile jobs that fit beside the system, and never more than cores; at least one, which planProblems then looks at. */
function fittingJobs(stage: StageFacts, { builderMemoryGiB, builderCores }: StagePlanArgs): number {
    const perJob = stage.memoryPerJobGiB.value;
    return perJob === 0 ? builderCores : Math.max(1, Math.min(builderCores, Math.floor((builderMemoryGiB - systemGiB) / perJob)));
}

/** Stages that are named wrongly, and those whose jobs would not fit the builder's memory: on the builder that is an OOM kill, hours later. */
export function planProblems(args: StagePlanArgs): Problem[] {
    const misfits = plannedStages(args).flatMap(({ target, jobs, memoryPerJobGiB }): Problem[] => {
        const needed = systemGiB + jobs * memoryPerJobGiB.value;
        if (needed <= args.builderMemoryGiB) {
            return [];
        }
        const most = Math.floor((args.builderMemoryGiB - systemGiB) / memoryPerJobGiB.value);
        const wrong = `${target} needs ${needed.toFixed(1)} GiB: ${jobs} ${jobs === 1 ? "job" : "jobs"} of ${memoryPerJobGiB.value} GiB and ${systemGiB} GiB for the system`;
        return most >= 1
            ? [{ path: inputName(`stages.maxJobs.${target}`), value: jobs, wrong, accepted: `at most ${most} with ${args.builderMemoryGiB} GiB` }]
            : [{ path: inputName("stages.builderMemoryGiB"), value: args.builderMemoryGiB, wrong, accepted: `${needed.toFixed(1)} or more` }];
    });
    return [...additionalProblems(args.additional ?? {}, args.order ?? [], args.maxJobs ?? {}), ...misfits];
}

/** `stage 3 of 7`, what it is, its jobs and how long it is expected to take. */
export function stageLine(stages: readonly PlannedStage[], index: number): string {
    const { target, delivers, compiled, jobs, memoryPerJobGiB, minutes } = stages[index]!;
    const work = compiled ? `${jobs} ${jobs === 1 ? "job" : "jobs"} of ${memoryPerJobGiB.value} GiB (${memoryPerJobGiB.basis})` : "nothing to compile";
    return `stage ${index + 1} of ${stages.length}, ${target}: ${delivers}; ${work}; about ${minutes} min (estimate)`;
}

/** What a build from nothing takes, stage by stage, and what it is without. */
export function planText(args: StagePlanArgs): string {
    const stages = plannedStages(args);
    const minutes = stages.reduce((sum, stage) => sum + stage.minutes, 0);
    const left = stageTable.filter(({ target }) => args.disabled.includes(target));
    const prebuilt = stageTable.filter(({ target }) => args.prebuilt?.[target] !== undefined);
    return [
        `a build from nothing, on ${args.builderCores} cores with ${args.builderMemoryGiB} GiB, one stage at a time, about ${Math.floor(minutes / 60)} h ${minutes % 60} min in all:`,
        ...stages.map((_, index) => `  ${stageLine(stages, index)}`),
        ...left.map(({ target, lostWithout }) => `  left out, ${target}: without ${lostWithout ?? "what it delivers"}`),
        ...prebuilt.map(({ target, delivers }) => `  prebuilt, ${target}: ${delivers}, taken from an image as it is`),
        ...exceptions.map(({ part, choice, reason }) => `  not built from source, ${part}: ${choice}; ${reason}`),
    ].join("\n");
}
