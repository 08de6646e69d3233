import * as pulumi from "@pulumi/pulumi";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { resolve, zodProblems } from "../../components/internal/resolve";
import { problemLine } from "../../components/internal/errors";
import { unknownOutput, valueOf } from "../support/mocks";
import { laterRefusal, refusal } from "../support/refusal";

const schema = z.strictObject({
    size: z.int({ error: "is no whole number of MiB" }).positive({ error: "is not positive; accepted: 1 or more" }),
    mode: z.enum(["a", "b"], { error: "accepted: a or b" }).default("a"),
    names: z.array(z.string()).default([]),
});

/** All of them, as one value. */
async function values(resolved: Record<string, pulumi.Output<unknown>>): Promise<Record<string, unknown>> {
    return Object.fromEntries(await Promise.all(Object.entries(resolved).map(async ([key, output]) => [key, await valueOf(output)] as const)));
}

describe("resolve", () => {
    test("gives every property as an Output, defaulted", async () => {
        const resolved = resolve("part", schema, { size: 1, mode: undefined, names: undefined });
        expect(await values(resolved)).toEqual({ size: 1, mode: "a", names: [] });
    });

    test("names every wrong plain input at once, a line each, before any resource", () => {
        const args = { size: -1, mode: "c", names: [1], extra: true } as never;
        expect(refusal(() => resolve("part", schema, args))).toEqual([
            "part.extra: is no input of this component; accepted: size, mode, names",
            "part.size: -1: is not positive; accepted: 1 or more",
            "part.mode: c: is not accepted; accepted: a or b",
            "part.names.0: 1: is no string; accepted: a string; put it in quotes, so that it is read as text",
        ]);
    });

    test("calls an absent required input missing", () => {
        expect(refusal(() => resolve("part", schema, { size: undefined, mode: "a", names: [] }))).toEqual(["part.size: is missing"]);
    });

    test("checks an Output and a Promise when they are known", async () => {
        const resolved = resolve("part", schema, { size: pulumi.output(3), mode: Promise.resolve("b" as const), names: [] });
        expect(await values(resolved)).toEqual({ size: 3, mode: "b", names: [] });
    });

    test("refuses a wrong one then, by the same line", async () => {
        expect(await laterRefusal(() => resolve("part", schema, { size: pulumi.output(-3), mode: "a", names: [] }))).toEqual([
            "part.size: -3: is not positive; accepted: 1 or more",
        ]);
    });

    test("keeps a secret secret", async () => {
        const resolved = resolve("part", schema, { size: pulumi.secret(3), mode: "a", names: [] });
        expect(await pulumi.isSecret(resolved.size)).toBe(true);
        expect(await pulumi.isSecret(resolved.mode)).toBe(false);
    });

    test("waits for an Output anywhere in an input", async () => {
        const names = [pulumi.output("one"), "two"] as unknown as string[];
        expect(await values(resolve("part", schema, { size: 1, mode: "a", names }))).toEqual({ size: 1, mode: "a", names: ["one", "two"] });
        const wrong = [pulumi.output(1)] as unknown as string[];
        expect(await laterRefusal(() => resolve("part", schema, { size: 1, mode: "a", names: wrong }))).toEqual([
            "part.names.0: 1: is no string; accepted: a string; put it in quotes, so that it is read as text",
        ]);
        const unknowns = [unknownOutput<string>()] as unknown as string[];
        const { names: later } = resolve("part", schema, { size: 1, mode: "a", names: unknowns });
        expect(await (later as unknown as { isKnown: Promise<boolean> }).isKnown).toBe(false);
    });

    test("lets an input pass that a preview does not know", async () => {
        const resolved = resolve("part", schema, { size: unknownOutput(), mode: "a", names: [] });
        expect(await (resolved.size as unknown as { isKnown: Promise<boolean> }).isKnown).toBe(false);
    });
});

test("an unknown key is named by its own path, without its value", () => {
    const nested = z.strictObject({ inner: z.strictObject({}) });
    const input = { inner: { token: "hf_secret" } };
    expect(zodProblems("part", nested.safeParse(input).error, input).map(problemLine)).toEqual([
        "part.inner.token: is an unknown key; remove it, or see docs/configuration.md for the keys there are",
    ]);
});

test("no error, no problem", () => {
    expect(zodProblems("part", undefined, {})).toEqual([]);
});
