#pragma once
// STAND-IN for PyTorch's header.
#include <stdexcept>

#define TORCH_CHECK(CONDITION, ...) \
  do { if (!(CONDITION)) throw std::runtime_error("TORCH_CHECK failed: " #CONDITION); } while (0)
