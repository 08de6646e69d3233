// The baseline: the source document's allocator as its README describes it, one cudaMallocManaged per request, prefetched at once.
#include <cuda_runtime.h>
#include <cstdio>
extern "C" {
void* naive_malloc(ssize_t size, int device, cudaStream_t stream) {
  if (size == 0) return nullptr;
  void* p = nullptr;
  if (cudaMallocManaged(&p, size, cudaMemAttachGlobal) != cudaSuccess) { fprintf(stderr, "oom %zd\n", size); return nullptr; }
  cudaMemLocation gpu{cudaMemLocationTypeDevice, device}, cpu{cudaMemLocationTypeHost, 0};
  cudaMemAdvise(p, size, cudaMemAdviseSetPreferredLocation, gpu);
  cudaMemAdvise(p, size, cudaMemAdviseSetAccessedBy, cpu);
  cudaMemPrefetchAsync(p, size, gpu, 0, stream);
  return p;
}
void naive_free(void* p, ssize_t size, int device, cudaStream_t stream) { if (p) cudaFree(p); }
}
