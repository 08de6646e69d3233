"""Loaded by every Python below the launcher, because the launcher puts this directory first on PYTHONPATH.

Does nothing where the launcher's variable is unset, and then goes on to the sitecustomize that this one hides.
"""

import os
import sys


def _chain() -> None:
    """Runs the sitecustomize that would have been loaded without this directory on the path."""
    from importlib.machinery import PathFinder

    here = os.path.realpath(os.path.dirname(__file__))
    spec = PathFinder.find_spec("sitecustomize", [p for p in sys.path if os.path.realpath(p or ".") != here])
    if spec is not None and spec.loader is not None:
        from importlib.util import module_from_spec

        spec.loader.exec_module(module_from_spec(spec))


if os.environ.get("MANAGED_MEM"):
    try:
        from managed_mem import hooks, settings

        hooks.install(settings.handed())
    except Exception as error:
        # `site` prints an exception and goes on, which would leave the process unmanaged.
        sys.stderr.write(f"managed-mem: refused: sitecustomize: {type(error).__name__}: {error}; accepted: the package of this image; rebuild the image\n")
        sys.stderr.flush()
        os._exit(78)

_chain()
