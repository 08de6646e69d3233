// A stand-in CUDA runtime over host memory, for machines without a GPU. It keeps what the segment source relies on: capacity of the
// device, kinds of pointers, the sticky last error, advice, capture mode, current device; and it can fail the n-th call of a function.
// Preloaded, it also carries PyTorch's real caching allocator (kernels do nothing, copies copy).
//
//   FAKE_HBM_MIB      capacity of each device (default 1024)      FAKE_DEVICES   number of devices (default 1)
//   FAKE_CONTEXT_MIB  what a context takes of each device (default 24): free is never total
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <atomic>
#include <map>
#include <mutex>
#include <string>

namespace {
// -2 none, -1 host, else device. A range can be advised in two parts: `preferred` is of its first bytes, `on_device` counts what prefers a device.
struct Range { size_t size; int type; int device; int preferred; int accessed_by; int prefetched; size_t on_device, populated; };
std::mutex mu;
std::map<uintptr_t, Range> ranges;
std::map<std::string, long> calls, fail_at;
size_t registered;
std::map<int, size_t> used;
thread_local int current;
thread_local cudaError_t last = cudaSuccess;
thread_local cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
std::atomic<long> next_handle{0x1000};

long number(const char* name, long fallback) { const char* text = getenv(name); return text ? atol(text) : fallback; }
size_t capacity() { static size_t bytes = size_t(number("FAKE_HBM_MIB", 1024)) << 20; return bytes; }
size_t context() { static size_t bytes = size_t(number("FAKE_CONTEXT_MIB", 24)) << 20; return bytes; }
int devices() { static int n = int(number("FAKE_DEVICES", 1)); return n; }

cudaError_t done(cudaError_t error) { if (error != cudaSuccess) last = error; return error; }
// Counts the call; true where this one was told to fail.
bool fails(const char* name) { long n = ++calls[name]; auto f = fail_at.find(name); return f != fail_at.end() && f->second == n; }
Range* range_of(const void* p) {
  auto it = ranges.upper_bound(uintptr_t(p));
  if (it == ranges.begin()) return nullptr;
  --it;
  return uintptr_t(p) < it->first + it->second.size ? &it->second : nullptr;
}
uintptr_t start_of(const void* p) { return std::prev(ranges.upper_bound(uintptr_t(p)))->first; }
cudaError_t take(const char* name, void** out, size_t n, int type) {
  std::lock_guard<std::mutex> lock(mu);
  if (n == 0 && type == cudaMemoryTypeManaged) return done(cudaErrorInvalidValue);
  if (fails(name)) return done(cudaErrorMemoryAllocation);
  if (type == cudaMemoryTypeDevice && used[current] + n > capacity() - context()) return done(cudaErrorMemoryAllocation);
  void* p = mmap(nullptr, n + (2 << 20), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) return done(cudaErrorMemoryAllocation);
  if (type == cudaMemoryTypeDevice) used[current] += n;
  ranges[uintptr_t(p)] = {n, type, current, -2, -2, -2, 0, 0};
  *out = p;
  return cudaSuccess;
}
cudaError_t advise(const void* p, size_t n, cudaMemoryAdvise advice, int place) {
  std::lock_guard<std::mutex> lock(mu);
  Range* r = range_of(p);
  if (fails("cudaMemAdvise") || !r || r->type != cudaMemoryTypeManaged || uintptr_t(p) + n > start_of(p) + r->size) return done(cudaErrorInvalidValue);
  if (advice == cudaMemAdviseSetPreferredLocation) {
    if (uintptr_t(p) == start_of(p)) r->preferred = place;
    if (place >= 0) r->on_device += n;
  }
  if (advice == cudaMemAdviseSetAccessedBy) r->accessed_by = place;
  return cudaSuccess;
}
cudaError_t prefetch(const void* p, size_t n, int place, cudaStream_t stream) {
  std::lock_guard<std::mutex> lock(mu);
  Range* r = range_of(p);
  // On the legacy stream a prefetch would break a capture: the segment source must bring its own.
  if (fails("cudaMemPrefetchAsync") || !r || r->type != cudaMemoryTypeManaged || n > r->size || !stream) return done(cudaErrorInvalidValue);
  if (place >= 0 && r->prefetched < 0) used[place] += n, r->populated = n;  // populated there
  r->prefetched = place;
  return cudaSuccess;
}
}  // namespace

