"""STAND-IN for torch.utils.cpp_extension: the same names, commands and environment (TORCH_CUDA_ARCH_LIST, PYTORCH_NVCC, CXX; LDFLAGS
as setuptools takes it), without ninja. Compiles for real."""
import os
import shlex
import subprocess
import sysconfig

from setuptools import Extension
from setuptools.command.build_ext import build_ext

CUDA_HOME = os.environ.get("CUDA_HOME", "/usr/local/cuda")
_TORCH = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def include_paths(device_type="cpu"):
    paths = [os.path.join(_TORCH, "include")]
    return paths + [os.path.join(CUDA_HOME, "include")] if device_type == "cuda" else paths


def library_paths(device_type="cpu"):
    paths = [os.path.join(_TORCH, "lib")]
    return paths + [os.path.join(CUDA_HOME, "lib64")] if device_type == "cuda" else paths


def CUDAExtension(name, sources, **options):
    return Extension(name, sources, **options)


def _gencode():
    flags = []
    for arch in os.environ["TORCH_CUDA_ARCH_LIST"].replace(" ", ";").split(";"):
        number = arch.replace(".", "")
        flags += ["-gencode", f"arch=compute_{number},code=sm_{number}"]
    return flags


class BuildExtension(build_ext):
    @classmethod
    def with_options(cls, **options):
        return cls

    def build_extension(self, extension):
        includes = [f"-I{p}" for p in include_paths("cuda") + [sysconfig.get_paths()["include"]] + extension.include_dirs]
        limited = ["-DPy_LIMITED_API=0x03080000"] if extension.py_limited_api else []
        os.makedirs(self.build_temp, exist_ok=True)
        objects = []
        for source in extension.sources:
            target = os.path.join(self.build_temp, source.replace("/", "_") + ".o")
            if source.endswith(".cu"):
                compiler = shlex.split(os.environ.get("PYTORCH_NVCC", os.path.join(CUDA_HOME, "bin", "nvcc")))
                command = compiler + _gencode() + ["-Xcompiler", "-fPIC"]
            else:
                command = shlex.split(os.environ.get("CXX", "g++")) + ["-O1", "-fPIC"] + limited
            self._run(command + ["-std=c++17", *includes, "-c", source, "-o", target])
            objects.append(target)
        output = self.get_ext_fullpath(extension.name)
        os.makedirs(os.path.dirname(output), exist_ok=True)
        libraries = [f"-L{p}" for p in library_paths("cuda")] + ["-lc10_cuda", "-lcudart"]
        # A build ID, as Ubuntu's compiler makes it unasked: a hash of all that is linked.
        self._run(["g++", "-shared", *shlex.split(os.environ.get("LDFLAGS", "")), "-Wl,--build-id", "-o", output, *objects, *libraries])

    def _run(self, command):
        print(shlex.join(command), flush=True)
        subprocess.run(command, check=True)
