"""The real Worker of real vLLM sources, over PyTorch's real allocator and a stand-in CUDA runtime. C2, C11 to C13."""

import json

import pytest
from support import HERE, assert_refused, handed, last_json, library, python

VERSIONS = ["0.18.1", "0.19.0", "0.19.1"]
MIB = 1 << 20
ASK = {"weights_mib": 400, "layers": 8, "activations_mib": 100}


def drive(version, tmp_path, ask=ASK, **options):
    return python(str(HERE / "drive_worker.py"), json.dumps(ask), torch="2.10.0", vllm=version, opt_in=handed(library(12), tmp_path, **options))


@pytest.mark.parametrize("placement", ["hbm-first", "managed"])
@pytest.mark.parametrize("version", VERSIONS)
def test_phases(version, placement, tmp_path):
    out = last_json(drive(version, tmp_path, placement=placement, host_mib=300))
    total, free, requested = out["snapshot_mib"]
    assert total == 1024 + 300 and requested == free == 1000 + 300  # a context took 24; the budgets decide, no share of the total
    assert out["weights"]["hbm"] == 400 * MIB and out["weights"]["freed"] == 1  # the loader's temporary went back
    assert 0 <= out["kv"]["hbm"] + out["kv"]["host"] - out["kv_bytes"] < 8 * 2 * MIB and out["kv"]["host"] <= 300 * MIB
    # 1,024 MiB minus weights minus the larger of reserve and (activations + graphs): never more than is there
    assert out["weights"]["hbm"] + out["kv"]["hbm"] + 100 * MIB + 8 * MIB <= 1024 * MIB
    managed, device = 3, 2
    within = managed if placement == "managed" else device
    assert all(p[0] == within for p in out["places"]["weights"])
    # Every tensor is split at the same share, but for roundings: its first bytes prefer the device, the rest the host.
    assert all(p[0] == managed and p[2] == 0 and 0 < p[5] < p[6] for p in out["places"]["cache"]), out["places"]["cache"]
    parts = [p[5] for p in out["places"]["cache"]]
    assert max(parts) - min(parts) <= 4
    for name in ("beside", "graphs"):
        assert out["places"][name][0] == within and out["places"][name][2] != -1  # a late segment never lies on the host
    assert out["after_mib"][3] >= 0  # memory outside PyTorch is never negative
    assert out["frozen_before_cuda"] > 100_000  # what was imported is left out of vLLM's collections
    assert out["collected_bytes"] == 2 * MIB  # what comes after is not


@pytest.mark.parametrize("version", VERSIONS)
def test_weights_overflow_and_the_cache_keeps_its_part(version, tmp_path):
    out = last_json(drive(version, tmp_path, hbm_mib=350, kv_hbm_mib=100, host_mib=300))
    assert out["weights"]["hbm"] == 250 * MIB and out["weights"]["host"] == 150 * MIB
    assert out["kv"]["hbm"] >= 64 * MIB and out["kv"]["host"] <= 150 * MIB


@pytest.mark.parametrize("tensors", [1, 3, 4])
def test_a_cache_of_fewer_tensors_than_layers_fits(tensors, tmp_path):
    """Hybrid models: vLLM 0.19 makes 10 tensors for the 62 layers of gemma-3-27b; the size that was answered must be granted."""
    out = last_json(drive("0.19.0", tmp_path, ask=ASK | {"tensors": tensors}, host_mib=700))
    assert out["kv_bytes"] > 900 * MIB and out["kv"]["refused"] == 0
    assert out["kv"]["host"] <= 700 * MIB and len(out["places"]["cache"]) == tensors


def test_a_cache_that_fits_the_hbm_is_not_managed(tmp_path):
    out = last_json(drive("0.19.0", tmp_path, ask=ASK | {"kv_bytes": 320 * MIB}, host_mib=700))
    assert out["kv"]["host"] == 0 and all(p[0] == 2 for p in out["places"]["cache"])


