"""Real vLLM sources: configurations refused from real EngineArgs, the call sites of memory, and /metrics (C14, C15)."""

import json
import re

import pytest
from support import ASSETS, FULL, assert_refused, handed, last_json, library, python

VERSIONS = ["0.18.1", "0.19.0", "0.19.1"]
TORCH = {"0.22.1": "2.11.0"}  # the others: 2.10.0
WORKER = "managed_mem.worker.ManagedWorker"
CONFIG = """
import json, sys, types
from pathlib import Path
folder = Path(sys.argv[1]); folder.mkdir(exist_ok=True)
(folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 320, "max_position_embeddings": 256, "torch_dtype": "bfloat16", "num_experts": 4}))
import vllm.model_executor.models.registry as registry
info = {f: False for f in registry._ModelInfo.__dataclass_fields__} | {"architecture": "LlamaForCausalLM", "is_text_generation_model": True, "default_seq_pooling_type": "LAST",
    "default_tok_pooling_type": "ALL", "attn_type": "decoder", "score_type": "bi-encoder", "supports_pp": True}
registry._LazyRegisteredModel.inspect_model_cls = lambda self: registry._ModelInfo(**info)
import vllm.platforms
from vllm.engine.arg_utils import EngineArgs
from vllm.config import KVTransferConfig
arguments = json.loads(sys.argv[2])
if "enable_cumem_allocator" in arguments:
    import vllm.device_allocator.cumem as cumem
    cumem.cumem_available = True  # its compiled module is not built here
if "kv" in arguments: arguments["kv_transfer_config"] = KVTransferConfig(**arguments.pop("kv"))
EngineArgs(model=str(folder), tokenizer=str(folder), skip_tokenizer_init=True, load_format="dummy", enforce_eager=True, **arguments).create_engine_config()
print(json.dumps("accepted"))
"""


def config(version, tmp_path, arguments, **environment):
    torch = TORCH.get(version, "2.10.0")
    return python("-c", CONFIG, str(tmp_path / "model"), json.dumps(arguments), torch=torch, vllm=version, opt_in=handed(library(13 if torch == "2.11.0" else 12), tmp_path), nvml=True,
                  FAKE_DEVICES="2", **environment)


@pytest.mark.parametrize("version", [*VERSIONS, "0.22.1"])
def test_accepted(version, tmp_path):
    assert last_json(config(version, tmp_path, {"worker_cls": WORKER})) == "accepted"


@pytest.mark.parametrize("arguments, environment, words", [
    ({"worker_cls": "auto"}, {}, ["--worker-cls"]),
    ({"worker_cls": WORKER, "enable_sleep_mode": True}, {}, ["--enable-sleep-mode"]),
    ({"worker_cls": WORKER, "tensor_parallel_size": 2}, {}, ["--tensor-parallel-size", "--disable-custom-all-reduce"]),
    ({"worker_cls": WORKER, "kv": {"kv_connector": "NixlConnector", "kv_role": "kv_both"}}, {}, ["--kv-transfer-config", "Nixl"]),
    ({"worker_cls": WORKER, "data_parallel_backend": "ray"}, {}, ["--distributed-executor-backend", "ray"]),
    ({"worker_cls": WORKER, "weight_transfer_config": {"backend": "ipc"}}, {}, ["--weight-transfer-config", "CUDA IPC"]),
    ({"worker_cls": WORKER, "enable_elastic_ep": True, "enable_eplb": True, "enable_expert_parallel": True, "data_parallel_size": 2, "all2all_backend": "pplx"}, {}, ["--enable-elastic-ep", "CUDA IPC"]),
    ({"worker_cls": WORKER}, {"VLLM_USE_V2_MODEL_RUNNER": "1"}, ["VLLM_USE_V2_MODEL_RUNNER"]),
    ({"worker_cls": WORKER}, {"VLLM_USE_NCCL_SYMM_MEM": "1"}, ["VLLM_USE_NCCL_SYMM_MEM"]),
    ({"worker_cls": WORKER}, {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}, ["expandable_segments"]),
])
def test_refused_from_real_engine_args(arguments, environment, words, tmp_path):
    assert_refused(config("0.19.0", tmp_path, arguments, **environment), *words)


def test_the_other_allocator_is_refused_from_real_engine_args(tmp_path):
    """vLLM has this option since 0.21."""
    assert_refused(config("0.22.1", tmp_path, {"worker_cls": WORKER, "enable_cumem_allocator": True}), "--enable-cumem-allocator")


# Every file of vLLM that asks for the device's memory. A new one must be read before its version is accepted.
ASKS = {"benchmarks/", "collect_env.py"}
PATTERN = re.compile(r"mem_get_info|MemorySnapshot\(|memory_reserved|max_memory_allocated|use_mem_pool|MemPool\(")


def test_inventory_of_memory_call_sites():
    found = {}
    for version in VERSIONS:
        root = FULL / f"vllm-{version}/vllm"
        files = {str(f.relative_to(root)) for f in root.rglob("*.py") if PATTERN.search(f.read_text(errors="replace"))}
        found[version] = sorted(f for f in files if not f.startswith(tuple(ASKS)))
    assert found["0.19.0"] == found["0.19.1"]
    assert {"utils/mem_utils.py", "v1/worker/gpu_worker.py", "v1/worker/gpu_model_runner.py", "device_allocator/cumem.py"} <= set(found["0.18.1"]) & set(found["0.19.0"])
    expected = json.loads((ASSETS.parents[1] / "tests/runtime/call_sites.json").read_text())
    assert found == expected


METRICS = """
import json, os, threading, time
from prometheus_client import generate_latest
from vllm.v1.metrics.prometheus import get_prometheus_registry
from managed_mem import settings
from managed_mem.account import path_for
from managed_mem.library import KV, WEIGHTS, load
engine = os.fork()
if engine == 0:  # the engine's process keeps the account
    library = load(settings.handed().library)
    library.share(path_for(settings.handed().run_dir))
    library.place("hbm-first")
    library.limit(WEIGHTS, 0, 8 << 20, 4 << 20)
    for size in (6, 4, 9):
        library.malloc(WEIGHTS, size << 20, 0)
    library.count_oom(0)
    os._exit(0)
os.waitpid(engine, 0)
registry = get_prometheus_registry()
assert get_prometheus_registry() is registry or os.environ.get("PROMETHEUS_MULTIPROC_DIR")
lines = [l for l in generate_latest(registry).decode().splitlines() if l.startswith("managed_mem")]
print(json.dumps([engine, lines]))
"""


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("version", VERSIONS)
def test_account_on_vllms_own_registry(version, several, tmp_path):
    (tmp_path / "prometheus").mkdir()
    environment = {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "prometheus")} if several else {}
    engine, lines = last_json(python("-c", METRICS, torch="2.10.0", vllm=version, opt_in=handed(library(12), tmp_path), **environment))
    value = {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines}
    labels = f'device="0",kind="weights",pid="{engine}",simulated="1"'
    assert value[f'managed_mem_placed_bytes{{{labels},where="hbm"}}'] == 6 << 20
    assert value[f'managed_mem_placed_bytes{{{labels},where="host"}}'] == 4 << 20
    assert value[f'managed_mem_budget_bytes{{{labels},where="hbm"}}'] == 8 << 20
    assert value[f"managed_mem_refused_total{{{labels}}}"] == 1
    assert value[f'managed_mem_out_of_memory_total{{device="0",pid="{engine}"}}'] == 1
