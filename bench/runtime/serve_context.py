"""What the host's memory is good for when the KV cache does not fit, and what is refused, as `vllm serve`.

  serve_context.py OUTDIR LIBRARY [PLACEMENT ...]     default: hbm-first managed

Servers with the same 11.5 GiB of weights: native with 1 GiB of KV cache (requests queue) and with 2 GiB (they fit), and each placement
with 1 GiB in HBM beside 1 GiB on the host. Some that must not come up: a context that native cannot hold, weights and a KV cache over
their budgets. Managed memory: at most 17 GiB. Writes OUTDIR/context.json; the predictions are written before the overflow is measured.
"""

import json
import sys
import time
from pathlib import Path

from serve import GIB, INNER, KV_HEADS, LAYERS, NATIVE, Server, card, make_model, prompts, write_weights
from serve_parity import tokens_of_single_requests

LINK_GBPS, HBM_GBPS = 50.7, 3034  # read rates of the host and of HBM on this card: raw/segments.jsonl
REQUESTS, PROMPT, OUT = 16, 4000, 64
LONG = 40000  # tokens: 1.07 GiB of KV cache
TOKEN = LAYERS * KV_HEADS * 128 * 2 * 2  # bytes of KV cache


def length(tokens: int, kv_gib: int) -> list[str]:
    return ["--max-model-len", str(tokens), "--kv-cache-memory-bytes", str(kv_gib * GIB)]


def refused(server: Server) -> dict:
    while server.process.poll() is None and time.time() - server.began < 240:
        time.sleep(0.2)
    ended, seconds = server.process.poll(), round(time.time() - server.began, 1)
    lines = [line.strip()[:400] for line in server.text().splitlines() if "managed-mem: " in line and "accepted:" in line or "ValueError" in line and "KV" in line]
    server.stop()
    return {"exit_status": ended, "seconds": seconds, "lines": sorted(set(lines))[:3]}


def crowd(server: Server) -> dict:
    """All requests at once, none of them seen before."""
    server.complete(prompts(2, PROMPT, 7), 4)
    first = "vllm:time_to_first_token_seconds_sum"
    before = sum(v for k, v in server.metrics(first).items())
    seconds, _ = server.complete(prompts(REQUESTS, PROMPT, 9), OUT)
    wait = (sum(v for k, v in server.metrics(first).items()) - before) / REQUESTS
    return {"seconds": round(seconds, 2), "tok_s": round(REQUESTS * OUT / seconds, 1), "first_token_s_mean": round(wait, 2), "preemptions": sum(server.metrics("vllm:num_preemptions_total").values())}


def main() -> None:
    outdir, library, placements = Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or ["hbm-first", "managed"]
    outdir.mkdir(parents=True, exist_ok=True)
    model, small = make_model(LAYERS, KV_HEADS, INNER), make_model(4, KV_HEADS, INNER)
    write_weights(model)
    result = card() | {"requests": REQUESTS, "prompt": PROMPT, "out": OUT, "refused": {}, "served": {}, "host_share_of_kv": {}, "metrics": {}}

    def save() -> None:
        (outdir / "context.json").write_text(json.dumps(result, indent=1))

    def told(placement: str, hbm: str, host: str) -> dict[str, str]:
        return {"MANAGED_MEM_LIBRARY": library, "MANAGED_MEM_PLACEMENT": placement, "MANAGED_MEM_HBM": hbm, "MANAGED_MEM_HOST": host}

    made_up = ("--enforce-eager", "--load-format", "dummy")
    doomed = {f"native, 1 GiB KV, a context of {LONG}": Server("context native", 18201, outdir, model, NATIVE, *length(LONG, 1), *made_up)}
    for i, placement in enumerate(placements):
        doomed[f"{placement}, weights of 2.1 GiB, HBM 1 GiB"] = Server(f"refused weights {placement}", 18202 + 2 * i, outdir, small, told(placement, "1GiB", "0"), *length(4608, 1), *made_up)
        doomed[f"{placement}, KV cache of 4 GiB, HBM 4 GiB"] = Server(f"refused kv {placement}", 18203 + 2 * i, outdir, small, told(placement, "4GiB", "0"), *length(4608, 4), *made_up)
    # Native first and alone, so that the others load the kernels that it compiled: two that compile at once can choose different ones.
    servers = {"native": Server("native", 18211, outdir, model, NATIVE, *length(LONG, 2))}
    for name, server in doomed.items():
        result["refused"][name] = refused(server)
        save()
    servers["native"].wait()
    servers["queueing"] = Server("queueing", 18212, outdir, model, NATIVE, *length(4608, 1))
    for i, placement in enumerate(placements, 18213):
        servers[placement] = Server(placement, i, outdir, model, told(placement, "12.6GiB", "1.25GiB"), *length(LONG, 2))
    for server in servers.values():
        server.wait()
    result["servers"] = {n: s.facts() for n, s in servers.items()}
    native = servers["native"]
    for name, server in servers.items():
        result["served"][f"{name}, a crowd"] = crowd(server)
        save()
    for placement in placements:
        placed = {where: sum(v for k, v in servers[placement].metrics("managed_mem_placed_bytes").items() if 'kind="kv"' in k and f'where="{where}"' in k) for where in ("hbm", "host")}
        result["host_share_of_kv"][placement] = share = round(placed["host"] / (placed["hbm"] + placed["host"]), 4)
        for batch in (1, REQUESTS):
            asked, row = prompts(batch, PROMPT, 9), {}
            base = native.step_ms(asked, 33)[0]
            read = batch * (PROMPT + 16) * TOKEN * share
            row["predicted_ms"] = round(base + read * (1 / LINK_GBPS - 1 / HBM_GBPS) / 1e6, 3)
            result["served"][f"{placement}, step of {batch}"] = row
            save()
            for name in ("native", placement):
                row[f"{name}_ms"] = [round(servers[name].step_ms(asked, 33)[0], 3) for _ in range(3)]
            save()
    result["single_requests"] = tokens_of_single_requests(servers, ["native", "native again", *placements])
    print(result["single_requests"], flush=True)
    save()
    for placement in placements:
        seconds, ids = servers[placement].complete(prompts(1, LONG - 100, 3), 16)
        result["served"][f"{placement}, a context of {LONG - 100}"] = {"seconds": round(seconds, 2), "tokens_out": len(ids[0])}
        result["metrics"][placement] = servers[placement].metrics()
        save()
    print(json.dumps({k: result[k] for k in ("refused", "served")}, indent=1))
    for server in servers.values():
        server.stop()


if __name__ == "__main__":
    main()
