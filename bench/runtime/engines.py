"""Real vLLM engines side by side on one GPU, each with its EngineCore in a process of its own. usage: engines.py OUTDIR LIBRARY [PHASE ...]

vLLM is imported once and every engine is forked from there, so that starts are cheap; requests are timed inside the engine's
client, without HTTP. Phases: warm (fills the compile caches), overflow, starts, profile. Writes OUTDIR/PHASE.json as it goes.
Managed memory at any time: at most 21 GiB, under half of what an 80 GB card has free. HBM is never over-subscribed.
"""

import gzip
import hashlib
import json
import multiprocessing
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from pairs import compare
from serve import ENVIRONMENT, INNER, KV_HEADS, LAYERS, card, facts, make_model, until_empty, write_weights
from serve import prompts as PROMPTS

os.environ.update(ENVIRONMENT, VLLM_WORKER_MULTIPROC_METHOD="fork")
ASSETS = Path(__file__).resolve().parents[2] / "assets/vllm"
sys.path.insert(0, str(ASSETS))
os.environ["PYTHONPATH"] = f"{ASSETS}:{os.environ.get('PYTHONPATH', '')}"
GIB, MIB = 1 << 30, 1 << 20
outdir, library = Path(sys.argv[1]), os.path.realpath(sys.argv[2])
outdir.mkdir(parents=True, exist_ok=True)
STARTS_S = 440  # after which no round of starts begins
LINK_GBPS, HBM_GBPS = 50.7, 3034  # read rates of the host and of HBM on this card, measured before by segments.py


