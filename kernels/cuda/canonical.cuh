// The canonical score, as kernels/cpu/canonical.h defines it, by eight neighbouring lanes of a warp.
//
// There, a sum over dimensions runs in float64 in eight lanes, lane j taking dimensions j, j + 8, ... in order, and ends
// as ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)).  Here, lane j is a lane.  Exchanging with the lane 4, 2 and 1 away adds the
// same pairs in the same order (addition commutes, to the bit), so the sum has the same bits and all eight hold it.
// Products of float32 are exact in float64, so that fused and separate multiply-adds agree; squares of differences are
// rounded first, and the intrinsics keep the compiler from fusing them.
#ifndef FR_CANONICAL_CUH
#define FR_CANONICAL_CUH
#include "types.cuh"

#ifndef FR_ITEM
#define FR_ITEM 0
#endif
#if FR_ITEM == 0  // float32
typedef float fr_item;
__device__ __forceinline__ float fr_value(float x) { return x; }
#elif FR_ITEM == 1  // float16, as its bits
typedef unsigned short fr_item;
__device__ __forceinline__ float fr_value(unsigned short h) {
  const fr_u32 sign = (fr_u32)(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
  if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | (mantissa << 13));
  if (exponent) return __uint_as_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
  const float small = (float)mantissa * 5.9604644775390625e-8f;  // 2^-24
  return sign ? -small : small;
}
#else  // bfloat16, as its bits
typedef unsigned short fr_item;
__device__ __forceinline__ float fr_value(unsigned short h) { return __uint_as_float((fr_u32)h << 16); }
#endif

__device__ __forceinline__ double fr_tree(double l) {
  l = __dadd_rn(l, __shfl_xor_sync(FR_ALL, l, 4));
  l = __dadd_rn(l, __shfl_xor_sync(FR_ALL, l, 2));
  return __dadd_rn(l, __shfl_xor_sync(FR_ALL, l, 1));
}

// Score of `query` and `item`, both d long.  Every lane of the warp must call; each eight of them have one pair.
__device__ __forceinline__ float fr_canonical(const float *query, const fr_item *item, fr_i64 d, int metric,
                                              const float *bias) {
  double score = 0.0;
  if (metric == FR_L2) {
    for (fr_i64 t = threadIdx.x & 7; t < d; t += 8) {
      const double e = __dsub_rn((double)query[t], (double)fr_value(item[t]));
      score = __dadd_rn(score, __dmul_rn(e, e));
    }
    score = -fr_tree(score);
  } else if (metric == FR_DOT) {
    for (fr_i64 t = threadIdx.x & 7; t < d; t += 8)
      score = __fma_rn((double)query[t], (double)fr_value(item[t]), score);
    score = fr_tree(score);
  } else {
    double of_query = 0.0, of_item = 0.0;
    for (fr_i64 t = threadIdx.x & 7; t < d; t += 8) {
      const double u = query[t], x = fr_value(item[t]);
      score = __fma_rn(u, x, score);
      of_query = __fma_rn(u, u, of_query);
      of_item = __fma_rn(x, x, of_item);
    }
    score = fr_tree(score);
    const double norms = __dmul_rn(__dsqrt_rn(fr_tree(of_query)), __dsqrt_rn(fr_tree(of_item)));
    if (score == score) score = norms == 0.0 ? 0.0 : __ddiv_rn(score, norms);
  }
  if (bias) score = __dadd_rn(score, (double)*bias);
  return __fadd_rn(__double2float_rn(score), 0.0f);  // -0 becomes 0
}
#endif
