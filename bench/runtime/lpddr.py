"""What the host's memory costs and gives as `vllm serve`: blocks beyond the HBM, and vLLM's own tier for prefixes under one budget.

  lpddr.py OUTDIR LIBRARY [--seconds N]

Five servers of one model (5.8 GiB of weights, 64 KiB of KV cache a token) on one card: native with 3 GiB of cache, native with 12 (what a larger HBM would
give), native with 3 and `--kv-offloading-size 9`, and through the launcher 3 GiB of HBM with 9 on the host, as «contexts» (more blocks) and as «prefixes» (a tier).
  fits       requests that 3 GiB hold: decode steps of each, native against itself beside them
  returning  16 users with a prefix of 8,192 tokens each, who come back in each of three rounds, four at a time
  context    one context that 3 GiB cannot hold: refused by native, served by «contexts»
  crowd      more requests at once than 3 GiB hold
Managed memory: 12 GiB of cache for «contexts». Writes OUTDIR/lpddr.json.
"""

import argparse
import json
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from pairs import compare
from serve import GIB, NATIVE, Server, card, interleaved, make_model, prompts, write_weights
from serve_context import refused

LAYERS, KV_HEADS, INNER = 16, 8, 11008
SHAPES = ((1, 128), (1, 4000), (4, 4000), (8, 4000))  # 8 of 4,000 tokens are 2 GiB
USERS, PREFIX, AT_ONCE, ROUNDS, OUT = 16, 8192, 4, 3, 64
LONG = 60_000  # tokens: 3.7 GiB
WINDOW = 33
HBM, HOST = 3, 9  # GiB of cache
WEIGHTS_GIB = 5.95  # what the model's weights took, with the roundings of the cache's tensors


def fits(servers: dict[str, Server], seconds: float, dice: random.Random) -> dict:
    result, columns = {}, ["native", "native again", "native with a tier", "contexts", "prefixes"]
    for batch, context in SHAPES:
        found = interleaved(servers, columns, prompts(batch, context), WINDOW, seconds, dice)
        steps = found["step_ms"]
        result[f"{batch} x {context}"] = {
            "against_native": {n: compare(steps["native"][1:], steps[n][1:]) for n in columns[1:]},
            "sequences_equal_to_native": {n: [sum(e), len(e)] for n, e in found["equal"].items()}, "step_ms": steps}
    return result


def first_tokens(server: Server) -> tuple[float, float]:
    found = server.metrics("vllm:time_to_first_token_seconds_")
    return tuple(sum(v for k, v in found.items() if k.startswith(f"vllm:time_to_first_token_seconds_{end}")) for end in ("sum", "count"))


def returning(server: Server) -> list[dict]:
    rounds = []
    for turn in range(ROUNDS):
        asked = [[(user * 7919 + i * 13) % 31_000 + 5 for i in range(PREFIX)] + [turn + 7] * 8 for user in range(USERS)]
        seconds_before, count_before = first_tokens(server)
        begin = time.perf_counter()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(lambda prompt: server.complete([prompt], OUT), asked))
        wall = time.perf_counter() - begin
        time.sleep(0.5)  # the last request's figures are written after its answer is sent
        seconds, count = first_tokens(server)
        rounds.append({"tok_s": round(USERS * OUT / wall, 1), "first_token_s": round((seconds - seconds_before) / max(1, count - count_before), 3)})
    return rounds


def crowd(server: Server) -> dict:
    asked = prompts(24, 4000, 41)  # 6 GiB
    seconds, _ = server.complete(asked, 256)
    return {"tok_s": round(24 * 256 / seconds, 1), "preemptions": sum(server.metrics("vllm:num_preemptions_total").values())}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("library", help="managed_alloc.so")
    parser.add_argument("--seconds", type=float, default=8, help="of measuring per shape; default 8")
    told = parser.parse_args()
    told.outdir.mkdir(parents=True, exist_ok=True)
    model = make_model(LAYERS, KV_HEADS, INNER)
    write_weights(model)
    result = card() | {"model": f"{LAYERS} layers, {KV_HEADS} KV heads, inner {INNER}", "hbm_gib": HBM, "host_gib": HOST}

    def save() -> None:
        (told.outdir / "lpddr.json").write_text(json.dumps(result, indent=1))

    def cache(gib: float, tokens: int) -> tuple[str, ...]:
        return "--kv-cache-memory-bytes", str(int(gib * GIB)), "--max-model-len", str(tokens)

    ours = {"MANAGED_MEM_LIBRARY": told.library, "MANAGED_MEM_HBM": f"{WEIGHTS_GIB + HBM}GiB", "MANAGED_MEM_HOST": f"{HOST}GiB"}
    tier = ("--kv-offloading-size", str(HOST))
    port = iter(range(18301, 18400))
    servers = {"native": Server("native", next(port), told.outdir, model, NATIVE, *cache(HBM, 9000), cores=range(12)).wait()}  # alone: it compiles for the others
    servers |= {
        "native, 12 GiB": Server("ideal", next(port), told.outdir, model, NATIVE, *cache(HBM + HOST, 65000), cores=range(12)),
        "native with a tier": Server("tier", next(port), told.outdir, model, NATIVE, *cache(HBM, 9000), *tier, cores=range(12)),
        "contexts": Server("contexts", next(port), told.outdir, model, ours, *cache(HBM + HOST, 65000), cores=range(12)),
        "prefixes": Server("prefixes", next(port), told.outdir, model, ours | {"MANAGED_MEM_PREFIXES": f"{HOST}GiB"}, *cache(HBM, 9000), cores=range(12)),
    }
    doomed = Server("refused", next(port), told.outdir, model, NATIVE, *cache(HBM, 65000), cores=range(12))
    for name, server in servers.items():
        server.wait()
        print(f"{name}: up after {server.started_s} s", flush=True)
    result["context"] = {"native": refused(doomed)}
    result["servers"] = {n: s.facts() for n, s in servers.items()}
    result["split"] = {n: [line for line in servers[n].text().splitlines() if "KV cache blocks" in line or "for prefixes" in line] for n in ("contexts", "prefixes")}
    save()
    result["fits"] = fits(servers, told.seconds, random.Random(1))
    save()
    result["returning"] = {}
    for name in ("native", "native with a tier", "prefixes", "contexts", "native, 12 GiB"):
        result["returning"][name] = returning(servers[name])
        save()
    result["crowd"] = {n: crowd(servers[n]) for n in ("native", "contexts", "native, 12 GiB")}
    save()
    long = prompts(1, LONG, 3)
    made = {}
    for name in ("native, 12 GiB", "contexts"):
        seconds, made[name] = servers[name].complete(long, 24)
        steps = [round(servers[name].step_ms(long, 17)[0], 3) for _ in range(3)]
        result["context"][name] = {"tokens": LONG, "seconds": round(seconds, 2), "step_ms": steps}
    result["context"]["tokens_equal"] = made["contexts"] == made["native, 12 GiB"]
    result["context"]["metrics"] = servers["contexts"].metrics()
    save()
    result["after_the_context"] = {n: [round(servers[n].step_ms(prompts(4, 4000), WINDOW)[0], 3) for _ in range(5)] for n in ("native", "contexts")}
    save()
    print(json.dumps({k: v for k, v in result.items() if k not in ("servers", "fits")} | {"fits": {k: v["against_native"] for k, v in result["fits"].items()}}, indent=1))
    for server in servers.values():
        server.stop()


if __name__ == "__main__":
    sys.exit(main())
