// The segment source over the stand-in runtime, built with a sanitizer. Prints one line per case; exit status 1 on the first failure.
#include "../../assets/vllm/managed_alloc.cu"
#include <sys/wait.h>
#include <thread>
extern "C" {
void fake_fail(const char*, long);
size_t fake_used(int);
size_t fake_live();
int fake_place(const void*, int*);
int fake_capture_mode();
}
static int cases = 0;
#define CHECK(x) do { if (!(x)) { printf("FAILED line %d: %s\n", __LINE__, #x); return 1; } } while (0)
static uint64_t field(int kind, int device, int i) { uint64_t r[sizeof(Row) / 8]; ma_row(kind, device, r); return r[i]; }
enum { HBM, HOST, HBM_LIMIT, HOST_LIMIT, HBM_PEAK, HOST_PEAK, PLACED, FREED, REFUSED, FAILED_, OOMS };
constexpr ssize_t M = 1 << 20;

static int no_call_at_load() { CHECK(fake_live() == 0 && ma_stand_in() != nullptr); return 0; }

static int refused_before_limits() { CHECK(ma_weights_malloc(M, 0, nullptr) == nullptr); CHECK(field(0, 0, REFUSED) == 1 && field(0, 0, HBM) == 0); return 0; }

static int placed_in_order() {
  ma_limit(0, 0, 10 * M, 6 * M);
  void *a = ma_weights_malloc(8 * M, 0, nullptr), *b = ma_weights_malloc(4 * M, 0, nullptr), *c = ma_weights_malloc(2 * M, 0, nullptr), *d = ma_weights_malloc(3 * M, 0, nullptr);
  int p[7];
  CHECK(a && b && c && !d);
  fake_place(a, p); CHECK(p[0] == cudaMemoryTypeDevice);
  fake_place(b, p); CHECK(p[0] == cudaMemoryTypeManaged && p[2] == -1 && p[3] == 0);  // prefers the host, mapped for the device
  fake_place(c, p); CHECK(p[0] == cudaMemoryTypeDevice);                               // smaller, so it still fits the HBM
  CHECK(field(0, 0, HBM) == uint64_t(10 * M) && field(0, 0, HOST) == uint64_t(4 * M));
  ma_free(a, 0, 0, nullptr), ma_free(b, 0, 0, nullptr), ma_free(c, 0, 0, nullptr);
  CHECK(field(0, 0, HBM) == 0 && field(0, 0, HOST) == 0 && field(0, 0, HBM_PEAK) == uint64_t(10 * M) && fake_live() == 0);
  return 0;
}

static int split_at_a_page() {
  ma_limit(0, 1, 100 * M, 200 * M), ma_limit(1, 1, 100 * M, 300 * M);
  int p[7];
  void* a = ma_weights_malloc(150 * M, 1, nullptr);  // weights fill the HBM
  fake_place(a, p); CHECK(a && p[0] == cudaMemoryTypeManaged && p[2] == 1 && p[3] == 1 && p[5] == 100 && field(0, 1, HBM) == uint64_t(100 * M) && field(0, 1, HOST) == uint64_t(50 * M));
  void* b = ma_weights_malloc(63 * M, 1, nullptr);
  fake_place(b, p); CHECK(b && p[2] == -1 && p[5] == 0);
  void* small = ma_kv_malloc(4 * M, 1, nullptr);  // a quarter of the cache's limits is HBM, less than a page of this one
  fake_place(small, p); CHECK(small && p[5] == 0 && p[2] == -1);
  void *c = ma_kv_malloc(198 * M, 1, nullptr), *d = ma_kv_malloc(198 * M, 1, nullptr);
  fake_place(c, p); CHECK(c && p[5] == 48 && p[2] == 1);  // a quarter of 198 in whole pages
  fake_place(d, p); CHECK(d && p[5] == 52 && field(1, 1, HBM) <= uint64_t(100 * M) && field(1, 1, HOST) <= uint64_t(300 * M));  // the host has room for 146 more
  CHECK(!ma_kv_malloc(2 * M, 1, nullptr) && field(1, 1, REFUSED) == 1);
  CHECK(fake_used(1) == size_t(200 * M));
  for (void* x : {a, b, small, c, d}) ma_free(x, 0, 1, nullptr);
  CHECK(field(0, 1, HBM) + field(0, 1, HOST) + field(1, 1, HBM) + field(1, 1, HOST) == 0 && fake_used(1) == 0 && fake_live() == 0);
  ma_limit(0, 1, 0, 0), ma_limit(1, 1, 0, 0);
  return 0;
}

static int rolled_back_on_every_error() {
  const char* calls[] = {"cudaMalloc", "cudaMallocManaged", "cudaMemAdvise", "cudaStreamCreateWithFlags"};
  for (const char* call : calls) for (long n = 1; n <= (strcmp(call, "cudaMemAdvise") ? 1 : 2); n++) {
    bool host = strcmp(call, "cudaMalloc") != 0;
    int device = strcmp(call, "cudaStreamCreateWithFlags") ? 0 : 1;  // a device that has no stream yet
    ma_limit(1, device, host ? 0 : 4 * M, host ? 4 * M : 0);
    uint64_t failed = field(1, device, FAILED_);
    fake_fail(call, n);
    CHECK(ma_kv_malloc(2 * M, device, nullptr) == nullptr);
    CHECK(field(1, device, FAILED_) == failed + 1 && field(1, device, HBM) == 0 && field(1, device, HOST) == 0);
    CHECK(fake_live() == 0 && cudaPeekAtLastError() == cudaSuccess);
    fake_fail(call, 0);
    void* p = ma_kv_malloc(2 * M, device, nullptr);
    CHECK(p); ma_free(p, 0, 0, nullptr);
  }
  return 0;
}

