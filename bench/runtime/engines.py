"""Real vLLM engines side by side on one GPU, each with its EngineCore in a process of its own. usage: engines.py OUTDIR LIBRARY [PHASE ...]

vLLM is imported once and every engine is forked from there, so that starts are cheap; requests are timed inside the engine's
client, without HTTP. Phases: warm (fills the compile caches), overflow, parity, context. Writes OUTDIR/PHASE.json as it goes.
Managed memory at any time: at most 20 GiB, under half of what an 80 GB card has free. HBM is never over-subscribed.
"""

import hashlib
import json
import math
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

os.environ.update(HF_HUB_OFFLINE="1", VLLM_NO_USAGE_STATS="1", VLLM_USE_DEEP_GEMM="0", VLLM_DEEP_GEMM_WARMUP="skip", VLLM_USE_V2_MODEL_RUNNER="0",
                  VLLM_USE_FLASHINFER_SAMPLER="0", VLLM_WORKER_MULTIPROC_METHOD="fork")
ASSETS = Path(__file__).resolve().parents[2] / "assets/vllm"
sys.path.insert(0, str(ASSETS))
os.environ["PYTHONPATH"] = f"{ASSETS}:{os.environ.get('PYTHONPATH', '')}"
GIB, MIB = 1 << 30, 1 << 20
outdir, library = Path(sys.argv[1]), os.path.realpath(sys.argv[2])
outdir.mkdir(parents=True, exist_ok=True)
T95 = {6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306}  # Student's t, two-sided, by number of pairs
ROUNDS = 8
LINK_GBPS, HBM_GBPS = 50.7, 3034  # read rates of the host and of HBM on this card, measured before by segments.py


def child(pipe, name: str, managed: dict | None, options: dict) -> None:
    log = os.open(outdir / f"{name}.log".replace(" ", "-"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    try:
        run_dir = tempfile.mkdtemp()
        if managed is not None:
            from managed_mem import hooks, settings

            handed = settings.Handed(**{"placement": "hbm-first", "library": library, "run_dir": run_dir, "home": str(ASSETS), "hbm": None, "hbm_reserve": None, "kv_hbm": 0,
                                        "host": 0, "utilization_given": False, "accept_stand_in": False, **managed})
            os.environ[settings.OPT_IN] = handed.dump()
            hooks.install(handed)
            options = {**options, "worker_cls": "managed_mem.worker.ManagedWorker"}
        from serve import MODEL
        from vllm import LLM, SamplingParams

        begin = time.time()
        llm = LLM(**{"model": str(MODEL), "load_format": "dummy", "skip_tokenizer_init": True, "max_model_len": 4608, "max_num_seqs": 64,
                     "max_num_batched_tokens": 8192, "gpu_memory_utilization": 0.1, "seed": 0, **options})
        pipe.send({"start_s": round(time.time() - begin, 1)})
        while True:
            what = pipe.recv()
            if what is None:
                break
            if what == "account":
                from managed_mem import account

                pipe.send([(pid, kind, vars(row)) for pid, _, _, kind, _, row in account.read(run_dir)])
                continue
            prompts, tokens = what
            sampling = SamplingParams(temperature=0, max_tokens=tokens, min_tokens=tokens, ignore_eos=True, detokenize=False)
            begin = time.perf_counter()
            answers = llm.generate([{"prompt_token_ids": p} for p in prompts], sampling, use_tqdm=False)
            seconds = time.perf_counter() - begin
            pipe.send((seconds, [list(a.outputs[0].token_ids) for a in answers]))
    except BaseException:
        traceback.print_exc()
    os._exit(0)


class Engine:
    def __init__(self, name: str, managed: dict | None, **options):
        self.name = name
        context = multiprocessing.get_context("fork")
        self.pipe, other = context.Pipe()
        self.process = context.Process(target=child, args=(other, name, managed, options))
        self.began = time.time()
        self.process.start()
        other.close()

    def ask(self, what):
        self.pipe.send(what)
        return self.pipe.recv()

    def wait(self) -> float:
        self.start_s = self.pipe.recv()["start_s"]
        return self.start_s

    def step_ms(self, prompts, tokens: int) -> tuple[float, str]:
        """Milliseconds per decode step, prefill taken off (the prompts are in the prefix cache), and a digest of the tokens."""
        one, _ = self.ask((prompts, 1))
        many, ids = self.ask((prompts, tokens))
        return (many - one) / (tokens - 1) * 1e3, hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:16]

    def log(self) -> str:
        return (outdir / f"{self.name}.log".replace(" ", "-")).read_text(errors="replace")

    def stop(self) -> None:
        for pid in subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, text=True).stdout.split():
            os.kill(int(pid), 9)
        self.process.kill()
        self.process.join()


