// STAND-IN kernel: compiled for real, launched never.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>

__global__ void mem_copy_kernel(float* data, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] = data[i] * 2.0f + 1.0f;
}

int mem_copy(int n) {
  if (n > 0) {
    mem_copy_kernel<<<1, 128, 0, c10::cuda::getCurrentCUDAStream()>>>(nullptr, n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return n;
}
