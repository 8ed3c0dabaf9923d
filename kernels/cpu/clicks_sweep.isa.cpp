// Click metrics: the sums over sorted rows.
#include "clicks_codes.h"

namespace {

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

// Rows that all weigh one are swept in two steps: the ends of tie blocks are found one row at a time, and what follows
// from each end is summed in eight lanes, by the place of the block among those of its batch.

// The ends of tie blocks, in rows and in positives from the begin of the chunk; entry 0 is the end before them.
struct Ends {
  int32_t rows[1 + BLOCK + 4 * LANES], hits[1 + BLOCK + 4 * LANES];  // the last batch is read beyond its end
};

struct Lanes {
  u64x8 pairs2 = splat(uint64_t(0));
  f64x8 precision = splat(0.0), ks = splat(0.0), ks_at = splat(-1.0), positive2 = splat(0.0), negative2 = splat(0.0);
  f64x8 f1_top = splat(0.0), f1_bottom = splat(1.0), f1_at = splat(-1.0);  // the best F1 is twice their quotient
};

// The largest value of any lane, and the first row that reaches it.
FR_INLINE double widest(f64x8 lanes, f64x8 rows_of, int64_t begin, int64_t *at) {
  double values[LANES], rows[LANES], value = 0.0, row = -1.0;
  store8(values, lanes);
  store8(rows, rows_of);
  for (int l = 0; l < LANES; ++l)
    if (values[l] > value || (values[l] == value && row >= 0.0 && rows[l] >= 0.0 && rows[l] < row)) {
      value = values[l];
      row = rows[l];
    }
  *at = row < 0.0 ? -1 : begin + static_cast<int64_t>(row) - 1;
  return value;
}

// What sums over ends are made of: `tp` and `before` are the positives and the rows in front of the chunk.
struct Curve {
  double tp, before, positives, negatives;
  FR_INLINE f64x8 hits(const Ends &ends, int64_t j) const { return tp + as_f64(load8<u32x8>(ends.hits + j)); }
  FR_INLINE f64x8 rows(const Ends &ends, int64_t j) const { return before + as_f64(load8<u32x8>(ends.rows + j)); }
};

FR_INLINE void add_pairs(const Ends &ends, int64_t count, u64x8 &pairs2) {
  for (int64_t j = 1; j <= count; j += LANES) {
    const u32x8 rows = load8<u32x8>(ends.rows + j), rows_before = load8<u32x8>(ends.rows + j - 1);
    const u32x8 hits = load8<u32x8>(ends.hits + j), hits_before = load8<u32x8>(ends.hits + j - 1);
    pairs2 += product((rows - rows_before) - (hits - hits_before), hits + hits_before);
  }
}

// Positives of a block times the precision at its end, as the quotient of these two.
FR_INLINE void share(const Ends &ends, int64_t j, const Curve &curve, f64x8 &top, f64x8 &bottom) {
  const u32x8 positive = load8<u32x8>(ends.hits + j) - load8<u32x8>(ends.hits + j - 1);
  top = as_f64(positive) * curve.hits(ends, j);
  bottom = curve.rows(ends, j);
}

// Four quotients are added as one, because a division takes longer than all the products that this needs.
FR_INLINE f64x8 precision_of(const Ends &ends, int64_t count, const Curve &curve, f64x8 sum) {
  for (int64_t j = 1; j <= count; j += 4 * LANES) {
    f64x8 a, b, c, d, of_a, of_b, of_c, of_d;
    share(ends, j, curve, a, of_a);
    share(ends, j + LANES, curve, b, of_b);
    share(ends, j + 2 * LANES, curve, c, of_c);
    share(ends, j + 3 * LANES, curve, d, of_d);
    const f64x8 first = a * of_b + b * of_a, of_first = of_a * of_b;
    const f64x8 second = c * of_d + d * of_c, of_second = of_c * of_d;
    sum += (first * of_second + second * of_first) / (of_first * of_second);
  }
  return sum;
}

// No end of these has a KS, or an F1, above what lies at their corners; those below what is reached elsewhere are left.
FR_INLINE void find_widest(const Ends &ends, int64_t count, const Curve &curve, double floor, Lanes &sums) {
  const double t0 = curve.tp + ends.hits[0], t1 = curve.tp + ends.hits[count];
  const double f0 = curve.before + ends.rows[0] - t0, f1 = curve.before + ends.rows[count] - t1;
  const double above = t1 * curve.negatives - f0 * curve.positives;
  const double below = f1 * curve.positives - t0 * curve.negatives;
  if (above < floor && below < floor) return;
  for (int64_t j = 1; j <= count; j += LANES) {
    const f64x8 t = curve.hits(ends, j), f = curve.rows(ends, j) - t;
    const f64x8 gap = absolute(t * curve.negatives - f * curve.positives);
    const i64x8 wider = gap > sums.ks;
    sums.ks = where(wider, gap, sums.ks);
    sums.ks_at = where(wider, as_f64(load8<u32x8>(ends.rows + j)), sums.ks_at);
  }
}
FR_INLINE void find_best_f1(const Ends &ends, int64_t count, const Curve &curve, double floor, Lanes &sums) {
  const double most = curve.tp + ends.hits[count], least = curve.before + ends.rows[0] + curve.positives;
  if (most / least < floor) return;
  for (int64_t j = 1; j <= count; j += LANES) {
    const f64x8 t = curve.hits(ends, j), bottom = curve.rows(ends, j) + curve.positives;
    const i64x8 better = t * sums.f1_bottom > sums.f1_top * bottom;
    sums.f1_top = where(better, t, sums.f1_top);
    sums.f1_bottom = where(better, bottom, sums.f1_bottom);
    sums.f1_at = where(better, as_f64(load8<u32x8>(ends.rows + j)), sums.f1_at);
  }
}

FR_INLINE void add_variances(const Ends &ends, int64_t count, const Curve &curve, Lanes &sums) {
  for (int64_t j = 1; j <= count; j += LANES) {
    const u32x8 rows = load8<u32x8>(ends.rows + j) - load8<u32x8>(ends.rows + j - 1);
    const u32x8 positive = load8<u32x8>(ends.hits + j) - load8<u32x8>(ends.hits + j - 1);
    const f64x8 p = as_f64(positive), n = as_f64(rows - positive), t = curve.hits(ends, j);
    const f64x8 f = curve.rows(ends, j) - t;
    const f64x8 above = 2.0 * t - p, below = 2.0 * (curve.negatives - f) + n;
    sums.positive2 += p * (below * below);
    sums.negative2 += n * (above * above);
  }
}

// Appends the ends among n rows, of which the first `followed` have a row after them in their chunk; returns how many.
template <class Word>
FR_INLINE int64_t find_ends(const Word *words, Word key, int64_t n, int64_t followed, int32_t before, int32_t &hits,
                            Ends &ends) {
  int64_t count = 1, i = 0;
#if defined(FR_AVX512)
  if (sizeof(Word) == 4) {
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i zero = _mm512_setzero_si512(), one = _mm512_set1_epi32(1);
    const __m512i of_score = _mm512_set1_epi32(static_cast<int>(key));
    for (; i + 16 <= followed; i += 16) {
      const __m512i here = _mm512_loadu_si512(words + i), next = _mm512_loadu_si512(words + i + 1);
      const __mmask16 end = _mm512_test_epi32_mask(_mm512_xor_si512(here, next), of_score);
      __m512i sum = _mm512_and_si512(here, one);
      sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 15));
      sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 14));
      sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 12));
      sum = _mm512_add_epi32(sum, _mm512_alignr_epi32(sum, zero, 8));
      sum = _mm512_add_epi32(sum, _mm512_set1_epi32(hits));
      const __m512i rows = _mm512_add_epi32(lanes, _mm512_set1_epi32(before + static_cast<int32_t>(i) + 1));
      _mm512_storeu_si512(ends.rows + count, _mm512_maskz_compress_epi32(end, rows));
      _mm512_storeu_si512(ends.hits + count, _mm512_maskz_compress_epi32(end, sum));
      count += __builtin_popcount(end);
      hits = _mm_extract_epi32(_mm512_extracti32x4_epi32(sum, 3), 3);
    }
  }
