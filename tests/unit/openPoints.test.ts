import { describe, expect, test } from "vitest";
import { nameInputsByStackKey, problemLine } from "../../components/internal/errors";
import type { CmmPlatformArgs } from "../../components/platform/cmmPlatformArgs";
import { openPoints } from "../../components/platform/openPoints";
import { defaultSources } from "../../components/stages/sources";
import { settledPlatform } from "../support/platform";

const lines = (overrides: Partial<CmmPlatformArgs> = {}) => openPoints(settledPlatform(overrides)).map(problemLine);
const unresolved = Object.entries(defaultSources)
    .filter(([, { commit }]) => commit === undefined)
    .map(([source, { repository, ref }]) => [source, `${repository}#${ref}`]);
const { image, registry, serving, stages } = settledPlatform();

test("a settled platform has none", () => {
    expect(lines()).toEqual([]);
});

describe("an update is refused", () => {
    test.each([{}, { endpoint: "" }])("without a builder (%j)", (builder) => {
        expect(lines({ builder })).toEqual([
            "builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; " +
                "set builder.endpoint to tcp://HOST:PORT",
        ]);
    });

    test("with a base by tag alone", () => {
        expect(lines({ image: { ...image, base: { name: "nvcr.io/nvidia/pytorch:26.03-py3" } } })).toEqual([
            "image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned; accepted: a digest; " + "set image.base.digest to sha256:DIGEST",
        ]);
    });

    test("with each of the table's sources that was never resolved to a commit", () => {
        expect(unresolved).toContainEqual(["src-vllm", "https://sweetapi.com/biondizzle/vllm.git#cmm"]);
        expect(lines({ sources: {} })).toEqual(
            unresolved.map(
                ([source, address]) => `sources.${source}: ${address}: is unpinned; accepted: a full commit; set sources.${source}.commit to COMMIT`,
            ),
        );
    });

    test("but not for a source that is a folder of this machine", () => {
        const sources = { ...settledPlatform().sources, "src-vllm": { path: "sandbox/sources/vllm" } };
        expect(lines({ sources })).toEqual([]);
    });

    test.each([
        ["build-vllm", "cannot be left out"],
        ["build-triton", "cannot be left out"],
        ["build-nothing", "is no stage"],
    ])("without %s, which %s", (target, wrong) => {
        expect(lines({ stages: { ...stages, disabled: [target] } })).toEqual([
            `stages.disabled: ${target}: ${wrong}; accepted: build-flash-attention, build-infinistore`,
        ]);
    });

    test("but not without the two stages that can be left out", () => {
        expect(lines({ stages: { ...stages, disabled: ["build-flash-attention", "build-infinistore"] } })).toEqual([]);
    });

    test("with stand-ins from a registry that others reach", () => {
        expect(lines({ serving: { ...serving, acceptStandIn: true } })).toEqual([
            "serving.acceptStandIn: true: would run stand-ins from atl.vultrcr.com/vllm; " +
                "accepted: true only where the registry is this machine's own; remove serving.acceptStandIn",
        ]);
        expect(lines({ serving: { ...serving, acceptStandIn: true }, registry: { ...registry, address: "localhost:5000/vllm" } })).toEqual([]);
    });

    test("for all of it at once", () => {
        const found = lines({ builder: {}, sources: {}, stages: { ...stages, disabled: ["build-vllm"] }, serving: { ...serving, acceptStandIn: true } });
        expect(found.map((line) => line.split(": ")[0])).toEqual([
            "serving.acceptStandIn",
            "builder.endpoint",
            ...unresolved.map(([source]) => `sources.${source}`),
            "stages.disabled",
        ]);
    });
});

test("an image that exists already needs no builder, base or commits", () => {
    const use = `atl.vultrcr.com/vllm/gh200-vllm-cmm@sha256:${"0".repeat(64)}`;
    expect(lines({ builder: {}, sources: {}, image: { ...image, base: { name: "a/b:c" }, use } })).toEqual([]);
});

test("a stack's user reads the stack's keys, and the command that sets each", () => {
    nameInputsByStackKey("gh200-vllm");
    expect(lines({ builder: {}, image: { ...image, base: { name: "nvcr.io/nvidia/pytorch:26.03-py3" } } })).toEqual([
        "gh200-vllm:builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; " +
            "pulumi config set --path gh200-vllm:builder.endpoint tcp://HOST:PORT",
        "gh200-vllm:image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned; accepted: a digest; " +
            "pulumi config set --path gh200-vllm:image.base.digest sha256:DIGEST",
    ]);
});
