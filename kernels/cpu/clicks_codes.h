// What the bodies of the click metrics share: floats as integers in their order, and sums in eight lanes.
//
// Sorted rows are words: group | falling score code | label (lowest bit), so ascending words are groups, in each the
// scores descending.  Counts are integers; float64 sums are taken in the fixed order of the chunks that the binding
// cuts, whatever the threads.
#pragma once
#include "clicks_types.h"

namespace {

FR_INLINE uint32_t bits_of(float x) { uint32_t b; __builtin_memcpy(&b, &x, 4); return b; }
FR_INLINE uint64_t bits_of(double x) { uint64_t b; __builtin_memcpy(&b, &x, 8); return b; }
FR_INLINE double double_of(uint64_t b) { double x; __builtin_memcpy(&x, &b, 8); return x; }

// Unsigned integers in the order of the floats they stand for; -0.0 and 0.0 are one (x + 0.0 makes both 0.0).
FR_INLINE uint32_t ordered(float x) {
  const uint32_t b = bits_of(x + 0.0f);
  return b ^ ((0u - (b >> 31)) | 0x80000000u);
}
FR_INLINE uint64_t ordered(double x) {
  const uint64_t b = bits_of(x + 0.0);
  return b ^ ((0ull - (b >> 63)) | 0x8000000000000000ull);
}

FR_INLINE float unordered(uint32_t b) {
  b ^= (~(0u - (b >> 31))) | 0x80000000u;
  float x;
  __builtin_memcpy(&x, &b, 4);
  return x;
}
FR_INLINE double unordered(uint64_t b) { return double_of(b ^ (~(0ull - (b >> 63)) | 0x8000000000000000ull)); }

constexpr int64_t BLOCK = 512;
constexpr int LANES = 8;

// Eight lanes of float64, on every instruction set; masks of them are all ones or 0 in a lane.
#pragma GCC diagnostic ignored "-Wpsabi"  // about passing vectors to functions; all of these are inlined
typedef double f64x8 __attribute__((vector_size(64)));
typedef int64_t i64x8 __attribute__((vector_size(64)));
typedef uint64_t u64x8 __attribute__((vector_size(64)));
typedef int32_t i32x8 __attribute__((vector_size(32)));
typedef uint32_t u32x8 __attribute__((vector_size(32)));

template <class Vector>
FR_INLINE Vector load8(const void *from) {
  Vector v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
// What the compiler would convert one element at a time, or in halves.
#if defined(FR_AVX512)
FR_INLINE f64x8 as_f64(i32x8 x) { return reinterpret_cast<f64x8>(_mm512_cvtepi32_pd(reinterpret_cast<__m256i>(x))); }
FR_INLINE u64x8 as_u64(u32x8 x) { return reinterpret_cast<u64x8>(_mm512_cvtepu32_epi64(reinterpret_cast<__m256i>(x))); }
FR_INLINE f64x8 load_as_f64(const float *x) { return reinterpret_cast<f64x8>(_mm512_cvtps_pd(_mm256_loadu_ps(x))); }
FR_INLINE f64x8 load_as_f64(const uint8_t *x) {
  return as_f64(reinterpret_cast<i32x8>(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(x)))));
}
#else
FR_INLINE f64x8 as_f64(i32x8 x) { return __builtin_convertvector(x, f64x8); }
FR_INLINE u64x8 as_u64(u32x8 x) { return __builtin_convertvector(x, u64x8); }
template <class T>
FR_INLINE f64x8 load_as_f64(const T *x) {
  double wide[8];
  for (int l = 0; l < 8; ++l) wide[l] = static_cast<double>(x[l]);
  return load8<f64x8>(wide);
}
#endif
FR_INLINE f64x8 load_as_f64(const double *x) { return load8<f64x8>(x); }
FR_INLINE f64x8 splat(double x) { return f64x8{x, x, x, x, x, x, x, x}; }
FR_INLINE u64x8 bits_of(f64x8 x) { return reinterpret_cast<u64x8>(x); }
FR_INLINE f64x8 double_of(u64x8 b) { return reinterpret_cast<f64x8>(b); }
FR_INLINE f64x8 absolute(f64x8 x) { return double_of(bits_of(x) & (~0ull >> 1)); }

// Sums of probabilities that do not depend on their order: whole units of 2^-32, and of 2^-64 for what those leave.
// Adding SHIFT rounds to a whole number, which the low bits then hold; n rows leave n times its own bits in the sum.
constexpr double SHIFT = 6755399441055744.0;  // 1.5 * 2^52
FR_INLINE void split(f64x8 p, u64x8 &high, u64x8 &low) {
  const f64x8 scaled = p * 4294967296.0, whole = scaled + SHIFT;
  high = bits_of(whole);
  low = bits_of((scaled - (whole - SHIFT)) * 4294967296.0 + SHIFT);
}

FR_INLINE double fold(f64x8 v) { return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7])); }

}  // namespace
