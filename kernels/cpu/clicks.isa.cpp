// Click metrics: a radix sort of rows by score, then by group, and the sums that the metrics are made of.
//
// Sorted rows are words: group | falling score code | label (lowest bit), so ascending words are groups, in each the
// scores descending.  Counts are integers; float64 sums are taken in the fixed order of the chunks that the binding
// cuts, whatever the threads.
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

template <class T>
int64_t copy_labels(const T *y, int64_t begin, int64_t end, uint8_t *out) {
  int bad = 0;
  for (int64_t i = begin; i < end; ++i) {
    const uint8_t one = y[i] == T(1);
    bad |= !(one | (y[i] == T(0)));
    out[i] = one;
  }
  if (bad)
    for (int64_t i = begin; i < end; ++i)
      if (!(y[i] == T(0) || y[i] == T(1))) return i;
  return -1;
}

// Row number of the first NaN, or -1; low_high: smallest and largest score otherwise.  In order of their bits NaNs lie
// outside the infinities, so one integer minimum and maximum tells both.
template <class T, class Bits>
int64_t range(const T *x, int64_t begin, int64_t end, double *low_high) {
  Bits low = ordered(x[begin]), high = low;
  for (int64_t i = begin; i < end; ++i) {
    const Bits b = ordered(x[i]);
    low = b < low ? b : low;
    high = b > high ? b : high;
  }
  const T infinity = static_cast<T>(__builtin_inf());
  if (low < ordered(-infinity) || high > ordered(infinity))
    for (int64_t i = begin; i < end; ++i)
      if (x[i] != x[i]) return i;
  low_high[0] = static_cast<double>(unordered(low));
  low_high[1] = static_cast<double>(unordered(high));
  return -1;
}

struct Weighted {
  const double *weights;
  FR_INLINE double at(int64_t i) const { return weights[i]; }
};
struct Counted {
  FR_INLINE int64_t at(int64_t) const { return 1; }
};

// One tie block: rows begin..end-1 share their score; positive and negative are their counts or weights.
template <class Count, class Weights>
FR_INLINE int64_t tie_block(const uint64_t *words, uint64_t mask, const Weights &weights, int64_t i, int64_t end,
                            Count &positive, Count &negative) {
  const uint64_t key = (words[i] & mask) >> 1;
  Count both = weights.at(i);
  Count with_label = words[i] & 1 ? both : Count(0);
  for (++i; i < end && (words[i] & mask) >> 1 == key; ++i) {
    const Count w = weights.at(i);
    both += w;
    with_label += words[i] & 1 ? w : Count(0);
  }
  positive = with_label;
  negative = both - with_label;
  return i;
}

// Weighted blocks keep the two sums apart: a difference of float sums would leave dust in an empty class.
template <>
FR_INLINE int64_t tie_block<double, Weighted>(const uint64_t *words, uint64_t mask, const Weighted &weights, int64_t i,
                                              int64_t end, double &positive, double &negative) {
  const uint64_t key = (words[i] & mask) >> 1;
  double sums[2] = {0.0, 0.0};
  do {
    sums[words[i] & 1] += weights.at(i);
    ++i;
  } while (i < end && (words[i] & mask) >> 1 == key);
  negative = sums[0];
  positive = sums[1];
  return i;
}

FR_INLINE void add_pairs(fr_clicks_sweep_sums &sums, int64_t pairs2) { sums.pairs2 += pairs2; }
FR_INLINE void add_pairs(fr_clicks_sweep_sums &sums, double pairs2) { sums.pairs2_sum += pairs2; }

