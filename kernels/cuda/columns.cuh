// What columns of metrics are made of, by subtopic and otherwise.
#ifndef FR_COLUMNS_CUH
#define FR_COLUMNS_CUH

typedef long long fr_i64;

#define FR_WHOLE 0x7fffffffffffffffLL  // the cutoff of a metric without one

__device__ __forceinline__ fr_i64 fr_min(fr_i64 a, fr_i64 b) { return a < b ? a : b; }
__device__ __forceinline__ double fr_ratio(double a, double b) { return b > 0.0 ? a / b : 0.0; }

__device__ __forceinline__ double fr_power(double base, fr_i64 exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

#endif
