// Resampling as a matrix product, sums[r, m] = sum over q of weight[r, q] * values[q, m]: the random numbers and the order
// of additions of kernels/cpu/resample.isa.cpp, so the same bits.

typedef long long fr_i64;
typedef unsigned long long fr_u64;

#define FR_GOLDEN 0x9e3779b97f4a7c15ull
#define FR_BLOCK 128  // queries that are added up at a time

__device__ __forceinline__ fr_u64 fr_mix(fr_u64 z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}

__device__ __forceinline__ fr_u64 fr_stream(fr_u64 seed, fr_u64 replicate) {
  return fr_mix(fr_mix(seed + FR_GOLDEN) + (replicate + 1) * FR_GOLDEN);
}

// counts: (queries, replicates), zeros before.  A thread takes one draw of one replicate; neighbours the same draw of
// neighbouring replicates.
extern "C" __global__ void __launch_bounds__(256) fr_bootstrap_draw(fr_u64 seed, fr_u64 first, fr_i64 replicates,
                                                                    fr_i64 queries, unsigned *counts) {
  const fr_i64 stride = (fr_i64)gridDim.x * blockDim.x;
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < replicates * queries; i += stride) {
    const fr_i64 r = i % replicates;
    const fr_u64 z = fr_mix(fr_stream(seed, first + (fr_u64)r) + (fr_u64)(i / replicates + 1) * FR_GOLDEN);
    const fr_u64 n = (fr_u64)queries, q = ((z >> 32) * n + (((z & 0xffffffffu) * n) >> 32)) >> 32;
    atomicAdd(&counts[(fr_i64)q * replicates + r], 1u);
  }
}

// Sums of each FR_BLOCK queries: (blocks, columns, replicates).  A thread takes one block, column and replicate, and
// neighbours neighbouring replicates.  Without counts the weights are signs, a bit each.
extern "C" __global__ void __launch_bounds__(256) fr_block_sums(const double *values, fr_i64 queries, fr_i64 columns,
                                                                const unsigned *counts, fr_u64 seed, fr_u64 first,
                                                                fr_i64 replicates, double *parts) {
  const fr_i64 stride = (fr_i64)gridDim.x * blockDim.x, blocks = (queries + FR_BLOCK - 1) / FR_BLOCK;
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < replicates * columns * blocks; i += stride) {
    const fr_i64 r = i % replicates, c = i / replicates % columns, start = i / replicates / columns * FR_BLOCK;
    const fr_i64 end = start + FR_BLOCK < queries ? start + FR_BLOCK : queries;
    const fr_u64 stream = counts ? 0 : fr_stream(seed, first + (fr_u64)r);
    fr_u64 word = 0;
    double sum = 0.0;
    for (fr_i64 q = start; q < end; ++q) {
      if (!counts && q % 64 == 0) word = fr_mix(stream + (fr_u64)(q / 64 + 1) * FR_GOLDEN);
      const double weight = counts ? (double)counts[q * replicates + r] : (word >> (q % 64) & 1) ? -1.0 : 1.0;
      sum = __dadd_rn(sum, __dmul_rn(weight, values[q * columns + c]));
    }
    parts[i] = sum;
  }
}

// The blocks of each column and replicate, one after the other: sums (replicates, columns).
extern "C" __global__ void __launch_bounds__(256) fr_add_blocks(const double *parts, fr_i64 blocks, fr_i64 columns,
                                                                fr_i64 replicates, double *sums) {
  const fr_i64 stride = (fr_i64)gridDim.x * blockDim.x, all = replicates * columns;
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < all; i += stride) {
    double total = 0.0;
    for (fr_i64 b = 0; b < blocks; ++b) total = __dadd_rn(total, parts[b * all + i]);
    sums[i % replicates * columns + i / replicates] = total;
  }
}
