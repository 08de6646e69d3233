// SIMULATED NVML of the sandbox: one GH200 whose memory is what the stand-in CUDA runtime says (STAND_IN_CUDA_HBM_BYTES).
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

struct Memory {
  unsigned long long total, free, used;
};

extern "C" {
const char* nvml_stand_in(void) { return "stand-in NVML of the sandbox: no GPU"; }
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
const char* nvmlErrorString(int) { return "error of the stand-in NVML"; }
int nvmlDeviceGetCount_v2(unsigned* count) { return *count = 1, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void** device) { return *device = nullptr, index == 0 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char*, void** device) { return *device = nullptr, 0; }
int nvmlDeviceGetMemoryInfo(void*, Memory* out) {
  const char* text = getenv("STAND_IN_CUDA_HBM_BYTES");
  out->total = out->free = text ? strtoull(text, nullptr, 10) : 1ull << 30;
  out->used = 0;
  return 0;
}
int nvmlDeviceGetName(void*, char* name, unsigned length) { return strncpy(name, "stand-in GH200 (no GPU)", length), 0; }
}
