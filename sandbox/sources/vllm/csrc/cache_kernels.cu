// STAND-IN kernel: compiled for real, launched never. The four headers come from the sources that vLLM's CMake would fetch.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <cutlass/cutlass.h>
#include <flash.h>
#include <flashmla.h>
#include <qutlass.h>

__global__ void cache_copy_kernel(const float* from, float* to, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) to[i] = from[i];
}

int cache_copy(int n) {
  if (n > 0) {
    cache_copy_kernel<<<1, 128, 0, c10::cuda::getCurrentCUDAStream()>>>(nullptr, nullptr, n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return n;
}
