// A stand-in libcuda.so.1: PyTorch opens the driver's library by name before it calls the runtime. Every call fails but the one it needs.
#define FAILS(name) int name() { return 801; }
extern "C" {
int cuInit(unsigned) { return 0; }
int cuDevicePrimaryCtxGetState(int, unsigned* flags, int* active) { return *flags = 0, *active = 1, 0; }
FAILS(cuCtxFromGreenCtx) FAILS(cuCtxGetCurrent) FAILS(cuCtxPopCurrent) FAILS(cuCtxPushCurrent) FAILS(cuCtxSetCurrent) FAILS(cuDevResourceGenerateDesc)
FAILS(cuDevSmResourceSplitByCount) FAILS(cuDeviceGet) FAILS(cuDeviceGetAttribute) FAILS(cuDeviceGetDevResource) FAILS(cuGetErrorString) FAILS(cuGreenCtxCreate)
FAILS(cuGreenCtxDestroy) FAILS(cuGreenCtxStreamCreate) FAILS(cuMemAddressFree) FAILS(cuMemAddressReserve) FAILS(cuMemCreate) FAILS(cuMemExportToShareableHandle)
FAILS(cuMemGetAllocationGranularity) FAILS(cuMemGetAllocationPropertiesFromHandle) FAILS(cuMemImportFromShareableHandle) FAILS(cuMemMap) FAILS(cuMemRelease)
FAILS(cuMemRetainAllocationHandle) FAILS(cuMemSetAccess) FAILS(cuMemUnmap) FAILS(cuMemsetD32Async) FAILS(cuMulticastAddDevice) FAILS(cuMulticastBindMem)
FAILS(cuMulticastCreate) FAILS(cuMulticastUnbind) FAILS(cuStreamWriteValue32)
}
