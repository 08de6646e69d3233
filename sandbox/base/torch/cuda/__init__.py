"""STAND-IN for torch.cuda: one device, no caching. Memory comes from a pool's allocator or, as in PyTorch, from
libc10_cuda's cudaMalloc."""
import contextlib
import ctypes
import threading
from types import SimpleNamespace

import torch

from . import memory
from .memory import MemPool

OutOfMemoryError = torch.OutOfMemoryError
_state = threading.local()
_blocks = {}  # address: (size, pool)
_out_of_memory_observers = []


def is_available():
    return True


def is_initialized():
    return bool(_blocks)


def init():
    pass


def device_count():
    return 1


def current_device():
    return 0


def set_device(device):
    pass


def synchronize(device=None):
    pass


def empty_cache():
    pass


def get_device_name(device=None):
    return "stand-in GH200 (no GPU)"


def get_device_capability(device=None):
    return (9, 0)


def get_device_properties(device=None):
    return SimpleNamespace(name=get_device_name(), major=9, minor=0, total_memory=mem_get_info()[1], multi_processor_count=132)


def mem_get_info(device=None):
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    torch._c10_cuda.stand_in_c10_cuda_mem_get_info(ctypes.byref(free), ctypes.byref(total))
    return free.value, total.value


def memory_allocated(device=None):
    return sum(size for size, _ in _blocks.values())


memory_reserved = memory_allocated


def memory_snapshot(pool_id=None):
    return [{"device": 0, "total_size": size} for size, pool in _blocks.values() if pool_id in (None, getattr(pool, "id", (0, 0)))]


@contextlib.contextmanager
def use_mem_pool(pool, device=None):
    before = getattr(_state, "pool", None)
    _state.pool = pool
    try:
        yield
    finally:
        _state.pool = before


def _take(size):
    pool = getattr(_state, "pool", None)
    if pool:
        address = pool._allocator._alloc(size, 0, None)
    else:
        out = ctypes.c_void_p()
        error = torch._c10_cuda.stand_in_c10_cuda_malloc(ctypes.byref(out), ctypes.c_size_t(size))
        address = None if error else out.value
    if not address:
        free, total = mem_get_info()
        for observer in _out_of_memory_observers:
            observer(0, size, total, free)
        raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes (stand-in PyTorch).")
    _blocks[address] = (size, pool)
    return address


def _give_back(address):
    size, pool = _blocks.pop(address)
    if pool:
        pool._allocator._free(address, size, 0, None)
    else:
        torch._c10_cuda.stand_in_c10_cuda_free(ctypes.c_void_p(address))
