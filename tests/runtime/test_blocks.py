"""Blocks in HBM first: vLLM's own manager and pool of blocks over a split cache, and the layout that puts a block on one side."""

import json

import pytest
from support import HERE, assert_refused, handed, last_json, library, python

VERSIONS = {"0.18.1": "2.10.0", "0.19.0": "2.10.0", "0.19.1": "2.10.0", "0.22.1": "2.11.0"}


def drive(version, tmp_path, **ask):
    cuda = 12 if VERSIONS[version] == "2.10.0" else 13
    done = python(str(HERE / "drive_blocks.py"), json.dumps({"near": 41, "total": 200, "hold": True} | ask), torch=VERSIONS[version], vllm=version, nvml=True, opt_in=handed(library(cuda), tmp_path))
    return last_json(done)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_host_serves_what_hbm_cannot_hold(version, tmp_path):
    out = drive(version, tmp_path)
    assert out["queue"] == "HbmFirst" and out["usage_when_empty"] == 0
    assert out["small"] == [0, 0, None]  # two fill the HBM, the third waits although 159 blocks on the host are free
    assert out["usage_when_full"] == pytest.approx(40 / 199)  # metrics and scaling see the whole cache
    assert out["after_one_left"] == 0 and out["grown"] is None
    assert out["large"] == [20, True, 0]  # its first 40 blocks in HBM, in order
    assert out["beside_large"] == 4 and out["large_grown"] == 22
    assert out["again"] == [0, 0, None]
    assert out["drafts"]
    assert out["hit_tokens"] == 5 * 16 and out["reset"] and out["free_at_end"]
    assert "lost" not in out and "stuck" not in out and out["free_at_the_very_end"]
    assert out["plain"]


def test_where_weights_lie_on_the_host_nobody_waits(tmp_path):
    """Then each step reads over the link anyhow, and more requests at once cost little."""
    out = drive("0.19.0", tmp_path, hold=False)
    assert out["small"] == [0, 0, 20] and out["grown"] is not None and "lost" not in out


def test_a_cache_wholly_on_the_host_serves_everybody(tmp_path):
    out = drive("0.19.0", tmp_path, near=1, total=120)
    assert out["queue"] == "HbmFirst" and out["small"] == [1, 1, 1] and "lost" not in out and "stuck" not in out


TIER = """
import ctypes, json, sys, torch
from managed_mem.tier import exactly_pinned
fake = ctypes.CDLL(None)
fake.fake_registered.restype = ctypes.c_size_t
before = torch.zeros
if sys.argv[1:] == ["fail"]:
    fake.fake_fail(b"cudaHostRegister", ctypes.c_long(1))
with exactly_pinned(torch):
    tier = torch.zeros((3, 1_000_001), dtype=torch.int8, device="cpu", pin_memory=True)
    plain = torch.zeros(8)
print(json.dumps({"registered": fake.fake_registered(), "sum": int(tier.sum()), "plain": plain.tolist(), "restored": torch.zeros is before}))
"""


def test_a_tier_pins_what_it_was_asked_for_and_no_power_of_two():
    out = last_json(python("-c", TIER, torch="2.11.0"))
    assert out == {"registered": 3_000_003, "sum": 0, "plain": [0.0] * 8, "restored": True}


def test_a_tier_that_cannot_be_pinned_is_refused_in_one_line():
    assert_refused(python("-c", TIER, "fail", torch="2.11.0"), "MANAGED_MEM_PREFIXES", "cannot pin")


LAYOUT = """
import json, sys, types, torch
from managed_mem import blocks
from managed_mem.library import Segment
N = 6
raw = torch.zeros(N * 2 * 4 * 2 * 8, dtype=torch.bfloat16)
cache = raw.view(2, N, 4, 2, 8)
group = lambda name: types.SimpleNamespace(backend=types.SimpleNamespace(get_name=lambda: name), layer_names=["a", "shared elsewhere"])
size, start = raw.numel() * 2, raw.data_ptr()
def leading(in_hbm, caches): return blocks.leading_in_hbm(caches, N, types.SimpleNamespace(segment=lambda p: Segment(start, size, in_hbm, 1)))
out = {"halves": [leading(n, {"a": cache}) for n in (0, size // 2, size // 2 + size // 12, size - 1, size)]}
blocks.lay_by_block({"a": cache}, [group("FLEX_ATTENTION")], N)
out["other_backend"] = cache.is_contiguous()
blocks.lay_by_block({"a": cache}, [group("FLASH_ATTN")], N)
cache[0, 3], cache[1, 3] = 1, 2
block = size // 2 // N
out["side_by_side"] = [i // block for i in raw.nonzero().flatten().tolist()] == [3] * block
blocks.lay_by_block({"a": cache}, [group("FLASH_ATTN")], N)  # twice is once
out["by_block"] = [leading(n, {"a": cache}) for n in (0, size // 2, size // 2 + size // 12, size - 1, size)]
states = [torch.as_strided(raw, (N, 16), (block, 1)), torch.as_strided(raw, (N, 8), (block, 1), 16)]
out["mamba"] = leading(size // 2, {"a": states})
out["small_kernel_blocks"] = leading(size // 2, {"a": raw.view(N * 2, 2, -1)})
out["unknown"] = leading(size // 2, {"a": raw.view(2, 2, -1)})
print(json.dumps(out))
"""


def test_a_block_lies_on_one_side():
    out = last_json(python("-c", LAYOUT, torch="2.11.0"))
    # In halves a block is in HBM only when its values are: with five twelfths on the host, one of six.
    assert out["halves"] == [0, 0, 1, 5, 6] and out["by_block"] == [0, 3, 3, 5, 6]
    assert out["other_backend"] and out["side_by_side"]
    assert out["mamba"] == 3 and out["small_kernel_blocks"] == 3 and out["unknown"] == 0
