"""Blocks in HBM first, by kind of model, as `vllm serve`: requests that HBM holds, and one context that it cannot hold.

  kinds.py OUTDIR LIBRARY

For each kind native with the whole cache in HBM, and hbm-first with a part of it on the host. Shapes are those of tests/fixtures/models with fewer layers
and experts, their weights made up (load format dummy). Managed memory: at most 4 GiB of cache each. Beside them one server with a tier for prefixes,
for the host memory that it holds. A kind that does not come up is recorded with its log's end, and the rest goes on. Writes OUTDIR/kinds.json.
"""

import json
import random
import sys
from pathlib import Path

from pairs import compare
from serve import GIB, NATIVE, ROOT, VOCABULARY, Server, card, interleaved, make_model, prompts

WINDOW, SECONDS = 33, 5
SHAPES = ((1, 2000), (2, 4000))
# kind: fixture, what is changed of it, bytes of cache in HBM and in all, the long context in tokens, further arguments
KINDS = {
    "dense, FP8 cache": ("", {}, 0.36, 1.5, 24_000, ["--kv-cache-dtype", "fp8"]),
    "experts": ("qwen3-30b-a3b", {"num_hidden_layers": 10, "num_experts": 64}, 0.25, 1.0, 24_000, []),
    "latent attention": ("deepseek-v3", {
        "num_hidden_layers": 8, "hidden_size": 2048, "intermediate_size": 4096, "moe_intermediate_size": 768, "num_attention_heads": 16, "num_key_value_heads": 16, "q_lora_rank": 512,
        "n_routed_experts": 16, "n_group": 1, "topk_group": 1, "num_experts_per_tok": 4, "first_k_dense_replace": 1, "rope_scaling": None}, 0.12, 0.5, 24_000, []),
    "windows": ("gemma-3-4b", {"num_hidden_layers": 26}, 0.8, 2.5, 44_000, ["--max-num-batched-tokens", "2048"]),
}


def make_kind(fixture: str, changed: dict) -> Path:
    """A Llama's tokenizer beside another model's configuration."""
    base = make_model(16, 8)
    if not fixture:
        return base
    whole = json.loads((ROOT / f"tests/fixtures/models/{fixture}.json").read_text())
    decoder = whole.get("text_config", whole)
    config = {k: v for k, v in decoder.items() if k not in ("quantization_config", "auto_map")} | {
        "architectures": ["Gemma3ForCausalLM"] if "text_config" in whole else whole["architectures"], "torch_dtype": "bfloat16", "vocab_size": VOCABULARY,
        "max_position_embeddings": 65536, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False, "rope_scaling": None} | changed
    folder = Path(f"/tmp/kind-{fixture}")
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).write_text((base / name).read_text())
    return folder


def arguments(cache_gib: float, tokens: int, more: list[str]) -> list[str]:
    return ["--load-format", "dummy", "--kv-cache-memory-bytes", str(int(cache_gib * GIB)), "--max-model-len", str(tokens + 1000), *more]


def up(server: Server, result: dict) -> Server | None:
    try:
        return server.wait(240)
    except RuntimeError:
        result["not_up"] = [line[-300:] for line in server.text().splitlines() if "Error" in line or "refused" in line][-6:]
        server.stop()
        return None


def measure(native: Server, ours: Server, long: int) -> dict:
    result, dice = {"fits": {}}, random.Random(1)
    servers = {"native": native, "native again": native, "contexts": ours}
    for batch, context in SHAPES:
        found = interleaved(servers, list(servers), prompts(batch, context), WINDOW, SECONDS, dice)
        steps, equal = found["step_ms"], found["equal"]["contexts"]
        result["fits"][f"{batch} x {context}"] = {n: compare(steps["native"][1:], steps[n][1:]) for n in ("native again", "contexts")} | {"equal": [sum(equal), len(equal)], "step_ms": steps}
    made, asked = {}, prompts(1, long, 3)
    for name, server in (("native", native), ("contexts", ours)):
        seconds, made[name] = server.complete(asked, 24)
        result[f"long, {name}"] = {"tokens": long, "seconds": round(seconds, 2), "step_ms": [round(server.step_ms(asked, 17)[0], 3) for _ in range(3)]}
    result["long, tokens equal"] = made["native"] == made["contexts"]
    result["different_tokens"] = len(set(made["native"][0]))
    placed = ours.metrics("managed_mem_placed_bytes")
    result["kv_mib"] = {where: sum(v for k, v in placed.items() if 'kind="kv"' in k and f'where="{where}"' in k) / (1 << 20) for where in ("hbm", "host")}
    return result


def main() -> None:
    outdir, library = Path(sys.argv[1]), sys.argv[2]
    outdir.mkdir(parents=True, exist_ok=True)
    result = card() | {"kinds": {kind: {} for kind in KINDS}}

    def save() -> None:
        (outdir / "kinds.json").write_text(json.dumps(result, indent=1))

    port = iter(range(18401, 18500))
    models = {kind: make_kind(fixture, changed) for kind, (fixture, changed, *_) in KINDS.items()}
    natives = {kind: Server(f"native {kind}".replace(",", ""), next(port), outdir, models[kind], NATIVE, *arguments(in_all, long, more), cores=range(12))
               for kind, (_, _, _, in_all, long, more) in KINDS.items()}
    natives = {kind: found for kind, server in natives.items() if (found := up(server, result["kinds"][kind]))}
    save()
    ours, told = {}, {"MANAGED_MEM_LIBRARY": library, "MANAGED_MEM_HOST_RESERVE": "1GiB"}
    for kind, native in natives.items():
        _, _, in_hbm, in_all, long, more = KINDS[kind]
        hbm, host = native.facts()["weights_gib"] + 0.03 + in_hbm, in_all
        ours[kind] = Server(f"contexts {kind}".replace(",", ""), next(port), outdir, models[kind], told | {"MANAGED_MEM_HBM": f"{hbm:.3f}GiB", "MANAGED_MEM_HOST": f"{host}GiB"},
                            *arguments(in_all, long, more), cores=range(12))
    tier = Server("tier", next(port), outdir, make_model(16, 8), told | {"MANAGED_MEM_HBM": "10GiB", "MANAGED_MEM_HOST": "9GiB", "MANAGED_MEM_PREFIXES": "9GiB"}, *arguments(2, 8000, []), cores=range(12))
    for kind, server in ours.items():
        if up(server, result["kinds"][kind]):
            result["kinds"][kind] |= {"split": [line for line in server.text().splitlines() if "KV cache blocks" in line]}
            try:
                result["kinds"][kind] |= measure(natives[kind], server, KINDS[kind][4])
            except Exception as error:  # one kind's end is a result, and no end of the others
                result["kinds"][kind]["ended"] = f"{type(error).__name__}: {error}"
            save()
    if up(tier, result):
        result["tier_of_9_gib"] = {"peak_rss_gib": tier.facts()["peak_rss_gib"], "tokens": len(tier.complete(prompts(1, 4000), 8)[1][0])}
    save()
    print(json.dumps({k: ({i: {j: w for j, w in x.items() if j != "step_ms"} if isinstance(x, dict) else x for i, x in v.items()} if isinstance(v, dict) else v) for k, v in result["kinds"].items()}, indent=1), result.get("tier_of_9_gib"))
    for server in (*natives.values(), *ours.values(), tier):
        server.stop()


if __name__ == "__main__":
    main()
