// Selecting and sorting keys, by a block of FR_THREADS threads that all take part.
//
// A key holds a score and a row, so that a larger key comes earlier in the public order: score descending, then row
// ascending.  Keys of a query all differ, so every way to select and to merge gives the same answer.  0 is no key.
#ifndef FR_SELECT_CUH
#define FR_SELECT_CUH
#include "types.cuh"

enum { FR_BINS = 2048, FR_TILE = 2048 };  // radix bins (11 bits); keys sorted at once in shared memory

struct fr_room {  // shared memory of a block that selects or sorts
  union {
    fr_u32 bins[FR_BINS];
    fr_u64 tile[FR_TILE];
  };
  fr_u32 sums[FR_THREADS / 32];
  fr_u64 ones[FR_THREADS / 32], any[FR_THREADS / 32];
  fr_u32 bin, above, inside;
  fr_u32 count;
  fr_u64 least;
};

// Bits of a float as an unsigned integer of the same order (no NaN; -0 was made 0).
__device__ __forceinline__ fr_u32 fr_ordered(float x) {
  const fr_u32 bits = __float_as_uint(x);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float fr_from_ordered(fr_u32 u) {
  return __uint_as_float(u & 0x80000000u ? u & 0x7fffffffu : ~u);
}
__device__ __forceinline__ fr_u64 fr_key(float score, fr_i64 row) {  // NaN is no key
  return score != score ? 0 : (fr_u64)fr_ordered(__fadd_rn(score, 0.0f)) << 32 | (fr_u32)~(fr_u32)row;
}
__device__ __forceinline__ float fr_key_score(fr_u64 key) { return fr_from_ordered((fr_u32)(key >> 32)); }
__device__ __forceinline__ fr_i64 fr_key_row(fr_u64 key) { return (fr_i64)(fr_u32)~(fr_u32)key; }

// A number that k of the n keys reach and no more (k >= 1): at most the k-th largest of them.  Where there are not more
// than k, it is 1, the smallest key there can be.
//
// Radix selection, 11 bits at a time from the first that differs on (scores of one query share sign and exponent): count
// the keys of each bin among those that share the prefix found so far, step into the bin that holds the k-th, stop when
// all of it is wanted.
__device__ inline fr_u64 fr_divide(const fr_u64 *keys, fr_i64 n, fr_i64 k, fr_room &room) {
  const int thread = threadIdx.x, lane = thread & 31, warp = thread >> 5;
  if (n <= k) return 1;
  fr_u64 ones = ~0ull, any = 0;  // bits that all keys have, that one has
  fr_u32 here = 0;
#pragma unroll 4
  for (fr_i64 i = thread; i < n; i += FR_THREADS) {
    const fr_u64 key = keys[i];
    if (key) ones &= key, any |= key, ++here;
  }
  for (int other = 16; other; other /= 2) {
    ones &= __shfl_xor_sync(FR_ALL, ones, other);
    any |= __shfl_xor_sync(FR_ALL, any, other);
    here += __shfl_xor_sync(FR_ALL, here, other);
  }
  if (lane == 0) room.ones[warp] = ones, room.any[warp] = any, room.sums[warp] = here;
  __syncthreads();
  here = 0;
  for (int w = 0; w < FR_THREADS / 32; ++w) ones &= room.ones[w], any |= room.any[w], here += room.sums[w];
  __syncthreads();
  if (here <= k) return 1;
  int left = 64 - __clzll((fr_i64)(ones ^ any));  // keys differ, so there is a bit that does
  fr_u64 prefix = left == 64 ? 0 : any >> left;
  fr_u32 want = (fr_u32)k;
  while (left > 0) {
    const int width = left < 11 ? left : 11, shift = left - width;
    for (int i = thread; i < FR_BINS; i += FR_THREADS) room.bins[i] = 0;
    __syncthreads();
#pragma unroll 4
    for (fr_i64 i = thread; i < n; i += FR_THREADS) {
      const fr_u64 key = keys[i];
      if (key && (left == 64 || key >> left == prefix)) atomicAdd(&room.bins[key >> shift & ((1u << width) - 1)], 1u);
    }
    __syncthreads();
    // Thread t looks at eight bins, the first thread at the largest: how many keys lie in them, and in all before?
    const int per = FR_BINS / FR_THREADS, top = FR_BINS - 1 - thread * per;
    fr_u32 own = 0;
    for (int i = 0; i < per; ++i) own += room.bins[top - i];
    fr_u32 before = own;
    for (int step = 1; step < 32; step *= 2) {
      const fr_u32 other = __shfl_up_sync(FR_ALL, before, step);
      if (lane >= step) before += other;
    }
    if (lane == 31) room.sums[warp] = before;
    __syncthreads();
    before -= own;
    for (int w = 0; w < warp; ++w) before += room.sums[w];
    if (before < want && want <= before + own)
      for (int i = 0; i < per; ++i) {
        const fr_u32 here = room.bins[top - i];
        if (want <= before + here) {
          room.bin = (fr_u32)(top - i), room.above = before, room.inside = here;
          break;
        }
        before += here;
      }
    __syncthreads();
    const fr_u32 bin = room.bin, inside = room.inside;
    want -= room.above;
    left = shift;
    prefix = prefix << width | bin;
    __syncthreads();  // the room may be used again
    if (inside == want) return prefix << left;
  }
  return prefix;
}

// Copy the keys from `least` on to `to`, in any order; returns how many.  `to` must not overlap `keys`.
__device__ inline fr_i64 fr_keep(const fr_u64 *keys, fr_i64 n, fr_u64 least, fr_u64 *to, fr_room &room) {
  if (threadIdx.x == 0) room.count = 0;
  __syncthreads();
  for (fr_i64 i = threadIdx.x; i < n; i += FR_THREADS) {
    const fr_u64 key = keys[i];
    if (key >= least) to[atomicAdd(&room.count, 1u)] = key;
  }
  __syncthreads();
  const fr_i64 kept = room.count;
  __syncthreads();
  return kept;
}

// The smallest of the keys from `from` on; all ones where there is none.
__device__ inline fr_u64 fr_smallest(const fr_u64 *keys, fr_i64 n, fr_u64 from, fr_room &room) {
  if (threadIdx.x == 0) room.least = ~0ull;
  __syncthreads();
  fr_u64 least = ~0ull;
  for (fr_i64 i = threadIdx.x; i < n; i += FR_THREADS)
    if (keys[i] >= from && keys[i] < least) least = keys[i];
  if (least != ~0ull) atomicMin(&room.least, least);
  __syncthreads();
  least = room.least;
  __syncthreads();
  return least;
}

// Move the keys for which `stays` holds to the front; returns how many.  Four keys a thread at a time, whose tests wait
// for memory together.
template <class Test>
__device__ inline fr_i64 fr_filter(fr_u64 *keys, fr_i64 n, Test stays, fr_room &room) {
  enum { EACH = 4 };
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  fr_i64 kept = 0;
  for (fr_i64 at = 0; at < n; at += EACH * FR_THREADS) {
    fr_u64 key[EACH];
    bool keep[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      const fr_i64 i = at + j * FR_THREADS + threadIdx.x;
      key[j] = i < n ? keys[i] : 0;
    }
    fr_u32 own = 0, votes[EACH];
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      keep[j] = key[j] != 0 && stays(key[j]);
      votes[j] = __ballot_sync(FR_ALL, keep[j]);
      own += __popc(votes[j]);
    }
    if (lane == 0) room.sums[warp] = own;
    __syncthreads();  // all have read theirs, too
    fr_i64 to = kept;
    for (int w = 0; w < FR_THREADS / 32; ++w) {
      if (w < warp) to += room.sums[w];
      kept += room.sums[w];
    }
#pragma unroll
    for (int j = 0; j < EACH; ++j) {
      if (keep[j]) keys[to + __popc(votes[j] & ((1u << lane) - 1))] = key[j];
      to += __popc(votes[j]);
    }
    __syncthreads();
  }
  return kept;
}

