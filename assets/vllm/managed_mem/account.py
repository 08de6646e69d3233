"""The account of every engine process, on vLLM's own /metrics.

The counters live where memory is taken, in the engine's process; /metrics is served by another. So each engine keeps its
account in a small file, and the server reads the files when it is scraped: nothing is sent, and a dead engine's last
figures stay readable.
"""

import glob
import os
import struct
from collections.abc import Iterator

from .library import KINDS, ROW_FIELDS, Row
from .settings import Handed

MAGIC = 0x3130414D00000001
DEVICES = 16
_HEAD = struct.Struct("<4Q")
_ROW = struct.Struct(f"<{ROW_FIELDS}Q")


def path_for(run_dir: str) -> str:
    return os.path.join(run_dir, f"account-{os.getpid()}")


def read(run_dir: str) -> Iterator[tuple[int, bool, str, int, Row]]:
    """(process, simulated, kind, device, row) of every row that was ever used."""
    for path in sorted(glob.glob(os.path.join(run_dir, "account-*"))):
        try:
            with open(path, "rb") as file:
                data = file.read()
        except OSError:
            continue
        if len(data) < _HEAD.size + len(KINDS) * DEVICES * _ROW.size:
            continue
        magic, pid, _placement, stand_in = _HEAD.unpack_from(data)
        if magic != MAGIC:
            continue
        for kind, name in enumerate(KINDS):
            for device in range(DEVICES):
                row = Row(*_ROW.unpack_from(data, _HEAD.size + (kind * DEVICES + device) * _ROW.size))
                if any(vars(row).values()):
                    yield pid, bool(stand_in), name, device, row


class Collector:
    """What prometheus_client calls at each scrape."""

    def __init__(self, settings: Handed):
        self._run_dir = settings.run_dir

    def collect(self):
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        labels = ["pid", "device", "kind", "simulated"]
        placed = GaugeMetricFamily("managed_mem_placed_bytes", "Segments placed, by where they were placed.", labels=[*labels, "where"])
        budget = GaugeMetricFamily("managed_mem_budget_bytes", "Hard limits.", labels=[*labels, "where"])
        peak = GaugeMetricFamily("managed_mem_placed_peak_bytes", "Most that was ever placed.", labels=[*labels, "where"])
        counters = {
            "placed": CounterMetricFamily("managed_mem_segments_placed", "Segments taken from the driver.", labels=labels),
            "freed": CounterMetricFamily("managed_mem_segments_freed", "Segments given back to the driver.", labels=labels),
            "refused": CounterMetricFamily("managed_mem_refused", "Segments refused because of the budget.", labels=labels),
            "failed": CounterMetricFamily("managed_mem_failed", "Segments that the driver refused.", labels=labels),
        }
        ooms = CounterMetricFamily("managed_mem_out_of_memory", "Out-of-memory errors that PyTorch raised.", labels=["pid", "device"])
        for pid, simulated, kind, device, row in read(self._run_dir):
            values = [str(pid), str(device), kind, "1" if simulated else "0"]
            for where, used, limit, most in (("hbm", row.hbm, row.hbm_limit, row.hbm_peak), ("host", row.host, row.host_limit, row.host_peak)):
                placed.add_metric([*values, where], used)
                budget.add_metric([*values, where], limit)
                peak.add_metric([*values, where], most)
            for field, family in counters.items():
                family.add_metric(values, getattr(row, field))
            if kind == "other":
                ooms.add_metric([str(pid), str(device)], row.ooms)
        yield from (placed, budget, peak, *counters.values(), ooms)
