"""Real vLLM, as `vllm serve` with the engine in its own process. usage: vllm_bench.py warm|parity|overflow|context OUTDIR LIBRARY

  warm      starts a native server once, so that the compile caches are filled
  parity    decode steps of native, hbm-first and managed, interleaved, with native measured twice; tokens; start-up times; counters
  overflow  weights on the host against --cpu-offload-gb: ms per step over 0.5, 1, 2 and 4 GiB, predicted beforehand
  context   KV cache on the host against queueing; a context that native refuses; budgets that are too small
"""

import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from serve import GIB, Server, make_model, prompts

what, logs, library = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
logs.mkdir(parents=True, exist_ok=True)
make_model()
ports = itertools.count(18100)
KV = 9 * GIB  # 64 sequences of 4,000 + 257 tokens at 32 KiB a token are 8.3 GiB
ROUNDS = 8
T95 = {5: 2.776, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262, 11: 2.228}  # Student's t, two-sided, by number of pairs


def server(name: str, settings: dict | None, *arguments: str) -> Server:
    told = {"MANAGED_MEM_PLACEMENT": "off"} if settings is None else {"MANAGED_MEM_LIBRARY": library, "MANAGED_MEM_HOST": "0", **settings}
    return Server(name, next(ports), logs, told, list(arguments))


def card() -> str:
    return subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total,memory.used", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()


def save(result: dict) -> None:
    (logs / f"{what}.json").write_text(json.dumps(result, indent=1))


def ratio(base: list[float], other: list[float]) -> dict:
    """Speed against native, from interleaved pairs: mean of the log ratios and its 95 percent interval."""
    logs_ = [math.log(a / b) for a, b in zip(base, other)]
    mean, half = statistics.mean(logs_), T95[len(logs_)] * statistics.stdev(logs_) / math.sqrt(len(logs_))
    return {"speed": round(math.exp(mean), 4), "low": round(math.exp(mean - half), 4), "high": round(math.exp(mean + half), 4), "pairs": len(logs_)}


PARITY = {"managed": {"MANAGED_MEM_PLACEMENT": "managed"}, "native": None, "hbm-first": {}}
PARITY_ARGUMENTS = ("--max-model-len", "4608", "--kv-cache-memory-bytes", str(KV))


def warm() -> None:
    times = {}
    for name in ("native",):
        s = server(f"warm-{name}", PARITY[name], *PARITY_ARGUMENTS).wait(500)
        times[name] = s.facts()
        s.complete(prompts(2, 64), 8)
        s.stop()
        save({"card": card(), "times": times})


def parity() -> None:
    result = {"card": card(), "date": time.strftime("%Y-%m-%d"), "starts": {}, "points": {}}
    servers = {}
    for name, settings in PARITY.items():
        servers[name] = server(name, settings, *PARITY_ARGUMENTS)
    for name in PARITY:
        result["starts"][name] = servers[name].wait(300).facts()
    order = ["native", "hbm-first", "managed", "native-again"]
    for batch, length in ((1, 128), (16, 128), (64, 128), (1, 4000), (16, 4000), (64, 4000)):
        asked, steps, digests = prompts(batch, length), {n: [] for n in order}, {n: [] for n in order}
        for name in PARITY:
            servers[name].step_ms(asked, 9)
        for i in range(ROUNDS):
            for name in order[i % 4:] + order[:i % 4]:
                ms, digest = servers[name.removesuffix("-again")].step_ms(asked, 257)
                steps[name].append(round(ms, 4))
                digests[name].append(digest)
        result["points"][f"batch {batch}, context {length}"] = {
            "step_ms": {n: round(statistics.median(v), 4) for n, v in steps.items()}, "all": steps,
            "against_native": {n: ratio(steps["native"], steps[n]) for n in order[1:]},
            "tokens": {n: sorted(set(v)) for n, v in digests.items()},
            "tokens_equal": len(set(sum(digests.values(), []))) == 1, "native_equals_itself": len(set(digests["native"] + digests["native-again"])) == 1}
        save(result)
    result["metrics"] = {n: servers[n].metrics() for n in PARITY}
    result["api_process"] = {n: servers[n].process.pid for n in PARITY}
    result["after"] = {n: servers[n].facts() for n in PARITY}
    save(result)
    for s in servers.values():
        s.stop()


