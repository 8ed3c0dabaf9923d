// Building the packed index: norms, then int8 codes with one scale per panel and bounds rounded outwards.
#include <float.h>
#include <math.h>

#include "canonical.h"
#include "quantise.h"
#include "screen.h"

namespace {

constexpr int64_t PIECE = 512;  // long rows are read in pieces, so that conversions and codes need no heap

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

// What turning a panel needs: its items, what they become, and the matrix in tiles.
FR_INLINE int64_t padded(int64_t d) { return (d + FR_TILE - 1) / FR_TILE * FR_TILE; }
// The matrix [d][d] in tiles of columns, each [d][FR_TILE]; what is missing is zero.
void weave(const float *matrix, int64_t d, float *woven) {
  for (int64_t r = 0; r < padded(d); ++r)
    for (int64_t t = 0; t < d; ++t)
      woven[r / FR_TILE * FR_TILE * d + t * FR_TILE + r % FR_TILE] = r < d ? matrix[t * d + r] : 0.0f;
}
// Turned items of a panel, in item units: [d][FR_PANEL], padding zero.
void turn_panel(const fr_items &items, const uint32_t *rows, const double *factors, const float *woven, float *panel,
                float *turned) {
  const int64_t d = items.d;
  float line[PIECE];
  for (int i = 0; i < FR_PANEL; ++i)
    for (int64_t t = 0; t < d; t += PIECE) {
      const int64_t size = d - t < PIECE ? d - t : PIECE;
      const float *x = rows[i] == 0xffffffffu ? nullptr : piece_of(items, rows[i], t, size, line);
      for (int64_t j = 0; j < size; ++j) panel[(t + j) * FR_PANEL + i] = x ? float(double(x[j]) * factors[i]) : 0.0f;
    }
  for (int64_t r = 0; r < d; r += FR_TILE)
    dots_f32<FR_TILE, false>(panel, d, woven + r * d, turned + r * FR_PANEL);
}
// Add a panel to the mean of its stretch, which the last panel of it completes.
void add_to_mean(const fr_index &index, int64_t p, const float *turned, float *means) {
  const int64_t size = 4 * index.place[0], stretch = p / FR_STRETCH;
  const bool last = p % FR_STRETCH == FR_STRETCH - 1 || p == index.panels - 1;
  float *mean = means + stretch / FR_PANEL * size * FR_PANEL + stretch % FR_PANEL;
  for (int64_t t = 0; t < size; ++t) {
    float sum = p % FR_STRETCH ? mean[t * FR_PANEL] : 0.0f;
    for (int i = 0; i < FR_PANEL; ++i) sum += turned[t * FR_PANEL + i];
    mean[t * FR_PANEL] = last ? sum / float((p % FR_STRETCH + 1) * FR_PANEL) : sum;
  }
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

// Floats of scratch that fr_pack needs.
int64_t FR_FN(fr_pack_scratch)(const fr_index *index) {
  const int64_t d = index->items.d;
  return index->turn ? (d + padded(d)) * FR_PANEL + padded(d) * d : 16;
}

// Panels begin..end, from the first of a stretch on: meta, and codes, beta, rest and means unless null.  meta's tail
// maxima and its last record are filled in by the caller.
// Item units: dot and l2 divide by 2^exponent, cosine divides by the norm.
void FR_FN(fr_pack)(const fr_index *index, int64_t begin, int64_t end, uint8_t *codes, float *meta, float *beta,
                    float *rest, float *means, float *scratch) {
  const fr_items &items = index->items;
  const int64_t d = items.d, d4 = (d + 3) / 4, places = rest ? index->places : 0, record = fr_record(index);
  const double unit = ldexp(1.0, -index->exponent);
  float *const upright = scratch, *const turned = upright + d * FR_PANEL, *const woven = turned + padded(d) * FR_PANEL;
  if (index->turn) weave(index->turn, d, woven);
  for (int64_t p = begin; p < end; ++p) {
    const uint32_t *rows = index->order + p * FR_PANEL;
    uint8_t *panel = codes ? codes + p * d4 * FR_PANEL * 4 : nullptr;
    float *m = meta + p * FR_META;
    double norms[FR_PANEL], factors[FR_PANEL];
    double largest = 0.0, norm = 0.0, beta_max = -INFINITY, beta_abs = 0.0;
    double beyond[FR_PLACES] = {}, before[FR_LOOKS] = {}, behind = 0.0;  // the squares of what `rest` holds
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
      double left = 0.0;
      for (int64_t s = places - 1, end = d; !index->turn && s >= 0; end = 4 * index->place[s--]) {
        left += squares_of(items, rows[i], 4 * index->place[s], end, line) * factors[i] * factors[i];
        beyond[s] = left > beyond[s] ? left : beyond[s];
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
    if (index->turn) {
      turn_panel(items, rows, factors, woven, upright, turned);
      if (means) add_to_mean(*index, p, turned, means);
      largest = largest_of(turned, d * FR_PANEL);
      double squares[FR_PANEL] = {};
      for (int64_t s = places - 1, end = d; s >= 0; end = 4 * index->place[s--]) {
        for (int64_t t = 4 * index->place[s]; t < end; ++t)
          for (int i = 0; i < FR_PANEL; ++i)
            squares[i] += double(turned[t * FR_PANEL + i]) * double(turned[t * FR_PANEL + i]);
        for (int i = 0; i < FR_PANEL; ++i) beyond[s] = squares[i] > beyond[s] ? squares[i] : beyond[s];
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
      double residual = 0.0, lost_behind = 0.0;
      for (int64_t t = 0, size; t < d; t += size) {
        alignas(64) uint8_t code[PIECE];
        size = d - t < PIECE ? d - t : PIECE;
        for (int s = 0; index->turn && s < places; ++s)
          if (t < 4 * index->place[s] && 4 * index->place[s] < t + size) size = 4 * index->place[s] - t;
        const int64_t quads = (size + 3) / 4;
        const double factor = index->turn ? 1.0 : factors[i];
        if (index->turn)
          for (int64_t j = 0; j < size; ++j) line[j] = turned[(t + j) * FR_PANEL + i];
        const float *x = index->turn ? line : piece_of(items, rows[i], t, size, line);
        const double lost = quantise(x, size, factor, factor * inverse, double(scale), code);
        residual += lost;
        if (index->turn && t >= 4 * index->place[0]) lost_behind += lost;
        for (int64_t j = 0; j < quads; ++j) memcpy(to + (t / 4 + j) * FR_PANEL, code + 4 * j, 4);
        for (int s = 0; index->turn && s < places; ++s)
          if (t + size == 4 * index->place[s] && residual > before[s]) before[s] = residual;
      }
      worst = residual > worst ? residual : worst;
      behind = lost_behind > behind ? lost_behind : behind;
    }
    const double out = 1.0 + 0x1p-40;  // covers the float64 rounding of the sums above
    m[FR_SCALE] = scale;
    const auto residual_of = [&](double squares) FR_BODY { return float_above(sqrt(squares) * out + norm * 0x1p-48); };
    m[FR_RESIDUAL] = residual_of(worst);
    m[FR_NORM] = float_above(norm * out);
    m[FR_BETA_MAX] = beta ? float_above(beta_max + beta_abs * 0x1p-20) : 0.0f;
    m[FR_BETA_ABS] = float_above(beta_abs);
    m[FR_BETA_TAIL] = m[FR_BETA_MAX];
    m[FR_INVERSE] = 1.0f / scale;
    m[FR_NORM_TAIL] = m[FR_NORM];
    for (int s = 0; s < places; ++s) rest[p * record + s] = float_above(sqrt(beyond[s]) * out);
    if (!index->turn) continue;
    for (int s = 0; s < places; ++s) rest[p * record + FR_BEFORE + s] = residual_of(before[s]);
    rest[p * record + FR_BEHIND] = residual_of(behind);
  }
}

}  // extern "C"
