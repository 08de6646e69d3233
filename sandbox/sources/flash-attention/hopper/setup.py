from pathlib import Path

from setuptools import setup
from torch.utils.cpp_extension import BuildExtension, CUDAExtension

setup(
    name="flash_attn_3",
    version="3.0.0+stand.in",
    packages=["flash_attn_3"],
    package_dir={"flash_attn_3": "."},
    py_modules=["flash_attn_interface"],
    ext_modules=[
        CUDAExtension(
            "flash_attn_3._C",
            sources=["flash_api_stable.cpp", "flash_fwd.cu"],
            include_dirs=[str(Path(__file__).parent.parent / "csrc" / "cutlass" / "include")],
            py_limited_api=True,
        )
    ],
    cmdclass={"build_ext": BuildExtension},
    options={"bdist_wheel": {"py_limited_api": "cp310"}},
)