def child(pipe, name: str, managed: dict | None, options: dict) -> None:
    log = os.open(outdir / f"{name}.log".replace(" ", "-"), os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
    os.dup2(log, 1), os.dup2(log, 2)
    try:
        run_dir = tempfile.mkdtemp()
        if managed is not None:
            from managed_mem import hooks, settings

            handed = settings.Handed(**{"placement": "hbm-first", "library": library, "run_dir": run_dir, "hbm": None, "hbm_reserve": None, "kv_hbm": 0,
                                        "host": 0, "prefixes": 0, "utilization_given": False, "accept_stand_in": False, **managed})
            os.environ[settings.OPT_IN] = handed.dump()
            hooks.install(handed)
            options = {**options, "worker_cls": "managed_mem.worker.ManagedWorker"}
        from vllm import LLM, SamplingParams

        begin = time.time()
        llm = LLM(**{"load_format": "dummy", "skip_tokenizer_init": True, "max_model_len": 4608, "max_num_seqs": 64,
                     "max_num_batched_tokens": 8192, "gpu_memory_utilization": 0.1, "seed": 0, **options})
        pipe.send({"start_s": round(time.time() - begin, 3)})
        while True:
            what = pipe.recv()
            if what is None:
                break
            if what == "account":
                from managed_mem import account

                pipe.send([(pid, kind, vars(row)) for pid, _, kind, _, row in account.read(run_dir)])
                continue
            if what in ("start_profile", "stop_profile"):
                pipe.send(getattr(llm, what)())
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
    def __init__(self, name: str, managed: dict | None, model: Path, **options):
        self.name = name
        options["model"] = str(model)
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
    import torch
    import vllm

    return card() | {"vllm": vllm.__version__, "torch": torch.__version__}


def warm() -> None:
    engine = Engine("warm", None, make_model(16, 4), kv_cache_memory_bytes=GIB // 2)
    save("warm", head() | {"start_s": engine.wait()})
    engine.step_ms(PROMPTS(2, 64), 8)
    engine.stop()


def overflow() -> None:
    """Part of the weights on the host, batch 16, 128 tokens of context: both placements against --cpu-offload-gb.

    managed comes when the others are gone, so that all it holds (26 GiB) is under half of what the card has free.
    """
    result, kv, model, sizes = head() | {"link_gbps": LINK_GBPS, "rows": {}, "accounts": {}}, GIB // 2, make_model(16, 4), (0.5, 1, 2, 4)
    asked, native = PROMPTS(16, 128), Engine("overflow native", None, model, kv_cache_memory_bytes=kv)

    def start(kind: str, gib: float) -> Engine:
        if kind == "uva":
            return Engine(f"overflow uva {gib}", None, model, kv_cache_memory_bytes=kv, cpu_offload_gb=gib)
        budget = {"placement": kind, "hbm": int((5.66 - gib) * GIB) + kv + 64 * MIB, "kv_hbm": kv + 64 * MIB, "host": int((gib + 0.5) * GIB)}
        return Engine(f"overflow {kind} {gib}", budget, model, kv_cache_memory_bytes=kv)

    native.wait()
    for kinds in (("uva", "hbm-first"), ("managed",)):
        engines = {f"{kind} {gib}": start(kind, gib) for gib in sizes for kind in kinds}
        for engine in engines.values():
            engine.wait()
        native.step_ms(asked, 33)
        base, rows = statistics.median(native.step_ms(asked, 129)[0] for _ in range(5)), {}
        for name, engine in engines.items():
            result["accounts"][name] = engine.ask("account")
            placed = sum(row["host"] for _, _, row in result["accounts"][name]) or float(name.split()[1]) * GIB
            predicted = base + placed * (1 / LINK_GBPS - 1 / HBM_GBPS) / 1e6
            rows[name] = {"start_s": engine.start_s, "host_gib": round(placed / GIB, 4), "predicted_ms": round(predicted, 2), "step_ms": []}
        result["rows"] |= rows
        save("overflow", result)  # the predictions stand before anything but native is measured
        engines[beside := f"native beside {' and '.join(kinds)}"], rows[beside] = native, {"predicted_ms": round(base, 2), "step_ms": []}
        for i in range(4):
            for name, engine in engines.items():
                ms, rows[name]["tokens"] = engine.step_ms(asked, 33)
                rows[name]["step_ms"] += [round(ms, 3)] if i else []  # the first is the warm-up
        result["rows"] |= rows
        result["uva_log"] = result.get("uva_log") or [line[-60:] for n, e in engines.items() if n.startswith("uva") for line in e.log().splitlines() if "CPU offloaded" in line]
        save("overflow", result)
        del engines[beside]
        for engine in engines.values():
            engine.stop()
    native.stop()
    for kind in ("uva", "hbm-first", "managed"):
        points = [(r["host_gib"], statistics.median(r["step_ms"])) for n, r in result["rows"].items() if n.startswith(f"{kind} ")]
        mx, my = (statistics.mean(p[i] for p in points) for i in (0, 1))
        result[f"slope_{kind}_ms_per_gib"] = round(sum((a - mx) * (b - my) for a, b in points) / sum((a - mx) ** 2 for a, _ in points), 3)
    result["slope_ratios"] = {kind: round(result[f"slope_{kind}_ms_per_gib"] / result["slope_uva_ms_per_gib"], 4) for kind in ("hbm-first", "managed")}
    result["off_percent"] = {n: round(100 * max((ms / r["predicted_ms"] - 1 for ms in r["step_ms"]), key=abs), 1) for n, r in result["rows"].items()}
    result["tokens_equal"] = len({r["tokens"] for r in result["rows"].values()}) == 1
    save("overflow", result)
    print(json.dumps({k: v for k, v in result.items() if k not in ("accounts",)}, indent=1))


def starts() -> None:
    """Every placement is started once a round, in an order drawn at random, one engine at a time, so that each has the card to itself.

    The very first start only fills caches. After it come, once each, managed-prefetch and a KV cache that lies on the host by half, for their tokens.
    """
    begin, model, kv, dice = time.time(), make_model(LAYERS, KV_HEADS, INNER), 15 * GIB // 2, random.Random(11)
    placements = {"native": None} | {name: {"placement": name, "hbm": 20 * GIB} for name in ("hbm-first", "managed", "managed-prefetch")}
    placements["half of the cache on the host"] = {"hbm": 31 * GIB // 2, "host": 4 * GIB}
    compared, result = ("native", "hbm-first", "managed"), head() | {"once": [], "rounds": []}
    write_weights(model)

    def start(name: str) -> dict:
        until_empty()
        engine = Engine(f"start {name}", placements[name], model, load_format="auto", kv_cache_memory_bytes=kv)
        row = {"placement": name, "engine_s": engine.wait(), "tokens": engine.step_ms(PROMPTS(16, 128), 65)[1]}
        row["step_ms"] = round(statistics.median(engine.step_ms(PROMPTS(1, 128), 65)[0] for _ in range(7)), 4)
        row |= facts(engine.log())
        row["account"] = engine.ask("account")
        engine.stop()
        return row

    for name in ("native", "managed-prefetch", "half of the cache on the host"):
        result["once"].append(start(name))
        save("starts", result)
    while time.time() - begin < STARTS_S:
        rows = {name: start(name) for name in dice.sample(compared, len(compared))}
        result["rounds"].append({name: rows[name] for name in compared})
        save("starts", result)
    # compare gives native's time over the other's; a start that takes longer is below 1.
    columns = {what: {name: [r[name][what] for r in result["rounds"]] for name in compared} for what in ("weights_s", "load_s", "profile_s", "init_s", "load_and_init_s", "engine_s", "step_ms")}
    result["medians"] = {what: {name: round(statistics.median(values), 4) for name, values in by.items()} for what, by in columns.items()}
    result["against_native"] = {what: {name: compare(by["native"], by[name]) for name in compared[1:]} for what, by in columns.items()}
    every = result["once"] + [row for r in result["rounds"] for row in r.values()]
    result["tokens_equal"] = {name: [sum(r["tokens"] == every[0]["tokens"] for r in every if r["placement"] == name), sum(r["placement"] == name for r in every)] for name in placements}
    save("starts", result)
    print(json.dumps({k: result[k] for k in ("medians", "against_native", "tokens_equal")}, indent=1))


def profile() -> None:
    """Where a decode step's time goes on the GPU, by operation, from PyTorch's profiler: batch 1, context 128."""
    result = head()
    for name in ("native", "hbm-first", "managed"):
        result[name] = profile_of(name, None if name == "native" else {"placement": name, "hbm": 20 * GIB})
        save("profile", result)


def profile_of(name: str, managed: dict | None) -> dict:
    model, tokens, traces = make_model(LAYERS, KV_HEADS, INNER), 65, outdir / f"trace-{name}"
    engine = Engine(f"profile {name}", managed, model, kv_cache_memory_bytes=15 * GIB // 2, profiler_config={
        "profiler": "torch", "torch_profiler_dir": str(traces), "torch_profiler_with_stack": False, "torch_profiler_dump_cuda_time_total": False})
    engine.wait()
    asked = PROMPTS(1, 128)
    steps = sorted(engine.step_ms(asked, tokens)[0] for _ in range(12))
    engine.ask("start_profile")
    engine.ask((asked, tokens))
    engine.ask("stop_profile")
    engine.stop()
    with gzip.open(max(traces.glob("*.json.gz"), key=lambda f: f.stat().st_size)) as file:
        events = [e for e in json.load(file)["traceEvents"] if e.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]
    events.sort(key=lambda e: e["ts"])
    operations, busy, idle, end = {}, 0, 0, events[0]["ts"]
    for event in events:
        key = re.sub(r"<.*|\(.*", "", event["name"].removeprefix("void "))
        count, total = operations.get(key, (0, 0))
        operations[key] = count + 1, total + event["dur"]
        idle += max(0, event["ts"] - end)
        busy += max(0, event["ts"] + event["dur"] - max(end, event["ts"]))
        end = max(end, event["ts"] + event["dur"])
    return {"step_ms": [round(s, 4) for s in steps], "busy_us_a_step": round(busy / tokens, 1), "idle_us_a_step": round(idle / tokens, 1),
            "operations": {k: {"a_step": round(n / tokens, 2), "us_a_step": round(us / tokens, 2)} for k, (n, us) in sorted(operations.items(), key=lambda i: -i[1][1])[:24]}}


def import_vllm() -> None:
    begin = time.time()
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


if __name__ == "__main__":
    import_vllm()
    for phase in sys.argv[3:]:
        begin = time.time()
        try:
            {"warm": warm, "overflow": overflow, "starts": starts, "profile": profile}[phase]()
            print(f"{phase}: {time.time() - begin:.0f} s", flush=True)
        except Exception:
            traceback.print_exc()
            for engine_process in multiprocessing.active_children():
                subprocess.run(["pkill", "-9", "-P", str(engine_process.pid)], check=False)
                engine_process.kill()
            time.sleep(3)
    os._exit(0)
