import { DockerfileParser, type Copy, type From, type Instruction, type ModifiableInstruction } from "dockerfile-ast";
import { type Problem, refuse } from "./errors";

/**
 * The part of a multi-stage Dockerfile that one target needs: the global ARGs, the stages that it
 * reaches, and the files of the main context that those stages read.
 */
export interface DockerfileSlice {
    /** Dockerfile text with what the target does not need left out, comments above stages included. */
    text: string;
    /** Names of the build arguments that the slice declares. */
    args: string[];
    /** Paths that the slice takes from the main build context, sorted. */
    contextPaths: string[];
    /** What the slice takes from elsewhere: by name of a `provided` stage, in order of use, the paths that it reads there, `.` for all. */
    provided: Record<string, string[]>;
}

interface Global {
    text: string;
    args: string[];
}

interface Stage {
    /** Its instructions as they stand, without the comment above FROM. */
    text: string;
    args: string[];
    /** Found when a target first reaches the stage: what no target needs may be written in any way. */
    reads: () => Read[];
}

/** A file or folder that a step reads. */
interface Read {
    /** Stage, named context or image; absent where it is the main context. */
    from?: string;
    /** Without slashes at its ends; `.` for everything. */
    path: string;
}

interface Dockerfile {
    globals: Global[];
    /** By lower-case name, as BuildKit compares them. */
    stages: Map<string, Stage>;
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
    const { globals, stages } = parse(text);
    const reached = new Set<Stage>();
    const contextPaths = new Set<string>();
    const providedPaths = new Map<string, Set<string>>();
    const visit = (name: string): void => {
        const stage = stages.get(name.toLowerCase());
        if (stage === undefined || reached.has(stage)) {
            return;
        }
        reached.add(stage);
        for (const { from, path } of stage.reads()) {
            if (from === undefined) {
                contextPaths.add(path);
            } else if (provided.includes(from)) {
                providedPaths.set(from, (providedPaths.get(from) ?? new Set()).add(path));
            } else {
                visit(from);
            }
        }
    };
    if (!stages.has(target.toLowerCase())) {
        refuse([{ path: "target", value: target, wrong: "is no stage of the Dockerfile", accepted: [...stages.keys()].join(", ") }]);
    }
    visit(target);
    const kept = [...stages.values()].filter((stage) => reached.has(stage));
    const used = usedGlobals(globals, kept.map((stage) => stage.text).join("\n"));
    return {
        text: [...used, ...kept]
            .map((part) => part.text)
            .join("\n")
            .trimEnd()
            .concat("\n"),
        args: [...new Set([...used, ...kept].flatMap((part) => part.args))],
        contextPaths: [...contextPaths].sort(),
        provided: Object.fromEntries([...providedPaths].map(([name, paths]) => [name, [...paths].sort()])),
    };
}

/** Every image of a platform is a slice of the same text, which is parsed once. */
const parsed = new Map<string, Dockerfile>();

function parse(text: string): Dockerfile {
    const dockerfile = parsed.get(text) ?? parseOnce(text);
    parsed.set(text, dockerfile);
    return dockerfile;
}

function parseOnce(text: string): Dockerfile {
    const lines = text.split("\n");
    const instructions = DockerfileParser.parse(text).getInstructions();
    const starts = instructions.flatMap((instruction, index) => (instruction.getKeyword() === "FROM" ? [index] : []));
    const globals = instructions.slice(0, starts[0]).map((instruction): Global => {
        const { start, end } = instruction.getRange();
        return { text: lines.slice(start.line, end.line + 1).join("\n"), args: argNames(instruction) };
    });
    const stages = starts.map((start, position): [string, Stage] => {
        const next = starts[position + 1];
        const own = instructions.slice(start, next);
        const from = own[0] as From;
        const end = next === undefined ? lines.length : startOfLeadingComment(lines, instructions[next]!.getRange().start.line);
        let reads: Read[] | undefined;
        return [
            (from.getBuildStage() ?? `stage ${position}`).toLowerCase(),
            {
                text: lines.slice(from.getRange().start.line, end).join("\n"),
                args: own.flatMap(argNames),
                reads: () => (reads ??= readsOf(from, own)),
            },
        ];
    });
    return { globals, stages: new Map(stages) };
}