// Level 0: pairs; 1: also precision, KS and F1; 2: also DeLong's sums.
template <int Level, class Count, class Weights>
void sweep(const uint64_t *words, uint64_t mask, const Weights &weights, int64_t begin, int64_t end, Count tp, Count fp,
           double positives, double negatives, fr_clicks_sweep_sums *out) {
  fr_clicks_sweep_sums sums = {0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1, -1};
  double precision = 0.0, ks = 0.0, f1 = 0.0;
  int64_t ks_at = -1, f1_at = -1;
  for (int64_t i = begin; i < end;) {
    Count positive, negative;
    i = tie_block<Count>(words, mask, weights, i, end, positive, negative);
    add_pairs(sums, negative * (2 * tp + positive));
    if (Level > 1) {
      const double p = static_cast<double>(positive), n = static_cast<double>(negative);
      const double above = 2.0 * static_cast<double>(tp) + p;
      const double below = 2.0 * (negatives - static_cast<double>(fp)) - n;
      sums.positive2 += p * (below * below);
      sums.negative2 += n * (above * above);
    }
    tp += positive;
    fp += negative;
    if (Level > 0) {
      // No branch on labels, which come in no order: a threshold at negatives alone adds 0 to the precision.
      const double t = static_cast<double>(tp), f = static_cast<double>(fp), all = t + f;
      precision += static_cast<double>(positive) * (t / (all > 0.0 ? all : 1.0));
      const double signed_gap = t * negatives - f * positives, half_f1 = t / (all + positives);
      const double gap = signed_gap < 0.0 ? -signed_gap : signed_gap;
      const bool wider = gap > ks, better = half_f1 > f1;
      ks = wider ? gap : ks;
      ks_at = wider ? i - 1 : ks_at;
      f1 = better ? half_f1 : f1;
      f1_at = better ? i - 1 : f1_at;
    }
  }
  sums.precision = precision;
  sums.ks = ks;
  sums.ks_at = ks_at;
  sums.f1 = 2.0 * f1;
  sums.f1_at = f1_at;
  *out = sums;
}

template <class Count, class Weights>
FR_INLINE void group(const uint64_t *words, uint64_t mask, const Weights &weights, int64_t begin, int64_t end,
                     Count &tp, Count &fp, Count &pairs2) {
  tp = fp = pairs2 = Count(0);
  for (int64_t i = begin; i < end;) {
    Count positive, negative;
    i = tie_block<Count>(words, mask, weights, i, end, positive, negative);
    pairs2 += negative * (2 * tp + positive);
    tp += positive;
    fp += negative;
  }
}

// log(x) for x >= 0, within 1 ulp, made of +, -, *, / and selects only, so that every instruction set and vector width
// gives the same bits.  x = 2^k m with m in [sqrt(1/2), sqrt 2); log m = 2 atanh(s) with s = (m - 1) / (m + 1).
FR_INLINE double log_of(double x) {
  const uint64_t root_half = 0x3FE6A09E667F3BCDull;
  const double tiny = 2.2250738585072014e-308;
  const double scaled = x < tiny ? x * 18014398509481984.0 : x;
  const double scaling = x < tiny ? 54.0 : 0.0;
  const uint64_t t = bits_of(scaled) + ((1100ull << 52) - root_half);
  const double k = (double_of((t >> 52) | 0x4330000000000000ull) - (4503599627370496.0 + 1100.0)) - scaling;
  const double f = double_of((t & 0xFFFFFFFFFFFFFull) + root_half) - 1.0;
  const double s = f / (2.0 + f), z = s * s;
  double r = 2.0 / 21;
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
  const double half = 0.5 * f * f;
  const double value = k * 6.93147180369123816490e-01 - ((half - (s * (half + r) + k * 1.90821492927058770002e-10)) - f);
  return x > 0.0 ? value : -__builtin_inf();
}

constexpr int64_t BLOCK = 512;
constexpr int LANES = 8;

template <class T>
FR_INLINE void load_as(const T *from, int64_t n, double *to) {
  for (int64_t i = 0; i < n; ++i) to[i] = static_cast<double>(from[i]);
}

void load(const void *from, int kind, int64_t begin, int64_t n, double *to) {
  switch (kind) {
    case FR_CLICKS_U8: load_as(static_cast<const uint8_t *>(from) + begin, n, to); break;
    case FR_CLICKS_F32: load_as(static_cast<const float *>(from) + begin, n, to); break;
    default: load_as(static_cast<const double *>(from) + begin, n, to); break;
  }
}

