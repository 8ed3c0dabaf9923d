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

// Panels that share a record, where they are looked at on the way and items are not turned: neighbours by norm, whose
// bars a search then computes once.
constexpr int ALIKE = 2;

// What a record says, in item units, before it is rounded outwards; lengths as squares.
struct Bounds {
  double largest = 0.0, norm = 0.0, beta_max = -INFINITY, beta_abs = 0.0;
  double beyond[FR_PLACES] = {}, before[FR_LOOKS] = {}, behind = 0.0;
  double lost = 0.0;
};

// Add what panel p has before it is coded, and give what its items are multiplied by.  Its additive terms go into `beta`.
FR_INLINE void measure(const fr_index &index, int64_t p, bool more, int64_t places, float *beta, double *factors,
                       Bounds &all) {
  const fr_items &items = index.items;
  const uint32_t *rows = index.order + p * FR_PANEL;
  const double unit = ldexp(1.0, -index.exponent);
  float line[PIECE];
  for (int i = 0; i < FR_PANEL; ++i) {
    factors[i] = 0.0;
    if (beta) beta[p * FR_PANEL + i] = 0.0f;
    if (more && rows[FR_PANEL + i] != 0xffffffffu) fetch(items, rows[FR_PANEL + i]);
    if (rows[i] == 0xffffffffu) continue;
    double squares = 0.0, top = 0.0;
    for (int64_t t = 0; t < items.d; t += PIECE) {
      const int64_t size = items.d - t < PIECE ? items.d - t : PIECE;
      const float *x = piece_of(items, rows[i], t, size, line);
      squares += dot64(x, x, size);
      const float most = largest_of(x, size);
      top = most > top ? most : top;
    }
    const double length = sqrt(squares);
    factors[i] = items.metric == FR_COSINE ? (length == 0.0 ? 0.0 : 1.0 / length) : unit;
    if (top * factors[i] > all.largest) all.largest = top * factors[i];
    if (length * factors[i] > all.norm) all.norm = length * factors[i];
    double left = 0.0;
    for (int64_t s = places - 1, end = items.d; !index.turn && s >= 0; end = 4 * index.place[s--]) {
      left += squares_of(items, rows[i], 4 * index.place[s], end, line) * factors[i] * factors[i];
      all.beyond[s] = left > all.beyond[s] ? left : all.beyond[s];
    }
    if (beta) {
      double b = items.bias ? double(items.bias[rows[i]]) : 0.0;
      if (items.metric == FR_L2) b = (b - squares) * unit * unit;
      else if (items.metric == FR_DOT) b *= unit;
      beta[p * FR_PANEL + i] = float(b);
      all.beta_max = b > all.beta_max ? b : all.beta_max;
      all.beta_abs = fabs(b) > all.beta_abs ? fabs(b) : all.beta_abs;
    }
  }
}

// The same of a panel of turned items, beside their norms.
FR_INLINE void measure_turned(const fr_index &index, int64_t places, const float *turned, Bounds &all) {
  const int64_t d = index.items.d;
  all.largest = largest_of(turned, d * FR_PANEL);
  double squares[FR_PANEL] = {};
  for (int64_t s = places - 1, end = d; s >= 0; end = 4 * index.place[s--]) {
    for (int64_t t = 4 * index.place[s]; t < end; ++t)
      for (int i = 0; i < FR_PANEL; ++i)
        squares[i] += double(turned[t * FR_PANEL + i]) * double(turned[t * FR_PANEL + i]);
    for (int i = 0; i < FR_PANEL; ++i) all.beyond[s] = squares[i] > all.beyond[s] ? squares[i] : all.beyond[s];
  }
}

// The codes of panel p, of its items or of what they were turned into, and what these lose.
FR_INLINE void encode(const fr_index &index, int64_t p, int64_t places, float scale, const double *factors,
                      const float *turned, uint8_t *panel, Bounds &all) {
  const fr_items &items = index.items;
  const int64_t d = items.d, d4 = (d + 3) / 4;
  const uint32_t *rows = index.order + p * FR_PANEL;
  const double inverse = 1.0 / double(scale);
  float line[PIECE];
  for (int i = 0; i < FR_PANEL; ++i) {
    int32_t *to = reinterpret_cast<int32_t *>(panel) + i;  // four codes at a time, 32 items apart
    if (rows[i] == 0xffffffffu) {
      for (int64_t t = 0; t < d4; ++t) to[t * FR_PANEL] = int32_t(0x80808080u);
      continue;
    }
    double lost = 0.0, behind = 0.0;
    for (int64_t t = 0, size; t < d; t += size) {
      alignas(64) uint8_t code[PIECE];
      size = d - t < PIECE ? d - t : PIECE;
      for (int s = 0; turned && s < places; ++s)
        if (t < 4 * index.place[s] && 4 * index.place[s] < t + size) size = 4 * index.place[s] - t;
      const int64_t quads = (size + 3) / 4;
      const double factor = turned ? 1.0 : factors[i];
      if (turned)
        for (int64_t j = 0; j < size; ++j) line[j] = turned[(t + j) * FR_PANEL + i];
      const float *x = turned ? line : piece_of(items, rows[i], t, size, line);
      const double missed = quantise(x, size, factor, factor * inverse, double(scale), code);
      lost += missed;
      if (turned && t >= 4 * index.place[0]) behind += missed;
      for (int64_t j = 0; j < quads; ++j) memcpy(to + (t / 4 + j) * FR_PANEL, code + 4 * j, 4);
      for (int s = 0; turned && s < places; ++s)
        if (t + size == 4 * index.place[s] && lost > all.before[s]) all.before[s] = lost;
    }
    all.lost = lost > all.lost ? lost : all.lost;
    all.behind = behind > all.behind ? behind : all.behind;
  }
}

}  // namespace

