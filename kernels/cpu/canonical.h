// The canonical score: what the public scores are, on every path and device.
//
// Inputs are float32 values (float16 and bfloat16 are exact in it).  A sum over dimensions runs in float64 in eight
// lanes: lane j takes dimensions j, j + 8, j + 16, ... in order; then ((l0+l4)+(l2+l6)) + ((l1+l5)+(l3+l7)).  For dot
// products every term is exact in float64 (24 + 24 bits), so fused and separate multiply-adds agree; squares of
// differences are rounded once, and never fused.
//   dot      float32( sum(u*i) + bias )
//   cosine   float32( sum(u*i) / (sqrt(sum(u*u)) * sqrt(sum(i*i))) + bias ), the quotient 0 where a norm is 0
//   l2       float32( -sum((u-i)^2) + bias )
// Negative zero becomes zero.  NaN stays NaN.
#pragma once
#include <math.h>
#include <string.h>

#include "ranking_types.h"

namespace {

FR_INLINE float half_to_float(uint16_t h) {
  const uint32_t sign = uint32_t(h & 0x8000u) << 16, exponent = (h >> 10) & 31u, mantissa = h & 0x3ffu;
  uint32_t bits;
  float value;
  if (exponent == 31) {
    bits = sign | 0x7f800000u | (mantissa << 13);
  } else if (exponent) {
    bits = sign | ((exponent + 112) << 23) | (mantissa << 13);
  } else {
    value = float(mantissa) * 0x1p-24f;
    return sign ? -value : value;
  }
  memcpy(&value, &bits, 4);
  return value;
}

// Row `row` as d floats: a view where the matrix is float32, else converted into `scratch`.
FR_INLINE const float *item_row(const fr_items &items, int64_t row, float *scratch) {
  if (items.dtype == FR_F32) return static_cast<const float *>(items.data) + row * items.stride;
  const uint16_t *source = static_cast<const uint16_t *>(items.data) + row * items.stride;
  int64_t t = 0;
  if (items.dtype == FR_BF16) {
    for (; t < items.d; ++t) {
      const uint32_t bits = uint32_t(source[t]) << 16;
      memcpy(scratch + t, &bits, 4);
    }
    return scratch;
  }
#if defined(FR_AVX2)
  for (; t + 8 <= items.d; t += 8)
    _mm256_storeu_ps(scratch + t, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(source + t))));
#endif
  for (; t < items.d; ++t) scratch[t] = half_to_float(source[t]);
  return scratch;
}

// Where a row begins, as a number: a row that is only asked for need not exist.
FR_INLINE uintptr_t address(const fr_items &items, int64_t row) {
  return reinterpret_cast<uintptr_t>(items.data) + uint64_t(row) * uint64_t(items.stride * (items.dtype == FR_F32 ? 4 : 2));
}

// Ask for a row, or its beginning, ahead of its use: what is scored lies in no order that the hardware foresees.
// LOCALITY is __builtin_prefetch's: 3 brings it into the first cache, 2 into the second, where more requests may be open.
// All its lines: NumPy's matrices begin 16 bytes into a line, so 256 bytes lie in five of them.
template <int LOCALITY = 3>
FR_INLINE void fetch(const fr_items &items, int64_t row) {
#if defined(__GNUC__)
  const int64_t bytes = items.d * (items.dtype == FR_F32 ? 4 : 2);
  const uintptr_t data = address(items, row);
  const uintptr_t end = data + (bytes < 2048 ? bytes : 2048);
  for (uintptr_t line = data & ~uintptr_t(63); line < end; line += 64)
    __builtin_prefetch(reinterpret_cast<const char *>(line), 0, LOCALITY);
#else
  (void)items, (void)row;
#endif
}

