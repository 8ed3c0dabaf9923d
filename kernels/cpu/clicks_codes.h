// What the bodies of the click metrics share: floats as integers in their order, and sums in eight lanes.
//
// Sorted rows are words: group | falling score code | label (lowest bit), so ascending words are groups, in each the
// scores descending.  Counts are integers; float64 sums are taken in the fixed order of the chunks that the binding
// cuts, whatever the threads.
#pragma once
#include "clicks_types.h"
#include "lanes.h"
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

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

typedef uint64_t u64s __attribute__((vector_size(8 * WIDE)));
typedef int32_t i32s __attribute__((vector_size(4 * WIDE)));
typedef uint32_t u32s __attribute__((vector_size(4 * WIDE)));
typedef Eight<i64s> i64x8;  // of comparisons: all ones, or 0
typedef Eight<u64s> u64x8;
typedef Eight<u32s> u32x8;

// Part by part: the compiler copies the whole in words, which the vectors that read it then wait for.
template <class Lanes>
FR_INLINE Lanes load8(const void *from) {
  Lanes v;
  FR_EACH __builtin_memcpy(&v.part[i], static_cast<const char *>(from) + i * sizeof v.part[i], sizeof v.part[i]);
  return v;
}
template <class Lanes>
FR_INLINE void store8(void *to, Lanes v) {
  FR_EACH __builtin_memcpy(static_cast<char *>(to) + i * sizeof v.part[i], &v.part[i], sizeof v.part[i]);
}
FR_INLINE u64x8 splat(uint64_t x) { u64x8 r; FR_EACH r.part[i] = x + u64s{}; return r; }

FR_INLINE u64x8 operator+(u64x8 a, uint64_t b) { return a + splat(b); }
FR_INLINE u64x8 operator-(u64x8 a, uint64_t b) { return a - splat(b); }
FR_INLINE u64x8 operator*(u64x8 a, uint64_t b) { return a * splat(b); }
FR_INLINE u64x8 operator&(u64x8 a, uint64_t b) { FR_EACH a.part[i] &= b; return a; }
FR_INLINE u64x8 operator|(u64x8 a, uint64_t b) { FR_EACH a.part[i] |= b; return a; }
FR_INLINE u64x8 operator>>(u64x8 a, int b) { FR_EACH a.part[i] >>= b; return a; }

FR_INLINE i64x8 operator>(f64x8 a, f64x8 b) { i64x8 r; FR_EACH r.part[i] = a.part[i] > b.part[i]; return r; }
FR_INLINE i64x8 operator==(f64x8 a, f64x8 b) { i64x8 r; FR_EACH r.part[i] = a.part[i] == b.part[i]; return r; }
FR_INLINE f64x8 where(i64x8 is, f64x8 yes, f64x8 no) {
  FR_EACH no.part[i] = is.part[i] ? yes.part[i] : no.part[i];
  return no;
}

FR_INLINE u64x8 bits_of(f64x8 x) { u64x8 r; FR_EACH r.part[i] = reinterpret_cast<u64s>(x.part[i]); return r; }
FR_INLINE f64x8 double_of(u64x8 b) { f64x8 r; FR_EACH r.part[i] = reinterpret_cast<f64s>(b.part[i]); return r; }
FR_INLINE f64x8 absolute(f64x8 x) { return double_of(bits_of(x) & (~0ull >> 1)); }

