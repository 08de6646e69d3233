"""Drives the real Worker of a real vLLM through its phases with the managed class on top. Weights and cache are plain tensors.

Run by test_worker.py under the stand-in CUDA runtime. Prints one JSON object.
  argv: JSON {weights_mib, cache_mib, layers, activations_mib, tensors?, plant?}; layers of a hybrid model share fewer tensors
"""

import contextlib
import ctypes
import gc
import json
import sys
import types

import torch
from vllm.utils import mem_utils
from vllm.v1.worker import gpu_worker

from managed_mem import settings
from managed_mem.library import KV, OTHER, WEIGHTS, load
from managed_mem.worker import ManagedWorker

MIB = 1 << 20
ask = json.loads(sys.argv[1])

platform = types.SimpleNamespace(
    mem_get_info=torch.cuda.mem_get_info, is_cuda=lambda: True, is_rocm=lambda: False, is_xpu=lambda: False, is_cuda_alike=lambda: True, is_cpu=lambda: False,
    get_device_capability=lambda *_: (9, 0), current_device=lambda: 0, device_name="cuda", device_type="cuda",
    get_current_memory_usage=lambda device=None: (torch.cuda.reset_peak_memory_stats(device), torch.cuda.max_memory_allocated(device))[1],
)
for module in (mem_utils, gpu_worker):
    module.current_platform = platform


