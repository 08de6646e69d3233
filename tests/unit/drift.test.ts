import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { builderDrift, resourceDrift, tagDrift } from "../../drift/drift";
import type { EngineEvent } from "../../tools/engine";

const refreshed = (op: string, changed: Record<string, [unknown, unknown]>): EngineEvent => {
    const side = (index: 0 | 1) => ({
        inputs: {},
        outputs: { spec: Object.fromEntries(Object.entries(changed).map(([key, values]) => [key, values[index]])) },
    });
    const detailedDiff = Object.fromEntries(Object.keys(changed).map((key) => [`spec.${key}`, { diffKind: "update", inputDiff: false }]));
    return {
        resOutputsEvent: {
            metadata: {
                op,
                urn: "urn:pulumi:gh200::p::kubernetes:apps/v1:Deployment::gh200-vllm",
                type: "kubernetes:apps/v1:Deployment",
                old: side(0),
                new: side(1),
                detailedDiff,
            },
        },
    };
};
const lines = (...events: EngineEvent[]) => resourceDrift(events).map(problemLine);

describe("drift of a resource", () => {
    test("is none where a refresh finds it as it was", () => {
        expect(lines(refreshed("same", {}), refreshed("refresh", {}))).toEqual([]);
    });

    test("names each property with both values", () => {
        expect(lines(refreshed("update", { replicas: [1, 0] }))).toEqual([
            "Deployment gh200-vllm: was changed by hand: spec.replicas 1 → 0; pulumi up --refresh puts it back",
        ]);
    });

    test("never shows a value that is more than a word, which may hold a secret", () => {
        expect(lines(refreshed("update", { template: [{ token: "a" }, { token: "b" }] }))).toEqual([
            "Deployment gh200-vllm: was changed by hand: spec.template; pulumi up --refresh puts it back",
        ]);
    });

    test("says what is gone", () => {
        expect(lines(refreshed("delete", {}))).toEqual(["Deployment gh200-vllm: is gone; pulumi up --refresh makes it again"]);
    });
});

test("drift of the tag is another digest, or none", () => {
    expect(tagDrift("r:t", "r@sha256:a", "sha256:a")).toEqual([]);
    expect(tagDrift("r:t", "r@sha256:a", "sha256:b").map(problemLine)[0]).toContain("tag r:t: was moved by hand: sha256:a → sha256:b");
    expect(tagDrift("r:t", "r@sha256:a", undefined).map(problemLine)[0]).toContain("tag r:t: is gone");
});

test("drift of the builder is another worker than the last build's", () => {
    expect(builderDrift("tcp://b:1", "w1", "w1")).toEqual([]);
    expect(builderDrift("tcp://b:1", "", "w1")).toEqual([]);
    expect(builderDrift("tcp://b:1", "w1", "w2").map(problemLine)).toEqual([
        "builder tcp://b:1: was replaced: worker w1 → w2; its cache is another; the next build compiles from nothing",
    ]);
});
