"""--self-test: what this machine must be able to do, tried with at most 3 GiB. Each placement in a process of its own."""

import ctypes
import os
import subprocess
import sys
import tempfile

from . import plan, refuse, settings
from .library import KV, OTHER, WEIGHTS, load

GIB, MIB = 1 << 30, 1 << 20
# A GH200's link reads 340 to 380 GB/s; below this floor page size or link is not what it should be (docs/decisions/0100).
GH200_FLOOR = 300e9
MEMORY_TYPES = {2: "device", 3: "managed"}  # cudaMemoryType


def run(user: settings.User, made: plan.Plan) -> int:
    failed = 0
    if made.measured.simulated:
        print(f"SIMULATED: {made.measured.simulated}")
    home = os.path.dirname(os.path.dirname(__file__))
    path = os.pathsep.join(p for p in (home, os.environ.get("PYTHONPATH")) if p)
    for placement in settings.PLACEMENTS:
        with tempfile.TemporaryDirectory() as run_dir:
            handed = settings.Handed(
                placement=placement, library=os.path.realpath(user.library), run_dir=run_dir,
                hbm=2 * GIB, hbm_reserve=None, kv_hbm=0, host=GIB, prefixes=0, utilization_given=False, accept_stand_in=user.accept_stand_in,
            )
            child = subprocess.run(
                [sys.executable, "-m", "managed_mem.self_test"], env={**os.environ, settings.OPT_IN: handed.dump(), "PYTHONPATH": path},
                stdout=subprocess.PIPE, text=True, check=False,
            )
        print(child.stdout, end="")
        if child.returncode:
            failed += 1
            print(f"{placement:<16} FAILED, exit status {child.returncode}")
    print(f"self-test: {'FAILED' if failed else 'passed'}{' (SIMULATED)' if made.measured.simulated else ''}")
    return 1 if failed else 0


class _PointerAttributes(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int), ("device", ctypes.c_int), ("rest", ctypes.c_void_p * 10)]


def pointer_kind(tensor) -> str:
    """Where the CUDA runtime says that a tensor's memory comes from."""
    attributes = _PointerAttributes()
    runtime = ctypes.CDLL(next(line.split()[-1] for line in open("/proc/self/maps") if "libcudart.so" in line))
    if runtime.cudaPointerGetAttributes(ctypes.byref(attributes), ctypes.c_void_p(tensor.data_ptr())):
        refuse(f"cudaPointerGetAttributes failed for {tensor.data_ptr():#x}")
    return MEMORY_TYPES.get(attributes.type, str(attributes.type))


def grow_while_capturing(torch, replays: int = 100) -> tuple[int, int]:
    """Captures a CUDA graph that needs new segments, replays it among eager allocations; (new segments, wrong replays)."""
    weight, source = torch.randn(2048, 2048, device="cuda"), torch.randn(2048, 2048, device="cuda")

    def work(x):
        return torch.stack([torch.relu(x @ weight + i) for i in range(8)]).sum(0)

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        work(source)
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    before, graph, wrong = torch.cuda.memory_stats()["num_device_alloc"], torch.cuda.CUDAGraph(), 0
    with torch.cuda.graph(graph):
        result = work(source)
    grown = torch.cuda.memory_stats()["num_device_alloc"] - before
    for i in range(replays):
        source.copy_(torch.randn_like(source))
        graph.replay()
        noise = [torch.full((MIB,), float(i), device="cuda") for _ in range(4)]
        wrong += not torch.equal(result, work(source))
        del noise
    return grown, wrong


