import * as fs from "node:fs";
import * as path from "node:path";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { lastOfLauncher, rootCause } from "../../components/serving/rootCause";

const fixture = (name: string) => fs.readFileSync(path.resolve(__dirname, "../fixtures/vllm", name), "utf8");
const wrapper = fixture("api-server-wrapper.txt");
const CYAN = "\x1b[0;36m";

/** bench/runtime/raw/engines-lines.txt, with and without the word that marks a refusal now. */
const inEngine = (mark: string) =>
    `(EngineCore pid=2326) managed-mem: process 2326, device 0: 2.00 GiB HBM and 0.00 GiB host for weights and KV cache, placement hbm-first\n(EngineCore pid=2326) managed-mem: ${mark}weights: need more than 2.00 GiB HBM and 0.00 GiB host; accepted: a model and cache that fit; raise MANAGED_MEM_HOST or MANAGED_MEM_HBM, or lower --max-model-len, --kv-cache-memory-bytes or the model's size\n`;

describe("a refusal", () => {
    test.each(["refused: ", ""])("in the engine is found above the API server's traceback, marked %j", (mark) => {
        expect(rootCause(`${inEngine(mark)}${wrapper}`)).toEqual({
            kind: "refusal",
            text: expect.stringMatching(/^weights: need more than 2\.00 GiB HBM .*model's size$/),
        });
    });

    test("is told from what is only said, whoever says it", () => {
        const said = "(APIServer pid=1) managed-mem: memory shown to vLLM 141.40 GiB";
        expect(rootCause(`${inEngine("refused: ")}${said}\n${wrapper}`)).toMatchObject({
            kind: "refusal",
            text: expect.stringContaining("weights: need more"),
        });
        expect(rootCause(said)).toBeUndefined();
    });

    test.each([
        "",
        "(APIServer pid=123) ",
        `${CYAN}(EngineCore_DP0 pid=7)\x1b[0;0m `,
        "(Worker_TP0 pid=4242) ",
        "(VllmWorker rank=1 pid=2445156) ",
        "[rank0]: ",
    ])("stands behind %j", (prefix) => {
        expect(rootCause(`${prefix}managed-mem: refused: torch: CUDA was started before managed memory; accepted: after it`)).toEqual({
            kind: "refusal",
            text: "torch: CUDA was started before managed memory; accepted: after it",
        });
    });

    test("of a server that ended as refused is the launcher's last line, whatever its words", () => {
        expect(lastOfLauncher("managed-mem: device GH200\n(APIServer pid=1) managed-mem: --enable-sleep-mode: frees memory\nbye")).toBe(
            "--enable-sleep-mode: frees memory",
        );
        expect(lastOfLauncher("bye")).toBeUndefined();
    });
});

describe("the exception that the others follow from", () => {
    test("is found above 65 lines of the API server's", () => {
        const log = fixture("engine-failed.txt") + wrapper;
        expect(log.slice(-2048)).not.toContain("AcceleratorError");
        expect(log.trimEnd().split("\n").slice(-40).join("\n")).not.toContain("AcceleratorError");
        expect(rootCause(log)).toEqual({
            kind: "error",
            text: "torch.AcceleratorError: CUDA error: out of memory",
            mend: "lower serving.maxModelLenTokens or serving.maxNumSeqs, or serve a smaller model",
        });
    });

    // Each with the issue that it is from; vLLM's where no other is named.
    test.each<[string, string, string, RegExp]>([
        [
            "#25837, a card that others use",
            "(EngineCore_DP0 pid=17374) ERROR 09-28 15:47:24 [core.py:718] Traceback (most recent call last):\n(EngineCore_DP0 pid=17374) ERROR 09-28 15:47:24 [core.py:718]     raise ValueError(\n(EngineCore_DP0 pid=17374) ERROR 09-28 15:47:24 [core.py:718] ValueError: Free memory on device (3.22/4.0 GiB) on startup is less than desired GPU memory utilization (0.9, 3.6 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.\n(EngineCore_DP0 pid=17374) Process EngineCore_DP0:",
            "ValueError: Free memory on device (3.22/4.0 GiB) on startup is less than desired GPU memory utilization (0.9, 3.6 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes.",
            /node\.hbmInUseMiB/,
        ],
        [
            "#27508, a KV cache that is too small",
            '(EngineCore_DP0 pid=6880)         f"`max_model_len` when initializing the engine.")\n(EngineCore_DP0 pid=6880) ValueError: To serve at least one request with the models\'s max seq len (131072), (4.54 GiB KV cache is needed, which is larger than the available KV cache memory (1.71 GiB). Based on the available memory, the estimated maximum model length is 49360.',
            "ValueError: To serve at least one request with the models's max seq len (131072), (4.54 GiB KV cache is needed, which is larger than the available KV cache memory (1.71 GiB). Based on the available memory, the estimated maximum model length is 49360.",
            /serving\.maxModelLenTokens/,
        ],
        [
            "vllm-omni#2170, an architecture that is not known",
            "(APIServer pid=835044) pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n(APIServer pid=835044)   Value error, No model architectures are specified [type=value_error, input_value=ArgsKwargs((), {'model': ...rocessor_plugin': None}), input_type=ArgsKwargs]\n(APIServer pid=835044)     For further information visit https://errors.pydantic.dev/2.9/v/value_error",
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig No model architectures are specified",
            /another model/,
        ],
        [
            "huggingface/transformers#29177, a gated model",
            'huggingface_hub.utils._errors.GatedRepoError: 403 Client Error. (Request ID: Root=1-65d5)\n\nThe above exception was the direct cause of the following exception:\n\nTraceback (most recent call last):\n  File "x.py", line 1, in <module>\nOSError: You are trying to access a gated repo.\nMake sure to request access at https://huggingface.co/google/gemma-7b and pass a token having permission to this repo',
            "OSError: You are trying to access a gated repo.",
            /secret hfToken/,
        ],
        [
            "huggingface/transformers, a model that is not there",
            "OSError: nobody/none is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            "OSError: nobody/none is not a local folder and is not a valid model identifier listed on 'https://huggingface.co/models'",
            /serving\.model;/,
        ],
        [
            "#9377, a library of another PyTorch",
            "ERROR 10-16 05:20:48 registry.py:264] noise\nImportError: /usr/local/lib/python3.10/dist-packages/flash_attn_2_cuda.so: undefined symbol: _ZN3c105ErrorC2E\nValueError: Model architectures ['LlavaForConditionalGeneration'] failed to be inspected. Please check the logs for more details.",
            "ImportError: /usr/local/lib/python3.10/dist-packages/flash_attn_2_cuda.so: undefined symbol: _ZN3c105ErrorC2E",
            /build the image again/,
        ],
        [
            "a driver's library that the runtime class would mount",
            "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
            "ImportError: libcuda.so.1: cannot open shared object file: No such file or directory",
            /serving\.runtimeClassName/,
        ],
        ["no GPU", "RuntimeError: No CUDA GPUs are available", "RuntimeError: No CUDA GPUs are available", /serving\.runtimeClassName/],
        ["a port in use", "OSError: [Errno 98] Address already in use", "OSError: [Errno 98] Address already in use", /serving\.extraArgs/],
        [
            "a flag that vLLM does not know",
            "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: --nosuch",
            "vllm serve: error: unrecognized arguments: --nosuch",
            /serving\.extraArgs/,
        ],
        [
            "a full disk",
            "OSError: [Errno 28] No space left on device: '/cache/huggingface/x'",
            "OSError: [Errno 28] No space left on device: '/cache/huggingface/x'",
            /modelCache/,
        ],
        [
            "C++",
            "terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: an illegal memory access was encountered",
            "what():  CUDA error: an illegal memory access was encountered",
            /^$/,
        ],
    ])("of %s", (_, log, text, mend) => {
        const found = rootCause(`INFO 09-28 15:47:20 [x.py:1] starting\n${log}\n${wrapper}`);
        expect(found).toMatchObject({ kind: "error", text });
        expect(found?.kind === "error" ? (found.mend ?? "") : "none").toMatch(mend);
    });

    test("of two workers is the one that failed, not what the other saw of it", () => {
        const log = [
            "(Worker_TP0 pid=10) Traceback (most recent call last):",
            "(Worker_TP1 pid=11) Traceback (most recent call last):",
            '(Worker_TP0 pid=10)   File "a.py", line 1, in load',
            '(Worker_TP1 pid=11)   File "b.py", line 2, in wait',
            "(Worker_TP0 pid=10) torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "(Worker_TP1 pid=11) torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:77, remote process exited",
            "(EngineCore pid=9) Exception: WorkerProc initialization failed due to an exception in a background process. See stack trace for root cause.",
        ].join("\n");
        expect(rootCause(`${log}\n${wrapper}`)).toMatchObject({ text: "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB." });
    });

    test("may be a class of any name, at the end of a traceback", () => {
        expect(rootCause('Traceback (most recent call last):\n  File "x.py", line 1, in f\n    g()\ntorch._dynamo.exc.Unsupported: a thing')).toMatchObject({
            text: "torch._dynamo.exc.Unsupported: a thing",
        });
    });
});

describe("a process that was killed", () => {
    test.each([
        ["with its signal", `${wrapper.trimEnd().slice(0, -2)}{'EngineCore_DP0': -9}`, "EngineCore_DP0 was ended by signal 9"],
        [
            "without",
            "(APIServer pid=1) ERROR 09-05 01:15:59 [core_client.py:562] Engine core proc EngineCore_0 died unexpectedly, shutting down client.",
            "EngineCore_0 died without a word of its own",
        ],
    ])("is told %s", (_, log, text) => {
        expect(rootCause(log)).toEqual({ kind: "killed", text });
    });

    test("is not blamed on a request that failed hours before", () => {
        const log =
            "(APIServer pid=1) ValueError: This model's maximum context length is 8192 tokens.\n(APIServer pid=1) ERROR 09-05 01:15:59 [core_client.py:562] Engine core proc EngineCore_0 died unexpectedly, shutting down client.\n(APIServer pid=1) vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above) for the root cause.";
        expect(rootCause(log)).toEqual({ kind: "killed", text: "EngineCore_0 died without a word of its own" });
    });
});

test("a log without an error says nothing, and none makes it throw", () => {
    expect(rootCause("INFO 12-01 00:00:00 [x.py:1] Application startup complete.\n")).toBeUndefined();
    fc.assert(fc.property(fc.array(fc.string()), (lines) => void rootCause(lines.join("\n"))));
    const log = fixture("engine-failed.txt") + wrapper;
    fc.assert(fc.property(fc.nat(log.length), (from) => rootCause(log.slice(from))?.kind !== "refusal"));
});
