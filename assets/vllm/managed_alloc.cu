// The segment source: where PyTorch's own caching allocator gets its segments from.
// PyTorch keeps splitting, caching, stream order, graph pools, statistics and its out-of-memory error. This file answers
// only "give me a segment" and "take it back", decides once, at creation, where a segment lies, and keeps the account.
//   within the HBM limit   hbm-first        cudaMalloc: the driver never evicts it
//                          managed          cudaMallocManaged, prefers the device
//                          managed-prefetch cudaMallocManaged, prefetched to the device, mapped for the CPU
//   beyond it, up to the   hbm-first,       cudaMallocManaged, prefers the host, mapped for the device: read over the
//   host limit             managed          link at the link's speed, never migrated
//                          managed-prefetch as above it: prefetched to the device, whatever that evicts
//   partly beyond it       one managed range: its first bytes in HBM, the rest on the host. Weights fill the HBM. The KV cache
//                          is split at the same share in each of its segments, so that the same blocks of all layers lie in HBM.
//   beyond both            refused, so that PyTorch frees its cache, tries again and raises torch.OutOfMemoryError
// Exports (C). KIND is 0 weights, 1 kv, 2 other. No CUDA call is made when the library is loaded.
//   const char* ma_version()                                    the version of this interface
//   const char* ma_stand_in()                                   what stands in for the CUDA runtime, or NULL: it is real
//   int   ma_place(int placement)                               0 hbm-first, 1 managed, 2 managed-prefetch
//   int   ma_limit(int kind, int device, uint64_t hbm, uint64_t host)   hard limits in bytes; all are 0 at first
//   void* ma_weights_malloc / ma_kv_malloc(ssize_t, int device, cudaStream_t)     for torch.cuda.memory.CUDAPluggableAllocator
//   void  ma_free(void*, ssize_t, int device, cudaStream_t)
//   int   ma_redirect(char* why, size_t n)   points cudaMalloc and cudaFree of the loaded libc10_cuda.so here (kind other);
//                                            0, or -1 with the reason in WHY and nothing changed
//   int   ma_share(const char* path)         moves the account into a file that other processes can map; 0 or errno
//   int   ma_row(int kind, int device, uint64_t out[ROW])       one row of the account, in the order of struct Row
//   int   ma_segment(const void*, uint64_t out[4])              start, bytes, leading bytes in HBM and kind of the segment that holds
//                                                               the address; 0, or -1: none does
//   void  ma_count_oom(int device)           PyTorch raised its out-of-memory error
//   double ma_read_rate(const void*, size_t) bytes per second at which the GPU reads a range (only in an nvcc build)
//
// Builds: nvcc -shared -arch=sm_90a -cudart shared -Xcompiler -fPIC,  or for tests  g++ -x c++ -shared -fPIC -I CUDA/include
#include <cuda_runtime.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {
enum Kind { WEIGHTS, KV, OTHER, KINDS };
enum Placement { HBM_FIRST, MANAGED, MANAGED_PREFETCH };
constexpr int DEVICES = 16;
constexpr uint64_t GPU_PAGE = 2 << 20;      // what the driver moves and maps at once
constexpr uint64_t SPLIT_LEAST = 64 << 20;  // a smaller segment of weights is read in full at every step: whole on one side
const char* const KIND_NAME[] = {"weights", "kv", "other"};

// The account of one kind on one device. «hbm» and «host» say where a segment was placed; CUDA has no query for residency.
struct Row {
  uint64_t hbm, host, hbm_limit, host_limit, hbm_peak, host_peak, placed, freed, refused, failed, ooms;
};
struct Account {
  uint64_t magic, pid, placement, stand_in;
  Row row[KINDS][DEVICES];
};
constexpr uint64_t MAGIC = 0x3130414d00000001;  // layout 1; managed_mem/account.py reads the same

struct Segment {
  size_t size;
  size_t in_hbm;  // its first bytes; what follows lies on the host
  int device;
  uint8_t kind;
};
std::mutex mu;  // guards everything below; never held across a CUDA call
Account own_account = {MAGIC, 0, 0, 0, {}};
Account* account = &own_account;
std::unordered_map<void*, Segment> live;
cudaStream_t side_stream[DEVICES];
bool started;   // this process has asked the driver for memory
bool orphaned;  // forked from a process that had: the driver's context did not survive, its addresses are not ours

double gib(uint64_t bytes) { return bytes / 1073741824.0; }

