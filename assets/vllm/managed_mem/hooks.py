"""What happens in a Python process when it imports PyTorch or vLLM. Nothing before, so that other processes stay as they are."""

import importlib.abc
import os
import re
import sys
import threading

from . import refuse, say
from .settings import OPT_IN, Handed

_lock = threading.RLock()
_installed: Handed | None = None


class _AfterImport(importlib.abc.MetaPathFinder):
    """Runs an action once a module's own code has run, in whichever thread imports it."""

    def __init__(self, actions):
        self._actions = actions
        self._done = set()
        self._busy = threading.local()

    def find_spec(self, name, path=None, target=None):
        if name not in self._actions or name in self._done or getattr(self._busy, "name", None) == name:
            return None
        self._busy.name = name
        try:
            spec = next((s for f in sys.meta_path if f is not self and hasattr(f, "find_spec") and (s := f.find_spec(name, path, target))), None)
        finally:
            self._busy.name = None
        if spec is None or spec.loader is None:
            return None
        run, action, done = spec.loader.exec_module, self._actions[name], self._done

        def exec_module(module):
            run(module)
            with _lock:
                if name not in done:
                    done.add(name)
                    action(module)

        spec.loader.exec_module = exec_module
        return spec


def install(settings: Handed) -> None:
    """Once per process, however often it is called."""
    global _installed
    with _lock:
        if _installed is not None:
            if _installed != settings:
                refuse("the package is installed already with other settings; accepted: one set per process")
            return
        _installed = settings
        from . import patches

        actions = patches.actions(settings)
        for name in list(actions):
            if name in sys.modules:  # imported before us: still in time, the actions refuse where it is too late
                actions.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, _AfterImport(actions))
        sys.addaudithook(_watch_children)


def _watch_children(event: str, args) -> None:
    """A Python child that ignores PYTHONPATH or lost our variable would run unmanaged: it is not started."""
    if event != "subprocess.Popen":
        return
    executable, arguments, _cwd, environment = args
    problem = uncovered(executable, arguments, environment)
    if problem:
        say(f"{problem}: the child process would not be covered, so it is not started; start it without that, or set MANAGED_MEM_PLACEMENT=off")
        raise PermissionError(f"managed-mem: {problem}")


def uncovered(executable, arguments, environment) -> str | None:
    """Why this child would not load our sitecustomize, or None."""
    words = [os.fsdecode(a) for a in ([arguments] if isinstance(arguments, (str, bytes)) else arguments or [])]
    program = os.path.basename(os.fsdecode(executable or (words[0] if words else "")))
    if not re.fullmatch(r"python[\d.]*", program):
        return None
    for word in words[1:]:
        if not word.startswith("-") or word in ("-c", "-m", "-"):
            break
        letters = re.split("[WXc]", word)[0]  # what follows these is their argument
        if not word.startswith("--") and (flag := re.search("[IES]", letters)):
            return f"python -{flag.group()}"
    if environment is not None:
        names = {os.fsdecode(k) for k in environment}
        for name in (OPT_IN, "PYTHONPATH"):
            if name not in names:
                return f"an environment without {name}"
    return None
