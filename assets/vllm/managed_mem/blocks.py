"""The KV cache's blocks: which of them lie in HBM, and that those are handed out first.

A cache that is larger than its HBM is split at the same block in every layer. Requests that fit into the HBM then run as if there were nothing else;
the host's blocks serve contexts that the HBM alone cannot hold, which vLLM without them refuses.
"""

import contextlib
import dataclasses

from .library import Library

# Backends whose kernels take the distance of two blocks from the tensor, so that a block's keys and values can lie side by side. vLLM does the same
# where attention and Mamba layers share a cache (_update_hybrid_attention_mamba_layout).
STRIDED = ("FLASH_ATTN",)


@dataclasses.dataclass(frozen=True)
class Split:
    """What one worker says of its cache, and what all of an engine's workers agree on."""

    in_hbm: int  # leading blocks of which every byte of every layer lies in HBM
    total: int
    hold: bool  # whether requests that the HBM can hold wait for it, as they would if there were no host blocks


def tensors(caches: dict) -> list:
    """Every tensor of a cache as vLLM makes it: one for a layer of attention, several for a layer of Mamba."""
    return [tensor for cache in caches.values() for tensor in (cache if isinstance(cache, (list, tuple)) else (cache,))]


def block_dimension(tensor, blocks: int) -> int | None:
    """The dimension that counts blocks, the first or the one after «keys and values». A kernel's blocks can be smaller than the cache's."""
    return next((d for d in (0, 1) if d < tensor.dim() and tensor.shape[d] >= blocks and tensor.shape[d] % blocks == 0), None)


def lay_by_block(caches: dict, groups, blocks: int) -> None:
    """Puts a block's keys beside its values, where they are two halves of a tensor, so that both lie on the same side of the split."""
    for group in groups:
        if group.backend.get_name() not in STRIDED:
            continue
        for name in group.layer_names:
            cache = caches.get(name)
            if cache is None or block_dimension(cache, blocks) != 1 or cache.untyped_storage().nbytes() != cache.numel() * cache.element_size():
                continue
            block = cache.shape[2:].numel()
            cache.as_strided_(cache.shape, (block, 2 * block, *cache.stride()[2:]))


def leading_in_hbm(caches: dict, blocks: int, library: Library) -> int:
    """How many of the first blocks lie in HBM as a whole. A layout that is not known counts as none."""
    least = blocks
    for tensor in tensors(caches):
        segment, dimension = library.segment(tensor.data_ptr()), block_dimension(tensor, blocks)
        if segment is not None and segment.in_hbm == segment.size:
            continue
        if segment is None or dimension is None:
            return 0
        sizes, strides, item = list(tensor.shape), list(tensor.stride()), tensor.element_size()
        count, stride = sizes.pop(dimension), strides.pop(dimension) * item
        last = (sum((size - 1) * step for size, step in zip(sizes, strides)) + 1) * item  # bytes from a block's first to the end of its last
        whole = (segment.in_hbm - (tensor.data_ptr() - segment.start) - last) // stride + 1
        least = min(least, max(0, whole) // (count // blocks))
    return least


# In the engine's process ---------------------------------------------------------------------------------------------

_split: Split | None = None


def agree(answers: list[Split | None]) -> None:
    """What holds for all workers of this engine; None where one of them does not split its cache."""
    global _split
    told = [answer for answer in answers if answer is not None]
    _split = None
    if told and len(told) == len(answers):
        _split = Split(min(s.in_hbm for s in told), told[0].total, all(s.hold for s in told))


class HbmFirst:
    """vLLM's queue of free blocks twice: those in HBM, and those on the host, which are handed out when the others are gone."""

    def __init__(self, make, blocks: list, split: Split):
        self._border = split.in_hbm
        self._near, self._far = make(blocks[: self._border]), make(blocks[self._border :])
        self._hold = split.hold
        self._large = set()  # running requests that the HBM alone cannot hold
        self._near_only = False

    def _of(self, block):
        return self._near if block.block_id < self._border else self._far

    @property
    def num_free_blocks(self) -> int:
        return self._near.num_free_blocks + (0 if self._near_only else self._far.num_free_blocks)

    def popleft(self):
        return (self._near if self._near.num_free_blocks else self._far).popleft()

    def popleft_n(self, n: int) -> list:
        near = min(n, self._near.num_free_blocks)
        return self._near.popleft_n(near) + self._far.popleft_n(n - near)

    def remove(self, block) -> None:
        self._of(block).remove(block)

    def append(self, block) -> None:
        self._of(block).append(block)

    def append_n(self, blocks: list) -> None:
        for queue in (self._near, self._far):
            queue.append_n([block for block in blocks if self._of(block) is queue])

    def get_all_free_blocks(self) -> list:
        return self._near.get_all_free_blocks() + self._far.get_all_free_blocks()

    @contextlib.contextmanager
    def asked_by(self, manager, request, lookahead: int = 0):
        """What an allocation for a request may see. The host's blocks are there only while a request runs that the HBM alone cannot hold.

        A step reads every block of its requests, so that a request that could have waited for HBM, or been preempted, would slow all the others.
        Yields whether the request is such a large one.
        """
        most = self._border - 1  # one is vLLM's null block
        large = self._hold and self._blocks_of(manager, request, lookahead) > most
        # Where nobody holds HBM there is nobody to wait for.
        self._near_only = self._hold and not large and not self._large and self._near.num_free_blocks < most
        try:
            yield large
        finally:
            self._near_only = False

    def runs(self, request) -> None:
        self._large.add(request.request_id)

    def leaves(self, request) -> None:
        self._large.discard(request.request_id)

    def _blocks_of(self, manager, request, lookahead: int) -> int:
        """Blocks that the request's tokens take: those that it holds and those that it still needs, by vLLM's own count."""
        coordinator, tokens = manager.coordinator, min(request.num_tokens_with_spec + lookahead, manager.max_model_len)
        most = sum(-(-tokens // of_group.block_size) for of_group in coordinator.single_type_managers)
        if most < self._border:
            return most  # the usual case, and cheap: no sliding window is taken off
        held = sum(not block.is_null for of_group in coordinator.single_type_managers for block in of_group.req_to_blocks.get(request.request_id, ()))
        return held + coordinator.get_num_blocks_to_allocate(
            request_id=request.request_id, num_tokens=tokens, new_computed_blocks=manager.empty_kv_cache_blocks.blocks, num_encoder_tokens=0,
            total_computed_tokens=request.num_computed_tokens, num_tokens_main_model=tokens,
        )


def queue_of(make, blocks: list):
    """The queue for a pool of blocks: vLLM's own where all of them lie in HBM."""
    if _split is None or _split.in_hbm >= len(blocks) or _split.total != len(blocks):
        return make(blocks)
    return HbmFirst(make, blocks, _split)
