"""Real PyTorch wheels: the two slots are there, and its own caching allocator runs over our segments (C1, C8 to C10, C16)."""

import subprocess

import pytest
from support import FULL, assert_refused, fake_runtime, handed, last_json, library, python

WHEELS = [("2.9.1", "x86_64"), ("2.10.0", "x86_64"), ("2.11.0", "x86_64"), ("2.11.0", "aarch64")]
CUDA = {"2.10.0": 12, "2.11.0": 13}


@pytest.mark.parametrize("version, machine", WHEELS)
def test_slots_of_the_release_wheel(version, machine):
    text = subprocess.run(["readelf", "-rW", FULL / f"slots/{version}-{machine}/libc10_cuda.so"], capture_output=True, text=True, check=True).stdout
    for name in ("cudaMalloc", "cudaFree"):
        lines = [line for line in text.splitlines() if f" {name}@" in line or f" {name} " in line]
        assert len(lines) == 1 and ("JUMP_SLO" in lines[0] or "GLOB_DAT" in lines[0]), lines


PROGRAM = """
import json, sys
import torch
from managed_mem import settings
from managed_mem.library import KV, OTHER, WEIGHTS, load
MIB, out = 1 << 20, {}
out["started"] = torch.cuda.is_initialized()
library = load(settings.handed().library)
if settings.handed().placement == "hbm-first":
    library.place("hbm-first")
for kind, hbm, host in ((WEIGHTS, 100, 50), (KV, 0, 0), (OTHER, 200, 0)):
    library.limit(kind, 0, hbm * MIB, host * MIB)
native = torch.empty(30 * MIB, dtype=torch.uint8, device="cuda")
allocator = torch.cuda.memory.CUDAPluggableAllocator(settings.handed().library, "ma_weights_malloc", "ma_free")
pool = torch.cuda.MemPool(allocator.allocator()); pool_id = pool.id
with torch.cuda.use_mem_pool(pool):
    a = torch.empty(60 * MIB, dtype=torch.uint8, device="cuda")
    temporary = torch.empty(30 * MIB, dtype=torch.uint8, device="cuda")
    b = torch.empty(40 * MIB, dtype=torch.uint8, device="cuda")
    try: torch.empty(60 * MIB, dtype=torch.uint8, device="cuda"); out["oom"] = "granted"
    except torch.OutOfMemoryError as error: out["oom"] = str(error)[:40]
    del temporary
held = library.row(WEIGHTS, 0)
out["held"] = [held.hbm // MIB, held.host // MIB, held.refused > 0]
del pool
kept = library.row(WEIGHTS, 0)
out["kept"] = [kept.hbm // MIB, kept.host // MIB]
out["pool_bytes_equal_ours"] = sum(s["total_size"] for s in torch.cuda.memory_snapshot(pool_id)) == kept.hbm + kept.host
stats = [torch.cuda.memory_reserved(), torch.accelerator.memory_reserved(), torch.cuda.memory.memory_stats()["reserved_bytes.all.current"]]
out["aliases_agree"] = len(set(stats)) == 1
torch.accelerator.reset_peak_memory_stats(); torch.cuda.reset_peak_memory_stats()
out["reserved_mib"] = stats[0] // MIB
out["other_mib"] = library.row(OTHER, 0).hbm // MIB
del a, b, native
torch.accelerator.empty_cache()
out["left"] = [library.row(k, 0).hbm + library.row(k, 0).host for k in (WEIGHTS, KV, OTHER)]
print(json.dumps(out))
"""


@pytest.mark.parametrize("placement", ["hbm-first", "managed"])
@pytest.mark.parametrize("torch", CUDA)
def test_real_caching_allocator(torch, placement, tmp_path):
    out = last_json(python("-c", PROGRAM, torch=torch, opt_in=handed(library(CUDA[torch]), tmp_path, placement)))
    assert out["started"] is False  # importing and redirecting starts no CUDA
    assert out["oom"].startswith("CUDA out of memory")
    assert out["held"] == [90, 40, True] and out["kept"] == [60, 40]  # the load's temporary went back with the pool
    assert out["pool_bytes_equal_ours"] and out["aliases_agree"] and out["reserved_mib"] == 130
    assert out["other_mib"] == (0 if placement == "hbm-first" else 30)
    assert out["left"] == [0, 0, 0]


@pytest.mark.parametrize("torch", CUDA)
def test_refused_after_cuda_started(torch, tmp_path):
    program = "import torch; torch.cuda.init(); from managed_mem import hooks, settings; hooks.install(settings.Handed(**__import__('json').loads(__import__('sys').argv[1])))"
    assert_refused(python("-c", program, handed(library(CUDA[torch]), tmp_path), torch=torch), "CUDA was started before")


@pytest.mark.parametrize("call", ["torch._C._accelerator_setAllocatorSettings", "torch.cuda.memory._set_allocator_settings"])
@pytest.mark.parametrize("torch", CUDA)
def test_settings_changed_at_run_time(torch, call, tmp_path):
    opt_in = handed(library(CUDA[torch]), tmp_path)
    assert_refused(python("-c", f"import torch; {call}('expandable_segments:True')", torch=torch, opt_in=opt_in), "expandable_segments:True")
    done = python("-c", f"import torch; {call}('max_split_size_mb:20'); print('went on')", torch=torch, opt_in=opt_in)
    assert done.stdout.strip() == "went on", done.stderr


def test_a_fork_and_a_spawn_are_redirected(tmp_path):
    program = """
import multiprocessing, sys
def check(q):
    import torch
    from managed_mem.library import OTHER, load
    from managed_mem import settings
    l = load(settings.handed().library); l.limit(OTHER, 0, 1 << 30, 0)
    x = torch.empty(4 << 20, dtype=torch.uint8, device="cuda")
    q.put(l.row(OTHER, 0).hbm)
if __name__ == "__main__":
    import torch
    for m in ("fork", "spawn"):
        c = multiprocessing.get_context(m); q = c.Queue(); p = c.Process(target=check, args=(q,)); p.start(); print(q.get()); p.join()
"""
    (tmp_path / "children.py").write_text(program)
    done = python(str(tmp_path / "children.py"), torch="2.11.0", opt_in=handed(library(13), tmp_path, "managed"))
    assert done.stdout.split() == [str(20 << 20)] * 2, done.stderr[-800:]  # PyTorch's segment for 4 MiB is 20 MiB


def test_stand_in_runtime_is_recognised(tmp_path):
    assert fake_runtime(13)
    assert_refused(python("-c", "import torch", torch="2.11.0", opt_in=handed(library(13), tmp_path, "managed", accept=False)), "stand-in CUDA runtime")