class Runner:
    """A model runner that takes the memory a model would take."""

    def load_model(self, **_):
        with mem_utils.DeviceMemoryProfiler() as profiler:
            self.weights = [torch.empty(ask["weights_mib"] * MIB // ask["layers"], dtype=torch.uint8, device="cuda") for _ in range(ask["layers"])]
            temporary = torch.empty(48 * MIB, dtype=torch.uint8, device="cuda")  # as a quantising loader leaves behind
            del temporary
        self.model_memory_usage = profiler.consumed_memory

    def profile_run(self):
        torch.empty(ask["activations_mib"] * MIB, dtype=torch.uint8, device="cuda")

    def profile_cudagraph_memory(self):
        return 8 * MIB

    def get_kv_cache_spec(self):
        return {f"layer.{i}": None for i in range(ask["layers"])}

    def _allocate_kv_cache_tensors(self, config):
        tensors = ask.get("tensors", ask["layers"])
        return {f"layer.{i}": torch.empty(config.bytes // tensors, dtype=torch.uint8, device="cuda") for i in range(tensors)}

    def allocate_uniform_kv_caches(self, config):
        return {"all": torch.empty(config.bytes, dtype=torch.uint8, device="cuda")}

    def _reshape_kv_cache_tensors(self, tensors, config):
        """As FlashAttention has it: keys and values, blocks, and what a block holds."""
        return {name: tensor[: tensor.numel() // (2 * config.num_blocks) * 2 * config.num_blocks].view(2, config.num_blocks, -1, 1, 1) for name, tensor in tensors.items()}

    def _kv_cache_spec_attn_group_iterator(self):
        yield types.SimpleNamespace(backend=types.SimpleNamespace(get_name=lambda: "FLASH_ATTN"), layer_names=[f"layer.{i}" for i in range(ask["layers"])])

    def initialize_kv_cache_tensors(self, config):
        if ask.get("plant") == "elsewhere":
            return {"layer.0": torch.empty(32 * MIB, dtype=torch.uint8, device="cuda").view(1, -1)}
        if ask.get("uniform"):
            return self.allocate_uniform_kv_caches(config)
        return self._reshape_kv_cache_tensors(self._allocate_kv_cache_tensors(config), config)

    def initialize_kv_cache(self, config):
        self.cache = list(self.initialize_kv_cache_tensors(config).values())
        self.beside = torch.empty(24 * MIB, dtype=torch.uint8, device="cuda")


worker = object.__new__(ManagedWorker)
worker.device, worker.local_rank = torch.device("cuda:0"), 0
BLOCKS = 64
parallel = types.SimpleNamespace(world_size=1, tensor_parallel_size=1, disable_custom_all_reduce=False, distributed_executor_backend=None, worker_cls="managed_mem.worker.ManagedWorker",
                                 local_world_size=ask.get("gpus", 1))
worker.parallel_config = parallel
worker.model_config = types.SimpleNamespace(enable_sleep_mode=False, enforce_eager=False, enable_return_routed_experts=False)
worker.cache_config = types.SimpleNamespace(kv_cache_memory_bytes=ask.get("kv_bytes"), gpu_memory_utilization=ask.get("utilization", 0.9), num_gpu_blocks=None)
worker.vllm_config = types.SimpleNamespace(model_config=worker.model_config, parallel_config=parallel, kv_transfer_config=None, cache_config=worker.cache_config, weight_transfer_config=None,
                                           compilation_config=types.SimpleNamespace(cudagraph_mode="FULL"))


def init_device(self):
    out["frozen_before_cuda"] = not torch.cuda.is_initialized() and gc.get_freeze_count()
    torch.cuda.set_device(0)
    self.init_snapshot = mem_utils.MemorySnapshot(device=self.device)
    self.requested_memory = gpu_worker.request_memory(self.init_snapshot, self.cache_config)
    self.model_runner = Runner()


# The real one builds process groups and the whole model runner; what it does with memory is these lines.
gpu_worker.Worker.init_device = init_device
gpu_worker.Worker._maybe_get_memory_pool_context = lambda self, tag: contextlib.nullcontext()
gpu_worker.set_current_vllm_config = lambda *_a, **_k: contextlib.nullcontext()
gpu_worker.Worker.compile_or_warm_up_model = lambda self: setattr(self, "graphs", torch.empty(32 * MIB, dtype=torch.uint8, device="cuda"))
gpu_worker.ensure_kv_transfer_initialized = lambda *_: None
gpu_worker.Worker.get_kv_cache_spec = lambda self: self.model_runner.get_kv_cache_spec()

out = {}
worker.init_device()
gc.collect()
cycle = [torch.empty(2 * MIB, dtype=torch.uint8, device="cuda")]
cycle.append(cycle)
held = torch.cuda.memory_allocated()
del cycle
gc.collect()
out["collected_bytes"] = held - torch.cuda.memory_allocated()
torch.cuda.empty_cache()
out["snapshot_mib"] = [worker.init_snapshot.total_memory // MIB, worker.init_snapshot.free_memory // MIB, worker.requested_memory // MIB]
library = load(settings.handed().library)
worker.load_model()
out["weights"] = vars(library.row(WEIGHTS, 0))
if ask.get("plant") == "leak":
    library.limit(WEIGHTS, 0, 1 << 40, 0)
    library.malloc(WEIGHTS, 2 * MIB, 0)
kv = worker.determine_available_memory()
out["kv_bytes"] = kv
worker.initialize_from_config(types.SimpleNamespace(bytes=kv, num_blocks=BLOCKS, needs_kv_cache_zeroing=False))
split = worker.kv_split()
out["split"] = split and [split.in_hbm, split.total, split.hold]
out["strides"] = [list(t.stride()[:2]) for t in worker.model_runner.cache if t.dim() == 5]
out["kv"] = vars(library.row(KV, 0))
worker.compile_or_warm_up_model()
out["other"] = vars(library.row(OTHER, 0))
fake = ctypes.CDLL(None)


def kind(tensor):
    place = (ctypes.c_int * 7)()
    fake.fake_place(ctypes.c_void_p(tensor.data_ptr()), place)
    return list(place)  # type, device, preferred by the first bytes, accessed by, prefetched, MiB that prefer the device, MiB in all


out["places"] = {"weights": [kind(t) for t in worker.model_runner.weights], "cache": [kind(t) for t in worker.model_runner.cache],
                 "beside": kind(worker.model_runner.beside), "graphs": kind(worker.graphs)}
after = mem_utils.MemorySnapshot(device=worker.device)
out["after_mib"] = [after.total_memory // MIB, after.free_memory // MIB, after.torch_memory // MIB, after.non_torch_memory // MIB]
print(json.dumps(out))
