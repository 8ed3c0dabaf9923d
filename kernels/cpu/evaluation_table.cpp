#include "evaluation_table.h"
#define FR_TABLE evaluation
#define FR_DEF "evaluation.def"
#include "table.inc"