#endif
  for (; i < n; ++i) {
    hits += static_cast<int32_t>(words[i] & 1);
    ends.rows[count] = before + static_cast<int32_t>(i) + 1;
    ends.hits[count] = hits;
    count += i < followed ? ((words[i] ^ words[i + 1]) & key) != 0 : 1;
  }
  return count - 1;
}

template <class Word>
void sweep(const Word *words, Word mask, int64_t begin, int64_t end, int64_t tp, const Curve &curve, int level,
           const double *floors, fr_clicks_sweep_sums *out) {
  Ends ends;
  Lanes sums;
  const Word key = mask & ~Word(1);
  int32_t hits = 0;
  ends.rows[0] = ends.hits[0] = 0;
  for (int64_t start = begin; start < end; start += BLOCK) {
    const Word *of = words + start;
    const int64_t n = end - start < BLOCK ? end - start : BLOCK;
    const int64_t followed = start + n == end ? n - 1 : n;  // rows after which another is known
    const int32_t before = static_cast<int32_t>(start - begin);
    const int64_t last = find_ends(of, key, n, followed, before, hits, ends);
    for (int64_t l = 1; l < 4 * LANES; ++l) {  // blocks without rows
      ends.rows[last + l] = ends.rows[last];
      ends.hits[last + l] = ends.hits[last];
    }
    add_pairs(ends, last, sums.pairs2);
    if (level >= 1) {
      sums.precision = precision_of(ends, last, curve, sums.precision);
      find_widest(ends, last, curve, floors[0], sums);
      find_best_f1(ends, last, curve, floors[1], sums);
    }
    if (level >= 2) add_variances(ends, last, curve, sums);
    ends.rows[0] = ends.rows[last];
    ends.hits[0] = ends.hits[last];
  }
  uint64_t pairs2 = 2 * static_cast<uint64_t>(tp) * static_cast<uint64_t>(end - begin - hits);
  pairs2 += fold(sums.pairs2);
  out->pairs2 = static_cast<int64_t>(pairs2);
  out->pairs2_sum = 0.0;
  out->precision = fold(sums.precision);
  out->ks = widest(sums.ks, sums.ks_at, begin, &out->ks_at);
  out->f1 = 2.0 * widest(sums.f1_top / sums.f1_bottom, sums.f1_at, begin, &out->f1_at);
  out->positive2 = fold(sums.positive2);
  out->negative2 = fold(sums.negative2);
}

