// The functions of resample.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "resample_types.h"

struct fr_resample_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "resample.def"
#undef FR_KERNEL
};
extern "C" const fr_resample_functions *fr_resample_table(int level);