def overflow() -> None:
    link = float(os.environ["LINK_GBPS"]) * 1e9  # the host's read rate, as segments.py measured it on this card
    hbm = float(os.environ["HBM_GBPS"]) * 1e9
    kv, weights = GIB // 2, float(os.environ["WEIGHTS_GIB"])
    arguments = ("--max-model-len", "2048", "--max-num-batched-tokens", "2048", "--gpu-memory-utilization", "0.1", "--kv-cache-memory-bytes", str(kv))
    result = {"card": card(), "link_gbps": link / 1e9, "rows": {}}
    asked = prompts(16, 128)
    for group in ((0, 0.5, 1, 2, 4),):
        servers = {}
        for gib in group:
            if gib == 0:
                servers["native"] = server("overflow-native", None, *arguments)
                continue
            servers[f"uva {gib}"] = server(f"uva-{gib}", None, *arguments, "--cpu-offload-gb", str(gib))
            share = int((weights - gib) * GIB)
            servers[f"host {gib}"] = server(f"host-{gib}", {"MANAGED_MEM_HBM": str(share + kv + (64 << 20)), "MANAGED_MEM_KV_HBM": str(kv + (64 << 20)),
                                                            "MANAGED_MEM_HOST": str(int((gib + 0.5) * GIB))}, *arguments)
        for s in servers.values():
            s.wait(300)
        tokens = {n: 33 if n != "native" else 129 for n in servers}
        native = statistics.median(servers["native"].step_ms(asked, 129)[0] for _ in range(3))
        rows = {}
        for name, s in servers.items():
            placed = sum(v for k, v in s.metrics().items() if k.startswith("managed_mem_placed_bytes") and 'where="host"' in k) if name.startswith("host") else (s.facts()["uva_gib"] or 0) * 1e9
            rows[name] = {"host_gib": round(placed / GIB, 3), "predicted_ms": round(native + placed * (1 / link - 1 / hbm) * 1e3, 2), "step_ms": [], "tokens": set()}
            s.step_ms(asked, 3)
        for _ in range(3):
            for name, s in servers.items():
                ms, digest = s.step_ms(asked, tokens[name])
                rows[name]["step_ms"].append(round(ms, 3))
        for name, s in servers.items():
            rows[name]["tokens"] = s.step_ms(asked, 33)[1]
            key = name if name not in result["rows"] else f"{name} (second group)"
            result["rows"][key] = rows[name] | {"facts": s.facts()}
            s.stop()
        save(result)
    for kind in ("uva", "host"):
        points = [(r["host_gib"], statistics.median(r["step_ms"])) for n, r in result["rows"].items() if n.startswith(kind)]
        x, y = zip(*points)
        mx, my = statistics.mean(x), statistics.mean(y)
        result[f"slope_{kind}_ms_per_gib"] = round(sum((a - mx) * (b - my) for a, b in points) / sum((a - mx) ** 2 for a in x), 3)
    result["slope_ratio"] = round(result["slope_host_ms_per_gib"] / result["slope_uva_ms_per_gib"], 4)
    result["tokens_equal"] = len({r["tokens"] for r in result["rows"].values()}) == 1
    save(result)


def context() -> None:
    result = {"card": card(), "runs": {}, "refusals": {}}
    weights = float(os.environ["WEIGHTS_GIB"])
    share = str(int((weights + 1.1) * GIB))
    long = ("--max-model-len", "40000", "--max-num-batched-tokens", "8192")
    short = ("--max-model-len", "4608")
    servers = {
        "native, 1 GiB KV": server("kv-native-1", None, *short, "--kv-cache-memory-bytes", str(GIB)),
        "native, 2 GiB KV": server("kv-native-2", None, *short, "--kv-cache-memory-bytes", str(2 * GIB)),
        "1 GiB KV in HBM, 1 GiB on the host": server("kv-host-2", {"MANAGED_MEM_HBM": share, "MANAGED_MEM_HOST": str(int(1.2 * GIB))}, *long, "--kv-cache-memory-bytes", str(2 * GIB)),
    }
    doomed = {
        "native, 1 GiB KV, context of 40,000": server("ctx-native", None, *long, "--kv-cache-memory-bytes", str(GIB)),
        "weights over the budget": server("small-weights", {"MANAGED_MEM_HBM": str(2 * GIB)}, *short, "--kv-cache-memory-bytes", str(GIB)),
        "KV cache over the budget": server("small-kv", {"MANAGED_MEM_HBM": share}, *short, "--kv-cache-memory-bytes", str(4 * GIB)),
    }
    for name, s in servers.items():
        s.wait(300)
    for name, s in servers.items():
        s.complete(prompts(2, 4000, 7), 4)
        seconds, ids = s.complete(prompts(16, 4000, 9), 64)
        result["runs"][name] = {"requests": 16, "prompt": 4000, "out": 64, "seconds": round(seconds, 2), "tok_s": round(16 * 64 / seconds, 1), "facts": s.facts(),
                                "one_request_step_ms": round(s.step_ms(prompts(1, 4000, 9), 65)[0], 3)}
        save(result)
    s = servers["1 GiB KV in HBM, 1 GiB on the host"]
    seconds, ids = s.complete(prompts(1, 36000, 3), 16)
    result["runs"]["context of 36,000 tokens, KV on the host"] = {"seconds": round(seconds, 2), "tokens": ids[0], "metrics": s.metrics()}
    save(result)
    for name, s in doomed.items():
        try:
            s.process.wait(120)
        except subprocess.TimeoutExpired:
            pass
        lines = [line for line in s.text().splitlines() if "managed-mem:" in line or "ValueError" in line or "larger than" in line]
        result["refusals"][name] = {"exit_status": s.process.poll(), "seconds": round(time.time() - s.began, 1), "lines": lines[-4:]}
        s.stop()
    for s in servers.values():
        s.stop()
    save(result)


{"warm": warm, "parity": parity, "overflow": overflow, "context": context}[what]()
print(f"{what} done", card())
