import { DockerfileParser, type Copy, type From, type Instruction } from "dockerfile-ast";

/**
 * The part of a multi-stage Dockerfile that one target needs: the global ARGs, the stages that it
 * reaches, and the files of the main context that those stages read.
 */
export interface DockerfileSlice {
    /** Dockerfile text with the unreachable stages left out. */
    text: string;
    /** Paths that the slice takes from the main build context, sorted. */
    contextPaths: string[];
    /** Names that the slice takes from elsewhere: stages that are `provided`, in order of use. */
    providedNames: string[];
}

interface Stage {
    name: string;
    from: From;
    instructions: Instruction[];
    firstLine: number;
    lastLine: number;
}

/**
 * Slices a Dockerfile so that editing one stage's recipe changes only the images that are built from
 * that stage. BuildKit itself would rebuild only those too; the slice is what lets a preview say so.
 *
 * @param provided names that named contexts supply, so that neither the stage of that name nor
 *     anything that only it needs is part of the slice.
 */
export function sliceDockerfile(text: string, target: string, provided: readonly string[] = []): DockerfileSlice {
    const lines = text.split("\n");
    const { globalLines, stages } = parseStages(text, lines);
    const reached = new Set<string>();
    const contextPaths = new Set<string>();
    const providedNames: string[] = [];
    const visit = (name: string): void => {
        if (provided.includes(name)) {
            if (!providedNames.includes(name)) {
                providedNames.push(name);
            }
            return;
        }
        const stage = stages.get(name);
        if (stage === undefined || reached.has(name)) {
            return;
        }
        reached.add(name);
        for (const reference of references(stage)) {
            visit(reference);
        }
        for (const path of pathsFromMainContext(stage)) {
            contextPaths.add(path);
        }
    };
    if (!stages.has(target)) {
        throw new Error(`Dockerfile has no stage ${target}; it has ${[...stages.keys()].join(", ")}`);
    }
    visit(target);
    const kept = [...stages.values()].filter((stage) => reached.has(stage.name));
    return {
        text: [...globalLines, ...kept.flatMap((stage) => lines.slice(stage.firstLine, stage.lastLine + 1))]
            .join("\n")
            .trimEnd()
            .concat("\n"),
        contextPaths: [...contextPaths].sort(),
        providedNames,
    };
}

function parseStages(text: string, lines: string[]): { globalLines: string[]; stages: Map<string, Stage> } {
    const stages = new Map<string, Stage>();
    let current: Stage | undefined;
    let globalEnd = lines.length;
    for (const instruction of DockerfileParser.parse(text).getInstructions()) {
        const line = instruction.getRange().start.line;
        if (instruction.getKeyword() === "FROM") {
            const from = instruction as From;
            const firstLine = startOfLeadingComment(lines, line);
            if (current === undefined) {
                globalEnd = firstLine;
            } else {
                current.lastLine = firstLine - 1;
            }
            current = {
                name: from.getBuildStage() ?? `${stages.size}`,
                from,
                instructions: [],
                firstLine,
                lastLine: lines.length - 1,
            };
            stages.set(current.name, current);
        } else {
            current?.instructions.push(instruction);
        }
    }
    // Leading comments explain the file to people; they are no input of any image.
    const globalLines = lines.slice(0, globalEnd).filter((line) => /^\s*ARG\b/i.test(line));
    return { globalLines, stages };
}

/** A stage's own comment stands above its FROM and belongs to it. */
function startOfLeadingComment(lines: string[], from: number): number {
    let first = from;
    while (first > 0 && /^\s*#/.test(lines[first - 1] ?? "")) {
        first -= 1;
    }
    return first;
}

function references(stage: Stage): string[] {
    const names = [stage.from.getImage() ?? ""];
    for (const instruction of stage.instructions) {
        if (instruction.getKeyword() === "COPY") {
            names.push((instruction as Copy).getFromFlag()?.getValue() ?? "");
        }
        names.push(...bindMounts(instruction).map((mount) => mount.from ?? ""));
    }
    return names.filter((name) => name !== "");
}

function pathsFromMainContext(stage: Stage): string[] {
    const paths: string[] = [];
    for (const instruction of stage.instructions) {
        const keyword = instruction.getKeyword();
        if (keyword === "COPY" && (instruction as Copy).getFromFlag() === null) {
            paths.push(...localSources(instruction));
        } else if (keyword === "ADD") {
            paths.push(...localSources(instruction).filter((path) => !/^[a-z+]+:\/\/|^git@/.test(path)));
        }
        paths.push(
            ...bindMounts(instruction)
                .filter((mount) => mount.from === undefined)
                .map((mount) => mount.source ?? "."),
        );
    }
    return paths.map((path) => path.replace(/^\.?\/+|\/+$/g, "") || ".");
}

/** COPY and ADD name their sources first and their destination last. */
function localSources(instruction: Instruction): string[] {
    const words = instruction.getArguments().map((argument) => argument.getValue());
    return words.filter((word) => !word.startsWith("--")).slice(0, -1);
}

function bindMounts(instruction: Instruction): { from?: string; source?: string }[] {
    if (instruction.getKeyword() !== "RUN") {
        return [];
    }
    const flags = [...(instruction.getRawArgumentsContent() ?? "").matchAll(/--mount=(\S+)/g)].map((match) =>
        Object.fromEntries((match[1] ?? "").split(",").map((pair) => pair.split("=", 2) as [string, string?])),
    );
    return flags
        .filter((flag) => (flag.type ?? "bind") === "bind")
        .map((flag) => ({ from: flag.from, source: flag.source ?? flag.src }));
}
