#include "clicks_table.h"
#define FR_TABLE clicks
#define FR_DEF "clicks.def"
#include "table.inc"
