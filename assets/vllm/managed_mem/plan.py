"""The memory plan: what is there, what may be used, and why. Pure arithmetic over a measurement; no torch, no CUDA call."""

import ctypes
import dataclasses
import glob
import json
import os
import re
from pathlib import Path

from . import refuse
from .settings import User, format_size

GIB, MIB = 1 << 30, 1 << 20
# The terms of the HBM account with their sources: the plan of the deployment (components/node/memory.ts) reads the same file.
HBM = json.loads(Path(__file__).with_name("hbm.json").read_text())
# `vllm serve` itself took 2.8 GiB (bench/runtime/RESULTS.md); the rest is for page cache and what a larger model loads through.
HOST_RESERVE_LEAST = 8 * GIB
HOST_RESERVE_SHARE = 0.04


@dataclasses.dataclass(frozen=True)
class Measured:
    """What is there before a CUDA context exists; of several GPUs, the one with least."""

    hbm_total: int | None  # the board's, as nvidia-smi says it; None: there is no NVML here
    hbm_used: int  # by others; with NVML's first version also what the driver keeps
    host_available: int  # free and reclaimable, NUMA nodes with CPUs only
    cgroup_left: int | None  # None: no limit
    device: str = ""
    simulated: str = ""
    hbm_driver: int = 0  # what the driver keeps, where NVML tells it apart
    hbm_cache: int = 0  # page cache of the kernel in the HBM, a part of hbm_used

    @property
    def hbm_context(self) -> int:
        """What a CUDA context and its libraries will take."""
        return min(HBM["contextMiB"] * MIB, int((self.hbm_total or 0) * HBM["contextMostShare"]))

    @property
    def hbm_free(self) -> int:
        """What a CUDA context will find free, once it has taken its own part."""
        return max(0, (self.hbm_total or 0) - self.hbm_driver - self.hbm_used - self.hbm_context)

    @property
    def hbm_taken(self) -> str:
        """The terms that no budget can have, in words."""
        cache = f" ({format_size(self.hbm_cache)} of it page cache)" if self.hbm_cache else ""
        return f"{format_size(self.hbm_driver)} of the driver, {format_size(self.hbm_used)} in use{cache}, {format_size(self.hbm_context)} of the CUDA context"


@dataclasses.dataclass(frozen=True)
class Plan:
    placement: str
    measured: Measured
    hbm_reserve: int
    hbm: int | None  # for weights and KV cache
    host_usable: int
    host_reserve: int
    host_most: int
    host: int
    prefixes: int = 0  # of the host's part, for vLLM's KV offloading

    @property
    def total(self) -> int | None:
        """What vLLM is shown as the device's memory."""
        return None if self.measured.hbm_total is None else self.measured.hbm_total + self.host - self.prefixes

    def lines(self) -> list[str]:
        measured = self.measured
        hbm = "not measured: no NVML here" if measured.hbm_total is None else (
            f"{format_size(measured.hbm_total)} total, {measured.hbm_taken}, {format_size(self.hbm_reserve)} reserve"
        )
        rows = [
            ("device", measured.device or "unknown"),
            ("placement", self.placement),
            ("HBM", hbm),
            ("HBM for weights and KV", "decided when the GPU is seen" if self.hbm is None else format_size(self.hbm)),
            ("host memory", f"{format_size(self.host_usable)} usable, {format_size(self.host_reserve)} reserve"),
            ("host for weights and KV", f"{format_size(self.host)} (at most {format_size(self.host_most)})"),
            *([("of it for prefixes", format_size(self.prefixes))] if self.prefixes else []),
            ("memory shown to vLLM", "decided when the GPU is seen" if self.total is None else format_size(self.total)),
        ]
        if measured.simulated:
            rows.insert(0, ("SIMULATED", measured.simulated))
        return [f"{name:<24} {value}" for name, value in rows]


def hbm_reserve(total: int, told: int | None, activations: int = 0, graphs: int = 0, outside: int = 0) -> int:
    """HBM that weights and KV cache must leave. The last three are known only after vLLM's profile run."""
    least = min(HBM["reserveLeastMiB"] * MIB, int(total * HBM["reserveMostShare"]))
    floor = max(int(total * HBM["reserveShare"]), least) if told is None else told
    return max(floor, activations + graphs + outside)


