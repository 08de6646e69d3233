"""The worker class: weights and KV cache come from memory pools over our segments. Public PyTorch API only."""

import contextlib
import gc
import os

import torch
from vllm.v1.worker.gpu_worker import Worker

from . import blocks, plan, refuse, refusals, say
from .account import path_for
from .library import KINDS, KV, OTHER, WEIGHTS, load
from .settings import format_size, handed

# PyTorch takes segments of 2 MiB for small tensors and rounds larger ones up to a multiple of it.
SEGMENT_ROUNDING = 2 << 20
# What PyTorch may take before the HBM is measured (observed: tens of MiB).
START_UP = 1 << 30


@contextlib.contextmanager
def _wrapped(owner, name: str, make):
    """A method of one object, replaced for as long as the block runs."""
    setattr(owner, name, make(getattr(owner, name)))
    try:
        yield
    finally:
        delattr(owner, name)


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
        self._split = None
        super().init_device()
        self._index = self.device.index
        self._limit_before_load()
        torch._C._cuda_attach_out_of_memory_observer(lambda device, *_: self._library.count_oom(device))

    # Limits ------------------------------------------------------------------------------------------------------------

    def _limit_before_load(self) -> None:
        settings = self._settings
        # The pod's budget is one sum, whatever the number of its GPUs.
        self._host = settings.host // max(1, self.parallel_config.local_world_size)
        self._free, self._total = torch.cuda.mem_get_info(self.device)
        reserve = plan.hbm_reserve(self._total, settings.hbm_reserve)
        self._hbm = plan.grant_hbm(settings.hbm, self._free, self._total, reserve, f"{format_size(self._free)} free")
        if settings.hbm is not None and self._hbm < settings.hbm:
            say(f"MANAGED_MEM_HBM: {format_size(settings.hbm)} lowered to {format_size(self._hbm)}: {format_size(self._free)} are free, the reserve is {format_size(reserve)}")
        self._limit(WEIGHTS, self._hbm - settings.kv_hbm, self._host)
        say(
            f"process {os.getpid()}, device {self._index}: {format_size(self._hbm)} HBM and {format_size(self._host)} host "
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
        # With a tier for prefixes the cache itself stays in HBM: its blocks are copied, and read over the link once.
        host = 0 if self._settings.prefixes else max(0, self._host - weights.host)
        layers = len(self.get_kv_cache_spec())
        most = plan.kv_bytes(hbm, host, layers, SEGMENT_ROUNDING)
        if asked:
            kv = asked
        elif self._settings.utilization_given:
            kv = min(most, theirs)
        else:
            kv = most
        if layers and kv <= 0 < most:
            refuse(
                f"--gpu-memory-utilization: {self.cache_config.gpu_memory_utilization}: leaves nothing for the KV cache beside the weights and what others use; "
                f"accepted: more, or none: then the budgets leave {format_size(most)}; raise it or leave it out"
            )
        if layers and most <= 0:  # a model without a cache needs no room for one
            refuse(
                f"KV cache: {format_size(hbm)} HBM and {format_size(host)} host are left beside the weights; accepted: more than {format_size(plan.kv_rounding(layers, SEGMENT_ROUNDING))}; "
                "raise MANAGED_MEM_HBM or MANAGED_MEM_HOST"
            )
        if kv > most:
            refuse(
                f"--kv-cache-memory-bytes: {format_size(kv)}: more than {format_size(hbm)} HBM and {format_size(host)} host are left; "
                f"accepted: up to {format_size(most)}; lower it or leave it out"
            )
        placed = kv + plan.kv_rounding(layers, SEGMENT_ROUNDING)  # what lies in HBM as a whole needs no host budget
        self._limit(KV, min(hbm, placed), max(0, placed - hbm))
        say(f"device {self._index}: weights {format_size(weights.hbm)} HBM + {format_size(weights.host)} host; KV cache {format_size(kv)} of {format_size(hbm)} HBM + {format_size(host)} host")
        return kv

    def initialize_from_config(self, kv_cache_config, *args, **kwargs) -> None:
        # Only the cache's tensors: what the runner makes beside them is read at every step and must not lie on the host.
        runner = self.model_runner
        with contextlib.ExitStack() as wrapped:
            for name in ("_allocate_kv_cache_tensors", "allocate_uniform_kv_caches"):
                wrapped.enter_context(_wrapped(runner, name, self._placed))
            wrapped.enter_context(_wrapped(runner, "_reshape_kv_cache_tensors", self._laid(kv_cache_config.num_blocks)))
            wrapped.enter_context(_wrapped(runner, "initialize_kv_cache_tensors", self._seen(kv_cache_config.num_blocks)))
            super().initialize_from_config(kv_cache_config, *args, **kwargs)
        self._check("after the KV cache")

    def _placed(self, allocate):
        def placed(*args, **kwargs):
            with self._pool(KV):
                return allocate(*args, **kwargs)

        return placed

    def _laid(self, count: int):
        """Both halves of a block on one side, unless a connector reads the cache in vLLM's own layout."""

        def make(reshape):
            def laid(*args, **kwargs):
                caches = reshape(*args, **kwargs)
                if self._library.row(KV, self._index).host and self.vllm_config.kv_transfer_config is None:
                    blocks.lay_by_block(caches, self.model_runner._kv_cache_spec_attn_group_iterator(), count)
                return caches

            return laid

        return make

    def _seen(self, count: int):
        def make(initialize):
            def seen(*args, **kwargs):
                caches = initialize(*args, **kwargs)
                for tensor in blocks.tensors(caches):
                    if tensor.numel() and ((segment := self._library.segment(tensor.data_ptr())) is None or segment.kind != KV):
                        refuse(f"KV cache: a tensor of {format_size(tensor.numel() * tensor.element_size())} came from somewhere else; accepted: from the launcher's pool; report this")
                if self._library.row(KV, self._index).host and self._settings.placement != "managed-prefetch":
                    near, weights = blocks.leading_in_hbm(caches, count, self._library), self._library.row(WEIGHTS, self._index)
                    # Weights on the host are read at every step, whoever waits: then more requests at once cost little.
                    self._split = blocks.Split(near, count, hold=weights.host == 0)
                    say(f"device {self._index}: KV cache blocks 0 to {near - 1} of {count} lie in HBM, the rest on the host" if near else f"device {self._index}: KV cache blocks are read from the host")
                return caches

            return seen

        return make

    def kv_split(self) -> blocks.Split | None:
        """What the engine's process asks for its pool of blocks; None where the whole cache lies in HBM."""
        return self._split

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