static int device_and_mode_restored() {
  ma_limit(0, 1, 4 * M, 4 * M);
  cudaSetDevice(0);
  void *p = ma_weights_malloc(3 * M, 1, nullptr), *q = ma_weights_malloc(3 * M, 1, nullptr);
  int now, place[7];
  cudaGetDevice(&now), fake_place(q, place);
  CHECK(p && q && now == 0 && place[3] == 1 && fake_used(1) == size_t(3 * M) && fake_capture_mode() == cudaStreamCaptureModeGlobal);
  ma_free(p, 0, 1, nullptr), ma_free(q, 0, 1, nullptr);
  cudaGetDevice(&now);
  CHECK(now == 0 && fake_capture_mode() == cudaStreamCaptureModeGlobal);
  return 0;
}

static int edges() {
  CHECK(ma_weights_malloc(0, 0, nullptr) == nullptr && ma_weights_malloc(-1, 0, nullptr) == nullptr && ma_weights_malloc(M, 99, nullptr) == nullptr);
  CHECK(ma_limit(7, 0, 0, 0) == -1 && ma_limit(0, -1, 0, 0) == -1 && ma_place(9) == -1 && ma_place(1) == -1);  // a placement cannot change after the first segment
  ma_limit(0, 0, UINT64_MAX, UINT64_MAX);
  void* p = ma_weights_malloc(M, 0, nullptr);
  CHECK(p); ma_free(p, 0, 0, nullptr), ma_free(nullptr, 0, 0, nullptr);
  void* foreign;  // what the driver gave to somebody else goes back to the driver
  cudaMalloc(&foreign, M), ma_free(foreign, 0, 0, nullptr);
  CHECK(fake_live() == 0);
  ma_count_oom(0), ma_count_oom(-5);
  CHECK(field(2, 0, OOMS) == 1);
  return 0;
}

static int threads_never_exceed_the_limit() {
  ma_limit(0, 0, 16 * M, 8 * M);
  bool over = false;
  std::vector<std::thread> all;
  for (int t = 0; t < 8; t++) all.emplace_back([&over, t] {
    std::vector<void*> mine;
    unsigned seed = t * 7919 + 1;
    for (int i = 0; i < 400; i++) {
      seed = seed * 1664525 + 1013904223;
      if ((seed >> 16) % 3 || mine.empty()) { if (void* p = ma_weights_malloc(ssize_t((seed >> 8) % (3 * M) + 1), 0, nullptr)) mine.push_back(p); }
      else ma_free(mine.back(), 0, 0, nullptr), mine.pop_back();
      uint64_t r[sizeof(Row) / 8];
      ma_row(0, 0, r);
      if (r[HBM] > uint64_t(16 * M) || r[HOST] > uint64_t(8 * M)) __atomic_store_n(&over, true, __ATOMIC_RELAXED);
    }
    for (void* p : mine) ma_free(p, 0, 0, nullptr);
  });
  for (auto& t : all) t.join();
  CHECK(!over && field(0, 0, HBM) == 0 && field(0, 0, HOST) == 0 && fake_live() == 0 && fake_used(0) == 0);
  CHECK(field(0, 0, PLACED) == field(0, 0, FREED));
  return 0;
}

static int child_of_a_fork_keeps_out() {
  ma_limit(0, 0, 8 * M, 0);
  void* p = ma_weights_malloc(M, 0, nullptr);
  size_t live_before = fake_live();
  pid_t pid = fork();
  if (pid == 0) {
    bool good = ma_weights_malloc(M, 0, nullptr) == nullptr;
    ma_free(p, 0, 0, nullptr);  // the parent's: nothing happens
    _exit(good && fake_live() == live_before ? 0 : 1);
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK(status == 0 && field(0, 0, HBM) == uint64_t(M));
  ma_free(p, 0, 0, nullptr);
  return 0;
}

static int account_is_shared() {
  char path[] = "/tmp/account-test-XXXXXX";
  close(mkstemp(path));
  CHECK(ma_share(path) == EEXIST && ma_share("/no/such/directory/a") == ENOENT);
  unlink(path);
  CHECK(ma_share(path) == 0);
  ma_limit(1, 0, 5 * M, 0);
  void* p = ma_kv_malloc(2 * M, 0, nullptr);
  Account seen;
  FILE* f = fopen(path, "rb");
  size_t n = fread(&seen, sizeof seen, 1, f);
  fclose(f), unlink(path);
  CHECK(n == 1 && seen.magic == MAGIC && seen.pid == uint64_t(getpid()) && seen.stand_in == 1 && seen.row[KV][0].hbm == uint64_t(2 * M));
  ma_free(p, 0, 0, nullptr);
  return 0;
}

int main() {
  setvbuf(stdout, nullptr, _IOLBF, 0);
#define RUN(f) do { if (f()) return 1; cases++; printf("ok %s\n", #f); } while (0)
  RUN(no_call_at_load); RUN(refused_before_limits); RUN(placed_in_order); RUN(rolled_back_on_every_error); RUN(split_at_a_page); RUN(device_and_mode_restored); RUN(edges);
  RUN(threads_never_exceed_the_limit); RUN(child_of_a_fork_keeps_out); RUN(account_is_shared);
  printf("%d cases\n", cases);
  return 0;
}
