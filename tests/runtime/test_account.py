"""One account of HBM: what the deployment's plan promises (components/node/memory.ts), launcher, worker and vLLM's own preflight accept."""

import json
import math
import os
import sys
from types import SimpleNamespace

import pytest
from support import ASSETS, HERE, LAUNCHER, MIB, assert_refused, fake_nvml, library, python

sys.path.insert(0, str(ASSETS))
from managed_mem import arguments, patches, plan, settings  # noqa: E402

GIB = 1 << 30
CARDS = json.loads((HERE.parent / "fixtures/hbm-cards.json").read_text())["cards"]
READINGS = [pytest.param(card, reading, id=f"{card['card']}-{i}") for card in CARDS for i, reading in enumerate(card["nvml"])]


def as_in_the_pod(card, **more):
    """The settings as components/serving/manifests.ts writes them."""
    reserve = math.ceil(card["boardMiB"] * 0.04)
    return settings.read_user({"MANAGED_MEM_HBM": f"{card['budgetMiB']}MiB", "MANAGED_MEM_HBM_RESERVE": f"{reserve}MiB", "MANAGED_MEM_HOST": "0MiB", **more})


def measured(card, reading, host_gib=8):
    return plan.Measured(card["boardMiB"] * MIB, reading["usedMiB"] * MIB, host_gib * GIB, None, card["card"], hbm_driver=reading.get("reservedMiB", 0) * MIB)


@pytest.mark.parametrize("card, reading", READINGS)
def test_what_is_planned_starts(card, reading):
    """The launcher before CUDA, the worker in its context, and the least that the reserve leaves to activations."""
    user = as_in_the_pod(card)
    made = plan.make(user, measured(card, reading))
    assert made.hbm > user.hbm - int(card["boardMiB"] * MIB * plan.HBM["toleranceShare"])
    free = (card["cudaTotalMiB"] - card["inUseMiB"] - card["contextMiB"]) * MIB
    worker = plan.grant_hbm(user.hbm, free, card["cudaTotalMiB"] * MIB, user.hbm_reserve, "")
    assert worker == user.hbm and free - worker >= user.hbm_reserve


@pytest.mark.parametrize("card, reading", READINGS)
def test_vllms_preflight_asks_for_what_is_free(card, reading, monkeypatch):
    """Its 0.9 of the total would be refused on the source document's node, where a seventh is in use."""
    free = (card["cudaTotalMiB"] - card["inUseMiB"] - card["contextMiB"]) * MIB
    snapshot = SimpleNamespace(total_memory=card["cudaTotalMiB"] * MIB + GIB, free_memory=free + GIB)
    assert request(monkeypatch, snapshot, 0.9, given=False) == snapshot.free_memory


def request(monkeypatch, snapshot, share, given):
    def request_memory(init_snapshot, cache_config):
        raise AssertionError("vLLM's own is replaced")

    module = SimpleNamespace(__name__="gpu_worker", request_memory=request_memory)
    refused = []
    monkeypatch.setattr(patches, "refuse", lambda line: refused.append(line) or (_ for _ in ()).throw(SystemExit(78)))
    patches.patch_request(module, SimpleNamespace(utilization_given=given))
    try:
        return module.request_memory(snapshot, SimpleNamespace(gpu_memory_utilization=share))
    except SystemExit:
        return refused[0]


def test_a_share_that_was_given_is_obeyed_or_refused_in_one_line(monkeypatch):
    """numa, EGM off: 60 GiB of page cache in the HBM, 374 GiB of host memory."""
    snapshot = SimpleNamespace(total_memory=int(469.02 * GIB), free_memory=int(409.02 * GIB))
    assert request(monkeypatch, snapshot, 0.9, given=False) == snapshot.free_memory
    assert request(monkeypatch, snapshot, 0.8, given=True) == math.ceil(snapshot.total_memory * 0.8)
    line = request(monkeypatch, snapshot, 0.9, given=True)
    assert line.startswith("--gpu-memory-utilization: 0.9: 422.12 GiB of 469.02 GiB, and 409.02 GiB are free; accepted: up to 0.872;")


def gh200(used_mib, **more):
    return plan.Measured(97871 * MIB, used_mib * MIB, 8 * GIB, None, hbm_driver=591 * MIB, **more)


def test_a_card_with_a_little_less_lowers_the_budget_and_one_with_much_less_is_refused():
    user = as_in_the_pod(CARDS[0])
    left = 97871 - 591 - 1024 - 3915
    assert plan.make(user, gh200(500)).hbm == user.hbm  # within what the planned 1,103 MiB of the driver leave
    assert plan.make(user, gh200(2000)).hbm == (left - 2000) * MIB
    program = "from managed_mem import plan, settings; import os; plan.make(settings.read_user(), plan.Measured(97871 << 20, {} << 20, 8 << 30, None, hbm_driver=591 << 20, hbm_cache={} << 20))"
    environment = {"MANAGED_MEM_HBM": "91829MiB", "MANAGED_MEM_HBM_RESERVE": "3915MiB", "MANAGED_MEM_HOST": "0"}
    done = python("-c", program.format(3000, 0), **environment)
    assert_refused(done, "MANAGED_MEM_HBM: 89.68 GiB", "95.58 GiB minus 0.58 GiB of the driver, 2.93 GiB in use, 1.00 GiB of the CUDA context, minus a reserve of 3.82 GiB", "accepted: up to 87.25 GiB or auto")
    # With HBM as a NUMA node the kernel's page cache may lie in it: the line says so.
    assert_refused(python("-c", program.format(61440, 61000), **environment), "60.00 GiB in use (59.57 GiB of it page cache)")


