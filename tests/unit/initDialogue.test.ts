import * as path from "node:path";
import { describe, expect, test } from "vitest";
import { askAll } from "../../init/dialogue";
import { answerProblems } from "../../init/problems";
import { steps } from "../../init/questions";
import { completeAnswers } from "../support/initAnswers";
import { standInBuildkits } from "../support/standInBuildkit";
import { temporaryFolders, writeTree } from "../support/temporaryFolder";

const temporaryFolder = temporaryFolders();
const standInBuildkit = standInBuildkits();

describe("a dialogue", () => {
    /** A terminal whose person types these answers; it fails where more are asked for. */
    function typing(...typed: string[]) {
        const said: string[] = [];
        return {
            said,
            left: typed,
            say: (line: string) => void said.push(line),
            ask: (prompt: string) => {
                const answer = typed.shift();
                said.push(prompt + answer);
                return answer === undefined ? Promise.reject(new Error(`nobody answers ${prompt}`)) : Promise.resolve(answer);
            },
        };
    }
    const step = (title: string) => steps.filter((one) => one.title === title);

    test("asks again until an answer is right, and offers the default", async () => {
        const terminal = typing("registry.example", "registry.example/vllm", "", "ci", "ci", "puller");
        const answers = await askAll(step("Registry"), { offline: "yes" }, terminal);
        expect(answers).toMatchObject({ registry: "registry.example/vllm", repository: "gh200-vllm-cmm", user: "ci", "pull-user": "puller" });
        expect(terminal.said).toContain("  --registry: registry.example: is no registry and namespace; accepted: HOST/NAMESPACE");
        expect(terminal.said).toContain("  --pull-user: ci: is the user who pushes; accepted: a user who may pull alone");
        expect(terminal.said).toContain("--repository [gh200-vllm-cmm]: ");
    });

    test("does not ask what a flag has answered, unless it is wrong", async () => {
        const terminal = typing("tcp://localhost:1");
        const answers = await askAll(step("Builder"), { offline: "yes", builder: "localhost:1" }, terminal);
        expect(answers.builder).toBe("tcp://localhost:1");
    });

    test("warns of what does not answer, and asks the step again or keeps it, as the person says", async () => {
        const alive = await standInBuildkit({ version: "v0.34.2", platforms: ["linux/arm64"] });
        const again = typing("tcp://127.0.0.1:1", "no", alive);
        expect((await askAll(step("Builder"), {}, again)).builder).toBe(alive);
        expect(again.said).toContain("  BuildKit v0.34.2 answers, and runs on linux/arm64");
        const kept = typing("tcp://127.0.0.1:1", "");
        expect((await askAll(step("Builder"), {}, kept)).builder).toBe("tcp://127.0.0.1:1");
        expect(kept.said).toContainEqual(expect.stringMatching(/^ {2}warning: --builder: tcp:\/\/127\.0\.0\.1:1: no BuildKit daemon answered/));
    });

    test("takes a choice by its number, starts again where EGM is not acknowledged, and offers what follows from the node", async () => {
        const terminal = typing("", "3", "", "", "egm-numa", "yes", "2", "", "", "");
        const answers = await askAll(step("Node"), { offline: "yes" }, terminal);
        expect(terminal.left).toEqual([]);
        expect(answers).toMatchObject({
            profile: "egm-numa",
            "acknowledge-egm": "yes",
            "builder-place": "serving-stops",
            "builder-memory": "101",
            "builder-cores": "72",
        });
        expect(answerProblems(answers)).toEqual([]);
    });

    test("asks a step again where an answer rules out one before it", async () => {
        const folder = temporaryFolder();
        writeTree(folder, {
            "config.json": '{"model_type": "qwen2", "num_hidden_layers": 28, "num_attention_heads": 28, "num_key_value_heads": 4, "hidden_size": 3584}',
        });
        const config = path.join(folder, "config.json");
        const terminal = typing("some/model", "9000000", config, "14.2", "", "8192", "", "");
        const answers = await askAll(
            step("Model"),
            { ...completeAnswers, model: undefined, "max-model-len": undefined, weights: undefined, "model-config": undefined, offline: "yes" },
            terminal,
        );
        expect(answers).toMatchObject({ model: "some/model", "max-model-len": "8192", weights: "14.2", "model-config": config });
        expect(terminal.said).toContainEqual(expect.stringMatching(/^ {2}--max-model-len: 9000000: is more than the \d+ tokens whose KV cache fits/));
    });
});
