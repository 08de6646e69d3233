import * as automation from "@pulumi/pulumi/automation";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type Answer, emptyBackend, ProgramCopy } from "../live/programCopy";

let backend: Awaited<ReturnType<typeof emptyBackend>>;
let program: ProgramCopy;
let preview: Answer;

beforeAll(async () => {
    backend = await emptyBackend();
    // The Automation API takes the CLI that it finds on its own PATH.
    process.env.PATH = backend.env.PATH;
    program = new ProgramCopy(backend.env);
    await program.pulumi(["stack", "init", "gh200"]);
    preview = await program.pulumi(["preview", "--stack", "gh200"]);
}, 300_000);

afterAll(() => {
    program?.remove();
    backend?.remove();
});

describe("pulumi preview of gh200 with no daemon, builder, registry or cluster", () => {
    test("shows the full plan", () => {
        expect(preview.output).toContain("+ 41 to create");
        expect(preview.status).toBe(0);
    });

    test("ends with the memory plan in words, a line each, and without the drawing", () => {
        expect(preview.output).toMatch(/memoryPlan +: \[\n +\[0\]: "profile egm-numa: Linux sees 102\.9 GiB/);
        expect(preview.output).not.toContain("<svg");
    });

    test("names what is unset and unpinned, each with the command that mends it", () => {
        expect(preview.output).toContain("an update of this stack is refused until these are settled:");
        expect(preview.output).toContain(
            "gh200-vllm:builder.endpoint: is unset, so there is no builder; accepted: tcp://HOST:PORT of a BuildKit daemon on the GH200; pulumi config set --path gh200-vllm:builder.endpoint tcp://HOST:PORT",
        );
        expect(preview.output).toContain("gh200-vllm:image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned; accepted: a digest;");
        expect(preview.output).toContain("gh200-vllm:sources.src-vllm: https://sweetapi.com/biondizzle/vllm.git#cmm: is unpinned; accepted: a full commit;");
    });

    test("names the source document's release", () => {
        expect(preview.output).toContain("atl.vultrcr.com/vllm/gh200-vllm-cmm:cmm-cmm");
    });

    test("an update stops before the first resource with the same lines and no stack trace", async () => {
        const update = await program.pulumi(["up", "--yes", "--skip-preview", "--stack", "gh200"]);
        expect(update.status).not.toBe(0);
        expect(update.output).toContain("gh200-vllm:image.base: nvcr.io/nvidia/pytorch:26.03-py3: is unpinned");
        expect(update.output).not.toMatch(/\n\s+at .*\(.*:\d+:\d+\)/);
        const state = await program.pulumi(["stack", "export", "--stack", "gh200"]);
        expect(state.output).not.toContain("gh200-vllm:index:");
        expect(state.output).not.toContain("pulumi:providers:");
    });

    test("the CLI and the Automation API plan the same", async () => {
        const cli = await program.pulumi(["preview", "--json", "--stack", "gh200"]);
        const stack = await automation.LocalWorkspace.selectStack(
            { stackName: "gh200", workDir: program.folder },
            { envVars: backend.env as Record<string, string> },
        );
        const events: automation.EngineEvent[] = [];
        const result = await stack.preview({ onEvent: (event) => events.push(event) });
        const planned = events.flatMap(({ resourcePreEvent }) => (resourcePreEvent ? [resourcePreEvent.metadata] : []));
        // The engine's own provider is among the events and not in the CLI's answer.
        const changes = (steps: { op: string; urn: string }[]) =>
            steps
                .filter(({ op, urn }) => op !== "same" && !urn.includes("::pulumi:providers:pulumi::"))
                .map(({ op, urn }) => `${op} ${urn}`)
                .sort();
        const { steps } = JSON.parse(cli.output.slice(cli.output.indexOf("{"))) as { steps: { op: string; urn: string }[] };
        expect(changes(planned as { op: string; urn: string }[])).toEqual(changes(steps));
        expect(result.changeSummary.create).toBeGreaterThan(30);
    });
});

describe("configuration errors", () => {
    test("every wrong, missing and unknown key is one line of one report", async () => {
        program.edit("Pulumi.gh200.yaml", (text) =>
            text
                .replace("coherentMode: numa", "coherentMode: nume")
                .replace("egmReservedMiB: 8192", "egmReservedMiB: 4096")
                .replace("    egmEnabled: true\n", "")
                .replace("builderCores: 72", "builderCors: 72")
                .replace("  gh200-vllm:approval:", "  gh200-vllm:nodes: 1\n  gh200-vllm:approval:"),
        );
        const answer = await program.pulumi(["preview", "--stack", "gh200"]);
        program.restore("Pulumi.gh200.yaml");
        expect(answer.status).not.toBe(0);
        for (const line of [
            "gh200-vllm:nodes: is an unknown key; accepted: builder, registry, image, sources, stages, node, serving, cluster, approval, builderClientKey, registryPassword, registryPullPassword, gitTokens, hfToken, kubeconfig; pulumi config rm gh200-vllm:nodes",
            "gh200-vllm:stages.builderCors: is an unknown key; remove it, or see docs/configuration.md for the keys there are",
            "gh200-vllm:stages.builderCores: is missing",
            "gh200-vllm:node.egmEnabled: is missing; accepted: true or false; Extended GPU Memory in the BIOS",
            "gh200-vllm:node.egmReservedMiB: 4096: is refused; accepted: 8192, the only reserved value that works",
            "gh200-vllm:node.coherentMode: nume: is not accepted; accepted: numa or driver; see /proc/driver/nvidia/params",
        ]) {
            expect(answer.output).toContain(line);
        }
        expect(answer.output).not.toMatch(/\n\s+at .*\(.*:\d+:\d+\)/);
    });
});
