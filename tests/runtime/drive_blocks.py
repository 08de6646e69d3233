"""Drives vLLM's real KVCacheManager over a cache of which some blocks lie on the host. Run by test_blocks.py; prints one JSON object.

  argv: JSON {near, total, hold}
"""

import json
import random
import sys

import torch
from vllm.sampling_params import SamplingParams
from vllm.utils.hashing import sha256
from vllm.v1.core import block_pool, kv_cache_utils
from vllm.v1.core.kv_cache_manager import KVCacheManager
from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.request import Request

from managed_mem import blocks

ask = json.loads(sys.argv[1])
BLOCK = 16
init_none_hash(sha256)
hasher = get_request_block_hasher(BLOCK, sha256)
spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=1, head_size=8, dtype=torch.bfloat16)
blocks.agree([blocks.Split(ask["near"], ask["total"], ask["hold"])] * 2)
manager = KVCacheManager(KVCacheConfig(ask["total"], [], [KVCacheGroupSpec(["layer.0"], spec)]), max_model_len=100_000, hash_block_size=BLOCK, log_stats=True)
pool = manager.block_pool
names = iter(range(10_000))


def request(number_of_blocks: int, salt: int | None = None) -> Request:
    name = next(names)
    salt = name if salt is None else salt
    tokens = [(salt * 7919 + i * 31) % 30_000 for i in range(number_of_blocks * BLOCK - 1)]
    return Request(f"r{name}", tokens, SamplingParams(max_tokens=1000), None, block_hasher=hasher)


def allocate(r: Request, tokens: int | None = None) -> list[int] | None:
    """As the scheduler does: what is cached, then the rest. The blocks that the request holds afterwards, or None: it waits."""
    cached, hit = manager.get_computed_blocks(r) if r.num_computed_tokens == 0 else (None, 0)
    new = (tokens or r.num_tokens) - r.num_computed_tokens - hit
    if manager.allocate_slots(r, new, hit, cached) is None:
        return None
    r.num_computed_tokens += hit + new
    return held(r)


def held(r: Request) -> list[int]:
    return manager.get_block_ids(r.request_id)[0]


def far(ids: list[int] | None) -> int | None:
    return None if ids is None else sum(i >= ask["near"] for i in ids)


def grow(r: Request, number_of_blocks: int) -> list[int] | None:
    r.append_output_token_ids([5] * (number_of_blocks * BLOCK))
    return allocate(r)


out = {"queue": type(pool.free_block_queue).__name__, "usage_when_empty": pool.get_usage()}
near = ask["near"] - 1  # one is the null block
half = max(1, near // 2)

# 1: requests that HBM holds take HBM, wait when it is full, and go on when one leaves.
first, second, third = request(half), request(half), request(half)
out["small"] = [far(allocate(first)), far(allocate(second)), far(allocate(third))]
out["usage_when_full"] = pool.get_usage()
manager.free(first)
if not held(third):
    out["after_one_left"] = far(allocate(third))
# 2: growth beyond the HBM is vLLM's to preempt, as it would be without host blocks.
out["grown"] = far(grow(third, near // 4 + 1))
manager.free(second)
manager.free(third)
# 3: a request larger than the HBM gets all of it first, and the host's blocks after it; while it runs, so does whoever comes.
large, beside = request(near + 20), request(4)
ids = allocate(large)
out["large"] = [far(ids), ids.index(max(ids)) == len(ids) - 1, far(ids[:near])]
out["beside_large"] = far(allocate(beside))
manager.free(beside)
out["large_grown"] = far(grow(large, 2))
manager.free(large)
# 4: when it has left, the HBM is full of nobody, and requests are held again.
crowd = [request(half), request(half), request(4)]
out["again"] = [far(allocate(r)) for r in crowd]
for r in crowd:
    manager.free(r)
# 5: what is cached is found, wherever it lies.
one = request(6, salt=77)
allocate(one)
manager.free(one)
out["hit_tokens"] = manager.get_computed_blocks(request(6, salt=77))[1]
out["reset"] = pool.reset_prefix_cache()
out["free_at_end"] = pool.get_num_free_blocks() == ask["total"] - 1
# 6: a request that fills the HBM to its last token, with drafts beyond it, waits for nobody.
full = request(max(1, near))
full.append_output_token_ids([5])
out["drafts"] = manager.allocate_slots(full, full.num_tokens, num_lookahead_tokens=BLOCK + 1) is not None
manager.free(full)
# 7: whatever happens, no block is lost or handed out twice.
dice, running = random.Random(7), []
for _ in range(4000):
    if running and dice.random() < 0.45:
        manager.free(running.pop(dice.randrange(len(running))))
    elif running and dice.random() < 0.3:
        grow(dice.choice(running), 1)
    else:
        r = request(dice.choice((1, 3, half, max(1, near), near + 5, ask["total"] - 8)), salt=dice.randrange(20))
        if allocate(r) is not None:
            running.append(r)
        elif not running:
            out["stuck"] = r.num_tokens
    ids = [i for r in running for i in held(r)]
    free = [b.block_id for b in pool.free_block_queue.get_all_free_blocks()]
    if len(set(free)) != len(free) or set(free) & set(ids) or len(set(free) | set(ids)) != ask["total"] - 1 or len(free) != pool.get_num_free_blocks():
        out["lost"] = [len(free), len(set(ids)), pool.get_num_free_blocks()]
        break
for r in running:
    manager.free(r)
out["free_at_the_very_end"] = pool.get_num_free_blocks() == ask["total"] - 1
blocks.agree([None])
out["plain"] = type(block_pool.BlockPool(8, True, BLOCK).free_block_queue) is kv_cache_utils.FreeKVCacheBlockQueue
print(json.dumps(out))
