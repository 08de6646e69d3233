// SIMULATED CUDA runtime of the sandbox: the calls that PyTorch's allocator, this project's segment source and its launcher
// make, over plain memory. Kernels are accepted and do nothing. Built against the real cuda_runtime_api.h, so the signatures
// are the real ones; its soname and symbol version are those of libcudart.so.13, and the loader finds it first.
//
// STAND_IN_CUDA_HBM_BYTES   the board's memory (default 1 GiB). As on a real card 64 MiB of it are the driver's and no part of
// what cudaMemGetInfo calls total, and the context takes 64 MiB more; cudaMalloc refuses beyond the rest.
#include <cuda_runtime_api.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <map>
#include <mutex>

namespace {

struct Block {
  size_t size;
  cudaMemoryType type;
};

std::mutex mu;
std::map<uintptr_t, Block> blocks;
size_t on_device;  // bytes of cudaMalloc; managed memory is counted by nobody, as on the real thing
thread_local cudaError_t last = cudaSuccess;

cudaError_t result(cudaError_t error) {
  if (error != cudaSuccess) last = error;
  return error;
}

constexpr size_t DRIVER = 64 << 20, CONTEXT = 64 << 20;

size_t hbm() {
  static const size_t bytes = [] {
    const char* text = getenv("STAND_IN_CUDA_HBM_BYTES");
    return (text ? size_t(strtoull(text, nullptr, 10)) : size_t(1) << 30) - DRIVER;
  }();
  return bytes;
}

cudaError_t take(void** out, size_t size, cudaMemoryType type) {
  *out = nullptr;
  if (size == 0) return cudaSuccess;
  std::lock_guard<std::mutex> lock(mu);
  if (type == cudaMemoryTypeDevice && (size > hbm() - CONTEXT || on_device > hbm() - CONTEXT - size)) return result(cudaErrorMemoryAllocation);
  void* p = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return result(cudaErrorMemoryAllocation);
  blocks[uintptr_t(p)] = {size, type};
  if (type == cudaMemoryTypeDevice) on_device += size;
  *out = p;
  return cudaSuccess;
}

cudaError_t give_back(void* p) {
  if (!p) return cudaSuccess;
  std::lock_guard<std::mutex> lock(mu);
  auto found = blocks.find(uintptr_t(p));
  if (found == blocks.end()) return result(cudaErrorInvalidValue);
  if (found->second.type == cudaMemoryTypeDevice) on_device -= found->second.size;
  munmap(p, found->second.size);
  blocks.erase(found);
  return cudaSuccess;
}

bool within(const void* p, size_t size, cudaMemoryType* type = nullptr) {
  std::lock_guard<std::mutex> lock(mu);
  auto next = blocks.upper_bound(uintptr_t(p));
  if (next == blocks.begin()) return false;
  auto block = std::prev(next);
  if (type) *type = block->second.type;
  return uintptr_t(p) + size <= block->first + block->second.size;
}

cudaError_t on_managed(const void* p, size_t size) {
  cudaMemoryType type;
  return result(within(p, size, &type) && type == cudaMemoryTypeManaged ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t one_device(int device) { return result(device == 0 ? cudaSuccess : cudaErrorInvalidDevice); }

template <class Handle>
cudaError_t make(Handle* out) {
  *out = Handle(malloc(1));
  return cudaSuccess;
}

}  // namespace

extern "C" {

const char* cuda_runtime_stand_in(void) { return "stand-in CUDA runtime of the sandbox: plain memory, no GPU"; }

cudaError_t cudaMalloc(void** p, size_t n) { return take(p, n, cudaMemoryTypeDevice); }
cudaError_t cudaMallocManaged(void** p, size_t n, unsigned) { return take(p, n, cudaMemoryTypeManaged); }
cudaError_t cudaMallocHost(void** p, size_t n) { return take(p, n, cudaMemoryTypeHost); }
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) { return take(p, n, cudaMemoryTypeHost); }
cudaError_t cudaFree(void* p) { return give_back(p); }
cudaError_t cudaFreeHost(void* p) { return give_back(p); }
cudaError_t cudaMallocAsync(void** p, size_t n, cudaStream_t) { return take(p, n, cudaMemoryTypeDevice); }
cudaError_t cudaFreeAsync(void* p, cudaStream_t) { return give_back(p); }

cudaError_t cudaMemAdvise(const void* p, size_t n, cudaMemoryAdvise, cudaMemLocation) { return on_managed(p, n); }
cudaError_t cudaMemPrefetchAsync(const void* p, size_t n, cudaMemLocation, unsigned, cudaStream_t) { return on_managed(p, n); }
cudaError_t cudaMemRangeGetAttribute(void* data, size_t size, cudaMemRangeAttribute, const void* p, size_t n) {
  memset(data, 0, size);
  return on_managed(p, n);
}
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> lock(mu);
  *total = hbm();
  *free = hbm() - CONTEXT - on_device;
  return cudaSuccess;
}
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* out, const void* p) {
  memset(out, 0, sizeof *out);
  cudaMemoryType type;
  out->type = within(p, 1, &type) ? type : cudaMemoryTypeUnregistered;
  if (out->type != cudaMemoryTypeHost) out->devicePointer = const_cast<void*>(p);
  if (out->type != cudaMemoryTypeDevice) out->hostPointer = const_cast<void*>(p);
  return cudaSuccess;
}

cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind) { return memmove(to, from, n), cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t) { return memmove(to, from, n), cudaSuccess; }
cudaError_t cudaMemset(void* p, int value, size_t n) { return memset(p, value, n), cudaSuccess; }
cudaError_t cudaMemsetAsync(void* p, int value, size_t n, cudaStream_t) { return memset(p, value, n), cudaSuccess; }

cudaError_t cudaGetDeviceCount(int* n) { return *n = 1, cudaSuccess; }
cudaError_t cudaGetDevice(int* device) { return *device = 0, cudaSuccess; }
cudaError_t cudaSetDevice(int device) { return one_device(device); }
cudaError_t cudaDeviceSynchronize(void) { return cudaSuccess; }
cudaError_t cudaDeviceReset(void) { return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int device) {
  switch (attribute) {  // a GH200's answers
    case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
    case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
    case cudaDevAttrMultiProcessorCount: *value = 132; break;
    case cudaDevAttrManagedMemory:
    case cudaDevAttrConcurrentManagedAccess:
    case cudaDevAttrPageableMemoryAccess:
    case cudaDevAttrPageableMemoryAccessUsesHostPageTables:
    case cudaDevAttrDirectManagedMemAccessFromHost: *value = 1; break;
    default: *value = 0;
  }
  return one_device(device);
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* out, int device) {
  memset(out, 0, sizeof *out);
  strcpy(out->name, "stand-in GH200 (no GPU)");
  out->totalGlobalMem = hbm();
  out->major = 9;
  out->multiProcessorCount = 132;
  out->managedMemory = out->concurrentManagedAccess = out->pageableMemoryAccess = 1;
  return one_device(device);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* out, unsigned) { return make(out); }
cudaError_t cudaStreamCreate(cudaStream_t* out) { return make(out); }
cudaError_t cudaStreamDestroy(cudaStream_t stream) { return free(stream), cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* out) { return *out = cudaStreamCaptureStatusNone, cudaSuccess; }
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* mode) {
  thread_local cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
  cudaStreamCaptureMode before = current;
  current = *mode;
  *mode = before;
  return cudaSuccess;
}
cudaError_t cudaEventCreate(cudaEvent_t* out) { return make(out); }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* out, unsigned) { return make(out); }
cudaError_t cudaEventDestroy(cudaEvent_t event) { return free(event), cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { return *ms = 1, cudaSuccess; }

cudaError_t cudaGetLastError(void) {
  cudaError_t error = last;
  last = cudaSuccess;
  return error;
}
cudaError_t cudaPeekAtLastError(void) { return last; }
const char* cudaGetErrorName(cudaError_t error) { return error == cudaSuccess ? "cudaSuccess" : "cudaError (stand-in)"; }
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess: return "no error";
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorInvalidValue: return "invalid argument";
    case cudaErrorInvalidDevice: return "invalid device ordinal";
    default: return "error of the stand-in CUDA runtime";
  }
}

// What nvcc's host code calls: a kernel's registration and launch.
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) { return cudaSuccess; }
cudaError_t __cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t __cudaGetKernel(const void** kernel, const void* entry) { return *kernel = entry, cudaSuccess; }
void** __cudaRegisterFatBinary(void* fat) { return (void**)fat; }
void __cudaRegisterFatBinaryEnd(void**) {}
void __cudaUnregisterFatBinary(void**) {}
void __cudaRegisterFunction(void**, const char*, char*, const char*, int, void*, void*, void*, void*, int*) {}
void __cudaRegisterVar(void**, char*, char*, const char*, int, size_t, int, int) {}
char __cudaInitModule(void**) { return 1; }
unsigned __cudaPushCallConfiguration(dim3, dim3, size_t, void*) { return 0; }
cudaError_t __cudaPopCallConfiguration(dim3* grid, dim3* block, size_t* shared, void* stream) {
  *grid = *block = dim3(1);
  *shared = 0;
  *(void**)stream = nullptr;
  return cudaSuccess;
}

}  // extern "C"