// Readers in other processes look at the account without our lock.
void store(uint64_t& field, uint64_t value) { __atomic_store_n(&field, value, __ATOMIC_RELAXED); }
void count(uint64_t& field) { store(field, field + 1); }

void after_fork_child() {
  if (started) {
    orphaned = true;
    own_account = *account;  // a shared account stays the parent's
    account = &own_account;
  }
  mu.unlock();
}
const int fork_handlers = pthread_atfork([] { mu.lock(); }, [] { mu.unlock(); }, after_fork_child);

#if CUDART_VERSION >= 13000
using Place = cudaMemLocation;
Place make_place(cudaMemLocationType type, int id) {
  Place place{};
  place.type = type, place.id = id;
  return place;
}
Place device_place(int device) { return make_place(cudaMemLocationTypeDevice, device); }
Place host_place() { return make_place(cudaMemLocationTypeHost, 0); }
cudaError_t prefetch(void* p, size_t n, Place to, cudaStream_t stream) { return cudaMemPrefetchAsync(p, n, to, 0, stream); }
#else
using Place = int;
Place device_place(int device) { return device; }
Place host_place() { return cudaCpuDeviceId; }
cudaError_t prefetch(void* p, size_t n, Place to, cudaStream_t stream) { return cudaMemPrefetchAsync(p, n, to, stream); }
#endif

// The caller's device and stream-capture mode, put back at the end. Relaxed, because a CUDA-graph capture may need a new segment.
class Scope {
 public:
  explicit Scope(int device) {
    cudaGetDevice(&previous_);
    if (previous_ != device) changed_ = cudaSetDevice(device) == cudaSuccess;
    cudaThreadExchangeStreamCaptureMode(&mode_);
  }
  ~Scope() {
    cudaThreadExchangeStreamCaptureMode(&mode_);
    if (changed_) cudaSetDevice(previous_);
  }
 private:
  int previous_ = 0;
  bool changed_ = false;
  cudaStreamCaptureMode mode_ = cudaStreamCaptureModeRelaxed;
};

cudaError_t stream_of(int device, cudaStream_t* out) {
  {
    std::lock_guard<std::mutex> lock(mu);
    if ((*out = side_stream[device])) return cudaSuccess;
  }
  cudaStream_t made;
  // Own and non-blocking: a prefetch on the legacy stream would order itself before everything the caller has queued.
  cudaError_t error = cudaStreamCreateWithFlags(&made, cudaStreamNonBlocking);
  if (error != cudaSuccess) return error;
  std::lock_guard<std::mutex> lock(mu);
  if (side_stream[device]) cudaStreamDestroy(made), made = side_stream[device];
  *out = side_stream[device] = made;
  return cudaSuccess;
}

// How much of a segment lies in HBM: all of it where it fits, else whole pages.
uint64_t part_in_hbm(const Row& row, Kind kind, uint64_t size) {
  const auto left = [](uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; };
  const uint64_t hbm = left(row.hbm_limit, row.hbm), host = left(row.host_limit, row.host);
  uint64_t most = hbm;
  if (kind == KV && row.host_limit) {  // the limits' own share, or more where the host has no room for the rest
    const long double share = (long double)row.hbm_limit / ((long double)row.hbm_limit + row.host_limit);
    most = uint64_t(size * share) / GPU_PAGE * GPU_PAGE;
    if (size - most > host) most = size > host ? (size - host + GPU_PAGE - 1) / GPU_PAGE * GPU_PAGE : 0;
    if (most > hbm) most = hbm;
  }
  return size <= most ? size : size < SPLIT_LEAST && kind == WEIGHTS ? 0 : most / GPU_PAGE * GPU_PAGE;
}

cudaError_t take(void** out, size_t size, size_t in_hbm, int device, Placement placement) {
  if (placement == HBM_FIRST && in_hbm == size) return cudaMalloc(out, size);
  cudaError_t error = cudaMallocManaged(out, size, cudaMemAttachGlobal);
  if (error != cudaSuccess) return error;
  const bool literal = placement == MANAGED_PREFETCH;  // the source document's policy: prefetched whatever that evicts
  const Place gpu = device_place(device);
  char* const host_part = static_cast<char*>(*out) + in_hbm;
  const size_t on_host = size - in_hbm, to_prefetch = literal ? size : in_hbm;
  cudaStream_t stream = nullptr;
  error = stream_of(device, &stream);
  if (!error && literal) error = cudaMemAdvise(*out, size, cudaMemAdviseSetAccessedBy, host_place());
  if (!error && !literal && in_hbm) error = cudaMemAdvise(*out, in_hbm, cudaMemAdviseSetPreferredLocation, gpu);
  if (!error && !literal && on_host) error = cudaMemAdvise(host_part, on_host, cudaMemAdviseSetPreferredLocation, host_place());
  if (!error && !literal && on_host) error = cudaMemAdvise(host_part, on_host, cudaMemAdviseSetAccessedBy, gpu);
  if (!error && to_prefetch) error = prefetch(*out, to_prefetch, gpu, stream);
  if (error != cudaSuccess) cudaFree(*out), *out = nullptr;
  return error;
}

