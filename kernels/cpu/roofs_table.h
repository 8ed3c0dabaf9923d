// The functions of roofs.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "roofs_types.h"

struct fr_roofs_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "roofs.def"
#undef FR_KERNEL
};
extern "C" const fr_roofs_functions *fr_roofs_table(int level);
