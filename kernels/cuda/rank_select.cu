// Top-k of a given matrix, and the k best of given keys.
// variants: FR_SELECT=0
#include "select.cuh"

extern "C" {

// The k best of each share of each row of `scores` (q, n), as keys, in any order: found (q, shares, k), zeros behind.
//
// One block of FR_THREADS threads per row (x) and share (y).  It reads its share once and holds what may still matter in
// a buffer; when the next stretch might not fit, the k best stay and the k-th of them is the bar for what follows.
// `buffers` (q, shares, 2, room) with room >= k + 2 * stretch.
__global__ void __launch_bounds__(FR_THREADS, 4) fr_select_scores(const float *scores, fr_i64 n, fr_i64 k, fr_u64 *buffers,
                                                               fr_i64 room, fr_u64 *found) {
  __shared__ fr_room memory;
  const fr_i64 stretch = 4 * FR_THREADS, shares = gridDim.y;
  const fr_i64 begin = n * blockIdx.y / shares, end = n * (blockIdx.y + 1) / shares;
  const fr_i64 share = (fr_i64)blockIdx.x * shares + blockIdx.y;
  const float *row = scores + (fr_i64)blockIdx.x * n;
  fr_u64 *keys = buffers + share * 2 * room, *spare = keys + room;
  fr_u64 bar = 0;
  __shared__ fr_u32 held;
  if (threadIdx.x == 0) held = 0;
  __syncthreads();
  for (fr_i64 at = begin; at < end; at += stretch) {
    for (int j = 0; j < 4; ++j) {
      const fr_i64 i = at + j * FR_THREADS + threadIdx.x;
      const fr_u64 key = i < end ? fr_key(row[i], i) : 0;
      if (key > bar) keys[atomicAdd(&held, 1u)] = key;
    }
    __syncthreads();
    const fr_i64 now = held;
    __syncthreads();
    if (now + stretch > room) {
      bar = fr_divide(keys, now, k, memory);
      bar = fr_smallest(keys, now, bar, memory);
      const fr_i64 kept = fr_keep(keys, now, bar, spare, memory);
      fr_u64 *const other = keys;
      keys = spare, spare = other;
      if (threadIdx.x == 0) held = (fr_u32)kept;
      __syncthreads();
    }
  }
  const fr_i64 now = held;
  const fr_u64 least = fr_divide(keys, now, k, memory);
  const fr_i64 kept = fr_keep(keys, now, least, found + share * k, memory);
  for (fr_i64 i = kept + threadIdx.x; i < k; i += FR_THREADS) found[share * k + i] = 0;
}

// The k best of each query's keys, in order, as rows and scores.  A query's keys are keys[offsets[q]..offsets[q+1]), or
// `each` of them from q * each on where `offsets` is null.  scratch (q, wide), wide the power of two not below k.
__global__ void __launch_bounds__(FR_THREADS, 4) fr_finish(const fr_u64 *keys, const fr_i64 *offsets, fr_i64 each, fr_i64 k,
                                                        fr_u64 *scratch, fr_i64 wide, fr_i64 *rows, float *scores) {
  __shared__ fr_room memory;
  const fr_i64 query = blockIdx.x, base = offsets ? offsets[0] : 0;
  const fr_i64 begin = offsets ? offsets[query] - base : query * each, end = offsets ? offsets[query + 1] - base : begin + each;
  const fr_u64 least = fr_divide(keys + begin, end - begin, k, memory);
  const fr_i64 kept = fr_keep(keys + begin, end - begin, least, scratch + query * wide, memory);
  fr_write(scratch + query * wide, kept, wide, k, rows + query * k, scores + query * k, memory);
}
}
