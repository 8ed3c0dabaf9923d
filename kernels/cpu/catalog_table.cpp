#include "catalog_table.h"
#define FR_TABLE catalog
#define FR_DEF "catalog.def"
#include "table.inc"
