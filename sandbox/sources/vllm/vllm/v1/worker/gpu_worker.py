"""STAND-IN for vLLM's GPU worker: the same life cycle, with memory in place of a model."""
import math
from types import SimpleNamespace

import torch

WEIGHTS = 48 << 20
LAYERS = 4
TENSORS = 2  # layers of different attention share one, as in vLLM's hybrid models


def request_memory(init_snapshot, cache_config):
    wanted = math.ceil(init_snapshot.total_memory * cache_config.gpu_memory_utilization)
    if init_snapshot.free_memory < wanted:
        raise ValueError("STAND-IN: Free memory on device on startup is less than desired GPU memory utilization")
    return wanted


class _Device:
    index = 0


class _Runner:
    def _allocate_kv_cache_tensors(self, config):
        size = config.bytes // TENSORS // config.num_blocks * config.num_blocks
        return {f"layer.{i}": torch.zeros(size, dtype=torch.uint8) for i in range(TENSORS)}

    def allocate_uniform_kv_caches(self, config):
        raise NotImplementedError("STAND-IN: no connector asks for it here")

    def _reshape_kv_cache_tensors(self, tensors):
        return tensors

    def _kv_cache_spec_attn_group_iterator(self):
        return iter(())

    def initialize_kv_cache_tensors(self, config):
        return self._reshape_kv_cache_tensors(self._allocate_kv_cache_tensors(config))


class Worker:
    def __init__(self, vllm_config, local_rank=0):
        self.vllm_config = vllm_config
        self.cache_config = vllm_config.cache_config
        self.parallel_config = vllm_config.parallel_config
        self.local_rank = local_rank
        self.device = None
        self.model_runner = _Runner()

    def init_device(self):
        torch.cuda.set_device(self.local_rank)
        self.device = _Device()
        free, total = torch.cuda.mem_get_info(self.device)
        self.requested_memory = request_memory(SimpleNamespace(free_memory=free, total_memory=total), self.cache_config)

    def load_model(self):
        self.weights = [torch.zeros(WEIGHTS // LAYERS, dtype=torch.uint8) for _ in range(LAYERS)]

    def determine_available_memory(self):
        return torch.cuda.mem_get_info(self.device)[0] // 2

    def get_kv_cache_spec(self):
        return {f"layer.{i}": None for i in range(LAYERS)}

    def initialize_from_config(self, config):
        self.kv_cache = self.model_runner.initialize_kv_cache_tensors(config)

    def compile_or_warm_up_model(self):
        return 0.0
