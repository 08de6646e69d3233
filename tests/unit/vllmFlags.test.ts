import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { problemLine } from "../../components/internal/errors";
import { jsonValue, lastValue, parseVllmArguments } from "../../components/serving/vllmArguments";
import { flagProblems, type FlagTerms, unplannedFlags } from "../../components/serving/vllmFlags";
import { vllmOptions, vllmOptionsOf } from "../../components/serving/vllmOptions";
import { repositoryRoot } from "../support/stackFile";

const managed: FlagTerms = { placement: "hbm-first", lmcacheUrl: "", acknowledgeRemoteCode: false };
const off: FlagTerms = { placement: "off", lmcacheUrl: "", acknowledgeRemoteCode: false };

const refused = (args: string[], terms = managed) => flagProblems(args, terms).map(problemLine);
const warned = (args: string[], terms = managed) => unplannedFlags(args, terms).map(problemLine);

describe("arguments are read as vLLM's parser reads them", () => {
    const options = (...args: string[]) => parseVllmArguments(args).options.map(({ option, keys, values }) => [option, ...keys, ...values]);

    test.each<[string, string[], string[][]]>([
        ["a value after a space", ["--block-size", "32"], [["--block-size", "32"]]],
        ["a value after =", ["--block-size=32"], [["--block-size", "32"]]],
        [
            "underscores",
            ["--block_size=32", "--max_num_batched_tokens", "1"],
            [
                ["--block-size", "32"],
                ["--max-num-batched-tokens", "1"],
            ],
        ],
        [
            "short names",
            ["-tp", "2", "-pp=2", "-dp", "2"],
            [
                ["--tensor-parallel-size", "2"],
                ["--pipeline-parallel-size", "2"],
                ["--data-parallel-size", "2"],
            ],
        ],
        [
            "beginnings",
            ["--cpu-offload-g", "4", "--max-model", "1"],
            [
                ["--cpu-offload-gb", "4"],
                ["--max-model-len", "1"],
            ],
        ],
        ["a name that begins others", ["--kv-cache-dtype", "fp8"], [["--kv-cache-dtype", "fp8"]]],
        [
            "several values",
            ["--served-model-name", "a", "b", "--port", "1"],
            [
                ["--served-model-name", "a", "b"],
                ["--port", "1"],
            ],
        ],
        ["a negative number", ["--seed", "-1"], [["--seed", "-1"]]],
        ["a switch and its opposite", ["--enforce-eager", "--no-enable-sleep-mode"], [["--enforce-eager"], ["--no-enable-sleep-mode"]]],
        [
            "levels of optimisation",
            ["-O3", "-O=2", "-O", "1"],
            [
                ["--optimization-level", "3"],
                ["--optimization-level", "2"],
                ["--optimization-level", "1"],
            ],
        ],
        ["dots", ["--kv-transfer-config.kv_connector", "X"], [["--kv-transfer-config", "kv_connector", "X"]]],
        ["a dot in a value", ["--gpu-memory-utilization=0.5"], [["--gpu-memory-utilization", "0.5"]]],
        ["JSON with spaces", ["--hf-overrides", '{"a": 1}'], [["--hf-overrides", '{"a": 1}']]],
    ])("%s", (_, args, expected) => {
        expect(options(...args)).toEqual(expected);
    });

    test("the last mention counts, and JSON is put together from its keys", () => {
        const given = parseVllmArguments([
            "--block-size",
            "32",
            "--block_size=64",
            "--kv-transfer-config",
            '{"kv_role": "kv_both"}',
            "--kv-transfer-config.a.b=1",
        ]);
        expect(lastValue(given, "--block-size")).toBe("64");
        expect(lastValue(given, "--port")).toBeUndefined();
        expect(jsonValue(given, "--kv-transfer-config")).toEqual({ kv_role: "kv_both", a: { b: "1" } });
        expect(jsonValue(given, "--hf-overrides")).toBeUndefined();
    });

    test("every option of vLLM's own parser is known, by its name and no other", () => {
        const recorded = JSON.parse(fs.readFileSync(path.join(repositoryRoot, "tests", "fixtures", "vllmOptions.json"), "utf8")) as {
            vllm: string;
            options: string[];
        };
        expect([vllmOptionsOf, [...vllmOptions]]).toEqual([recorded.vllm, recorded.options]);
        for (const option of vllmOptions) {
            expect(parseVllmArguments([option]).options).toMatchObject([{ known: true, ambiguous: [] }]);
        }
    });

    test("any arguments at all are read, in their order, and none is lost", () => {
        const args = fc.array(fc.oneof(fc.constantFrom(...vllmOptions), fc.string(), fc.constantFrom("-", "=", "--=", "-.5", "--a.b.c+=1", '{"a":1}')));
        fc.assert(
            fc.property(args, (given) => {
                const { options: found, stray } = parseVllmArguments(given);
                const parts = found.flatMap(({ written, values }) => [written, ...(written.includes("=") || /^-O./.test(written) ? [] : values)]);
                expect([...parts, ...stray].sort()).toEqual(given.filter((arg) => arg !== "--").sort());
                [...flagProblems(given, managed), ...unplannedFlags(given, off)].forEach((problem) => expect(problemLine(problem)).not.toContain("\n"));
            }),
            { numRuns: 1000 },
        );
    });
});