// What the compiler would do in halves, one by one, or through memory: integers below 2^31 as doubles, any as 64 bits,
// products of the latter, bounds, and loads of narrower types.
#if defined(FR_AVX512)
FR_INLINE f64s as_f64(u32s x) { return reinterpret_cast<f64s>(_mm512_cvtepi32_pd(reinterpret_cast<__m256i>(x))); }
FR_INLINE u64s as_u64(u32s x) { return reinterpret_cast<u64s>(_mm512_cvtepu32_epi64(reinterpret_cast<__m256i>(x))); }
FR_INLINE u64s product(u64s a, u64s b) {
  return reinterpret_cast<u64s>(_mm512_mul_epu32(reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
FR_INLINE f64s least(f64s a, f64s b) {
  return reinterpret_cast<f64s>(_mm512_min_pd(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b)));
}
FR_INLINE f64s most(f64s a, f64s b) {
  return reinterpret_cast<f64s>(_mm512_max_pd(reinterpret_cast<__m512d>(a), reinterpret_cast<__m512d>(b)));
}
FR_INLINE f64x8 load_as_f64(const float *x) { return {{reinterpret_cast<f64s>(_mm512_cvtps_pd(_mm256_loadu_ps(x)))}}; }
FR_INLINE f64x8 load_as_f64(const uint8_t *x) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(x));
  return {{reinterpret_cast<f64s>(_mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(bytes)))}};
}
#elif defined(FR_AVX2)
FR_INLINE f64s as_f64(u32s x) { return reinterpret_cast<f64s>(_mm256_cvtepi32_pd(reinterpret_cast<__m128i>(x))); }
FR_INLINE u64s as_u64(u32s x) { return reinterpret_cast<u64s>(_mm256_cvtepu32_epi64(reinterpret_cast<__m128i>(x))); }
FR_INLINE u64s product(u64s a, u64s b) {
  return reinterpret_cast<u64s>(_mm256_mul_epu32(reinterpret_cast<__m256i>(a), reinterpret_cast<__m256i>(b)));
}
FR_INLINE f64s least(f64s a, f64s b) {
  return reinterpret_cast<f64s>(_mm256_min_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b)));
}
FR_INLINE f64s most(f64s a, f64s b) {
  return reinterpret_cast<f64s>(_mm256_max_pd(reinterpret_cast<__m256d>(a), reinterpret_cast<__m256d>(b)));
}
FR_INLINE f64x8 load_as_f64(const float *x) {
  f64x8 r;
  FR_EACH r.part[i] = reinterpret_cast<f64s>(_mm256_cvtps_pd(_mm_loadu_ps(x + i * WIDE)));
  return r;
}
FR_INLINE f64x8 load_as_f64(const uint8_t *x) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(x));
  return {{reinterpret_cast<f64s>(_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(bytes))),
           reinterpret_cast<f64s>(_mm256_cvtepi32_pd(_mm_cvtepu8_epi32(_mm_srli_si128(bytes, 4))))}};
}
#elif defined(__SSE2__)
FR_INLINE __m128i low_half(u32s x) {
  int64_t bits;
  __builtin_memcpy(&bits, &x, 8);
  return _mm_cvtsi64_si128(bits);
}
FR_INLINE f64s as_f64(u32s x) { return reinterpret_cast<f64s>(_mm_cvtepi32_pd(low_half(x))); }
FR_INLINE u64s as_u64(u32s x) {
  return reinterpret_cast<u64s>(_mm_unpacklo_epi32(low_half(x), _mm_setzero_si128()));
}
FR_INLINE u64s product(u64s a, u64s b) {
  return reinterpret_cast<u64s>(_mm_mul_epu32(reinterpret_cast<__m128i>(a), reinterpret_cast<__m128i>(b)));
}
FR_INLINE f64s least(f64s a, f64s b) {
  return reinterpret_cast<f64s>(_mm_min_pd(reinterpret_cast<__m128d>(a), reinterpret_cast<__m128d>(b)));
}
FR_INLINE f64s most(f64s a, f64s b) {
  return reinterpret_cast<f64s>(_mm_max_pd(reinterpret_cast<__m128d>(a), reinterpret_cast<__m128d>(b)));
}
FR_INLINE f64x8 load_as_f64(const float *x) {
  f64x8 r;
  FR_EACH {
    const __m128 two = _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i *>(x + i * WIDE)));
    r.part[i] = reinterpret_cast<f64s>(_mm_cvtps_pd(two));
  }
  return r;
}
FR_INLINE f64x8 load_as_f64(const uint8_t *x) {
  const __m128i zero = _mm_setzero_si128(), bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i *>(x));
  const __m128i shorts = _mm_unpacklo_epi8(bytes, zero);
  const __m128i low = _mm_unpacklo_epi16(shorts, zero), high = _mm_unpackhi_epi16(shorts, zero);
  const __m128d parts[4] = {_mm_cvtepi32_pd(low), _mm_cvtepi32_pd(_mm_srli_si128(low, 8)), _mm_cvtepi32_pd(high),
                            _mm_cvtepi32_pd(_mm_srli_si128(high, 8))};
  f64x8 r;
  FR_EACH r.part[i] = reinterpret_cast<f64s>(parts[i]);
  return r;
}
#else
FR_INLINE f64s as_f64(u32s x) { return __builtin_convertvector(reinterpret_cast<i32s>(x), f64s); }
FR_INLINE u64s as_u64(u32s x) { return __builtin_convertvector(x, u64s); }
FR_INLINE u64s product(u64s a, u64s b) { return a * b; }
FR_INLINE f64s least(f64s a, f64s b) { return a < b ? a : b; }
FR_INLINE f64s most(f64s a, f64s b) { return a > b ? a : b; }
template <class T>
FR_INLINE f64x8 load_as_f64(const T *x) {
  double wide[LANES];
  for (int l = 0; l < LANES; ++l) wide[l] = static_cast<double>(x[l]);
  return load8<f64x8>(wide);
}
#endif
FR_INLINE f64x8 as_f64(u32x8 x) { f64x8 r; FR_EACH r.part[i] = as_f64(x.part[i]); return r; }
FR_INLINE u64x8 product(u32x8 a, u32x8 b) {
  u64x8 r;
  FR_EACH r.part[i] = product(as_u64(a.part[i]), as_u64(b.part[i]));
  return r;
}
FR_INLINE f64x8 load_as_f64(const double *x) { return load8<f64x8>(x); }

// Sums of probabilities that do not depend on their order: whole units of 2^-32, and of 2^-64 for what those leave.
// Adding SHIFT rounds to a whole number, which the low bits then hold; n rows leave n times its own bits in the sum.
constexpr double SHIFT = 6755399441055744.0;  // 1.5 * 2^52
FR_INLINE void split(f64x8 p, u64x8 &high, u64x8 &low) {
  const f64x8 scaled = p * 4294967296.0, whole = scaled + SHIFT;
  high = bits_of(whole);
  low = bits_of((scaled - (whole - SHIFT)) * 4294967296.0 + SHIFT);
}

FR_INLINE double fold(f64x8 lanes) {
  double v[LANES];
  store8(v, lanes);
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
FR_INLINE uint64_t fold(u64x8 lanes) {
  uint64_t v[LANES], sum = 0;
  store8(v, lanes);
  for (int l = 0; l < LANES; ++l) sum += v[l];
  return sum;
}

}  // namespace
