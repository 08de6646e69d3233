"""STAND-IN for flashinfer.aot: compiles the one kernel for the architectures of FLASHINFER_CUDA_ARCH_LIST."""
import os
import pathlib
import shlex
import subprocess

from torch.utils.cpp_extension import include_paths, library_paths


def compile_and_package_modules(out_dir, build_dir, project_root, config=None, verbose=False, skip_prebuilt=False):
    # As upstream: no other variable is read, and none means an error.
    architectures = os.environ["FLASHINFER_CUDA_ARCH_LIST"].split()
    nvcc = shlex.split(os.environ.get("FLASHINFER_NVCC", "nvcc"))
    pathlib.Path(build_dir).mkdir(parents=True, exist_ok=True)
    target = pathlib.Path(out_dir) / "norm" / "norm.so"
    target.parent.mkdir(parents=True, exist_ok=True)
    flags = [flag for a in architectures for flag in ("-gencode", "arch=compute_{0},code=sm_{0}".format(a.replace(".", "")))]
    includes = [f"-I{path}" for path in include_paths("cuda")]
    subprocess.run([*nvcc, *flags, "-std=c++17", "-Xcompiler", "-fPIC", *includes, "-c", "csrc/norm.cu", "-o", f"{build_dir}/norm.o"], cwd=project_root, check=True)
    libraries = [f"-L{path}" for path in library_paths("cuda")] + ["-lc10_cuda", "-lcudart"]
    link = shlex.split(os.environ.get("FLASHINFER_EXTRA_LDFLAGS", ""))
    subprocess.run(["g++", "-shared", *link, "-Wl,--build-id", "-o", target, f"{build_dir}/norm.o", *libraries], check=True)
