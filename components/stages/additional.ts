import * as fs from "node:fs";
import * as path from "node:path";
import type * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { contextsFolder } from "../internal/contexts";
import { inputName, type Problem } from "../internal/errors";
import { isEventual } from "../internal/resolve";
import { stageTable, type StageFacts } from "./table";

/**
 * A stage that a team adds, of a Dockerfile of its own: planned and built like the seven, in its place, and its wheels are installed into
 * the image without their dependencies, which the locked requirements must have.
 */
export interface AdditionalStageArgs {
    /** Path of the Dockerfile, relative to the program. */
    dockerfile: string;
    /** Stage of it that leaves its wheels in `/` or `/wheels`. Default: the name under which it is added. */
    target?: string;
    /** Folder that its COPY and ADD read from, relative to the program. Default: the Dockerfile's. */
    context?: string;
    /** Named contexts by name: a folder relative to the program, `https://REPOSITORY.git#COMMIT`, or `docker-image://REPOSITORY@DIGEST`. Default: none. */
    namedContexts?: Record<string, pulumi.Input<string>>;
    /** Build arguments, beside BASE_IMAGE, CUDA_ARCH_LIST, SOURCE_DATE_EPOCH and MAX_JOBS, which it is given where it declares them. Default: none. */
    buildArgs?: Record<string, pulumi.Input<string>>;
    /** What it delivers, as a person would say it. Default: its name. */
    delivers?: string;
    /** Peak resident memory of one compile job, GiB; it bounds MAX_JOBS. Default: 0, for a stage that compiles nothing. */
    memoryPerJobGiB?: number;
    /** Minutes that it is expected to take. Default: 1. */
    minutes?: number;
}

/** An Output is known later. */
const text = z.any().refine((value) => typeof value === "string" || isEventual(value), { error: "is no string; accepted: a string" }) as z.ZodType<
    pulumi.Input<string>
>;

const relative = z.string().refine((text) => !path.isAbsolute(text), { error: "is absolute; accepted: a path relative to the program" });

export const additionalStageSchema = z.strictObject({
    dockerfile: relative.meta({ description: "Path of its Dockerfile." }),
    target: z.string().optional().meta({ description: "Stage of it that leaves wheels in / or /wheels; its name where absent." }),
    context: relative.optional().meta({ description: "Folder that its COPY and ADD read from; the Dockerfile's where absent." }),
    namedContexts: z.record(z.string(), text).default({}).meta({ description: "Named contexts: folders, or git addresses with a commit." }),
    buildArgs: z.record(z.string(), text).default({}).meta({ description: "Further build arguments." }),
    delivers: z.string().optional().meta({ description: "What it delivers, as a person would say it." }),
    memoryPerJobGiB: z.number().nonnegative().default(0).meta({ description: "Peak memory of one compile job; 0 where nothing is compiled.", unit: "GiB" }),
    minutes: z.number().positive().default(1).meta({ description: "Minutes that it is expected to take.", unit: "min" }),
});

/** A stage of another Dockerfile among those that are planned. */
export type AdditionalStage = z.output<typeof additionalStageSchema>;

/** What the plan knows of it: its owner's own figures. */
export function additionalFacts(target: string, stage: AdditionalStage): StageFacts {
    return {
        target,
        delivers: stage.delivers ?? target,
        sources: [],
        locks: [],
        wheels: {},
        compiled: stage.memoryPerJobGiB > 0,
        memoryPerJobGiB: { value: stage.memoryPerJobGiB, basis: "estimate", source: "stages.additional" },
        cpuSeconds: { value: 0, basis: "estimate", source: "stages.additional" },
        fixedMinutes: stage.minutes,
    };
}

/** What is wrong with the stages that are added, and with an order or jobs that name what is not there. */
export function additionalProblems(additional: Record<string, AdditionalStage>, order: readonly string[], maxJobs: Record<string, unknown>): Problem[] {
    const seven = stageTable.map(({ target }) => target);
    const taken = [...seven, "build-managed-alloc"];
    const names = [...seven, ...Object.keys(additional)];
    const accepted = names.join(", ");
    return [
        ...Object.entries(additional).flatMap(([name, stage]) => stageProblems(inputName(`stages.additional.${name}`), name, stage, taken)),
        ...order
            .filter((name, index) => !names.includes(name) || order.indexOf(name) !== index)
            .map((name) => ({ path: inputName("stages.order"), value: name, wrong: names.includes(name) ? "stands there twice" : "is no stage", accepted })),
        ...Object.keys(maxJobs)
            .filter((name) => !names.includes(name))
            .map((name) => ({ path: inputName(`stages.maxJobs.${name}`), wrong: "is no stage", accepted })),
    ];
}

function stageProblems(path: string, name: string, { dockerfile, buildArgs }: AdditionalStage, taken: readonly string[]): Problem[] {
    // Any other name could be that of a source, a lock or a step in the image's Dockerfile, or of another of the platform's resources.
    const named = /^build-[a-z0-9-]+$/.test(name);
    return [
        ...(taken.includes(name) || !named
            ? [
                  {
                      path,
                      wrong: named ? "is a stage of the image already" : "is no name of a stage",
                      accepted: "another name: build- and lower-case letters, digits and dashes",
                  },
              ]
            : []),
        ...(fs.existsSync(dockerfile)
            ? []
            : [{ path: `${path}.dockerfile`, value: dockerfile, wrong: "does not exist", accepted: "a path relative to the program" }]),
        ...("MAX_JOBS" in buildArgs
            ? [{ path: `${path}.buildArgs.MAX_JOBS`, wrong: "is what the builder's memory bounds", accepted: inputName(`stages.maxJobs.${name}`) }]
            : []),
    ];
}

/** Those that are named come first, in that order; the others keep theirs. */
export function inOrder<S extends { target: string }>(stages: readonly S[], order: readonly string[]): S[] {
    const place = ({ target }: S) => (order.includes(target) ? order.indexOf(target) : order.length);
    return [...stages].sort((one, other) => place(one) - place(other));
}

/** A Dockerfile that gathers them, a folder each: what the image's `additional` is. */
export function gatheringDockerfile(targets: readonly string[]): string {
    const lines = [
        ...targets.map((target) => `FROM scratch AS ${target}`),
        "FROM scratch AS additional",
        ...targets.map((target) => `COPY --from=${target} / /${target}/`),
    ];
    const file = path.join(contextsFolder, "additional", "Dockerfile");
    fs.mkdirSync(path.dirname(file), { recursive: true });
    fs.writeFileSync(file, `${lines.join("\n")}\n`);
    return file;
}