describe("what breaks the plan is refused, with what is accepted in its place", () => {
    test.each<[string[], string]>([
        [["--port", "9999"], "serving.extraArgs: --port: is another port than the Service's and the probes'; accepted: without it, which is port 8000"],
        [["--host=127.0.0.1"], "serving.extraArgs: --host: may be an address that the probes do not reach; accepted: without it, which is every address"],
        [
            ["--max_model_len", "262144"],
            "serving.extraArgs: --max_model_len: is set by an input, which the plan is made with; accepted: serving.maxModelLenTokens",
        ],
        [["--max-num-s=1"], "serving.extraArgs: --max-num-s: is set by an input, which the plan is made with; accepted: serving.maxNumSeqs"],
        [["-tp=2"], "serving.extraArgs: -tp: is set by an input, which the plan is made with; accepted: serving.tensorParallelSize"],
        [
            ["-dp", "2"],
            "serving.extraArgs: -dp: starts engines on GPUs that the pod does not ask for; accepted: serving.replicas, tensorParallelSize or pipelineParallelSize",
        ],
        [
            ["--cpu-offload-gb", "8"],
            "serving.extraArgs: --cpu-offload-gb: offloading takes host memory that the plan has promised to the launcher already; accepted: without it: placement hbm-first puts on the host what HBM cannot hold; or with placement off",
        ],
        [
            ["--swap-space=4"],
            "serving.extraArgs: --swap-space: swapping takes host memory that the plan has promised to the launcher already; accepted: without it: placement hbm-first puts on the host what HBM cannot hold; or with placement off",
        ],
        [
            ["--kv-offloading-size", "9"],
            "serving.extraArgs: --kv-offloading-size: pins host memory beside the plan's; accepted: serving.lpddr: prefixes, which gives it a part of the plan's; or with placement off",
        ],
        [
            ["--kv-transfer-config.kv_connector", "NixlConnector", "--kv-transfer-config.kv_role", "kv_both"],
            "serving.extraArgs: --kv-transfer-config.kv_connector: registers or re-allocates the KV cache outside the launcher's budget; accepted: node.lmcacheMiB, which makes an LMCache server and its connector; or with placement off",
        ],
        [
            ["--enable_sleep_mode"],
            "serving.extraArgs: --enable_sleep_mode: frees weights and KV cache through an allocator of its own, which the launcher refuses; accepted: without it, or placement off",
        ],
        [
            ["--config", "vllm.yaml"],
            "serving.extraArgs: --config: names a file whose options no preview reads; accepted: its options as items of extraArgs, or inputs",
        ],
        [
            ["--num-gpu-blocks-override=9"],
            "serving.extraArgs: --num-gpu-blocks-override: makes a KV cache of so many blocks, whatever memory there is; accepted: serving.kvCacheMemoryBytes",
        ],
        [["--dry-run"], "serving.extraArgs: --dry-run: is a word of the launcher, which then starts no server; accepted: options of vllm serve"],
        [
            ["--kv-offloading", "1"],
            "serving.extraArgs: --kv-offloading: could be several options, and vLLM ends at once; accepted: --kv-offloading-backend, --kv-offloading-size",
        ],
        [["--block-size 32"], "serving.extraArgs: --block-size: holds an option and its value in one item; accepted: an item for each, or OPTION=VALUE"],
        [
            ["Qwen/Qwen3-8B", "--enforce-eager"],
            "serving.extraArgs: Qwen/Qwen3-8B: has an item that belongs to no option, and vLLM would take it for a model; accepted: options and their values",
        ],
    ])("%j", (args, line) => {
        expect(refused(args)).toEqual([line]);
        expect(warned(args)).toEqual([]);
    });

    test("a secret is refused without being shown, however it is written", () => {
        for (const args of [
            ["--api-key", "sk-1"],
            ["--api_key=sk-1"],
            ["--api-key sk-1"],
            ["--api-key=a", "sk-1"],
            ["--api-k", "a", "sk-1"],
            ["--hf-token", "sk-1"],
        ]) {
            const lines = refused(args);
            expect(lines.length).toBeGreaterThan(0);
            expect(lines.join("\n")).not.toContain("sk-1");
        }
        expect(refused(["--api-key", "sk-1"])[0]).toMatch(
            /^serving\.extraArgs: --api-key: is a secret that would stand in the Deployment as plain text; accepted: /,
        );
    });

    test("all of them at once, each once", () => {
        expect(refused(["--port", "1", "--port", "2", "--enable-sleep-mode", "--config=x"])).toHaveLength(3);
    });

    test("with plain vLLM only what inputs set or the pod relies on is refused, and the rest is named", () => {
        const args = [
            "--cpu-offload-gb",
            "8",
            "--kv-offloading-size",
            "9",
            "--enable-sleep-mode",
            "--worker-cls",
            "x",
            "--distributed-executor-backend",
            "ray",
        ];
        expect(refused(args, off)).toEqual([]);
        expect(warned(args, off)).toHaveLength(5);
        expect(refused(["--port", "1"], off)).toHaveLength(1);
    });

    test("a connector beside LMCache's own would take its place", () => {
        const own = ["--kv-transfer-config", '{"kv_connector": "LMCacheConnectorV1", "kv_role": "kv_both"}'];
        expect(refused(own)).toEqual([]);
        expect(refused(own, { ...off, lmcacheUrl: "lm://cache:1" })).toHaveLength(1);
    });
});

