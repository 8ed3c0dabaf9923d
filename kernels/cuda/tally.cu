// What fr.evaluate asks of the values and counts of all queries, so that only a few numbers leave the card.

typedef long long fr_i64;
typedef unsigned long long fr_u64;
enum { FR_COUNT_RETRIEVED, FR_COUNT_RELEVANT, FR_COUNT_HITS, FR_COUNT_DUPLICATES, FR_COUNT_TIED, FR_COUNT_BAD, FR_COUNTS };

__device__ fr_u64 fr_warp_sum(fr_u64 v) {
  for (int d = 16; d; d /= 2) v += __shfl_down_sync(0xffffffffu, v, (unsigned)d);
  return v;
}

// totals: missing, empty, duplicates, tied (from 0), the first query with a fault (from -1).  Integers, so that the
// order in which blocks come does not matter.
extern "C" __global__ void __launch_bounds__(256) fr_rank_tally(const int *counts, fr_i64 queries, fr_u64 *totals) {
  fr_u64 missing = 0, empty = 0, duplicates = 0, tied = 0, bad = ~0ull;
  for (fr_i64 q = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; q < queries; q += (fr_i64)gridDim.x * blockDim.x) {
    const int *row = counts + q * FR_COUNTS;
    missing += row[FR_COUNT_RETRIEVED] == 0;
    empty += row[FR_COUNT_RELEVANT] == 0;
    duplicates += (fr_u64)row[FR_COUNT_DUPLICATES];
    tied += (fr_u64)row[FR_COUNT_TIED];
    if (row[FR_COUNT_BAD] != 0 && (fr_u64)q < bad) bad = (fr_u64)q;
  }
  missing = fr_warp_sum(missing);
  empty = fr_warp_sum(empty);
  duplicates = fr_warp_sum(duplicates);
  tied = fr_warp_sum(tied);
  if (bad != ~0ull) atomicMin(&totals[4], bad);
  if (threadIdx.x % 32 == 0) {
    atomicAdd(&totals[0], missing);
    atomicAdd(&totals[1], empty);
    atomicAdd(&totals[2], duplicates);
    atomicAdd(&totals[3], tied);
  }
}

// Sums of each column over every `each` rows, in order of row, without NaN, whose number is added to `undefined`.
// sums: (columns, blocks).  A thread takes one column of one block; neighbours take neighbouring columns.
extern "C" __global__ void __launch_bounds__(256) fr_column_sums(const double *values, fr_i64 rows, fr_i64 columns,
                                                                 fr_i64 each, double *sums, fr_u64 *undefined) {
  const fr_i64 blocks = (rows + each - 1) / each;
  const fr_i64 stride = (fr_i64)gridDim.x * blockDim.x;
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < blocks * columns; i += stride) {
    const fr_i64 block = i / columns, c = i % columns, from = block * each, to = from + each < rows ? from + each : rows;
    double sum = 0.0;
    fr_u64 missing = 0;
    for (fr_i64 r = from; r < to; ++r) {
      const double v = values[r * columns + c];
      if (v == v) sum += v;
      else ++missing;
    }
    sums[c * blocks + block] = sum;
    if (missing) atomicAdd(&undefined[c], missing);
  }
}
