// The functions of ranking.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "ranking_types.h"

struct fr_ranking_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "ranking.def"
#undef FR_KERNEL
};
extern "C" const fr_ranking_functions *fr_ranking_table(int level);
