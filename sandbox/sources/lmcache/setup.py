import os

from setuptools import setup
from torch.utils import cpp_extension

setup(
    version=os.environ["SETUPTOOLS_SCM_PRETEND_VERSION_FOR_LMCACHE"] + "+stand.in",
    ext_modules=[cpp_extension.CUDAExtension("lmcache.c_ops", sources=["csrc/pybind.cpp", "csrc/mem_kernels.cu"])],
    cmdclass={"build_ext": cpp_extension.BuildExtension},
)
