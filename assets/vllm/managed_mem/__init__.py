"""vLLM over one memory: HBM first, LPDDR after it. See docs/decisions/0100-runtime-placement.md.

Nothing in this file imports torch: every Python process of the container loads it.
"""

import os
import sys
from typing import NoReturn

# Interface of managed_alloc.so that this package speaks.
LIBRARY_VERSION = "2"

# Exit status of a refusal. 78 is EX_CONFIG of sysexits.h: a person must change something, a restart will not help.
REFUSED = 78


def refuse(message: str) -> NoReturn:
    """Ends the process with one line, which `refused` tells from what is only said: whoever reads a log finds it by that word.

    os._exit, because an exception raised inside an import hook or a plug-in is caught and logged by its callers,
    and the process would go on with unmanaged memory.
    """
    sys.stdout.flush()
    sys.stderr.write(f"managed-mem: refused: {message}\n")
    sys.stderr.flush()
    os._exit(REFUSED)


def say(message: str) -> None:
    """One line on stderr: stdout belongs to the programs that are started."""
    sys.stderr.write(f"managed-mem: {message}\n")
    sys.stderr.flush()
