import { expect, test } from "vitest";
import { prunable, type StateResource } from "../../prune/prunable";

const digest = (letter: string) => `sha256:${letter.repeat(64)}`;
const repository = "r.example/vllm-stages";
const cache = `${repository}-cache`;
const image = (target: string, letter: string, context: string): StateResource => ({
    type: "docker-build:index:Image",
    inputs: {
        target,
        cacheFrom: [{ registry: { ref: `${cache}:${target}` } }],
        context: { location: `.gh200/contexts/${context}`, named: { locks: { location: ".gh200/contexts/locks" } } },
    },
    outputs: { digest: digest(letter) },
});
const state = [image("build-vllm", "a", "vllm"), image("final", "b", "final")];

test("nothing of what the state names can go, whatever its tag, nor a named context or the cache of a stage that is there", () => {
    const tags = [
        { repository, tag: "build-vllm-0", digest: digest("a") },
        { repository, tag: "any-other-name", digest: digest("b") },
        { repository: cache, tag: "build-vllm", digest: digest("c") },
    ];
    expect(prunable(state, tags, ["vllm", "final", "locks"])).toEqual({ digests: [], contexts: [] });
});

test("what the state does not name can go: earlier builds with all their tags, the cache of a stage that is gone, contexts", () => {
    const tags = [
        { repository, tag: "build-vllm-1", digest: digest("d") },
        { repository, tag: "build-vllm-0", digest: digest("d") },
        { repository: cache, tag: "build-infinistore", digest: digest("e") },
    ];
    expect(prunable(state, tags, ["vllm", "old"])).toEqual({
        digests: [
            { repository: cache, digest: digest("e"), tags: ["build-infinistore"] },
            { repository, digest: digest("d"), tags: ["build-vllm-0", "build-vllm-1"] },
        ],
        contexts: ["old"],
    });
});

test("a digest with a tag that must stay stays, with its other tags", () => {
    const tags = [
        { repository: cache, tag: "build-vllm", digest: digest("f") },
        { repository: cache, tag: "build-vllm-9", digest: digest("f") },
    ];
    expect(prunable(state, tags, []).digests).toEqual([]);
});

test("with an empty state everything can go", () => {
    expect(prunable([], [{ repository, tag: "build-vllm-0", digest: digest("a") }], ["vllm"]).digests).toHaveLength(1);
});