def test_the_same_blocks_lie_in_hbm_in_every_layer(tmp_path):
    out = last_json(drive("0.19.0", tmp_path, host_mib=300))
    near, total, hold = out["split"]
    assert total == 64 and hold and 0 < near < 64
    block = out["kv_bytes"] // ASK["layers"] // 64 // 2 * 2
    assert near == min(p[5] * MIB // block for p in out["places"]["cache"])  # what prefers the device, in whole blocks
    assert all(block == 2 * half for half, block in out["strides"])  # a block's values lie beside its keys
    spilled = last_json(drive("0.19.0", tmp_path, hbm_mib=350, kv_hbm_mib=100, host_mib=300))
    assert spilled["split"][2] is False  # with weights on the host nobody waits for HBM


def test_a_cache_of_all_layers_at_once_is_placed(tmp_path):
    """As vLLM makes it for its connectors."""
    out = last_json(drive("0.19.0", tmp_path, ask=ASK | {"uniform": True}, prefixes_mib=300))
    assert out["kv"]["placed"] == 1 and out["kv"]["host"] == 0 and out["split"] is None
    assert_refused(drive("0.19.0", tmp_path, ask=ASK | {"plant": "elsewhere"}, host_mib=300), "KV cache: a tensor of 0.03 GiB came from somewhere else")


def test_the_hosts_budget_is_one_sum_for_all_gpus(tmp_path):
    one, four = (last_json(drive("0.19.0", tmp_path, ask=ASK | {"gpus": gpus}, host_mib=400)) for gpus in (1, 4))
    assert one["kv"]["host"] > 350 * MIB and four["kv"]["host"] <= 100 * MIB


def test_budgets_that_are_too_small(tmp_path):
    assert_refused(drive("0.19.0", tmp_path, hbm_mib=200, host_mib=100), "weights: need more than 0.20 GiB HBM and 0.10 GiB host")
    assert_refused(drive("0.19.0", tmp_path, ask=ASK | {"kv_bytes": 2000 * MIB}, host_mib=100), "--kv-cache-memory-bytes", "accepted: up to")
    assert_refused(drive("0.19.0", tmp_path, hbm_mib=2000), "MANAGED_MEM_HBM", "reserve")


def test_a_planted_leak_ends_the_process(tmp_path):
    assert_refused(drive("0.19.0", tmp_path, ask=ASK | {"plant": "leak"}), "PyTorch holds", "were placed")


def test_utilization_that_was_given_is_obeyed(tmp_path):
    low = last_json(drive("0.19.0", tmp_path, ask=ASK | {"utilization": 0.6}, utilization_given=True))
    assert low["snapshot_mib"][2] == 614
    high = last_json(drive("0.19.0", tmp_path, ask=ASK | {"utilization": 0.6}))
    assert_refused(drive("0.19.0", tmp_path, ask=ASK | {"utilization": 0.42}, utilization_given=True), "--gpu-memory-utilization: 0.42: leaves nothing for the KV cache")
    assert low["kv_bytes"] < 0.6 * 1024 * MIB - 400 * MIB < high["kv_bytes"]


SNAPSHOT = """
import json, sys
{first}
import torch
import vllm.utils.mem_utils as m
import vllm.v1.worker.gpu_worker as gw
import vllm.v1.worker.utils as wu
import types
m.current_platform = types.SimpleNamespace(mem_get_info=torch.cuda.mem_get_info, is_cuda=lambda: True, get_device_capability=lambda *_: (9, 0), device_name="cuda")
GIB = 1 << 30
s = m.MemorySnapshot(device=torch.device("cuda:0"))
asked = gw.request_memory(s, types.SimpleNamespace(gpu_memory_utilization=0.9))
marked = m.MemorySnapshot.measure
from managed_mem import settings
if settings.handed():
    from managed_mem import patches
    patches.patch_snapshot(m.MemorySnapshot, settings.handed())
print(json.dumps([s.total_memory / GIB, s.free_memory / GIB, asked / GIB, m.MemorySnapshot.measure is marked]))
"""


@pytest.mark.parametrize("first", ["import vllm.v1.worker.gpu_worker", "import vllm.utils.mem_utils"])
@pytest.mark.parametrize("version", VERSIONS)
def test_vllm_sees_one_memory(version, first, tmp_path):
    """C13: the declared profile, 97 GiB and 378 GiB: vLLM's own code sees 475 GiB and asks for what a context leaves of it, in both import orders."""
    done = python("-c", SNAPSHOT.format(first=first), torch="2.10.0", vllm=version, opt_in=handed(library(12), tmp_path, host_mib=378 * 1024), FAKE_HBM_MIB=str(97 * 1024), FAKE_CONTEXT_MIB="512")
    total, free, asked, once = last_json(done)
    assert (total, once) == (475.0, True) and free == 475.0 - 0.5 == asked


def test_without_the_launcher_vllm_sees_hbm(tmp_path):
    total, _, asked, _ = last_json(python("-c", SNAPSHOT.format(first=""), torch="2.10.0", vllm="0.19.0", FAKE_HBM_MIB=str(97 * 1024)))
    assert total == 97.0 and asked < 88


def with_stub(stub, tmp_path, **options):
    planted = tmp_path / "planted.py"
    planted.write_text((HERE / "drive_worker.py").read_text().replace("MIB = 1 << 20\n", f"{stub}\nMIB = 1 << 20\n", 1))
    return python(str(planted), json.dumps(ASK | {"activations_mib": 300}), torch="2.10.0", vllm="0.19.0", opt_in=handed(library(12), tmp_path, **options))


@pytest.mark.parametrize("stub, fits", [("", True), ("torch.accelerator.memory_stats = lambda *a: {}", False)])
def test_a_peak_stub_plans_memory_that_is_not_there(stub, fits, tmp_path):
    """C12: with the source document's stubs vLLM's arithmetic leaves no room for activations. Real counters do."""
    out = last_json(with_stub(stub, tmp_path))
    assert (out["weights"]["hbm"] + out["kv"]["hbm"] + 300 * MIB <= 1024 * MIB) is fits


def test_a_reserved_stub_ends_the_process(tmp_path):
    assert_refused(with_stub("torch.cuda.memory_reserved = lambda *a: 0", tmp_path, placement="managed"), "PyTorch holds 0 bytes", "were placed")


def test_a_worker_of_another_class_is_refused(tmp_path):
    program = "from vllm.v1.worker.gpu_worker import Worker; object.__new__(Worker).load_model()"
    assert_refused(python("-c", program, torch="2.10.0", vllm="0.19.0", opt_in=handed(library(12), tmp_path)), "not the managed one")
