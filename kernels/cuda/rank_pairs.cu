// Canonical scores of given pairs, and of every query with every item; keys of candidates.
// variants: FR_ITEM=0,1,2
#include "canonical.cuh"
#include "lists.cuh"
#include "select.cuh"

extern "C" {

// out[i] = the score of pair i: (rows[i], cols[i]), or (i / n, i % n) where `rows` is null.  `count` pairs, items (n, d)
// with rows `stride` elements apart.  Eight lanes a pair.
__global__ void __launch_bounds__(FR_THREADS) fr_score_pairs(const float *queries, const fr_item *items, fr_i64 n, fr_i64 d,
                                                             fr_i64 stride, int metric, const float *bias,
                                                             const fr_i64 *rows, const fr_i64 *cols, fr_i64 count,
                                                             float *out) {
  const fr_i64 step = (fr_i64)gridDim.x * (FR_THREADS / 8);
  for (fr_i64 first = (fr_i64)blockIdx.x * (FR_THREADS / 8) + threadIdx.x / 32 * 4; first < count; first += step) {
    const fr_i64 own = first + threadIdx.x % 32 / 8, i = own < count ? own : first;  // all lanes work, some for nothing
    const fr_i64 query = rows ? rows[i] : i / n, item = rows ? cols[i] : i % n;
    const float score = fr_canonical(queries + query * d, items + item * stride, d, metric, bias ? bias + item : nullptr);
    if (own < count && threadIdx.x % 8 == 0) out[own] = score;
  }
}

// keys[i] = the key of candidate i, 0 where it is excluded or scores less than `floor`.  Candidates of query q are
// indices[offsets[q]..offsets[q+1]); where `offsets` is null each query has all `each` of them, and keys are (q, each).
// The first query is number `first` of the exclusion lists.
__global__ void __launch_bounds__(FR_THREADS) fr_candidate_keys(const float *queries, fr_i64 count, const fr_item *items,
                                                                fr_i64 d, fr_i64 stride, int metric, const float *bias,
                                                                const fr_i64 *offsets, const fr_i64 *indices, fr_i64 each,
                                                                const fr_i64 *banned, const void *listed, int wide,
                                                                fr_i64 first, float floor, fr_u64 *keys) {
  const fr_i64 step = (fr_i64)gridDim.x * (FR_THREADS / 8), base = offsets ? offsets[0] : 0;
  const fr_i64 all = offsets ? offsets[count] - base : count * each;
  for (fr_i64 at = (fr_i64)blockIdx.x * (FR_THREADS / 8) + threadIdx.x / 32 * 4; at < all; at += step) {
    const fr_i64 own = at + threadIdx.x % 32 / 8, i = own < all ? own : at;
    const fr_i64 query = offsets ? fr_list_of(offsets, count, base + i) : i / each;
    const fr_i64 row = offsets ? indices[base + i] : indices[i % each];
    const float score = fr_canonical(queries + query * d, items + row * stride, d, metric, bias ? bias + row : nullptr);
    if (own < all && threadIdx.x % 8 == 0)
      keys[own] = score >= floor && !fr_listed(banned, listed, wide, first + query, row) ? fr_key(score, row) : 0;
  }
}
}
