"""STAND-IN for PyTorch: says the version of the NGC image's build, loads a stand-in libc10_cuda, and has the few
allocator calls that the launcher uses. It holds no tensor library."""
import ctypes
import os

from .version import __version__

_LIB = os.path.join(os.path.dirname(__file__), "lib")
_c10_cuda = ctypes.CDLL(os.path.join(_LIB, "libc10_cuda.so"), mode=ctypes.RTLD_GLOBAL)


class OutOfMemoryError(RuntimeError):
    pass


from . import cuda, version  # noqa: E402

__all__ = ["OutOfMemoryError", "__version__", "cuda", "version"]
