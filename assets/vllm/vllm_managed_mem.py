#!/usr/bin/env python3
"""Starts `vllm serve` over one memory: HBM first, LPDDR after it.

  vllm_managed_mem.py MODEL [any argument of `vllm serve`]
  vllm_managed_mem.py --dry-run [...]     prints the memory plan and the command, and starts nothing
  vllm_managed_mem.py --self-test         proves on this machine that placement, graphs, out-of-memory and counters work
  vllm_managed_mem.py --help              this text and the settings (environment variables)

A refusal is one line on stderr and exit status 78.
"""

import glob
import os
import shutil
import sys
import tempfile

HOME = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, HOME)

from managed_mem import arguments as given, plan, refuse, refusals, say, settings  # noqa: E402
from managed_mem.library import check_file  # noqa: E402

RUN_DIR = "managed-mem-"  # and the process that it belongs to
WORKER = "managed_mem.worker.ManagedWorker"


def remove_ended(parent: str) -> None:
    """What servers left behind that are gone. A container that starts again has its old /dev/shm, and the old process's number."""
    for folder in glob.glob(os.path.join(parent, f"{RUN_DIR}[0-9]*-*")):
        pid = os.path.basename(folder).removeprefix(RUN_DIR).partition("-")[0]
        if pid == str(os.getpid()) or not os.path.exists(f"/proc/{pid}"):
            shutil.rmtree(folder, ignore_errors=True)  # another user's stays


def make_run_dir(told: str | None) -> str:
    """Where the engine's processes keep their account and /metrics reads it."""
    for parent in [told] if told else ["/dev/shm", tempfile.gettempdir()]:
        remove_ended(parent)
        try:
            return tempfile.mkdtemp(prefix=f"{RUN_DIR}{os.getpid()}-", dir=parent)
        except OSError as error:
            problem = f"{parent}: {error.strerror}"
    refuse(f"MANAGED_MEM_RUN_DIR: {problem}; accepted: a writable directory; mount an emptyDir there")


def environment(user: settings.User, made: plan.Plan, run_dir: str, arguments: list[str]) -> dict[str, str]:
    handed = settings.Handed(
        placement=user.placement,
        library=os.path.realpath(user.library),
        run_dir=run_dir,
        hbm=user.hbm,
        hbm_reserve=user.hbm_reserve,
        kv_hbm=user.kv_hbm,
        host=made.host - user.prefixes,
        prefixes=user.prefixes,
        utilization_given=given.asked(arguments, "--gpu-memory-utilization") is not None,
        accept_stand_in=user.accept_stand_in,
    )
    inherited = os.environ.get("PYTHONPATH")
    return {**os.environ, settings.OPT_IN: handed.dump(), "PYTHONPATH": HOME + (os.pathsep + inherited if inherited else "")}


def main(arguments: list[str]) -> None:
    if "--help" in arguments or "-h" in arguments:
        print(__doc__)
        for name, meaning in settings.USER_VARIABLES.items():
            print(f"  {name:<28} {meaning}")
        print("\n`vllm serve --help` shows vLLM's own arguments.")
        return
    dry_run = "--dry-run" in arguments
    self_test = "--self-test" in arguments
    arguments = [a for a in arguments if a not in ("--dry-run", "--self-test")]
    if arguments[:1] == ["serve"]:
        arguments = arguments[1:]
    user = settings.read_user()
    command = [shutil.which("vllm") or "vllm", "serve", *arguments]
    if user.placement == "off":
        say("MANAGED_MEM_PLACEMENT=off: plain vLLM, HBM only")
        if not dry_run:
            os.execvpe(command[0], command, {k: v for k, v in os.environ.items() if k != settings.OPT_IN})
        return
    if user.placement == "managed-prefetch":
        say("placement managed-prefetch prefetches every segment to the GPU: past the HBM this evicts what was prefetched before")
    if user.placement == "managed":
        say("placement managed: device-preferred pages that the driver evicts come back at every use, so keep the reserve")
    refusals.check_environment()
    refusals.check_arguments(arguments)
    measured = plan.measure()
    if measured.simulated and not user.accept_stand_in:
        refuse(f"NVML: {measured.simulated}: a stand-in; accepted: the real one; set MANAGED_MEM_ACCEPT_STAND_IN=1 only where nothing real is wanted")
    made = plan.make(user, measured)
    command += ["--worker-cls", WORKER]
    if user.prefixes:
        command += ["--kv-offloading-size", str(user.prefixes / plan.GIB)]
    if dry_run:
        print("\n".join(made.lines()))
        print(f"{'command':<24} {' '.join(command)}")
        return
    check_file(user.library)
    if self_test:
        from managed_mem import self_test as test

        sys.exit(test.run(user, made))
    for line in made.lines():
        say(line)
    if not shutil.which("vllm"):
        refuse("vllm: not on PATH; accepted: the image's own; use the image, or install vLLM")
    os.execve(command[0], command, environment(user, made, make_run_dir(user.run_dir), arguments))


if __name__ == "__main__":
    main(sys.argv[1:])
