"""`vllm serve` alone on the card: how long native and both placements take to start, and how fast they decode. Writes OUTDIR/alone.json.

  serve_alone.py OUTDIR LIBRARY [--placements NAME ...] [--rounds N] [--decode-rounds N] [--seconds S] [--port P] [--seed N]
  serve_alone.py OUTDIR --join FILE ...          the rounds of several runs, several cards too, as one

A round starts native and every placement once, on the same four cores. The cores are drawn at random; the orders come in blocks that hold every
order once, shuffled. Each server takes 11.5 GiB of weights from a checkpoint in memory and 7.5 GiB of KV cache; what vLLM logs of the start is
kept. Then, in the first rounds, it decodes at every point: the median of seven windows of 33 tokens is its step. It is killed, and the card is
empty again, before the next one touches it. A pair is one round's native over the same round's other (pairs.py). The first two servers of all only
fill the caches and are in no round: where they were empty, the second still compiles for 7 to 10 s, in whatever placement it is.

What decides the goal of load + KV + capture (load_and_init_s, by vLLM's own log), fixed before the runs on one card: the trimmed mean of pairs.py
over all rounds of all runs that were made this way, joined; no round is left out, and the number of rounds follows from the time that was set,
never from a result. A first run of nine rounds (raw/alone-first.json), with one server that fills caches and imports that began apart, showed both
faults; it is reported beside, not joined. Neither is the run of nine rounds of raw/alone-one-card.json: it is of a worker that did not yet leave
what was imported out of vLLM's garbage collections.
The goal is met where that estimate is at most 1.05 of native. It is settled where the 95 percent interval lies on one side of 1.05. Beside it, and
deciding nothing, stand the CPU seconds (user and system) of all the server's processes from its gate to /health, and the seconds that the
hypervisor took from the whole machine meanwhile (steal).

All servers of a run import vLLM before the first is measured, and wait there without CUDA: importing takes as long as the rest of a start.
They are the launcher's own processes; what waits is their `vllm` command, which is made here. The engine is forked from the API server
(VLLM_WORKER_MULTIPROC_METHOD), so that it does not import again. All begin to import at the same moment: the launcher asks NVML for the card's
size first where it places memory, so native would otherwise always import, and take its memory, before the others. Managed memory: 20 GiB. Two runs at once on two cards share the host and its
slow moments: enough for decode steps, but the start-up times of the two are then no independent pairs. Start-up is measured on one card, with
nothing beside it.
"""

import argparse
import errno
import fcntl
import hashlib
import itertools
import json
import os
import random
import signal
import statistics
import sys
import time
from pathlib import Path

from pairs import compare
from serve import GIB, INNER, KV_HEADS, LAUNCHER, LAYERS, NATIVE, Server, card, make_model, prompts, until_empty, write_weights
from serve_parity import BATCHES, BESIDE_KV_GIB, CONTEXTS, KV_GIB, WINDOW

TIMES = ("weights_s", "load_s", "profile_s", "init_s", "load_and_init_s", "compile_s", "capture_piecewise_s", "capture_full_s", "start_s", "cpu_s", "steal_s")
CORES = 4  # of a server while it is measured
TICKS = os.sysconf("SC_CLK_TCK")  # per second, in /proc
TIME_GOAL = 1.05  # of native's time
WINDOWS = 7
IMPORT = "import.lock"
COMMAND = f"""#!{sys.executable}
import fcntl, os, sys
with open(os.environ["BENCH_IMPORT"]) as lock:
    fcntl.flock(lock, fcntl.LOCK_SH)  # until all are here
import vllm.entrypoints.openai.api_server, vllm.model_executor.models.llama, vllm.v1.engine.core, vllm.v1.worker.gpu_worker
from vllm.entrypoints.cli.main import main
with open(os.environ["BENCH_GATE"]) as gate:
    gate.read()  # returns when the other end is closed
sys.exit(main())
"""


