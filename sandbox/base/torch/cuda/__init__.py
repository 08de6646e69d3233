"""STAND-IN for torch.cuda: one device, no tensors. `stand_in_allocate` asks where PyTorch's allocator would."""
import contextlib
import ctypes
import threading
from types import SimpleNamespace

import torch

from . import memory
from .memory import MemPool

OutOfMemoryError = torch.OutOfMemoryError
_state = threading.local()
_addresses = {}


def is_available():
    return device_count() > 0


def is_initialized():
    return bool(_addresses)


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
    return sum(size for size, _ in _addresses.values())


memory_reserved = memory_allocated


@contextlib.contextmanager
def use_mem_pool(pool, device=None):
    before = getattr(_state, "pool", None)
    _state.pool = pool
    try:
        yield
    finally:
        _state.pool = before


def stand_in_allocate(size):
    """What torch.empty(size, dtype=torch.uint8, device="cuda").data_ptr() would be."""
    pool = getattr(_state, "pool", None)
    address = pool._allocate(size) if pool else _allocate(size)
    if not address:
        raise OutOfMemoryError(f"CUDA out of memory. Tried to allocate {size} bytes (stand-in PyTorch).")
    _addresses[address] = (size, pool)
    return address


def stand_in_free(address):
    _, pool = _addresses.pop(address)
    if pool:
        pool._free(address)
    else:
        torch._c10_cuda.stand_in_c10_cuda_free(ctypes.c_void_p(address))


def _allocate(size):
    out = ctypes.c_void_p()
    error = torch._c10_cuda.stand_in_c10_cuda_malloc(ctypes.byref(out), ctypes.c_size_t(size))
    return None if error else out.value
