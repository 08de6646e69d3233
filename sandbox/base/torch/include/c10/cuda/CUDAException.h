#pragma once
// STAND-IN for PyTorch's header: the same macro over the same symbol of libc10_cuda.
#include <cuda_runtime_api.h>

namespace c10::cuda {
void c10_cuda_check_implementation(int error, const char* file, const char* function, int line, bool include_device_assertions);
}

#define C10_CUDA_CHECK(EXPRESSION) \
  ::c10::cuda::c10_cuda_check_implementation(int(EXPRESSION), __FILE__, __func__, __LINE__, true)
#define C10_CUDA_KERNEL_LAUNCH_CHECK() C10_CUDA_CHECK(cudaGetLastError())
