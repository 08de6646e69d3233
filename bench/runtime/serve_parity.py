"""Native and placements as `vllm serve` beside one another on one GPU: decode steps, tokens, counters. Writes OUTDIR/parity.json.

The servers stand on the same processor cores, the client on others; one of them works at a time. How they are compared is written in pairs.py.
They start one after another while another process holds the first 10 GiB of the card, so that none of them lies at its beginning. --together
starts them at once on an empty card: that costs managed one or two percent more (RESULTS.md). Managed memory: 13.5 GiB and the cache for every
placement but hbm-first, which must stay below half of what the card has free.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

from pairs import compare
from serve import GIB, INNER, KV_HEADS, LAYERS, NATIVE, Server, card, interleaved, make_model, prompts, write_weights

# 64 sequences of 4,000 + 97 tokens at 28 KiB a token are 7.0 GiB.
KV_GIB, BESIDE_KV_GIB = 7.5, 12.5
BATCHES, CONTEXTS = (1, 16, 64), (128, 4000)
WINDOW = 33  # tokens: 0.17 to 0.3 s


def measure(servers: dict[str, Server], columns: list[str], batch: int, context: int, seconds: float, dice: random.Random) -> dict:
    found = interleaved(servers, columns, prompts(batch, context), WINDOW, seconds, dice)
    steps, walls, equal = found["step_ms"], found["wall_ms"], found["equal"]
    return {"against_native": {n: compare(steps["native"][1:], steps[n][1:]) for n in columns[1:]}, "by_the_clients_clock": {n: compare(walls["native"][1:], walls[n][1:]) for n in columns[1:]},
            # Requests join a batch in an order that HTTP decides, which changes the kernels' rounding: native against itself is the measure here.
            "sequences_equal_to_native": {n: [sum(e), len(e)] for n, e in equal.items()}, "step_ms": steps, "wall_ms": walls}


def tokens_of_single_requests(servers: dict[str, Server], columns: list[str]) -> dict:
    """One request at a time and none from the prefix cache, so that nothing but the server can change the tokens."""
    asked = [prompts(1, length, salt) for length, salt in ((16, 1), (128, 2), (500, 3), (1000, 4), (2000, 5), (4000, 6))]
    made = {name: [servers[name.removesuffix(" again")].complete(a, 97, f"{name} {i}")[1] for i, a in enumerate(asked)] for name in columns}
    return {"sequences": len(asked), "tokens_each": 97, "equal_to_native": {n: sum(a == b for a, b in zip(m, made["native"], strict=True)) for n, m in made.items()},
            "different_tokens": len({t for m in made["native"] for t in m[0]})}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("library", help="managed_alloc.so")
    parser.add_argument("--seconds", type=float, default=60, help="of measuring per point, twice that at 4,000 tokens of context; default 60")
    parser.add_argument("--batches", type=int, nargs="+", default=BATCHES)
    parser.add_argument("--contexts", type=int, nargs="+", default=CONTEXTS, help="tokens")
    parser.add_argument("--placements", nargs="+", default=["managed", "hbm-first"])
    parser.add_argument("--kv-gib", type=float, default=KV_GIB, help="KV cache of each server; default 7.5")
    parser.add_argument("--together", action="store_true", help="start all servers at once on an empty card")
    told = parser.parse_args()
    told.outdir.mkdir(parents=True, exist_ok=True)
    model = make_model(LAYERS, KV_HEADS, INNER)
    write_weights(model)
    result = card() | {"model": f"{LAYERS} layers, {KV_HEADS} KV heads, inner {INNER}", "arguments": sys.argv[3:], "points": {}}

    def save() -> None:
        (told.outdir / "parity.json").write_text(json.dumps(result, indent=1))

    cache = ["--max-model-len", "4608", "--kv-cache-memory-bytes", str(int(told.kv_gib * GIB))]
    settings = {"native": NATIVE} | {p: {"MANAGED_MEM_LIBRARY": told.library, "MANAGED_MEM_PLACEMENT": p, "MANAGED_MEM_HBM": f"{told.kv_gib + BESIDE_KV_GIB}GiB", "MANAGED_MEM_HOST": "0"}
                                     for p in told.placements}
    holder = None if told.together else hold_the_beginning()
    servers = {}
    for port, name in enumerate(settings, 18101):
        servers[name] = Server(name, port, told.outdir, model, settings[name], *cache, cores=range(12))
        if holder:
            time.sleep(12)  # one after another, so that half of the card is free when managed takes its share
    for server in servers.values():
        server.wait()
    if holder:
        holder.kill()
    result["servers"] = {n: s.facts() | {"launched_as": s.process.pid} for n, s in servers.items()}
    save()
    columns = ["native", "native again", *told.placements]
    result["single_requests"] = tokens_of_single_requests(servers, columns)
    print(result["single_requests"], flush=True)
    dice = random.Random(11)
    for context in told.contexts:
        for batch in told.batches:
            measured = measure(servers, columns, batch, context, told.seconds * (2 if context == 4000 else 1), dice)
            result["points"][f"batch {batch}, context {context}"] = measured
            save()
            print(batch, context, {n: (c["speed"], c["low"], c["high"], c["pairs"], c["between_stops"]) for n, c in measured["against_native"].items()},
                  measured["sequences_equal_to_native"], flush=True)
    result["metrics"] = {n: s.metrics() for n, s in servers.items()}
    save()
    for server in servers.values():
        server.stop()


def hold_the_beginning() -> subprocess.Popen:
    program = "import time, torch; held = torch.ones(10 << 30, dtype=torch.uint8, device='cuda'); print(1, flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    holder.stdout.readline()
    return holder


if __name__ == "__main__":
    main()
