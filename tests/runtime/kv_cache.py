"""vLLM's own count of a model's KV cache: its model classes on the meta device, their specs, groups and blocks.

Runs in a child of support.python, over real vLLM sources. Standard input: JSON, a list of {config, cacheDtype, hybrid, maxNumBatchedTokens}; standard
output: what vLLM counts for each. Each case is a process of its own, forked when vLLM is imported.
"""

import bisect
import copy
import json
import os
import sys
import tempfile
import traceback
import types
import unittest.mock
from pathlib import Path

import torch
import triton
from transformers import AutoConfig
from triton.backends.compiler import GPUTarget

# What is compiled or asks a GPU is stood in for: nothing of it is called, no tensor has memory.
for name in ("_vllm_fa2_C", "_vllm_fa3_C"):
    sys.modules[f"vllm.vllm_flash_attn.{name}"] = types.ModuleType(name)
triton.runtime.driver.set_active(types.SimpleNamespace(
    get_current_target=lambda: GPUTarget("cuda", 90, 32),
    get_current_device=lambda: 0,
    get_device_interface=lambda: torch.cuda,
    utils=types.SimpleNamespace(get_device_properties=lambda device: {"max_shared_mem": 232448, "multiprocessor_count": 132, "warpSize": 32}),
))
torch.cuda.get_device_properties = lambda *_: types.SimpleNamespace(name="stand-in GH200", total_memory=97280 << 20, major=9, minor=0, multi_processor_count=132)
torch.cuda.get_device_capability = lambda *_: (9, 0)
torch.cuda.get_device_name = lambda *_: "stand-in GH200"

import vllm._custom_ops as operators  # noqa: E402

for name in ("cutlass_group_gemm_supported", "cutlass_scaled_mm_supports_block_fp8", "cutlass_scaled_mm_supports_fp4", "cutlass_scaled_mm_supports_fp8"):
    setattr(operators, name, lambda *_: True)

for name in ("_C", "_moe_C", "_C_cache_ops"):
    setattr(torch.ops, name, unittest.mock.MagicMock())

import vllm.distributed as distributed  # noqa: E402
import vllm.model_executor.layers.sparse_attn_indexer as indexer  # noqa: E402
import vllm.model_executor.models.registry as registry  # noqa: E402
from vllm.config import set_current_vllm_config  # noqa: E402
from vllm.config.model import _get_and_verify_max_len  # noqa: E402
from vllm.engine.arg_utils import EngineArgs  # noqa: E402
from vllm.model_executor.model_loader.utils import initialize_model  # noqa: E402
from vllm.platforms import current_platform  # noqa: E402
from vllm.transformers_utils.configs.nemotron_h import NemotronHConfig  # noqa: E402
from vllm.usage.usage_lib import UsageContext  # noqa: E402
from vllm.v1.core.kv_cache_utils import _max_memory_usage_bytes_from_groups, get_kv_cache_configs, get_kv_cache_groups  # noqa: E402
from vllm.v1.worker.gpu_model_runner import GPUModelRunner  # noqa: E402
from vllm.v1.worker.workspace import init_workspace_manager  # noqa: E402

indexer.has_deep_gemm = lambda: True

# vLLM asks a model class what it is in a child process that is started anew.
registry._LazyRegisteredModel.inspect_model_cls = lambda self: registry._ModelInfo.from_model_cls(self.load_model_cls())

# A class of vLLM's own that transformers 4.57.6 has not.
AutoConfig.register("nemotron_h", NemotronHConfig)

LENGTHS = (1, 1000, 8192, 100_000)
AVAILABLE = 40 << 30


def specs(vllm_config) -> tuple[dict, int]:
    """What the real model runner finds in the real model class, which holds no memory."""
    with set_current_vllm_config(vllm_config):
        distributed.init_distributed_environment(1, 0, f"file://{tempfile.mktemp()}", 0, "gloo")
        distributed.initialize_model_parallel()
        # Some classes name the platform's device.
        current_platform.device_type = "meta"
        current_platform.current_device = lambda: "meta"
        init_workspace_manager(torch.device("meta"))
        torch.set_default_dtype(vllm_config.model_config.dtype)
        with torch.device("meta"):
            made = initialize_model(vllm_config)
        current_platform.update_block_size_for_backend(vllm_config)
        found = GPUModelRunner.get_kv_cache_spec(types.SimpleNamespace(vllm_config=vllm_config, shared_kv_cache_layers={}))
        return found, sum(parameter.numel() * 2 for parameter in made.parameters())  # in bfloat16, whatever else a class keeps


def longest(model) -> int:
    """The longest context that vLLM accepts from a user."""

    def accepts(length: int) -> bool:
        try:
            _get_and_verify_max_len(model.hf_text_config, model.model_arch_config, None, length, False, None)
        except ValueError:
            return False
        return True

    return bisect.bisect_left(range(1, 1 << 28), True, key=lambda length: not accepts(length))


def counted(case: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(case["config"]))
        vllm_config = EngineArgs(
            model=folder, tokenizer=folder, skip_tokenizer_init=True, load_format="dummy", max_model_len=8192, max_num_seqs=256, enforce_eager=True, kv_cache_dtype=case["cacheDtype"],
            disable_hybrid_kv_cache_manager=None if case["hybrid"] else True,
        ).create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
        model = vllm_config.model_config
        most = longest(model)  # before the model class changes its rope's type
        found, weight_bytes = specs(vllm_config)
        [made] = get_kv_cache_configs(vllm_config, [dict(found)], [AVAILABLE])
        groups = get_kv_cache_groups(vllm_config, copy.deepcopy(found))
        requests = {}
        for length in LENGTHS:
            model.max_model_len = length
            requests[length] = _max_memory_usage_bytes_from_groups(vllm_config, groups)
        return {
            "blocks": made.num_blocks,
            "tensors": len(made.kv_cache_tensors),
            "blockBytes": sum(tensor.size for tensor in made.kv_cache_tensors) // made.num_blocks,
            "requestBytes": requests,
            "maxBatchedTokens": vllm_config.scheduler_config.max_num_batched_tokens,
            "maxPositionTokens": most,
            "weightBytes": weight_bytes,
        }


def in_child(case: dict) -> dict:
    reading, writing = os.pipe()
    if os.fork() == 0:
        try:
            answer = counted(case)
        except BaseException:
            answer = {"error": traceback.format_exc()[-4000:]}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        answer = json.loads(pipe.read())
    os.wait()
    return answer


print(json.dumps([in_child(case) for case in json.load(sys.stdin)]))