/** The comment above a FROM explains it to people; no image changes when it does. */
function startOfLeadingComment(lines: string[], from: number): number {
    let first = from;
    while (first > 0 && /^\s*#/.test(lines[first - 1] ?? "")) {
        first -= 1;
    }
    return first;
}

/** Global ARGs that the kept text names, and those that these take their defaults from, in their order. */
function usedGlobals(globals: Global[], kept: string): Global[] {
    const used: Global[] = [];
    let text = kept;
    for (const global of [...globals].reverse()) {
        if (global.args.some((name) => new RegExp(`\\b${name}\\b`).test(text))) {
            used.unshift(global);
            text += `\n${global.text}`;
        }
    }
    return used;
}

/** Names that an ARG declares, several in one too; none for another instruction. */
function argNames(instruction: Instruction): string[] {
    return instruction.getKeyword() === "ARG" ? instruction.getArguments().map((argument) => argument.getValue().split("=", 1)[0] ?? "") : [];
}

function readsOf(from: From, instructions: Instruction[]): Read[] {
    const reads = [{ from: from.getImage() ?? undefined, path: "." }, ...instructions.flatMap((step) => [...copiedFiles(step), ...bindMounts(step)])];
    refuse(
        reads.flatMap(({ from: source, path }): Problem[] => {
            if (source !== undefined) {
                return /^\d+$/.test(source)
                    ? [
                          {
                              path: "Dockerfile",
                              value: `--from=${source}`,
                              wrong: "names a stage by its index, which a slice moves",
                              accepted: "a name, FROM ... AS NAME",
                          },
                      ]
                    : [];
            }
            return isPattern(path)
                ? [
                      {
                          path: "Dockerfile",
                          value: path,
                          wrong: "is a glob, a variable or a list in JSON",
                          accepted: "the names of files and folders, so that a build's inputs are known",
                      },
                  ]
                : [];
        }),
    );
    // Of another stage, what a pattern names is anything.
    return reads.map(({ from: source, path }) => ({ from: source, path: isPattern(path) ? "." : path.replace(/^\.?\/+|\/+$/g, "") || "." }));
}

function isPattern(path: string): boolean {
    return /[*?[\]$"]/.test(path);
}

/** What COPY and ADD take from the main context or from another stage: neither addresses nor here-documents. */
function copiedFiles(instruction: Instruction): Read[] {
    const keyword = instruction.getKeyword();
    if (keyword !== "COPY" && keyword !== "ADD") {
        return [];
    }
    const copy = instruction as Copy;
    const words = instruction.getArguments().map((argument) => argument.getValue());
    if (words.some((word) => word.startsWith("<<")) || copy.getHeredocs().length > 0) {
        return [];
    }
    const sources = words.filter((word) => !word.startsWith("--")).slice(0, -1);
    const files = keyword === "ADD" ? sources.filter((source) => !/^([a-z+]+:\/\/|git@)/.test(source)) : sources;
    return files.map((path) => ({ from: flag(instruction, "from"), path }));
}

function bindMounts(instruction: Instruction): Read[] {
    return flags(instruction)
        .filter(([name]) => name === "mount")
        .map(([, value]): Record<string, string | undefined> =>
            Object.fromEntries(value.split(",").map((pair): [string, string] => [pair.split("=", 1)[0] ?? "", pair.split("=")[1] ?? ""])),
        )
        .filter((mount) => (mount.type ?? "bind") === "bind")
        .map((mount) => ({ from: mount.from, path: mount.source ?? mount.src ?? "." }));
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