def grant_hbm(asked: int | None, free: int, total: int, reserve: int, terms: str) -> int:
    """HBM for weights and KV cache: what was asked for, and never more than is there.

    A budget is planned before the card is seen. A card that has a little less lowers it; one that has much less is not the
    planned one, and is refused.
    """
    most = max(0, free - reserve)
    if asked is None:
        return most
    tolerance = int(total * HBM["toleranceShare"])
    if asked > most + tolerance:
        refuse(
            f"MANAGED_MEM_HBM: {format_size(asked)}: more than {terms}, minus a reserve of {format_size(reserve)}, by more than the tolerance of "
            f"{format_size(tolerance)}; accepted: up to {format_size(most)} or auto; free what is in use, or lower it"
        )
    return min(asked, most)


def make(user: User, measured: Measured) -> Plan:
    usable = measured.host_available if measured.cgroup_left is None else min(measured.host_available, measured.cgroup_left)
    host_reserve = user.host_reserve
    if host_reserve is None:
        host_reserve = max(int(usable * HOST_RESERVE_SHARE), HOST_RESERVE_LEAST)
    most = max(0, usable - host_reserve)
    if user.host is not None and user.host > most:
        refuse(
            f"MANAGED_MEM_HOST: {format_size(user.host)}: more than the measured {format_size(usable)} minus a reserve of "
            f"{format_size(host_reserve)}; accepted: up to {format_size(most)} or auto; lower it, raise the pod's memory limit, "
            "or free LPDDR (EGM on hides it from the operating system)"
        )
    host = most if user.host is None else user.host
    if user.prefixes > host:
        refuse(f"MANAGED_MEM_PREFIXES: {format_size(user.prefixes)}: more than the {format_size(host)} of MANAGED_MEM_HOST, of which it is a part; accepted: up to {format_size(host)}; lower it or raise MANAGED_MEM_HOST")
    hbm = reserve = None
    if measured.hbm_total is not None:
        reserve = hbm_reserve(measured.hbm_total, user.hbm_reserve)
        hbm = grant_hbm(user.hbm, measured.hbm_free, measured.hbm_total, reserve, f"{format_size(measured.hbm_total)} minus {measured.hbm_taken}")
    return Plan(
        placement=user.placement,
        measured=measured,
        hbm_reserve=reserve or 0,
        hbm=hbm,
        host_usable=usable,
        host_reserve=host_reserve,
        host_most=most,
        host=host,
        prefixes=user.prefixes,
    )


def measure() -> Measured:
    gpu = read_nvml()
    return Measured(
        gpu.total, gpu.used, host_available(gpu_is_node=gpu.may_be_node), cgroup_left(), gpu.name, gpu.simulated, gpu.driver, page_cache(gpu.node)
    )


def page_cache(node: int | None, sysfs: str = "/sys/devices/system/node") -> int:
    """The kernel's page cache in the HBM, which only a GPU that is a NUMA node has. NVML counts it as used, and so does CUDA."""
    try:
        meminfo = Path(sysfs, f"node{node}", "meminfo").read_text()
    except OSError:
        return 0
    field = {m[1]: int(m[2]) * 1024 for m in re.finditer(r"Node \d+ (\S+):\s+(\d+) kB", meminfo)}
    return max(0, field.get("FilePages", 0) - field.get("Shmem", 0))


def host_available(sysfs: str = "/sys/devices/system/node", gpu_is_node: bool = True) -> int:
    """Free and reclaimable memory of the NUMA nodes that have CPUs.

    On a GH200 the HBM can be a node too, without CPUs. Other nodes without CPUs (hot-plugged memory of a virtual machine)
    count only where the driver says that its GPUs are no nodes.
    """
    available = 0
    for node in glob.glob(f"{sysfs}/node[0-9]*"):
        if gpu_is_node and not Path(node, "cpulist").read_text().strip():
            continue
        field = {m[1]: int(m[2]) * 1024 for m in re.finditer(r"Node \d+ (\S+):\s+(\d+) kB", Path(node, "meminfo").read_text())}
        available += field["MemFree"] + field.get("Inactive(file)", 0) + field.get("SReclaimable", 0)
    if not available:  # no NUMA in this kernel
        available = int(re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())[1]) * 1024
    return available


