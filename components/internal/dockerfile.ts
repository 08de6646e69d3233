import { posix } from "node:path";
import { DockerfileParser, type Copy, type From, type Instruction, type ModifiableInstruction, type Onbuild } from "dockerfile-ast";
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
    /** Paths and patterns that the slice takes from the main build context, sorted. */
    contextPaths: string[];
    /** What the slice takes from elsewhere: by name of a `provided` stage, in order of use, the paths that it reads there, `.` for all. */
    provided: Record<string, string[]>;
}

interface Global {
    text: string;
    args: string[];
    /** Each argument with its default; undefined without one. */
    defaults: [name: string, value: string | undefined][];
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
    from?: string | undefined;
    /** Without slashes at its ends, never above the context; `.` for everything; a pattern where it has one of `*?[`. */
    path: string;
}

interface Dockerfile {
    /** `# syntax=` and its like, which decide how the rest is read. */
    directives: string[];
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
 * @param values build arguments by name, for a FROM that names a stage through one; undefined where a value is not known yet.
 * @throws UserError where the file uses what cannot be sliced: stages by index, or files by a variable.
 */
export function sliceDockerfile(
    text: string,
    target: string,
    provided: readonly string[] = [],
    values: Record<string, string | undefined> = {},
): DockerfileSlice {
    const { directives, globals, stages } = parse(text);
    const defaults = globalDefaults(globals, {});
    const known = { ...globalDefaults(globals, values), ...values };
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
            }
            for (const source of from === undefined ? [] : namedBy(from, known, defaults, [...stages.keys(), ...provided])) {
                const context = provided.find((key) => key.toLowerCase() === source.toLowerCase());
                if (context === undefined) {
                    visit(source);
                } else {
                    providedPaths.set(context, (providedPaths.get(context) ?? new Set()).add(path));
                }
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
        text: [...directives, ...[...used, ...kept].map((part) => part.text)].join("\n").trimEnd().concat("\n"),
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
    const dockerfile = DockerfileParser.parse(text);
    const instructions = dockerfile.getInstructions();
    const directives = dockerfile.getDirectives().map((directive) => lines[directive.getRange().start.line]!);
    const starts = instructions.flatMap((instruction, index) => (instruction.getKeyword() === "FROM" ? [index] : []));
    const globals = instructions.slice(0, starts[0]).map((instruction): Global => {
        const { start, end } = instruction.getRange();
        return { text: lines.slice(start.line, end.line + 1).join("\n"), args: argNames(instruction), defaults: argDefaults(instruction) };
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
                args: own.map(triggered).flatMap(argNames),
                reads: () => (reads ??= readsOf(from, own)),
            },
        ];
    });
    refuse(
        stages
            .filter(([name], index) => stages.findIndex(([other]) => other === name) !== index)
            .map(([name]) => ({
                path: "Dockerfile",
                value: name,
                wrong: "is the name of two stages",
                accepted: "a name for each, so that a slice knows which is meant",
            })),
    );
    return { directives, globals, stages: new Map(stages) };
}

/** Defaults of the global ARGs, each with those before it in place. */
function globalDefaults(globals: Global[], values: Record<string, string | undefined>): Record<string, string | undefined> {
    const known: Record<string, string | undefined> = {};
    for (const { defaults } of globals) {
        for (const [name, value] of defaults) {
            known[name] = name in values ? values[name] : value === undefined ? undefined : substituted(value, known);
        }
    }
    return known;
}

/**
 * What a FROM with arguments in it may name. Where one is not known before the build, all stages and named contexts whose name fits:
 * BuildKit takes its own of them. A FROM that is one argument alone would fit them all, and is an image but where its default says otherwise.
 */
function namedBy(from: string, values: Record<string, string | undefined>, defaults: Record<string, string | undefined>, names: string[]): string[] {
    const exact = substituted(from, values);
    const literals = from.split(variable).filter((_, index) => index % 2 === 0);
    if (exact !== undefined || literals.join("") === "") {
        return [exact ?? substituted(from, defaults) ?? from];
    }
    const pattern = new RegExp(`^${literals.map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&")).join(".*")}$`, "i");
    return names.filter((name) => pattern.test(name));
}

/** `$NAME`, `${NAME}`, `${NAME:-DEFAULT}` and `${NAME:+VALUE}`, in one group. */
const variable = /(\$(?:\w+|\{\w+(?::?[-+][^}]*)?\}))/;