FR_INLINE double fold(const double *lanes) {
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// Adds term(i) to lane i % 8.
template <class Term>
FR_INLINE void add(double *lanes, int64_t n, const Term &term) {
  double sums[LANES];
  for (int l = 0; l < LANES; ++l) sums[l] = lanes[l];
  for (int64_t i = 0; i < n; i += LANES)
    for (int l = 0; l < LANES; ++l) sums[l] += term(i + l);
  for (int l = 0; l < LANES; ++l) lanes[l] = sums[l];
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

// -- the sort -------------------------------------------------------------------------------------------------------

constexpr int WIDTH = 10;  // bits of a pass in cache

FR_INLINE uint64_t key_of(uint64_t word) { return word; }
FR_INLINE uint64_t key_of(uint32_t word) { return word; }
FR_INLINE uint64_t key_of(const fr_clicks_pair &pair) { return pair.key; }

template <class Row>
void key_range(const Row *rows, int64_t begin, int64_t end, uint64_t mask, uint64_t *low_high) {
  uint64_t low = key_of(rows[begin]) & mask, high = low;
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t key = key_of(rows[i]) & mask;
    low = key < low ? key : low;
    high = key > high ? key : high;
  }
  low_high[0] = low;
  low_high[1] = high;
}

// Two tables, because equal digits in a row would otherwise wait for one another.
template <class Row>
void count_digits(const Row *rows, int64_t begin, int64_t end, int shift, uint32_t mask, uint32_t *counts) {
  uint32_t second[FR_CLICKS_DIGITS] = {};
  for (uint32_t d = 0; d <= mask; ++d) counts[d] = 0;
  int64_t i = begin;
  for (; i + 2 <= end; i += 2) {
    ++counts[(key_of(rows[i]) >> shift) & mask];
    ++second[(key_of(rows[i + 1]) >> shift) & mask];
  }
  if (i < end) ++counts[(key_of(rows[i]) >> shift) & mask];
  for (uint32_t d = 0; d <= mask; ++d) counts[d] += second[d];
}

template <class Row, class To>
void move(const Row *from, To *to, int64_t begin, int64_t end, int shift, uint32_t mask, uint32_t *offsets) {
  for (int64_t i = begin; i < end; ++i) {
    const Row row = from[i];
    to[offsets[(key_of(row) >> shift) & mask]++] = row;
  }
}

// Insertion sort; false as soon as it has moved more than `budget` rows, with every row still in its place or its
// neighbour's.  Stable.
template <class Row>
bool settle(Row *rows, int64_t n, uint64_t mask, int64_t budget) {
  for (int64_t i = 1; i < n; ++i) {
    const Row row = rows[i];
    const uint64_t key = key_of(row) & mask;
    int64_t j = i;
    for (; j > 0 && (key_of(rows[j - 1]) & mask) > key; --j) {
      rows[j] = rows[j - 1];
      --budget;
    }
    rows[j] = row;
    if (FR_UNLIKELY(budget < 0)) return false;
  }
  return true;
}

template <class Row, class To>
void copy(const Row *from, To *to, int64_t n) {
  if (static_cast<const void *>(from) != static_cast<const void *>(to))
    for (int64_t i = 0; i < n; ++i) to[i] = from[i];
}

FR_INLINE int bit_length(uint64_t x) {
  int bits = 0;
  for (int step = 32; step; step /= 2)
    if (x >> step) {
      x >>= step;
      bits += step;
    }
  return bits + (x != 0);
}

// Stable passes by bits low..high-1, lowest digits first; one read counts the digits of two passes.  The last pass
// writes to `out`, or else the result is copied there where `out` is what that pass reads.
template <class Row, class To>
void passes(Row *here, Row *there, To *out, int64_t n, int low, int high) {
  const int digits = (high - low + WIDTH - 1) / WIDTH;
  for (int digit = 0; digit < digits; digit += 2) {
    uint32_t offsets[2][1 << WIDTH] = {};
    int cuts[3];
    for (int c = 0; c < 3; ++c) {
      const int at = digit + c < digits ? digit + c : digits;
      cuts[c] = low + (high - low) * at / digits;
    }
    const uint32_t mask0 = (1u << (cuts[1] - cuts[0])) - 1, mask1 = (1u << (cuts[2] - cuts[1])) - 1;
    const int shift1 = cuts[1] < 63 ? cuts[1] : 63;  // where mask1 is 0 the shift must only be legal
    for (int64_t i = 0; i < n; ++i) {
      const uint64_t key = key_of(here[i]);
      ++offsets[0][(key >> cuts[0]) & mask0];
      ++offsets[1][(key >> shift1) & mask1];
    }
    for (int c = 0; c < 2 && digit + c < digits; ++c) {
      const uint32_t mask = c ? mask1 : mask0;
      uint32_t total = 0;
      for (uint32_t d = 0; d <= mask; ++d) {
        const uint32_t count = offsets[c][d];
        offsets[c][d] = total;
        total += count;
      }
      if (digit + c + 1 == digits && static_cast<void *>(out) != static_cast<void *>(here)) {
        move(here, out, 0, n, cuts[c], mask, offsets[c]);
        return;
      }
      move(here, there, 0, n, cuts[c], mask, offsets[c]);
      Row *swap = here;
      here = there;
      there = swap;
    }
  }
  copy(here, out, n);
}

// A few bits more than it takes to tell n rows apart go through radix passes; insertion puts the few rows right whose
// keys agree in them.  Where those are many, all bits go through passes.
template <class Row, class To>
void leaf(Row *from, Row *other, To *out, int64_t n, uint64_t mask) {
  if (n <= 32) {
    settle(from, n, mask, INT64_MAX);
    copy(from, out, n);
    return;
  }
  uint64_t low_high[2];
  key_range(from, 0, n, mask, low_high);
  const int high = bit_length(low_high[0] ^ low_high[1]);
  const int lowest = bit_length(mask & (0 - mask)) - 1;
  if (high == 0) {
    copy(from, out, n);
    return;
  }
  const int wanted = bit_length(static_cast<uint64_t>(n)) + 4;
  const int enough = (wanted + WIDTH - 1) / WIDTH * WIDTH;  // what the passes that it takes can do
  const int low = high - lowest > enough ? high - enough : lowest;
  passes(from, other, out, n, low, high);
  if (low == lowest || settle(out, n, mask, 4 * n)) return;
  for (int64_t i = 0; i < n; ++i) from[i] = static_cast<Row>(out[i]);
  passes(from, other, out, n, lowest, high);
}

}  // namespace

