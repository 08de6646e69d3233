"""The few places where PyTorch and vLLM are told about the managed memory. Each is applied once and marked."""

import functools
import inspect
import math
import os

from . import blocks, refuse, refusals
from .library import KV, OTHER, WEIGHTS, load
from .settings import Handed, format_size
from .tier import exactly_pinned

MARK = "__managed_mem__"


def actions(settings: Handed) -> dict:
    return {
        "torch": lambda torch: after_torch(torch, settings),
        "vllm": lambda vllm: after_vllm(vllm, settings),
        "vllm.utils.mem_utils": lambda module: patch_snapshot(module.MemorySnapshot, settings),
        "vllm.engine.arg_utils": lambda module: patch_engine_args(module.EngineArgs),
        "vllm.v1.metrics.prometheus": lambda module: patch_registry(module, settings),
        "vllm.v1.engine.core": lambda module: patch_engine(module.EngineCore),
        "vllm.v1.core.block_pool": patch_pool,
        "vllm.v1.core.kv_cache_manager": lambda module: patch_manager(module.KVCacheManager),
        "vllm.v1.kv_offload.worker.cpu_gpu": lambda module: patch_tier(module.CpuGpuOffloadingHandlers),  # up to vLLM 0.19
        "vllm.v1.kv_offload.cpu.gpu_worker": lambda module: patch_tier(module.CpuGpuOffloadingHandlers),
        "vllm.v1.worker.gpu_worker": lambda module: (patch_worker(module.Worker), patch_request(module, settings)),
    }


def _replace(owner, name: str, parameters: list[str] | None, make) -> None:
    original = getattr(owner, name, None)
    where = f"{getattr(owner, '__module__', owner.__name__)}.{name}"
    if original is None:
        refuse(f"{where}: missing in this version; accepted: a version that has it; see the tested versions")
    if getattr(original, MARK, False):
        return
    if parameters is not None and list(inspect.signature(original).parameters) != parameters:
        refuse(f"{where}: takes {list(inspect.signature(original).parameters)}; accepted: {parameters}; see the tested versions")
    replacement = functools.wraps(original)(make(original))
    setattr(replacement, MARK, True)
    setattr(owner, name, replacement)


def after_torch(torch, settings: Handed) -> None:
    refusals.check_stand_in("torch", getattr(torch, "__stand_in__", ""), settings)
    refusals.check_version("torch", torch.__version__, refusals.TORCH)
    if torch.cuda.is_initialized():
        refuse("torch: CUDA was started before managed memory; accepted: after it; import nothing that starts CUDA earlier")
    for name in ("_accelerator_setAllocatorSettings", "_cuda_cudaCachingAllocator_set_allocator_settings"):
        if hasattr(torch._C, name):
            _replace(torch._C, name, None, lambda original: lambda text: (refusals.check_allocator_settings("allocator settings", text), original(text))[1])
    if settings.placement == "hbm-first":
        return  # the library is loaded by the worker: only weights and KV cache are placed
    library = load(settings.library)
    refusals.check_stand_in("CUDA runtime", library.stand_in, settings)
    library.place(settings.placement)
    library.redirect()


def after_vllm(vllm, settings: Handed) -> None:
    refusals.check_stand_in("vllm", getattr(vllm, "__stand_in__", ""), settings)
    refusals.check_version("vllm", vllm.__version__, refusals.VLLM)


def host_placed(settings: Handed, device: int) -> int:
    library = load(settings.library)
    return sum(library.row(kind, device).host for kind in (WEIGHTS, KV, OTHER))


def patch_snapshot(snapshot, settings: Handed) -> None:
    """vLLM sees one memory: the HBM and the host budget. The class is patched, so every alias and import order sees it."""

    def make(original):
        def measure(self):
            original(self)
            self.total_memory += settings.host
            self.free_memory += settings.host - host_placed(settings, self.device_.index or 0)
            self.cuda_memory = self.total_memory - self.free_memory
            self.non_torch_memory = self.cuda_memory - self.torch_memory

        return measure

    _replace(snapshot, "measure", ["self"], make)


