// Canonical scores of given pairs, of given candidates, and of one query against everything.
#include "canonical.h"
#include "lists.h"
#include "select.h"

namespace {

// Keys that are kept of a query's candidates, and keys there is room for before they are cut back to those.
FR_INLINE void measure(const fr_candidates &args, int64_t *kept, int64_t *room) {
  *kept = args.k < args.longest ? args.k : args.longest;
  *room = *kept + (*kept < 65536 ? *kept : 65536) + 1024;
  if (*room > args.longest + 1) *room = args.longest + 1;
}

enum { SOME = 512 };  // candidates scored at a time

// Indices below zero are the largest of all.
FR_INLINE bool exists(int64_t index, int64_t n) { return uint64_t(index) < uint64_t(n); }

// Ask for what pair `i` and the pairs after it will read.  Always inlined: GCC drops calls of functions that only prefetch.
FR_INLINE void ask(const fr_pairs &pairs, const fr_items &queries, int64_t i, int64_t end) {
  if (i + FR_EARLY < end) touch(pairs.items, pairs.cols[i + FR_EARLY]);
  if (i + FR_AHEAD >= end) return;
  fetch<2>(pairs.items, pairs.cols[i + FR_AHEAD]);
  if (pairs.rows[i + FR_AHEAD] != pairs.rows[i + FR_AHEAD - 1]) fetch<2>(queries, pairs.rows[i + FR_AHEAD]);
}
FR_INLINE void ask_first(const fr_pairs &pairs, int64_t begin, int64_t end) {
  for (int64_t i = begin; i < begin + FR_AHEAD && i < end; ++i) fetch<2>(pairs.items, pairs.cols[i]);
}

#if defined(FR_AVX2)
// Rows of two to a dozen lines of the cache.  The lines of one, read in order, look like a stream to the hardware, which
// then fetches what lies behind it and nobody will read: up to two lines for every five (bench/results/rank.md).  So
// lines are asked for across N rows, the first of each, then the second, and rows are copied to where they stay in the
// first cache from their ends.  (One line is no stream, and what is longer gains more by streams than it loses.)
enum { SHORT = 64, MIDDLE = 384, LONG = 768 };  // bytes
enum { SOON = 16 };                             // pairs asked for ahead of their scores
enum { NEAR = 1024 };                           // longest row that is widened in a copy, in values
// Bytes from the line in which a row begins to the end of its last: rows that begin on a line, all of them, have one less.
FR_INLINE int64_t spread(const fr_items &items) {
  const int64_t width = items.dtype == FR_F32 ? 4 : 2;
  const bool alike = items.stride * width % 64 == 0;  // then all rows begin where the first does within a line
  return (alike ? reinterpret_cast<uintptr_t>(items.data) % 64 : 64 - width) + items.d * width;
}
template <int N>
FR_INLINE void ask_across(const fr_pairs &pairs, const fr_items &queries, int64_t bytes, int64_t first, int64_t end) {
  if (first + N > end) return;  // the last few are not worth it
  for (int64_t ahead = 0; ahead < N; ahead += 8) {  // these are streams, but are not seen as such among the rest
    __builtin_prefetch(pairs.rows + first + 6 * SOON + ahead);
    __builtin_prefetch(pairs.cols + first + 6 * SOON + ahead);
  }
  const char *row[N];
  for (int j = 0; j < N; ++j) {
    row[j] = reinterpret_cast<const char *>(address(pairs.items, pairs.cols[first + j]));
    asm("" : "+r"(row[j]));  // or GCC 12 multiplies vectors, which takes longer
  }
  for (int64_t at = 0; at < bytes; at += 64)
    for (int j = 0; j < N; ++j) __builtin_prefetch(row[j] + at, 0, 2);
  int64_t last = first ? pairs.rows[first - 1] : -1;
  for (int j = 0; j < N; ++j)
    if (pairs.rows[first + j] != last) last = pairs.rows[first + j], fetch<2>(queries, last);
}
// How many rows to ask across.
FR_INLINE int across_of(int64_t bytes) { return bytes <= SHORT || bytes > LONG ? 0 : bytes > MIDDLE ? 4 : 8; }
#endif

#if defined(FR_AVX512)
FR_INLINE bool all_exist(const int64_t *four, int64_t n) {
  return !_mm256_cmpge_epu64_mask(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(four)), _mm256_set1_epi64x(n));
}
// Sixteen values, or those of `mask`, of a row that begins at `from`.
template <int DTYPE>
FR_INLINE __m512 sixteen(const void *from, int64_t t, __mmask16 mask) {
  if (DTYPE == FR_F32) return _mm512_maskz_loadu_ps(mask, static_cast<const float *>(from) + t);
  const __m256i bits = _mm256_maskz_loadu_epi16(mask, static_cast<const uint16_t *>(from) + t);
  if (DTYPE == FR_F16) return _mm512_cvtph_ps(bits);
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(bits), 16));
}
template <int DTYPE>
FR_INLINE void copy_row(const void *from, int64_t d, float *to) {
  const auto copy = [&](int64_t t) { _mm512_storeu_ps(to + t, sixteen<DTYPE>(from, t, 0xffff)); };
  int64_t t = d;
  for (; t >= 64; t -= 64) copy(t - 16), copy(t - 32), copy(t - 48), copy(t - 64);
  for (; t >= 16; t -= 16) copy(t - 16);
  const __mmask16 left = __mmask16((1u << t) - 1);
  if (t) _mm512_mask_storeu_ps(to, left, sixteen<DTYPE>(from, 0, left));
}