cudaError_t allocate(void** out, size_t size, int device, Kind kind) {
  *out = nullptr;
  if (size == 0) return cudaSuccess;
  if (device < 0 || device >= DEVICES) return cudaErrorInvalidDevice;
  size_t in_hbm;
  Placement placement;
  Row* row;
  {
    std::lock_guard<std::mutex> lock(mu);
    if (orphaned) return cudaErrorInitializationError;
    row = &account->row[kind][device];
    placement = Placement(account->placement);
    in_hbm = part_in_hbm(*row, kind, size);
    const size_t on_host = size - in_hbm;
    if (on_host > row->host_limit || (on_host && row->host > row->host_limit - on_host)) {
      count(row->refused);
      if ((row->refused & (row->refused - 1)) == 0)  // the 1st, 2nd, 4th, 8th ... so that a retry loop cannot flood the log
        fprintf(stderr, "managed_alloc: %s, device %d: refused %.3f GiB (refusal %llu); placed %.3f of %.3f GiB HBM, %.3f of %.3f GiB host\n",
                KIND_NAME[kind], device, gib(size), (unsigned long long)row->refused, gib(row->hbm), gib(row->hbm_limit), gib(row->host), gib(row->host_limit));
      return cudaErrorMemoryAllocation;
    }
    // taken before the driver is asked: two threads cannot both use the last of it
    store(row->hbm, row->hbm + in_hbm), store(row->host, row->host + on_host);
    if (row->hbm > row->hbm_peak) store(row->hbm_peak, row->hbm);
    if (row->host > row->host_peak) store(row->host_peak, row->host);
    started = true;
    account->pid = getpid();
  }
  cudaError_t error;
  {
    Scope scope(device);
    error = take(out, size, in_hbm, device, placement);
    // A failed optional call must not surface later as the error of somebody's kernel launch.
    if (error != cudaSuccess) cudaGetLastError();
  }
  std::lock_guard<std::mutex> lock(mu);
  if (error == cudaSuccess) {
    live[*out] = {size, in_hbm, device, uint8_t(kind)};
    count(row->placed);
  } else {
    store(row->hbm, row->hbm - in_hbm), store(row->host, row->host - (size - in_hbm));
    count(row->failed);
    fprintf(stderr, "managed_alloc: %s, device %d: the driver refused %.3f GiB on the device and %.3f GiB on the host: %s\n", KIND_NAME[kind], device, gib(in_hbm),
            gib(size - in_hbm), cudaGetErrorString(error));
  }
  return error;
}

cudaError_t release(void* p) {
  if (!p) return cudaSuccess;
  Segment segment{};
  bool ours = false;
  {
    std::lock_guard<std::mutex> lock(mu);
    if (orphaned) return cudaSuccess;
    auto found = live.find(p);
    if (found != live.end()) {
      ours = true;
      segment = found->second;
      live.erase(found);  // before the driver can hand the address out again
    }
  }
  if (!ours) return cudaFree(p);
  cudaError_t error;
  {
    Scope scope(segment.device);
    error = cudaFree(p);
    if (error == cudaErrorCudartUnloading) error = cudaSuccess;  // the process is ending
  }
  std::lock_guard<std::mutex> lock(mu);
  Row& row = account->row[segment.kind][segment.device];
  store(row.hbm, row.hbm - segment.in_hbm), store(row.host, row.host - (segment.size - segment.in_hbm));
  count(row.freed);
  return error;
}

void* allocate_for_pool(ssize_t size, int device, Kind kind) {
  void* p = nullptr;
  return size > 0 && allocate(&p, size_t(size), device, kind) == cudaSuccess ? p : nullptr;
}

cudaError_t redirected_malloc(void** out, size_t size) {
  int device = 0;
  cudaError_t error = cudaGetDevice(&device);
  return error == cudaSuccess ? allocate(out, size, device, OTHER) : error;
}