// Weighted rows, one tie block after the other; all sums.
void sweep_weighted(const uint64_t *words, uint64_t mask, const Weighted &weights, int64_t begin, int64_t end,
                    double tp, double fp, double positives, double negatives, fr_clicks_sweep_sums *out) {
  fr_clicks_sweep_sums sums = {0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, -1, -1};
  for (int64_t i = begin; i < end;) {
    double positive, negative;
    i = tie_block<double>(words, mask, weights, i, end, positive, negative);
    const double above = 2.0 * tp + positive, below = 2.0 * (negatives - fp) - negative;
    sums.pairs2_sum += negative * above;
    sums.positive2 += positive * (below * below);
    sums.negative2 += negative * (above * above);
    tp += positive;
    fp += negative;
    // No branch on labels, which come in no order: a threshold at negatives alone adds 0 to the precision.
    const double all = tp + fp;
    sums.precision += positive * (tp / (all > 0.0 ? all : 1.0));
    const double signed_gap = tp * negatives - fp * positives, f1 = tp / (all + positives);
    const double gap = signed_gap < 0.0 ? -signed_gap : signed_gap;
    const bool wider = gap > sums.ks, better = f1 > sums.f1;
    sums.ks = wider ? gap : sums.ks;
    sums.ks_at = wider ? i - 1 : sums.ks_at;
    sums.f1 = better ? f1 : sums.f1;
    sums.f1_at = better ? i - 1 : sums.f1_at;
  }
  sums.f1 *= 2.0;
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

template <class Word>
int64_t boundary(const Word *words, Word key, int64_t at, int64_t n) {
  if (at <= 0 || at >= n) return at <= 0 ? 0 : n;
  const Word before = words[at - 1] & key;
  if ((words[at] & key) != before) return at;
  int64_t step = 1, low = at;
  while (low + step < n && (words[low + step] & key) == before) step *= 2;
  int64_t high = low + step < n ? low + step : n;
  for (low += step / 2; low < high;) {
    const int64_t middle = low + (high - low) / 2;
    if ((words[middle] & key) == before) low = middle + 1; else high = middle;
  }
  return high;
}

// The first row of the tie block that holds row `at`, in words without groups.
template <class Word>
int64_t block_begin(const Word *words, Word key, int64_t at) {
  int64_t low = 0;
  for (int64_t high = at; low < high;) {
    const int64_t middle = low + (high - low) / 2;
    if ((words[middle] & key) < (words[at] & key)) low = middle + 1; else high = middle;
  }
  return low;
}

template <class Word>
int64_t positives_of(const Word *words, int64_t begin, int64_t end) {
  Word count = 0;  // fewer than 2^32 rows
  for (int64_t i = begin; i < end; ++i) count += words[i] & 1;
  return static_cast<int64_t>(count);
}

// The score in a word of group | falling code | label, of rows of which the first has the code `first`.
template <class Word, class Bits>
FR_INLINE double score_of(Word word, Word mask, Bits first) {
  return static_cast<double>(unordered(first - static_cast<Bits>((word & mask) >> 1)));
}

// Positives, and the exact sum of the scores, of rows begin..end-1.
template <class Word, class Bits>
void range_sums(const Word *words, Word mask, Bits first, int64_t begin, int64_t end, int64_t *out) {
  constexpr double WHOLE = 1.0 / 512;  // from there on a float32 is a whole number of units of 2^-32
  u64x8 high = splat(uint64_t(0)), low = high;
  double scores[BLOCK];
  int64_t positives = 0, units = 0;
  for (int64_t start = begin; start < end; start += BLOCK) {
    const int64_t n = end - start < BLOCK ? end - start : BLOCK;
    const int64_t padded = (n + LANES - 1) / LANES * LANES;
    positives += positives_of(words, start, start + n);
    for (int64_t i = 0; i < n; ++i) scores[i] = score_of(words[start + i], mask, first);
    const double least_score = scores[n - 1];
    for (int64_t i = n; i < padded; ++i) scores[i] = 0.0;
    if (sizeof(Bits) == 4 && least_score >= WHOLE) {  // then so is their sum, and exact
      f64x8 sum = splat(0.0);
      for (int64_t i = 0; i < padded; i += LANES) sum += load8<f64x8>(scores + i);
      units += static_cast<int64_t>(fold(sum) * 4294967296.0);
      continue;
    }
    for (int64_t i = 0; i < padded; i += LANES) {
      u64x8 more, rest;
      split(load8<f64x8>(scores + i), more, rest);
      high += more - bits_of(SHIFT);
      low += rest - bits_of(SHIFT);
    }
  }
  out[0] = positives;
  out[1] = units + static_cast<int64_t>(fold(high));
  out[2] = static_cast<int64_t>(fold(low));
}

template <class Word, class Bits>
void scores_at(const Word *words, Word mask, Bits first, const int64_t *rows, int64_t count, double *out) {
  for (int64_t i = 0; i < count; ++i) out[i] = score_of(words[rows[i]], mask, first);
}

// Rows with a score above each edge or, where it is `closed`, equal to it: they come first.
template <class Word, class Bits>
void above(const Word *words, Word mask, Bits first, int64_t n, const double *edges, const uint8_t *closed,
           int64_t count, int64_t *out) {
  for (int64_t e = 0; e < count; ++e) {
    int64_t low = 0, high = n;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      const double score = score_of(words[middle], mask, first);
      if (closed[e] ? score >= edges[e] : score > edges[e]) low = middle + 1; else high = middle;
    }
    out[e] = low;
  }
}

