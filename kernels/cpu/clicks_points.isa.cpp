// Click metrics: the sums that need no order.
#include "clicks_codes.h"

namespace {

// 2 atanh(s), s = f / (2 + f), and k ln 2: log(2^k (1 + f)) within 1 ulp, made of +, -, * and / only, so that every
// instruction set gives the same bits.
FR_INLINE f64x8 log_of(f64x8 k, f64x8 f) {
  const f64x8 s = f / (2.0 + f), z = s * s;
  f64x8 r = splat(2.0 / 21);
  r = r * z + 2.0 / 19;
  r = r * z + 2.0 / 17;
  r = r * z + 2.0 / 15;
  r = r * z + 2.0 / 13;
  r = r * z + 2.0 / 11;
  r = r * z + 2.0 / 9;
  r = r * z + 2.0 / 7;
  r = r * z + 2.0 / 5;
  r = r * z + 2.0 / 3;
  r = r * z;
  const f64x8 half = 0.5 * f * f;
  return k * 6.93147180369123816490e-01 - ((half - (s * (half + r) + k * 1.90821492927058770002e-10)) - f);
}

// x = 2^k (1 + f) with 1 + f in [sqrt(1/2), sqrt 2), for normal x > 0.
FR_INLINE f64x8 reduced(f64x8 x, f64x8 &k) {
  const uint64_t root_half = 0x3FE6A09E667F3BCDull;
  const u64x8 t = bits_of(x) + ((1100ull << 52) - root_half);
  k = double_of((t >> 52) | 0x4330000000000000ull) - (4503599627370496.0 + 1100.0);
  return double_of((t & 0xFFFFFFFFFFFFFull) + root_half) - 1.0;
}

// log(x) for x in 0..1, also given as 1 - `missing`, which tells x from 1 where x itself does not.
FR_INLINE f64x8 log_of_share(f64x8 x, f64x8 missing) {
  const i64x8 small = splat(2.2250738585072014e-308) > x;
  f64x8 k;
  const f64x8 f = reduced(where(small, x * 18014398509481984.0, x), k);
  const f64x8 log = log_of(where(small, k - 54.0, k), where(k == splat(0.0), -missing, f));
  return where(x > splat(0.0), log, splat(-__builtin_inf()));
}

FR_INLINE f64x8 clip(f64x8 x, double low, double high) {
  FR_EACH x.part[i] = least(high - f64s{}, most(low - f64s{}, x.part[i]));
  return x;
}

struct Sums {
  f64x8 of[FR_CLICKS_POINT_SUMS];
  Sums() { for (f64x8 &lanes : of) lanes = splat(0.0); }
};

constexpr int64_t GROUP = 8 * LANES;
constexpr double LEAST = 1e-37;  // likelihoods of which that many can be multiplied

// Rows of weight 1 with labels 0 or 1, n a multiple of GROUP; all sums but the weight, the label and the spread.
//
// The loss of eight rows is one logarithm, of the product of their likelihoods q.  That product loses what tells it
// from 1 where all are close to it, so what it is `missing` is kept beside it: 1 - q r = (1 - q) + (1 - r) q, where
// nothing cancels.  Logarithms are long chains of operations: those of a block are taken together, to overlap.
template <bool Loss, class P>
FR_INLINE void hard_rows(const uint8_t *y, const P *p, int64_t n, double eps, Sums &sums) {
  f64x8 loss = splat(0.0), prob = loss, square = loss, distance = loss;
  double likelihoods[BLOCK / 8], missings[BLOCK / 8];
  for (int64_t start = 0; start < n; start += BLOCK) {
    const int64_t groups = (n - start < BLOCK ? n - start : BLOCK) / GROUP;
    for (int64_t g = 0; g < groups; ++g) {
      f64x8 likelihood = splat(1.0), missing = splat(0.0);
      for (int64_t at = start + g * GROUP; at < start + (g + 1) * GROUP; at += LANES) {
        const f64x8 label = load_as_f64(y + at), of = load_as_f64(p + at), error = absolute(of - label);
        prob += of;
        square += error * error;
        distance += error;
        if (!Loss) continue;
        missing += clip(error, eps, 1.0 - eps) * likelihood;
        likelihood = likelihood * clip(absolute((1.0 - label) - of), eps, 1.0 - eps);
      }
      store8(likelihoods + g * LANES, likelihood);
      store8(missings + g * LANES, missing);
    }
    if (!Loss) continue;
    for (int64_t g = 0; g < groups; ++g) {
      f64x8 k;
      const f64x8 f = reduced(load8<f64x8>(likelihoods + g * LANES), k);
      loss = loss - log_of(k, where(k == splat(0.0), -load8<f64x8>(missings + g * LANES), f));
    }
  }
  sums.of[FR_CLICKS_LOSS] += loss;
  sums.of[FR_CLICKS_PROB] += prob;
  sums.of[FR_CLICKS_SQUARE] += square;
  sums.of[FR_CLICKS_ABSOLUTE] += distance;
}

// Eight rows with any labels and weights.
template <bool Loss>
FR_INLINE void any_rows(f64x8 y, f64x8 p, f64x8 w, double eps, double centre, Sums &sums) {
  const f64x8 d = p - y, e = y - centre;
  sums.of[FR_CLICKS_WEIGHT] += w;
  sums.of[FR_CLICKS_LABEL] += w * y;
  sums.of[FR_CLICKS_PROB] += w * p;
  sums.of[FR_CLICKS_SQUARE] += w * (d * d);
  sums.of[FR_CLICKS_ABSOLUTE] += w * absolute(d);
  sums.of[FR_CLICKS_SPREAD] += w * (e * e);
  if (!Loss) return;
  const f64x8 other = 1.0 - y, zero = splat(0.0);
  const f64x8 chance = clip(p, eps, 1.0 - eps), rest = clip(1.0 - p, eps, 1.0 - eps);
  const f64x8 of_y = where(y == zero, zero, y * log_of_share(chance, rest));
  const f64x8 of_other = where(other == zero, zero, other * log_of_share(rest, chance));
  sums.of[FR_CLICKS_LOSS] += where(w == zero, zero, w * -(of_y + of_other));
}

// Eight rows, of which the last may lie beyond `n` and weigh nothing.
template <class T>
FR_INLINE f64x8 load_rows(const T *x, int64_t n) {
  if (n >= LANES) return load_as_f64(x);
  double padded[LANES] = {};
  for (int64_t i = 0; i < n; ++i) padded[i] = static_cast<double>(x[i]);
  return load8<f64x8>(padded);
}

template <bool Loss, class Y, class P>
void any_rows(const Y *y, const P *p, const double *w, int64_t n, double eps, double centre, Sums &sums) {
  const double ones[LANES] = {1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0};
  for (int64_t i = 0; i < n; i += LANES)
    any_rows<Loss>(load_rows(y + i, n - i), load_rows(p + i, n - i), load_rows(w ? w + i : ones, n - i), eps, centre,
                   sums);
}

template <bool Loss, class P>
void points(const void *y, int y_kind, const P *p, const double *w, int64_t begin, int64_t end, double eps,
            double centre, double *out) {
  const uint8_t *hard = static_cast<const uint8_t *>(y) + begin;
  const double *soft = static_cast<const double *>(y) + begin;
  Sums sums;
  const int64_t n = end - begin;
  const bool plain = y_kind == FR_CLICKS_U8 && !w && (!Loss || eps >= LEAST);
  const int64_t done = plain ? n / GROUP * GROUP : 0;
  hard_rows<Loss>(hard, p + begin, done, eps, sums);
  if (y_kind == FR_CLICKS_U8)
    any_rows<Loss>(hard + done, p + begin + done, w ? w + begin : w, n - done, eps, centre, sums);
  else
    any_rows<Loss>(soft, p + begin, w ? w + begin : w, n, eps, centre, sums);
  for (int s = 0; s < FR_CLICKS_POINT_SUMS; ++s) out[s] = fold(sums.of[s]);
  int64_t positives = 0;
  for (int64_t i = 0; i < done; ++i) positives += hard[i];
  const double hits = static_cast<double>(positives), misses = static_cast<double>(done - positives);
  out[FR_CLICKS_WEIGHT] += hits + misses;
  out[FR_CLICKS_LABEL] += hits;
  out[FR_CLICKS_SPREAD] += hits * ((1.0 - centre) * (1.0 - centre)) + misses * (centre * centre);
}

// -- bins -----------------------------------------------------------------------------------------------------------

template <class T>
void load(const T *from, int64_t n, double *to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(from[i]);
}

// Bin b holds edges[b] <= p < edges[b + 1]; the last, b = bins, is p = 1 alone.
void find_bins(const double *p, int64_t n, int bins, const double *edges, int32_t *out) {
  const double scale = bins;
  const int32_t last = bins - 1;
  for (int64_t i = 0; i < n; ++i) {
    const int32_t near = static_cast<int32_t>(p[i] * scale);
    const int32_t bin = near < last ? near : last;
    out[i] = bin - (p[i] < edges[bin]) + (p[i] >= edges[bin + 1]);
  }
}

}  // namespace

