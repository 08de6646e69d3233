// A stand-in libnvidia-ml.so.1 with two GPUs of a GH200's size: vLLM finds its platform by it, the launcher its plan. Like a real
// one it keeps memory for the driver, and tells it apart only in its second version.
//   FAKE_NVML_VERSION   1: a driver that has no second version      FAKE_NVML_USED_MIB   what others use on each GPU, «0,0»
#include <stdlib.h>
#include <string.h>
namespace {
constexpr unsigned long long MIB = 1 << 20, TOTAL = 97871 * MIB, DRIVER = 591 * MIB;
unsigned long long used(void* device) {
  const char* text = getenv("FAKE_NVML_USED_MIB");
  const char* comma = text ? strchr(text, ',') : nullptr;
  return text ? strtoull(device == (void*)2 && comma ? comma + 1 : text, nullptr, 10) * MIB : 0;
}
}  // namespace
extern "C" {
const char* nvml_stand_in() { return "stand-in NVML"; }
int nvmlInit_v2() { return 0; }
int nvmlInitWithFlags(unsigned) { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* n) { return *n = 2, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned i, void** handle) { return *handle = i == 0 ? (void*)1 : (void*)2, i < 2 ? 0 : 2; }
int nvmlDeviceGetHandleByUUID(const char*, void** handle) { return *handle = (void*)2, 0; }
struct Memory { unsigned long long total, free, used; };
struct Memory2 { unsigned version; unsigned long long total, reserved, free, used; };
int nvmlDeviceGetMemoryInfo(void* d, Memory* m) { return *m = {TOTAL, TOTAL - DRIVER - used(d), DRIVER + used(d)}, 0; }
int nvmlDeviceGetMemoryInfo_v2(void* d, Memory2* m) {
  const char* version = getenv("FAKE_NVML_VERSION");
  if (version && *version == '1') return 13;  // NVML_ERROR_FUNCTION_NOT_FOUND
  if (m->version != (sizeof *m | 2 << 24)) return 25;  // NVML_ERROR_ARGUMENT_VERSION_MISMATCH
  return m->total = TOTAL, m->reserved = DRIVER, m->used = used(d), m->free = TOTAL - DRIVER - used(d), 0;
}
int nvmlDeviceGetName(void*, char* name, unsigned n) { return strncpy(name, "stand-in GH200", n), 0; }
int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) { return *major = 9, *minor = 0, 0; }
const char* nvmlErrorString(int) { return "stand-in error"; }
}
