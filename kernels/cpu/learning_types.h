// Plain structs shared by the learning bodies and their binding.
#pragma once
#include "common.h"
#include "pool.h"

// Samples by features.  Dense: `indptr` is null and `values` is rows x columns, row-major.  Sparse: CSR with int32
// column numbers, ascending and unique within a row.  `wide` tells float64 values from float32.
struct fr_samples {
  const void *values;
  const int64_t *indptr;
  const int32_t *indices;
  int64_t rows, columns;
  int wide;
};

// scores[i] = x_i . parameters[0..columns) + parameters[columns]; squares[i] = |x_i|^2 + extra, if not null.
struct fr_linear_forward {
  struct fr_samples x;
  const double *parameters;
  double *scores, *squares;
  double extra;
  int threads;
  fr_parallel_for_type parallel_for;
};

// What an elementwise pass over (score, label) computes; fastrec/weighing/scores names the same numbers.
enum fr_logistic_kind {
  FR_LOGISTIC_PROBABILITY,  // sigma(z)
  FR_LOGISTIC_LOSS,         // log(1 + exp(-t z))
  FR_LOGISTIC_RESIDUAL,     // -t sigma(-t z), the derivative of the loss with respect to z
  FR_LOGISTIC_ERROR,        // |residual|
  FR_LOGISTIC_EL2N,         // sqrt(2) |residual|
  FR_LOGISTIC_NORM,         // |residual| sqrt(squares)
};

struct fr_logistic_map {
  const double *scores, *squares, *weight;  // squares, weight: may be null
  const int8_t *target;                     // -1 or +1; null with FR_LOGISTIC_PROBABILITY
  int64_t rows;
  int kind, threads;
  float *out32;  // exactly one of these two is filled
  double *out64;
  fr_parallel_for_type parallel_for;
};

// One pass over the rows named by `order` (all of them, in order, where null) in `batches` batches of nearly equal
// size, with one step of SGD or Adam after each; no step at all where `solver` is FR_SOLVER_NONE, which leaves the
// gradient of the last batch in `gradient`.
enum fr_solver { FR_SOLVER_NONE, FR_SOLVER_SGD, FR_SOLVER_ADAM };

struct fr_logistic_epoch {
  struct fr_samples x;
  const int64_t *order;
  const int8_t *target;
  const double *weight;     // mean 1; null: all 1
  const double *share;      // CSR with l2 > 0: l2 * rows / (rows that hold the column), else null
  double l2;
  int64_t batches, slices, slice_rows;
  int solver, intercept, threads;
  double rate, rate_drop;  // batch k steps by rate - k rate_drop
  double beta1, beta2, epsilon;
  double power1, power2;  // beta1^t, beta2^t before the first step; updated
  double *parameters, *first, *second;  // columns + 1 each; first, second: Adam's moments
  // Scratch: residuals of the largest batch; `slices` gradients of columns + 1 each (dense), or one (CSR).
  double *residuals, *gradient, *slice_losses;
  double *slots;     // CSR: (gradient, entries) of each column in the batch, zero before and after
  int32_t *touched;  // CSR: columns + 1
  double loss;       // out: sum of weight * loss, each before its batch's step
  fr_parallel_for_type parallel_for;
};

// The `need[c]` best rows of each group c by (score, then the smaller row number), as ascending row numbers.
struct fr_select_rows {
  const void *scores;
  const int32_t *groups;  // null: one group
  int64_t rows, group_count;
  int wide, smallest, threads;
  int64_t *need;            // in: rows wanted of each group; used up
  uint64_t *prefix;         // scratch: group_count
  int64_t *histograms;      // scratch: threads x group_count x FR_SELECT_BINS
  int64_t *chunk_counts;    // scratch: chunks x group_count x 2
  int64_t *chunk_starts;    // scratch: chunks
  int64_t chunk, chunks;    // rows a chunk, number of chunks
  int64_t *out;             // row numbers, sum(need) of them
  fr_parallel_for_type parallel_for;
};
#define FR_SELECT_BITS 11
#define FR_SELECT_BINS 2048
