#include "greeting.h"

const char *greeting(void) { return "hello from a stage of its own"; }
