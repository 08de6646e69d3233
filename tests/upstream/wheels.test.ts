import { spawnSync } from "node:child_process";
import * as fs from "node:fs";
import * as path from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { ArmRoot, checkout } from "./armRoot";

/*
 * The set that the image installs, from the real index: every file of assets/vllm/locks/runtime.txt and triton.txt and vLLM's own
 * aarch64 wheel, by hash, in an arm64 root; then what pip finds missing, and the imports that need no GPU. CPython 3.11 where the
 * image has 3.12, because no arm64 3.12 is to be had from a package registry; the locks hold the hashes of both.
 */
const HOUR = 3_600_000;
const root = new ArmRoot();
const place = "/opt/locked";
const folder = path.join(root.folder, place);
const env = { PYTHONPATH: place };

beforeAll(() => {
    root.open();
    fs.rmSync(folder, { recursive: true, force: true });
    const locks = ["runtime", "triton"].map((name) => path.join(checkout, "assets/vllm/locks", `${name}.txt`));
    const { status, stdout } = spawnSync(path.join(__dirname, "root/unpack"), [folder, ...locks, path.join(__dirname, "root/vllm.txt")], { encoding: "utf8" });
    expect(status, stdout).toBe(0);
}, HOUR);

afterAll(() => {
    root.close();
    fs.rmSync(folder, { recursive: true, force: true });
}, HOUR);

/** What vLLM's own wheel asks for and this project takes from elsewhere, or leaves out: docs/stages.md and overrides.txt say why. */
const elsewhere = ["torch", "torchvision", "torchaudio", "flashinfer-python", "flashinfer-cubin", "nixl"];
/** This root's Python is older than 3.11.3, for which redis wants it; the image's is not. */
const ofOlderPython = ["async-timeout"];

test(
    "pip finds nothing missing and nothing that does not fit, but for what comes from the base and the stages",
    () => {
        const { output } = root.run("python3 -m pip check --disable-pip-version-check", env);
        const complaints = output.split("\n").filter((line) => / (requires|has requirement) /.test(line));
        const ours = complaints.filter(
            (line) =>
                !line.startsWith("torch ") && ![...elsewhere, ...ofOlderPython].some((name) => new RegExp(`(requires|has requirement) ${name}\\b`).test(line)),
        );
        expect(ours).toEqual([]);
        // Not vacuous: what is left out is complained about.
        expect(complaints.join("\n")).toMatch(/vllm 0\.19\.0 requires flashinfer-cubin/);
    },
    HOUR,
);

test.each([
    "numpy",
    "triton",
    "transformers",
    "tokenizers",
    "xgrammar",
    "outlines_core",
    "numba",
    "cv2",
    "msgspec",
    "zmq",
    "tvm_ffi",
    "prometheus_client",
    "openai",
    "vllm.version",
])(
    "%s is imported on aarch64",
    (name) => {
        const { status, output } = root.run(`python3 -c 'import ${name}; print("imported", ${name}.__name__)'`, env);
        expect(output, output.slice(-2000)).toContain(`imported ${name}`);
        expect(status).toBe(0);
    },
    HOUR,
);
