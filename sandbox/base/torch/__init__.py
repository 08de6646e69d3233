"""STAND-IN for PyTorch: says the version of the NGC image's build, loads a stand-in libc10_cuda, and has the few
allocator calls and one-dimensional tensors that the launcher, its self-test and the stand-in vLLM use."""
import ctypes
import os
from types import SimpleNamespace

from .version import __version__

__stand_in__ = "stand-in PyTorch of the sandbox: allocator calls only"

_LIB = os.path.join(os.path.dirname(__file__), "lib")
_c10_cuda = ctypes.CDLL(os.path.join(_LIB, "libc10_cuda.so"), mode=ctypes.RTLD_GLOBAL)


class OutOfMemoryError(RuntimeError):
    pass


uint8 = SimpleNamespace(itemsize=1, ctype=ctypes.c_uint8)
int32 = SimpleNamespace(itemsize=4, ctype=ctypes.c_int32)
float32 = SimpleNamespace(itemsize=4, ctype=ctypes.c_float)


class Tensor:
    def __init__(self, size, dtype):
        self._dtype = dtype
        self._count = size if isinstance(size, int) else size[0]
        self._address = None
        self._address = cuda._take(self._count * dtype.itemsize)
        self._items = (dtype.ctype * self._count).from_address(self._address)

    def __del__(self):
        if self._address:
            cuda._give_back(self._address)

    def __getitem__(self, index):
        return self._items[index]

    def data_ptr(self):
        return self._address

    def numel(self):
        return self._count

    @property
    def shape(self):
        return (self._count,)

    def dim(self):
        return 1

    def stride(self):
        return (1,)

    def element_size(self):
        return self._dtype.itemsize

    def fill_(self, value):
        item = bytes(self._items._type_(value))
        if len(set(item)) == 1:
            ctypes.memset(self._address, item[0], ctypes.sizeof(self._items))
        else:
            ctypes.memmove(self._address, item * self._count, ctypes.sizeof(self._items))
        return self

    def numpy(self):
        try:
            import numpy  # noqa: F401
        except ImportError:
            raise RuntimeError("Numpy is not available") from None
        return list(self._items)

    def sum(self):
        return SimpleNamespace(item=lambda: sum(self._items))


def empty(size, dtype=float32, device="cuda"):
    return Tensor(size, dtype)


def full(size, value, dtype=float32, device="cuda"):
    return Tensor(size, dtype).fill_(value)


def zeros(size, dtype=float32, device="cuda"):
    return full(size, 0, dtype)


def ones(size, dtype=float32, device="cuda"):
    return full(size, 1, dtype)


def _attach_out_of_memory_observer(observer):
    cuda._out_of_memory_observers.append(observer)


_C = SimpleNamespace(_cuda_attach_out_of_memory_observer=_attach_out_of_memory_observer)

from . import cuda, version  # noqa: E402
