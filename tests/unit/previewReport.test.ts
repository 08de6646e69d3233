import { describe, expect, test } from "vitest";
import { previewFacts } from "../../report/facts";
import { marker, previewComment } from "../../report/markdown";
import { fenced } from "../../components/internal/untrusted";
import { hostile, withoutBlocks } from "../support/hostileTexts";
import type { EngineEvent, EngineRun } from "../../tools/engine";

const urn = (type: string, name: string) => `urn:pulumi:gh200::gh200-vllm::${type}::${name}`;
const step = (
    op: string,
    type: string,
    name: string,
    inputs = {},
    detailedDiff: Record<string, { diffKind: string; inputDiff: boolean }> | null = null,
): EngineEvent => ({
    resourcePreEvent: { metadata: { op, urn: urn(type, name), type, old: null, new: { inputs, outputs: {} }, detailedDiff } },
});
const said = (severity: string, message: string): EngineEvent => ({ diagnosticEvent: { severity, message } });
const run = (events: EngineEvent[], status = 0): EngineRun => ({ status, output: "", events });
const comment = (events: EngineEvent[], status = 0) => previewComment(previewFacts("gh200", run(events, status), true));

describe("a comment", () => {
    test("of no change says so and nothing else", () => {
        const page = comment([
            step("same", "pulumi:pulumi:Stack", "s"),
            said("info", "change digest: none, nothing that decides the result differs from what is deployed\n"),
        ]);
        expect(page).toContain("## Preview of gh200: no change");
        expect(page).not.toContain("### Resources");
        expect(page).not.toContain("### Rebuilt");
    });

    test("of one stage names it with its expected time, and the properties that change", () => {
        const page = comment([
            step("same", "kubernetes:core/v1:Service", "s"),
            step(
                "update",
                "docker-build:index:Image",
                "gh200-build-vllm",
                { target: "build-vllm", buildArgs: { MAX_JOBS: "13" } },
                { "context.location": { diffKind: "update", inputDiff: true } },
            ),
            said("info", `change digest: ${"a".repeat(64)} (approved)\nwhat changes:\n  assets/vllm/Dockerfile: edited\n`),
        ]);
        expect(page).toContain("## Preview of gh200: 1 change, 1 unchanged");
        expect(page).toContain("### Rebuilt: 1 stage, about 1.0 h");
        expect(page).toContain("| build-vllm | vLLM, branch cmm | 1.0 h |");
        expect(page).toContain("! update  Image gh200-build-vllm [context]");
        expect(page).toContain("  assets/vllm/Dockerfile: edited");
    });

    test("of a refusal shows its lines", () => {
        const page = comment(
            [said("error", "gh200-vllm:node.egmEnabled: true: EGM hides 472.0 GiB of LPDDR from Linux\ngh200-vllm:nodes: is an unknown key\n")],
            255,
        );
        expect(page).toContain("## Preview of gh200: refused");
        expect(page).toContain("### Refused\n\n```text\ngh200-vllm:node.egmEnabled: true: EGM hides");
    });

    test("of a violation counts the mandatory ones, and shortens what one policy says often", () => {
        const violation = (name: string, level: string): EngineEvent => ({
            policyEvent: { policyName: "arm64-sm90a", policyPackName: "gh200-vllm", enforcementLevel: level, message: `Built for ...\n${name}: is wrong` },
        });
        const page = comment(
            ["a", "b", "c", "d", "e"].map((name) => violation(name, "mandatory")),
            255,
        );
        expect(page).toContain("## Preview of gh200: refused by 5 policy violations");
        expect(page).toContain("arm64-sm90a (mandatory)\n  a: is wrong\n  b: is wrong\n  c: is wrong\n  and 2 more");
    });

    describe("begins with", () => {
        const deployment = (op: string, ...args: string[]) =>
            step(op, "kubernetes:apps/v1:Deployment", "gh200-vllm", {
                metadata: { name: "gh200-vllm", namespace: "vllm" },
                spec: { template: { spec: { containers: [{ name: "vllm", args }] } } },
            });
        const outputs = (memoryPlan: string[]): EngineEvent => ({
            resOutputsEvent: {
                metadata: {
                    ...{ op: "same", urn: "s", type: "pulumi:pulumi:Stack", old: null, detailedDiff: null },
                    new: { inputs: {}, outputs: { releaseRef: "r.example/v/x:cmm", memoryPlan } },
                },
            },
        });
        const stage = step("update", "docker-build:index:Image", "gh200-build-vllm", { target: "build-vllm", buildArgs: { MAX_JOBS: "13" } });
        const short = (...events: EngineEvent[]) => previewFacts("gh200", run(events), true).short;

        test("the model, the image, the node, the outage and what an update waits for", () => {
            const plan = ["profile driver: a", "vLLM: b", "builder on this node: up to 9 GiB, while vLLM is scaled to zero; serving stops during a build"];
            const waiting = [
                said(
                    "info",
                    `change digest: ${"a".repeat(64)} (an update is refused:)\n  approval: change ${"a".repeat(64)}: is not approved\nwhat changes:\n  x\n`,
                ),
                said("warning", "an update of this stack is refused until these are settled:\nx: is unset\ny: is unpinned\n"),
            ];
            expect(short(deployment("update", "some/model", "--revision", "abc"), stage, outputs(plan), ...waiting)).toEqual([
                "serves     some/model at abc, as vllm/gh200-vllm",
                "image      r.example/v/x:cmm; 1 of 7 stages are built, about 1.0 h",
                "node       profile driver: a",
                "           vLLM: b",
                "outage     vLLM is down while its image is built, about 1.0 h, and starts anew",
                "waits for  2 open points, below",
                "           approval: change aaaaaaaaaaaa: is not approved",
            ]);
        });

        test.each([
            ["create", "none, since nothing serves yet"],
            ["update", "vLLM starts anew"],
            ["replace", "vLLM starts anew"],
        ])("of a server's %s, the outage: %s", (op, said) => {
            expect(short(deployment(op, "m"), outputs([]))).toContain(`outage     ${said}`);
        });

        test("of a change beside the server, no outage", () => {
            expect(short(deployment("same", "m"), step("update", "kubernetes:core/v1:Service", "s"), outputs([]))).toEqual([
                "serves     m at no fixed revision, as vllm/gh200-vllm",
                "image      r.example/v/x:cmm; no stage is built",
            ]);
        });
    });

    test("of a stack that was not compared says so", () => {
        expect(previewComment(previewFacts("gh200", run([]), false))).toContain("Not compared with what is deployed");
    });
});

