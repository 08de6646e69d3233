import { describe, expect, test } from "vitest";
import { changedInputs, type Failure, failureReport } from "../../components/builder/failureReport";
import { busyProblem, describeBuild, holderLine } from "../../components/builder/holder";
import { problemLine } from "../../components/internal/errors";
import { hostile, withoutBlocks } from "../support/hostileTexts";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const inputs = {
    dockerfile: { inline: "FROM base\n" },
    buildArgs: { MAX_JOBS: "4" },
    context: { location: "a", named: { "src-vllm": { location: "https://example.com/vllm.git#1" } } },
};
const failure: Failure = {
    ...{
        stack: "gh200-vllm/gh200",
        resource: "gh200-build-vllm",
        target: "build-vllm",
        endpoint: "tcp://10.0.0.1:1234",
        time: new Date("2026-11-24T14:02:00Z"),
    },
    ...{
        ref: "abc",
        errors: ["exit code: 1"],
        log: ["compiling", "[build-vllm] failed after 00:31:00 with status 1", "[build-vllm] first error: a.cu(3): error: expected ;"],
    },
    ...{ oldInputs: inputs, newInputs: { ...inputs, buildArgs: { MAX_JOBS: "5" } } },
};

describe("the report of a failed build", () => {
    test("says in its first line what failed and why, and then how to go on", () => {
        const page = failureReport(failure);
        expect(page.split("\n")[0]).toBe("# build-vllm failed: a.cu(3): error: expected ;");
        expect(page).toContain("- builder: tcp://10.0.0.1:1234, build abc");
        expect(page).toContain("```text\nbuild argument MAX_JOBS: 4 → 5\n```");
        expect(page).toContain("npm run approve -- -s gh200 --after-failure REASON");
    });

    test("has what Pulumi was told where the builder has nothing to say", () => {
        const page = failureReport({ ...failure, ref: undefined, log: [] });
        expect(page.split("\n")[0]).toBe("# build-vllm failed: exit code: 1");
        expect(page).toContain("build no longer known there");
    });

    test("shows the end of a long log, and no endless line", () => {
        const page = failureReport({ ...failure, log: [...Array.from({ length: 200 }, (_, line) => `line ${line}`), "x".repeat(100_000)] });
        expect(page).not.toContain("line 160\n");
        expect(page).toContain("line 161\n");
        expect(Math.max(...page.split("\n").map((line) => line.length))).toBeLessThan(500);
    });

    test("ends with what was told last, however long its lines are", () => {
        const page = failureReport({ ...failure, log: [...Array.from({ length: 39 }, () => "x ".repeat(400)), "the last word"] });
        expect(page).toContain("\nthe last word\n```\n");
    });

    test.each(hostile)("keeps what a build printed in its blocks: %j", (text) => {
        const log = ["compiling", text, `[build-vllm] first error: ${text}`];
        const named = { [text]: { location: text }, "src-vllm": { location: text } };
        const newInputs = { dockerfile: inputs.dockerfile, buildArgs: { [text]: text }, context: { location: text, named } };
        for (const page of [failureReport({ ...failure, log, newInputs }), failureReport({ ...failure, ref: undefined, log: [], errors: [text], newInputs })]) {
            const outside = withoutBlocks(page).replace(/^# build-vllm failed: (`+) .* \1$/m, "# build-vllm failed: CODE");
            expect(outside).not.toMatch(/<|@everyone|javascript|example\.com|secrets\.|::|\u202e|\u001b|\r|^ {0,3}~~~/m);
            expect(outside.match(/^#/gm)).toHaveLength(4);
        }
    });
});

describe("what changed", () => {
    test("is every input that differs, and nothing where none does", () => {
        expect(changedInputs(inputs, inputs)).toEqual(["nothing: the same inputs were built before"]);
        expect(changedInputs(undefined, inputs)).toEqual(["it was never built before in this stack"]);
        expect(changedInputs(inputs, { dockerfile: { inline: "FROM other\n" }, context: { location: "b", named: {} } })).toEqual([
            "its part of the Dockerfile",
            "build argument MAX_JOBS: 4 → none",
            "context: a → b",
            "context src-vllm: https://example.com/vllm.git#1 → none",
        ]);
    });

    test("is told by file where both contexts lie here", () => {
        process.chdir(temporaryFolder());
        writeTree(".", { "old/same": "1", "old/edited": "1", "old/removed": "1", "new/same": "1", "new/edited": "2", "new/added": "1" });
        expect(changedInputs({ context: { location: "old" } }, { context: { location: "new" } })).toEqual([
            "context: added added",
            "context: edited edited",
            "context: removed removed",
        ]);
    });
});

describe("who holds a builder", () => {
    const build = { ref: "abc", target: "build-vllm", stack: "gh200-vllm/gh200", started: new Date("2026-11-24T14:02:10Z"), ended: undefined, error: "" };
    const now = new Date("2026-11-24T14:33:50Z");

    test("is named by stage, stack, time and build", () => {
        expect(holderLine("tcp://10.0.0.1:1234", [build], now)).toBe(
            "tcp://10.0.0.1:1234 is building build-vllm for stack gh200-vllm/gh200 since 14:02 UTC (31 min), build abc; compile steps take turns there, so this one waits for its lock",
        );
    });

    test("is named to whoever does not wait, with how to wait", () => {
        expect(problemLine(busyProblem("tcp://10.0.0.1:1234", [build], now))).toBe(
            "builder.endpoint: tcp://10.0.0.1:1234: is building build-vllm for stack gh200-vllm/gh200 since 14:02 UTC (31 min), build abc; accepted: a daemon that builds nothing, as builder.refuseWhenBusy demands; run the update again when that build has ended, or remove builder.refuseWhenBusy to wait for it",
        );
    });

    test("who left no name is said to", () => {
        expect(describeBuild({ ...build, target: "", stack: "" }, now)).toBe("an image for somebody who left no name since 14:02 UTC (31 min), build abc");
    });
});