def test_page_cache_of_the_gpus_own_node(tmp_path):
    node = tmp_path / "node2"
    node.mkdir()
    (node / "meminfo").write_text("Node 2 MemTotal: 99614720 kB\nNode 2 MemFree:  82000000 kB\nNode 2 FilePages:      15000000 kB\nNode 2 Shmem:           1000 kB\n")
    assert plan.page_cache(2, str(tmp_path)) == 14_999_000 * 1024
    assert plan.page_cache(None, str(tmp_path)) == 0 == plan.page_cache(5, str(tmp_path))


@pytest.mark.parametrize("version, words", [("2", "0.58 GiB of the driver, 0.00 GiB in use"), ("1", "0.00 GiB of the driver, 0.58 GiB in use")])
def test_both_versions_of_nvml(version, words, tmp_path):
    done = python(str(LAUNCHER), "--dry-run", "m", LD_LIBRARY_PATH=str(fake_nvml()), FAKE_NVML_VERSION=version, MANAGED_MEM_ACCEPT_STAND_IN="1", MANAGED_MEM_HOST="0", MANAGED_MEM_LIBRARY=str(library()))
    assert words in done.stdout and "90.18 GiB" in done.stdout, done.stdout + done.stderr  # 97,871 - 591 - 1,024 - 3,914


def test_of_several_gpus_the_fullest_counts(tmp_path):
    environment = {"LD_LIBRARY_PATH": str(fake_nvml()), "MANAGED_MEM_ACCEPT_STAND_IN": "1", "MANAGED_MEM_HOST": "0", "FAKE_NVML_USED_MIB": "0,20480"}
    assert "20.00 GiB in use" in python(str(LAUNCHER), "--dry-run", "m", **environment).stdout
    assert "0.00 GiB in use" in python(str(LAUNCHER), "--dry-run", "m", **environment, CUDA_VISIBLE_DEVICES="0").stdout
    assert "20.00 GiB in use" in python(str(LAUNCHER), "--dry-run", "m", **environment, CUDA_VISIBLE_DEVICES="GPU-second").stdout


# What vLLM will read as its command line -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("words, value", [
    (["m", "--gpu-memory-utilization", "0.8"], "0.8"),
    (["m", "--gpu-memory-utilization=0.8"], "0.8"),
    (["m", "--gpu_memory_utilization", "0.8"], "0.8"),
    (["m", "--gpu-memory-util", "0.8"], "0.8"),
    (["m", "--gpu_mem=0.8"], "0.8"),
    (["m", "--gpu-memory-utilization", "0.7", "--gpu-memory-utilization", "0.8"], "0.8"),
    (["m", "--config", "FILE"], "0.75"),
    (["--config", "FILE", "m", "--gpu-memory-utilization", "0.8"], "0.8"),
    (["m", "--max-model-len", "8192"], None),
    (["m", "--"], None),
    (["m", "--config"], None),
    (["m", "--config", "/no/such.yaml"], None),
])
def test_a_share_is_found_wherever_it_stands(words, value, tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text("gpu_memory_utilization: 0.75\nenable-prefix-caching: true\nmiddleware: [a, b]\ncompilation-config:\n  level: 3\nenforce-eager: false\n")
    assert arguments.asked([str(file) if word == "FILE" else word for word in words], "--gpu-memory-utilization") == value


def test_a_file_counts_like_what_is_typed(tmp_path):
    file = tmp_path / "serve.yaml"
    file.write_text("enable-prefix-caching: true\nenforce-eager: false\nmiddleware: [a, b]\ncompilation-config:\n  level: 3\nseed: 5\n")
    assert arguments.expand(["m", "--config", str(file), "--seed=7"]) == [("--enable-prefix-caching", ""), ("--middleware", "a"), ("--compilation-config", '{"level": 3}'), ("--seed", "5"), ("--seed", "7")]
    for text in ("", "- a list", "a: [", "just words"):
        file.write_text(text)
        assert arguments.expand(["m", "--config", str(file)]) == []


@pytest.mark.parametrize("text, flag", [("enable_sleep_mode: true", "--enable-sleep-mode"), ("worker-cls: x.Y", "--worker-cls"), ("distributed-executor-backend: ray", "--distributed-executor-backend")])
def test_what_is_refused_is_refused_in_a_file_too(text, flag, tmp_path):
    (tmp_path / "serve.yaml").write_text(text + "\n")
    environment = {"MANAGED_MEM_HOST": "0", "MANAGED_MEM_LIBRARY": str(library()), "MANAGED_MEM_RUN_DIR": str(tmp_path)}
    assert_refused(python(str(LAUNCHER), "m", "--config", str(tmp_path / "serve.yaml"), **environment), flag)


@pytest.mark.parametrize("words, given", [(["--gpu-mem", "0.8"], True), (["--config", "FILE"], True), ([], False)])
def test_the_engine_is_told_whether_a_share_was_given(words, given, tmp_path):
    (tmp_path / "serve.yaml").write_text("gpu-memory-utilization: 0.75\n")
    (tmp_path / "vllm").write_text(f"#!{sys.executable}\nimport os\nprint(os.environ['MANAGED_MEM'])\n")
    (tmp_path / "vllm").chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MANAGED_MEM_HOST": "0", "MANAGED_MEM_LIBRARY": str(library()), "MANAGED_MEM_RUN_DIR": str(tmp_path)}
    done = python(str(LAUNCHER), "m", *[str(tmp_path / "serve.yaml") if word == "FILE" else word for word in words], **environment)
    assert json.loads(done.stdout)["utilization_given"] is given, done.stderr