# (line of /proc/self/cgroup, mount below /sys/fs/cgroup, limit, use, reclaimable in memory.stat) of cgroup v2 and v1. Both may be mounted.
_CGROUPS = (
    (r"^0::(\S*)$", "", "memory.max", "memory.current", "inactive_file"),
    (r"^\d+:(?:\S+,)?memory(?:,\S+)?:(\S*)$", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)
V1_UNLIMITED = 1 << 60  # v1 writes «no limit» as the largest multiple of the page size


def cgroup_left(root: str = "/sys/fs/cgroup", membership: str = "/proc/self/cgroup") -> int | None:
    """The tightest memory limit on the way up from this process, minus what is in use under it and cannot be reclaimed."""
    groups = Path(membership).read_text() if os.path.exists(membership) else ""
    tightest = None
    for line, mount, limit_file, used_file, reclaimable in _CGROUPS:
        top = Path(root, mount)
        found = re.search(line, groups, re.MULTILINE)
        # In a container the path can be the host's, which does not exist here: then the way up ends at the container's own group.
        group = top / found[1].lstrip("/") if found else top
        for directory in [group, *group.parents]:
            try:
                limit = (directory / limit_file).read_text().strip()
                used = int((directory / used_file).read_text())
                inactive = re.search(rf"^{reclaimable} (\d+)", (directory / "memory.stat").read_text(), re.MULTILINE)
            except (OSError, ValueError):
                limit = "max"
            if limit != "max" and int(limit) < V1_UNLIMITED:
                left = max(0, int(limit) - used + (int(inactive[1]) if inactive else 0))
                tightest = left if tightest is None else min(tightest, left)
            if directory == top:
                break
    return tightest


class _NvmlMemory(ctypes.Structure):
    _fields_ = [("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong)]


class _NvmlMemory2(ctypes.Structure):
    """nvmlMemory_v2_t: tells what the driver keeps from what is used. Driver 510 and newer."""

    _fields_ = [("version", ctypes.c_uint), *((name, ctypes.c_ulonglong) for name in ("total", "reserved", "free", "used"))]


NOT_SUPPORTED = 3  # nvmlReturn_t


@dataclasses.dataclass(frozen=True)
class Gpu:
    """What NVML says of a GPU, in bytes."""

    total: int | None = None
    used: int = 0
    driver: int = 0
    name: str = ""
    simulated: str = ""
    may_be_node: bool = True  # whether the HBM may be a NUMA node
    node: int | None = None


def read_nvml() -> Gpu:
    """The visible GPU with the least free HBM. NVML, because a CUDA call here would break the forks of vLLM."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return Gpu()
    simulated = ""
    if hasattr(nvml, "nvml_stand_in"):
        nvml.nvml_stand_in.restype = ctypes.c_char_p
        simulated = nvml.nvml_stand_in().decode()
    if nvml.nvmlInit_v2():
        return Gpu(simulated=simulated)
    try:
        gpus = [gpu for handle in _visible(nvml) if (gpu := _read_gpu(nvml, handle, simulated))]
        return min(gpus, key=lambda gpu: gpu.total - gpu.driver - gpu.used, default=Gpu(simulated=simulated))
    finally:
        nvml.nvmlShutdown()


def _visible(nvml) -> list[ctypes.c_void_p]:
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        count = ctypes.c_uint()
        nvml.nvmlDeviceGetCount_v2(ctypes.byref(count))  # stays 0 where it fails
        names = [str(i) for i in range(count.value)]
    else:
        names = [name.strip() for name in told.split(",") if name.strip()]
    handles = []
    for name in names:
        handle = ctypes.c_void_p()
        if name.isdigit():
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(name)), ctypes.byref(handle))
        else:
            failed = nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(handle))
        if not failed:
            handles.append(handle)
    return handles


def _read_gpu(nvml, handle: ctypes.c_void_p, simulated: str) -> Gpu | None:
    memory, name, node = _NvmlMemory2(version=ctypes.sizeof(_NvmlMemory2) | 2 << 24), ctypes.create_string_buffer(96), ctypes.c_uint()
    if not hasattr(nvml, "nvmlDeviceGetMemoryInfo_v2") or nvml.nvmlDeviceGetMemoryInfo_v2(handle, ctypes.byref(memory)):
        first = _NvmlMemory()
        if nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(first)):
            return None
        memory.total, memory.reserved, memory.used = first.total, 0, first.used
    nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name)))
    asked = nvml.nvmlDeviceGetNumaNodeId(handle, ctypes.byref(node)) if hasattr(nvml, "nvmlDeviceGetNumaNodeId") else None
    return Gpu(
        memory.total, memory.used, memory.reserved, name.value.decode(), simulated,
        may_be_node=asked != NOT_SUPPORTED, node=node.value if asked == 0 else None,
    )


def kv_bytes(hbm: int, host: int, layers: int, rounding: int) -> int:
    """The largest KV cache that fits, however many tensors vLLM makes of it: at most one for each layer.

    A tensor can lie on both sides, so that only roundings are lost: PyTorch rounds each up, and each is split at a whole page.
    """
    return max(0, hbm + host - kv_rounding(layers, rounding))


def kv_rounding(layers: int, rounding: int) -> int:
    return 2 * rounding * layers