// Rows asked for before they are scored where nothing but memory takes time.  The first line goes ahead of the rest:
// it finds the page, and the others, asked for together, then wait for nothing else.
enum { FR_AHEAD = 32, FR_EARLY = 64 };
FR_INLINE void touch(const fr_items &items, int64_t row) {
#if defined(__GNUC__)
  __builtin_prefetch(reinterpret_cast<const char *>(address(items, row)), 0, 2);
#else
  (void)items, (void)row;
#endif
}

FR_INLINE double tree(const double l[8]) {
  return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}

#if defined(FR_AVX512)
FR_INLINE double tree(__m512d v) {
  const __m256d half = _mm256_add_pd(_mm512_castpd512_pd256(v), _mm512_extractf64x4_pd(v, 1));          // 0+4 1+5 2+6 3+7
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));         // 04+26 15+37
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}
FR_INLINE __m512d widen(const float *p) { return _mm512_cvtps_pd(_mm256_loadu_ps(p)); }
FR_INLINE __m512d widen_tail(const float *p, int64_t left) {
  return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(__mmask8((1u << left) - 1), p));
}

FR_INLINE double dot64(const float *a, const float *b, int64_t d) {
  __m512d sum = _mm512_setzero_pd();
  int64_t t = 0;
  for (; t + 8 <= d; t += 8) sum = _mm512_fmadd_pd(widen(a + t), widen(b + t), sum);
  if (t < d) sum = _mm512_fmadd_pd(widen_tail(a + t, d - t), widen_tail(b + t, d - t), sum);
  return tree(sum);
}
FR_INLINE double square_distance64(const float *a, const float *b, int64_t d) {
  __m512d sum = _mm512_setzero_pd();
  for (int64_t t = 0; t < d; t += 8) {
    const bool whole = t + 8 <= d;
    const __m512d diff = _mm512_sub_pd(whole ? widen(a + t) : widen_tail(a + t, d - t),
                                       whole ? widen(b + t) : widen_tail(b + t, d - t));
    // -ffp-contract=off keeps these two apart
    sum = _mm512_add_pd(sum, _mm512_mul_pd(diff, diff));
  }
  return tree(sum);
}

