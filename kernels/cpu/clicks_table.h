// The functions of clicks.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "clicks_types.h"

struct fr_clicks_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "clicks.def"
#undef FR_KERNEL
};
extern "C" const fr_clicks_functions *fr_clicks_table(int level);
