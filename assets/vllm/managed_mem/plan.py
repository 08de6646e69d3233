"""The memory plan: what is there, what may be used, and why. Pure arithmetic over a measurement; no torch, no CUDA call."""

import ctypes
import dataclasses
import glob
import os
import re
from pathlib import Path

from . import refuse
from .settings import User, format_size

GIB = 1 << 30
# Below 4 percent free HBM the driver evicts managed pages before it reclaims page cache (RmNumaAllocSkipReclaimPercent).
HBM_RESERVE_SHARE = 0.04
HBM_RESERVE_LEAST = 1 * GIB
# `vllm serve` itself took 2.8 GiB (bench/runtime/RESULTS.md); the rest is for page cache and what a larger model loads through.
HOST_RESERVE_LEAST = 8 * GIB
HOST_RESERVE_SHARE = 0.04


@dataclasses.dataclass(frozen=True)
class Measured:
    hbm_total: int | None  # None: there is no NVML here
    hbm_used: int
    host_available: int  # free and reclaimable, NUMA nodes with CPUs only
    cgroup_left: int | None  # None: no limit
    device: str = ""
    simulated: str = ""


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

    @property
    def total(self) -> int | None:
        """What vLLM is shown as the device's memory."""
        return None if self.measured.hbm_total is None else self.measured.hbm_total + self.host

    def lines(self) -> list[str]:
        measured = self.measured
        hbm = "not measured: no NVML here" if measured.hbm_total is None else (
            f"{format_size(measured.hbm_total)} total, {format_size(measured.hbm_used)} in use, {format_size(self.hbm_reserve)} reserve"
        )
        rows = [
            ("device", measured.device or "unknown"),
            ("placement", self.placement),
            ("HBM", hbm),
            ("HBM for weights and KV", "decided when the GPU is seen" if self.hbm is None else format_size(self.hbm)),
            ("host memory", f"{format_size(self.host_usable)} usable, {format_size(self.host_reserve)} reserve"),
            ("host for weights and KV", f"{format_size(self.host)} (at most {format_size(self.host_most)})"),
            ("memory shown to vLLM", "decided when the GPU is seen" if self.total is None else format_size(self.total)),
        ]
        if measured.simulated:
            rows.insert(0, ("SIMULATED", measured.simulated))
        return [f"{name:<24} {value}" for name, value in rows]


def hbm_reserve(total: int, told: int | None, activations: int = 0, graphs: int = 0, outside: int = 0) -> int:
    """HBM that weights and KV cache must leave. The last three are known only after vLLM's profile run."""
    floor = max(int(total * HBM_RESERVE_SHARE), HBM_RESERVE_LEAST) if told is None else told
    return max(floor, activations + graphs + outside)


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
    hbm = reserve = None
    if measured.hbm_total is not None:
        reserve = hbm_reserve(measured.hbm_total, user.hbm_reserve)
        hbm_most = max(0, measured.hbm_total - measured.hbm_used - reserve)
        if user.hbm is not None and user.hbm > hbm_most:
            refuse(
                f"MANAGED_MEM_HBM: {format_size(user.hbm)}: more than {format_size(measured.hbm_total)} minus {format_size(measured.hbm_used)} "
                f"in use minus a reserve of {format_size(reserve)}; accepted: up to {format_size(hbm_most)} or auto; lower it"
            )
        hbm = hbm_most if user.hbm is None else user.hbm
    return Plan(
        placement=user.placement,
        measured=measured,
        hbm_reserve=reserve or 0,
        hbm=hbm,
        host_usable=usable,
        host_reserve=host_reserve,
        host_most=most,
        host=most if user.host is None else user.host,
    )


def measure() -> Measured:
    total, used, device, simulated, gpu_is_node = read_nvml()
    return Measured(total, used, host_available(gpu_is_node=gpu_is_node), cgroup_left(), device, simulated)


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


NOT_SUPPORTED = 3  # nvmlReturn_t


def read_nvml() -> tuple[int | None, int, str, str, bool]:
    """Total and used HBM, the name, a stand-in's own words, and whether the GPU may be a NUMA node. NVML, because a CUDA call here would break the forks of vLLM."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None, 0, "", "", True
    simulated = ""
    if hasattr(nvml, "nvml_stand_in"):
        nvml.nvml_stand_in.restype = ctypes.c_char_p
        simulated = nvml.nvml_stand_in().decode()
    handle, memory, name = ctypes.c_void_p(), _NvmlMemory(), ctypes.create_string_buffer(96)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0].strip()
    if nvml.nvmlInit_v2():
        return None, 0, "", simulated, True
    try:
        if visible.isdigit():
            failed = nvml.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(int(visible)), ctypes.byref(handle))
        else:
            failed = nvml.nvmlDeviceGetHandleByUUID(visible.encode(), ctypes.byref(handle))
        if failed or nvml.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)):
            return None, 0, "", simulated, True
        nvml.nvmlDeviceGetName(handle, name, ctypes.c_uint(len(name)))
        node = ctypes.c_uint()
        gpu_is_node = not hasattr(nvml, "nvmlDeviceGetNumaNodeId") or nvml.nvmlDeviceGetNumaNodeId(handle, ctypes.byref(node)) != NOT_SUPPORTED
        return memory.total, memory.used, name.value.decode(), simulated, gpu_is_node
    finally:
        nvml.nvmlShutdown()


def kv_bytes(hbm: int, host: int, tensors: int, rounding: int) -> int:
    """The largest KV cache of equal tensors that fits: a tensor lies in HBM or on the host as a whole.

    With k tensors in HBM each may have hbm / k bytes and host / (tensors - k): the best k decides.
    """
    if tensors == 0:
        return 0
    best = 0
    for k in range(tensors + 1):
        in_hbm = hbm // k if k else None
        on_host = host // (tensors - k) if k < tensors else None
        best = max(best, min(size for size in (in_hbm, on_host) if size is not None))
    return max(0, best // rounding * rounding) * tensors