// The row that `wanted` negatives end with, when `before` of them precede row begin; end - 1 where there are fewer.
template <class Word>
int64_t negative_row(const Word *words, int64_t begin, int64_t end, int64_t before, double wanted) {
  for (--end; begin < end;) {
    const int64_t middle = begin + (end - begin) / 2 + 1;
    const int64_t with = before + (middle - begin) - positives_of(words, begin, middle);
    if (static_cast<double>(with) >= wanted) {
      end = middle - 1;
    } else {
      before = with;
      begin = middle;
    }
  }
  return end;
}

}  // namespace

// The first row at or after `at` that begins a tie block, in sorted words.
extern "C" int64_t FR_FN(fr_clicks_boundary)(const void *words, int half, uint64_t mask, int64_t at, int64_t n) {
  return half ? boundary(static_cast<const uint32_t *>(words), static_cast<uint32_t>(mask) & ~1u, at, n)
              : boundary(static_cast<const uint64_t *>(words), mask & ~uint64_t(1), at, n);
}

extern "C" int64_t FR_FN(fr_clicks_positives)(const void *words, int half, int64_t begin, int64_t end) {
  return half ? positives_of(static_cast<const uint32_t *>(words), begin, end)
              : positives_of(static_cast<const uint64_t *>(words), begin, end);
}