class WaitingServer(Server):
    """A server that imports vLLM and then waits until it is let on."""

    def __init__(self, name: str, port: int, logs: Path, model: Path, settings: dict[str, str], *arguments: str, cores: list[int]):
        self.pipe = logs / f"gate-{port}"
        os.mkfifo(self.pipe)
        told = {"BENCH_GATE": str(self.pipe), "BENCH_IMPORT": str(logs / IMPORT), "PATH": f"{logs}:{os.environ['PATH']}", "VLLM_WORKER_MULTIPROC_METHOD": "fork"}
        super().__init__(name, port, logs, model, settings | told, *arguments, cores=cores)

    def launched(self) -> None:
        """Returns when the launcher has become the `vllm` command."""
        while self.process.poll() is None and str(LAUNCHER) in Path(f"/proc/{self.process.pid}/cmdline").read_text():
            time.sleep(0.1)

    def imported(self) -> None:
        """Returns when the process waits at its gate."""
        while self.process.poll() is None:
            try:
                self.gate = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
                return
            except OSError as error:
                if error.errno != errno.ENXIO:  # nobody reads yet
                    raise
            time.sleep(0.1)
        raise RuntimeError(f"{self.name}: ended before it was let on\n{self.text()[-3000:]}")

    def start(self, cores: list[int]) -> dict:
        for thread in os.listdir(f"/proc/{self.process.pid}/task"):
            os.sched_setaffinity(int(thread), cores)
        until_empty()
        self.began, cpu, steal = time.time(), self.cpu_s(), steal_s()
        os.close(self.gate)
        self.wait(240)
        return {"cpu_s": round(self.cpu_s() - cpu, 2), "steal_s": round(steal_s() - steal, 2)}

    def cpu_s(self) -> float:
        """User and system seconds of the server's processes and of the children that they have waited for."""
        ticks = 0
        for file in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = file.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended
                continue
            if int(fields[2]) == self.process.pid:  # process group
                ticks += sum(map(int, fields[11:15]))
        return ticks / TICKS


def steal_s() -> float:
    return int(Path("/proc/stat").read_text().split()[8]) / TICKS


def measure(server: WaitingServer, cores: list[int], decode: bool) -> dict:
    row = server.start(cores)
    row |= server.facts()
    if decode:
        row |= {"step_ms": {}, "tokens": {}, "placed_bytes": server.metrics("managed_mem_placed_bytes")}
        for context in CONTEXTS:
            for batch in BATCHES:
                asked, point = prompts(batch, context), f"batch {batch}, context {context}"
                server.step_ms(asked, 9)  # the prompts are in the prefix cache from here on
                windows = [server.step_ms(asked, WINDOW) for _ in range(WINDOWS)]
                row["step_ms"][point] = round(statistics.median(step for step, _, _ in windows), 5)
                if batch == 1:  # in larger batches native differs from itself
                    row["tokens"][point] = sorted({hashlib.sha256(json.dumps(ids).encode()).hexdigest()[:12] for _, _, ids in windows})
    server.stop(signal.SIGKILL)
    return row


def times(native: list[float], other: list[float]) -> dict:
    turned = compare(other, native)  # OTHER's time over native's
    found = {"time": turned["speed"], "low": turned["low"], "high": turned["high"], "pairs": turned["pairs"], "mean": turned["mean"]}
    return found | {"met": found["time"] <= TIME_GOAL, "settled": not found["low"] <= TIME_GOAL <= found["high"]}


def summary(rounds: list[dict[str, dict]]) -> dict:
    decoded = [r for r in rounds if "step_ms" in r["native"]]
    columns = ["native", *sorted(set(rounds[0]) - {"native"})]
    start = {what: {n: [r[n][what] for r in rounds] for n in columns} for what in TIMES if all(what in r["native"] for r in rounds)}
    compared = [what for what in start if what != "steal_s"]  # of steal there may be none
    step = {point: {n: [r[n]["step_ms"][point] for r in decoded] for n in columns} for point in (decoded[0]["native"]["step_ms"] if decoded else ())}
    reference = decoded[0]["native"]["tokens"] if decoded else None
    return {"start_medians_s": {what: {n: round(statistics.median(values), 3) for n, values in by.items()} for what, by in start.items()},
            "start_against_native": {what: {n: times(start[what]["native"], start[what][n]) for n in columns[1:]} for what in compared},
            "step_medians_ms": {point: {n: round(statistics.median(values), 3) for n, values in by.items()} for point, by in step.items()},
            "speed_against_native": {point: {n: compare(by["native"], by[n]) for n in columns[1:]} for point, by in step.items()},
            "tokens_equal_to_the_first_native": {n: [sum(r[n]["tokens"] == reference for r in decoded), len(decoded)] for n in columns}}


