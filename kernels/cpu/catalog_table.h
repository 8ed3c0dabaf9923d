// The functions of catalog.def as a struct of pointers, one instance per instruction set.
#pragma once
#include "common.h"
#include "catalog_types.h"

struct fr_catalog_functions {
#define FR_KERNEL(ret, name, args) ret(*name) args;
#include "catalog.def"
#undef FR_KERNEL
};
extern "C" const fr_catalog_functions *fr_catalog_table(int level);