extern "C" void FR_FN(fr_clicks_weights)(const uint64_t *words, const double *weights, int64_t begin, int64_t end,
                                         double *negative_positive) {
  double sums[2] = {0.0, 0.0};
  for (int64_t i = begin; i < end; ++i) sums[words[i] & 1] += weights[i];
  negative_positive[0] = sums[0];
  negative_positive[1] = sums[1];
}

// Level 0: pairs; 1: also precision, KS and F1; 2: also DeLong's sums.  floors: a gap (as `ks`) and half an F1 that are
// reached at some end: where none of a chunk comes up to them, its own may be left at 0.
extern "C" void FR_FN(fr_clicks_sweep)(const void *words, int half, uint64_t mask, int64_t begin, int64_t end,
                                       int64_t tp, int64_t fp, int64_t positives, int64_t negatives, int level,
                                       const double *floors, fr_clicks_sweep_sums *out) {
  const Curve curve = {static_cast<double>(tp), static_cast<double>(tp + fp), static_cast<double>(positives),
                       static_cast<double>(negatives)};
  const uint32_t *halves = static_cast<const uint32_t *>(words);
  const uint64_t *whole = static_cast<const uint64_t *>(words);
  if (half) sweep(halves, static_cast<uint32_t>(mask), begin, end, tp, curve, level, floors, out);
  else sweep(whole, mask, begin, end, tp, curve, level, floors, out);
}

extern "C" void FR_FN(fr_clicks_sweep_weighted)(const uint64_t *words, uint64_t mask, const double *weights,
                                                int64_t begin, int64_t end, double tp, double fp, double positives,
                                                double negatives, fr_clicks_sweep_sums *out) {
  sweep_weighted(words, mask, Weighted{weights}, begin, end, tp, fp, positives, negatives, out);
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


// Calls `function(words, mask, first code, ...)` for the words and the scores that these are.
#define FR_OF_CODES(function, ...)                                                                                  \
  const uint32_t narrow_first = ordered(static_cast<float>(top));                                                   \
  const uint32_t *halves = static_cast<const uint32_t *>(words);                                                    \
  const uint64_t *whole = static_cast<const uint64_t *>(words);                                                     \
  if (half) function(halves, static_cast<uint32_t>(mask), narrow_first, __VA_ARGS__);                               \
  else if (kind == FR_CLICKS_F32) function(whole, mask, narrow_first, __VA_ARGS__);                                 \
  else function(whole, mask, ordered(top), __VA_ARGS__)

// Of rows begin..end-1 of the sorted words, whose scores are probabilities: positives, and their scores in units of
// 2^-32 and 2^-64.
extern "C" void FR_FN(fr_clicks_range_sums)(const void *words, int half, uint64_t mask, int kind, double top,
                                            int64_t begin, int64_t end, int64_t *out) {
  FR_OF_CODES(range_sums, begin, end, out);
}

// The scores of rows of the sorted words.
extern "C" void FR_FN(fr_clicks_scores_at)(const void *words, int half, uint64_t mask, int kind, double top,
                                           const int64_t *rows, int64_t count, double *out) {
  FR_OF_CODES(scores_at, rows, count, out);
}

// How many of the n sorted words have a score above each edge or, where it is `closed`, equal to it.
extern "C" void FR_FN(fr_clicks_above)(const void *words, int half, uint64_t mask, int kind, double top, int64_t n,
                                       const double *edges, const uint8_t *closed, int64_t count, int64_t *out) {
  FR_OF_CODES(above, n, edges, closed, count, out);
}

// The row of begin..end-1 that `wanted` negatives end with, when `before` of them precede row begin.
extern "C" int64_t FR_FN(fr_clicks_negative_row)(const void *words, int half, int64_t begin, int64_t end,
                                                 int64_t before, double wanted) {
  return half ? negative_row(static_cast<const uint32_t *>(words), begin, end, before, wanted)
              : negative_row(static_cast<const uint64_t *>(words), begin, end, before, wanted);
}

// First row, and one past the last, of the tie block that holds `row`.
extern "C" void FR_FN(fr_clicks_block)(const void *words, int half, uint64_t mask, int64_t row, int64_t n,
                                       int64_t *begin_end) {
  const uint32_t *halves = static_cast<const uint32_t *>(words);
  const uint64_t *whole = static_cast<const uint64_t *>(words);
  begin_end[0] = half ? block_begin(halves, static_cast<uint32_t>(mask) & ~1u, row)
                      : block_begin(whole, mask & ~uint64_t(1), row);
  begin_end[1] = FR_FN(fr_clicks_boundary)(words, half, mask, row + 1, n);
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
