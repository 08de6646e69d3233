#pragma once
// STAND-IN for vLLM's flash-attention.
#define VLLM_FLASH_ATTN_STAND_IN 1
