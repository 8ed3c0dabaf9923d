// Plain structs shared by the resample bodies and their binding.
#pragma once
#include "common.h"

// Replicates are computed FR_LANES at a time, one a lane: a task is one such tile.
#define FR_RESAMPLE_LANES 16

typedef struct {
  const double *values;  // (queries, columns), C order, finite
  int64_t queries;       // < 2^32
  int64_t columns;
  uint64_t seed;
  int64_t first;         // number of the first replicate wanted
  int64_t replicates;
  double *sums;          // out: (replicates, columns)
  uint8_t *counts;       // scratch of the bootstrap: (workers, queries, FR_RESAMPLE_LANES)
  double *totals;        // scratch: (workers, columns, FR_RESAMPLE_LANES)
} fr_resample_job;
