#include <torch/extension.h>

int mem_copy(int n);
STAND_IN_MODULE(c_ops, mem_copy)
