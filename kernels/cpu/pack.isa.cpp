// Building the packed index: norms, then int8 codes with one scale per panel and bounds rounded outwards.
#include <float.h>
#include <math.h>

#include "canonical.h"
#include "screen.h"

namespace {
float float_above(double x) {
  const float f = float(x);
  return double(f) < x ? nextafterf(f, INFINITY) : f;
}
}  // namespace

extern "C" {

int FR_FN(fr_ranking_level)(void) { return FR_LEVEL; }

// Euclidean norms of rows begin..end in float64; infinity where a value is infinite, NaN where one is NaN.
void FR_FN(fr_norms)(const fr_items *items, int64_t begin, int64_t end, double *norms) {
  float line[512];
  for (int64_t row = begin; row < end; ++row) {
    if (items->dtype == FR_F32 || items->d <= 512) {
      const float *x = item_row(*items, row, line);
      norms[row] = sqrt(dot64(x, x, items->d));
    } else {  // long rows of halves: by pieces (only used to sort and to bound, never in a score)
      double sum = 0.0;
      fr_items piece = *items;
      for (int64_t t = 0; t < items->d; t += 512) {
        piece.data = static_cast<const uint16_t *>(items->data) + t;
        piece.d = items->d - t < 512 ? items->d - t : 512;
        const float *x = item_row(piece, row, line);
        sum += dot64(x, x, piece.d);
      }
      norms[row] = sqrt(sum);
    }
  }
}

// Panels begin..end: codes (unless null), meta and beta.  meta's tail maxima and its last record are filled in by the caller.
// Item units: dot and l2 divide by 2^exponent, cosine divides by the norm.
void FR_FN(fr_pack)(const fr_index *index, int64_t begin, int64_t end, uint8_t *codes, float *meta, float *beta) {
  const fr_items &items = index->items;
  const int64_t d = items.d, d4 = (d + 3) / 4;
  const double unit = ldexp(1.0, -index->exponent);
  for (int64_t p = begin; p < end; ++p) {
    const uint32_t *rows = index->order + p * FR_PANEL;
    uint8_t *panel = codes ? codes + p * d4 * FR_PANEL * 4 : nullptr;
    float *m = meta + p * FR_META;
    double norms[FR_PANEL], factors[FR_PANEL];
    double largest = 0.0, norm = 0.0, beta_max = -INFINITY, beta_abs = 0.0;
    // Long rows are read in pieces of 512 so that conversions need no heap.
    float line[512];
    for (int i = 0; i < FR_PANEL; ++i) {
      norms[i] = factors[i] = 0.0;
      if (beta) beta[p * FR_PANEL + i] = 0.0f;
      if (rows[i] == 0xffffffffu) continue;
      double squares = 0.0, top = 0.0;
      fr_items piece = items;
      for (int64_t t = 0; t < d; t += 512) {
        piece.data = static_cast<const char *>(items.data) + t * (items.dtype == FR_F32 ? 4 : 2);
        piece.d = d - t < 512 ? d - t : 512;
        const float *x = item_row(piece, rows[i], line);
        squares += dot64(x, x, piece.d);
        for (int64_t j = 0; j < piece.d; ++j) top = fabsf(x[j]) > top ? fabsf(x[j]) : top;
      }
      const double length = sqrt(squares);
      factors[i] = items.metric == FR_COSINE ? (length == 0.0 ? 0.0 : 1.0 / length) : unit;
      norms[i] = length * factors[i];
      if (top * factors[i] > largest) largest = top * factors[i];
      if (norms[i] > norm) norm = norms[i];
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
      if (rows[i] == 0xffffffffu) {
        for (int64_t t = 0; t < 4 * d4; ++t) panel[(t / 4 * FR_PANEL + i) * 4 + t % 4] = 128;
        continue;
      }
      double residual = 0.0;
      fr_items piece = items;
      for (int64_t t = 0; t < d; t += 512) {
        piece.data = static_cast<const char *>(items.data) + t * (items.dtype == FR_F32 ? 4 : 2);
        piece.d = d - t < 512 ? d - t : 512;
        const float *x = item_row(piece, rows[i], line);
        double squares = 0.0;
        const double factor = factors[i], steps = factor * inverse;
        // any rounding will do: the residual below is that of the code chosen
        for (int64_t j = 0; j < piece.d; ++j) {
          const double v = double(x[j]) * steps;
          double c = (v + 0x1.8p52) - 0x1.8p52;
          c = c > 127.0 ? 127.0 : c < -127.0 ? -127.0 : c;
          const double e = double(x[j]) * factor - c * double(scale);
          squares += e * e;
          const int64_t at = t + j;
          panel[(at / 4 * FR_PANEL + i) * 4 + at % 4] = uint8_t(int32_t(c) + 128);
        }
        residual += squares;
      }
      for (int64_t t = d; t < 4 * d4; ++t) panel[(t / 4 * FR_PANEL + i) * 4 + t % 4] = 128;
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
  }
}

}  // extern "C"
