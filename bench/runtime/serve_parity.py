"""Native, hbm-first and managed `vllm serve`, side by side on one GPU, over HTTP. usage: serve_parity.py OUTDIR LIBRARY

Starts a native server once to fill the compile caches, then three servers one after another, then measures decode steps
interleaved, native twice. Writes OUTDIR/parity.json as it goes. Managed memory: at most 17 GiB.
"""

import json
import math
import statistics
import subprocess
import sys
import time
from pathlib import Path

from serve import GIB, Server, make_model, prompts

outdir, library = Path(sys.argv[1]), sys.argv[2]
ROUNDS, TOKENS = 9, 129
T95 = 2.306  # Student's t, two-sided, nine pairs
ARGUMENTS = ["--max-model-len", "4608", "--kv-cache-memory-bytes", str(9 * GIB)]  # 64 sequences of 4,129 tokens at 32 KiB are 8.1 GiB
SERVERS = {"managed": {"MANAGED_MEM_PLACEMENT": "managed"}, "native": {"MANAGED_MEM_PLACEMENT": "off"}, "hbm-first": {}}


def ratio(base: list[float], other: list[float]) -> dict:
    """Speed against native, from interleaved pairs: mean of the log ratios and its 95 percent interval."""
    logs = [math.log(a / b) for a, b in zip(base, other)]
    mean, half = statistics.mean(logs), T95 * statistics.stdev(logs) / math.sqrt(len(logs))
    return {"speed": round(math.exp(mean), 4), "low": round(math.exp(mean - half), 4), "high": round(math.exp(mean + half), 4), "pairs": len(logs)}


def start(name: str, settings: dict, port: int, limit: float) -> Server:
    told = settings if settings.get("MANAGED_MEM_PLACEMENT") == "off" else {"MANAGED_MEM_LIBRARY": library, "MANAGED_MEM_HOST": "0", **settings}
    return Server(name, port, outdir, told, ARGUMENTS).wait(limit)


def main() -> None:
    outdir.mkdir(parents=True, exist_ok=True)
    make_model()
    warm = start("warm-native", SERVERS["native"], 18100, 500)
    warm.complete(prompts(2, 64), 8)
    warm.stop()
    card = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"], capture_output=True, text=True).stdout.strip()
    result = {"card": card, "date": time.strftime("%Y-%m-%d"), "starts": {}, "points": {}}

    def save() -> None:
        (outdir / "parity.json").write_text(json.dumps(result, indent=1))

    servers = {}
    for port, (name, settings) in enumerate(SERVERS.items(), 18101):
        servers[name] = start(name, settings, port, 300)
        result["starts"][name] = servers[name].facts()
        save()
    order = ["native", "hbm-first", "managed", "native-again"]
    for batch, length in ((1, 128), (16, 128), (64, 128), (1, 4000), (16, 4000), (64, 4000)):
        asked, steps, digests = prompts(batch, length), {n: [] for n in order}, {n: [] for n in order}
        for server in servers.values():
            server.step_ms(asked, 9)
        for i in range(ROUNDS):
            for name in order[i % 4:] + order[:i % 4]:
                ms, digest = servers[name.removesuffix("-again")].step_ms(asked, TOKENS)
                steps[name].append(round(ms, 4))
                digests[name].append(digest)
        result["points"][f"batch {batch}, context {length}"] = {
            "step_ms": {n: round(statistics.median(v), 4) for n, v in steps.items()}, "all": steps,
            "against_native": {n: ratio(steps["native"], steps[n]) for n in order[1:]},
            "tokens": {n: sorted(set(v)) for n, v in digests.items()},
            "tokens_equal": len(set(sum(digests.values(), []))) == 1, "native_equals_itself": len(set(digests["native"] + digests["native-again"])) == 1}
        save()
    result["metrics"] = {n: s.metrics() for n, s in servers.items()}
    result["api_process"] = {n: s.process.pid for n, s in servers.items()}
    save()
    for server in servers.values():
        server.stop()


main()
