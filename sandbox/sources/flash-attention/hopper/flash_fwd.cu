// STAND-IN kernel: compiled for real, launched never.
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAStream.h>
#include <cutlass/cutlass.h>

__global__ void flash_fwd_kernel(float* data, int n) {
  int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < n) data[i] = data[i] * 2.0f + 1.0f;
}

int flash_fwd(int n) {
  if (n > 0) {
    flash_fwd_kernel<<<1, 128, 0, c10::cuda::getCurrentCUDAStream()>>>(nullptr, n);
    C10_CUDA_KERNEL_LAUNCH_CHECK();
  }
  return n;
}
