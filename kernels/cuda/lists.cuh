// Per-query lists of item rows (CSR, sorted within a query), with 32- or 64-bit indices.
#ifndef FR_LISTS_CUH
#define FR_LISTS_CUH
#include "types.cuh"

__device__ __forceinline__ fr_i64 fr_entry(const void *indices, int wide, fr_i64 i) {
  return wide ? ((const fr_i64 *)indices)[i] : (fr_i64)((const int *)indices)[i];
}

// Whether `row` is among at(low) < ... < at(high - 1).
template <class Index, class At>
__device__ __forceinline__ bool fr_found(Index low, Index high, fr_i64 row, At at) {
  while (low < high) {
    const Index middle = low + (high - low) / 2;
    const fr_i64 here = at(middle);
    if (here == row) return true;
    if (here < row) low = middle + 1;
    else high = middle;
  }
  return false;
}

// Whether `row` is in the list of `query`; there are no lists where `indptr` is null.
__device__ __forceinline__ bool fr_listed(const fr_i64 *indptr, const void *indices, int wide, fr_i64 query, fr_i64 row) {
  if (!indptr) return false;
  return fr_found(indptr[query], indptr[query + 1], row, [&](fr_i64 i) { return fr_entry(indices, wide, i); });
}

// The list that entry `i` belongs to: the last of the `lists` that begins at or before it and is not empty there.
__device__ __forceinline__ fr_i64 fr_list_of(const fr_i64 *indptr, fr_i64 lists, fr_i64 i) {
  fr_i64 low = 0, high = lists;  // indptr[low] <= i < indptr[high]
  while (high - low > 1) {
    const fr_i64 middle = low + (high - low) / 2;
    if (indptr[middle] <= i) low = middle;
    else high = middle;
  }
  return low;
}
#endif
