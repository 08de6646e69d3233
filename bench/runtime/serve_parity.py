"""Native, hbm-first and managed `vllm serve` beside one another on one GPU: decode steps, tokens, counters.

  serve_parity.py OUTDIR LIBRARY [SECONDS]     SECONDS of measuring per point, default 60

Three servers stand on the same processor cores, the client on others; one of them works at a time. How they are compared is written
in pairs.py. While they start, the first 10 GiB of the card are held by another process, so that none of them lies at its beginning:
without that the first to start, managed, was 3 percent behind, with it 1.5 (RESULTS.md). Managed memory: at most 21 GiB. Writes OUTDIR/parity.json.
"""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

from pairs import compare
from serve import GIB, Server, card, make_model, prompts, write_weights

# 28 layers, so that a step is the GPU's work and not the host's: 11.5 GiB of weights are read at every step.
LAYERS, KV_HEADS, INNER = 28, 2, 14336
# 64 sequences of 4,000 + 97 tokens at 28 KiB a token are 7.0 GiB.
KV = ["--max-model-len", "4608", "--kv-cache-memory-bytes", str(15 * GIB // 2)]
POINTS = [(1, 128, 33), (16, 128, 33), (64, 128, 49), (1, 4000, 33), (16, 4000, 33), (64, 4000, 49)]  # batch, context, tokens of a window
COLUMNS = ["native", "native again", "hbm-first", "managed"]
NATIVE = {"MANAGED_MEM_PLACEMENT": "off"}


def managed(library: str, placement: str) -> dict[str, str]:
    return {"MANAGED_MEM_LIBRARY": library, "MANAGED_MEM_PLACEMENT": placement, "MANAGED_MEM_HBM": "20GiB", "MANAGED_MEM_HOST": "0"}


def measure(servers: dict[str, Server], batch: int, context: int, tokens: int, seconds: float, dice: random.Random) -> dict:
    asked, steps, walls, equal = prompts(batch, context), {n: [] for n in COLUMNS}, {n: [] for n in COLUMNS}, {n: [] for n in COLUMNS}
    for server in servers.values():
        server.step_ms(asked, 9)  # the prompts are in the prefix cache from here on
    reference = servers["native"].complete(asked, tokens)[1]
    until = time.time() + seconds
    while time.time() < until or len(steps["native"]) < 9:
        for name in dice.sample(COLUMNS, len(COLUMNS)):
            step, wall, ids = servers[name.removesuffix(" again")].step_ms(asked, tokens)
            steps[name].append(round(step, 5))
            walls[name].append(round(wall, 5))
            equal[name] += [a == b for a, b in zip(ids, reference, strict=True)]
    return {"against_native": {n: compare(steps["native"][1:], steps[n][1:]) for n in COLUMNS[1:]}, "by_the_clients_clock": {n: compare(walls["native"][1:], walls[n][1:]) for n in COLUMNS[1:]},
            # Requests join a batch in an order that HTTP decides, which changes the kernels' rounding: native against itself is the measure here.
            "sequences_equal_to_native": {n: [sum(e), len(e)] for n, e in equal.items()}, "step_ms": steps, "wall_ms": walls}


def tokens_of_single_requests(servers: dict[str, Server], columns: list[str]) -> dict:
    """One request at a time and none from the prefix cache, so that nothing but the server can change the tokens."""
    asked = [prompts(1, length, salt) for length, salt in ((16, 1), (128, 2), (500, 3), (1000, 4), (2000, 5), (4000, 6))]
    made = {name: [servers[name.removesuffix(" again")].complete(a, 97, f"{name} {i}")[1] for i, a in enumerate(asked)] for name in columns}
    return {"sequences": len(asked), "tokens_each": 97, "equal_to_native": {n: sum(a == b for a, b in zip(m, made["native"], strict=True)) for n, m in made.items()},
            "different_tokens": len({t for m in made["native"] for t in m[0]})}


def main() -> None:
    outdir, library, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3]) if sys.argv[3:] else 60
    outdir.mkdir(parents=True, exist_ok=True)
    model = make_model(LAYERS, KV_HEADS, INNER)
    write_weights(model)
    result = card() | {"model": f"{LAYERS} layers, {KV_HEADS} KV heads, inner {INNER}", "seconds_a_point": seconds, "points": {}}

    def save() -> None:
        (outdir / "parity.json").write_text(json.dumps(result, indent=1))

    holder = subprocess.Popen([sys.executable, "-c", "import time, torch; held = torch.ones(10 << 30, dtype=torch.uint8, device='cuda'); print(1, flush=True); time.sleep(600)"], stdout=subprocess.PIPE)
    holder.stdout.readline()
    settings = {"native": NATIVE, "managed": managed(library, "managed"), "hbm-first": managed(library, "hbm-first")}
    servers = {}
    for port, name in enumerate(settings, 18101):
        servers[name] = Server(name, port, outdir, model, settings[name], *KV, cores=range(12))
        time.sleep(12)  # one after another, so that half of the card is free when managed takes its 21 GiB
    for server in servers.values():
        server.wait()
    holder.kill()
    result["servers"] = {n: s.facts() | {"launched_as": s.process.pid} for n, s in servers.items()}
    save()
    result["single_requests"] = tokens_of_single_requests(servers, COLUMNS)
    print(result["single_requests"], flush=True)
    dice = random.Random(11)
    for point in POINTS:
        result["points"][f"batch {point[0]}, context {point[1]}"] = measured = measure(servers, *point, seconds, dice)
        save()
        print(point, {n: (c["speed"], c["low"], c["high"], c["pairs"]) for n, c in measured["against_native"].items()}, measured["sequences_equal_to_native"], flush=True)
    result["metrics"] = {n: s.metrics() for n, s in servers.items()}
    save()
    for server in servers.values():
        server.stop()


if __name__ == "__main__":
    main()
