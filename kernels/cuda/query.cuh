// A query under way: its units, its bounds and its threshold.  Names and proofs: docs/adr/0011-int8-screen.md.
#ifndef FR_QUERY_CUH
#define FR_QUERY_CUH
#include "select.cuh"

#define FR_SLACK 0x1p-20f   // relative: sixteen times the rounding of the float expressions that use it
#define FR_FLOOR 0x1p-100f  // absolute: underflow
#define FR_SLACK64 1e-11    // relative: the canonical float64 sum, d <= 16,384 terms
#define FR_NEVER 0x1p126f   // a cut that nothing reaches, and that arithmetic does not turn into NaN

enum { FR_SCREEN = 0, FR_ZERO = 1, FR_EXHAUSTIVE = 2, FR_EMPTY = 3 };  // kinds of queries
// Fields of a panel's record (kernels/cpu/ranking_types.h); the last record holds the largest of all.
enum { FR_SCALE = 0, FR_RESIDUAL = 1, FR_NORM = 2, FR_BETA_MAX = 3, FR_BETA_ABS = 4, FR_BETA_TAIL = 5, FR_INVERSE = 6, FR_NORM_TAIL = 7 };
enum { FR_PANEL = 32, FR_META = 8, FR_ALL_BETA = 0, FR_ALL_NORM = 1 };
#define FR_PADDING 0xffffffffu  // a position without an item

struct fr_query {
  double shift, up, down;  // screened value = canonical * down + shift; up = 1 / down
  fr_u64 bar;              // the smallest of the k best keys, where there are k
  float tau;               // canonical: k items are known to score at least this (or it is min_score)
  float cut;               // screened units: an item below it cannot be among the k best
  float reach;             // >= |w|, w the screened query
  float coded, residual;   // >= |step * codes|, >= |w - step * codes|; 0 and the float screen's error without codes
  float step;              // one step of the query's integer codes; 0 without them
  float beta;              // multiplier of the items' additive terms
  int kind;
  int exact;               // entries are scored as they come: bounds are too wide, or items do not stay on the card
  fr_u32 held;             // entries that were looked at
  fr_u32 found;            // canonical keys, at most k
  fr_u32 rescored;         // items scored canonically, for those who ask
};
static_assert(sizeof(fr_query) == 80, "fastrec/ranking/device_index.py allocates them");

// The bfloat16 nearest to x, |x| <= 1, as its bits; 0 for what is so small that products of it might be flushed.
__device__ __forceinline__ unsigned short fr_bf16(double x) {
  if (fabs(x) < 0x1p-60) return 0;
  const fr_u32 bits = __float_as_uint((float)x);
  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}
__device__ __forceinline__ double fr_of_bf16(unsigned short bits) { return (double)__uint_as_float((fr_u32)bits << 16); }

__device__ __forceinline__ float fr_lowered(float cut) { return cut - 2.0f * FR_SLACK * fabsf(cut) - 2.0f * FR_FLOOR; }

// Bound of |screened value - exact value| in a panel.
__device__ __forceinline__ float fr_error(const fr_query &q, const float *meta, float beta_error) {
  return q.coded * meta[FR_RESIDUAL] + q.residual * meta[FR_NORM] + FR_FLOOR +
         (beta_error * (q.beta * meta[FR_BETA_ABS]) + (q.beta != 0.0f ? 2.0f * (q.step * meta[FR_SCALE]) : 0.0f));
}

// An entry: the lower bound of the screened value, and the position of the item.
__device__ __forceinline__ fr_u64 fr_entry_of(float low, fr_i64 position) {
  return (fr_u64)fr_ordered(low) << 32 | (fr_u64)(fr_u32)position;
}
__device__ __forceinline__ float fr_entry_low(fr_u64 entry) { return fr_from_ordered((fr_u32)(entry >> 32)); }
__device__ __forceinline__ fr_i64 fr_entry_position(fr_u64 entry) { return (fr_i64)(entry & 0xffffffffu); }

__device__ __forceinline__ void fr_append(fr_i64 query, float low, fr_i64 position, fr_u32 *counts, fr_u64 *entries, fr_i64 cap) {
  const fr_u32 slot = atomicAdd(counts + query, 1u);  // a count beyond `cap` says that entries were lost
  if (slot < cap) entries[query * cap + slot] = fr_entry_of(low, position);
}

// Bound of the canonical score's own float64 rounding, in screened units.
__device__ __forceinline__ double fr_score_slack(const fr_query &q, const float *all) {
  return FR_SLACK64 * ((double)q.reach * all[FR_ALL_NORM] + (double)q.beta * all[FR_ALL_BETA] + fabs(q.shift));
}
// k items score at least tau: below what screened value is an item's score certainly less?
__device__ __forceinline__ void fr_raise(fr_query &q, float tau, const float *all) {
  if (!(tau > q.tau)) return;
  q.tau = tau;
  const double x = (double)nextafterf(tau, -FR_INFINITY) * q.down;
  q.cut = __double2float_rd(x + q.shift - FR_SLACK64 * fabs(x) - fr_score_slack(q, all) - 0x1p-140);
}
// The canonical score that an item with a screened value of at least `low` certainly reaches.
__device__ __forceinline__ float fr_certain(const fr_query &q, float low, const float *all) {
  const double x = (double)low - q.shift;
  return __double2float_rd((x - FR_SLACK64 * fabs(x) - fr_score_slack(q, all)) * q.up);
}
#endif
