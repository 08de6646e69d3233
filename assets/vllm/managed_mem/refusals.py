"""What cannot work together with managed memory, refused with a sentence before anything is allocated."""

import os
import re

from . import refuse
from .arguments import expand, stands_for
from .settings import Handed, handed

TORCH = ("2.9.1", "2.10.0", "2.11.0")
VLLM = ("0.18.1", "0.19.0", "0.19.1", "0.22.1")

# Connectors that register GPU memory with a network card or a storage driver: managed memory cannot be registered.
REGISTERING_CONNECTORS = ("Nixl", "Mooncake", "P2pNccl", "MoRIIO", "HF3FS", "GDS", "LMCacheMP")

# Keys of PyTorch's allocator settings. The first two take memory from other driver calls than the ones we place; the
# fraction is of the HBM alone, and the collection threshold works only with it.
_SETTINGS = {
    "expandable_segments": "takes its memory from cuMemCreate",
    "backend": "cudaMallocAsync takes its memory from the driver's own pools",
    "per_process_memory_fraction": "is a fraction of the HBM alone",
    "garbage_collection_threshold": "needs a memory fraction, which is of the HBM alone",
}


def release(version: str) -> str:
    """2.11.0a0+nv26.03 -> 2.11.0"""
    match = re.match(r"\d+\.\d+\.\d+", version)
    return match.group() if match else version


def check_version(what: str, version: str, accepted: tuple[str, ...]) -> None:
    if release(version) not in accepted:
        refuse(f"{what}: {version!r}: not tested with managed memory; accepted: {', '.join(accepted)}; install one of them or set MANAGED_MEM_PLACEMENT=off")


def check_stand_in(what: str, stand_in: str, settings: Handed) -> None:
    if stand_in and not settings.accept_stand_in:
        refuse(f"{what}: {stand_in}: a stand-in; accepted: the real one; set MANAGED_MEM_ACCEPT_STAND_IN=1 only where nothing real is wanted")


def check_allocator_settings(name: str, text: str) -> None:
    for key, value in re.findall(r"(\w+)\s*:\s*([^,\[\]]*)", text or ""):
        harmless = value.strip().lower() == ("native" if key == "backend" else "false")
        if key in _SETTINGS and not harmless:
            refuse(f"{name}: {key}:{value}: {_SETTINGS[key]}; accepted: without it; remove the key or set MANAGED_MEM_PLACEMENT=off")


def check_environment(environ=os.environ) -> None:
    for name in ("PYTORCH_CUDA_ALLOC_CONF", "PYTORCH_ALLOC_CONF"):
        check_allocator_settings(name, environ.get(name, ""))
    for name, value, why in (
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "", "every tensor would become a segment of its own"),
        ("VLLM_USE_NCCL_SYMM_MEM", "1", "NCCL symmetric memory comes from its own pool, outside the budget"),
        ("CUDA_MPS_PIPE_DIRECTORY", "", "under MPS several processes share the HBM that the budget counts as ours"),
    ):
        if environ.get(name) and value in ("", environ[name]):
            refuse(f"{name}: {environ[name]!r}: {why}; accepted: unset; unset it or set MANAGED_MEM_PLACEMENT=off")


# Flags of `vllm serve` that are refused before vLLM is even imported; the full check is check_config, on vLLM's own objects.
_FLAGS = {
    "--enable-sleep-mode": "sleep mode frees weights and KV cache through an allocator of its own",
    "--kv-offloading-size": "its memory is a part of the host's budget, which MANAGED_MEM_PREFIXES gives it",
    "--enable-cumem-allocator": "takes weights and KV cache from an allocator of its own",
    "--worker-cls": "the worker class is the managed one",
}


_RAY_FLAGS = ("--distributed-executor-backend", "--data-parallel-backend")
_RAY = "Ray starts its workers before this package can cover them"  # an image without Ray would only say that it is missing


def check_arguments(arguments: list[str]) -> None:
    """Also what stands in the file of --config: found out by vLLM itself it would take most of a minute."""
    for name, value in expand(arguments):
        for flag, why in _FLAGS.items():
            if stands_for(name, flag):
                refuse(f"{flag}: {why}; accepted: without it; remove it or set MANAGED_MEM_PLACEMENT=off")
        for flag in _RAY_FLAGS:
            if stands_for(name, flag) and value == "ray":
                refuse(f"{flag}: 'ray': {_RAY}; accepted: mp; use mp or set MANAGED_MEM_PLACEMENT=off")


def check_config(config) -> None:
    """vLLM's own VllmConfig, as EngineArgs made it."""
    model, parallel, transfer = config.model_config, config.parallel_config, config.kv_transfer_config

    def no(name: str, value, why: str, fix: str = "remove it") -> None:
        refuse(f"{name}: {value!r}: {why}; accepted: without it; {fix} or set MANAGED_MEM_PLACEMENT=off")

    if getattr(model, "enable_sleep_mode", False):
        no("--enable-sleep-mode", True, _FLAGS["--enable-sleep-mode"])
    if getattr(model, "enable_cumem_allocator", False):
        no("--enable-cumem-allocator", True, _FLAGS["--enable-cumem-allocator"])
    if parallel.world_size > 1 and parallel.tensor_parallel_size > 1 and not parallel.disable_custom_all_reduce:
        no("--tensor-parallel-size", parallel.tensor_parallel_size, "custom all-reduce shares PyTorch's memory through CUDA IPC, which managed memory has not",
           "add --disable-custom-all-reduce")
    if parallel.distributed_executor_backend == "ray" or getattr(parallel, "data_parallel_backend", "mp") == "ray":
        no("--distributed-executor-backend", "ray", _RAY, "use mp")
    if getattr(parallel, "enable_elastic_ep", False):
        no("--enable-elastic-ep", True, "it moves weights between processes through CUDA IPC")
    if getattr(config, "weight_transfer_config", None) is not None and getattr(config.weight_transfer_config, "backend", "") == "ipc":
        no("--weight-transfer-config", "ipc", "managed memory has no CUDA IPC")
    connector = getattr(transfer, "kv_connector", None) or ""
    names = [connector, str(getattr(transfer, "kv_connector_extra_config", "") or "")] if transfer else []
    told = handed()
    if told and transfer and "cpu_bytes_to_use" in names[1] and transfer.kv_connector_extra_config.get("cpu_bytes_to_use") != told.prefixes:
        no("--kv-transfer-config", connector, "its host memory is a part of the host's budget", "set MANAGED_MEM_PREFIXES")
    for name in REGISTERING_CONNECTORS:
        if any(name.lower() in text.lower() for text in names):
            no("--kv-transfer-config", connector, f"{name} registers GPU memory, which managed memory does not allow", "use another connector")
    if getattr(config, "use_v2_model_runner", None) is True or os.environ.get("VLLM_USE_V2_MODEL_RUNNER", "0").lower() in ("1", "true"):
        no("VLLM_USE_V2_MODEL_RUNNER", "1", "the second model runner was not tested with managed memory", "set VLLM_USE_V2_MODEL_RUNNER=0")
    if not str(parallel.worker_cls).startswith("managed_mem."):
        no("--worker-cls", parallel.worker_cls, "the worker class must be the managed one")