extern "C" void FR_FN(fr_clicks_points)(const void *y, int y_kind, const void *p, int p_kind, const double *weights,
                                        int64_t begin, int64_t end, int loss, double eps, double centre, double *sums) {
  const float *narrow = static_cast<const float *>(p);
  const double *wide = static_cast<const double *>(p);
  if (p_kind == FR_CLICKS_F32) {
    if (loss) points<true>(y, y_kind, narrow, weights, begin, end, eps, centre, sums);
    else points<false>(y, y_kind, narrow, weights, begin, end, eps, centre, sums);
  } else {
    if (loss) points<true>(y, y_kind, wide, weights, begin, end, eps, centre, sums);
    else points<false>(y, y_kind, wide, weights, begin, end, eps, centre, sums);
  }
}

// Rows of weight 1 with labels 0 or 1: rows, positives, and probabilities in units of 2^-32 and 2^-64, of each bin.
// lanes: scratch of (bins + 1) * 24 words.
extern "C" void FR_FN(fr_clicks_bin_counts)(const uint8_t *y, const void *p, int p_kind, int64_t begin, int64_t end,
                                            int bins, const double *edges, uint64_t *lanes, int64_t *out) {
  double ps[BLOCK];
  uint64_t high[BLOCK], low[BLOCK];
  int32_t bin_of[BLOCK];
  for (int64_t i = 0; i < (bins + 1) * 3 * LANES; ++i) lanes[i] = 0;
  for (int64_t start = begin; start < end; start += BLOCK) {
    const int64_t n = end - start < BLOCK ? end - start : BLOCK;
    if (p_kind == FR_CLICKS_F32) load(static_cast<const float *>(p) + start, n, ps);
    else load(static_cast<const double *>(p) + start, n, ps);
    find_bins(ps, n, bins, edges, bin_of);
    for (int64_t i = n; i < BLOCK; ++i) ps[i] = 0.0;
    for (int64_t i = 0; i < n; i += LANES) {
      u64x8 more, rest;
      split(load8<f64x8>(ps + i), more, rest);
      store8(high + i, more);
      store8(low + i, rest);
    }
    for (int64_t i = 0; i < n; ++i) {
      uint64_t *bin = lanes + (bin_of[i] * LANES + (i & (LANES - 1))) * 3;
      bin[0] += 1 | static_cast<uint64_t>(y[start + i]) << 32;
      bin[1] += high[i];
      bin[2] += low[i];
    }
  }
  for (int b = 0; b <= bins; ++b) {
    uint64_t sums[3] = {0, 0, 0};
    for (int l = 0; l < LANES; ++l)
      for (int s = 0; s < 3; ++s) sums[s] += lanes[(b * LANES + l) * 3 + s];
    const uint64_t rows = sums[0] & 0xFFFFFFFFu;
    out[b * 4] = static_cast<int64_t>(rows);
    out[b * 4 + 1] = static_cast<int64_t>(sums[0] >> 32);
    out[b * 4 + 2] = static_cast<int64_t>(sums[1] - rows * bits_of(SHIFT));
    out[b * 4 + 3] = static_cast<int64_t>(sums[2] - rows * bits_of(SHIFT));
  }
}