__device__ __forceinline__ void fr_exchange(fr_u64 *keys, fr_i64 i, fr_i64 stride, fr_i64 size, fr_i64 offset) {
  const fr_i64 low = 2 * i - (i & (stride - 1)), high = low + stride;
  const fr_u64 a = keys[low], b = keys[high];
  if ((a < b) == (((low + offset) & size) == 0)) keys[low] = b, keys[high] = a;
}

// Sort `size` keys (a power of two, in global memory) in descending order: bitonic, by tiles in shared memory.
__device__ inline void fr_sort(fr_u64 *keys, fr_i64 all, fr_room &room) {
  const fr_i64 tile = all < FR_TILE ? all : (fr_i64)FR_TILE;
  for (fr_i64 size = tile;; size *= 2) {
    for (fr_i64 stride = size / 2; stride >= tile && size > tile; stride /= 2) {
      for (fr_i64 i = threadIdx.x; i < all / 2; i += FR_THREADS) fr_exchange(keys, i, stride, size, 0);
      __syncthreads();
    }
    for (fr_i64 begin = 0; begin < all; begin += tile) {
      for (fr_i64 i = threadIdx.x; i < tile; i += FR_THREADS) room.tile[i] = keys[begin + i];
      __syncthreads();
      for (fr_i64 inner = size == tile ? 2 : size; inner <= size; inner *= 2)
        for (fr_i64 stride = (inner < tile ? inner : tile) / 2; stride > 0; stride /= 2) {
          for (fr_i64 i = threadIdx.x; i < tile / 2; i += FR_THREADS) fr_exchange(room.tile, i, stride, inner, begin);
          __syncthreads();
        }
      for (fr_i64 i = threadIdx.x; i < tile; i += FR_THREADS) keys[begin + i] = room.tile[i];
      __syncthreads();
    }
    if (size >= all) return;
  }
}

// Write the best of `n` keys, `n` <= `wide` of `scratch` (the power of two not below k), as the answer of one query.
__device__ inline void fr_write(fr_u64 *scratch, fr_i64 n, fr_i64 wide, fr_i64 k, fr_i64 *rows, float *scores, fr_room &room) {
  for (fr_i64 i = n + threadIdx.x; i < wide; i += FR_THREADS) scratch[i] = 0;
  __syncthreads();
  fr_sort(scratch, wide, room);
  for (fr_i64 i = threadIdx.x; i < k; i += FR_THREADS) {
    const fr_u64 key = i < n ? scratch[i] : 0;
    rows[i] = key ? fr_key_row(key) : -1;
    scores[i] = key ? fr_key_score(key) : -FR_INFINITY;
  }
  __syncthreads();
}
#endif
