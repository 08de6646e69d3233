"""PyTorch on one GPU under one allocator: speed and behaviour. One mode per process.

  torch_level.py MODE LIBRARY [PART ...]     MODE: native | hbm-first | managed | per-request (the source document's design, as a baseline)

hbm-first: weights and cache in memory pools over cudaMalloc segments; managed: everything managed, device-preferred, by the two
redirected slots. At most 36 GiB may be managed at any time. Prints one JSON object. PART: host_calls, speed, captures, ...
"""

import contextlib
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "assets/vllm"))
from managed_mem.library import KV, OTHER, WEIGHTS, load  # noqa: E402
from managed_mem.self_test import grow_while_capturing, pointer_kind  # noqa: E402

mode, path = sys.argv[1], os.path.realpath(sys.argv[2])
GIB, MIB = 1 << 30, 1 << 20
LIMIT = 12 * GIB  # of each kind
out = {"mode": mode, "card": None, "torch": torch.__version__}
library = None
if mode in ("hbm-first", "managed"):
    library = load(path)
    library.place(mode)
    for kind in (WEIGHTS, KV, OTHER):
        library.limit(kind, 0, LIMIT, 0)
if mode == "managed":
    library.redirect()
if mode == "per-request":
    torch.cuda.memory.change_current_allocator(torch.cuda.memory.CUDAPluggableAllocator(path, "naive_malloc", "naive_free"))
device = torch.device("cuda")
out["card"] = torch.cuda.get_device_name()
out["free_gib_at_start"] = round(torch.cuda.mem_get_info()[0] / GIB, 2)
assert out["free_gib_at_start"] * GIB > 2 * 3 * LIMIT, "the bound is half of what the card has free"


def pool(kind: int):
    return library.pool(kind) if library else contextlib.nullcontext()


def microseconds(work, n: int) -> float:
    for _ in range(3):
        work()
    torch.cuda.synchronize()
    begin = time.perf_counter()
    for _ in range(n):
        work()
    torch.cuda.synchronize()
    return (time.perf_counter() - begin) / n * 1e6


def best(work, n: int, rounds: int = 5) -> float:
    return min(microseconds(work, n) for _ in range(rounds))


def host_calls() -> None:
    """What a serving step asks of the host's thread: small copies from and to pinned memory, a launch, a result that is waited for."""
    on_device = torch.zeros(2048, dtype=torch.int32, device=device)
    pinned = torch.zeros(2048, dtype=torch.int32, pin_memory=True)
    event = torch.cuda.Event()

    def round_trip():
        pinned.copy_(on_device, non_blocking=True)
        event.record()
        event.synchronize()

    for name, work in (("copy_to_device", lambda: on_device.copy_(pinned, non_blocking=True)), ("copy_to_host", lambda: pinned.copy_(on_device, non_blocking=True)),
                       ("launch", lambda: on_device.add_(1)), ("round_trip", round_trip)):
        out[f"{name}_us"] = round(best(work, 400), 2)
    # What loading does: from the page cache, not pinned.
    checkpoint = torch.zeros(GIB, dtype=torch.uint8)
    with pool(WEIGHTS):
        loaded = torch.empty(GIB, dtype=torch.uint8, device=device)
    out["load_gbps"] = round(GIB / best(lambda: loaded.copy_(checkpoint), 2) / 1e3, 2)


