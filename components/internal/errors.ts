import * as pulumi from "@pulumi/pulumi";

/** One thing that a user got wrong, as it is shown: `path: value: what is wrong; accepted: ...; fix`. */
export interface Problem {
    /** Where it stands, e.g. `gh200-vllm:node.egmReservedMiB`. */
    path: string;
    /** What was found there. Absent where showing it would leak a secret or nothing was given. */
    value?: unknown;
    /** What is wrong with it, without a full stop. */
    wrong: string;
    /** What would be accepted. */
    accepted?: string;
    /** The command or edit that mends it. */
    fix?: string;
}

let stackNamespace = "";

/**
 * From here on, inputs are named as the stack's configuration has them. A program that passes them itself, as every user
 * of the package does, reads the component's own names.
 */
export function nameInputsByStackKey(namespace: string): void {
    stackNamespace = `${namespace}:`;
}

/** An input as its user knows it, e.g. `image.base`, or `gh200-vllm:image.base` where the stack's configuration holds it. */
export function inputName(property: string): string {
    return stackNamespace + property;
}

export function howToSet(property: string, value: string): string {
    return stackNamespace === "" ? `set ${property} to ${value}` : `pulumi config set --path ${inputName(property)} ${value}`;
}

/** A secret of the stack's configuration, or the input that it becomes in a program that passes it itself. */
export function howToSetSecret(key: string, property: string): string {
    return stackNamespace === "" ? `set ${property}` : `pulumi config set --secret ${inputName(key)}`;
}

export function problemLine(problem: Problem): string {
    const head = problem.value === undefined ? problem.path : `${problem.path}: ${show(problem.value)}`;
    const accepted = problem.accepted === undefined ? undefined : `accepted: ${problem.accepted}`;
    return `${head}: ${[problem.wrong, accepted, problem.fix].filter(Boolean).join("; ")}`;
}

/**
 * Everything a user has to mend, in one error without a stack: Pulumi prints the message of a
 * RunError as it stands.
 */
export class UserError extends pulumi.RunError {
    constructor(readonly problems: Problem[]) {
        super(problems.map(problemLine).join("\n"));
    }
}

/** Throws all problems at once, or does nothing when there are none. */
export function refuse(problems: Problem[]): void {
    if (problems.length > 0) {
        throw new UserError(problems);
    }
}

function show(value: unknown): string {
    if (value === "") {
        return '""';
    }
    // A password that somebody wrote into an address must not be shown with it.
    const text = (typeof value === "string" ? value : (JSON.stringify(value) ?? String(value))).replace(/:\/\/[^/\s"]*@/g, "://…@");
    // A pasted certificate or manifest must not push the message out of the one line.
    return text.length > 80 ? `${text.slice(0, 77).replace(/\s+/g, " ")}...` : text.replace(/\s+/g, " ");
}