extern "C" int64_t FR_FN(fr_clicks_labels)(const void *y, int kind, int64_t begin, int64_t end, uint8_t *out) {
  switch (kind) {
    case FR_CLICKS_U8: return copy_labels(static_cast<const uint8_t *>(y), begin, end, out);
    case FR_CLICKS_I32: return copy_labels(static_cast<const int32_t *>(y), begin, end, out);
    case FR_CLICKS_I64: return copy_labels(static_cast<const int64_t *>(y), begin, end, out);
    case FR_CLICKS_F32: return copy_labels(static_cast<const float *>(y), begin, end, out);
    default: return copy_labels(static_cast<const double *>(y), begin, end, out);
  }
}

extern "C" int64_t FR_FN(fr_clicks_range)(const void *x, int kind, int64_t begin, int64_t end, double *low_high) {
  return kind == FR_CLICKS_F32 ? range<float, uint32_t>(static_cast<const float *>(x), begin, end, low_high)
                               : range<double, uint64_t>(static_cast<const double *>(x), begin, end, low_high);
}

extern "C" void FR_FN(fr_clicks_pack)(const void *scores, int kind, const uint8_t *labels, const int32_t *groups,
                                      int group_shift, double top, int64_t begin, int64_t end, uint64_t *words) {
  if (kind == FR_CLICKS_F32) {
    const float *x = static_cast<const float *>(scores);
    const uint32_t first = ordered(static_cast<float>(top));
    if (groups)
      for (int64_t i = begin; i < end; ++i)
        words[i] = static_cast<uint64_t>(static_cast<uint32_t>(groups[i])) << group_shift |
                   static_cast<uint64_t>(first - ordered(x[i])) << 1 | labels[i];
    else
      for (int64_t i = begin; i < end; ++i)
        words[i] = static_cast<uint64_t>(first - ordered(x[i])) << 1 | labels[i];
  } else {
    const double *x = static_cast<const double *>(scores);
    const uint64_t first = ordered(top);
    for (int64_t i = begin; i < end; ++i) words[i] = (first - ordered(x[i])) << 1 | labels[i];
  }
}

