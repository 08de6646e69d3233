"""Launcher, settings, plan and bootstrap: nothing here needs PyTorch or vLLM. C3 to C7 of the runtime's test list."""

import json
import os
import re
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from support import ASSETS, LAUNCHER, MIB, assert_refused, fake_nvml, handed, library, python

sys.path.insert(0, str(ASSETS))
from managed_mem import hooks, plan, self_test, settings  # noqa: E402

GIB = 1 << 30


def launch(*arguments, **environment):
    return python(str(LAUNCHER), *arguments, **environment)


@pytest.fixture
def vllm(tmp_path):
    """A `vllm` on the PATH that shows what reaches it."""
    (tmp_path / "vllm").write_text(f"#!{sys.executable}\nimport json, os, sys\nprint(json.dumps([sys.argv[1:], os.environ.get('MANAGED_MEM'), os.environ.get('PYTHONPATH')]))\n")
    (tmp_path / "vllm").chmod(0o755)
    return {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MANAGED_MEM_LIBRARY": str(library()), "MANAGED_MEM_RUN_DIR": str(tmp_path), "MANAGED_MEM_HOST": "0"}


def test_arguments_reach_vllm_serve(vllm):
    arguments, opt_in, path = json.loads(launch("serve", "some/model", "--port", "8000", "--chat-template", "a b", **vllm).stdout)
    assert arguments == ["serve", "some/model", "--port", "8000", "--chat-template", "a b", "--worker-cls", "managed_mem.worker.ManagedWorker"]
    assert json.loads(opt_in)["placement"] == "hbm-first" and path.split(":")[0] == str(ASSETS)


def test_off_is_plain_vllm(vllm):
    done = launch("m", **vllm, MANAGED_MEM_PLACEMENT="off")
    arguments, opt_in, _ = json.loads(done.stdout)
    assert arguments == ["serve", "m"] and opt_in is None and "plain vLLM" in done.stderr


def test_dry_run_starts_nothing(vllm):
    done = launch("--dry-run", "m", **vllm)
    assert done.returncode == 0 and "host for weights and KV" in done.stdout and "vllm serve m" in done.stdout


def test_dry_run_of_a_stand_in_says_so(vllm):
    assert_refused(launch("--dry-run", "m", **vllm, LD_LIBRARY_PATH=str(fake_nvml())), "stand-in NVML")
    done = launch("--dry-run", "m", **vllm, LD_LIBRARY_PATH=str(fake_nvml()), MANAGED_MEM_ACCEPT_STAND_IN="1")
    assert done.stdout.startswith("SIMULATED") and "95.58 GiB total" in done.stdout and "stand-in GH200" in done.stdout


@pytest.mark.parametrize("environment, words", [
    ({"MANAGED_MEM_PLACEMENT": "fast"}, ["MANAGED_MEM_PLACEMENT", "'fast'", "hbm-first"]),
    ({"MANAGED_MEM_HOST": "many"}, ["MANAGED_MEM_HOST", "'many'", "64GiB"]),
    ({"MANAGED_MEM_HOTS": "1"}, ["MANAGED_MEM_HOTS", "no such setting"]),
    ({"MANAGED_MEM_HOST": "100TiB"}, ["102400.00 GiB", "more than the measured", "accepted: up to"]),
    ({"MANAGED_MEM_RUN_DIR": "/no/such"}, ["MANAGED_MEM_RUN_DIR", "/no/such"]),
    ({"MANAGED_MEM_HOST": "2GiB", "MANAGED_MEM_PREFIXES": "2.5GiB"}, ["MANAGED_MEM_PREFIXES", "2.50 GiB", "up to 2.00 GiB"]),
    ({"MANAGED_MEM_PREFIXES": "1GiB"}, ["MANAGED_MEM_PREFIXES", "up to 0.00 GiB"]),
    ({"MANAGED_MEM_LIBRARY": "/no/such.so"}, ["/no/such.so", "No such file"]),
    ({"PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:True"}, ["PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"]),
    ({"PYTORCH_ALLOC_CONF": "max_split_size_mb:64,backend:cudaMallocAsync"}, ["PYTORCH_ALLOC_CONF", "backend:cudaMallocAsync"]),
    ({"PYTORCH_ALLOC_CONF": "per_process_memory_fraction:0.5"}, ["per_process_memory_fraction"]),
    ({"PYTORCH_ALLOC_CONF": "garbage_collection_threshold:0.8"}, ["garbage_collection_threshold"]),
    ({"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}, ["PYTORCH_NO_CUDA_MEMORY_CACHING"]),
    ({"VLLM_USE_NCCL_SYMM_MEM": "1"}, ["VLLM_USE_NCCL_SYMM_MEM"]),
    ({"CUDA_MPS_PIPE_DIRECTORY": "/tmp/mps"}, ["CUDA_MPS_PIPE_DIRECTORY"]),
])
def test_refused_settings(vllm, environment, words):
    assert_refused(launch("m", **(vllm | environment)), *words)


@pytest.mark.parametrize("flag", ["--enable-sleep-mode", "--enable_sleep_mode", "--enable-cumem-allocator", "--worker-cls=x.Y", "--distributed-executor-backend ray",
                                  "--data_parallel_backend=ray", "--kv-offloading-size 3", "--kv_offloading_size=3"])
def test_refused_arguments(vllm, flag):
    assert_refused(launch("m", *flag.split(), **vllm), flag.replace("=", " ").split()[0].replace("_", "-"))


def test_a_tier_for_prefixes_is_a_part_of_the_hosts_budget(vllm):
    done = launch("m", "--dry-run", **(vllm | {"MANAGED_MEM_HOST": "2GiB", "MANAGED_MEM_PREFIXES": "1536MiB"}))
    assert done.stdout.splitlines()[-1].endswith("serve m --worker-cls managed_mem.worker.ManagedWorker --kv-offloading-size 1.5")
    assert re.search(r"^of it for prefixes +1\.50 GiB$", done.stdout, re.MULTILINE)
    assert "--kv-offloading-size" not in launch("m", "--dry-run", **(vllm | {"MANAGED_MEM_HOST": "2GiB"})).stdout


def test_what_ended_servers_left_is_removed(vllm, tmp_path):
    """A pod keeps its /dev/shm when its container starts again."""
    ended, running, others = (tmp_path / name for name in ("managed-mem-999999999-a", f"managed-mem-{os.getpid()}-b", "managed-mem-of-mine"))
    for folder in (ended, running, others):
        folder.mkdir()
    assert launch("m", **vllm).returncode == 0
    left = {path.name for path in tmp_path.glob("managed-mem-*")}
    assert ended.name not in left and {running.name, others.name} < left and len(left) == 3


def test_other_executors_are_accepted(vllm):
    assert launch("m", "--distributed-executor-backend", "mp", **vllm).returncode == 0


@pytest.mark.parametrize("text", ["expandable_segments:False", "backend:native", "max_split_size_mb:20", ""])
def test_harmless_allocator_settings(vllm, text):
    assert launch("m", **vllm, PYTORCH_CUDA_ALLOC_CONF=text).returncode == 0


def test_refused_libraries(vllm, tmp_path):
    """C3: wrong machine, writable by everyone, a symbol that is missing, another interface version."""
    foreign = tmp_path / "foreign.so"
    data = bytearray(library().read_bytes())
    data[18:20] = struct.pack("<H", 183 if data[18] == 62 else 62)
    foreign.write_bytes(data)
    assert_refused(launch("m", **(vllm | {"MANAGED_MEM_LIBRARY": str(foreign)})), "not a 64-bit ELF file for")
    loose = tmp_path / "loose.so"
    loose.write_bytes(library().read_bytes())
    loose.chmod(0o666)
    assert_refused(launch("m", **(vllm | {"MANAGED_MEM_LIBRARY": str(loose)})), "writable by everyone")
    for name, source, word in (("bare", "extern \"C\" int nothing() { return 0; }", "undefined symbol"),
                               ("old", "extern \"C\" { const char* ma_version() { return \"0\"; } void ma_segment() {} void ma_stand_in() {} void ma_limit() {} void ma_weights_malloc() {} void ma_kv_malloc() {} "
                                       "void ma_free() {} void ma_place() {} void ma_redirect() {} void ma_share() {} void ma_row() {} void ma_count_oom() {} }", "interface version 0")):
        path = tmp_path / f"{name}.so"
        subprocess.run(["g++", "-shared", "-fPIC", "-x", "c++", "-", "-o", path], input=source, text=True, check=True)
        assert_refused(python("-c", f"from managed_mem.library import load; load({str(path)!r})"), word)


def measured(**changed):
    return plan.Measured(**({"hbm_total": 96 * GIB, "hbm_used": GIB, "host_available": 400 * GIB, "cgroup_left": None} | changed))


def user(**environment):
    return settings.read_user({f"MANAGED_MEM_{k}": v for k, v in environment.items()})


def test_plan_of_a_gh200():
    made = plan.make(user(), measured())
    assert made.hbm_reserve == int(96 * GIB * 0.04) and made.hbm == 94 * GIB - made.hbm_reserve
    assert made.host == 400 * GIB - 16 * GIB and made.total == 96 * GIB + made.host


def test_plan_obeys_the_tightest_limit():
    assert plan.make(user(), measured(cgroup_left=20 * GIB)).host == 12 * GIB
    assert plan.make(user(), measured(cgroup_left=4 * GIB)).host == 0
    assert plan.make(user(HOST="5GiB"), measured()).host == 5 * GIB
    assert plan.make(user(HBM="10GiB"), measured()).hbm == 10 * GIB


def test_declared_profile_is_refused_where_egm_hides_the_memory():
    """378 GiB declared; the operating system sees 8,080 MB on the node with CPUs, the HBM is the other node."""
    done = python("-c", "from managed_mem import plan, settings; plan.make(settings.read_user({'MANAGED_MEM_HOST': '378GiB'}), plan.Measured(96 << 30, 0, 8080 << 20, None))")
    assert_refused(done, "378.00 GiB", "7.89 GiB", "EGM")


def test_reserve_grows_with_what_vllm_measures():
    assert plan.hbm_reserve(10 * GIB, None) == GIB and plan.hbm_reserve(100 * GIB, None) == 4 * GIB
    assert plan.hbm_reserve(100 * GIB, None, activations=3 * GIB, graphs=2 * GIB, outside=GIB) == 6 * GIB
    assert plan.hbm_reserve(100 * GIB, 2 * GIB) == 2 * GIB


@pytest.mark.parametrize("hbm, host, layers", [(100, 50, 8), (7, 0, 3), (0, 9, 4), (3, 300, 80), (95, 378, 80), (0, 0, 4)])
def test_kv_bytes_fit_in_any_number_of_tensors(hbm, host, layers):
    size = plan.kv_bytes(hbm * GIB, host * GIB, layers, 2 * MIB)
    for tensors in {1, 2, layers}:
        rounded = -(-size // tensors // (2 * MIB)) * 2 * MIB * tensors
        assert rounded <= (hbm + host) * GIB and (size > 0) is (hbm + host > 0)


def node(root, name, cpus, free, reclaimable=0):
    (root / name).mkdir(parents=True)
    (root / name / "cpulist").write_text(cpus + "\n")
    (root / name / "meminfo").write_text(f"Node 0 MemTotal: 1 kB\nNode 0 MemFree:  {free} kB\nNode 0 Inactive(file): {reclaimable} kB\n")


def test_hbm_node_is_not_host_memory(tmp_path):
    node(tmp_path, "node0", "0-71", 8000, 100), node(tmp_path, "node2", "", 97000)
    assert plan.host_available(str(tmp_path)) == 8100 * 1024
    assert plan.host_available(str(tmp_path), gpu_is_node=False) == 105100 * 1024


CGROUPS = {"v2": ("0::{}", "", "memory.max", "memory.current", "inactive_file", "max"),
           "v1": ("9:name=systemd:/\n4:cpu,memory:{}\n0::/", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file", "9223372036854771712")}


@pytest.mark.parametrize("version", CGROUPS)
def test_cgroup_takes_the_tightest_ancestor(version, tmp_path):
    line, mount, limit_file, used_file, inactive, unlimited = CGROUPS[version]
    pod = tmp_path / mount / "pod"
    (pod / "container").mkdir(parents=True)
    (tmp_path / "self").write_text(line.format("/pod/container") + "\n")
    for directory, limit, used in ((pod / "container", unlimited, 1), (pod, 1000, 600)):
        (directory / limit_file).write_text(f"{limit}\n"), (directory / used_file).write_text(f"{used}\n")
        (directory / "memory.stat").write_text(f"inactive_file 7\n{inactive} 50\n" if version == "v1" else f"{inactive} 50\n")
    assert plan.cgroup_left(str(tmp_path), str(tmp_path / "self")) == 450
    (pod / limit_file).write_text(f"{unlimited}\n")
    assert plan.cgroup_left(str(tmp_path), str(tmp_path / "self")) is None


def test_cgroup_of_a_container_that_sees_the_hosts_path(tmp_path):
    """cgroup v1 without a namespace: the mount is the container's own group, the path is one of the host."""
    (tmp_path / "memory").mkdir()
    (tmp_path / "self").write_text("4:memory:/kubepods/pod1/abc\n")
    for name, text in (("memory.limit_in_bytes", "1000"), ("memory.usage_in_bytes", "300"), ("memory.stat", "total_inactive_file 0")):
        (tmp_path / "memory" / name).write_text(text + "\n")
    assert plan.cgroup_left(str(tmp_path), str(tmp_path / "self")) == 700


def test_cgroup_of_a_real_kernel(tmp_path):
    """A group of this kernel, where tests may make one; its version is the machine's."""
    for mount, limit_file in (("", "memory.max"), ("memory", "memory.limit_in_bytes")):
        own = Path("/sys/fs/cgroup", mount, f"managed-mem-test-{os.getpid()}")
        try:
            own.mkdir()
        except OSError:
            continue
        try:
            if (own / limit_file).exists():
                (own / limit_file).write_text(str(64 * MIB))
                program = "import os; open(os.sys.argv[1] + '/cgroup.procs', 'w').write(str(os.getpid())); from managed_mem import plan; print(plan.cgroup_left())"
                left = int(python("-c", program, str(own)).stdout)
                assert 32 * MIB < left <= 64 * MIB
                return
        finally:
            own.rmdir()
    pytest.skip("no group with a memory controller can be made here")


# The self-test's verdict on rates. The rates are made up here: measuring needs a GPU ------------------------------------------------------

def test_self_test_tries_each_placement_in_a_process_that_understands_it(monkeypatch, capsys):
    """What the launcher hands to its child is read by the child's own code; what the child then finds is a GPU's affair."""
    user, tried = settings.read_user({"MANAGED_MEM_LIBRARY": str(library())}), []

    def child(command, env, **_):
        tried.append(settings.handed(env).placement)
        return SimpleNamespace(stdout="", returncode=int(tried[-1] == "managed"))

    monkeypatch.setattr(self_test.subprocess, "run", child)
    assert self_test.run(user, SimpleNamespace(measured=SimpleNamespace(simulated=""))) == 1
    assert tried == list(settings.PLACEMENTS)
    assert "managed          FAILED, exit status 1" in capsys.readouterr().out


@pytest.mark.parametrize("placement, card, within, beyond, failures", [
    ("hbm-first", "NVIDIA H100", 2901e9, 50e9, 0),
    ("hbm-first", "NVIDIA H100", 2901e9, 2900e9, 1),  # not on the host
    ("hbm-first", "NVIDIA H100", 2901e9, None, 1),  # a library without the kernel
    ("managed-prefetch", "NVIDIA H100", 2870e9, 2873e9, 0),
    ("managed-prefetch", "NVIDIA H100", 2870e9, 50e9, 1),  # not prefetched
    ("managed", "NVIDIA GH200 480GB", 3600e9, 340e9, 0),
    ("managed", "NVIDIA GH200 480GB", 3600e9, 80e9, 1),
])
def test_read_rates(placement, card, within, beyond, failures):
    rates = {"weights": within, "cache": beyond}
    test = object.__new__(self_test.Test)
    test.settings, test.stand_in, test.failures = SimpleNamespace(placement=placement), "", 0
    test.torch = SimpleNamespace(cuda=SimpleNamespace(get_device_name=lambda: card))
    test.library = SimpleNamespace(read_rate=lambda pointer, size: rates[pointer])
    test.rates(*(SimpleNamespace(data_ptr=lambda name=name: name, numel=lambda: 1) for name in rates))
    assert test.failures == failures


# The bootstrap ----------------------------------------------------------------------------------------------------------

def test_unset_opt_in_changes_nothing():
    """C4"""
    done = python("-c", "import sys; print([m for m in sys.modules if 'managed_mem' in m or m == 'torch'], len(sys.meta_path))")
    plain = subprocess.run([sys.executable, "-c", "import sys; print(len(sys.meta_path))"], capture_output=True, text=True).stdout
    assert done.stdout.split() == ["[]", plain.strip()] and done.stderr == ""


def test_opt_in_stays_torch_free_and_quiet(tmp_path):
    """C5"""
    opt_in = handed(library(), tmp_path)
    for arguments in (["-c", "import sys; assert 'torch' not in sys.modules"], ["-m", "pip", "--version"], ["-c", "from multiprocessing import resource_tracker as r; r.ensure_running()"]):
        done = python(*arguments, opt_in=opt_in)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    assert python("-c", "pass", opt_in=opt_in).stdout == ""


@pytest.mark.parametrize("opt_in", [True, False])
def test_shadowed_sitecustomize_still_runs(tmp_path, opt_in):
    """C6"""
    (tmp_path / "sitecustomize.py").write_text("import builtins; builtins.shadowed = __file__\n")
    done = python("-c", "import builtins; print(builtins.shadowed)", extra_path=str(tmp_path), opt_in=handed(library(), tmp_path) if opt_in else None)
    assert done.stdout.strip() == str(tmp_path / "sitecustomize.py"), done.stderr


def test_broken_package_fails_closed(tmp_path):
    (tmp_path / "sitecustomize.py").write_text((ASSETS / "sitecustomize.py").read_text())
    done = subprocess.run([sys.executable, "-c", "print('went on')"], env={"PYTHONPATH": str(tmp_path), "MANAGED_MEM": "{}"}, capture_output=True, text=True)
    assert done.returncode == 78 and done.stdout == "" and len(done.stderr.splitlines()) == 1
    assert_refused(python("-c", "print('went on')", opt_in="{}"), "not written by this launcher")


CHILDREN = """
import multiprocessing, os, subprocess, sys
def covered():
    return 'managed_mem.hooks' in sys.modules and sys.modules['managed_mem.hooks']._installed is not None
def report(queue): queue.put(covered())
if __name__ == '__main__':
    for method in ('spawn', 'fork', 'forkserver'):
        context = multiprocessing.get_context(method)
        queue = context.Queue()
        child = context.Process(target=report, args=(queue,)); child.start(); print(method, queue.get()); child.join()
    print('subprocess', subprocess.run([sys.executable, '-c', "import sys; sys.exit('managed_mem.hooks' not in sys.modules)"]).returncode == 0)
    for flags in (['-I'], ['-E'], ['-S'], ['-sE'], ['-B', '-I']):
        try: subprocess.run([sys.executable, *flags, '-c', 'pass']); print(flags, 'started')
        except PermissionError: print(flags, 'not started')
    for environment in ({}, {'MANAGED_MEM': os.environ['MANAGED_MEM']}, {'PYTHONPATH': os.environ['PYTHONPATH']}):
        try: subprocess.run([sys.executable, '-c', 'pass'], env=environment); print('started')
        except PermissionError: print('environment', 'not started')
    print('others', subprocess.run(['env', '-i', 'true']).returncode)
"""


def test_every_child_is_covered_or_not_started(tmp_path):
    """C7"""
    (tmp_path / "children.py").write_text(CHILDREN)
    done = python(str(tmp_path / "children.py"), opt_in=handed(library(), tmp_path))
    lines = done.stdout.splitlines()
    assert lines[:4] == ["spawn True", "fork True", "forkserver True", "subprocess True"], done.stderr[-800:]
    assert sum("not started" in line for line in lines) == 8 and not any(line.endswith("] started") or line == "started" for line in lines)
    assert lines[-1] == "others 0"


@pytest.mark.parametrize("words", [["python3", "-c", "E"], ["python3", "-X", "importtime", "-c", "pass"], ["python3", "-Wignore::ImportWarning", "x.py"], ["python3", "x.py", "-I"], ["gcc", "-E"], ["python3", "-m", "pip"]])
def test_children_that_are_covered(words):
    assert hooks.uncovered(words[0], words, None) is None


def test_installing_twice_is_once(tmp_path):
    program = "import sys; n = len(sys.meta_path); from managed_mem import hooks, settings; hooks.install(settings.handed()); hooks.install(settings.handed()); print(len(sys.meta_path) - n)"
    assert python("-c", program, opt_in=handed(library(), tmp_path)).stdout.strip() == "0"
    other = program.replace("settings.handed()); print", "__import__('dataclasses').replace(settings.handed(), host=5)); print")
    assert_refused(python("-c", other, opt_in=handed(library(), tmp_path)), "other settings")


def test_stand_in_is_never_accepted_silently(tmp_path):
    (tmp_path / "torch.py").write_text("__version__ = '2.11.0+stand.in'\n__stand_in__ = 'stand-in torch'\nclass _C: pass\nclass cuda:\n    is_initialized = staticmethod(lambda: False)\n")
    assert_refused(python("-c", "import torch", extra_path=str(tmp_path), opt_in=handed(library(), tmp_path, accept=False)), "stand-in torch", "MANAGED_MEM_ACCEPT_STAND_IN")
    assert python("-c", "import torch", extra_path=str(tmp_path), opt_in=handed(library(), tmp_path)).returncode == 0


@pytest.mark.parametrize("body, words", [("__version__ = '2.12.0'", ["2.12.0", "not tested"]), ("__version__ = '2.10.0+cu128'\ncuda.is_initialized = lambda: True", ["CUDA was started"])])
def test_torch_that_is_refused(tmp_path, body, words):
    (tmp_path / "torch.py").write_text("class _C: pass\nclass cuda:\n    is_initialized = staticmethod(lambda: False)\n" + body)
    assert_refused(python("-c", "import torch", extra_path=str(tmp_path), opt_in=handed(library(), tmp_path)), *words)


def test_unknown_vllm_is_refused(tmp_path):
    (tmp_path / "vllm.py").write_text("__version__ = '0.20.0'")
    assert_refused(python("-c", "import vllm", extra_path=str(tmp_path), opt_in=handed(library(), tmp_path)), "vllm", "0.20.0")
