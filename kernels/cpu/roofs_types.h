// What the roofs bodies and their binding share.
#pragma once
#include "common.h"

enum {
  FR_LINE_WORDS = 8,  // a 64-byte cache line
  FR_ROW_WORDS = 32,  // 256 bytes: 64 float32 values, the row that scoring one candidate reads
};
