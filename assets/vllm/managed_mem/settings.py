"""What the user may set (environment), and what the launcher hands to every process below it (one variable)."""

import dataclasses
import json
import os
import re
from pathlib import Path

from . import LIBRARY_VERSION, refuse

# The opt-in. Set by the launcher only, for its own children; where it is unset nothing here does anything.
OPT_IN = "MANAGED_MEM"

PLACEMENTS = ("hbm-first", "managed", "managed-prefetch")
UNITS = {"": 1, "B": 1, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40}
USER_VARIABLES = {
    "MANAGED_MEM_PLACEMENT": "hbm-first (default), managed, managed-prefetch, or off (plain vLLM)",
    "MANAGED_MEM_HBM": "HBM for weights and KV cache; default auto: what is free minus the reserve",
    "MANAGED_MEM_HBM_RESERVE": "HBM left to activations, graphs, NCCL and the driver; default auto",
    "MANAGED_MEM_KV_HBM": "part of MANAGED_MEM_HBM kept for the KV cache when weights overflow; default 0",
    "MANAGED_MEM_HOST": "host memory (LPDDR) for what HBM cannot hold; default auto: what is measured minus the reserve",
    "MANAGED_MEM_PREFIXES": "part of MANAGED_MEM_HOST for vLLM's KV offloading, which copies prefixes there and back; default 0: what is left extends the KV cache",
    "MANAGED_MEM_HOST_RESERVE": "host memory left to the processes and the page cache; default auto",
    "MANAGED_MEM_LIBRARY": "path of managed_alloc.so; default: beside the launcher",
    "MANAGED_MEM_RUN_DIR": "writable directory for the memory account; default /dev/shm, else the temporary directory",
    "MANAGED_MEM_ACCEPT_STAND_IN": "1 accepts stand-ins for CUDA, PyTorch or vLLM; everything is then reported as SIMULATED",
}


def parse_size(name: str, text: str) -> int:
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\s*", text, re.IGNORECASE)
    unit = UNITS.get(match.group(2).upper()) if match else None
    if unit is None:
        refuse(f"{name}: {text!r}: not a size; accepted: auto, bytes, or a number with KiB, MiB, GiB or TiB; write for example 64GiB")
    return int(float(match.group(1)) * unit)


def format_size(size: int) -> str:
    return f"{size / (1 << 30):.2f} GiB"


@dataclasses.dataclass(frozen=True)
class User:
    """The user's settings. None stands for «auto»."""

    placement: str
    hbm: int | None
    hbm_reserve: int | None
    kv_hbm: int
    host: int | None
    prefixes: int
    host_reserve: int | None
    library: str
    run_dir: str | None
    accept_stand_in: bool


def read_user(environ=os.environ) -> User:
    unknown = [k for k in environ if k.startswith("MANAGED_MEM_") and k not in USER_VARIABLES]
    if unknown:
        refuse(f"{unknown[0]}: {environ[unknown[0]]!r}: no such setting; accepted: {', '.join(USER_VARIABLES)}; correct the name")

    def size(name: str) -> int | None:
        text = environ.get(name, "auto")
        return None if text == "auto" else parse_size(name, text)

    placement = environ.get("MANAGED_MEM_PLACEMENT", "hbm-first")
    if placement not in (*PLACEMENTS, "off"):
        refuse(f"MANAGED_MEM_PLACEMENT: {placement!r}: unknown; accepted: {', '.join(PLACEMENTS)}, off; choose one")
    accept = environ.get("MANAGED_MEM_ACCEPT_STAND_IN", "0")
    if accept not in ("0", "1"):
        refuse(f"MANAGED_MEM_ACCEPT_STAND_IN: {accept!r}: unknown; accepted: 0, 1; unset it on real hardware")
    return User(
        placement=placement,
        hbm=size("MANAGED_MEM_HBM"),
        hbm_reserve=size("MANAGED_MEM_HBM_RESERVE"),
        kv_hbm=size("MANAGED_MEM_KV_HBM") or 0,
        host=size("MANAGED_MEM_HOST"),
        prefixes=size("MANAGED_MEM_PREFIXES") or 0,
        host_reserve=size("MANAGED_MEM_HOST_RESERVE"),
        library=environ.get("MANAGED_MEM_LIBRARY", str(Path(__file__).resolve().parents[1] / "managed_alloc.so")),
        run_dir=environ.get("MANAGED_MEM_RUN_DIR"),
        accept_stand_in=accept == "1",
    )


@dataclasses.dataclass(frozen=True)
class Handed:
    """What the launcher decided, for every process below it."""

    placement: str
    library: str
    run_dir: str
    hbm: int | None
    hbm_reserve: int | None
    kv_hbm: int
    host: int  # for weights and KV cache, of all GPUs; what vLLM's KV offloading has is taken off
    prefixes: int
    utilization_given: bool
    accept_stand_in: bool
    version: str = LIBRARY_VERSION

    def dump(self) -> str:
        return json.dumps(dataclasses.asdict(self), separators=(",", ":"))


def handed(environ=os.environ) -> Handed | None:
    """The launcher's decision, or None where the opt-in is unset."""
    text = environ.get(OPT_IN)
    if not text:
        return None
    try:
        settings = Handed(**json.loads(text))
    except (TypeError, ValueError):
        refuse(f"{OPT_IN}: {text[:80]!r}: not written by this launcher; accepted: unset; start through vllm_managed_mem.py")
    if settings.version != LIBRARY_VERSION:
        refuse(f"{OPT_IN}: version {settings.version!r}: accepted: {LIBRARY_VERSION}; use launcher and package of one image")
    return settings
