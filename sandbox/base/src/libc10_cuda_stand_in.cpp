// STAND-IN for PyTorch's libc10_cuda.so: reaches the CUDA runtime's allocator through the same two lazily bound relocation
// slots, cudaMalloc and cudaFree, and offers the error check that extensions link against. No caching: one call, one segment.
#include <c10/cuda/CUDAException.h>
#include <cuda_runtime_api.h>
#include <stdexcept>
#include <string>

namespace c10::cuda {
void c10_cuda_check_implementation(int error, const char* file, const char* function, int line, bool) {
  if (error == cudaSuccess) return;
  throw std::runtime_error(std::string("CUDA error: ") + cudaGetErrorString(cudaError_t(error)) + " at " + file + ":" +
                           std::to_string(line) + " (" + function + ")");
}
}  // namespace c10::cuda

// For the stand-in torch's Python side.
extern "C" {
int stand_in_c10_cuda_malloc(void** out, size_t size) { return cudaMalloc(out, size); }
int stand_in_c10_cuda_free(void* p) { return cudaFree(p); }
int stand_in_c10_cuda_mem_get_info(size_t* free, size_t* total) { return cudaMemGetInfo(free, total); }
}
