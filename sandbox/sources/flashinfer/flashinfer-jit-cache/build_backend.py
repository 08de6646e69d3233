"""STAND-IN for FlashInfer's build backend: compiles from the parent tree, as upstream does."""
import sys
from pathlib import Path

from setuptools import build_meta as _orig
from setuptools.command import bdist_wheel as _command

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


class _PlatformWheel(_command.bdist_wheel):
    def finalize_options(self):
        super().finalize_options()
        self.root_is_pure = False

    def get_tag(self):
        return "cp39", "abi3", "manylinux_2_28_aarch64"


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    from flashinfer import aot

    aot.compile_and_package_modules(Path(__file__).parent / "flashinfer_jit_cache" / "jit_cache", ROOT / "build" / "aot", ROOT)
    _command.bdist_wheel = _PlatformWheel
    return _orig.build_wheel(wheel_directory, config_settings, metadata_directory)


get_requires_for_build_wheel = _orig.get_requires_for_build_wheel
prepare_metadata_for_build_wheel = _orig.prepare_metadata_for_build_wheel
