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

// Ask for what the pairs after pair `i` will read.  Always inlined: GCC drops calls of functions that only prefetch.
FR_INLINE void ask(const fr_pairs &pairs, const fr_items &queries, int64_t i, int64_t end) {
  if (i + FR_EARLY < end) touch(pairs.items, pairs.cols[i + FR_EARLY]);
  if (i + FR_AHEAD >= end) return;
  fetch<2>(pairs.items, pairs.cols[i + FR_AHEAD]);
  if (pairs.rows[i + FR_AHEAD] != pairs.rows[i + FR_AHEAD - 1]) fetch<2>(queries, pairs.rows[i + FR_AHEAD]);
}

#if defined(FR_AVX512)
// Scores of pairs `begin` to `end` of a float32 matrix, four at a time; returns where it ended.  To widen a query is half
// of the work of a score, which pairs of one query, side by side, share.
template <int METRIC>
FR_INLINE int64_t score_fours(const fr_pairs &pairs, const fr_items &queries, int64_t begin, int64_t end) {
  enum { WIDE = 2048 };
  const fr_items &items = pairs.items;
  alignas(64) double wide[WIDE];
  double norm = 0.0;
  int64_t last = -1, i = begin;
  for (; i + 4 <= end; i += 4) {
    const int64_t *rows = pairs.rows + i, *cols = pairs.cols + i;
    const float *item[4];
    double sums[4], norms[4] = {norm, norm, norm, norm}, squares[4] = {};
    for (int j = 0; j < 4; ++j) ask(pairs, queries, i + j, end);
    for (int j = 0; j < 4; ++j) item[j] = static_cast<const float *>(items.data) + cols[j] * items.stride;
    if (rows[0] == rows[1] && rows[0] == rows[2] && rows[0] == rows[3] && items.d <= WIDE) {
      if (rows[0] != last) {
        last = rows[0];
        const float *query = pairs.queries + last * items.d;
        for (int64_t t = 0; t < items.d; ++t) wide[t] = query[t];
        for (int64_t t = items.d; t % 8; ++t) wide[t] = 0.0;
        if (METRIC == FR_COSINE) {
          norm = sqrt(dot64(query, query, items.d));
          for (int j = 0; j < 4; ++j) norms[j] = norm;
        }
      }
      sums64<METRIC == FR_L2>(Same{wide}, item, items.d, sums);
    } else {
      Each query;
      for (int j = 0; j < 4; ++j) query.a[j] = pairs.queries + rows[j] * items.d;
      sums64<METRIC == FR_L2>(query, item, items.d, sums);
      if (METRIC == FR_COSINE) {
        sums64<false>(query, query.a, items.d, norms);
        for (int j = 0; j < 4; ++j) norms[j] = sqrt(norms[j]);
      }
    }
    if (METRIC == FR_COSINE) sums64<false>(Each{{item[0], item[1], item[2], item[3]}}, item, items.d, squares);
    for (int j = 0; j < 4; ++j) pairs.out[i + j] = score_of<METRIC>(items, sums[j], norms[j], squares[j], cols[j]);
  }
  return i;
}
#endif

}  // namespace

extern "C" {

void FR_FN(fr_pairs_task)(const fr_pairs *pairs, int64_t task) {
  const fr_items &items = pairs->items;
  const int64_t begin = task * pairs->chunk, end = begin + pairs->chunk < pairs->n ? begin + pairs->chunk : pairs->n;
  const fr_items queries = {pairs->queries, pairs->q, items.d, items.d, FR_F32, FR_DOT, nullptr};
  const int64_t *rows = pairs->rows, *cols = pairs->cols;
  float line[FR_LINE];
  int64_t last = -1;
  double norm = 0.0;
  for (int64_t i = begin; i < begin + FR_AHEAD && i < end; ++i) fetch<2>(items, cols[i]);
  int64_t i = begin;
#if defined(FR_AVX512)
  if (items.dtype == FR_F32)
    i = items.metric == FR_DOT      ? score_fours<FR_DOT>(*pairs, queries, begin, end)
        : items.metric == FR_COSINE ? score_fours<FR_COSINE>(*pairs, queries, begin, end)
                                    : score_fours<FR_L2>(*pairs, queries, begin, end);
#endif
  for (; i < end; ++i) {
    ask(*pairs, queries, i, end);
    const float *query = pairs->queries + rows[i] * items.d;
    if (items.metric == FR_COSINE && rows[i] != last) {
      last = rows[i];
      norm = sqrt(dot64(query, query, items.d));
    }
    pairs->out[i] = canonical(items, query, norm, cols[i], line);
  }
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
  const float *query = args->queries + number * items.d;
  const double norm = items.metric == FR_COSINE ? sqrt(dot64(query, query, items.d)) : 0.0;
  float line[FR_LINE];
  int64_t n = 0;
  const int64_t end = args->own.indptr[number + 1];
  for (int64_t i = args->own.indptr[number]; i < end; ++i) {
    if (i + FR_EARLY < end) touch(items, entry(args->own, i + FR_EARLY));
    if (i + FR_AHEAD < end) fetch<2>(items, entry(args->own, i + FR_AHEAD));
    const int64_t row = entry(args->own, i);
    if (args->exclude.indptr && is_listed(args->exclude, number, row)) continue;
    const float score = canonical(items, query, norm, row, line);
    if (!(score >= args->min_score)) continue;
    if (n == room) keep_largest(keys, n, k), n = k;
    keys[n++] = key_of(score, uint32_t(row));
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
