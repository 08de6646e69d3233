"""A made-up model, and `vllm serve` of it through the launcher, measured over HTTP. Used by the programs beside it."""

import json
import os
import random
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
VOCABULARY = 32000
LISTING = "model.safetensors.index.json"
# 28 layers, so that a step is the GPU's work and not the host's: 11.5 GiB of weights are read at every step.
LAYERS, KV_HEADS, INNER = 28, 2, 14336
NATIVE = {"MANAGED_MEM_PLACEMENT": "off"}
ENVIRONMENT = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_USE_DEEP_GEMM": "0", "VLLM_DEEP_GEMM_WARMUP": "skip", "VLLM_USE_V2_MODEL_RUNNER": "0",
               "VLLM_USE_FLASHINFER_SAMPLER": "0"}


def make_model(layers: int, kv_heads: int, inner: int = 11008) -> Path:
    """The configuration of a Llama with a vocabulary of words that are numbers. No weights: vLLM makes some up (load format dummy)."""
    folder = Path(f"/tmp/llama-{layers}-layers")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": 32, "num_key_value_heads": kv_heads, "head_dim": 128, "vocab_size": VOCABULARY, "max_position_embeddings": 65536, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "torch_dtype": "bfloat16", "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "hidden_act": "silu"}))
    words = {"<unk>": 0, "<s>": 1, "</s>": 2} | {f"w{i}": i for i in range(3, VOCABULARY)}
    (folder / "tokenizer.json").write_text(json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"}, "post_processor": None, "decoder": None, "model": {"type": "WordLevel", "vocab": words, "unk_token": "<unk>"}}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}))
    return folder


def write_weights(folder: Path) -> None:
    """Random weights as a checkpoint in memory (/dev/shm), so that loading is vLLM's own and no disk is measured.

    Made by a process of its own, because making them takes CUDA, and some callers fork or want the card empty.
    """
    if not (Path("/dev/shm") / folder.name / LISTING).exists():
        subprocess.run([sys.executable, __file__, folder], check=True)


def make_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    shape = json.loads((folder / "config.json").read_text())
    hidden, inner, kv = shape["hidden_size"], shape["intermediate_size"], shape["num_key_value_heads"] * shape["head_dim"]
    store = Path("/dev/shm") / folder.name
    store.mkdir(exist_ok=True)
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*size):
        return (torch.randn(*size, device="cuda", generator=generator, dtype=torch.bfloat16) * 0.02).cpu()

    def layer(i: int) -> dict:
        name = f"model.layers.{i}."
        sizes = {"self_attn.q_proj": (hidden, hidden), "self_attn.k_proj": (kv, hidden), "self_attn.v_proj": (kv, hidden), "self_attn.o_proj": (hidden, hidden),
                 "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden), "mlp.down_proj": (hidden, inner)}
        norms = {f"{name}{n}.weight": torch.ones(hidden, dtype=torch.bfloat16) for n in ("input_layernorm", "post_attention_layernorm")}
        return {f"{name}{n}.weight": normal(*size) for n, size in sizes.items()} | norms

    ends = {"model.embed_tokens.weight": normal(VOCABULARY, hidden), "model.norm.weight": torch.ones(hidden, dtype=torch.bfloat16), "lm_head.weight": normal(VOCABULARY, hidden)}
    index, parts = {}, [*range(shape["num_hidden_layers"]), None]
    for i in parts:
        tensors, file = (ends if i is None else layer(i)), f"part-{'ends' if i is None else i}.safetensors"
        save_file(tensors, store / file)
        index |= dict.fromkeys(tensors, file)
    for file in (*set(index.values()), LISTING):
        (folder / file).unlink(missing_ok=True)
        (folder / file).symlink_to(store / file)
    (store / LISTING).write_text(json.dumps({"weight_map": index}))


def ask_card(fields: str) -> str:
    """What nvidia-smi says of the card that CUDA_VISIBLE_DEVICES names, the first where it names none."""
    query = ["nvidia-smi", "-i", os.environ.get("CUDA_VISIBLE_DEVICES", "0"), f"--query-gpu={fields}", "--format=csv,noheader,nounits"]
    return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()


def card() -> dict:
    return {"card": ask_card("name,driver_version,memory.total,memory.used"), "date": time.strftime("%Y-%m-%d %H:%M")}


def until_empty(limit: float = 60) -> None:
    """Waits for what a server or engine before still has to give back to the card."""
    until = time.time() + limit
    while (used := int(ask_card("memory.used"))) > 2048:  # MiB
        if time.time() > until:
            raise RuntimeError(f"the card is not empty after {limit} s: {used} MiB are in use")
        time.sleep(0.1)


def facts(log: str) -> dict:
    """What vLLM itself logs of a start; our lines name the engine's process."""
    patterns = {
        "weights_s": r"Loading weights took ([\d.]+) seconds",
        "load_s": r"Model loading took [\d.]+ GiB memory and ([\d.]+) seconds",
        "weights_gib": r"Model loading took ([\d.]+) GiB",
        "profile_s": r"Initial profiling/warmup run took ([\d.]+) s",
        "init_engine_s": r"init engine .*? took ([\d.]+) s",
        "compile_s": r"init engine .*?compilation: ([\d.]+) s",
        "capture_s": r"Graph capturing finished in ([\d.]+) secs",
        "uva_gib": r"[Tt]otal CPU offloaded parameters: ([\d.]+)",
    }
    numbers = {name: float(found[1]) for name, pattern in patterns.items() if (found := re.search(pattern, log))}
    for kind in ("piecewise", "full"):  # the bar's last rate is the mean over all of its sizes
        if found := re.findall(rf"{kind.upper()}\): 100%[^\r\n]*?(\d+)/\1 [^\r\n]*?([\d.]+)it/s", log):
            numbers[f"capture_{kind}_s"] = round(int(found[-1][0]) / float(found[-1][1]), 3)
    if "init_engine_s" in numbers:
        numbers["init_s"] = round(numbers["init_engine_s"] - numbers.get("compile_s", 0), 3)  # profile, KV cache and capture
        numbers["load_and_init_s"] = round(numbers["load_s"] + numbers["init_s"], 3)
    return numbers | {"lines": [line for line in log.splitlines() if "managed-mem: process" in line or "managed-mem: device " in line and "KV" in line]}


class Server:
    def __init__(self, name: str, port: int, logs: Path, model: Path, settings: dict[str, str], *arguments: str, cores: range | None = None):
        self.name, self.port, self.log, self.model = name, port, logs / f"{name.replace(' ', '-')}.log", model
        self.command = [sys.executable, str(LAUNCHER), str(model), "--port", str(port), "--host", "127.0.0.1", "--seed", "0",
                        "--gpu-memory-utilization", "0.1", "--max-num-seqs", "64", *arguments]
        self.began = time.time()
        self.process = subprocess.Popen(self.command, env=os.environ | ENVIRONMENT | settings, stdout=open(self.log, "w"), stderr=subprocess.STDOUT, start_new_session=True,
                                        preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None)
        self.started_s = self.ended_s = self.decoded = None

    def ready(self) -> bool:
        if self.process.poll() is not None:
            self.ended_s = self.ended_s or round(time.time() - self.began, 1)
            return False
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2)
        except OSError:
            return False
        self.started_s = self.started_s or round(time.time() - self.began, 1)
        return True

    def wait(self, limit: float = 300) -> "Server":
        while not self.ready():
            if self.process.poll() is not None or time.time() - self.began > limit:
                sys.stderr.write(f"{self.name}: not up, exit status {self.process.poll()}\n{self.text()[-3000:]}\n")
                raise RuntimeError(self.name)
            time.sleep(0.2)
        return self

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def complete(self, prompts: list[list[int]], tokens: int, salt: str | None = None) -> tuple[float, list[list[int]]]:
        """Seconds and tokens. A salt of its own keeps a request away from the prefix cache, so that it is computed from its first token on."""
        self.decoded = None
        body = json.dumps({"cache_salt": salt, "model": str(self.model), "prompt": prompts, "max_tokens": tokens, "ignore_eos": True, "temperature": 0,
                           "return_token_ids": True}).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/v1/completions", body, {"Content-Type": "application/json"})
        begin = time.perf_counter()
        with urllib.request.urlopen(request, timeout=300) as response:
            answer = json.load(response)
        seconds = time.perf_counter() - begin
        return seconds, [c["token_ids"] for c in sorted(answer["choices"], key=lambda c: c["index"])]

    def step_ms(self, prompts: list[list[int]], tokens: int) -> tuple[float, float, list[list[int]]]:
        """Milliseconds per decode step as vLLM's engine times it, the same by the client's clock with prefill and request in it, and the tokens.

        vllm:request_decode_time_seconds is the time from a request's first token to its last, on the clock of the engine's process.
        """
        seconds_before, count_before = self.decoded or self.decode_time()
        wall, ids = self.complete(prompts, tokens)
        until = time.time() + 5
        while True:  # the last request's figures are written after its answer is sent
            seconds, count = self.decode_time()
            if count >= count_before + len(prompts):
                break
            if time.time() > until:
                raise RuntimeError(f"{self.name}: {count - count_before} of {len(prompts)} requests on /metrics after 5 s")
        self.decoded = seconds, count  # so that the next window need not ask again
        engine = (seconds - seconds_before) / len(prompts) / (tokens - 1)
        return engine * 1e3, wall / tokens * 1e3, ids

    def decode_time(self) -> tuple[float, int]:
        found = self.metrics("vllm:request_decode_time_seconds_")
        return tuple(sum(v for k, v in found.items() if k.startswith(f"vllm:request_decode_time_seconds_{end}")) for end in ("sum", "count"))

    def metrics(self, prefix: str = "managed_mem_") -> dict[str, float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as response:
            lines = response.read().decode().splitlines()
        return {key: float(value) for key, value in (line.rsplit(" ", 1) for line in lines if line.startswith(prefix))}

    def facts(self) -> dict:
        return {"start_s": self.started_s, **facts(self.text()), "peak_rss_gib": {pid: round(kib / (1 << 20), 2) for pid, kib in self.peak_rss().items()}}

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

    def stop(self, *signs: int) -> None:
        for sign in signs or (signal.SIGINT, signal.SIGKILL):
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


def interleaved(servers: dict[str, Server], columns: list[str], asked: list[list[int]], window: int, seconds: float, dice: random.Random) -> dict[str, dict[str, list]]:
    """Rounds for so many seconds, nine at least, each with every column once in an order drawn at random: step and wall milliseconds, and what equals native's tokens.

    A column names its server; «native again» is native measured once more, the comparison's own noise.
    """
    steps, walls, equal = ({name: [] for name in columns} for _ in range(3))
    for server in {name.removesuffix(" again") for name in columns}:
        servers[server].step_ms(asked, 9)  # the prompts are in the prefix cache from here on
    reference = servers["native"].complete(asked, window)[1]
    until = time.time() + seconds
    while time.time() < until or len(steps["native"]) < 9:
        for name in dice.sample(columns, len(columns)):
            step, wall, ids = servers[name.removesuffix(" again")].step_ms(asked, window)
            steps[name].append(round(step, 5))
            walls[name].append(round(wall, 5))
            equal[name] += [a == b for a, b in zip(ids, reference, strict=True)]
    return {"step_ms": steps, "wall_ms": walls, "equal": equal}


if __name__ == "__main__":
    make_weights(Path(sys.argv[1]))