extern "C" {
const char* cuda_runtime_stand_in(void) { return "stand-in CUDA runtime over host memory"; }

// For the tests.
void fake_fail(const char* name, long nth) { std::lock_guard<std::mutex> lock(mu); calls[name] = 0; fail_at[name] = nth; }
long fake_calls(const char* name) { std::lock_guard<std::mutex> lock(mu); return calls[name]; }
size_t fake_used(int device) { std::lock_guard<std::mutex> lock(mu); return used[device]; }
size_t fake_registered() { std::lock_guard<std::mutex> lock(mu); return registered; }
size_t fake_live() { std::lock_guard<std::mutex> lock(mu); return ranges.size(); }
int fake_place(const void* p, int out[7]) {
  std::lock_guard<std::mutex> lock(mu);
  Range* r = range_of(p);
  if (!r) return -1;
  out[0] = r->type, out[1] = r->device, out[2] = r->preferred, out[3] = r->accessed_by, out[4] = r->prefetched;
  out[5] = int(r->on_device >> 20), out[6] = int(r->size >> 20);
  return 0;
}

cudaError_t cudaGetDevice(int* d) { *d = current; return cudaSuccess; }
cudaError_t cudaSetDevice(int d) { if (d < 0 || d >= devices()) return done(cudaErrorInvalidDevice); current = d; return cudaSuccess; }
cudaError_t cudaGetDeviceCount(int* n) { *n = devices(); return cudaSuccess; }
cudaError_t cudaMalloc(void** p, size_t n) { return take("cudaMalloc", p, n, cudaMemoryTypeDevice); }
cudaError_t cudaMallocManaged(void** p, size_t n, unsigned) { return take("cudaMallocManaged", p, n, cudaMemoryTypeManaged); }
cudaError_t cudaHostAlloc(void** p, size_t n, unsigned) { return take("cudaHostAlloc", p, n, cudaMemoryTypeHost); }
cudaError_t cudaHostRegister(void* p, size_t n, unsigned) {
  std::lock_guard<std::mutex> lock(mu);
  if (fails("cudaHostRegister") || !p) return done(cudaErrorInvalidValue);
  registered += n;
  return cudaSuccess;
}
cudaError_t cudaFreeHost(void* p) { return cudaFree(p); }
cudaError_t cudaFree(void* p) {
  if (!p) return cudaSuccess;
  std::lock_guard<std::mutex> lock(mu);
  auto it = ranges.find(uintptr_t(p));
  if (fails("cudaFree") || it == ranges.end()) return done(cudaErrorInvalidValue);
  if (it->second.type == cudaMemoryTypeDevice) used[it->second.device] -= it->second.size;
  else if (it->second.prefetched >= 0) used[it->second.prefetched] -= it->second.populated;
  munmap(p, it->second.size + (2 << 20));
  ranges.erase(it);
  return cudaSuccess;
}
#if CUDART_VERSION >= 13000
static int where(cudaMemLocation l) { return l.type == cudaMemLocationTypeHost ? -1 : l.id; }
cudaError_t cudaMemAdvise(const void* p, size_t n, cudaMemoryAdvise a, cudaMemLocation l) { return advise(p, n, a, where(l)); }
cudaError_t cudaMemPrefetchAsync(const void* p, size_t n, cudaMemLocation l, unsigned, cudaStream_t s) { return prefetch(p, n, where(l), s); }
#else
cudaError_t cudaMemAdvise(const void* p, size_t n, cudaMemoryAdvise a, int d) { return advise(p, n, a, d); }
cudaError_t cudaMemPrefetchAsync(const void* p, size_t n, int d, cudaStream_t s) { return prefetch(p, n, d, s); }
#endif
cudaError_t cudaMemGetInfo(size_t* free, size_t* total) { std::lock_guard<std::mutex> lock(mu); *total = capacity(); *free = capacity() - context() - used[current]; return cudaSuccess; }
cudaError_t cudaPointerGetAttributes(cudaPointerAttributes* a, const void* p) {
  std::lock_guard<std::mutex> lock(mu);
  Range* r = range_of(p);
  memset(a, 0, sizeof *a);
  if (r) a->type = cudaMemoryType(r->type), a->device = r->device, a->devicePointer = a->hostPointer = const_cast<void*>(p);
  return cudaSuccess;
}
cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode* m) { std::swap(mode, *m); return cudaSuccess; }
int fake_capture_mode() { return mode; }
cudaError_t cudaGetLastError() { cudaError_t e = last; last = cudaSuccess; return e; }
cudaError_t cudaPeekAtLastError() { return last; }
const char* cudaGetErrorString(cudaError_t e) { return e == cudaErrorMemoryAllocation ? "out of memory" : e ? "stand-in error" : "no error"; }
const char* cudaGetErrorName(cudaError_t) { return "stand-in error"; }

