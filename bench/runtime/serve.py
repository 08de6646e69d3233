"""Starts `vllm serve` through the launcher and measures it over HTTP. Used by vllm_bench.py."""

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "assets/vllm/vllm_managed_mem.py"
GIB = 1 << 30
MODEL = Path("/tmp/llama-16-layers")
VOCABULARY = 32000


def make_model() -> None:
    """A Llama of 16 layers, about 6 GiB in bf16, with a vocabulary of words that are numbers. Weights are made up by vLLM (load format dummy)."""
    MODEL.mkdir(exist_ok=True)
    (MODEL / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 16,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": VOCABULARY, "max_position_embeddings": 65536, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "torch_dtype": "bfloat16", "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"}))
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    (MODEL / "tokenizer.json").write_text(json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}}))
    (MODEL / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))


class Server:
    def __init__(self, name: str, port: int, logs: Path, settings: dict[str, str], arguments: list[str]):
        self.name, self.port, self.log = name, port, logs / f"{name}.log"
        environment = {**os.environ, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_USE_DEEP_GEMM": "0", "VLLM_DEEP_GEMM_WARMUP": "skip",
                       "VLLM_USE_V2_MODEL_RUNNER": "0", **settings}
        self.command = [sys.executable, str(LAUNCHER), str(MODEL), "--load-format", "dummy", "--port", str(port), "--host", "127.0.0.1", "--seed", "0",
                        "--gpu-memory-utilization", "0.2", "--max-num-seqs", "64", *arguments]
        self.began = time.time()
        self.process = subprocess.Popen(self.command, env=environment, stdout=open(self.log, "w"), stderr=subprocess.STDOUT, start_new_session=True)
        self.started_s = None

    def ready(self) -> bool:
        if self.process.poll() is not None:
            return False
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
        except OSError:
            return False
        self.started_s = self.started_s or round(time.time() - self.began, 1)
        return True

    def wait(self, limit: float = 400) -> "Server":
        while not self.ready():
            if self.process.poll() is not None or time.time() - self.began > limit:
                sys.stderr.write(f"{self.name}: not up, exit status {self.process.poll()}\n{self.text()[-3000:]}\n")
                raise RuntimeError(self.name)
            time.sleep(0.2)
        return self

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def complete(self, prompts: list[list[int]], tokens: int) -> tuple[float, list[list[int]]]:
        body = json.dumps({"model": str(MODEL), "prompt": prompts, "max_tokens": tokens, "min_tokens": tokens, "ignore_eos": True, "temperature": 0,
                           "return_token_ids": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body, {"Content-Type": "application/json"})
        begin = time.perf_counter()
        with urllib.request.urlopen(request, timeout=300) as response:
            answer = json.load(response)
        seconds = time.perf_counter() - begin
        return seconds, [c["token_ids"] for c in sorted(answer["choices"], key=lambda c: c["index"])]

    def step_ms(self, prompts: list[list[int]], tokens: int) -> tuple[float, str]:
        """Milliseconds per decode step, prefill and request taken off, and a digest of the tokens."""
        one, _ = self.complete(prompts, 1)
        many, ids = self.complete(prompts, tokens)
        return (many - one) / (tokens - 1) * 1e3, hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]

    def metrics(self) -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if line.startswith("managed_mem_"))}

    def facts(self) -> dict:
        text = self.text()

        def number(pattern: str):
            found = re.search(pattern, text)
            return float(found[1]) if found else None

        return {
            "start_s": self.started_s,
            "load_s": number(r"Model loading took [\d.]+ GiB memory and ([\d.]+) seconds"),
            "weights_gib": number(r"Model loading took ([\d.]+) GiB"),
            "init_engine_s": number(r"init engine .*? took ([\d.]+) s"),
            "compile_s": number(r"init engine .*?compilation: ([\d.]+) s"),
            "capture_s": number(r"Graph capturing finished in ([\d.]+) secs"),
            "kv_tokens": (found := re.search(r"GPU KV cache size: ([\d,]+)", text)) and int(found[1].replace(",", "")),
            "uva_gib": number(r"[Tt]otal CPU offloaded parameters: ([\d.]+)"),
            "peak_rss_gib": {pid: round(kib / (1 << 20), 2) for pid, kib in self.peak_rss().items()},
            "lines": [line for line in text.splitlines() if "managed-mem: process" in line or "managed-mem: device" in line],
        }

    def peak_rss(self) -> dict[str, int]:
        found = {}
        for status in Path("/proc").glob("[0-9]*/status"):
            try:
                if os.getpgid(int(status.parent.name)) == self.process.pid:
                    text = status.read_text()
                    name = re.search(r"Name:\s+(.*)", text)[1]
                    found[f"{name} {status.parent.name}"] = int(re.search(r"VmHWM:\s+(\d+)", text)[1])
            except (OSError, TypeError):
                continue
        return found

    def stop(self) -> None:
        for sign in (signal.SIGINT, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, sign)
                self.process.wait(15)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


def prompts(batch: int, length: int, salt: int = 0) -> list[list[int]]:
    return [[(i * 37 + j * 11 + salt * 101) % (VOCABULARY - 10) + 5 for j in range(length)] for i in range(batch)]