extern "C" void FR_FN(fr_clicks_pair_up)(const void *scores, int kind, const uint8_t *labels, double top, int64_t begin,
                                         int64_t end, fr_clicks_pair *pairs) {
  const uint64_t first = ordered(top);
  if (kind == FR_CLICKS_F32) {
    const float *x = static_cast<const float *>(scores);
    const uint32_t first32 = ordered(static_cast<float>(top));
    for (int64_t i = begin; i < end; ++i) {
      pairs[i].key = first32 - ordered(x[i]);
      pairs[i].row = static_cast<uint64_t>(i) << 1 | labels[i];
    }
  } else {
    const double *x = static_cast<const double *>(scores);
    for (int64_t i = begin; i < end; ++i) {
      pairs[i].key = first - ordered(x[i]);
      pairs[i].row = static_cast<uint64_t>(i) << 1 | labels[i];
    }
  }
}

// Smallest and largest key.
extern "C" void FR_FN(fr_clicks_keys)(const uint64_t *rows, int stride, int64_t begin, int64_t end, uint64_t mask,
                                      uint64_t *low_high) {
  if (stride == 1) key_range(rows, begin, end, mask, low_high);
  else key_range(reinterpret_cast<const fr_clicks_pair *>(rows), begin, end, mask, low_high);
}

// How often each of 64 digits occurs.
extern "C" void FR_FN(fr_clicks_digits)(const uint64_t *rows, int stride, int64_t begin, int64_t end, int shift,
                                        uint32_t mask, uint32_t *counts) {
  if (stride == 1) count_digits(rows, begin, end, shift, mask, counts);
  else count_digits(reinterpret_cast<const fr_clicks_pair *>(rows), begin, end, shift, mask, counts);
}

// One stable pass: each row goes to the next free place of its digit.
extern "C" void FR_FN(fr_clicks_move)(const uint64_t *from, uint64_t *to, int stride, int64_t begin, int64_t end,
                                      int shift, uint32_t mask, uint32_t *offsets) {
  if (stride == 1)
    move(from, to, begin, end, shift, mask, offsets);
  else
    move(reinterpret_cast<const fr_clicks_pair *>(from), reinterpret_cast<fr_clicks_pair *>(to), begin, end, shift,
         mask, offsets);
}

// Sorts the n rows of `from` into `out`, which is `from` or `other`, by the bits of `mask`.  Stable.
extern "C" void FR_FN(fr_clicks_leaf)(uint64_t *from, uint64_t *other, uint64_t *out, int stride, int64_t n,
                                      uint64_t mask) {
  if (stride == 1)
    leaf(from, other, out, n, mask);
  else
    leaf(reinterpret_cast<fr_clicks_pair *>(from), reinterpret_cast<fr_clicks_pair *>(other),
         reinterpret_cast<fr_clicks_pair *>(out), n, mask);
}

// How often each value of the leading bits of the falling score codes occurs: code >> shift, below FR_CLICKS_FINE.
extern "C" void FR_FN(fr_clicks_fine)(const float *scores, float top, int64_t begin, int64_t end, int shift,
                                      uint32_t *counts) {
  const uint32_t first = ordered(top);
  for (int f = 0; f < FR_CLICKS_FINE; ++f) counts[f] = 0;
  for (int64_t i = begin; i < end; ++i) ++counts[(first - ordered(scores[i])) >> shift];
}

