#pragma once
// STAND-IN for PyTorch's header: there is one stream, the default one.
#include <cuda_runtime_api.h>

namespace c10::cuda {
inline cudaStream_t getCurrentCUDAStream() { return nullptr; }
}
