"""managed_alloc.so from Python: found safe, loaded once, read."""

import contextlib
import ctypes
import dataclasses
import os
import platform
import stat
import struct
from pathlib import Path

from . import LIBRARY_VERSION, refuse
from .settings import PLACEMENTS

WEIGHTS, KV, OTHER = range(3)
KINDS = ("weights", "kv", "other")
_POOL_ENTRIES = {WEIGHTS: "ma_weights_malloc", KV: "ma_kv_malloc"}
_ELF_MACHINES = {"x86_64": 62, "aarch64": 183}


@dataclasses.dataclass(frozen=True)
class Row:
    """One row of the account, in the order of struct Row of managed_alloc.cu."""

    hbm: int
    host: int
    hbm_limit: int
    host_limit: int
    hbm_peak: int
    host_peak: int
    placed: int
    freed: int
    refused: int
    failed: int
    ooms: int


@dataclasses.dataclass(frozen=True)
class Segment:
    """What was taken from the driver at once, in the order of ma_segment."""

    start: int
    size: int
    in_hbm: int  # its first bytes; what follows lies on the host
    kind: int


ROW_FIELDS = len(dataclasses.fields(Row))


def check_file(path: str) -> None:
    """Refuses a library that is not for this machine, or that somebody else could have put there."""
    try:
        with open(path, "rb") as file:
            head = file.read(20)
    except OSError as error:
        refuse(f"{path}: {error.strerror}; accepted: the managed_alloc.so of this image; set MANAGED_MEM_LIBRARY or rebuild the image")
    want = _ELF_MACHINES.get(platform.machine())
    if len(head) < 20 or head[:5] != b"\x7fELF\x02" or struct.unpack("<H", head[18:20])[0] != want:
        refuse(f"{path}: not a 64-bit ELF file for {platform.machine()}; accepted: one built on this architecture; rebuild it here")
    for checked in (Path(path).resolve(), Path(path).resolve().parent):
        status = checked.stat()
        if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
            refuse(f"{checked}: writable by everyone; accepted: writable by its owner; chmod o-w {checked}")
        if status.st_uid not in (0, os.geteuid()):
            refuse(f"{checked}: owned by user {status.st_uid}; accepted: root or user {os.geteuid()}; chown it")


class Library:
    def __init__(self, path: str):
        check_file(path)
        self.path = path
        self._allocators = []
        try:
            self._so = ctypes.CDLL(path)
            self._so.ma_version.restype = ctypes.c_char_p
            self._so.ma_stand_in.restype = ctypes.c_char_p
            self._so.ma_limit.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_uint64, ctypes.c_uint64]
            for name in _POOL_ENTRIES.values():
                function = getattr(self._so, name)
                function.restype, function.argtypes = ctypes.c_void_p, [ctypes.c_ssize_t, ctypes.c_int, ctypes.c_void_p]
            for name in ("ma_free", "ma_place", "ma_redirect", "ma_share", "ma_row", "ma_segment", "ma_count_oom"):
                getattr(self._so, name)
        except (OSError, AttributeError) as error:
            refuse(f"{path}: {error}; accepted: a library built from this image's managed_alloc.cu; rebuild it")
        version = self._so.ma_version().decode()
        if version != LIBRARY_VERSION:
            refuse(f"{path}: interface version {version}; accepted: {LIBRARY_VERSION}; use launcher and library of one image")

    @property
    def stand_in(self) -> str:
        return (self._so.ma_stand_in() or b"").decode()

    def place(self, placement: str) -> None:
        if self._so.ma_place(PLACEMENTS.index(placement)) != 0:
            refuse(f"{self.path}: placement {placement} comes after the first segment; accepted: before it; install once, at the start")

    def limit(self, kind: int, device: int, hbm: int, host: int) -> None:
        self._so.ma_limit(kind, device, max(0, hbm), max(0, host))

    def redirect(self) -> None:
        why = ctypes.create_string_buffer(512)
        if self._so.ma_redirect(why, ctypes.c_size_t(len(why))) != 0:
            refuse(f"libc10_cuda.so: {why.value.decode()}; use placement hbm-first, or a PyTorch whose libc10_cuda.so links the CUDA runtime dynamically")

    def share(self, path: str) -> None:
        if error := self._so.ma_share(path.encode()):
            refuse(f"{path}: {os.strerror(error)}; accepted: a writable directory; set MANAGED_MEM_RUN_DIR")

    def row(self, kind: int, device: int) -> Row:
        out = (ctypes.c_uint64 * ROW_FIELDS)()
        self._so.ma_row(kind, device, out)
        return Row(*out)

    def segment(self, pointer: int) -> Segment | None:
        """The segment of ours that holds an address, or None: the memory came from somewhere else."""
        out = (ctypes.c_uint64 * len(dataclasses.fields(Segment)))()
        return None if self._so.ma_segment(ctypes.c_void_p(pointer), out) else Segment(*out)

    def count_oom(self, device: int) -> None:
        self._so.ma_count_oom(device)

    @contextlib.contextmanager
    def pool(self, kind: int, device=None):
        """What PyTorch allocates in the block comes from a pool over our segments; yields the pool's id.

        What is still used outlives the block, what is not goes back to the driver at its end.
        """
        import torch

        allocator = torch.cuda.memory.CUDAPluggableAllocator(self.path, _POOL_ENTRIES[kind], "ma_free")
        self._allocators.append(allocator)  # up to torch 2.10 a pool does not keep its allocator alive
        pool = torch.cuda.MemPool(allocator.allocator())
        with torch.cuda.use_mem_pool(pool, device):
            yield pool.id
        torch.cuda.synchronize(device)

    def malloc(self, kind: int, size: int, device: int) -> int | None:
        """For tests; PyTorch calls the same functions itself."""
        return getattr(self._so, _POOL_ENTRIES[kind])(size, device, None)

    def read_rate(self, pointer: int, size: int) -> float | None:
        """Bytes per second at which the GPU reads the range; None in a build without the kernel."""
        if not hasattr(self._so, "ma_read_rate"):
            return None
        self._so.ma_read_rate.restype = ctypes.c_double
        return self._so.ma_read_rate(ctypes.c_void_p(pointer), ctypes.c_size_t(size))


_loaded: Library | None = None


def load(path: str) -> Library:
    """The process's one library: it holds the account, so a second copy would count apart."""
    global _loaded
    if _loaded is None:
        _loaded = Library(path)
    elif _loaded.path != path:
        refuse(f"{path}: {_loaded.path} is loaded already; accepted: one library per process; install once")
    return _loaded
