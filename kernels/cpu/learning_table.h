// The functions of learning.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "learning_types.h"

struct fr_learning_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "learning.def"
#undef FR_KERNEL
};
extern "C" const fr_learning_functions *fr_learning_table(int level);
