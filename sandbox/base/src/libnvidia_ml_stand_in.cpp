// SIMULATED NVML of the sandbox: one GH200 whose board has STAND_IN_CUDA_HBM_BYTES (default 1 GiB), of which 64 MiB are the
// driver's: the second version tells them apart, the first counts them as used, as on a real card.
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct Memory {
  unsigned long long total, free, used;
};
struct Memory2 {
  unsigned version;
  unsigned long long total, reserved, free, used;
};
static const unsigned long long DRIVER = 64ull << 20;

static unsigned long long board(void) {
  const char* text = getenv("STAND_IN_CUDA_HBM_BYTES");
  return text ? strtoull(text, nullptr, 10) : 1ull << 30;
}

extern "C" {
const char* nvml_stand_in(void) { return "stand-in NVML of the sandbox: no GPU"; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int) { return "error of the stand-in NVML"; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 1, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) { return *device = nullptr, index == 0 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char*, void** device) { return *device = nullptr, 0; }
int nvmlDeviceGetMemoryInfo(void*, Memory* out) {
  out->total = board();
  out->used = DRIVER;
  out->free = out->total - DRIVER;
  return 0;
}
int nvmlDeviceGetMemoryInfo_v2(void*, Memory2* out) {
  out->total = board();
  out->reserved = DRIVER;
  out->used = 0;
  out->free = out->total - DRIVER;
  return 0;
}
int nvmlDeviceGetName(void*, char* name, unsigned length) { return strncpy(name, "stand-in GH200 (no GPU)", length), 0; }
}
