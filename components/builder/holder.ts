import type { Problem } from "../internal/errors";
import type { BuildRecord } from "./control";

/** What a builder is busy with, as a person who waits for it wants to read it. */
export function holderLine(endpoint: string, active: readonly BuildRecord[], now: Date): string {
    return `${endpoint} is building ${describeBuilds(active, now)}; compile steps take turns there, so this one waits for its lock`;
}

/** The same for a builder that is not waited for. */
export function busyProblem(endpoint: string, active: readonly BuildRecord[], now: Date): Problem {
    return {
        path: "builder.endpoint",
        value: endpoint,
        wrong: `is building ${describeBuilds(active, now)}`,
        accepted: "a daemon that builds nothing, as builder.refuseWhenBusy demands",
        fix: "run the update again when that build has ended, or remove builder.refuseWhenBusy to wait for it",
    };
}

function describeBuilds(active: readonly BuildRecord[], now: Date): string {
    return active.map((build) => describeBuild(build, now)).join(", and ");
}

export function describeBuild(build: BuildRecord, now: Date): string {
    const minutes = Math.max(0, Math.floor((now.getTime() - build.started.getTime()) / 60_000));
    const since = `${build.started.toISOString().slice(11, 16)} UTC (${minutes} min)`;
    return `${build.target || "an image"} for ${build.stack ? `stack ${build.stack}` : "somebody who left no name"} since ${since}, build ${build.ref}`;
}
