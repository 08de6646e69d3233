import * as fs from "node:fs";
import * as path from "node:path";

/** One object as the compiler made it, alone on the machine as far as the suite is concerned. */
interface Compiled {
    /** Its path in the root. */
    file: string;
    status: number;
    seconds: number;
    cpuSeconds: number;
    /** Resident memory of the largest process of the compile, MiB; under emulation the emulator's own is part of it. */
    peakMiB: number;
}

export interface Recorded {
    stage: string;
    /** Object files that the whole stage would compile. */
    objects: number;
    /** Those of them that are CUDA's. */
    cuda: number;
    compiled: Compiled[];
}

/** What root/ninja wrote; empty where the stage was built without it. */
export function readRecord(stage: string, file: string): Recorded {
    const lines = fs.existsSync(file) ? fs.readFileSync(file, "utf8").trim().split("\n") : [];
    const entries = lines.map((line) => JSON.parse(line) as Partial<Recorded> & Compiled);
    const total = entries.find(({ objects }) => objects !== undefined);
    return { stage, objects: total?.objects ?? 0, cuda: total?.cuda ?? 0, compiled: entries.filter((entry) => entry.file !== undefined) };
}

/** The figures, a line each, as docs/stages.md has them. */
export function report(results: Recorded[]): void {
    for (const { stage, objects, cuda, compiled } of results) {
        console.log(`${stage}: ${objects} objects in all, ${cuda} of them CUDA`);
        for (const { file, seconds, cpuSeconds, peakMiB } of compiled) {
            console.log(`  ${path.basename(file)}: ${seconds} s, ${cpuSeconds} CPU s, ${peakMiB} MiB`);
        }
    }
}

/**
 * Empty files of the names that vLLM's CMake lists for a source that no package registry has, so that the
 * configure step can be run. None of them is compiled.
 */
export function named(vllm: string, source: string, folder: string): void {
    const list = fs.readFileSync(path.join(vllm, "cmake/external_projects", `${source}.cmake`), "utf8");
    for (const [, file = ""] of list.matchAll(new RegExp(`\\$\\{${source}_SOURCE_DIR\\}/([\\w./-]+\\.\\w+)`, "g"))) {
        fs.mkdirSync(path.dirname(path.join(folder, file)), { recursive: true });
        fs.writeFileSync(path.join(folder, file), "");
    }
}