cudaError_t cudaStreamCreateWithFlags(cudaStream_t* s, unsigned) {
  { std::lock_guard<std::mutex> lock(mu); if (fails("cudaStreamCreateWithFlags")) return done(cudaErrorMemoryAllocation); }
  *s = (cudaStream_t)(next_handle++);
  return cudaSuccess;
}
cudaError_t cudaStreamCreateWithPriority(cudaStream_t* s, unsigned f, int) { return cudaStreamCreateWithFlags(s, f); }
cudaError_t cudaStreamDestroy(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamQuery(cudaStream_t) { return cudaSuccess; }
cudaError_t cudaStreamWaitEvent(cudaStream_t, cudaEvent_t, unsigned) { return cudaSuccess; }
cudaError_t cudaStreamIsCapturing(cudaStream_t, cudaStreamCaptureStatus* s) { *s = cudaStreamCaptureStatusNone; return cudaSuccess; }
#if CUDART_VERSION >= 13000
cudaError_t cudaStreamGetCaptureInfo(cudaStream_t, cudaStreamCaptureStatus* s, unsigned long long* id, cudaGraph_t*, const cudaGraphNode_t**, const cudaGraphEdgeData**, size_t*) {
  if (s) *s = cudaStreamCaptureStatusNone;
  if (id) *id = 0;
  return cudaSuccess;
}
#endif
cudaError_t cudaStreamGetPriority(cudaStream_t, int* p) { *p = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetStreamPriorityRange(int* a, int* b) { *a = 0, *b = -5; return cudaSuccess; }
cudaError_t cudaDeviceSynchronize() { return cudaSuccess; }
cudaError_t cudaEventCreate(cudaEvent_t* e) { *e = (cudaEvent_t)(next_handle++); return cudaSuccess; }
cudaError_t cudaEventCreateWithFlags(cudaEvent_t* e, unsigned) { return cudaEventCreate(e); }
cudaError_t cudaEventDestroy(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventRecord(cudaEvent_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaEventRecordWithFlags(cudaEvent_t, cudaStream_t, unsigned) { return cudaSuccess; }
cudaError_t cudaEventQuery(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }
cudaError_t cudaEventElapsedTime(float* ms, cudaEvent_t, cudaEvent_t) { *ms = 1; return cudaSuccess; }
cudaError_t cudaMemcpyAsync(void* to, const void* from, size_t n, cudaMemcpyKind, cudaStream_t) { memmove(to, from, n); return cudaSuccess; }
cudaError_t cudaMemcpy(void* to, const void* from, size_t n, cudaMemcpyKind) { memmove(to, from, n); return cudaSuccess; }
cudaError_t cudaMemsetAsync(void* p, int v, size_t n, cudaStream_t) { memset(p, v, n); return cudaSuccess; }
cudaError_t cudaLaunchKernel(const void*, dim3, dim3, void**, size_t, cudaStream_t) { return cudaSuccess; }
cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t*, const void*, void**) { return cudaSuccess; }
cudaError_t cudaFuncSetAttribute(const void*, cudaFuncAttribute, int) { return cudaSuccess; }
cudaError_t cudaDriverGetVersion(int* v) { *v = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int* v) { *v = CUDART_VERSION; return cudaSuccess; }
cudaError_t cudaDeviceCanAccessPeer(int* can, int, int) { *can = 0; return cudaSuccess; }
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
  *v = a == cudaDevAttrManagedMemory || a == cudaDevAttrConcurrentManagedAccess ? 1 : a == cudaDevAttrComputeCapabilityMajor ? 9 : a == cudaDevAttrMultiProcessorCount ? 1 : 0;
  return cudaSuccess;
}
cudaError_t cudaGetDeviceProperties(cudaDeviceProp* p, int) {
  memset(p, 0, sizeof *p);
  strcpy(p->name, "stand-in GPU");
  p->major = 9, p->multiProcessorCount = 1, p->totalGlobalMem = capacity(), p->warpSize = 32, p->maxThreadsPerMultiProcessor = 2048;
  p->maxThreadsPerBlock = 1024, p->managedMemory = 1, p->concurrentManagedAccess = 1, p->regsPerMultiprocessor = 65536;
  return cudaSuccess;
}

// The two functions of the driver that PyTorch looks up before it calls the runtime.
static int fake_primary_context(int, unsigned* flags, int* active) { *flags = 0, *active = 1; return 0; }
static int fake_driver_call() { return 1; }
cudaError_t cudaGetDriverEntryPointByVersion(const char* name, void** f, unsigned, unsigned long long, cudaDriverEntryPointQueryResult* r) {
  *f = strcmp(name, "cuDevicePrimaryCtxGetState") == 0 ? (void*)fake_primary_context : (void*)fake_driver_call;
  if (r) *r = cudaDriverEntryPointSuccess;
  return cudaSuccess;
}
cudaError_t cudaGetDriverEntryPoint(const char* name, void** f, unsigned long long flags, cudaDriverEntryPointQueryResult* r) { return cudaGetDriverEntryPointByVersion(name, f, 0, flags, r); }
int cuDevicePrimaryCtxGetState(int d, unsigned* f, int* a) { return fake_primary_context(d, f, a); }
}
