#pragma once
// STAND-IN for QuTLASS.
#define QUTLASS_STAND_IN 1