def save(name: str, result: dict) -> None:
    (outdir / f"{name}.json").write_text(json.dumps(result, indent=1))


def head() -> dict:
    card = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
    import torch
    import vllm

    return {"card": card, "date": time.strftime("%Y-%m-%d"), "vllm": vllm.__version__, "torch": torch.__version__}


def warm() -> None:
    engine = Engine("warm", None, kv_cache_memory_bytes=GIB)
    save("warm", head() | {"start_s": engine.wait()})
    engine.step_ms(PROMPTS(2, 64), 8)
    engine.stop()


def ratio(base: list[float], other: list[float]) -> dict:
    logs = [math.log(a / b) for a, b in zip(base, other)]
    mean, half = statistics.mean(logs), T95[len(logs)] * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"speed": round(math.exp(mean), 4), "low": round(math.exp(mean - half), 4), "high": round(math.exp(mean + half), 4), "pairs": len(logs)}


def parity() -> None:
    result = head() | {"starts": {}, "points": {}}
    kv = 9 * GIB  # 64 sequences of 4,000 + 193 tokens at 32 KiB a token are 8.2 GiB
    engines = {}
    for name, managed in (("managed", {"placement": "managed"}), ("native", None), ("hbm-first", {})):
        engines[name] = Engine(f"parity {name}", managed, kv_cache_memory_bytes=kv)
        if name == "managed":  # first and alone, so that half of the card is free when it takes its memory
            engines[name].wait()
    result["starts"] = {n: (e.start_s if n == "managed" else e.wait()) for n, e in engines.items()}
    result["process"] = {n: {"client": e.process.pid, "account": [(p, k) for p, k, _ in e.ask("account")]} for n, e in engines.items()}
    order = ["native", "hbm-first", "managed", "native-again"]
    for batch, length in ((16, 128), (16, 4000), (1, 128), (64, 128), (1, 4000), (64, 4000)):
        asked, steps, digests = PROMPTS(batch, length), {n: [] for n in order}, {n: [] for n in order}
        for engine in engines.values():
            engine.step_ms(asked, 9)
        for i in range(ROUNDS):
            for name in order[i % 4:] + order[:i % 4]:
                ms, digest = engines[name.removesuffix("-again")].step_ms(asked, 193)
                steps[name].append(round(ms, 4))
                digests[name].append(digest)
        result["points"][f"batch {batch}, context {length}"] = {
            "step_ms": {n: round(statistics.median(v), 4) for n, v in steps.items()}, "against_native": {n: ratio(steps["native"], steps[n]) for n in order[1:]},
            "tokens_equal": len(set(sum(digests.values(), []))) == 1, "native_equals_itself": len(set(digests["native"] + digests["native-again"])) == 1, "all": steps}
        save("parity", result)
    result["accounts"] = {n: e.ask("account") for n, e in engines.items() if n != "native"}
    save("parity", result)
    for engine in engines.values():
        engine.stop()


def overflow() -> None:
    result, kv, weights = head() | {"link_gbps": LINK_GBPS, "rows": {}}, GIB // 2, 5.66
    engines = {"native": Engine("overflow native", None, kv_cache_memory_bytes=kv)}
    for gib in (0.5, 1, 2, 4):
        engines[f"uva {gib}"] = Engine(f"overflow uva {gib}", None, kv_cache_memory_bytes=kv, cpu_offload_gb=gib)
        share = int((weights - gib) * GIB)
        engines[f"host {gib}"] = Engine(f"overflow host {gib}", {"hbm": share + kv + 64 * MIB, "kv_hbm": kv + 64 * MIB, "host": int((gib + 0.5) * GIB)}, kv_cache_memory_bytes=kv)
    starts = {n: e.wait() for n, e in engines.items()}
    asked = PROMPTS(16, 128)
    engines["native"].step_ms(asked, 33)
    native = statistics.median(engines["native"].step_ms(asked, 129)[0] for _ in range(5))
    for name, engine in engines.items():
        placed = sum(row["host"] for _, _, row in engine.ask("account")) if name.startswith("host") else 0
        if name.startswith("uva"):
            placed = float(name.split()[1]) * GIB
        predicted = native + placed * (1 / LINK_GBPS - 1 / HBM_GBPS) / 1e6
        result["rows"][name] = {"start_s": starts[name], "host_gib": round(placed / GIB, 4), "predicted_ms": round(predicted, 2), "step_ms": []}
    save("overflow", result)  # the predictions stand before anything but native is measured
    for i in range(4):
        for name, engine in engines.items():
            ms, digest = engine.step_ms(asked, 33)
            if i:  # the first is the warm-up
                result["rows"][name]["step_ms"].append(round(ms, 3))
                result["rows"][name]["tokens"] = digest
    save("overflow", result)
    for kind in ("uva", "host"):
        points = [(r["host_gib"], statistics.median(r["step_ms"])) for n, r in result["rows"].items() if n.startswith(kind)]
        mx, my = (statistics.mean(p[i] for p in points) for i in (0, 1))
        result[f"slope_{kind}_ms_per_gib"] = round(sum((a - mx) * (b - my) for a, b in points) / sum((a - mx) ** 2 for a, _ in points), 3)
    result["slope_ratio"] = round(result["slope_host_ms_per_gib"] / result["slope_uva_ms_per_gib"], 4)
    result["tokens_equal"] = len({r["tokens"] for r in result["rows"].values()}) == 1
    result["uva_log"] = [line[-120:] for e in ("uva 0.5", "uva 4") for line in engines[e].log().splitlines() if "offload" in line.lower()][-6:]
    result["accounts"] = {n: e.ask("account") for n, e in engines.items() if n.startswith("host")}
    save("overflow", result)
    for engine in engines.values():
        engine.stop()


