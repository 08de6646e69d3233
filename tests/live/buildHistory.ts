import type { LiveSandbox } from "./liveSandbox";

interface Vertex {
    digest: string;
    name: string;
    started: number;
    completed: number;
}

/**
 * Compile steps (RUN through run-logged) that BuildKit's own records show as running at the same time.
 * A step that waits for the locked cache mount has not started for BuildKit. Two builds that need the same
 * step at once share it: it runs once, and stands in the records of both under one digest.
 */
export function overlappingCompiles(sandbox: LiveSandbox, sinceMs: number): { total: number; overlapping: [string, string][] } {
    const compiles = sandbox
        .buildRefs()
        .flatMap((ref) => verticesOf(sandbox.buildctl("debug", "logs", "--progress=rawjson", ref)))
        .filter(({ name, started }) => name.includes("run-logged") && started >= sinceMs);
    const overlapping: [string, string][] = [];
    for (const [index, one] of compiles.entries()) {
        for (const other of compiles.slice(index + 1)) {
            if (one.digest !== other.digest && one.started < other.completed && other.started < one.completed) {
                overlapping.push([one.name, other.name]);
            }
        }
    }
    return { total: compiles.length, overlapping };
}

function verticesOf(rawJson: string): Vertex[] {
    const vertices = new Map<string, Partial<Vertex>>();
    for (const line of rawJson.split("\n").filter((text) => text.startsWith("{"))) {
        const { vertexes = [] } = JSON.parse(line) as { vertexes?: { digest: string; name: string; started?: string; completed?: string; cached?: boolean }[] };
        for (const { digest, name, started, completed, cached } of vertexes) {
            if (started && completed && !cached) {
                vertices.set(digest, { digest, name, started: Date.parse(started), completed: Date.parse(completed) });
            }
        }
    }
    return [...vertices.values()] as Vertex[];
}
