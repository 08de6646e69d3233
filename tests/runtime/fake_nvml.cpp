// A stand-in libnvidia-ml.so.1 with one GPU of a GH200's size: vLLM finds its platform by it, the launcher its plan.
#include <string.h>
extern "C" {
const char* nvml_stand_in() { return "stand-in NVML"; }
int nvmlInit_v2() { return 0; }
int nvmlInitWithFlags(unsigned) { return 0; }
int nvmlShutdown() { return 0; }
int nvmlDeviceGetCount_v2(unsigned* n) { return *n = 2, 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned, void** handle) { return *handle = (void*)1, 0; }
struct Memory { unsigned long long total, free, used; };
int nvmlDeviceGetMemoryInfo(void*, Memory* m) { return *m = {97871ull << 20, 97280ull << 20, 591ull << 20}, 0; }
int nvmlDeviceGetName(void*, char* name, unsigned n) { return strncpy(name, "stand-in GH200", n), 0; }
int nvmlDeviceGetCudaComputeCapability(void*, int* major, int* minor) { return *major = 9, *minor = 0, 0; }
const char* nvmlErrorString(int) { return "stand-in error"; }
}
