#include "ranking_table.h"
#define FR_TABLE ranking
#define FR_DEF "ranking.def"
#include "table.inc"
