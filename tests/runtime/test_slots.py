"""The relocation slots of libc10_cuda.so: all or none."""

import subprocess

import pytest
from support import WORK, build, fake_runtime, library, python

BOTH = """extern "C" { int cudaMalloc(void**, unsigned long); int cudaFree(void*);
int c10_malloc(void** p, unsigned long n) { return cudaMalloc(p, n); } int c10_free(void* p) { return cudaFree(p); } }"""
NO_FREE = """extern "C" { int cudaMalloc(void**, unsigned long); int c10_malloc(void** p, unsigned long n) { return cudaMalloc(p, n); } }"""
TWO = BOTH[:-1] + " void* address = (void*)cudaMalloc; }"
STATIC = """extern "C" { int c10_malloc(void**, unsigned long) { return 0; } }"""
PROGRAM = """
import ctypes, sys
runtime = ctypes.CDLL(None)
c10 = [ctypes.CDLL(p) for p in sys.argv[2:]]
from managed_mem.library import OTHER, load
library = load(sys.argv[1])
library.place("managed")
library.limit(OTHER, 0, 1 << 20, 0)
library.redirect()
library.redirect()
p, place = ctypes.c_void_p(), (ctypes.c_int * 5)()
assert c10[0].c10_malloc(ctypes.byref(p), ctypes.c_ulong(1 << 20)) == 0
runtime.fake_place(p, place)
q = ctypes.c_void_p()
over = c10[0].c10_malloc(ctypes.byref(q), ctypes.c_ulong(1))
hbm = library.row(OTHER, 0).hbm
free = c10[0].c10_free(p)
print(list(place), over, hbm, free, library.row(OTHER, 0).hbm)
"""


def c10(name: str, source: str, *flags: str):
    folder = WORK / name
    folder.mkdir(exist_ok=True)
    (folder / "c10.cpp").write_text(source)
    return build(f"{name}/libc10_cuda.so", str(folder / "c10.cpp"), flags=("-O1", "-shared", "-fPIC", "-Wno-pedantic", *flags))


def run(*libraries):
    return python("-c", PROGRAM, str(library()), *map(str, libraries), LD_PRELOAD=str(fake_runtime()))


@pytest.mark.parametrize("name, flags", [("lazy", ["-Wl,-z,lazy"]), ("now-relro", ["-Wl,-z,now", "-Wl,-z,relro"]), ("no-plt", ["-fno-plt"])])
def test_redirected(name, flags):
    """Lazy binding, full RELRO and calls through the GOT: the segment is managed, the limit is hard, freeing gives it back."""
    done = run(c10(name, BOTH, *flags))
    assert done.stdout.strip() == f"[3, 0, 0, -2, 0] 2 {1 << 20} 0 0", done.stderr


def test_relro_is_read_only_again():
    path = c10("now-relro-2", BOTH, "-Wl,-z,now", "-Wl,-z,relro")
    done = python("-c", PROGRAM + "\nprint([l.split()[1] for l in open('/proc/self/maps') if 'libc10_cuda' in l and 'r--p' in l] != [])", str(library()), str(path), LD_PRELOAD=str(fake_runtime()))
    assert done.stdout.strip().endswith("True"), done.stderr


@pytest.mark.parametrize("name, source, words", [
    ("no-free", NO_FREE, ["1 relocation slots for cudaMalloc and 0 for cudaFree"]),
    ("two", TWO, ["2 relocation slots for cudaMalloc and 1 for cudaFree"]),
    ("static", STATIC, ["0 relocation slots for cudaMalloc and 0 for cudaFree"]),
])
def test_refused_with_count_and_names(name, source, words):
    done = run(c10(name, source))
    assert done.returncode == 78 and all(w in done.stderr for w in words), done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_refused_without_or_with_two_libraries():
    assert "0 libraries named libc10_cuda.so" in run().stderr
    assert "2 libraries named libc10_cuda.so" in run(c10("a", BOTH), c10("b", BOTH)).stderr


def test_binutils_agrees():
    """The same count by readelf, so that the finder is not checked by itself only."""
    text = subprocess.run(["readelf", "-rW", c10("lazy", BOTH, "-Wl,-z,lazy")], capture_output=True, text=True).stdout
    assert sum("JUMP_SLO" in line and ("cudaMalloc" in line or "cudaFree" in line) for line in text.splitlines()) == 2
