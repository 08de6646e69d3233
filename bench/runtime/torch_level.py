"""PyTorch on one GPU under one allocator: speed and behaviour. One mode per process.

  torch_level.py MODE LIBRARY     MODE: native | hbm-first | managed | per-request (the source document's design, as a baseline)

hbm-first: weights and cache in memory pools over cudaMalloc segments; managed: everything managed, device-preferred, by the two
redirected slots. At most 12 GiB are managed at any time. Prints one JSON object.
"""

import contextlib
import ctypes
import json
import os
import sys
import time
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "assets/vllm"))
from managed_mem.library import KV, OTHER, WEIGHTS, load  # noqa: E402

mode, path = sys.argv[1], os.path.realpath(sys.argv[2])
GIB, MIB = 1 << 30, 1 << 20
out = {"mode": mode, "card": None, "torch": torch.__version__}
library = None
if mode in ("hbm-first", "managed"):
    library = load(path)
    library.place(mode)
    for kind in (WEIGHTS, KV, OTHER):
        library.limit(kind, 0, 12 * GIB, 0)
if mode == "managed":
    library.redirect()
if mode == "per-request":
    torch.cuda.memory.change_current_allocator(torch.cuda.memory.CUDAPluggableAllocator(path, "naive_malloc", "naive_free"))
device = torch.device("cuda")
out["card"] = torch.cuda.get_device_name()
out["free_gib_at_start"] = round(torch.cuda.mem_get_info()[0] / GIB, 2)
assert out["free_gib_at_start"] > 26, "the bound is half of what the card has free"
allocators = []


@contextlib.contextmanager
def pool(entry: str):
    if mode not in ("hbm-first", "managed"):
        yield
        return
    allocators.append(torch.cuda.memory.CUDAPluggableAllocator(path, entry, "ma_free"))
    made = torch.cuda.MemPool(allocators[-1].allocator())
    with torch.cuda.use_mem_pool(made):
        yield


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


def pointer_kind(tensor) -> str:
    class Attributes(ctypes.Structure):
        _fields_ = [("type", ctypes.c_int), ("device", ctypes.c_int), ("rest", ctypes.c_void_p * 10)]

    attributes = Attributes()
    ctypes.CDLL("libcudart.so.13").cudaPointerGetAttributes(ctypes.byref(attributes), ctypes.c_void_p(tensor.data_ptr()))
    return {2: "device", 3: "managed"}.get(attributes.type, str(attributes.type))


def speed() -> None:
    for size in (4096, MIB, 64 * MIB, GIB):
        def cycle():
            x = torch.empty(size, dtype=torch.uint8, device=device)
            del x

        out[f"alloc_free_us_{size}"] = round(microseconds(cycle, 200 if size < 64 * MIB else 20), 2)
    with pool("ma_weights_malloc"):
        source = torch.zeros(2 * GIB // 4, device=device)
        target = torch.empty_like(source)
    out["copy_gbps"] = round(2 * 2 * GIB / best(lambda: target.copy_(source), 20) / 1e3, 1)
    out["pointer_of_weights"] = pointer_kind(source)
    del source, target
    torch.manual_seed(0)
    hidden, layers, batch, inner = 4096, 16, 16, 11008

    def normal(*shape):
        return torch.randn(*shape, device=device, dtype=torch.bfloat16)

    with pool("ma_weights_malloc"):
        weights = [(normal(hidden, 3 * hidden) * 0.01, normal(hidden, hidden) * 0.01, normal(hidden, 2 * inner) * 0.01, normal(inner, hidden) * 0.01) for _ in range(layers)]
    with pool("ma_kv_malloc"):
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
    weight, source = torch.randn(4096, 4096, device=device), torch.randn(4096, 4096, device=device)

    def work(x):
        parts = [torch.relu(x @ weight + i) for i in range(12)]
        return torch.stack([torch.cat([p] * 4) for p in parts]).sum(0)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work(source)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before, graph = torch.cuda.memory_stats()["num_device_alloc"], torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work(source)
    wrong = 0
    for i in range(100):
        source.copy_(torch.randn_like(source))
        graph.replay()
        noise = [torch.full((1 << 22,), float(i), device=device) for _ in range(8)]
        wrong += not torch.equal(work(source), result)
        del noise
    out["capture"] = {"new_segments": torch.cuda.memory_stats()["num_device_alloc"] - before, "replays": 100, "mismatches": wrong}
    out["pointer_of_graph_output"] = pointer_kind(result)


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
    with pool("ma_kv_malloc") if library else contextlib.nullcontext():
        try:
            torch.empty(200 * GIB if not library else 3 * GIB, dtype=torch.uint8, device=device)
            out["out_of_memory"] = "was granted"
        except torch.OutOfMemoryError as error:
            out["out_of_memory"] = f"OutOfMemoryError: {str(error)[:60]}"
    out["usable_afterwards"] = torch.ones(MIB, device=device).sum().item() == MIB
    if library:
        for kind in (WEIGHTS, KV, OTHER):
            library.limit(kind, 0, 12 * GIB, 0)
    torch.cuda.synchronize()


def gives_back() -> None:
    free = torch.cuda.mem_get_info()[0]
    x = torch.ones(2 * GIB, dtype=torch.uint8, device=device)
    held = torch.cuda.mem_get_info()[0]
    del x
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    out["empty_cache"] = {"taken_gib": round((free - held) / GIB, 2), "returned_gib": round((torch.cuda.mem_get_info()[0] - held) / GIB, 2)}


begin = time.time()
speed()
if mode != "per-request":
    for part in (captures, streams, compiled, out_of_memory, gives_back):
        try:
            part()
        except Exception as error:  # a benchmark reports a failure as its result
            out[part.__name__] = f"FAILED {type(error).__name__}: {str(error)[:200]}"
    out["torch_reserved_mib"] = torch.cuda.memory_reserved() // MIB
if library:
    out["ours_mib"] = sum(library.row(k, 0).hbm + library.row(k, 0).host for k in (WEIGHTS, KV, OTHER)) // MIB
out["seconds"] = round(time.time() - begin, 1)
print(json.dumps(out))
