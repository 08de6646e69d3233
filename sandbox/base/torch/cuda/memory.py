"""STAND-IN for torch.cuda.memory: pools over a pluggable allocator's two C functions."""
import ctypes
import itertools

_ids = itertools.count(1)


class CUDAPluggableAllocator:
    def __init__(self, path_to_lib_file, alloc_fn_name, free_fn_name):
        library = ctypes.CDLL(path_to_lib_file)
        self._alloc = getattr(library, alloc_fn_name)
        self._alloc.argtypes = [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        self._alloc.restype = ctypes.c_void_p
        self._free = getattr(library, free_fn_name)
        self._free.argtypes = [ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
        self._free.restype = None

    def allocator(self):
        return self


class MemPool:
    def __init__(self, allocator=None, use_on_oom=False):
        self._allocator = allocator
        self.id = (0, next(_ids))
