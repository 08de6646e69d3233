import { DockerfileParser, type From, type Instruction, type ModifiableInstruction, type Onbuild } from "dockerfile-ast";

/** What a Dockerfile takes from elsewhere and what it declares, as far as its text says. */
export interface DockerfileFacts {
    /** Every value that an ARG or ENV gives a name, in any stage. A build argument takes the place of those of ARG alone. */
    declared: { name: string; value: string; by: "ARG" | "ENV" }[];
    /** Images of FROM, COPY, mounts and `# syntax=`, but stages and named contexts. A FROM of one argument alone stays as it is written. */
    images: string[];
    /** Platforms that a FROM asks for, but those that follow the builder or the target. */
    platforms: string[];
    /** What ADD fetches by an address that may change under its name: neither a checksum nor a commit. */
    fetched: string[];
}

/**
 * @param contexts names of named contexts, which take an image's place.
 * @param buildArgs values that are passed to the build.
 */
export function dockerfileFacts(text: string, contexts: readonly string[] = [], buildArgs: Readonly<Record<string, string>> = {}): DockerfileFacts {
    const dockerfile = DockerfileParser.parse(text);
    const instructions = dockerfile.getInstructions().flatMap(withTrigger);
    const declared = instructions.flatMap(declarations);
    const values = { ...Object.fromEntries(declared.map(({ name, value }) => [name, value])), ...buildArgs };
    const froms = instructions.filter((step): step is From => step.getKeyword() === "FROM");
    // What a stage declares anew says nothing to a FROM: it knows the arguments above the first one alone.
    const first = instructions.findIndex((step) => step.getKeyword() === "FROM");
    const above = instructions.slice(0, Math.max(first, 0)).flatMap(declarations);
    const globals = { ...Object.fromEntries(above.map(({ name, value }) => [name, value])), ...buildArgs };
    const own = new Set([...contexts, ...froms.map((from) => from.getBuildStage() ?? ""), "scratch", ""].map((name) => name.toLowerCase()));
    const copied = instructions.flatMap((step) =>
        flags(step).flatMap(([name, value]) => (name === "from" ? [value] : name === "mount" ? mountSource(value) : [])),
    );
    const whole = (name: string, known: Readonly<Record<string, string>>) => (/^\$\{?\w+\}?$/.test(name) ? name : resolved(name, known));
    const images = [...froms.map((from) => whole(from.getImage() ?? "", globals)), ...copied.map((name) => whole(name, values))].filter(
        (name) => !own.has(name.toLowerCase()) && !/^\d+$/.test(name),
    );
    const syntax = dockerfile.getDirectives().filter((directive) => directive.getName().toLowerCase() === "syntax");
    return {
        declared,
        platforms: froms
            .map((from) => resolved(from.getPlatformFlag()?.getValue() ?? "", globals))
            .filter((of) => !/^(|\$\{?(TARGET|BUILD)PLATFORM\}?)$/.test(of)),
        images: [...syntax.map((directive) => directive.getValue()), ...images],
        fetched: instructions.flatMap((step) => fetched(step, values)),
    };
}

function withTrigger(instruction: Instruction): Instruction[] {
    const trigger = instruction.getKeyword() === "ONBUILD" ? (instruction as Onbuild).getTriggerInstruction() : null;
    return trigger === null ? [instruction] : [trigger];
}

function declarations(instruction: Instruction): DockerfileFacts["declared"] {
    const by = instruction.getKeyword();
    if (by !== "ARG" && by !== "ENV") {
        return [];
    }
    const words = instruction.getArguments().map((argument) => argument.getValue());
    // `ENV NAME VALUE`, the old form.
    const pairs = by === "ENV" && words[0]?.includes("=") === false ? [`${words[0]}=${words.slice(1).join(" ")}`] : words;
    return pairs.filter((pair) => pair.includes("=")).map((pair) => ({ name: pair.split("=", 1)[0]!, value: unquoted(pair.slice(pair.indexOf("=") + 1)), by }));
}

const unquoted = (text: string): string => text.replace(/^(["'])(.*)\1$/s, "$2");

function resolved(text: string, values: Readonly<Record<string, string>>): string {
    return text.replace(
        /\$(?:(\w+)|\{(\w+)(?::?-([^}]*))?\})/g,
        (whole, plain: string, braced: string, other?: string) => values[plain ?? braced] ?? other ?? whole,
    );
}

function flags(instruction: Instruction): [string, string][] {
    return ["COPY", "ADD", "RUN"].includes(instruction.getKeyword())
        ? (instruction as ModifiableInstruction).getFlags().map((flag) => [flag.getName().toLowerCase(), unquoted(flag.getValue() ?? "")])
        : [];
}

function mountSource(mount: string): string[] {
    return mount.split(",").flatMap((pair) => /^from=(.+)$/i.exec(pair)?.slice(1).map(unquoted) ?? []);
}

function fetched(instruction: Instruction, values: Readonly<Record<string, string>>): string[] {
    if (instruction.getKeyword() !== "ADD" || flags(instruction).some(([name, value]) => name === "checksum" && value !== "")) {
        return [];
    }
    return instruction
        .getArguments()
        .map((argument) => resolved(unquoted(argument.getValue().replace(/^\[|[,\]]$/g, "")), values))
        .filter((source) => /^([a-z][a-z+]*:\/\/|git@)/i.test(source) && !/#[0-9a-f]{40}(:|$)/.test(source));
}