extern "C" {

int FR_FN(fr_ranking_level)(void) { return FR_LEVEL; }

// Euclidean norms of rows begin..end in float64; infinity where a value is infinite, NaN where one is NaN.  And, unless
// null, the share of its square that lies behind the first `cut` dimensions, in 65,535ths; 0 where there is none to share.
void FR_FN(fr_norms)(const fr_items *items, int64_t begin, int64_t end, double *norms, int64_t cut, uint16_t *behind) {
  float line[PIECE];
  for (int64_t row = begin; row < end; ++row) {
    const double first = squares_of(*items, row, 0, behind ? cut : items->d, line);
    const double rest = behind ? squares_of(*items, row, cut, items->d, line) : 0.0;
    norms[row] = sqrt(first + rest);
    if (!behind) continue;
    const double share = rest / (first + rest);
    behind[row] = share > 0.0 && share <= 1.0 ? uint16_t(share * 65535.0) : uint16_t(0);
  }
}

// Floats of scratch that fr_pack needs.
int64_t FR_FN(fr_pack_scratch)(const fr_index *index) {
  const int64_t d = index->items.d;
  return index->turn ? (d + padded(d)) * FR_PANEL + padded(d) * d : 16;
}

// Panels begin..end, from the first of a stretch and of those that share a record on: meta, and codes, beta, rest and means
// unless null.  meta's tail maxima and its last record are filled in by the caller.
// Item units: dot and l2 divide by 2^exponent, cosine divides by the norm.
void FR_FN(fr_pack)(const fr_index *index, int64_t begin, int64_t end, uint8_t *codes, float *meta, float *beta,
                    float *rest, float *means, float *scratch) {
  const int64_t d = index->items.d, places = rest ? index->places : 0, record = fr_record(index);
  float *const upright = scratch, *const turned = upright + d * FR_PANEL, *const woven = turned + padded(d) * FR_PANEL;
  if (index->turn) weave(index->turn, d, woven);
  const int64_t alike = places && !index->turn ? ALIKE : 1;
  for (int64_t first = begin, last; first < end; first = last) {
    last = first + alike < end ? first + alike : end;
    Bounds all;
    double factors[ALIKE][FR_PANEL];
    for (int64_t p = first; p < last; ++p) {
      measure(*index, p, p + 1 < end, places, beta, factors[p - first], all);
      if (!index->turn) continue;
      turn_panel(index->items, index->order + p * FR_PANEL, factors[0], woven, upright, turned);
      if (means) add_to_mean(*index, p, turned, means);
      measure_turned(*index, places, turned, all);
    }
    float scale = float(all.largest / 127.0);
    if (scale < float(all.beta_abs) * 0x1p-15f) scale = float(all.beta_abs) * 0x1p-15f;
    if (!(scale > 0x1p-60f)) scale = 0x1p-60f;
    for (int64_t p = first; codes && p < last; ++p)
      encode(*index, p, places, scale, factors[p - first], index->turn ? turned : nullptr,
             codes + p * ((d + 3) / 4) * FR_PANEL * 4, all);
    const double out = 1.0 + 0x1p-40;  // covers the float64 rounding of the sums above
    const auto residual_of = [&](double squares) FR_BODY {
      return float_above(sqrt(squares) * out + all.norm * 0x1p-48);
    };
    for (int64_t p = first; p < last; ++p) {
      float *m = meta + p * FR_META;
      m[FR_SCALE] = scale;
      m[FR_RESIDUAL] = residual_of(all.lost);
      m[FR_NORM] = float_above(all.norm * out);
      m[FR_BETA_MAX] = beta ? float_above(all.beta_max + all.beta_abs * 0x1p-20) : 0.0f;
      m[FR_BETA_ABS] = float_above(all.beta_abs);
      m[FR_BETA_TAIL] = m[FR_BETA_MAX];
      m[FR_INVERSE] = 1.0f / scale;
      m[FR_NORM_TAIL] = m[FR_NORM];
      for (int s = 0; s < places; ++s) rest[p * record + s] = float_above(sqrt(all.beyond[s]) * out);
      if (!index->turn) continue;
      for (int s = 0; s < places; ++s) rest[p * record + FR_BEFORE + s] = residual_of(all.before[s]);
      rest[p * record + FR_BEHIND] = residual_of(all.behind);
    }
  }
}

}  // extern "C"
