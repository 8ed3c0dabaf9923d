#include "learning_table.h"
#define FR_TABLE learning
#define FR_DEF "learning.def"
#include "table.inc"
