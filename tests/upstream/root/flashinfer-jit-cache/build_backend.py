"""Asks for FlashInfer's kernels as flashinfer-jit-cache's own backend does. That folder is in FlashInfer's repository and not in its
source distribution, which is what tests/upstream takes the sources from."""
import os
import sys
from pathlib import Path

from setuptools.build_meta import prepare_metadata_for_build_wheel  # noqa: F401

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    os.environ["FLASHINFER_DISABLE_VERSION_CHECK"] = "1"
    from flashinfer import aot

    aot.compile_and_package_modules(
        out_dir=Path(wheel_directory), build_dir=ROOT / "build" / "aot", project_root=ROOT, config=None, verbose=True, skip_prebuilt=False
    )
    raise SystemExit("every kernel is compiled; there is no package around them in the source distribution")
