"""What a fresh segment costs, how fast the GPU reads it, in one piece and scattered, and that nothing but weights and cache lies on the host.

  segments.py LIBRARY            runs every case in a process of its own, at most 5 GiB managed; prints JSON lines
"""

import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "assets/vllm"))
GIB = 1 << 30


class Location(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("id", ctypes.c_int)]


def cost(path: str, placement: str, on_host: bool, populate: bool) -> dict:
    import torch
    from managed_mem.library import WEIGHTS, load

    library = load(path)
    library.place(placement)
    library.limit(WEIGHTS, 0, 0 if on_host else 5 * GIB, 5 * GIB if on_host else 0)
    runtime = ctypes.CDLL("libcudart.so.13")
    runtime.cudaMemPrefetchAsync.argtypes = [ctypes.c_void_p, ctypes.c_size_t, Location, ctypes.c_uint, ctypes.c_void_p]
    torch.ones(1, device="cuda")
    times = {"place": [], "first_write": [], "second_write": [], "free": []}
    rates = []
    free_hbm = torch.cuda.mem_get_info()[0]
    for i in range(6):
        marks = [time.perf_counter()]

        def mark():
            torch.cuda.synchronize()
            marks.append(time.perf_counter())

        with library.pool(WEIGHTS):
            x = torch.empty(GIB, dtype=torch.uint8, device="cuda")
        if populate:
            runtime.cudaMemPrefetchAsync(x.data_ptr(), GIB, Location(2, 0), 0, None)
        mark()
        x.fill_(1)
        mark()
        x.fill_(2)
        mark()
        rates.append(library.read_rate(x.data_ptr(), GIB) / 1e9)
        used = free_hbm - torch.cuda.mem_get_info()[0]
        torch.cuda.synchronize()
        begin = time.perf_counter()
        del x
        torch.cuda.empty_cache()
        torch.cuda.synchronize()
        if i:  # the first is the warm-up
            for name, a, b in zip(times, marks, marks[1:]):
                times[name].append(b - a)
            times["free"].append(time.perf_counter() - begin)
    assert library.row(WEIGHTS, 0).hbm + library.row(WEIGHTS, 0).host == 0
    row = {"case": "cost", "card": torch.cuda.get_device_name(), "placement": placement, "where": "host" if on_host else "hbm", "populated_by_prefetch": populate}
    row |= {f"{name}_ms_per_gib": round(statistics.median(values) * 1e3, 3) for name, values in times.items()}
    return row | {"read_gbps": round(statistics.median(rates), 1), "hbm_taken_gib": round(used / GIB, 3)}


def overflow(path: str, placement: str) -> dict:
    """Weights and cache overflow by 1 GiB each; activations and graph outputs are made among them."""
    import torch
    from managed_mem.library import KV, OTHER, WEIGHTS, load
    from managed_mem.self_test import pointer_kind

    library = load(path)
    library.place(placement)
    for kind in (WEIGHTS, KV):
        library.limit(kind, 0, GIB, GIB)
    library.limit(OTHER, 0, 2 * GIB, 0)
    if placement != "hbm-first":
        library.redirect()
    tensors = {}
    for name, kind in (("weights", WEIGHTS), ("cache", KV)):
        with library.pool(kind):
            tensors[name] = [torch.full((GIB // 4,), 1, dtype=torch.uint8, device="cuda") for _ in range(7)]
    host = {t.data_ptr() for name in tensors for t in tensors[name][4:]}  # the first four fill the HBM limit
    activations = []
    for _ in range(20):
        activations += [torch.relu(torch.randn(1 << 20, device="cuda")), torch.randn(512, 512, device="cuda") @ torch.randn(512, 512, device="cuda")]
    graph = torch.cuda.CUDAGraph()
    x = torch.randn(1 << 20, device="cuda")
    with torch.cuda.graph(graph):
        y = x * 2
    activations.append(y)
    # «Prefers the host» is what the driver itself says of the range (cudaMemRangeAttributePreferredLocation, 2; the host is -1).
    runtime = ctypes.CDLL("libcudart.so.13")

    def prefers_host(t):
        if pointer_kind(t) != "managed":
            return False
        where = ctypes.c_int(-9)
        runtime.cudaMemRangeGetAttribute(ctypes.byref(where), ctypes.c_size_t(4), 2, ctypes.c_void_p(t.data_ptr()), ctypes.c_size_t(4096))
        return where.value == -1

    told = {t.data_ptr() for name in tensors for t in tensors[name] if prefers_host(t)}
    return {"case": "overflow", "card": torch.cuda.get_device_name(), "placement": placement, "host_tensors": len(host), "driver_says_host": len(told),
            "same": told == host, "activations": len(activations), "activations_on_host": sum(prefers_host(t) for t in activations),
            "host_gib": sum(library.row(k, 0).host for k in (WEIGHTS, KV)) / GIB}


def scattered(path: str, placement: str) -> dict:
    """Does the GPU read a segment slower whose pages the driver found only in holes of 2 MiB? Fills the card with plain cudaMalloc, never past it."""
    import torch
    from managed_mem.library import WEIGHTS, load

    library, size, hole = load(path), 2 * GIB, 2 << 20
    library.place(placement)
    library.limit(WEIGHTS, 0, size, 0)
    runtime = ctypes.CDLL("libcudart.so.13")

    def read_gbps() -> list[float]:
        with library.pool(WEIGHTS):
            x = torch.ones(size, dtype=torch.uint8, device="cuda")
        rates = [round(library.read_rate(x.data_ptr(), size) / 1e9, 1) for _ in range(5)]
        del x
        torch.cuda.empty_cache()
        return rates

    in_one_piece, blocks = read_gbps(), []
    assert library.row(WEIGHTS, 0).hbm == 0  # nothing managed is there that filling the card could evict
    while torch.cuda.mem_get_info()[0] > GIB // 8:
        block = ctypes.c_void_p()
        if runtime.cudaMalloc(ctypes.byref(block), ctypes.c_size_t(hole)):
            break
        blocks.append(block)
    for block in blocks[::2]:
        runtime.cudaFree(block)
    return {"case": "scattered", "card": torch.cuda.get_device_name(), "placement": placement, "read_gbps_in_one_piece": in_one_piece, "holes": len(blocks[::2]),
            "read_gbps_in_holes": read_gbps()}


CASES = {"hbm-first hbm": ("cost", "hbm-first", False, False), "managed hbm": ("cost", "managed", False, False), "host": ("cost", "hbm-first", True, False),
         "host populated": ("cost", "hbm-first", True, True), "overflow hbm-first": ("overflow", "hbm-first"), "overflow managed": ("overflow", "managed"),
         "scattered hbm-first": ("scattered", "hbm-first"), "scattered managed": ("scattered", "managed")}

if __name__ == "__main__":
    path = os.path.realpath(sys.argv[1])
    if len(sys.argv) == 2:
        for name in CASES:
            subprocess.run([sys.executable, __file__, path, name], check=False)
    else:
        function, *arguments = CASES[sys.argv[2]]
        print(json.dumps({"cost": cost, "overflow": overflow, "scattered": scattered}[function](path, *arguments)), flush=True)
