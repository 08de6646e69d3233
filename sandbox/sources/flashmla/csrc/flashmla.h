#pragma once
// STAND-IN for FlashMLA.
#define FLASHMLA_STAND_IN 1
