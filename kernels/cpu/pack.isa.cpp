// Building the packed index: norms, then int8 codes with one scale per panel and bounds rounded outwards.
#include <float.h>
#include <math.h>

#include "canonical.h"
#include "screen.h"

namespace {

constexpr int64_t PIECE = 512;  // long rows are read in pieces, so that conversions and codes need no heap

float float_above(double x) {
  const float f = float(x);
  return double(f) < x ? nextafterf(f, INFINITY) : f;
}

// Dimensions t.. of row `row`, at most PIECE of them: a view, or converted into `line`.
FR_INLINE const float *piece_of(const fr_items &items, int64_t row, int64_t t, int64_t size, float *line) {
  fr_items piece = items;
  piece.data = static_cast<const char *>(items.data) + t * (items.dtype == FR_F32 ? 4 : 2);
  piece.d = size;
  return item_row(piece, row, line);
}

// Sum of squares of dimensions t..end of a row.
FR_INLINE double squares_of(const fr_items &items, int64_t row, int64_t t, int64_t end, float *line) {
  double sum = 0.0;
  for (; t < end; t += PIECE) {
    const int64_t size = end - t < PIECE ? end - t : PIECE;
    const float *x = piece_of(items, row, t, size, line);
    sum += dot64(x, x, size);
  }
  return sum;
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

extern "C" {

int FR_FN(fr_ranking_level)(void) { return FR_LEVEL; }

// Euclidean norms of rows begin..end in float64; infinity where a value is infinite, NaN where one is NaN.
void FR_FN(fr_norms)(const fr_items *items, int64_t begin, int64_t end, double *norms) {
  float line[PIECE];
  for (int64_t row = begin; row < end; ++row) {
    norms[row] = sqrt(squares_of(*items, row, 0, items->d, line));
  }
}

// Panels begin..end: meta, and codes, beta and rest unless null.  meta's tail maxima and its last record are filled in by the caller.
// Item units: dot and l2 divide by 2^exponent, cosine divides by the norm.
void FR_FN(fr_pack)(const fr_index *index, int64_t begin, int64_t end, uint8_t *codes, float *meta, float *beta,
                    float *rest) {
  const fr_items &items = index->items;
  const int64_t d = items.d, d4 = (d + 3) / 4;
  const double unit = ldexp(1.0, -index->exponent);
  for (int64_t p = begin; p < end; ++p) {
    const uint32_t *rows = index->order + p * FR_PANEL;
    uint8_t *panel = codes ? codes + p * d4 * FR_PANEL * 4 : nullptr;
    float *m = meta + p * FR_META;
    double norms[FR_PANEL], factors[FR_PANEL];
    double largest = 0.0, norm = 0.0, beta_max = -INFINITY, beta_abs = 0.0, beyond[FR_STAGES] = {};
    float line[PIECE];
    for (int i = 0; i < FR_PANEL; ++i) {
      norms[i] = factors[i] = 0.0;
      if (beta) beta[p * FR_PANEL + i] = 0.0f;
      if (p + 1 < end && rows[FR_PANEL + i] != 0xffffffffu) fetch(items, rows[FR_PANEL + i]);
      if (rows[i] == 0xffffffffu) continue;
      double squares = 0.0, top = 0.0;
      for (int64_t t = 0; t < d; t += PIECE) {
        const int64_t size = d - t < PIECE ? d - t : PIECE;
        const float *x = piece_of(items, rows[i], t, size, line);
        squares += dot64(x, x, size);
        const float most = largest_of(x, size);
        top = most > top ? most : top;
      }
      const double length = sqrt(squares);
      factors[i] = items.metric == FR_COSINE ? (length == 0.0 ? 0.0 : 1.0 / length) : unit;
      norms[i] = length * factors[i];
      if (top * factors[i] > largest) largest = top * factors[i];
      if (norms[i] > norm) norm = norms[i];
      for (int s = 0; rest && s < FR_STAGES; ++s) {
        const double length = sqrt(squares_of(items, rows[i], 4 * fr_stage(d4, s), d, line)) * factors[i];
        beyond[s] = length > beyond[s] ? length : beyond[s];
      }
      if (beta) {
        double b = items.bias ? double(items.bias[rows[i]]) : 0.0;
        if (items.metric == FR_L2) b = (b - squares) * unit * unit;
        else if (items.metric == FR_DOT) b *= unit;
        beta[p * FR_PANEL + i] = float(b);
        beta_max = b > beta_max ? b : beta_max;
        beta_abs = fabs(b) > beta_abs ? fabs(b) : beta_abs;
      }
    }
    float scale = float(largest / 127.0);
    if (scale < float(beta_abs) * 0x1p-15f) scale = float(beta_abs) * 0x1p-15f;
    if (!(scale > 0x1p-60f)) scale = 0x1p-60f;
    double worst = 0.0;
    const double inverse = 1.0 / double(scale);
    for (int i = 0; panel && i < FR_PANEL; ++i) {
      int32_t *to = reinterpret_cast<int32_t *>(panel) + i;  // four codes at a time, 32 items apart
      if (rows[i] == 0xffffffffu) {
        for (int64_t t = 0; t < d4; ++t) to[t * FR_PANEL] = int32_t(0x80808080u);
        continue;
      }
      double residual = 0.0;
      for (int64_t t = 0; t < d; t += PIECE) {
        alignas(64) uint8_t code[PIECE];
        const int64_t size = d - t < PIECE ? d - t : PIECE, quads = (size + 3) / 4;
        const float *x = piece_of(items, rows[i], t, size, line);
        residual += quantise(x, size, factors[i], factors[i] * inverse, double(scale), code);
        for (int64_t j = 0; j < quads; ++j) memcpy(to + (t / 4 + j) * FR_PANEL, code + 4 * j, 4);
      }
      worst = residual > worst ? residual : worst;
    }
    const double out = 1.0 + 0x1p-40;  // covers the float64 rounding of the sums above
    m[FR_SCALE] = scale;
    m[FR_RESIDUAL] = float_above(sqrt(worst) * out + norm * 0x1p-48);
    m[FR_NORM] = float_above(norm * out);
    m[FR_BETA_MAX] = beta ? float_above(beta_max + beta_abs * 0x1p-20) : 0.0f;
    m[FR_BETA_ABS] = float_above(beta_abs);
    m[FR_BETA_TAIL] = m[FR_BETA_MAX];
    m[FR_INVERSE] = 1.0f / scale;
    m[FR_NORM_TAIL] = m[FR_NORM];
    for (int s = 0; rest && s < FR_STAGES; ++s) rest[p * FR_STAGES + s] = float_above(beyond[s] * out);
  }
}

}  // extern "C"
