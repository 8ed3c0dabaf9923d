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

}  // namespace

extern "C" {

void FR_FN(fr_pairs_task)(const fr_pairs *pairs, int64_t task) {
  const fr_items &items = pairs->items;
  const int64_t begin = task * pairs->chunk, end = begin + pairs->chunk < pairs->n ? begin + pairs->chunk : pairs->n;
  const fr_items queries = {pairs->queries, pairs->q, items.d, items.d, FR_F32, FR_DOT, nullptr};
  float line[FR_LINE];
  int64_t last = -1;
  double norm = 0.0;
  for (int64_t i = begin; i < end; ++i) {
    if (i + 12 < end) {
      fetch(items, pairs->cols[i + 12]);
      if (pairs->rows[i + 12] != pairs->rows[i]) fetch(queries, pairs->rows[i + 12]);
    }
    const float *query = pairs->queries + pairs->rows[i] * items.d;
    if (items.metric == FR_COSINE && pairs->rows[i] != last) {
      last = pairs->rows[i];
      norm = sqrt(dot64(query, query, items.d));
    }
    pairs->out[i] = canonical(items, query, norm, pairs->cols[i], line);
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
    if (i + 8 < end) fetch(items, entry(args->own, i + 8));
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
