#pragma once
// STAND-IN for CUTLASS.
#define CUTLASS_STAND_IN 1