// Four sums at once, of products or of squares of differences: their additions, and their waits for memory, overlap.
// The left sides are four vectors, or one for all that was widened beforehand (and padded with zeros to eight).
struct Each {
  const float *a[4];
  FR_INLINE __m512d at(int j, int64_t t) const { return widen(a[j] + t); }
  FR_INLINE __m512d tail(int j, int64_t t, int64_t d) const { return widen_tail(a[j] + t, d - t); }
};
struct Same {
  const double *a;
  FR_INLINE __m512d at(int, int64_t t) const { return _mm512_loadu_pd(a + t); }
  FR_INLINE __m512d tail(int, int64_t t, int64_t) const { return _mm512_loadu_pd(a + t); }
};
template <bool DISTANCE>
FR_INLINE __m512d add_term(__m512d sum, __m512d a, __m512d b) {
  if (!DISTANCE) return _mm512_fmadd_pd(a, b, sum);
  const __m512d diff = _mm512_sub_pd(a, b);
  return _mm512_add_pd(sum, _mm512_mul_pd(diff, diff));
}
// The trees of four sums at once.
FR_INLINE __m256d trees(const __m512d sum[4]) {
  __m256d half[4];  // 0+4 1+5 2+6 3+7
  for (int j = 0; j < 4; ++j) half[j] = _mm256_add_pd(_mm512_castpd512_pd256(sum[j]), _mm512_extractf64x4_pd(sum[j], 1));
  const __m256d even = _mm256_add_pd(_mm256_permute2f128_pd(half[0], half[2], 0x20),
                                     _mm256_permute2f128_pd(half[0], half[2], 0x31));  // 04+26 15+37, twice
  const __m256d odd = _mm256_add_pd(_mm256_permute2f128_pd(half[1], half[3], 0x20),
                                    _mm256_permute2f128_pd(half[1], half[3], 0x31));
  return _mm256_add_pd(_mm256_unpacklo_pd(even, odd), _mm256_unpackhi_pd(even, odd));
}
template <bool DISTANCE, class Left>
FR_INLINE __m256d sums64(const Left &left, const float *const b[4], int64_t d) {
  __m512d sum[4] = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd()};
  const auto add = [&](int64_t t) {
    for (int j = 0; j < 4; ++j) sum[j] = add_term<DISTANCE>(sum[j], left.at(j, t), widen(b[j] + t));
  };
  int64_t t = 0;
  for (; t + 64 <= d; t += 64) {
    add(t), add(t + 8), add(t + 16), add(t + 24);
    add(t + 32), add(t + 40), add(t + 48), add(t + 56);
  }
  for (; t + 8 <= d; t += 8) add(t);
  if (t < d)
    for (int j = 0; j < 4; ++j) sum[j] = add_term<DISTANCE>(sum[j], left.tail(j, t, d), widen_tail(b[j] + t, d - t));
  return trees(sum);
}
#elif defined(FR_AVX2)
FR_INLINE double tree(__m256d low, __m256d high) {
  const __m256d half = _mm256_add_pd(low, high);
  const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(half), _mm256_extractf128_pd(half, 1));
  return _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
}
FR_INLINE __m256d widen(const float *p) { return _mm256_cvtps_pd(_mm_loadu_ps(p)); }
FR_INLINE void pad(const float *a, int64_t left, float out[8]) {
  for (int64_t j = 0; j < 8; ++j) out[j] = j < left ? a[j] : 0.0f;
}
FR_INLINE double dot64(const float *a, const float *b, int64_t d) {
  __m256d low = _mm256_setzero_pd(), high = low;
  int64_t t = 0;
  for (; t + 8 <= d; t += 8) {
    low = _mm256_fmadd_pd(widen(a + t), widen(b + t), low);
    high = _mm256_fmadd_pd(widen(a + t + 4), widen(b + t + 4), high);
  }
  if (t < d) {
    float x[8], y[8];
    pad(a + t, d - t, x), pad(b + t, d - t, y);
    low = _mm256_fmadd_pd(widen(x), widen(y), low);
    high = _mm256_fmadd_pd(widen(x + 4), widen(y + 4), high);
  }
  return tree(low, high);
}
FR_INLINE double square_distance64(const float *a, const float *b, int64_t d) {
  __m256d low = _mm256_setzero_pd(), high = low;
  float x[8], y[8];
  for (int64_t t = 0; t < d; t += 8) {
    const float *p = a + t, *q = b + t;
    if (t + 8 > d) pad(p, d - t, x), pad(q, d - t, y), p = x, q = y;
    const __m256d e = _mm256_sub_pd(widen(p), widen(q)), f = _mm256_sub_pd(widen(p + 4), widen(q + 4));
    low = _mm256_add_pd(low, _mm256_mul_pd(e, e));
    high = _mm256_add_pd(high, _mm256_mul_pd(f, f));
  }
  return tree(low, high);
}
#else
FR_INLINE double dot64(const float *a, const float *b, int64_t d) {
  double l[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int64_t t = 0;
  for (; t + 8 <= d; t += 8)
    for (int j = 0; j < 8; ++j) l[j] += double(a[t + j]) * double(b[t + j]);
  for (int j = 0; t < d; ++t, ++j) l[j] += double(a[t]) * double(b[t]);
  return tree(l);
}
FR_INLINE double square_distance64(const float *a, const float *b, int64_t d) {
  double l[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  int64_t t = 0;
  for (; t + 8 <= d; t += 8)
    for (int j = 0; j < 8; ++j) {
      const double e = double(a[t + j]) - double(b[t + j]);
      l[j] += e * e;
    }
  for (int j = 0; t < d; ++t, ++j) {
    const double e = double(a[t]) - double(b[t]);
    l[j] += e * e;
  }
  return tree(l);
}
#endif

// The score that a sum over dimensions makes.  `query_norm` is sqrt(sum(u*u)) and `item_square` sum(i*i), for cosine only.
template <int METRIC>
FR_INLINE float score_of(const fr_items &items, double sum, double query_norm, double item_square, int64_t row) {
  double score = METRIC == FR_L2 ? -sum : sum;
  if (METRIC == FR_COSINE) {
    const double norms = query_norm * sqrt(item_square);
    if (score == score) score = norms == 0.0 ? 0.0 : score / norms;
  }
  if (items.bias) score += double(items.bias[row]);
  return float(score) + 0.0f;
}

// Of `item`, the values of row `row`.
FR_INLINE float canonical_of(const fr_items &items, const float *query, double query_norm, const float *item, int64_t row) {
  if (items.metric == FR_L2) return score_of<FR_L2>(items, square_distance64(query, item, items.d), 0.0, 0.0, row);
  const double sum = dot64(query, item, items.d);
  if (items.metric == FR_DOT) return score_of<FR_DOT>(items, sum, 0.0, 0.0, row);
  return score_of<FR_COSINE>(items, sum, query_norm, dot64(item, item, items.d), row);
}
FR_INLINE float canonical(const fr_items &items, const float *query, double query_norm, int64_t row, float *scratch) {
  return canonical_of(items, query, query_norm, item_row(items, row, scratch), row);
}

#if defined(FR_AVX512)
// The same for four sums.
template <int METRIC, class Row>
FR_INLINE void scores_of(const fr_items &items, __m256d sums, __m256d query_norms, __m256d item_squares, const Row rows[4],
                         float out[4]) {
  const __m256d zero = _mm256_setzero_pd();
  __m256d scores = METRIC == FR_L2 ? _mm256_xor_pd(sums, _mm256_set1_pd(-0.0)) : sums;
  if (METRIC == FR_COSINE) {
    const __m256d norms = _mm256_mul_pd(query_norms, _mm256_sqrt_pd(item_squares));
    const __mmask8 null = _mm256_cmp_pd_mask(norms, zero, _CMP_EQ_OQ) & _mm256_cmp_pd_mask(sums, sums, _CMP_ORD_Q);
    scores = _mm256_mask_mov_pd(_mm256_div_pd(scores, norms), null, zero);
  }
  if (items.bias)
    scores = _mm256_add_pd(scores, _mm256_cvtps_pd(_mm_setr_ps(items.bias[rows[0]], items.bias[rows[1]],
                                                               items.bias[rows[2]], items.bias[rows[3]])));
  _mm_storeu_ps(out, _mm_add_ps(_mm256_cvtpd_ps(scores), _mm_setzero_ps()));
}

// Four rows of a float32 matrix at once; `wide` is the query in float64, padded with zeros to a multiple of eight.
template <int METRIC>
FR_INLINE void canonical_four(const fr_items &items, const double *wide, double query_norm, const uint32_t *rows,
                              float out[4]) {
  const float *item[4];
  for (int j = 0; j < 4; ++j) item[j] = static_cast<const float *>(items.data) + int64_t(rows[j]) * items.stride;
  const __m256d sums = sums64<METRIC == FR_L2>(Same{wide}, item, items.d);
  const __m256d squares = METRIC == FR_COSINE ? sums64<false>(Each{{item[0], item[1], item[2], item[3]}}, item, items.d)
                                              : _mm256_setzero_pd();
  scores_of<METRIC>(items, sums, _mm256_set1_pd(query_norm), squares, rows, out);
}
FR_INLINE void canonical_four(const fr_items &items, const double *wide, double query_norm, const uint32_t *rows,
                              float out[4]) {
  if (items.metric == FR_DOT) canonical_four<FR_DOT>(items, wide, query_norm, rows, out);
  else if (items.metric == FR_COSINE) canonical_four<FR_COSINE>(items, wide, query_norm, rows, out);
  else canonical_four<FR_L2>(items, wide, query_norm, rows, out);
}
#endif

}  // namespace