describe("code that is not the image's", () => {
    test.each<[string, string[]]>([
        ["in full", ["--trust-remote-code"]],
        ["with underscores", ["--trust_remote_code"]],
        ["abbreviated", ["--trust-rem"]],
        ["abbreviated with an underscore", ["--trust_rem"]],
        ["with a value after =", ["--trust-remote-code=True"]],
        ["after another option's value", ["--block-size", "32", "--trust-remote-c"]],
        ["after it was switched off", ["--no-trust-remote-code", "--trust-remote-code"]],
        ["a file that parses tool calls", ["--tool-parser-plugin", "/cache/parser.py"]],
        ["a file that parses reasoning", ["--reasoning_parser_plugin=/cache/parser.py"]],
        ["tensors that a request brings", ["--enable-prompt-embeds"]],
    ])("is refused %s, unless it is acknowledged", (_, args) => {
        expect(refused(args)).toEqual([expect.stringMatching(/; accepted: without it, or with serving\.acknowledgeRemoteCode: true$/)]);
        expect(refused(args, { ...managed, acknowledgeRemoteCode: true })).toEqual([]);
    });

    test("is refused with every beginning of the option that vLLM's parser takes", () => {
        for (let length = "--t".length; length <= "--trust-remote-code".length; length++) {
            const written = "--trust-remote-code".slice(0, length);
            expect(refused([written]), written).toHaveLength(1);
        }
    });

    test("is nothing that --no-trust-remote-code runs", () => {
        expect([...refused(["--no-trust-remote-code"]), ...warned(["--no-trust-remote-code"])]).toEqual([]);
    });
});

describe("what the plan cannot count is named, and all else is accepted in silence", () => {
    test.each<[string[], RegExp]>([
        [["--gpu-memory-utilization", "0.95"], /^serving\.extraArgs: --gpu-memory-utilization: is a fraction .*; accepted: serving\.kvCacheMemoryBytes/],
        [["-sc", '{"method": "eagle"}'], /: -sc: loads a draft model, /],
        [["--speculative-config.method=ngram"], /: --speculative-config\.method: loads a draft model, /],
        [["--enable-lora"], /: loads adapters, /],
        [["-asc", "4"], /node\.hostProcessMiB/],
        [["--kv-cache-dtype", "int8"], /is no type of KV cache that the plan knows; accepted: auto, bfloat16, /],
        [["--dtype", "float32"], /loads weights in another type/],
        [["--enforce-eagre"], /^serving\.extraArgs: --enforce-eagre: is no option of vLLM 0\.19\.0, /],
    ])("%j", (args, line) => {
        expect(refused(args)).toEqual([]);
        expect(warned(args)).toEqual([expect.stringMatching(line)]);
    });

    test.each<[string[]]>([
        [["--enforce-eager"]],
        [["--kv-cache-dtype", "fp8"]],
        [["--max-num-batched-tokens", "4096", "--block-size=32"]],
        [["--host", "0.0.0.0"]],
        [["-dp", "1", "--nnodes", "1"]],
        [["--cpu-offload-gb", "0"]],
        [["--no-enable-sleep-mode"]],
        [["--reasoning-parser", "qwen3", "--tool-call-parser=hermes", "--enable-auto-tool-choice"]],
        [["--dtype", "float32", "--dtype=bfloat16"]],
    ])("%j", (args) => {
        expect([...refused(args), ...warned(args)]).toEqual([]);
    });
});
