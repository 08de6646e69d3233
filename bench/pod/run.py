#!/usr/bin/env python3
"""Starts the pod that a preview rendered, on a GPU machine and without a cluster, and compares the plan's terms with what was used.

  run.py DEPLOYMENT.json OUT.json

Exactly the container's arguments, environment, memory limit and /dev/shm: a memory cgroup of the limit's size, a mount
namespace whose /dev/shm is a tmpfs of the volume's size, the image's user. What the image brings must lie where the image
has it: the launcher in /opt/gh200, vLLM importable (POD_IMAGE_PATH, POD_IMAGE_PYTHONPATH say where; POD_IMAGE_ENV adds variables
of the image as JSON). Ready is a completed generation. Needs root. Exit status 0: it served, and every term kept its promise.
"""

import ctypes
import dataclasses
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

MIB = 1 << 20
LAUNCHER_FOLDER = "/opt/gh200"  # where the image has it
UNITS = {"Mi": MIB, "Gi": 1 << 30, "Ki": 1 << 10, "": 1}
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x00020000, 16384, 1 << 18


def quantity(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([KMG]i)?", text).groups()
    return int(number) * UNITS[unit or ""]


class Cgroup:
    """A memory cgroup of either version: the limit, and what was used at most under it."""

    def __init__(self, limit: int):
        second = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        self.version = 2 if second else 1
        self.path = Path("/sys/fs/cgroup" if second else "/sys/fs/cgroup/memory", f"pod-{os.getpid()}")
        if second:
            Path("/sys/fs/cgroup/cgroup.subtree_control").write_text("+memory")
        self.path.mkdir()
        (self.path / ("memory.max" if second else "memory.limit_in_bytes")).write_text(str(limit))
        self.most = {}

    def join(self) -> None:
        (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def processes(self) -> list[int]:
        return [int(line) for line in (self.path / "cgroup.procs").read_text().split()]

    def sample(self) -> None:
        current = int((self.path / ("memory.current" if self.version == 2 else "memory.usage_in_bytes")).read_text())
        fields = dict(line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        names = {"anon": "anon", "file": "file", "shmem": "shmem", "kernel": "kernel"} if self.version == 2 else {"anon": "total_rss", "file": "total_cache", "shmem": "total_shmem"}
        now = {"current": current} | {name: int(fields.get(field, 0)) for name, field in names.items()}
        now["unreclaimable"] = current - int(fields.get("inactive_file" if self.version == 2 else "total_inactive_file", 0)) - int(fields.get("active_file" if self.version == 2 else "total_active_file", 0))
        for name, value in now.items():
            self.most[name] = max(self.most.get(name, 0), value)

    def peak(self) -> int:
        file = self.path / ("memory.peak" if self.version == 2 else "memory.max_usage_in_bytes")
        return int(file.read_text()) if file.exists() else self.most.get("current", 0)

    def end(self) -> None:
        for pid in self.processes():
            os.kill(pid, signal.SIGKILL)
        for _ in range(100):
            if not self.processes():
                break
            time.sleep(0.1)
        self.path.rmdir()


def start(container: dict, volumes: dict, user: dict, group: Cgroup, folder: Path, log) -> subprocess.Popen:
    """The container's process, as the kubelet would start it."""
    image = {"PATH": os.environ.get("POD_IMAGE_PATH", os.environ["PATH"]), "PYTHONPATH": os.environ.get("POD_IMAGE_PYTHONPATH", "")} | json.loads(os.environ.get("POD_IMAGE_ENV", "{}"))
    environment = {name: value for name, value in image.items() if value} | {entry["name"]: entry["value"] for entry in container.get("env", [])}
    for name in ("tmp", "cache"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        os.chown(folder / name, user["runAsUser"], user["runAsGroup"])

    def enter() -> None:
        os.setsid()
        group.join()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None):
            raise OSError(ctypes.get_errno(), "no mount namespace")
        for mount in container["volumeMounts"]:
            volume, at = volumes[mount["name"]], mount["mountPath"]
            os.makedirs(at, exist_ok=True)
            memory = volume.get("emptyDir", {}).get("medium") == "Memory"
            source, kind, options = (b"tmpfs", b"tmpfs", f"size={quantity(volume['emptyDir']['sizeLimit'])},mode=1777") if memory else (str(folder / mount["name"]).encode(), None, "")
            if libc.mount(source, at.encode(), kind, 0 if memory else 4096, options.encode()):
                raise OSError(ctypes.get_errno(), f"{at} cannot be mounted")
        os.setgroups([user["runAsGroup"]])
        os.setgid(user["runAsGroup"])
        os.setuid(user["runAsUser"])

    command = container.get("command", [f"{LAUNCHER_FOLDER}/vllm_managed_mem.py"])  # the image's ENTRYPOINT
    return subprocess.Popen([*command, *container["args"]], env=environment, stdout=log, stderr=subprocess.STDOUT, preexec_fn=enter, cwd=folder / "cache")


def post(path: str, body: dict, timeout: float = 600) -> dict:
    request = urllib.request.Request(f"http://127.0.0.1:8000{path}", json.dumps(body).encode(), {"Content-Type": "application/json"})
    return json.load(urllib.request.urlopen(request, timeout=timeout))


def generate(model: str, words: int, tokens: int, seed: int) -> str:
    prompt = " ".join(f"w{3 + (seed * 7919 + i * 37) % 31000}" for i in range(words))
    answer = post("/v1/completions", {"model": model, "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True})
    return answer["choices"][0]["text"]


def accounts(pids: list[int]) -> dict:
    """The launcher's own account of the engine, by kind. One GPU: a second one's rows would overwrite the first's."""
    sys.path.insert(0, LAUNCHER_FOLDER)
    from managed_mem import account

    folders = {folder for pid in pids for folder in glob.glob(f"/proc/{pid}/root/dev/shm/managed-mem-*")}
    return {kind: dataclasses.asdict(row) for folder in folders for _pid, _simulated, kind, _device, row in account.read(folder)}


def processes(pids: list[int]) -> list[dict]:
    found = []
    for pid in pids:
        try:
            status = Path(f"/proc/{pid}/status").read_text()
            rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
        except OSError:
            continue
        field = lambda text, name: int(m[1]) // 1024 if (m := re.search(rf"^{name}:\s+(\d+) kB", text, re.M)) else 0  # noqa: E731
        found.append({"name": re.search(r"^Name:\s+(.*)$", status, re.M)[1], "rssMiB": field(status, "VmRSS"), "pssMiB": field(rollup, "Pss"), "pssAnonMiB": field(rollup, "Pss_Anon"), "pinnedMiB": field(status, "VmPin"), "lockedMiB": field(status, "VmLck")})
    return found


def card(fields: str) -> list[str]:
    return subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits"], capture_output=True, text=True, check=True).stdout.strip().split(", ")


def terms(out: dict, environment: dict, shm: int) -> list[dict]:
    """The plan's terms, promised and used at most, in MiB. The container's memory limit is the sum of the host's."""
    budget, host, headroom = (quantity(environment[f"MANAGED_MEM_{name}"].removesuffix("B")) // MIB for name in ("HBM", "HOST", "HOST_RESERVE"))
    placed = [row for kind, row in out["account"].items() if kind != "other"]
    if placed:
        in_hbm, on_host = (sum(row[side] for row in placed) // MIB for side in ("hbm", "host"))
        rows = [("HBM: weights and KV cache", budget, in_hbm), ("HBM: context and reserve", out["boardMiB"] - out["reservedMiB"] - budget, out["hbmMostMiB"] - in_hbm)]
    else:  # vLLM's own share counts everything but the context
        on_host = 0
        rows = [("HBM: all of it", out["boardMiB"] - out["reservedMiB"], out["hbmMostMiB"])]
    most = out["cgroup"]["mostMiB"]
    rows += [
        ("host: overflow", host, on_host),
        ("host: /dev/shm", shm, most["shmem"]),
        ("host: processes and pinned", out["limitMiB"] - host - shm - headroom, most["unreclaimable"] - most["shmem"] - on_host),
        ("host: all but page cache", out["limitMiB"] - headroom, most["unreclaimable"]),
        ("host: peak, page cache too", out["limitMiB"], out["cgroup"]["peakMiB"]),  # which the kernel drops where the limit is near
    ]
    return [{"term": term, "promisedMiB": promised, "usedMiB": used, "kept": used <= promised} for term, promised, used in rows]


def main(deployment_file: str, out_file: str) -> int:
    pod = json.loads(Path(deployment_file).read_text())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    limit = quantity(container["resources"]["limits"]["memory"])
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    placement, arguments = environment["MANAGED_MEM_PLACEMENT"], container["args"]
    model = arguments[arguments.index("--served-model-name") + 1]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    folder, group = Path(f"/var/lib/pod-{placement}"), Cgroup(limit)
    name, driver, total, reserved, used = card("name,driver_version,memory.total,memory.reserved,memory.used")
    out = {"date": time.strftime("%Y-%m-%d %H:%M"), "card": name, "driver": driver, "placement": placement, "boardMiB": int(total), "reservedMiB": int(reserved), "inUseMiB": int(used),
           "limitMiB": limit // MIB, "arguments": arguments, "budgets": {k: v for k, v in environment.items() if k.startswith("MANAGED_MEM_")}}
    began, most_hbm, stop = time.time(), [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.25):
            group.sample()
            most_hbm[0] = max(most_hbm[0], int(card("memory.used")[0]))

    watcher = threading.Thread(target=watch, daemon=True)
    with open(f"{out_file}.log", "w") as log:
        server = start(container, volumes, pod["securityContext"], group, folder, log)
        watcher.start()
        try:
            while True:  # ready is one completed generation
                if server.poll() is not None or time.time() - began > 420:
                    out["failed"] = f"ended with status {server.poll()} before it served"
                    return 1
                try:
                    out["first"] = generate(model, 16, 16, 0)
                    break
                except (urllib.error.URLError, ConnectionError):
                    time.sleep(0.5)
            out["readySeconds"] = round(time.time() - began, 1)
            loads = [threading.Thread(target=generate, args=(model, 3500, 256, i)) for i in range(64)]
            asked = time.time()
            for load in loads:
                load.start()
            for load in loads:
                load.join()
            out["load"] = {"requests": len(loads), "seconds": round(time.time() - asked, 1)}
            pids = group.processes()
            out["account"], out["processes"] = accounts(pids), processes(pids)
            out["shmMiB"] = sum(f.stat().st_size for pid in pids[:1] for f in Path(f"/proc/{pid}/root/dev/shm").rglob("*") if f.is_file()) // MIB
        finally:
            stop.set()
            watcher.join()
            if server.poll() is None:
                os.kill(server.pid, signal.SIGTERM)
                try:
                    server.wait(120)
                except subprocess.TimeoutExpired:
                    out["failed"] = "did not end within 120 s of SIGTERM"
            out["endStatus"] = server.poll()
            out["hbmMostMiB"], out["cgroup"] = most_hbm[0], {"version": group.version, "peakMiB": group.peak() // MIB, "mostMiB": {k: v // MIB for k, v in group.most.items()}}
            if "account" in out:
                out["terms"] = terms(out, environment, quantity(volumes["shm"]["emptyDir"]["sizeLimit"]) // MIB)
                for row in out["terms"]:
                    print(f"{row['term']:<32} promised {row['promisedMiB']:>7} MiB, used {row['usedMiB']:>7} MiB{'' if row['kept'] else '  BROKEN'}")
            group.end()
            shutil.rmtree(folder / "tmp", ignore_errors=True)
            Path(out_file).write_text(json.dumps(out, indent=1) + "\n")
    return 0 if out["endStatus"] == 0 and all(row["kept"] for row in out["terms"]) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
