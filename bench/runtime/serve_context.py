"""What the host's memory is good for when the KV cache does not fit, and what is refused, as `vllm serve`. usage: serve_context.py OUTDIR LIBRARY

Three servers with the same 11.5 GiB of weights: 1 GiB of KV cache (requests queue), 2 GiB (they fit), and 1 GiB in HBM beside 1 GiB
on the host. Three that must not come up: a context that native cannot hold, weights and a KV cache over their budgets.
Managed memory: at most 2 GiB. Writes OUTDIR/context.json; the predictions are written before the overflow is measured.
"""

import json
import sys
import time
from pathlib import Path

from serve import GIB, Server, card, make_model, prompts, write_weights
from serve_parity import INNER, KV_HEADS, LAYERS, NATIVE, tokens_of_single_requests

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
    outdir, library = Path(sys.argv[1]), sys.argv[2]
    outdir.mkdir(parents=True, exist_ok=True)
    model, small = make_model(LAYERS, KV_HEADS, INNER), make_model(4, KV_HEADS, INNER)
    write_weights(model)
    result = card() | {"requests": REQUESTS, "prompt": PROMPT, "out": OUT, "refused": {}, "served": {}}

    def save() -> None:
        (outdir / "context.json").write_text(json.dumps(result, indent=1))

    def told(hbm: str, host: str) -> dict[str, str]:
        return {"MANAGED_MEM_LIBRARY": library, "MANAGED_MEM_HBM": hbm, "MANAGED_MEM_HOST": host}

    eager, made_up = "--enforce-eager", ("--load-format", "dummy")
    servers = {
        "1 GiB KV, native": Server("kv native 1", 18201, outdir, model, NATIVE, *length(4608, 1)),
        "2 GiB KV, native": Server("kv native 2", 18202, outdir, model, NATIVE, *length(LONG, 2)),
        "1 GiB KV in HBM + 1 GiB on the host": Server("kv host", 18203, outdir, model, told("12.6GiB", "1.25GiB"), *length(LONG, 2)),
    }
    doomed = {
        f"native, 1 GiB KV, a context of {LONG}": Server("context native", 18204, outdir, model, NATIVE, *length(LONG, 1), eager, *made_up),
        "weights of 2.1 GiB, HBM 1 GiB": Server("refused weights", 18205, outdir, small, told("1GiB", "0"), *length(4608, 1), eager, *made_up),
        "KV cache of 4 GiB, HBM 4 GiB": Server("refused kv", 18206, outdir, small, told("4GiB", "0"), *length(4608, 4), eager, *made_up),
    }
    for name, server in doomed.items():
        result["refused"][name] = refused(server)
        save()
    for server in servers.values():
        server.wait()
    result["servers"] = {n: s.facts() for n, s in servers.items()}
    for name, server in servers.items():
        result["served"][name] = crowd(server)
        save()
    native, host = servers["2 GiB KV, native"], servers["1 GiB KV in HBM + 1 GiB on the host"]
    placed = {where: sum(v for k, v in host.metrics("managed_mem_placed_bytes").items() if 'kind="kv"' in k and f'where="{where}"' in k) for where in ("hbm", "host")}
    share = placed["host"] / (placed["hbm"] + placed["host"])
    result["host_share_of_kv"] = round(share, 4)
    for batch in (1, REQUESTS):
        asked, row = prompts(batch, PROMPT, 9), {}
        base = native.step_ms(asked, 33)[0]
        read = batch * (PROMPT + 16) * TOKEN * share
        row["predicted_ms"] = round(base + read * (1 / LINK_GBPS - 1 / HBM_GBPS) / 1e6, 3)
        result["served"][f"step of {batch}"] = row
        save()
        native_steps = [native.step_ms(asked, 33)[0] for _ in range(3)]
        host_steps = [host.step_ms(asked, 33)[0] for _ in range(3)]
        row |= {"native_ms": [round(s, 3) for s in native_steps], "measured_ms": [round(s, 3) for s in host_steps]}
        save()
    result["single_requests"] = tokens_of_single_requests({"native": native, "native again": native, "host": host}, ["native", "native again", "host"])
    seconds, ids = host.complete(prompts(1, LONG - 100, 3), 16)
    result["served"][f"a context of {LONG - 100}"] = {"seconds": round(seconds, 2), "tokens_out": len(ids[0])}
    result["metrics"] = host.metrics()
    save()
    print(json.dumps({k: result[k] for k in ("refused", "served")}, indent=1))
    for server in servers.values():
        server.stop()


if __name__ == "__main__":
    main()