describe("untrusted text", () => {
    test.each(hostile)("stays inside its block: %j", (text) => {
        const lines = fenced([text, "last"]);
        const fence = lines[0]!.replace("text", "");
        expect(fence).toMatch(/^`{3,}$/);
        expect(lines.at(-1)).toBe(fence);
        // CommonMark closes a block at a line of at least as many backticks and nothing else.
        const body = lines.slice(1, -1);
        expect(body.filter((line) => new RegExp(`^ {0,3}\`{${fence.length},}\\s*$`).test(line))).toEqual([]);
        expect(body.join("")).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]/);
        expect(body.every((line) => !line.includes("\n") && line.length < 300)).toBe(true);
    });

    test("in every field of every event leaves nothing outside the blocks but our own words", () => {
        const events: EngineEvent[] = hostile.flatMap((text) => [
            step("update", `${text}:${text}`, text, { target: text }, { [text]: { diffKind: text, inputDiff: true } }),
            said("error", text),
            said("warning", text),
            said("info", `change digest: ${text}`),
            { policyEvent: { policyName: text, policyPackName: text, enforcementLevel: text, message: text, resourceUrn: text } },
            {
                resOutputsEvent: {
                    metadata: {
                        op: text,
                        urn: text,
                        type: "pulumi:pulumi:Stack",
                        old: null,
                        new: { inputs: {}, outputs: { memoryPlan: [text] } },
                        detailedDiff: null,
                    },
                },
            },
        ]);
        const page = previewComment(previewFacts("gh200", run(events, 1), true));
        const outside = withoutBlocks(page);
        expect(outside).not.toMatch(/script|javascript|example\.com|@everyone|onerror|secrets\.|pwned|\|/);
        expect(outside.match(/<!--/g)?.length).toBe(1);
        expect(page.length).toBeLessThan(65_000);
    });

    test("cannot forge the marker", () => {
        expect(marker("x --> <img>")).toBe("<!-- gh200-vllm preview of x_--___img_ -->");
    });
});
