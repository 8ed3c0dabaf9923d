// The functions of evaluation.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "evaluation_types.h"

struct fr_evaluation_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "evaluation.def"
#undef FR_KERNEL
};
extern "C" const fr_evaluation_functions *fr_evaluation_table(int level);