// w, w y and w p of each bin, added in eight lanes by the place of the row.  lanes: scratch of (bins + 1) * 24 doubles.
extern "C" void FR_FN(fr_clicks_bins)(const void *y, int y_kind, const void *p, int p_kind, const double *weights,
                                      int64_t begin, int64_t end, int bins, const double *edges, double *lanes,
                                      double *bin_sums) {
  double ys[BLOCK], ps[BLOCK], ws[BLOCK];
  int32_t bin_of[BLOCK];
  for (int64_t i = 0; i < (bins + 1) * 3 * LANES; ++i) lanes[i] = 0.0;
  for (int64_t i = 0; i < BLOCK; ++i) ws[i] = 1.0;
  for (int64_t start = begin; start < end; start += BLOCK) {
    const int64_t n = end - start < BLOCK ? end - start : BLOCK;
    if (y_kind == FR_CLICKS_U8) load(static_cast<const uint8_t *>(y) + start, n, ys);
    else load(static_cast<const double *>(y) + start, n, ys);
    if (p_kind == FR_CLICKS_F32) load(static_cast<const float *>(p) + start, n, ps);
    else load(static_cast<const double *>(p) + start, n, ps);
    if (weights) load(weights + start, n, ws);
    find_bins(ps, n, bins, edges, bin_of);
    for (int64_t i = 0; i < n; ++i) {
      double *bin = lanes + (bin_of[i] * LANES + (i & (LANES - 1))) * 3;
      bin[0] += ws[i];
      bin[1] += ws[i] * ys[i];
      bin[2] += ws[i] * ps[i];
    }
  }
  for (int b = 0; b <= bins; ++b)
    for (int s = 0; s < 3; ++s) {
      double of_bin[LANES];
      for (int l = 0; l < LANES; ++l) of_bin[l] = lanes[(b * LANES + l) * 3 + s];
      bin_sums[b * 3 + s] = fold(load8<f64x8>(of_bin));
    }
}