// Half words (falling score code | label) of rows, each to the next free place of the bucket of its leading bits.
extern "C" void FR_FN(fr_clicks_deal)(const float *scores, const uint8_t *labels, float top, int64_t begin, int64_t end,
                                      int shift, const uint16_t *bucket_of, uint32_t *offsets, uint32_t *halves) {
  const uint32_t first = ordered(top);
  for (int64_t i = begin; i < end; ++i) {
    const uint32_t code = first - ordered(scores[i]);
    halves[offsets[bucket_of[code >> shift]]++] = code << 1 | labels[i];
  }
}

// Sorts n half words by all but the lowest bit, into words.  `halves` and `spare` are lost.
extern "C" void FR_FN(fr_clicks_leaf_halves)(uint32_t *halves, uint32_t *spare, uint64_t *words, int64_t n) {
  leaf(halves, spare, words, n, 0xFFFFFFFEu);
}

// The first row at or after `at` that begins a block of equal (key & mask), in an array sorted by it.
extern "C" int64_t FR_FN(fr_clicks_boundary)(const uint64_t *keys, int stride, int64_t at, int64_t n, uint64_t mask) {
  if (at <= 0 || at >= n) return at <= 0 ? 0 : n;
  const uint64_t before = keys[(at - 1) * stride] & mask;
  if ((keys[at * stride] & mask) != before) return at;
  int64_t step = 1, low = at;
  while (low + step < n && (keys[(low + step) * stride] & mask) == before) step *= 2;
  int64_t high = low + step < n ? low + step : n;
  for (low += step / 2; low < high;) {
    const int64_t middle = low + (high - low) / 2;
    if ((keys[middle * stride] & mask) == before) low = middle + 1; else high = middle;
  }
  return high;
}

// Sorted pairs to words whose score code is the dense rank; groups are looked up by row number.
extern "C" void FR_FN(fr_clicks_ranks)(const fr_clicks_pair *pairs, int64_t n, const int32_t *groups, uint64_t *words) {
  uint64_t rank = 0;
  for (int64_t i = 0; i < n; ++i) {
    rank += i > 0 && pairs[i].key != pairs[i - 1].key;
    const uint64_t of = groups ? static_cast<uint32_t>(groups[pairs[i].row >> 1]) : 0u;
    words[i] = of << 33 | rank << 1 | (pairs[i].row & 1);
  }
}

extern "C" int64_t FR_FN(fr_clicks_positives)(const uint64_t *words, int64_t begin, int64_t end) {
  uint64_t count = 0;
  for (int64_t i = begin; i < end; ++i) count += words[i] & 1;
  return static_cast<int64_t>(count);
}

extern "C" void FR_FN(fr_clicks_weights)(const uint64_t *words, const double *weights, int64_t begin, int64_t end,
                                         double *negative_positive) {
  double sums[2] = {0.0, 0.0};
  for (int64_t i = begin; i < end; ++i) sums[words[i] & 1] += weights[i];
  negative_positive[0] = sums[0];
  negative_positive[1] = sums[1];
}

extern "C" void FR_FN(fr_clicks_sweep)(const uint64_t *words, uint64_t mask, int64_t begin, int64_t end, int64_t tp,
                                       int64_t fp, int64_t positives, int64_t negatives, int level,
                                       fr_clicks_sweep_sums *out) {
  const double p = static_cast<double>(positives), n = static_cast<double>(negatives);
  if (level == 2) sweep<2, int64_t>(words, mask, Counted{}, begin, end, tp, fp, p, n, out);
  else if (level == 1) sweep<1, int64_t>(words, mask, Counted{}, begin, end, tp, fp, p, n, out);
  else sweep<0, int64_t>(words, mask, Counted{}, begin, end, tp, fp, p, n, out);
}