// Scores of pairs `begin` to `end`, four at a time; returns where it ended.  To widen a query is half of the work of a
// score, which pairs of one query, side by side, share.
template <int METRIC, int DTYPE>
FR_NOINLINE int64_t score_fours(const fr_pairs &pairs, const fr_items &queries, int64_t begin, int64_t end) {
  enum { WIDE = 2048 };
  const fr_items &items = pairs.items;
  const int64_t d = items.d, width = DTYPE == FR_F32 ? 4 : 2, bytes = d * width, apart = (d + 15) & ~int64_t(15);
  const int64_t spans = spread(items);
  const int across = across_of(bytes);
  alignas(64) double wide[WIDE];
  if (DTYPE != FR_F32 && d > NEAR) return begin;
  const bool copied = across || DTYPE != FR_F32;
  alignas(64) float near[4 * NEAR];
  double norm = 0.0;
  int64_t last = -1, i = begin;
  if (!across) ask_first(pairs, begin, end);
  else
    for (int64_t first = begin; first < begin + SOON; first += 4) ask_across<4>(pairs, queries, spans, first, end);
  for (; i + 4 <= end; i += 4) {
    const int64_t *rows = pairs.rows + i, *cols = pairs.cols + i;
    const float *item[4];
    if (FR_UNLIKELY(!all_exist(rows, pairs.q) || !all_exist(cols, items.n))) {
      *pairs.astray = 1;
      return end;
    }
    if (across == 4) ask_across<4>(pairs, queries, spans, i + SOON, end);
    else if (across && (i - begin) % 8 == 0) ask_across<8>(pairs, queries, spans, i + SOON, end);
    for (int j = 0; j < 4; ++j) {
      if (!across) ask(pairs, queries, i + j, end);
      const char *row = static_cast<const char *>(items.data) + cols[j] * items.stride * width;
      if (copied) copy_row<DTYPE>(row, d, near + j * apart);
      item[j] = copied ? near + j * apart : reinterpret_cast<const float *>(row);
    }
    __m256d sums, norms = _mm256_setzero_pd(), squares = norms;
    if (rows[0] == rows[1] && rows[0] == rows[2] && rows[0] == rows[3] && d <= WIDE) {
      if (rows[0] != last) {
        last = rows[0];
        const float *query = pairs.queries + last * d;
        for (int64_t t = 0; t < d; ++t) wide[t] = query[t];
        for (int64_t t = d; t % 8; ++t) wide[t] = 0.0;
        if (METRIC == FR_COSINE) norm = sqrt(dot64(query, query, d));
      }
      sums = sums64<METRIC == FR_L2>(Same{wide}, item, d);
      if (METRIC == FR_COSINE) norms = _mm256_set1_pd(norm);
    } else {
      Each query;
      for (int j = 0; j < 4; ++j) query.a[j] = pairs.queries + rows[j] * d;
      sums = sums64<METRIC == FR_L2>(query, item, d);
      if (METRIC == FR_COSINE) norms = _mm256_sqrt_pd(sums64<false>(query, query.a, d));
    }
    if (METRIC == FR_COSINE) squares = sums64<false>(Each{{item[0], item[1], item[2], item[3]}}, item, d);
    scores_of<METRIC>(items, sums, norms, squares, cols, pairs.out + i);
  }
  return i;
}
template <int METRIC>
FR_INLINE int64_t score_fours(const fr_pairs &pairs, const fr_items &queries, int64_t begin, int64_t end) {
  return pairs.items.dtype == FR_F32   ? score_fours<METRIC, FR_F32>(pairs, queries, begin, end)
         : pairs.items.dtype == FR_F16 ? score_fours<METRIC, FR_F16>(pairs, queries, begin, end)
                                       : score_fours<METRIC, FR_BF16>(pairs, queries, begin, end);
}
#elif defined(FR_AVX2)
FR_INLINE const float *copy_row(const float *from, int64_t d, float *to) {
  int64_t t = d;
  for (; t >= 8; t -= 8) _mm256_storeu_ps(to + t - 8, _mm256_loadu_ps(from + t - 8));
  memcpy(to, from, size_t(t) * 4);
  return to;
}

