#include "resample_table.h"
#define FR_TABLE resample
#define FR_DEF "resample.def"
#include "table.inc"
