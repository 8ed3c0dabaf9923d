// Plain structs shared by the catalogue bodies and their binding.
#pragma once
#include "common.h"

// What a chunk of lists reports.
typedef struct {
  int64_t bad;        // the first list with an id outside -1..items-1, -1: none
  int64_t duplicate;  // the first list that holds an item twice, -1: none
  int64_t listed;     // ids that are not -1
} fr_catalog_report;
