"""What only a GH200 can show. usage: gh200.py LIBRARY [--evict]     Unrun so far: no GH200 was at hand.

Capacity: host segments of 8 GiB are placed, written by the GPU and read back, until the plan's host budget or 80 percent of
the memory limit is reached. Link: the read rate of every segment, with a floor of 300 GB/s. --evict, for a machine of one's own:
managed segments past the HBM, to see what the driver does with them. One JSON line per step, for example

  {"case": "capacity", "step": 1, "host_gib": 8.0, "read_gbps": 340.0, "mem_available_gib": 440.1, "hbm_free_gib": 91.2}
  {"case": "capacity", "proved_host_gib": 376.0, "budget_gib": 377.1, "slowest_read_gbps": 331.0, "floor_gbps": 300, "passed": true}
  {"case": "access counters", "reads": 50, "read_gbps_first": 340.0, "read_gbps_last": 339.5, "hbm_taken_gib": 0.0, "stayed_on_host": true}
  {"case": "eviction", "managed_gib": 100.0, "hbm_gib": 91.0, "read_gbps_of_each_gib": [...]}
"""

import json
import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "assets/vllm"))
from managed_mem import plan, refuse, settings  # noqa: E402
from managed_mem.library import WEIGHTS, load  # noqa: E402

GIB, STEP, FLOOR = 1 << 30, 8 << 30, 300


def available() -> float:
    return int(re.search(r"MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text())[1]) / (1 << 20)


def segment(torch, library, size: int):
    with library.pool(WEIGHTS):
        return torch.full((size,), 1, dtype=torch.uint8, device="cuda")


def main() -> None:
    import torch

    name = torch.cuda.get_device_name()
    if "GH200" not in name:
        refuse(f"{name}: not a GH200; accepted: a GH200; run segments.py and the launcher's --self-test on other cards")
    path = os.path.realpath(sys.argv[1])
    made = plan.make(settings.read_user(), plan.measure())
    library = load(path)
    evict = "--evict" in sys.argv
    library.place("managed" if evict else "hbm-first")
    library.limit(WEIGHTS, 0, made.measured.hbm_total + 16 * GIB if evict else 0, made.host)
    rates, held = [], []

    def rate(tensor) -> float:
        return round(library.read_rate(tensor.data_ptr(), tensor.numel()) / 1e9, 1)

    if evict:
        for _ in range((made.measured.hbm_total + 8 * GIB) // GIB):
            held.append(segment(torch, library, GIB))
        print(json.dumps({"case": "eviction", "managed_gib": len(held), "hbm_gib": round(made.measured.hbm_total / GIB, 1), "read_gbps_of_each_gib": [rate(t) for t in held]}))
        return
    bound = min(made.host, int(0.8 * made.host_usable))
    while (len(held) + 1) * STEP <= bound:
        held.append(segment(torch, library, STEP))
        rates.append(rate(held[-1]))
        print(json.dumps({"case": "capacity", "step": len(held), "host_gib": len(held) * STEP / GIB, "read_gbps": rates[-1], "mem_available_gib": round(available(), 1),
                          "hbm_free_gib": round(torch.cuda.mem_get_info()[0] / GIB, 1)}), flush=True)
    correct = all(int(t[0]) == 1 and int(t[-1]) == 1 for t in held)
    print(json.dumps({"case": "capacity", "proved_host_gib": len(held) * STEP / GIB, "budget_gib": round(made.host / GIB, 1), "slowest_read_gbps": min(rates, default=0),
                      "floor_gbps": FLOOR, "passed": bool(rates) and correct and min(rates) >= FLOOR}))
    before = torch.cuda.mem_get_info()[0]
    again = [rate(held[0]) for _ in range(50)]
    taken = (before - torch.cuda.mem_get_info()[0]) / GIB
    print(json.dumps({"case": "access counters", "reads": 50, "read_gbps_first": again[0], "read_gbps_last": again[-1], "hbm_taken_gib": round(taken, 2), "stayed_on_host": taken < 0.5}))


main()
