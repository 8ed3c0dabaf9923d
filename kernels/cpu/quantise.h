// Codes of one byte, and float32 numbers rounded outwards from float64, for those who pack items and encode queries.
#pragma once
#include <math.h>

#include "canonical.h"

namespace {

FR_INLINE float float_below(double x) {
  const float f = float(x);
  return double(f) > x ? nextafterf(f, -INFINITY) : f;
}
FR_INLINE float float_above(double x) {
  const float f = float(x);
  return double(f) < x ? nextafterf(f, INFINITY) : f;
}

FR_INLINE float largest_of(const float *x, int64_t n) {
  float top = 0.0f;
  int64_t t = 0;
#if defined(FR_AVX512)
  __m512 most = _mm512_setzero_ps();
  for (; t + 16 <= n; t += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(x + t)));
  if (t < n) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_maskz_loadu_ps(__mmask16((1u << (n - t)) - 1), x + t)));
  return _mm512_reduce_max_ps(most);
#elif defined(FR_AVX2)
  const __m256 sign = _mm256_set1_ps(-0.0f);
  __m256 most = _mm256_setzero_ps();
  for (; t + 8 <= n; t += 8) most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(x + t)));
  float lanes[8];
  _mm256_storeu_ps(lanes, most);
  for (int j = 0; j < 8; ++j) top = lanes[j] > top ? lanes[j] : top;
#endif
  for (; t < n; ++t) top = fabsf(x[t]) > top ? fabsf(x[t]) : top;
  return top;
}

// Codes + 128 of n values into `code`, which has room for n rounded up to 8; what fills up is code 0.  Returns the sum
// of squares of what the codes lose.  Any rounding would do, for the residual is that of the code chosen; all
// instruction sets take the nearest, ties to even.
FR_INLINE double quantise(const float *x, int64_t n, double factor, double steps, double scale, uint8_t *code) {
#if defined(FR_AVX512)
  const __m512d f = _mm512_set1_pd(factor), s = _mm512_set1_pd(steps), unit = _mm512_set1_pd(scale);
  const __m512d high = _mm512_set1_pd(127.0), low = _mm512_set1_pd(-127.0);
  __m512d sum = _mm512_setzero_pd();
  for (int64_t t = 0; t < n; t += 8) {
    const __m512d v = t + 8 <= n ? widen(x + t) : widen_tail(x + t, n - t);
    __m512d c = _mm512_roundscale_pd(_mm512_mul_pd(v, s), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    c = _mm512_max_pd(_mm512_min_pd(c, high), low);
    const __m512d e = _mm512_fnmadd_pd(c, unit, _mm512_mul_pd(v, f));
    sum = _mm512_fmadd_pd(e, e, sum);
    const __m256i whole = _mm256_add_epi32(_mm512_cvtpd_epi32(c), _mm256_set1_epi32(128));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(code + t), _mm256_cvtepi32_epi8(whole));
  }
  return tree(sum);
#elif defined(FR_AVX2)
  const __m256d f = _mm256_set1_pd(factor), s = _mm256_set1_pd(steps), unit = _mm256_set1_pd(scale);
  const __m256d high = _mm256_set1_pd(127.0), low = _mm256_set1_pd(-127.0);
  __m256d sums[2] = {_mm256_setzero_pd(), _mm256_setzero_pd()};
  float tail[8];
  for (int64_t t = 0; t < n; t += 8) {
    const float *from = x + t;
    if (t + 8 > n) pad(from, n - t, tail), from = tail;
    __m128i whole[2];
    for (int h = 0; h < 2; ++h) {
      const __m256d v = widen(from + 4 * h);
      __m256d c = _mm256_round_pd(_mm256_mul_pd(v, s), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      c = _mm256_max_pd(_mm256_min_pd(c, high), low);
      const __m256d e = _mm256_fnmadd_pd(c, unit, _mm256_mul_pd(v, f));
      sums[h] = _mm256_fmadd_pd(e, e, sums[h]);
      whole[h] = _mm256_cvtpd_epi32(c);
    }
    const __m128i shifted = _mm_add_epi16(_mm_packs_epi32(whole[0], whole[1]), _mm_set1_epi16(128));
    _mm_storel_epi64(reinterpret_cast<__m128i *>(code + t), _mm_packus_epi16(shifted, shifted));
  }
  return tree(sums[0], sums[1]);
#else
  double sums[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t t = 0; t < n; t += 8) {
    for (int j = 0; j < 8; ++j) {
      const double x64 = t + j < n ? double(x[t + j]) : 0.0;
      double c = (x64 * steps + 0x1.8p52) - 0x1.8p52;
      c = c > 127.0 ? 127.0 : c < -127.0 ? -127.0 : c;
      const double e = x64 * factor - c * scale;
      sums[j] += e * e;
      code[t + j] = uint8_t(int32_t(c) + 128);
    }
  }
  return tree(sums);
#endif
}

}  // namespace
