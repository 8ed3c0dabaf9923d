// Selection: the k-th largest of a float array, and the best k of (score, row) pairs in the public order.
#pragma once
#include <string.h>

#include "common.h"

namespace {

// Bits of a float as an unsigned integer of the same order (no NaN; -0 was normalised to +0).
FR_INLINE uint32_t ordered(float x) {
  uint32_t bits;
  memcpy(&bits, &x, 4);
  return bits & 0x80000000u ? ~bits : bits | 0x80000000u;
}
FR_INLINE float from_ordered(uint32_t u) {
  const uint32_t bits = u & 0x80000000u ? u & 0x7fffffffu : ~u;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
// All keys of a query differ, so any selection or sort gives the one answer: score descending, then row ascending.
FR_INLINE uint64_t key_of(float score, uint32_t row) { return uint64_t(ordered(score)) << 32 | uint32_t(~row); }
FR_INLINE float key_score(uint64_t key) { return from_ordered(uint32_t(key >> 32)); }
FR_INLINE uint32_t key_row(uint64_t key) { return ~uint32_t(key); }

FR_INLINE float median3(float a, float b, float c) {
  const float low = a < b ? a : b, high = a < b ? b : a;
  return c < low ? low : c > high ? high : c;
}

// Split `x` around `pivot`: the larger to `more`, the smaller to `less`; returns their counts.  Both have 16 floats
// of room past n.
FR_INLINE void split(const float *x, int64_t n, float pivot, float *more, int64_t *n_more, float *less,
                     int64_t *n_less) {
  int64_t g = 0, s = 0, i = 0;
#if defined(FR_AVX512)
  const __m512 p = _mm512_set1_ps(pivot);
  for (; i + 16 <= n; i += 16) {
    const __m512 v = _mm512_loadu_ps(x + i);
    const __mmask16 above = _mm512_cmp_ps_mask(v, p, _CMP_GT_OQ), below = _mm512_cmp_ps_mask(v, p, _CMP_LT_OQ);
    // compressed in a register and stored whole: compressing stores are microcoded on some processors
    _mm512_storeu_ps(more + g, _mm512_maskz_compress_ps(above, v));
    _mm512_storeu_ps(less + s, _mm512_maskz_compress_ps(below, v));
    g += __builtin_popcount(above), s += __builtin_popcount(below);
  }
#endif
  for (; i < n; ++i) {
    const float v = x[i];
    more[g] = v, g += v > pivot;
    less[s] = v, s += v < pivot;
  }
  *n_more = g, *n_less = s;
}

// The k-th largest (1 <= k <= n) of `x`, which is left alone; `room` holds 4 * (n + 16) floats.
FR_NOINLINE float kth_largest(const float *x, int64_t n, int64_t k, float *room) {
  const int64_t half = n + 16;
  float *pair[2][2] = {{room, room + half}, {room + 2 * half, room + 3 * half}};
  int turn = 0;
  for (;;) {
    if (n <= 8) {
      float small[8];
      for (int64_t i = 0; i < n; ++i) {  // insertion sort, descending
        int64_t j = i;
        for (; j > 0 && small[j - 1] < x[i]; --j) small[j] = small[j - 1];
        small[j] = x[i];
      }
      return small[k - 1];
    }
    const int64_t step = n / 8;
    const float pivot = median3(median3(x[step / 2], x[step], x[2 * step]), median3(x[3 * step], x[4 * step], x[5 * step]),
                                median3(x[6 * step], x[7 * step], x[n - 1]));
    int64_t more, less;
    split(x, n, pivot, pair[turn][0], &more, pair[turn][1], &less);
    if (k <= more) {
      x = pair[turn][0], n = more;
    } else if (k <= n - less) {
      return pivot;
    } else {
      k -= n - less;
      x = pair[turn][1], n = less;
    }
    turn ^= 1;
  }
}

// Sort a few keys, descending.
FR_INLINE void insertion_sort(uint64_t *x, int64_t n) {
  for (int64_t i = 1; i < n; ++i) {
    const uint64_t key = x[i];
    int64_t j = i;
    for (; j > 0 && x[j - 1] < key; --j) x[j] = x[j - 1];
    x[j] = key;
  }
}

// Move the k largest of n keys (all different) to the front, unordered.
FR_NOINLINE void keep_largest(uint64_t *x, int64_t n, int64_t k) {
  int64_t low = 0, high = n;  // the k-th largest is in low..high
  while (high - low > 16) {
    const uint64_t a = x[low], b = x[low + (high - low) / 2], c = x[high - 1];
    const uint64_t lesser = a < b ? a : b, greater = a < b ? b : a;
    const uint64_t pivot = c < lesser ? lesser : c > greater ? greater : c;
    int64_t middle = low;
    for (int64_t i = low; i < high; ++i) {  // no branch to foresee
      const uint64_t key = x[i];
      x[i] = x[middle], x[middle] = key;
      middle += key >= pivot;
    }
    // the pivot is the middle one of three, so neither side is empty
    if (middle == k) return;
    if (middle > k) high = middle;
    else low = middle;
  }
  insertion_sort(x + low, high - low);
}

// Sort n <= SORT_RUN keys, descending; `room` holds as many.
#if defined(FR_AVX512)
constexpr int64_t SORT_RUN = 128;
FR_INLINE void sort_run(uint64_t *x, int64_t n, uint64_t *room) {
  if (n <= 16) return insertion_sort(x, n);
  for (int64_t i = 0; i < n; ++i) {  // a key's place is the number of larger ones: n * n / 8 compares, no branch
    const __m512i key = _mm512_set1_epi64(int64_t(x[i]));
    int64_t place = 0, j = 0;
    for (; j + 8 <= n; j += 8) place += __builtin_popcount(_mm512_cmpgt_epu64_mask(_mm512_loadu_si512(x + j), key));
    const __mmask8 rest = __mmask8((1u << (n - j)) - 1);
    place += __builtin_popcount(_mm512_mask_cmpgt_epu64_mask(rest, _mm512_maskz_loadu_epi64(rest, x + j), key));
    room[place] = x[i];
  }
  memcpy(x, room, size_t(n) * sizeof(uint64_t));
}
#else
constexpr int64_t SORT_RUN = 16;
FR_INLINE void sort_run(uint64_t *x, int64_t n, uint64_t *) { insertion_sort(x, n); }
#endif

// Sort keys, descending; `room` holds n keys.
FR_NOINLINE void sort_descending(uint64_t *x, int64_t n, uint64_t *room) {
  for (int64_t begin = 0; begin < n; begin += SORT_RUN)
    sort_run(x + begin, n - begin < SORT_RUN ? n - begin : SORT_RUN, room);
  uint64_t *from = x, *to = room;
  for (int64_t width = SORT_RUN; width < n; width *= 2) {
    for (int64_t begin = 0; begin < n; begin += 2 * width) {
      const int64_t middle = begin + width < n ? begin + width : n;
      const int64_t end = begin + 2 * width < n ? begin + 2 * width : n;
      int64_t a = begin, b = middle, out = begin;
      while (a < middle && b < end) {
        const bool left = from[a] > from[b];
        to[out++] = left ? from[a] : from[b];
        a += left, b += !left;
      }
      while (a < middle) to[out++] = from[a++];
      while (b < end) to[out++] = from[b++];
    }
    uint64_t *const t = from;
    from = to, to = t;
  }
  if (from != x) memcpy(x, from, size_t(n) * sizeof(uint64_t));
}

}  // namespace
