// Plain structs shared by the click-metric bodies and their binding.
#pragma once
#include "common.h"

// Types of the arrays that are read as they come.
enum { FR_CLICKS_U8, FR_CLICKS_I32, FR_CLICKS_I64, FR_CLICKS_F32, FR_CLICKS_F64 };

enum { FR_CLICKS_DIGITS = 64 };  // buckets of a pass over all rows: more would not fit the level-1 TLB

enum { FR_CLICKS_FINE = 8192 };   // values of the leading bits that rows are dealt out by, where half words hold them

// A row on its way through the sort: an order-preserving key, and 2 * row number + label.
typedef struct {
  uint64_t key;
  uint64_t row;
} fr_clicks_pair;

// What one chunk of rows in descending score order adds to the metrics that need the order.  `before` are all rows
// with a higher score; "positives" and "negatives" are counts, or sums of weights.
typedef struct {
  int64_t pairs2;      // 2 * concordant pairs + tied pairs, exact (rows of weight one)
  double pairs2_sum;   // the same with weights
  double precision;    // sum over positives of the precision at their threshold
  double ks;           // largest |tp * N - fp * P| (N, P: all negatives and positives)
  double f1;           // largest 2 tp / (tp + fp + P)
  double positive2;    // sum over positives of (2 * negatives below + tied)^2: DeLong
  double negative2;    // sum over negatives of (2 * positives above + tied)^2
  int64_t ks_at;       // last row of the tie block where ks is reached first, -1: nowhere
  int64_t f1_at;       // the same for f1
} fr_clicks_sweep_sums;

// Sums over rows that need no order.  All float64.
enum {
  FR_CLICKS_WEIGHT,    // w
  FR_CLICKS_LABEL,     // w y
  FR_CLICKS_PROB,      // w p
  FR_CLICKS_LOSS,      // -w (y log p + (1 - y) log(1 - p)), p and 1 - p clipped to eps..1-eps
  FR_CLICKS_SQUARE,    // w (p - y)^2
  FR_CLICKS_ABSOLUTE,  // w |p - y|
  FR_CLICKS_SPREAD,    // w (y - centre)^2
  FR_CLICKS_POINT_SUMS
};
