"""The slots of the aarch64 wheel patched and called under emulation: PyTorch's own caching allocator takes and gives back a segment of ours (C1)."""

import functools
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from support import ASSETS, FULL, HEADERS, HERE, WORK

EMULATOR = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
# The sandbox's Debian for arm64: its C and C++ libraries run what is tested.
DEBIAN = sorted(Path(os.environ.get("GH200_CACHE", Path.home() / ".cache/gh200-vllm"), "base").glob("debian-*.tar"))
needs_emulation = pytest.mark.skipif(not (EMULATOR and DEBIAN), reason="needs qemu-user-static and the sandbox's Debian for arm64 (npm run sandbox makes it)")


def compile_for_aarch64(name: str, *arguments) -> Path:
    out = WORK / f"aarch64-{name}"
    command = [FULL / "zig/ziglang/zig", "c++", "-target", "aarch64-linux-gnu.2.34", "-O1", *HEADERS[13], *arguments, "-o", out]
    subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | {"ZIG_GLOBAL_CACHE_DIR": str(FULL / "zig-cache"), "ZIG_LOCAL_CACHE_DIR": str(WORK / "zig-cache")})
    return out


@functools.cache
def libraries_of_debian() -> Path:
    names = ("ld-linux-aarch64.so.1", "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libgcc_s.so.1", "libstdc++.so.6", "libstdc++.so.6.0.30")
    with tarfile.open(DEBIAN[-1]) as tar:
        for name in names:
            tar.extract(f"./usr/lib/aarch64-linux-gnu/{name}", WORK / "debian", filter="data")
    (WORK / "debian/lib").symlink_to("usr/lib/aarch64-linux-gnu")
    return WORK / "debian"


@needs_emulation
def test_the_aarch64_wheel_allocates_through_us():
    ours = compile_for_aarch64("managed_alloc.so", "-std=c++17", "-shared", "-fPIC", "-x", "c++", ASSETS / "managed_alloc.cu")
    runtime = compile_for_aarch64("libcudart.so.13", "-std=c++17", "-shared", "-fPIC", "-Wl,-soname,libcudart.so.13", HERE / "fake_cudart.cpp")
    program = compile_for_aarch64("test", "-std=c++20", "-I", FULL / "torch-2.11.0/torch/include", HERE / "aarch64_test.cpp")
    wheel = FULL / "slots/2.11.0-aarch64"
    root = libraries_of_debian()
    done = subprocess.run([EMULATOR, "-L", root, program, runtime, wheel / "libc10.so", wheel / "libc10_cuda.so", ours], capture_output=True, text=True,
                          env={"QEMU_LD_PREFIX": str(root), "LD_LIBRARY_PATH": "/usr/lib/aarch64-linux-gnu"})
    # 3: managed memory; preferred on device 0; PyTorch takes 20 MiB for 4 and gives all of it back
    assert done.stdout == "type 3, preferred 0, 20 MiB placed, 0 left\n", done.stderr
