import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test } from "vitest";
import { type Problem, problemLine, refuse, UserError } from "../../components/internal/errors";
import { refusal } from "../support/refusal";

describe("problemLine", () => {
    const table: [claim: string, problem: Problem, line: string][] = [
        ["path and what is wrong alone", { path: "a.b", wrong: "is missing" }, "a.b: is missing"],
        ["a text value unquoted", { path: "a.b", value: "x y", wrong: "is wrong" }, "a.b: x y: is wrong"],
        ["a number", { path: "a", value: 0, wrong: "is wrong" }, "a: 0: is wrong"],
        ["false, which is a value", { path: "a", value: false, wrong: "is wrong" }, "a: false: is wrong"],
        ["null, which is a value", { path: "a", value: null, wrong: "is wrong" }, "a: null: is wrong"],
        ["an object as JSON", { path: "a", value: { b: [1] }, wrong: "is wrong" }, 'a: {"b":[1]}: is wrong'],
        ["no value where none was given", { path: "a", value: undefined, wrong: "is missing" }, "a: is missing"],
        ["accepted without fix", { path: "a", wrong: "w", accepted: "x" }, "a: w; accepted: x"],
        ["fix without accepted", { path: "a", wrong: "w", fix: "do y" }, "a: w; do y"],
        ["all parts in order", { path: "a", value: 1, wrong: "w", accepted: "x", fix: "do y" }, "a: 1: w; accepted: x; do y"],
        ["a value of several lines in one", { path: "a", value: "x\n\ty\r\nz", wrong: "w" }, "a: x y z: w"],
        ["80 characters in full", { path: "a", value: "x".repeat(80), wrong: "w" }, `a: ${"x".repeat(80)}: w`],
        ["81 characters cut to 80", { path: "a", value: "x".repeat(81), wrong: "w" }, `a: ${"x".repeat(77)}...: w`],
    ];
    test.each(table)("shows %s", (_claim, problem, line) => {
        expect(problemLine(problem)).toBe(line);
    });
});

describe("refuse", () => {
    test("does nothing where there is no problem", () => {
        expect(refuse([])).toBeUndefined();
    });

    test("shows all problems at once, a line each, in the order given", () => {
        const lines = refusal(() =>
            refuse([
                { path: "b", wrong: "is missing" },
                { path: "a", value: 1, wrong: "is too small" },
            ]),
        );
        expect(lines).toEqual(["b: is missing", "a: 1: is too small"]);
    });

    test("throws what Pulumi prints without a stack", () => {
        expect(pulumi.RunError.isInstance(new UserError([{ path: "a", wrong: "w" }]))).toBe(true);
    });
});
