// Click metrics: reading rows, and the radix sort that puts them in order of score, or of group and score.
#include "clicks_codes.h"

namespace {

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

// Bits that tell apart the codes of scores from low to high; at least 1.
extern "C" int FR_FN(fr_clicks_score_bits)(int kind, double low, double high) {
  const uint64_t between = kind == FR_CLICKS_F32
      ? ordered(static_cast<float>(high)) - ordered(static_cast<float>(low))
      : ordered(high) - ordered(low);
  return between ? bit_length(between) : 1;
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

// Sorts n half words by all but the lowest bit; `spare` holds as many.
extern "C" void FR_FN(fr_clicks_leaf_halves)(uint32_t *halves, uint32_t *spare, int64_t n) {
  leaf(halves, spare, halves, n, 0xFFFFFFFEu);
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
