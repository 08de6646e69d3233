#include <torch/extension.h>

int cache_copy(int n);
STAND_IN_MODULE(_C, cache_copy)