// The relocation slots through which one library reaches the driver's allocator.
struct Slots {
  int libraries = 0;
  std::string path;
  std::vector<void**> of_malloc, of_free;
  uintptr_t relro = 0;
  size_t relro_size = 0;
};

int find_slots(dl_phdr_info* info, size_t, void* data) {
  const char* name = info->dlpi_name ? strrchr(info->dlpi_name, '/') : nullptr;
  if (!name || strcmp(name + 1, "libc10_cuda.so") != 0) return 0;
  Slots& slots = *static_cast<Slots*>(data);
  slots.libraries++;
  slots.path = info->dlpi_name;
  const ElfW(Dyn)* dynamic = nullptr;
  for (int i = 0; i < info->dlpi_phnum; i++) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type == PT_DYNAMIC) dynamic = (const ElfW(Dyn)*)(info->dlpi_addr + header.p_vaddr);
    if (header.p_type == PT_GNU_RELRO) slots.relro = info->dlpi_addr + header.p_vaddr, slots.relro_size = header.p_memsz;
  }
  const ElfW(Sym)* symbols = nullptr;
  const char* strings = nullptr;
  const ElfW(Rela)* tables[2] = {};
  size_t sizes[2] = {};
  for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) switch (dynamic->d_tag) {
      case DT_SYMTAB: symbols = (const ElfW(Sym)*)dynamic->d_un.d_ptr; break;
      case DT_STRTAB: strings = (const char*)dynamic->d_un.d_ptr; break;
      case DT_JMPREL: tables[0] = (const ElfW(Rela)*)dynamic->d_un.d_ptr; break;
      case DT_PLTRELSZ: sizes[0] = dynamic->d_un.d_val; break;
      case DT_RELA: tables[1] = (const ElfW(Rela)*)dynamic->d_un.d_ptr; break;
      case DT_RELASZ: sizes[1] = dynamic->d_un.d_val; break;
    }
  if (!symbols || !strings) return 0;
  for (int t = 0; t < 2; t++)
    for (size_t i = 0; i < sizes[t] / sizeof(ElfW(Rela)); i++) {
      const char* symbol = strings + symbols[ELF64_R_SYM(tables[t][i].r_info)].st_name;
      void** slot = (void**)(info->dlpi_addr + tables[t][i].r_offset);
      if (strcmp(symbol, "cudaMalloc") == 0) slots.of_malloc.push_back(slot);
      if (strcmp(symbol, "cudaFree") == 0) slots.of_free.push_back(slot);
    }
  return 0;
}

bool write_slot(void** slot, void* value, const Slots& slots) {
  const uintptr_t page = sysconf(_SC_PAGESIZE), address = uintptr_t(slot), start = address & ~(page - 1);
  // A slot is aligned, so it never straddles two pages. Only a page inside RELRO is read-only and must become so again.
  const bool read_only = address >= slots.relro && address < slots.relro + slots.relro_size;
  if (read_only && mprotect((void*)start, page, PROT_READ | PROT_WRITE) != 0) return false;
  __atomic_store_n(slot, value, __ATOMIC_RELEASE);
  if (read_only) mprotect((void*)start, page, PROT_READ);
  return __atomic_load_n(slot, __ATOMIC_ACQUIRE) == value;
}
}  // namespace