def speed() -> None:
    for size in (4096, MIB, 64 * MIB, GIB):
        def cycle():
            x = torch.empty(size, dtype=torch.uint8, device=device)
            del x

        out[f"alloc_free_us_{size}"] = round(best(cycle, 200 if size < 64 * MIB else 20), 2)
    with pool(WEIGHTS):
        source = torch.zeros(2 * GIB // 4, device=device)
        target = torch.empty_like(source)
    out["copy_gbps"] = round(2 * 2 * GIB / best(lambda: target.copy_(source), 20) / 1e3, 1)
    out["pointer_of_weights"] = pointer_kind(source)
    del source, target
    torch.manual_seed(0)
    hidden, layers, batch, inner = 4096, 16, 16, 11008

    def normal(*shape):
        return torch.randn(*shape, device=device, dtype=torch.bfloat16)

    with pool(WEIGHTS):
        weights = [(normal(hidden, 3 * hidden) * 0.01, normal(hidden, hidden) * 0.01, normal(hidden, 2 * inner) * 0.01, normal(inner, hidden) * 0.01) for _ in range(layers)]
    with pool(KV):
        keys = [normal(batch, 32, 1024, 128) for _ in range(layers)]
        values = [normal(batch, 32, 1024, 128) for _ in range(layers)]
    start = normal(batch, hidden)
    functional = torch.nn.functional

    def step():
        h = start
        for (qkv, o, up, down), k, v in zip(weights, keys, values):
            q = (functional.rms_norm(h, (hidden,)) @ qkv).chunk(3, -1)[0]
            h = h + functional.scaled_dot_product_attention(q.view(batch, 32, 1, 128), k, v).reshape(batch, hidden) @ o
            a, b = (functional.rms_norm(h, (hidden,)) @ up).chunk(2, -1)
            h = h + (functional.silu(a) * b) @ down
        return h

    with torch.no_grad():
        out["decode_eager_us"] = round(best(step, 30), 1)
        try:
            graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                step()
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                step()
            out["decode_graph_us"] = round(best(graph.replay, 30), 1)
        except RuntimeError as error:
            out["graph_error"] = str(error).splitlines()[0][:160]


def captures() -> None:
    grown, wrong = grow_while_capturing(torch)
    out["capture"] = {"new_segments": grown, "replays": 100, "mismatches": wrong}


def streams() -> None:
    """Producers on side streams, freed at once on the host: reuse before the consumer ran would change the sums."""
    wrong, side = 0, [torch.cuda.Stream() for _ in range(4)]
    for i in range(200):
        held = []
        for stream in side:
            x = torch.full((4 << 20,), float(i), device=device)
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                y = x.add(1)
                total = y.sum(dtype=torch.float64)
            x.record_stream(stream)
            del x
            noise = torch.full((4 << 20,), -1.0, device=device)
            held.append(total)
            del noise, y
        torch.cuda.synchronize()
        wrong += sum(t.item() != (i + 1.0) * (4 << 20) for t in held)
    out["streams"] = {"rounds": 200, "streams": 4, "wrong_sums": wrong}


def compiled() -> None:
    torch._inductor.config.max_autotune_gemm_backends = "ATEN,TRITON"

    @torch.compile(mode="max-autotune-no-cudagraphs")
    def function(x, w, cache):
        cache.add_(1)
        return torch.relu(x @ w).sum(-1)

    x, w = torch.randn(256, 512, device=device), torch.randn(512, 512, device=device)
    cache = torch.zeros(1 << 20, device=device)
    got = function(x, w, cache)
    want = torch.relu(x @ w).sum(-1)
    out["compile_autotune"] = {"close": torch.allclose(got, want, rtol=2e-2, atol=2e-2), "mutated_once": cache[0].item() == 1.0}


def out_of_memory() -> None:
    torch.cuda.empty_cache()
    if library:
        for kind in (WEIGHTS, KV, OTHER):
            row = library.row(kind, 0)
            library.limit(kind, 0, row.hbm + GIB, 0)
    with pool(KV):
        try:
            torch.empty(200 * GIB if not library else 3 * GIB, dtype=torch.uint8, device=device)
            out["out_of_memory"] = "was granted"
        except torch.OutOfMemoryError as error:
            out["out_of_memory"] = f"OutOfMemoryError: {str(error)[:60]}"
    out["usable_afterwards"] = torch.ones(MIB, device=device).sum().item() == MIB
    if library:
        for kind in (WEIGHTS, KV, OTHER):
            library.limit(kind, 0, LIMIT, 0)
    torch.cuda.synchronize()


def gives_back() -> None:
    free = torch.cuda.mem_get_info()[0]
    x = torch.ones(2 * GIB, dtype=torch.uint8, device=device)
    held = torch.cuda.mem_get_info()[0]
    del x
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    out["empty_cache"] = {"taken_gib": round((free - held) / GIB, 2), "returned_gib": round((torch.cuda.mem_get_info()[0] - held) / GIB, 2)}


PARTS = (host_calls, speed, captures, streams, compiled, out_of_memory, gives_back)
begin = time.time()
for part in PARTS:
    if sys.argv[3:] and part.__name__ not in sys.argv[3:] or mode == "per-request" and part not in (host_calls, speed):
        continue
    try:
        part()
    except Exception as error:  # a benchmark reports a failure as its result
        out[part.__name__] = f"FAILED {type(error).__name__}: {str(error)[:200]}"
if library:
    out["ours_mib"] = sum(library.row(k, 0).hbm + library.row(k, 0).host for k in (WEIGHTS, KV, OTHER)) // MIB
out["seconds"] = round(time.time() - begin, 1)
print(json.dumps(out))
