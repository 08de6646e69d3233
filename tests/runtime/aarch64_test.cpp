// PyTorch's own caching allocator of the aarch64 wheel over our segments, under emulation. Prints one line; exit status 1 on a failure.
//   argv: libcudart.so.13 (stand-in)  libc10.so  libc10_cuda.so (of the wheel)  managed_alloc.so
#include <c10/cuda/CUDACachingAllocator.h>
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>

static void* open(const char* path) {
  void* library = dlopen(path, RTLD_LAZY | RTLD_GLOBAL);
  if (!library) fprintf(stderr, "%s\n", dlerror());
  return library;
}
template <typename F> static F symbol(void* library, const char* name) { return (F)dlsym(library, name); }

int main(int, char** argv) {
  using c10::cuda::CUDACachingAllocator::CUDAAllocator;
  void *runtime = open(argv[1]), *c10 = open(argv[2]), *cuda = open(argv[3]), *ours = open(argv[4]);
  if (!runtime || !c10 || !cuda || !ours) return 1;
  constexpr int OTHER = 2;
  constexpr size_t MIB = 1 << 20;
  auto row = symbol<int (*)(int, int, uint64_t*)>(ours, "ma_row");
  auto place = symbol<void (*)(const void*, int*)>(runtime, "fake_place");
  uint64_t taken[11], left[11];
  int where[5] = {};
  char why[512] = "";
  symbol<int (*)(int)>(ours, "ma_place")(1);
  symbol<int (*)(int, int, uint64_t, uint64_t)>(ours, "ma_limit")(OTHER, 0, 30 * MIB, 0);
  for (int i = 0; i < 2; i++)  // a second time changes nothing
    if (symbol<int (*)(char*, size_t)>(ours, "ma_redirect")(why, sizeof why) != 0) return fprintf(stderr, "%s\n", why), 1;
  auto* allocator = symbol<std::atomic<CUDAAllocator*>*>(cuda, "_ZN3c104cuda20CUDACachingAllocator9allocatorE")->load();
  allocator->init(1);
  void* p = allocator->raw_alloc(4 * MIB);  // PyTorch asks for 20 MiB and splits it
  row(OTHER, 0, taken);
  place(p, where);
  allocator->raw_delete(p);
  allocator->emptyCache({0, 0});
  row(OTHER, 0, left);
  printf("type %d, preferred %d, %d MiB placed, %d left\n", where[0], where[2], int(taken[0] / MIB), int(left[0]));
  fflush(stdout);
  _Exit(0);
}
