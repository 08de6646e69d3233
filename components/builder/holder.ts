import type { BuildRecord } from "./control";

/** What a builder is busy with, as a person who waits for it wants to read it. */
export function holderLine(endpoint: string, active: readonly BuildRecord[], now: Date): string {
    return `${endpoint} is building ${active.map((build) => describeBuild(build, now)).join(", and ")}; compile steps take turns there, so this one waits for its lock`;
}

export function describeBuild(build: BuildRecord, now: Date): string {
    const minutes = Math.max(0, Math.floor((now.getTime() - build.started.getTime()) / 60_000));
    const since = `${build.started.toISOString().slice(11, 16)} UTC (${minutes} min)`;
    return `${build.target || "an image"} for ${build.stack ? `stack ${build.stack}` : "somebody who left no name"} since ${since}, build ${build.ref}`;
}