// Scores of pairs `begin` to `end` where rows are asked for across each other; returns where it ended.
FR_NOINLINE int64_t score_across(const fr_pairs &pairs, const fr_items &queries, int64_t begin, int64_t end) {
  const fr_items &items = pairs.items;
  const int64_t spans = spread(items);
  const int across = across_of(items.d * (items.dtype == FR_F32 ? 4 : 2));
  if (!across) return begin;
  alignas(64) float near[NEAR];
  double norm = 0.0;
  int64_t last = -1, i = begin;
  for (int64_t first = begin; first < begin + SOON; first += 4) ask_across<4>(pairs, queries, spans, first, end);
  for (; i < end; ++i) {
    if (across == 8 && (i - begin) % 8 == 0) ask_across<8>(pairs, queries, spans, i + SOON, end);
    if (across == 4 && (i - begin) % 4 == 0) ask_across<4>(pairs, queries, spans, i + SOON, end);
    const int64_t row = pairs.rows[i], col = pairs.cols[i];
    if (FR_UNLIKELY(!exists(row, pairs.q) || !exists(col, items.n))) {
      *pairs.astray = 1;
      return end;
    }
    const float *query = pairs.queries + row * items.d;
    if (items.metric == FR_COSINE && row != last) last = row, norm = sqrt(dot64(query, query, items.d));
    const float *item = item_row(items, col, near);  // halves are widened, which copies them
    if (items.dtype == FR_F32) item = copy_row(item, items.d, near);
    pairs.out[i] = canonical_of(items, query, norm, item, col);
  }
  return i;
}
#endif

// Scores of pairs `begin` to `end`, up to the first that does not exist.
void score_pairs(const fr_pairs &pairs, int64_t begin, int64_t end) {
  const fr_items &items = pairs.items;
  const fr_items queries = {pairs.queries, pairs.q, items.d, items.d, FR_F32, FR_DOT, nullptr};
  float line[FR_LINE];
  int64_t last = -1, i = begin;
  double norm = 0.0;
#if defined(FR_AVX512)
  i = items.metric == FR_DOT      ? score_fours<FR_DOT>(pairs, queries, begin, end)
      : items.metric == FR_COSINE ? score_fours<FR_COSINE>(pairs, queries, begin, end)
                                  : score_fours<FR_L2>(pairs, queries, begin, end);
#elif defined(FR_AVX2)
  i = score_across(pairs, queries, begin, end);
#endif
  if (i == begin) ask_first(pairs, begin, end);
  for (; i < end; ++i) {
    ask(pairs, queries, i, end);
    const int64_t row = pairs.rows[i], col = pairs.cols[i];
    if (FR_UNLIKELY(!exists(row, pairs.q) || !exists(col, items.n))) {
      *pairs.astray = 1;
      return;
    }
    const float *query = pairs.queries + row * items.d;
    if (items.metric == FR_COSINE && row != last) last = row, norm = sqrt(dot64(query, query, items.d));
    pairs.out[i] = canonical(items, query, norm, col, line);
  }
}

}  // namespace

extern "C" {

void FR_FN(fr_pairs_task)(const fr_pairs *pairs, int64_t task) {
  const int64_t begin = task * pairs->chunk, end = begin + pairs->chunk < pairs->n ? begin + pairs->chunk : pairs->n;
  score_pairs(*pairs, begin, end);
}

void FR_FN(fr_score_row)(const fr_items *items, const float *query, float *out) {
  float line[FR_LINE];
  const double norm = items->metric == FR_COSINE ? sqrt(dot64(query, query, items->d)) : 0.0;
  for (int64_t row = 0; row < items->n; ++row) out[row] = canonical(*items, query, norm, row, line);
}

int64_t FR_FN(fr_candidates_scratch)(const fr_candidates *args) {
  int64_t held, room;
  measure(*args, &held, &room);
  return (room + held) * 8 + 64;
}

void FR_FN(fr_candidates_task)(const fr_candidates *args, int64_t number, int worker) {
  const fr_items &items = args->items;
  int64_t k, room;  // never more than there are candidates
  measure(*args, &k, &room);
  uint64_t *keys = reinterpret_cast<uint64_t *>(args->scratch + worker * args->scratch_bytes), *more = keys + room;
  int64_t same[SOME], cols[SOME], n = 0;  // pairs of this query, a few at a time
  float scores[SOME];
  int astray = 0;  // candidates were looked at before
  const int64_t begin = args->own.indptr[number], end = args->own.indptr[number + 1];
  for (int64_t j = 0; j < SOME && j < end - begin; ++j) same[j] = number;
  for (int64_t i = begin; i < end;) {
    int64_t some = 0;
    for (; i < end && some < SOME; ++i) {
      const int64_t row = entry(args->own, i);
      cols[some] = row;
      some += !(args->exclude.indptr && is_listed(args->exclude, number, row));
    }
    score_pairs({items, args->queries, args->q, same, cols, some, some, scores, &astray}, 0, some);
    for (int64_t j = 0; j < some; ++j) {
      if (!(scores[j] >= args->min_score)) continue;
      if (n == room) keep_largest(keys, n, k), n = k;
      keys[n++] = key_of(scores[j], uint32_t(cols[j]));
    }
  }
  if (n > k) keep_largest(keys, n, k), n = k;
  sort_descending(keys, n, more);
  const int64_t at = number * args->k;
  for (int64_t i = 0; i < args->k; ++i) {
    args->rows[at + i] = i < n ? int64_t(key_row(keys[i])) : -1;
    args->scores[at + i] = i < n ? key_score(keys[i]) : -INFINITY;
  }
}

}  // extern "C"
