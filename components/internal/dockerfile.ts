import { DockerfileParser, type Copy, type From, type Instruction, type ModifiableInstruction } from "dockerfile-ast";
import { type Problem, refuse } from "./errors";

/**
 * The part of a multi-stage Dockerfile that one target needs: the global ARGs, the stages that it
 * reaches, and the files of the main context that those stages read.
 */
export interface DockerfileSlice {
    /** Dockerfile text with what the target does not need left out, comments above stages included. */
    text: string;
    /** Paths that the slice takes from the main build context, sorted. */
    contextPaths: string[];
    /** Names that the slice takes from elsewhere: stages that are `provided`, in order of use. */
    providedNames: string[];
}

interface Stage {
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
 * @throws UserError where the file uses what cannot be sliced: stages by index, copied globs or
 *     variables.
 */
export function sliceDockerfile(text: string, target: string, provided: readonly string[] = []): DockerfileSlice {
    const lines = text.split("\n");
    const { globals, stages } = parse(text, lines);
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
        const stage = stages.get(name.toLowerCase());
        if (stage === undefined || reached.has(name.toLowerCase())) {
            return;
        }
        reached.add(name.toLowerCase());
        references(stage).forEach(visit);
        contextFiles(stage).forEach((path) => contextPaths.add(path));
    };
    if (!stages.has(target.toLowerCase())) {
        refuse([{ path: "target", value: target, wrong: "is no stage of the Dockerfile", accepted: [...stages.keys()].join(", ") }]);
    }
    visit(target);
    const kept = [...stages]
        .filter(([name]) => reached.has(name))
        .flatMap(([, stage]) => lines.slice(stage.firstLine, stage.lastLine + 1));
    return {
        text: [...usedGlobals(globals, kept), ...kept].join("\n").trimEnd().concat("\n"),
        contextPaths: [...contextPaths].sort(),
        providedNames,
    };
}

/** Stages by lower-case name, as BuildKit compares them, and the ARGs above the first, each as its text. */
function parse(text: string, lines: string[]): { globals: string[]; stages: Map<string, Stage> } {
    const globals: string[] = [];
    const stages = new Map<string, Stage>();
    let current: Stage | undefined;
    for (const instruction of DockerfileParser.parse(text).getInstructions()) {
        const { start, end } = instruction.getRange();
        if (instruction.getKeyword() === "FROM") {
            if (current !== undefined) {
                current.lastLine = startOfLeadingComment(lines, start.line) - 1;
            }
            const from = instruction as From;
            current = { from, instructions: [], firstLine: start.line, lastLine: lines.length - 1 };
            stages.set((from.getBuildStage() ?? `stage ${stages.size}`).toLowerCase(), current);
        } else if (current === undefined) {
            globals.push(lines.slice(start.line, end.line + 1).join("\n"));
        } else {
            current.instructions.push(instruction);
        }
    }
    return { globals, stages };
}

/** The comment above a FROM explains it to people; no image changes when it does. */
function startOfLeadingComment(lines: string[], from: number): number {
    let first = from;
    while (first > 0 && /^\s*#/.test(lines[first - 1] ?? "")) {
        first -= 1;
    }
    return first;
}

/** Global ARGs that the kept lines name, and those that these take their defaults from, in their order. */
function usedGlobals(globals: string[], kept: string[]): string[] {
    const used: string[] = [];
    let text = kept.join("\n");
    for (const global of [...globals].reverse()) {
        if (declaredArgs(global).some((name) => new RegExp(`\\b${name}\\b`).test(text))) {
            used.unshift(global);
            text += `\n${global}`;
        }
    }
    return used;
}

/** Names that the ARG instructions of a text declare. */
export function declaredArgs(text: string): string[] {
    return DockerfileParser.parse(text)
        .getInstructions()
        .filter((instruction) => instruction.getKeyword() === "ARG")
        .flatMap((instruction) => instruction.getArguments().map((argument) => argument.getValue().split("=", 1)[0] ?? ""));
}

function references(stage: Stage): string[] {
    const names = [stage.from.getImage(), ...stage.instructions.flatMap((step) => [flag(step, "from"), ...bindMounts(step).map((mount) => mount.from)])];
    const named = names.filter((name) => name !== undefined && name !== null && name !== "") as string[];
    refuse(
        named
            .filter((name) => /^\d+$/.test(name))
            .map((name): Problem => ({ path: "Dockerfile", value: `--from=${name}`, wrong: "names a stage by its index, which a slice moves", accepted: "a name, FROM ... AS NAME" })),
    );
    return named;
}

function contextFiles(stage: Stage): string[] {
    const paths = stage.instructions.flatMap((step) => [
        ...copiedFiles(step),
        ...bindMounts(step)
            .filter((mount) => mount.from === undefined)
            .map((mount) => mount.source ?? "."),
    ]);
    refuse(
        paths
            .filter((path) => /[*?[\]$"]/.test(path))
            .map((path): Problem => ({ path: "Dockerfile", value: path, wrong: "is a glob, a variable or a list in JSON", accepted: "the names of files and folders, so that a build's inputs are known" })),
    );
    return paths.map((path) => path.replace(/^\.?\/+|\/+$/g, "") || ".");
}

/** What COPY and ADD take from the main context: neither other stages nor addresses nor here-documents. */
function copiedFiles(instruction: Instruction): string[] {
    const keyword = instruction.getKeyword();
    if ((keyword !== "COPY" && keyword !== "ADD") || flag(instruction, "from") !== undefined) {
        return [];
    }
    const copy = instruction as Copy;
    const words = instruction.getArguments().map((argument) => argument.getValue());
    if (words.some((word) => word.startsWith("<<")) || copy.getHeredocs().length > 0) {
        return [];
    }
    const sources = words.filter((word) => !word.startsWith("--")).slice(0, -1);
    return keyword === "ADD" ? sources.filter((source) => !/^([a-z+]+:\/\/|git@)/.test(source)) : sources;
}

function bindMounts(instruction: Instruction): { from?: string; source?: string }[] {
    return flags(instruction)
        .filter(([name]) => name === "mount")
        .map(([, value]) => Object.fromEntries(value.split(",").map((pair) => pair.split("=", 2) as [string, string?])))
        .filter((mount) => (mount.type ?? "bind") === "bind")
        .map((mount) => ({ from: mount.from, source: mount.source ?? mount.src }));
}

function flag(instruction: Instruction, name: string): string | undefined {
    return flags(instruction).find(([key]) => key === name)?.[1];
}

/** Flags of COPY, ADD and RUN; the parser's own shorthands see a flag only where it is the only one. */
function flags(instruction: Instruction): [name: string, value: string][] {
    return ["COPY", "ADD", "RUN"].includes(instruction.getKeyword())
        ? (instruction as ModifiableInstruction).getFlags().map((found) => [found.getName(), found.getValue() ?? ""])
        : [];
}
