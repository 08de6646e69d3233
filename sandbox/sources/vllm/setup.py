"""STAND-IN for vLLM's setup.py: the same environment, the compiler of torch.utils.cpp_extension in place of CMake."""
import os
from pathlib import Path

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

# As upstream's CMake: with these set, nothing is fetched; the build step has no network.
SOURCES = {
    "VLLM_CUTLASS_SRC_DIR": "include",
    "VLLM_FLASH_ATTN_SRC_DIR": "hopper",
    "FLASH_MLA_SRC_DIR": "csrc",
    "QUTLASS_SRC_DIR": "include",
}
includes = [str(Path(os.environ[name]) / folder) for name, folder in SOURCES.items()]
if not (Path(os.environ["TRITON_KERNELS_SRC_DIR"]) / "__init__.py").exists():
    raise SystemExit("TRITON_KERNELS_SRC_DIR: no triton_kernels there")
# Both of the wheel's contents that the patches change.
if "flashinfer-cubin" in Path("requirements/cuda.txt").read_text() or Path("CMakeLists.txt").read_text().count('9.0+PTX"') != 4:
    raise SystemExit("the sources are not patched")

setup(
    version=os.environ["VLLM_VERSION_OVERRIDE"].split("+")[0] + "+stand.in",
    ext_modules=[
        CUDAExtension("vllm._C", sources=["csrc/torch_bindings.cpp", "csrc/cache_kernels.cu"], include_dirs=includes, py_limited_api=True)
    ],
    cmdclass={"build_ext": BuildExtension},
)