/** Text with its variables in place; undefined where one is not known or written in another way. */
function substituted(text: string, values: Record<string, string | undefined>): string | undefined {
    const parts = text.split(variable).map((part, index) => {
        const [, name = "", operator, other = ""] = /^\$\{?(\w+)(?::?([-+])([^}]*))?\}?$/.exec(part) ?? [];
        if (index % 2 === 0) {
            return part.includes("$") ? undefined : part;
        }
        const value = values[name];
        return operator === "-" ? value || other : operator === "+" ? (value ? other : "") : value;
    });
    return parts.includes(undefined) ? undefined : parts.join("").replace(/^(["'])(.*)\1$/, "$2");
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

function triggered(instruction: Instruction): Instruction {
    return instruction.getKeyword() === "ONBUILD" ? ((instruction as Onbuild).getTriggerInstruction() ?? instruction) : instruction;
}

/** Names that an ARG declares, several in one too; none for another instruction. */
function argNames(instruction: Instruction): string[] {
    return instruction.getKeyword() === "ARG" ? instruction.getArguments().map((argument) => argument.getValue().split("=", 1)[0] ?? "") : [];
}

function argDefaults(instruction: Instruction): [string, string | undefined][] {
    const words = instruction.getKeyword() === "ARG" ? instruction.getArguments().map((argument) => argument.getValue()) : [];
    return words.map((word) => [word.split("=", 1)[0]!, word.includes("=") ? word.slice(word.indexOf("=") + 1).replace(/^(["'])(.*)\1$/, "$2") : undefined]);
}

function readsOf(from: From, instructions: Instruction[]): Read[] {
    // What ONBUILD leaves to the stages after it is read by them alone, which have this one.
    const steps = instructions.map(triggered).flatMap((step) => [...copiedFiles(step), ...mounts(step)]);
    refuse(
        steps.flatMap(({ from: source, path }): Problem[] => {
            const at = { path: "Dockerfile", value: source === undefined ? path : `--from=${source}` };
            if (source !== undefined && /^\d+$/.test(source)) {
                return [{ ...at, wrong: "names a stage by its index, which a slice moves", accepted: "a name, FROM ... AS NAME" }];
            }
            if (source?.includes("$")) {
                return [{ ...at, wrong: "is a variable, which BuildKit does not take there", accepted: "a name; FROM ${ARG} AS NAME makes one" }];
            }
            return source === undefined && /["$\\]/.test(path)
                ? [{ ...at, wrong: "is a variable or quoted", accepted: "the names of files and folders, or a pattern, so that a build's inputs are known" }]
                : [];
        }),
    );
    const reads: Read[] = [{ from: from.getImage() ?? undefined, path: "." }, ...steps];
    // Of another stage, what a pattern or a variable names is anything.
    return reads.map(({ from: source, path }) => ({ from: source, path: source !== undefined && /[*?[\]$"\\]/.test(path) ? "." : withinContext(path) }));
}

/** BuildKit takes the context for the root: nothing lies above it. */
function withinContext(path: string): string {
    return posix.join("/", path).replace(/^\/|\/$/g, "") || ".";
}

/** What COPY and ADD take from the main context or from another stage: neither addresses nor here-documents. */
function copiedFiles(instruction: Instruction): Read[] {
    const keyword = instruction.getKeyword();
    if (keyword !== "COPY" && keyword !== "ADD") {
        return [];
    }
    // The lines of a here-document are its own text.
    const [heredoc] = (instruction as Copy).getHeredocs();
    const own = instruction.getArguments().filter((argument) => heredoc === undefined || argument.getRange().start.line === instruction.getRange().start.line);
    const text = (instruction.getArgumentsContent() ?? "").replace(/\\[ \t]*\n/g, " ");
    if (heredoc === undefined && /\\\s/.test(text)) {
        // The parser takes an escaped blank for the end of a word.
        return [{ path: text }];
    }
    const words = listed(text) ?? own.map((argument) => argument.getValue());
    const sources = words.filter((word) => !word.startsWith("--") && !word.startsWith("<<")).slice(0, -1);
    const files = keyword === "ADD" ? sources.filter((source) => !/^([a-z+]+:\/\/|git@)/.test(source)) : sources;
    return files.map((path) => ({ from: flag(instruction, "from") || undefined, path }));
}

/** The words of COPY's and ADD's list in JSON; undefined where it is none, which BuildKit reads as words then. */
function listed(text: string): string[] | undefined {
    const [, json] = /^(?:--\S+\s+)*(\[.*\])\s*$/s.exec(text.trim()) ?? [];
    try {
        const words = JSON.parse(json ?? "") as unknown[];
        return words.every((word) => typeof word === "string") ? words : undefined;
    } catch {
        return undefined;
    }
}

/** What RUN mounts of files: binds, and the stage that a cache starts with. */
function mounts(instruction: Instruction): Read[] {
    return flags(instruction)
        .filter(([name]) => name === "mount")
        .map(([, value]): Record<string, string | undefined> =>
            Object.fromEntries(
                value
                    .replace(/^(["'])(.*)\1$/, "$2")
                    .split(",")
                    .map((pair): [string, string] => [pair.split("=", 1)[0]!.toLowerCase(), pair.slice(pair.indexOf("=") + 1).replace(/^(["'])(.*)\1$/, "$2")]),
            ),
        )
        .filter(({ type = "bind", from }) => type === "bind" || (type === "cache" && from))
        .map((mount) => ({ from: mount.from || undefined, path: mount.source ?? mount.src ?? "." }));
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