def patch_request(module, settings: Handed) -> None:
    """vLLM wants a share of the device's total to be free at its start: 0.9 by default, of a memory of which the budgets are the limit here."""

    def make(original):
        def request_memory(init_snapshot, cache_config):
            if not settings.utilization_given:
                return init_snapshot.free_memory
            share = cache_config.gpu_memory_utilization
            wanted = math.ceil(init_snapshot.total_memory * share)
            if wanted > init_snapshot.free_memory:
                refuse(
                    f"--gpu-memory-utilization: {share}: {format_size(wanted)} of {format_size(init_snapshot.total_memory)}, and {format_size(init_snapshot.free_memory)} "
                    f"are free; accepted: up to {math.floor(init_snapshot.free_memory / init_snapshot.total_memory * 1000) / 1000}; lower it, or leave it out to take the budgets"
                )
            return wanted

        return request_memory

    _replace(module, "request_memory", ["init_snapshot", "cache_config"], make)


def patch_engine_args(engine_args) -> None:
    def make(original):
        def create_engine_config(self, *args, **kwargs):
            config = original(self, *args, **kwargs)
            refusals.check_environment(os.environ)
            refusals.check_config(config)
            return config

        return create_engine_config

    _replace(engine_args, "create_engine_config", None, make)


def patch_registry(module, settings: Handed) -> None:
    def make(original):
        registered = set()

        def get_prometheus_registry():
            from .account import Collector

            registry = original()
            if id(registry) not in registered:
                registered.add(id(registry))
                registry.register(Collector(settings))
            return registry

        return get_prometheus_registry

    _replace(module, "get_prometheus_registry", [], make)


def patch_worker(worker) -> None:
    """A worker of another class would load its weights unmanaged."""

    def make(original):
        def load_model(self, *args, **kwargs):
            if not any(base.__module__ == "managed_mem.worker" for base in type(self).__mro__):
                refuse(f"worker: {type(self).__module__}.{type(self).__qualname__}: not the managed one; accepted: managed_mem.worker.ManagedWorker; remove --worker-cls")
            return original(self, *args, **kwargs)

        return load_model

    _replace(worker, "load_model", None, make)


def patch_engine(engine) -> None:
    """The engine's process asks its workers which blocks lie in HBM, before it makes its pool of blocks."""

    def make(original):
        def _initialize_kv_caches(self, vllm_config):
            made = original(self, vllm_config)
            blocks.agree(self.model_executor.collective_rpc("kv_split"))
            return made

        return _initialize_kv_caches

    _replace(engine, "_initialize_kv_caches", ["self", "vllm_config"], make)


def patch_pool(module) -> None:
    _replace(module, "FreeKVCacheBlockQueue", ["blocks"], lambda original: functools.partial(blocks.queue_of, original))


def patch_manager(manager) -> None:
    def queue_of(self) -> blocks.HbmFirst | None:
        queue = self.block_pool.free_block_queue
        return queue if isinstance(queue, blocks.HbmFirst) else None

    def make_allocation(original):
        def allocate_slots(self, request, *args, **kwargs):
            if (queue := queue_of(self)) is None:
                return original(self, request, *args, **kwargs)
            with queue.asked_by(self, request, kwargs.get("num_lookahead_tokens", 0)) as large:
                allocated = original(self, request, *args, **kwargs)
            if large and allocated is not None:
                queue.runs(request)
            return allocated

        return allocate_slots

    def make_question(original):
        def can_fit_full_sequence(self, request, *args, **kwargs):
            if (queue := queue_of(self)) is None:
                return original(self, request, *args, **kwargs)
            with queue.asked_by(self, request):
                return original(self, request, *args, **kwargs)

        return can_fit_full_sequence

    def make_end(original):
        def free(self, request):
            if (queue := queue_of(self)) is not None:
                queue.leaves(request)
            return original(self, request)

        return free

    _replace(manager, "allocate_slots", None, make_allocation)
    if hasattr(manager, "can_fit_full_sequence"):  # vLLM 0.19; later ones ask within allocate_slots
        _replace(manager, "can_fit_full_sequence", None, make_question)
    _replace(manager, "free", ["self", "request"], make_end)


def patch_tier(handlers) -> None:
    def make(original):
        def __init__(self, *args, **kwargs):
            import torch

            with exactly_pinned(torch):
                original(self, *args, **kwargs)

        return __init__

    _replace(handlers, "__init__", None, make)