def context() -> None:
    result, share = head() | {"runs": {}, "refusals": {}}, int(6.8 * GIB)
    long = {"max_model_len": 40000}
    engines = {
        "native, 1 GiB KV": Engine("kv native 1", None, kv_cache_memory_bytes=GIB),
        "native, 2 GiB KV": Engine("kv native 2", None, kv_cache_memory_bytes=2 * GIB),
        "1 GiB KV in HBM + 1 GiB on the host": Engine("kv host 2", {"hbm": share, "host": int(1.25 * GIB)}, kv_cache_memory_bytes=2 * GIB, **long),
    }
    doomed = {
        "native, 1 GiB KV, context of 40,000": Engine("context native", None, kv_cache_memory_bytes=GIB, **long),
        "weights over the budget": Engine("refused weights", {"hbm": 2 * GIB}, kv_cache_memory_bytes=GIB),
        "KV cache over the budget": Engine("refused kv", {"hbm": share}, kv_cache_memory_bytes=4 * GIB),
    }
    for name, engine in doomed.items():
        engine.process.join(60)
        lines = [line for line in engine.log().splitlines() if "managed-mem:" in line or ("ValueError" in line and "KV" in line)]
        result["refusals"][name] = {"ended": not engine.process.is_alive(), "seconds": round(time.time() - engine.began, 1), "lines": lines[-3:]}
        engine.stop()
    for name, engine in engines.items():
        engine.wait()
        engine.ask((PROMPTS(2, 4000, 7), 4))
        seconds, _ = engine.ask((PROMPTS(16, 4000, 9), 64))
        alone = engine.step_ms(PROMPTS(1, 4000, 9), 33)[0]
        result["runs"][name] = {"requests": 16, "prompt": 4000, "out": 64, "seconds": round(seconds, 2), "tok_s": round(16 * 64 / seconds, 1), "step_ms_of_one_request": round(alone, 3)}
        save("context", result)
    name = "1 GiB KV in HBM + 1 GiB on the host"
    seconds, ids = engines[name].ask((PROMPTS(1, 36000, 3), 16))
    result["runs"]["context of 36,000 tokens"] = {"engine": name, "seconds": round(seconds, 2), "tokens_out": len(ids[0]), "account": engines[name].ask("account")}
    save("context", result)
    for engine in engines.values():
        engine.stop()


if __name__ == "__main__":
    begin = time.time()
    from serve import make_model
    from serve import prompts as PROMPTS

    make_model()
    import torch
    import vllm  # noqa: F401
    import vllm.model_executor.models.llama  # noqa: F401
    import vllm.model_executor.models.registry as registry
    import vllm.v1.engine.core  # noqa: F401
    import vllm.v1.worker.gpu_worker  # noqa: F401
    from vllm import LLM  # noqa: F401

    registry._run_in_subprocess = lambda function: function()  # the model class is imported already
    assert not torch.cuda.is_initialized()
    print(f"imported in {time.time() - begin:.0f} s", flush=True)
    for phase in sys.argv[3:]:
        begin = time.time()
        try:
            {"warm": warm, "parity": parity, "overflow": overflow, "context": context}[phase]()
            print(f"{phase}: {time.time() - begin:.0f} s", flush=True)
        except Exception:
            traceback.print_exc()
            for engine_process in multiprocessing.active_children():
                subprocess.run(["pkill", "-9", "-P", str(engine_process.pid)], check=False)
                engine_process.kill()
            time.sleep(3)
    os._exit(0)
