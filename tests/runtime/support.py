"""Builds the libraries under test and runs Python children with them."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
ASSETS = HERE.parents[1] / "assets/vllm"
LAUNCHER = ASSETS / "vllm_managed_mem.py"
FAST = Path(os.environ["RUNTIME_FAST"])
FULL = Path(os.environ.get("RUNTIME_FULL", "/nonexistent"))
WORK = Path(tempfile.mkdtemp(prefix="runtime-tests-"))
PACKAGES = next((FAST / "lib").glob("python*/site-packages")) / "nvidia"
HEADERS = {12: ["-I", f"{PACKAGES}/cuda_runtime/include", "-I", f"{PACKAGES}/cuda_nvcc/include"], 13: ["-I", f"{PACKAGES}/cu13/include"]}
MIB = 1 << 20


@functools.cache
def build(name: str, *sources: str, cuda: int = 13, flags: tuple = ("-O1", "-shared", "-fPIC")) -> Path:
    out = WORK / name
    subprocess.run(["g++", "-std=c++17", "-g", "-Wall", "-Wextra", "-Werror", *flags, *HEADERS[cuda], "-x", "c++", *sources, "-o", str(out), "-ldl", "-lpthread"], check=True, capture_output=True, text=True)
    return out


def library(cuda: int = 13) -> Path:
    return build(f"managed_alloc-{cuda}.so", str(ASSETS / "managed_alloc.cu"), cuda=cuda)


def fake_runtime(cuda: int = 13) -> Path:
    build("libcuda.so.1", str(HERE / "fake_libcuda.cpp"), flags=("-O1", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1"))
    return build(f"fake-cudart-{cuda}.so", str(HERE / "fake_cudart.cpp"), cuda=cuda)


def fake_nvml() -> Path:
    """A directory with a stand-in NVML. With it vLLM takes its CUDA platform, without it the worker can be driven alone."""
    (WORK / "nvml").mkdir(exist_ok=True)
    return build("nvml/libnvidia-ml.so.1", str(HERE / "fake_nvml.cpp"), flags=("-O1", "-shared", "-fPIC", "-Wl,-soname,libnvidia-ml.so.1")).parent


def handed(path: Path, run_dir: Path, placement: str = "hbm-first", hbm_mib: int | None = None, reserve_mib: int = 64, host_mib: int = 0, accept: bool = True, kv_hbm_mib: int = 0, prefixes_mib: int = 0, utilization_given: bool = False) -> str:
    """What the launcher would hand to its children."""
    sys.path.insert(0, str(ASSETS))
    from managed_mem.settings import Handed

    return Handed(placement=placement, library=str(path), run_dir=str(run_dir), hbm=None if hbm_mib is None else hbm_mib * MIB, hbm_reserve=reserve_mib * MIB,
                  kv_hbm=kv_hbm_mib * MIB, host=host_mib * MIB, prefixes=prefixes_mib * MIB, utilization_given=utilization_given, accept_stand_in=accept).dump()


def python(*arguments: str, torch: str | None = None, vllm: str | None = None, opt_in: str | None = None, extra_path: str = "", nvml: bool = False, stdin: str = "", timeout: int = 300, **environment: str) -> subprocess.CompletedProcess:
    """A Python child. With TORCH it runs over the stand-in runtime of that PyTorch's CUDA."""
    env = {k: v for k, v in os.environ.items() if not k.startswith(("MANAGED_MEM", "PYTORCH_", "LD_"))} | environment
    path = [str(ASSETS), extra_path]
    program = sys.executable
    if torch:
        program = str(FULL / "venv/bin/python")
        cuda = 12 if torch == "2.10.0" else 13
        env |= {"LD_PRELOAD": str(fake_runtime(cuda)), "LD_LIBRARY_PATH": f"{WORK}:{fake_nvml() if nvml else ''}", "VLLM_LOGGING_LEVEL": "ERROR", "HF_HUB_OFFLINE": "1"}
        path.append(str(FULL / f"torch-{torch}"))
    if vllm:
        path.append(str(FULL / f"vllm-{vllm}"))
    if opt_in:
        env["MANAGED_MEM"] = opt_in
    env["PYTHONPATH"] = os.pathsep.join(p for p in path if p)
    return subprocess.run([program, *arguments], env=env, input=stdin, capture_output=True, text=True, timeout=timeout)


def last_json(done: subprocess.CompletedProcess) -> dict:
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def assert_refused(done: subprocess.CompletedProcess, *words: str) -> None:
    lines = [line for line in done.stderr.splitlines() if line.startswith("managed-mem: refused: ")]
    assert done.returncode == 78, (done.returncode, done.stderr[-1500:])
    assert all(word in lines[-1] for word in words), lines
    assert "Traceback" not in done.stderr