def show(found: dict) -> None:
    print(json.dumps(found["start_medians_s"]))
    for what, by in found["start_against_native"].items():
        print(what, {n: (t["time"], t["low"], t["high"], t["pairs"], t["met"], t["settled"]) for n, t in by.items()})
    for point, by in found["speed_against_native"].items():
        print(point, {n: (c["speed"], c["low"], c["high"], c["pairs"], c["met"]) for n, c in by.items()}, found["step_medians_ms"][point])
    print(found["tokens_equal_to_the_first_native"], flush=True)


def measure_rounds(told: argparse.Namespace, save) -> dict:
    until, dice, servers = time.time() + told.seconds, random.Random(told.seed), []
    model = make_model(LAYERS, KV_HEADS, INNER)
    write_weights(model)
    command = told.outdir / "vllm"
    command.write_text(COMMAND)
    command.chmod(0o755)
    managed = {"MANAGED_MEM_LIBRARY": os.path.realpath(told.library), "MANAGED_MEM_HBM": f"{KV_GIB + BESIDE_KV_GIB}GiB", "MANAGED_MEM_HOST": "0"}
    settings = {"native": NATIVE} | {n: managed | {"MANAGED_MEM_PLACEMENT": n} for n in told.placements}
    orders = []
    while len(orders) < told.rounds:
        block = list(itertools.permutations(settings))
        orders += dice.sample(block, len(block))
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, cores[-4:])  # the client's; the servers get the others

    def server(placement: str) -> WaitingServer:
        servers.append(WaitingServer(f"{placement} {len(servers)}", told.port + len(servers), told.outdir, model, settings[placement],
                                     "--max-model-len", "4608", "--kv-cache-memory-bytes", str(int(KV_GIB * GIB)), cores=cores[:-4]))
        return servers[-1]

    result = card() | {"model": f"{LAYERS} layers, {KV_HEADS} KV heads, inner {INNER}", "arguments": sys.argv[3:], "rounds": []}
    try:
        with open(told.outdir / IMPORT, "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            first = [server("native") for _ in range(2)]
            planned = [{n: server(n) for n in order} for order in orders[:told.rounds]]
            for each in servers:
                each.launched()
            time.sleep(1)  # the last ones' Python starts
        for each in servers:
            each.imported()
        print(f"{len(servers)} servers wait, {until - time.time():.0f} s are left", flush=True)
        result["first"] = [measure(each, cores[:-4], decode=False) for each in first]
        for i, waiting in enumerate(planned):
            if time.time() > until:
                break
            theirs = dice.sample(cores[:-4], CORES)
            row = {n: measure(s, theirs, i < told.decode_rounds) | {"cores": theirs} for n, s in waiting.items()}
            result["rounds"].append(row)
            save(result)
            print(f"round {i}, {until - time.time():.0f} s are left:", {n: (r["load_and_init_s"], r["start_s"], *r.get("step_ms", {}).values()) for n, r in row.items()}, flush=True)
    finally:
        for each in servers:
            each.stop(signal.SIGKILL)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("outdir", type=Path)
    parser.add_argument("library", nargs="?", help="managed_alloc.so")
    parser.add_argument("--placements", nargs="+", choices=("hbm-first", "managed", "managed-prefetch"), default=["hbm-first", "managed"],
                        help="compared with native; default hbm-first managed")
    parser.add_argument("--rounds", type=int, default=4, help="at most; default 4")
    parser.add_argument("--decode-rounds", type=int, default=4, help="the first of them that decode too; default 4")
    parser.add_argument("--seconds", type=float, default=480, help="after which no round begins; default 480")
    parser.add_argument("--port", type=int, default=18301, help="the first of as many as there are servers; default 18301")
    parser.add_argument("--seed", type=int, default=11, help="of the orders and cores; default 11")
    parser.add_argument("--join", type=Path, nargs="+", help="alone.json of several runs: measures nothing")
    told = parser.parse_args()
    told.outdir.mkdir(parents=True, exist_ok=True)

    def save(result: dict) -> None:
        (told.outdir / "alone.json").write_text(json.dumps(result, indent=1))

    if told.join:
        runs = [json.loads(file.read_text()) for file in told.join]
        result = {"runs": [{k: v for k, v in run.items() if k not in ("rounds", "summary")} for run in runs], "rounds": [r for run in runs for r in run["rounds"]]}
    else:
        result = measure_rounds(told, save)
    result["summary"] = summary(result["rounds"])
    save(result)
    show(result["summary"])


if __name__ == "__main__":
    main()