extern "C" {
// Exported by a stand-in CUDA runtime only.
const char* cuda_runtime_stand_in(void) __attribute__((weak));

const char* ma_version(void) { return "2"; }
const char* ma_stand_in(void) { return cuda_runtime_stand_in ? cuda_runtime_stand_in() : nullptr; }

int ma_place(int placement) {
  std::lock_guard<std::mutex> lock(mu);
  if (placement < HBM_FIRST || placement > MANAGED_PREFETCH || started) return -1;
  account->placement = placement;
  return 0;
}

int ma_limit(int kind, int device, uint64_t hbm, uint64_t host) {
  if (kind < 0 || kind >= KINDS || device < 0 || device >= DEVICES) return -1;
  std::lock_guard<std::mutex> lock(mu);
  Row& row = account->row[kind][device];
  store(row.hbm_limit, hbm);
  store(row.host_limit, host);
  return 0;
}

void* ma_weights_malloc(ssize_t size, int device, cudaStream_t) { return allocate_for_pool(size, device, WEIGHTS); }
void* ma_kv_malloc(ssize_t size, int device, cudaStream_t) { return allocate_for_pool(size, device, KV); }
void ma_free(void* p, ssize_t, int, cudaStream_t) { release(p); }

int ma_redirect(char* why, size_t n) {
  Slots slots;
  dl_iterate_phdr(find_slots, &slots);
  if (slots.libraries != 1) return snprintf(why, n, "%d libraries named libc10_cuda.so are loaded, accepted: 1", slots.libraries), -1;
  if (slots.of_malloc.size() != 1 || slots.of_free.size() != 1)
    return snprintf(why, n, "%s has %zu relocation slots for cudaMalloc and %zu for cudaFree, accepted: 1 of each", slots.path.c_str(),
                    slots.of_malloc.size(), slots.of_free.size()), -1;
  if (*slots.of_malloc[0] == (void*)redirected_malloc && *slots.of_free[0] == (void*)release) return 0;
  void* const before = *slots.of_free[0];
  // cudaFree first: it hands what is not ours to the driver, so between the two writes nothing can be freed wrongly.
  if (!write_slot(slots.of_free[0], (void*)release, slots))
    return snprintf(why, n, "%s: the slot of cudaFree cannot be written: %s", slots.path.c_str(), strerror(errno)), -1;
  if (!write_slot(slots.of_malloc[0], (void*)redirected_malloc, slots)) {
    snprintf(why, n, "%s: the slot of cudaMalloc cannot be written: %s", slots.path.c_str(), strerror(errno));
    write_slot(slots.of_free[0], before, slots);
    return -1;
  }
  return 0;
}

int ma_share(const char* path) {
  int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  if (fd < 0) return errno;
  void* page = ftruncate(fd, sizeof(Account)) == 0 ? mmap(nullptr, sizeof(Account), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  int error = page == MAP_FAILED ? errno : 0;
  close(fd);
  if (error) return error;
  std::lock_guard<std::mutex> lock(mu);
  *(Account*)page = *account;
  account = (Account*)page;
  account->pid = getpid();
  account->stand_in = ma_stand_in() != nullptr;
  return 0;
}

int ma_row(int kind, int device, uint64_t* out) {
  if (kind < 0 || kind >= KINDS || device < 0 || device >= DEVICES) return -1;
  std::lock_guard<std::mutex> lock(mu);
  memcpy(out, &account->row[kind][device], sizeof(Row));
  return 0;
}

int ma_segment(const void* p, uint64_t* out) {
  std::lock_guard<std::mutex> lock(mu);
  for (const auto& [start, segment] : live) {
    const uint64_t first = uint64_t(uintptr_t(start));
    if (uintptr_t(p) < first || uintptr_t(p) - first >= segment.size) continue;
    out[0] = first, out[1] = segment.size, out[2] = segment.in_hbm, out[3] = segment.kind;
    return 0;
  }
  return -1;
}

void ma_count_oom(int device) {
  std::lock_guard<std::mutex> lock(mu);
  if (device >= 0 && device < DEVICES) count(account->row[OTHER][device].ooms);
}
}  // extern "C"

#ifdef __CUDACC__
__global__ void read_all(const uint4* from, size_t n, unsigned* sink) {
  unsigned sum = 0;
  for (size_t i = blockIdx.x * size_t(blockDim.x) + threadIdx.x; i < n; i += gridDim.x * size_t(blockDim.x)) {
    uint4 v = from[i];
    sum += v.x + v.y + v.z + v.w;
  }
  if (sum == 0x9e3779b9u) *sink = sum;  // keeps the loads; the value is of no interest
}

extern "C" double ma_read_rate(const void* p, size_t bytes) {
  cudaEvent_t begin, end;
  unsigned* sink = nullptr;
  float best = 0, ms = 0;
  if (cudaMalloc(&sink, sizeof *sink) != cudaSuccess) return cudaGetLastError(), 0;
  cudaEventCreate(&begin), cudaEventCreate(&end);
  for (int i = 0; i < 4; i++) {  // the first is the warm-up
    cudaEventRecord(begin);
    read_all<<<1056, 512>>>((const uint4*)p, bytes / sizeof(uint4), sink);
    cudaEventRecord(end);
    if (cudaEventSynchronize(end) != cudaSuccess) { best = 0; break; }
    cudaEventElapsedTime(&ms, begin, end);
    if (i && (best == 0 || ms < best)) best = ms;
  }
  cudaEventDestroy(begin), cudaEventDestroy(end), cudaFree(sink), cudaGetLastError();
  return best > 0 ? bytes / (best / 1e3) : 0;
}
#endif