extern "C" void FR_FN(fr_clicks_sweep_weighted)(const uint64_t *words, uint64_t mask, const double *weights,
                                                int64_t begin, int64_t end, double tp, double fp, double positives,
                                                double negatives, fr_clicks_sweep_sums *out) {
  sweep<2, double>(words, mask, Weighted{weights}, begin, end, tp, fp, positives, negatives, out);
}

extern "C" void FR_FN(fr_clicks_groups)(const uint64_t *words, uint64_t mask, const int64_t *offsets, int64_t begin,
                                        int64_t end, int64_t *positives, int64_t *pairs2) {
  for (int64_t g = begin; g < end; ++g) {
    int64_t negatives;
    group<int64_t>(words, mask, Counted{}, offsets[g], offsets[g + 1], positives[g], negatives, pairs2[g]);
  }
}

extern "C" void FR_FN(fr_clicks_groups_weighted)(const uint64_t *words, uint64_t mask, const double *weights,
                                                 const int64_t *offsets, int64_t begin, int64_t end, double *positives,
                                                 double *negatives, double *pairs2) {
  for (int64_t g = begin; g < end; ++g)
    group<double>(words, mask, Weighted{weights}, offsets[g], offsets[g + 1], positives[g], negatives[g], pairs2[g]);
}

// lanes: scratch of (bins + 1) * 24 doubles; bin_sums: (bins + 1) * 3, holding w, w y, w p of each bin.
extern "C" void FR_FN(fr_clicks_points)(const void *y, int y_kind, const void *p, int p_kind, const double *weights,
                                        int64_t begin, int64_t end, int loss, double eps, double centre, int bins,
                                        const double *edges, double *lanes, double *sums, double *bin_sums) {
  double acc[FR_CLICKS_POINT_SUMS][LANES] = {};
  double ys[BLOCK], ps[BLOCK], ws[BLOCK], losses[BLOCK];
  int32_t bin_of[BLOCK];
  const bool hard = y_kind == FR_CLICKS_U8;
  for (int64_t i = 0; bins && i < (bins + 1) * 3 * LANES; ++i) lanes[i] = 0.0;
  for (int64_t i = 0; i < BLOCK; ++i) ws[i] = 1.0;
  for (int64_t start = begin; start < end; start += BLOCK) {
    const int64_t n = end - start < BLOCK ? end - start : BLOCK;
    const int64_t padded = (n + LANES - 1) / LANES * LANES;
    load(y, y_kind, start, n, ys);
    load(p, p_kind, start, n, ps);
    if (weights) load_as(weights + start, n, ws);
    for (int64_t i = n; i < padded; ++i) ys[i] = ps[i] = ws[i] = 0.0;  // rows that weigh nothing
    if (loss) {
      const double most = 1.0 - eps;
      if (hard) {
        for (int64_t i = 0; i < padded; ++i) {
          double q = ys[i] != 0.0 ? ps[i] : 1.0 - ps[i];
          q = q < eps ? eps : q;
          q = q > most ? most : q;
          losses[i] = -log_of(q);
        }
      } else {
        for (int64_t i = 0; i < padded; ++i) {
          double q = ps[i] < eps ? eps : ps[i], r = 1.0 - ps[i] < eps ? eps : 1.0 - ps[i];
          q = q > most ? most : q;
          r = r > most ? most : r;
          const double u = ys[i], v = 1.0 - ys[i];
          losses[i] = -((u != 0.0 ? u * log_of(q) : 0.0) + (v != 0.0 ? v * log_of(r) : 0.0));
        }
      }
      add(acc[FR_CLICKS_LOSS], padded, [&](int64_t i) { return ws[i] != 0.0 ? ws[i] * losses[i] : 0.0; });
    }
    add(acc[FR_CLICKS_WEIGHT], padded, [&](int64_t i) { return ws[i]; });
    add(acc[FR_CLICKS_LABEL], padded, [&](int64_t i) { return ws[i] * ys[i]; });
    add(acc[FR_CLICKS_PROB], padded, [&](int64_t i) { return ws[i] * ps[i]; });
    add(acc[FR_CLICKS_SQUARE], padded, [&](int64_t i) {
      const double d = ps[i] - ys[i];
      return ws[i] * (d * d);
    });
    add(acc[FR_CLICKS_ABSOLUTE], padded, [&](int64_t i) {
      const double d = ps[i] - ys[i];
      return ws[i] * (d < 0.0 ? -d : d);
    });
    add(acc[FR_CLICKS_SPREAD], padded, [&](int64_t i) {
      const double e = ys[i] - centre;
      return ws[i] * (e * e);
    });
    if (bins) {
      find_bins(ps, n, bins, edges, bin_of);
      for (int64_t i = 0; i < n; ++i) {
        double *bin = lanes + (bin_of[i] * LANES + (i & (LANES - 1))) * 3;
        bin[0] += ws[i];
        bin[1] += ws[i] * ys[i];
        bin[2] += ws[i] * ps[i];
      }
    }
  }
  for (int s = 0; s < FR_CLICKS_POINT_SUMS; ++s) sums[s] = fold(acc[s]);
  for (int b = 0; bins && b <= bins; ++b)
    for (int s = 0; s < 3; ++s) {
      double of_bin[LANES];
      for (int l = 0; l < LANES; ++l) of_bin[l] = lanes[(b * LANES + l) * 3 + s];
      bin_sums[b * 3 + s] = fold(of_bin);
    }
}

