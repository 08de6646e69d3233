import * as pulumi from "@pulumi/pulumi";
import { z } from "zod";
import { type Problem, refuse } from "./errors";

/**
 * Checks a component's inputs against its schema and returns each property, defaulted, as an Output.
 *
 * Plain inputs are checked at once, so that a mistake ends the program before any resource. An
 * input that is an Output, or has one in it, is checked when its value is known; a preview with unknowns passes.
 */
export function resolve<S extends z.ZodObject>(
    path: string,
    schema: S,
    args: { [K in keyof z.input<S>]: unknown },
): { [K in keyof z.output<S>]: pulumi.Output<z.output<S>[K]> } {
    const given = args as Record<string, unknown>;
    const unknownKeys = Object.keys(given).filter((key) => !(key in schema.shape));
    const problems: Problem[] = unknownKeys.map((key) => ({
        path: `${path}.${key}`,
        wrong: "is no input of this component",
        accepted: Object.keys(schema.shape).join(", "),
    }));
    const outputs: Record<string, unknown> = {};
    const leaves: Record<string, z.ZodType> = schema.shape;
    for (const [key, leaf] of Object.entries(leaves)) {
        const value = given[key];
        if (isEventual(value)) {
            outputs[key] = eventual(value).apply((resolved) => checked(`${path}.${key}`, leaf, resolved));
        } else {
            const result = leaf.safeParse(value);
            problems.push(...zodProblems(`${path}.${key}`, result.error, value));
            outputs[key] = pulumi.output(result.data);
        }
    }
    refuse(problems);
    return outputs as { [K in keyof z.output<S>]: pulumi.Output<z.output<S>[K]> };
}

/**
 * One problem per zod issue; `value` is where the issue's path starts. Our schemas write their messages
 * as `what is wrong; accepted: what would be`.
 */
export function zodProblems(path: string, error: z.ZodError | undefined, value: unknown): Problem[] {
    return (error?.issues ?? []).flatMap((issue): Problem[] => {
        if (issue.code === "unrecognized_keys") {
            return issue.keys.map((key) => ({
                path: [path, ...issue.path, key].join("."),
                wrong: "is an unknown key",
                fix: "remove it, or see docs/configuration.md for the keys there are",
            }));
        }
        const found = at(value, issue.path);
        const where = [path, ...issue.path].join(".");
        if (pulumi.Output.isInstance(found)) {
            return [{ path: where, wrong: "is known only later", accepted: "a value that is known when the program is written" }];
        }
        const { wrong, accepted } = sentence(issue);
        const missing = found === undefined;
        return [
            {
                path: where,
                value: found,
                wrong: missing ? "is missing" : wrong,
                ...(accepted !== undefined && { accepted }),
                ...(!missing && issue.code === "invalid_type" && issue.expected === "string" && textFix(found)),
            },
        ];
    });
}

/** A commit like `93e928824` is a number to YAML, one beyond what a number can be; `on` and `no` are truth values to the YAML of Pulumi. */
function textFix(found: unknown): { fix?: string } {
    return typeof found === "object" && found !== null ? {} : { fix: "put it in quotes, so that it is read as text" };
}

function checked(path: string, schema: z.ZodType, value: unknown): unknown {
    const result = schema.safeParse(value);
    refuse(zodProblems(path, result.error, value));
    return result.data;
}

function at(value: unknown, path: PropertyKey[]): unknown {
    return path.reduce<unknown>((found, key) => (found as Record<PropertyKey, unknown> | undefined)?.[key], value);
}

/** Our schemas' own messages, and zod's for the checks that need no words of ours, in the same form. */
function sentence(issue: z.core.$ZodIssue): { wrong: string; accepted?: string } {
    const [wrong = "", accepted] = issue.message.split(/;? ?accepted: /);
    if (accepted !== undefined) {
        return { wrong: wrong || "is not accepted", accepted };
    }
    switch (issue.code) {
        case "invalid_type":
            return issue.message.startsWith("Invalid input") ? { wrong: `is no ${noun(issue.expected)}`, accepted: `a ${noun(issue.expected)}` } : { wrong };
        case "too_small":
            return { wrong: "is too small", accepted: `${issue.inclusive ? "" : "more than "}${issue.minimum}${issue.inclusive ? " or more" : ""}` };
        case "too_big":
            return { wrong: "is too large", accepted: `at most ${issue.maximum}` };
        default:
            return { wrong };
    }
}

function noun(type: string): string {
    return type === "int" ? "whole number" : type;
}

/** Known later, or with something in it that is: `{ pool: output }` is as good an input as an Output of all of it. */
export function isEventual(value: unknown): boolean {
    if (pulumi.Output.isInstance(value) || value instanceof Promise) {
        return true;
    }
    return typeof value === "object" && value !== null && !pulumi.Resource.isInstance(value) && Object.values(value).some(isEventual);
}

/** pulumi.output's own type maps `unknown` to `never`. */
function eventual(value: unknown): pulumi.Output<unknown> {
    return pulumi.output(value as string);
}
