"""vLLM's own count of the KV cache of public models, which tests/fixtures/kvCache.json records and components/serving/kvCache.ts must equal.

RECORD=1 writes the record anew.
"""

import json
import os

from support import HERE, last_json, python

FIXTURES = HERE.parent / "fixtures"
RECORD = FIXTURES / "kvCache.json"
VERSION = "0.19.0"
MODELS = ("llama-3.1-8b", "qwen3-32b", "qwen3-30b-a3b", "qwen3-next-80b-a3b", "gemma-3-27b", "gemma-3-4b", "gpt-oss-120b", "deepseek-v3", "deepseek-v3.2", "mixtral-8x7b", "phi-4-mini",
          "mistral-7b-v0.1", "mistral-nemo", "glm-4.7", "llama-4-scout", "nemotron-h-56b", "nemotron-3-nano")
# The class of a decoder alone: the whole model's needs a tower's image processor, which is not installed here.
DECODERS = {"Gemma3ForConditionalGeneration": "Gemma3ForCausalLM", "Llama4ForConditionalGeneration": "Llama4ForCausalLM"}


def config(name: str) -> dict:
    """A fixture as vLLM is shown it: the decoder alone, its weights not quantised, its class vLLM's own."""
    whole = json.loads((FIXTURES / f"models/{name}.json").read_text())
    decoder = DECODERS.get(whole["architectures"][0])
    shown = whole if decoder is None else {**whole["text_config"], "architectures": [decoder], "torch_dtype": "bfloat16"}
    return {key: value for key, value in shown.items() if key not in ("quantization_config", "auto_map")}


def cases() -> list[dict]:
    plain = [{"model": name, "cacheDtype": "auto", "hybrid": True} for name in MODELS]
    fp8 = [{"model": name, "cacheDtype": "fp8", "hybrid": True} for name in ("llama-3.1-8b", "deepseek-v3", "deepseek-v3.2", "gemma-3-27b", "qwen3-next-80b-a3b")]
    whole = [{"model": name, "cacheDtype": "auto", "hybrid": False} for name in ("gemma-3-27b", "gpt-oss-120b", "mistral-7b-v0.1")]
    return plain + fp8 + whole


def test_the_record_is_vllms_own_count():
    done = python(str(HERE / "kv_cache.py"), torch="2.10.0", vllm=VERSION, nvml=True, stdin=json.dumps([case | {"config": config(case["model"])} for case in cases()]), timeout=1800)
    counts = last_json(done)
    for case, count in zip(cases(), counts):
        assert "error" not in count, f"{case}: {count['error']}"
    record = {"made by": "RECORD=1 tests/runtime/run -k kv_cache", "vllm": VERSION, "cases": [case | count for case, count in zip(cases(), counts)]}
    text = json.dumps(record, indent=1) + "\n"
    if os.environ.get("RECORD"):
        RECORD.write_text(text)
    assert RECORD.read_text() == text