class Test:
    def __init__(self):
        import torch

        self.torch, self.settings = torch, settings.handed()
        self.library = load(self.settings.library)
        self.stand_in = getattr(torch, "__stand_in__", "") or self.library.stand_in
        self.failures = 0
        self.redirected = self.settings.placement != "hbm-first"
        if not self.redirected:
            self.library.place("hbm-first")
        for kind, hbm, host in ((WEIGHTS, GIB, 0), (KV, 0, GIB), (OTHER, 2 * GIB, 0)):
            self.library.limit(kind, 0, hbm, host)

    def report(self, name: str, passed: bool, value) -> None:
        self.failures += not passed
        mark = "ok" if passed else "FAILED"
        print(f"{self.settings.placement:<16} {mark:<6} {name:<46} {value}{'  SIMULATED' if self.stand_in else ''}", flush=True)

    def skip(self, name: str, why: str) -> None:
        print(f"{self.settings.placement:<16} {'unrun':<6} {name:<46} {why}", flush=True)

    def everything(self) -> int:
        torch, library = self.torch, self.library
        torch.zeros(1, device="cuda")
        expected = "managed" if self.redirected else "device"
        with library.pool(WEIGHTS):
            weights = torch.full((256 * MIB,), 3, dtype=torch.uint8, device="cuda")
        with library.pool(KV):
            cache = torch.full((256 * MIB,), 5, dtype=torch.uint8, device="cuda")
        activations = torch.full((64 * MIB,), 7, dtype=torch.uint8, device="cuda")
        torch.cuda.synchronize()
        for name, tensor, want in (("pointer kind within the HBM share", weights, expected), ("pointer kind beyond the HBM share", cache, "managed"),
                                   ("pointer kind of activations", activations, expected)):
            kind = pointer_kind(tensor)
            self.report(name, kind == want, kind)
        values = [int(tensor[-1]) for tensor in (weights, cache, activations)]
        self.report("contents", values == [3, 5, 7], values)
        row = library.row(KV, 0)
        self.report("account: bytes beyond the HBM share", row.host == 256 * MIB and row.hbm == 0, f"{row.host / MIB:.0f} MiB")
        self.rates(weights, cache)
        del weights, cache, activations
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
        left = [library.row(kind, 0).hbm + library.row(kind, 0).host for kind in (WEIGHTS, KV)]
        self.report("everything freed goes back to the driver", left == [0, 0], left)
        self.out_of_memory()
        if self.stand_in:
            self.skip("CUDA graph that grows while it is captured", "a stand-in has no graphs")
        else:
            self.graph()
        return self.failures

    def rates(self, weights, cache) -> None:
        within, beyond = (self.library.read_rate(t.data_ptr(), t.numel()) for t in (weights, cache))
        if self.stand_in:
            return self.skip("read rates", "a stand-in has no memory to measure")
        if not within or not beyond:
            return self.report("read rates", False, "the library measures none: it was not built by nvcc")
        both = f"{within / 1e9:.0f} and {beyond / 1e9:.0f} GB/s"
        if self.settings.placement == "managed-prefetch":  # what is beyond the HBM share was prefetched to the GPU too
            return self.report("read rates within and beyond: both the GPU's", 0.5 < beyond / within < 2, both)
        self.report("read rates within and beyond: GPU and link", within > 2 * beyond, both)
        if "GH200" in self.torch.cuda.get_device_name():
            self.report("read rate of the link", beyond >= GH200_FLOOR, f"floor {GH200_FLOOR / 1e9:.0f} GB/s")

    def out_of_memory(self) -> None:
        torch = self.torch
        try:
            with self.library.pool(KV):
                torch.empty(2 * GIB, dtype=torch.uint8, device="cuda")
            self.report("over budget", False, "was granted")
        except torch.OutOfMemoryError:
            after = torch.ones(MIB, device="cuda").sum().item()
            self.report("over budget: PyTorch's own error, then usable", after == MIB, f"{self.library.row(KV, 0).refused} refusals counted")

    def graph(self) -> None:
        grown, wrong = grow_while_capturing(self.torch)
        self.report("CUDA graph that grows while it is captured", wrong == 0 and grown > 0, f"{grown} new segments, {wrong} of 100 replays wrong")


if __name__ == "__main__":
    if settings.handed() is None:
        refuse("self-test: MANAGED_MEM is unset; accepted: started by vllm_managed_mem.py --self-test")
    sys.exit(Test().everything())