// The sum of the scores of rows begin..end-1 of the sorted words.
extern "C" double FR_FN(fr_clicks_score_sum)(const uint64_t *words, uint64_t mask, int kind, double top, int64_t begin,
                                             int64_t end) {
  double lanes[LANES] = {}, scores[BLOCK];
  for (int64_t start = begin; start < end; start += BLOCK) {
    const int64_t n = end - start < BLOCK ? end - start : BLOCK;
    const int64_t padded = (n + LANES - 1) / LANES * LANES;
    const uint64_t *of = words + start;
    if (kind == FR_CLICKS_F32) {
      const uint32_t first = ordered(static_cast<float>(top));
      for (int64_t i = 0; i < n; ++i) scores[i] = unordered(first - static_cast<uint32_t>((of[i] & mask) >> 1));
    } else {
      const uint64_t first = ordered(top);
      for (int64_t i = 0; i < n; ++i) scores[i] = unordered(first - ((of[i] & mask) >> 1));
    }
    for (int64_t i = n; i < padded; ++i) scores[i] = 0.0;
    add(lanes, padded, [&](int64_t i) { return scores[i]; });
  }
  return fold(lanes);
}

// Merge sort of ranks; adds up the weight of pairs whose first is the smaller, each pair once.  Rows begin..end-1 of
// `ranks` (and `weights`) are sorted in runs of `width`; afterwards they are one run, in the same arrays.
extern "C" double FR_FN(fr_clicks_ascents)(uint32_t *ranks, uint32_t *spare, double *weights, double *spare_weights,
                                           int64_t begin, int64_t end, int64_t width, int64_t *count) {
  double total = 0.0;
  int64_t ascents = 0;
  for (; width < end - begin; width *= 2) {
    for (int64_t left = begin; left < end; left += 2 * width) {
      const int64_t middle = left + width < end ? left + width : end;
      const int64_t stop = left + 2 * width < end ? left + 2 * width : end;
      double before = 0.0;
      int64_t i = left, j = middle;
      for (int64_t to = left; to < stop; ++to) {
        const bool first = j >= stop || (i < middle && ranks[i] < ranks[j]);
        const int64_t from = first ? i : j;
        spare[to] = ranks[from];
        if (weights) {
          spare_weights[to] = weights[from];
          if (first) before += weights[from];
          else total += weights[from] * before;
        }
        ascents += first ? 0 : i - left;
        i += first;
        j += !first;
      }
    }
    for (int64_t i = begin; i < end; ++i) ranks[i] = spare[i];
    if (weights)
      for (int64_t i = begin; i < end; ++i) weights[i] = spare_weights[i];
  }
  *count = ascents;
  return total;
}
