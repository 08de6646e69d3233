"""The worker class: weights and KV cache come from memory pools over our segments. Public PyTorch API only."""

import contextlib
import gc
import os

import torch
from vllm.v1.worker.gpu_worker import Worker

from . import plan, refuse, refusals, say
from .account import path_for
from .library import KINDS, KV, OTHER, WEIGHTS, load
from .settings import format_size, handed

# PyTorch takes segments of 2 MiB for small tensors and rounds larger ones up to a multiple of it.
SEGMENT_ROUNDING = 2 << 20
# What PyTorch may take before the HBM is measured (observed: tens of MiB).
START_UP = 1 << 30


class ManagedWorker(Worker):
    def init_device(self) -> None:
        # vLLM collects garbage in full seven times until it serves, 0.4 s each, most of it over the objects of what was imported. They are left out
        # until vLLM unfreezes them after the capture. Nothing on the GPU is among them: nothing lies there yet.
        gc.freeze()
        self._settings = handed()
        if self._settings is None:
            refuse("worker: MANAGED_MEM is unset in the engine's process; accepted: the launcher's value; pass the environment on")
        refusals.check_environment(os.environ)
        refusals.check_config(self.vllm_config)
        self._library = load(self._settings.library)
        refusals.check_stand_in("CUDA runtime", self._library.stand_in, self._settings)
        self._library.share(path_for(self._settings.run_dir))
        if self._settings.placement == "hbm-first":
            self._library.place("hbm-first")
        else:
            # CUDA's start, NCCL and vLLM's own probes come before the HBM can be measured.
            self._library.limit(OTHER, self.local_rank, START_UP, 0)
        self._pool_ids = {}
        super().init_device()
        self._index = self.device.index
        self._limit_before_load()
        torch._C._cuda_attach_out_of_memory_observer(lambda device, *_: self._library.count_oom(device))

    # Limits ------------------------------------------------------------------------------------------------------------

    def _limit_before_load(self) -> None:
        settings = self._settings
        self._free, self._total = torch.cuda.mem_get_info(self.device)
        reserve = plan.hbm_reserve(self._total, settings.hbm_reserve)
        self._hbm = plan.grant_hbm(settings.hbm, self._free, self._total, reserve, f"{format_size(self._free)} free")
        if settings.hbm is not None and self._hbm < settings.hbm:
            say(f"MANAGED_MEM_HBM: {format_size(settings.hbm)} lowered to {format_size(self._hbm)}: {format_size(self._free)} are free, the reserve is {format_size(reserve)}")
        self._limit(WEIGHTS, self._hbm - settings.kv_hbm, settings.host)
        say(
            f"process {os.getpid()}, device {self._index}: {format_size(self._hbm)} HBM and {format_size(settings.host)} host "
            f"for weights and KV cache, placement {settings.placement}{', SIMULATED' if self._library.stand_in else ''}"
        )

    def _limit(self, kind: int, hbm: int, host: int) -> None:
        """A pool's limits; what it leaves of the HBM is for everything else, which never goes to the host."""
        self._library.limit(kind, self._index, hbm, host)
        if self._settings.placement != "hbm-first":
            weights, cache, other = (self._library.row(k, self._index) for k in (WEIGHTS, KV, OTHER))
            pools = (weights.hbm_limit if kind == WEIGHTS else weights.hbm) + cache.hbm_limit
            self._library.limit(OTHER, self._index, self._free + other.hbm - pools, 0)

    @contextlib.contextmanager
    def _pool(self, kind: int):
        with self._library.pool(kind, self.device) as self._pool_ids[kind]:
            try:
                yield
            except torch.OutOfMemoryError:
                row = self._library.row(kind, self._index)
                refuse(
                    f"{KINDS[kind]}: need more than {format_size(row.hbm_limit)} HBM and {format_size(row.host_limit)} host; accepted: a model and cache that fit; "
                    "raise MANAGED_MEM_HOST or MANAGED_MEM_HBM, or lower --max-model-len, --kv-cache-memory-bytes or the model's size"
                )

    # vLLM's phases -----------------------------------------------------------------------------------------------------

    def load_model(self, *args, **kwargs) -> None:
        with self._pool(WEIGHTS):
            super().load_model(*args, **kwargs)
        weights = self._library.row(WEIGHTS, self._index)
        self._limit(WEIGHTS, weights.hbm, weights.host)  # what is loaded is loaded: the rest is for the KV cache
        self._check("after load")

    def determine_available_memory(self) -> int:
        asked = self.cache_config.kv_cache_memory_bytes
        theirs = super().determine_available_memory()
        weights = self._library.row(WEIGHTS, self._index)
        reserve = plan.hbm_reserve(
            self._total,
            self._settings.hbm_reserve,
            activations=getattr(self, "peak_activation_memory", 0),
            graphs=max(0, getattr(self, "cudagraph_memory_estimate", 0)),
            outside=max(0, getattr(self, "non_torch_memory", 0)),
        )
        # What activations and graphs need beyond the planned reserve is taken from the cache, or the first large batch would find no memory.
        hbm = max(0, min(self._hbm, self._free - reserve) - weights.hbm)
        host = max(0, self._settings.host - weights.host)
        layers = len(self.get_kv_cache_spec())
        most = plan.kv_bytes(hbm, host, layers, SEGMENT_ROUNDING)
        if asked:
            kv = asked
        elif self._settings.utilization_given:
            kv = min(most, theirs)
        else:
            kv = most
        if kv > most:
            refuse(
                f"--kv-cache-memory-bytes: {format_size(kv)}: more than {format_size(hbm)} HBM and {format_size(host)} host are left; "
                f"accepted: up to {format_size(most)}; lower it or leave it out"
            )
        placed = kv + plan.kv_rounding(layers, SEGMENT_ROUNDING)  # what lies in HBM as a whole needs no host budget
        self._limit(KV, min(hbm, placed), max(0, placed - hbm))
        say(f"device {self._index}: weights {format_size(weights.hbm)} HBM + {format_size(weights.host)} host; KV cache {format_size(kv)} of {format_size(hbm)} HBM + {format_size(host)} host")
        return kv

    def initialize_from_config(self, *args, **kwargs) -> None:
        # Only the cache tensors: what the runner makes beside them is read at every step and must not lie on the host.
        runner = self.model_runner
        allocate = runner._allocate_kv_cache_tensors

        def placed(*a, **k):
            with self._pool(KV):
                return allocate(*a, **k)

        runner._allocate_kv_cache_tensors = placed
        try:
            super().initialize_from_config(*args, **kwargs)
        finally:
            del runner._allocate_kv_cache_tensors
        self._check("after the KV cache")

    def compile_or_warm_up_model(self, *args, **kwargs):
        result = super().compile_or_warm_up_model(*args, **kwargs)
        self._check("after capture")
        return result

    # Proof -------------------------------------------------------------------------------------------------------------

    def _check(self, when: str) -> None:
        """PyTorch's own count of reserved bytes must be ours, or memory came from somewhere else."""
        kinds = tuple(self._pool_ids) if self._settings.placement == "hbm-first" else (WEIGHTS, KV, OTHER)
        rows = [self._library.row(kind, self._index) for kind in kinds]
        ours = sum(row.hbm + row.host for row in rows)
        if self._settings.placement == "hbm-first":
            theirs = sum(s["total_size"] for i in self._pool_ids.values() for s in torch.cuda.memory_snapshot(i) if s["device"] == self._index)
        else:
            theirs = torch.cuda.memory_reserved(self.device)
        if ours != theirs:
            refuse(f"{when}: PyTorch holds {theirs} bytes, {ours} were placed; accepted: equal; some memory is unmanaged, report this")
