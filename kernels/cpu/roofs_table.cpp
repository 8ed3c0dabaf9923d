#include "roofs_table.h"
#define FR_TABLE roofs
#define FR_DEF "roofs.def"
#include "table.inc"
