"""Blocks in HBM first: vLLM's own manager and pool of blocks over a split cache, and the layout that puts a block on one side."""

import json

import pytest
from support import HERE, handed, last_json, library, python

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
