// Exact top-k: screen every item with cheap bounds, keep what may matter, score that canonically.
//
// A task is one group of queries against one share of the panels.  For each query it keeps a threshold `cut`: an item
// whose screened value plus error stays below it cannot be among the k best.  The proof that nothing is lost, float
// rounding included, is docs/adr/0011-int8-screen.md; the names here are the names there.
#include <float.h>
#include <math.h>

#include "canonical.h"
#include "lists.h"
#include "quantise.h"
#include "screen.h"
#include "select.h"

namespace {

enum Kind { SCREEN, ZERO, EXHAUSTIVE, EMPTY };

constexpr float SLACK = 0x1p-20f;      // relative: sixteen times the rounding of the float expressions that use it
constexpr float FLOOR = 0x1p-100f;     // absolute: underflow
constexpr double SLACK64 = 1e-11;      // relative: the canonical float64 sum, d <= 16,384 terms
#if defined(FR_AVX512)  // what has it has a megabyte of cache a core
constexpr int64_t BLOCK_BYTES = 256 << 10;
#else
constexpr int64_t BLOCK_BYTES = 96 << 10;
#endif
constexpr int SEEDS = 3, MOST_SEEDS = 64;  // stretches of turned items looked at beforehand, at least and at most
constexpr int64_t AHEAD = 12;          // rows asked for before they are scored: they lie at random
constexpr int LOOSE = 16;              // a query that re-scores more than LOOSE * k + 2,048 items leaves the int8 screen

struct Query {
  double norm;           // |u|, for the cosine score
  double shift;          // screened value = canonical * down + shift
  double up, down;       // 2^(eu+ei), 2^-(eu+ei)
  float tau;             // canonical: k items are known to score at least this (or it is min_score)
  float sure;            // screened units: an item below it cannot be among the k best
  float guess;           // an item below it very likely is not (see `expect`); -inf where nothing was guessed
  float cut;             // the larger of the two: what the screen compares with
  float reach;           // >= |w|, w the screened query
  float coded, residual; // >= |step * codes|, >= |w - step * codes|
  float step;            // one step of the query's codes
  float beta;            // multiplier of the items' additive terms
  float beyond[FR_PLACES];  // >= the norm of w behind each place to look at
  float coded_to[FR_PLACES], residual_to[FR_PLACES];  // `coded` and `residual` of what lies before it
  float coded_behind, residual_behind;                // and, without the slack, of what lies behind the first
  int64_t home;          // the stretch of turned items that it seems closest to
  int seeds;             // stretches that were looked at beforehand: what the buffer holds of them is all there is
  int32_t partial[FR_PLACES];  // 128 * sum of the codes before each place
  int32_t offset;        // 128 * sum of all codes: undoes the items' +128
  int32_t kind, loose;
  int64_t full;          // tighten when this many entries are held
  int64_t count, exact;  // entries, the first `exact` of which carry canonical scores
  int64_t survivors, rescored, screened, excluded_bits;
};

// Everything a worker touches, carved out of its scratch.
struct Work {
  const fr_scan *scan;
  const fr_index *index;
  const fr_items *items;
  int64_t d, d4, k, cap, limit, group, bloom_words;
  Query *query;
  int32_t *codes;        // [group][d4]
  float *scaled;         // [group][d]
  float *turned;         // [group][d] the queries as codes are of them, where the index is turned
  float *low, *high;     // [group][cap]
  uint32_t *row;         // [group][cap]
  uint64_t *key;         // [group][k]
  uint64_t *bloom;       // [group][bloom_words], or null
  int32_t *active;       // [group]
  int32_t *chosen;       // [group]
  int32_t *members;      // [group]
  int32_t *seeds;        // [group][MOST_SEEDS] stretches
  uint64_t *keys, *more; // [room] each
  int64_t room;
  float *floats;         // [4 * (cap + 16)], shared with keys and more
  float *line;           // [d]
  double *wide;          // [d] a query in float64
  int32_t *woven;        // codes of the chosen queries, tile after tile: [tiles][tile_size]
  int64_t tile_size;
  int32_t *late;         // [tiles] where each tile looks, in eighths of a place: see `Looks`
  int32_t *before;       // [group] the queries that were chosen when `woven` was filled, and how many: -1 is nothing
  int64_t befores;
  float *tile;           // [d][FR_TILE] the floats of a tile's queries
  float *panel;          // [block_panels][d][32]
  int64_t block_panels;  // float panels unpacked at a time
  bool coded;            // the int8 screen is running
  bool cold;             // but one tile passes over a block, so that its codes are not in the cache
  const uint8_t *coming, *come;  // codes of the next block that nobody has asked for yet
  int64_t portion;       // bytes of them to ask for with every panel that a tile passes over
  int64_t likely;        // the rank, among the items of the blocks so far, that the threshold is guessed from
};

// Entries of a query before its buffer is cut back whatever the bounds say: fewer above k where k itself is large, and
// no more than there are items.
FR_INLINE int64_t most_held(int64_t k, int64_t n) {
  const int64_t limit = k + (k < 65536 ? 2 * k : 131072) + 192;
  return limit < n + 32 ? limit : n + 32;
}
FR_INLINE int64_t first_full(const Work &w) {
  const int64_t full = w.k + w.k / 4 + 32;
  return full < w.limit ? full : w.limit;
}

FR_INLINE char *carve(char *&at, int64_t bytes) {
  char *here = at;
  at += (bytes + 63) & ~int64_t(63);
  return here;
}

// How many panels of `bytes` each make a block that stays in the cache while every tile of the group passes over it.
FR_INLINE int64_t block_panels(int64_t bytes) {
  const int64_t n = bytes ? BLOCK_BYTES / bytes : BLOCK_BYTES;
  return n < 4 ? 4 : n > 128 ? 128 : n;
}

// Lay the worker's memory out at `at`; called with a null base it only measures.
int64_t lay_out(const fr_scan *scan, char *at, Work &w) {
  char *const base = at;
  w.scan = scan, w.index = scan->index, w.items = &scan->index->items;
  w.d = w.items->d, w.d4 = (w.d + 3) / 4, w.k = scan->k, w.group = scan->group;
  w.limit = most_held(w.k, w.items->n), w.cap = w.limit + 64;
  w.block_panels = block_panels(FR_PANEL * 4 * w.d);
  w.room = w.cap + 1024;
  w.bloom_words = scan->exclude.indptr ? 64 : 0;
  w.coming = w.come = nullptr;
  w.query = reinterpret_cast<Query *>(carve(at, w.group * int64_t(sizeof(Query))));
  w.codes = reinterpret_cast<int32_t *>(carve(at, w.group * w.d4 * 4));
  w.scaled = reinterpret_cast<float *>(carve(at, w.group * w.d * 4));
  w.turned = reinterpret_cast<float *>(carve(at, w.index->turn ? w.group * w.d * 4 : 0));
  w.low = reinterpret_cast<float *>(carve(at, w.group * w.cap * 4));
  w.high = reinterpret_cast<float *>(carve(at, w.group * w.cap * 4));
  w.row = reinterpret_cast<uint32_t *>(carve(at, w.group * w.cap * 4));
  w.key = reinterpret_cast<uint64_t *>(carve(at, w.group * w.k * 8));
  w.bloom = reinterpret_cast<uint64_t *>(carve(at, w.group * w.bloom_words * 8));
  w.active = reinterpret_cast<int32_t *>(carve(at, w.group * 4));
  w.chosen = reinterpret_cast<int32_t *>(carve(at, w.group * 4));
  w.members = reinterpret_cast<int32_t *>(carve(at, w.group * 4));
  w.seeds = reinterpret_cast<int32_t *>(carve(at, w.index->means ? w.group * MOST_SEEDS * 4 : 0));
  w.keys = reinterpret_cast<uint64_t *>(carve(at, w.room * 8));
  w.more = reinterpret_cast<uint64_t *>(carve(at, w.room * 8));
  w.floats = reinterpret_cast<float *>(w.keys);  // the same memory: a selection is over before keys are made
  w.line = reinterpret_cast<float *>(carve(at, w.d * 4 + 64));
  w.wide = reinterpret_cast<double *>(carve(at, w.d * 8 + 64));
  w.tile_size = (w.d4 + 16) * FR_TILE_I8;
  w.woven = reinterpret_cast<int32_t *>(carve(at, (w.group + FR_TILE_I8 - 1) / FR_TILE_I8 * w.tile_size * 4));
  w.late = reinterpret_cast<int32_t *>(carve(at, w.group * 4));
  w.before = reinterpret_cast<int32_t *>(carve(at, w.group * 4));
  w.tile = reinterpret_cast<float *>(carve(at, w.d * FR_TILE * 4));
  w.panel = reinterpret_cast<float *>(carve(at, w.block_panels * w.d * FR_PANEL * 4));
  return at - base;
}

// ---- thresholds -------------------------------------------------------------------------------------------------

FR_INLINE const float *totals(const Work &w) { return w.index->meta + w.index->panels * FR_META; }

// Bound of the canonical score's own float64 rounding, in screened units.
FR_INLINE double canonical_slack(const Work &w, const Query &q) {
  const float *all = totals(w);
  return SLACK64 * (double(q.reach) * all[FR_ALL_NORM] + double(q.beta) * all[FR_ALL_BETA] + fabs(q.shift));
}

// The screened value below which an item's canonical score is certainly less than `tau`.
void raise(const Work &w, Query &q, float tau) {
  if (!(tau > q.tau)) return;
  q.tau = tau;
  const double x = double(nextafterf(tau, -INFINITY)) * q.down;
  q.sure = float_below(x + q.shift - SLACK64 * fabs(x) - canonical_slack(w, q) - 0x1p-140);
  q.cut = q.sure > q.guess ? q.sure : q.guess;
}

// With items in random order, those seen, a share f of all, hold r or more of the k best with a probability of at most
// exp(-(r ln(r / f k) + (k - r) ln((k - r) / (1 - f) k))) (Chernoff).  The smallest r for which that is below 1/400, and
// truly some 1/5,000: the k-th best of all will hardly be better than the r-th best so far.  A wrong guess costs a second
// pass (`doubtful`), never an answer.
FR_NOINLINE int64_t expect(double f, int64_t k) {
  int64_t low = int64_t(f * double(k)), high = k;  // no less than the mean; k is certain
  while (high - low > 1) {
    const int64_t r = low + (high - low) / 2;
    const double in = double(r), out = double(k - r);
    const double rarity = in * log(in / (f * double(k))) + out * log(out / ((1.0 - f) * double(k)));
    (rarity > 6.0 ? high : low) = r;
  }
  return high;
}
FR_INLINE bool doubtful(const Query &q) { return q.guess > q.sure; }

// The canonical score that an item with a screened value of at least `low` certainly reaches.
FR_INLINE float certain(const Work &w, const Query &q, float low) {
  const double x = double(low) - q.shift;
  return float_below((x - SLACK64 * fabs(x) - canonical_slack(w, q)) * q.up);
}

FR_INLINE void share(const Work &w, int64_t number, const Query &q) {
#if defined(__GNUC__)
  if (!w.scan->shared) return;
  float *slot = w.scan->shared + number;
  float seen;
  __atomic_load(slot, &seen, __ATOMIC_RELAXED);
  float mine = q.tau;
  while (mine > seen && !__atomic_compare_exchange(slot, &seen, &mine, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
#else
  (void)w, (void)number, (void)q;
#endif
}
FR_INLINE void learn(const Work &w, int64_t number, Query &q) {
#if defined(__GNUC__)
  if (!w.scan->shared) return;
  float seen;
  __atomic_load(w.scan->shared + number, &seen, __ATOMIC_RELAXED);
  raise(w, q, seen);
#else
  (void)w, (void)number, (void)q;
#endif
}

// ---- exclusions -------------------------------------------------------------------------------------------------

FR_INLINE uint32_t bloom_slot(const Work &w, uint32_t row) {
  return (row * 2654435761u) >> 8 & uint32_t(w.bloom_words * 64 - 1);
}

void fill_bloom(const Work &w, int64_t local, int64_t number) {
  if (!w.scan->exclude.indptr) return;
  uint64_t *bits = w.bloom + local * w.bloom_words;
  memset(bits, 0, size_t(w.bloom_words) * 8);
  const fr_lists &exclude = w.scan->exclude;
  for (int64_t i = exclude.indptr[number]; i < exclude.indptr[number + 1]; ++i) {
    const uint32_t slot = bloom_slot(w, uint32_t(entry(exclude, i)));
    bits[slot >> 6] |= uint64_t(1) << (slot & 63);
  }
}

FR_INLINE bool excluded(const Work &w, int64_t local, int64_t number, uint32_t row) {
  if (!w.scan->exclude.indptr) return false;
  const uint32_t slot = bloom_slot(w, row);
  if (!(w.bloom[local * w.bloom_words + (slot >> 6)] >> (slot & 63) & 1)) return false;
  return is_listed(w.scan->exclude, number, row);
}

// ---- the buffer of one query ------------------------------------------------------------------------------------

// Make the exact keys in w.keys[0..n) the query's entries: the best k of them.
void settle_exact(Work &w, int64_t local, int64_t number, int64_t n) {
  Query &q = w.query[local];
  if (n > w.k) keep_largest(w.keys, n, w.k), n = w.k;
  memcpy(w.key + local * w.k, w.keys, size_t(n) * 8);
  float *low = w.low + local * w.cap, *high = w.high + local * w.cap;
  uint64_t least = ~uint64_t(0);
  const double slack = canonical_slack(w, q);
  for (int64_t i = 0; i < n; ++i) {
    const uint64_t key = w.keys[i];
    least = key < least ? key : least;
    const float score = key_score(key);
    const double x = (fabsf(score) > FLT_MAX ? (score > 0.0f ? 1.0 : -1.0) * FLT_MAX : double(score)) * q.down;
    // A float32 score stands for every float64 that rounds to it, an infinite one for all beyond the largest.  The
    // margin also covers the rounding of low and high themselves.
    const double y = x + q.shift, wide = (fabs(x) + fabs(y)) * 0x1p-22 + slack + 0x1p-149 * q.down + 0x1p-140;
    low[i] = score < -FLT_MAX ? -INFINITY : float(y - wide);
    high[i] = score > FLT_MAX ? INFINITY : float(y + wide);
  }
  q.count = q.exact = n;
  if (n == w.k) {
    raise(w, q, key_score(least));
    share(w, number, q);
  }
}

// Score a list of rows canonically and merge them with the query's exact entries (the others must be gone).
void offer(Work &w, int64_t local, int64_t number, const uint32_t *rows, int64_t count) {
  Query &q = w.query[local];
  const float *query = w.scan->queries + number * w.d;
  int64_t n = q.exact;
  memcpy(w.keys, w.key + local * w.k, size_t(n) * 8);
  const auto ask = [&](int64_t i) FR_BODY {  // inlined: GCC drops calls of functions that only prefetch
    if (i < count) fetch<2>(*w.items, rows[i]);
  };
  const auto take = [&](float score, uint32_t row) FR_BODY {
    if (!(score >= w.scan->min_score)) return;  // NaN, too
    if (n == w.room) keep_largest(w.keys, n, w.k), n = w.k;
    w.keys[n++] = key_of(score, row);
  };
  for (int64_t i = 0; i < AHEAD; ++i) ask(i);
  int64_t i = 0;
#if defined(FR_AVX512)
  if (w.items->dtype == FR_F32 && count >= 4) {
    for (int64_t t = 0; t < w.d; ++t) w.wide[t] = query[t];
    for (int64_t t = w.d; t % 8; ++t) w.wide[t] = 0.0;
    for (; i + 4 <= count; i += 4) {
      float score[4];
      for (int j = 0; j < 4; ++j) ask(i + AHEAD + j);
      canonical_four(*w.items, w.wide, q.norm, rows + i, score);
      for (int j = 0; j < 4; ++j) take(score[j], rows[i + j]);
    }
  }
#endif
  for (; i < count; ++i) {
    ask(i + AHEAD);
    take(canonical(*w.items, query, q.norm, rows[i], w.line), rows[i]);
  }
  q.rescored += count;
  settle_exact(w, local, number, n);
}

// Drop the excluded among the entries added since the last time.
void drop_excluded(Work &w, int64_t local, int64_t number) {
  if (!w.scan->exclude.indptr) return;
  Query &q = w.query[local];
  float *low = w.low + local * w.cap, *high = w.high + local * w.cap;
  uint32_t *row = w.row + local * w.cap;
  const uint64_t *bits = w.bloom + local * w.bloom_words;
  int64_t n = q.excluded_bits > q.exact ? q.excluded_bits : q.exact;  // entries before this one were checked
  for (int64_t i = n; i < q.count; ++i) {
    const uint32_t r = row[i], slot = bloom_slot(w, r);
    low[n] = low[i], high[n] = high[i], row[n] = r;
    bool keep = true;
    if (FR_UNLIKELY(bits[slot >> 6] >> (slot & 63) & 1))
      keep = !is_listed(w.scan->exclude, number, r);
    n += keep;
  }
  q.count = q.excluded_bits = n;
}

// Keep the entries whose upper bound reaches the cut.
void drop_below_cut(Work &w, int64_t local) {
  Query &q = w.query[local];
  float *low = w.low + local * w.cap, *high = w.high + local * w.cap;
  uint32_t *row = w.row + local * w.cap;
  uint64_t *key = w.key + local * w.k;
  int64_t n = 0, i = 0;
  for (; i < q.exact; ++i) {
    low[n] = low[i], high[n] = high[i], key[n] = key[i];
    n += high[i] >= q.cut;
  }
  q.exact = n;
#if defined(FR_AVX512)
  const __m512 cut = _mm512_set1_ps(q.cut);
  for (; i + 16 <= q.count; i += 16) {
    const __m512 h = _mm512_loadu_ps(high + i), l = _mm512_loadu_ps(low + i);
    const __m512i r = _mm512_loadu_si512(row + i);
    const __mmask16 keep = _mm512_cmp_ps_mask(h, cut, _CMP_GE_OQ);
    _mm512_storeu_ps(high + n, _mm512_maskz_compress_ps(keep, h));
    _mm512_storeu_ps(low + n, _mm512_maskz_compress_ps(keep, l));
    _mm512_storeu_si512(row + n, _mm512_maskz_compress_epi32(keep, r));
    n += __builtin_popcount(keep);
  }
#endif
  for (; i < q.count; ++i) {
    low[n] = low[i], high[n] = high[i], row[n] = row[i];
    n += high[i] >= q.cut;
  }
  q.count = q.excluded_bits = n;
}

// The sooner the threshold rises the fewer survive it; half as many again as what stayed costs least.
FR_INLINE void make_room(const Work &w, Query &q) {
  q.full = q.count + q.count / 2 + 32;
  if (q.full > w.limit) q.full = w.limit;
}

// The buffer is full: raise the threshold and make room; score canonically where bounds alone cannot.
void tighten(Work &w, int64_t local, int64_t number) {
  Query &q = w.query[local];
  drop_excluded(w, local, number);
  if (w.likely < w.k && q.count >= w.likely) {
    const float low = kth_largest(w.low + local * w.cap, q.count, w.likely, w.floats);
    if (low > q.guess) q.guess = low;
    if (low > q.cut) q.cut = low;
  } else if (q.count >= w.k) {
    raise(w, q, certain(w, q, kth_largest(w.low + local * w.cap, q.count, w.k, w.floats)));
    share(w, number, q);
  }
  drop_below_cut(w, local);
  if (q.count > w.limit - w.limit / 3) {
    offer(w, local, number, w.row + local * w.cap + q.exact, q.count - q.exact);
    q.excluded_bits = q.count;
    if (w.coded && q.rescored > LOOSE * w.k + 2048) q.loose = 1;
  }
  make_room(w, q);
}

// Score those that look best canonically, at least k of them, so that the least of their scores is the threshold.  How
// many others still reach it is returned; these follow at `from`.
int64_t score_best(Work &w, int64_t local, int64_t number, int64_t &from) {
  Query &q = w.query[local];
  float *low = w.low + local * w.cap, *high = w.high + local * w.cap;
  uint32_t *row = w.row + local * w.cap;
  drop_excluded(w, local, number);
  if (q.count <= w.k || q.count == q.exact) {
    offer(w, local, number, row + q.exact, q.count - q.exact);
    return 0;
  }
  const float least = kth_largest(low, q.count, w.k, w.floats);
  raise(w, q, certain(w, q, least));
  drop_below_cut(w, local);
  const int64_t begin = q.exact, end = q.count;
  from = begin;
  for (int64_t i = begin; i < end; ++i) {
    if (low[i] < least) continue;
    const uint32_t r = row[i];
    low[i] = low[from], high[i] = high[from], row[i] = row[from];
    row[from++] = r;
  }
  offer(w, local, number, row + begin, from - begin);
  int64_t others = from;
  for (int64_t i = from; i < end; ++i) {
    low[others] = low[i], high[others] = high[i], row[others] = row[i];
    others += high[i] >= q.sure;
  }
  return others - from;
}

// Score what is left canonically: afterwards the entries are the query's k best, or `doubtful`.
void conclude(Work &w, int64_t local, int64_t number) {
  int64_t from = 0;
  const int64_t others = score_best(w, local, number, from);
  offer(w, local, number, w.row + local * w.cap + from, others);
}

// Score no more than the threshold takes, and go on.
void settle(Work &w, int64_t local, int64_t number) {
  Query &q = w.query[local];
  float *low = w.low + local * w.cap, *high = w.high + local * w.cap;
  uint32_t *row = w.row + local * w.cap;
  int64_t from = 0;
  const int64_t others = score_best(w, local, number, from);
  for (int64_t i = 0; i < others; ++i)
    low[q.exact + i] = low[from + i], high[q.exact + i] = high[from + i], row[q.exact + i] = row[from + i];
  q.count = q.excluded_bits = q.exact + others;
  make_room(w, q);
}

void write(Work &w, int64_t local, int64_t *rows, float *scores) {
  const int64_t n = w.query[local].exact;
  memcpy(w.keys, w.key + local * w.k, size_t(n) * 8);
  sort_descending(w.keys, n, w.more);
  for (int64_t i = 0; i < w.k; ++i) {
    rows[i] = i < n ? int64_t(key_row(w.keys[i])) : -1;
    scores[i] = i < n ? key_score(w.keys[i]) : -INFINITY;
  }
}

// ---- queries ----------------------------------------------------------------------------------------------------

// Put w, the screened form of the query, into `scaled`, rounded to float32, and what does not depend on codes into `q`.
void prepare(Work &w, int64_t local, int64_t number) {
  Query &q = w.query[local];
  const float *u = w.scan->queries + number * w.d;
  const int metric = w.items->metric;
  const bool beta = w.index->beta != nullptr;
  float *scaled = w.scaled + local * w.d;
  q = Query();
  q.full = first_full(w), q.tau = q.sure = q.guess = q.cut = -INFINITY, q.up = q.down = 1.0, q.norm = sqrt(dot64(u, u, w.d));
  if (q.norm != q.norm) {
    q.kind = EMPTY;
    return;
  }
  const float top = largest_of(u, w.d);
  q.kind = top > FLT_MAX || w.d > 16384 ? EXHAUSTIVE : (top == 0.0f && metric != FR_L2 && !beta) ? ZERO : SCREEN;
  if (q.kind != SCREEN) {
    if (w.scan->min_score > q.tau) q.tau = w.scan->min_score;
    return;
  }
  int eu = 0;
  const int ei = w.index->exponent;
  double factor = 1.0;
  if (metric == FR_COSINE) {
    factor = q.norm == 0.0 ? 0.0 : 1.0 / q.norm;
  } else {
    if (top > 0.0f) frexp(double(top) * (metric == FR_L2 ? 2.0 : 1.0), &eu);
    else eu = metric == FR_L2 ? ei : 0;
    factor = ldexp(metric == FR_L2 ? 2.0 : 1.0, -eu);
  }
  const int unit = metric == FR_COSINE ? 0 : eu + ei;
  const int lift = metric == FR_COSINE ? 0 : metric == FR_L2 ? ei - eu : -eu;
  if (beta && (lift > 100 || lift < -100)) {
    q.kind = EXHAUSTIVE;
    if (w.scan->min_score > q.tau) q.tau = w.scan->min_score;
    return;
  }
  q.beta = beta ? float(ldexp(1.0, lift)) : 0.0f;
  q.up = ldexp(1.0, unit), q.down = ldexp(1.0, -unit);
  for (int64_t t = 0; t < w.d; ++t) scaled[t] = float(double(u[t]) * factor);
  q.reach = float_above(q.norm * factor * (1.0 + 2.0 * SLACK));
  if (metric == FR_L2) q.shift = q.norm * q.norm * q.down;
  raise(w, q, w.scan->min_score);
}

// Four vectors times the matrix [d][d], columns begin.. in steps of V vectors, summed in float32: up to which is returned.
template <int V>
FR_NOINLINE int64_t turn_columns(const float *FR_RESTRICT matrix, int64_t d, const float *const x[4],
                                 float *const out[4], int64_t begin) {
  for (; begin + V * FR_LANES <= d; begin += V * FR_LANES) {
    vfloat sum[4][V];
    unroll<4 * V>([&](auto i) FR_BODY { sum[i / V][i % V] = set_f(0.0f); });
    for (int64_t t = 0; t < d; ++t) {
      vfloat m[V];
      unroll<V>([&](auto v) FR_BODY { m[v] = load_f(matrix + t * d + begin + v * FR_LANES); });
      unroll<4>([&](auto j) FR_BODY {
        const vfloat value = set_f(x[j][t]);
        unroll<V>([&](auto v) FR_BODY { sum[j][v] = fma_f(value, m[v], sum[j][v]); });
      });
    }
    unroll<4 * V>([&](auto i) FR_BODY { store_f(out[i / V] + begin + i % V * FR_LANES, sum[i / V][i % V]); });
  }
  return begin;
}

// Turn the queries of `members`, as they are in `scaled`, into `turned`.
void turn(Work &w, const int32_t *members, int64_t count) {
  const float *matrix = w.index->turn;
  for (int64_t i = 0; i < count; i += 4) {
    const float *x[4];
    float *out[4];
    for (int j = 0; j < 4; ++j) {
      const int64_t local = members[i + j < count ? i + j : i];
      x[j] = w.scaled + local * w.d, out[j] = w.turned + local * w.d;
    }
    int64_t t = turn_columns<FR_TILE == 12 ? 6 : 2>(matrix, w.d, x, out, 0);
    t = turn_columns<1>(matrix, w.d, x, out, t);
    for (; t < w.d; ++t)
      for (int j = 0; j < 4; ++j) {
        float sum = 0.0f;
        for (int64_t r = 0; r < w.d; ++r) sum += x[j][r] * matrix[r * w.d + t];
        out[j][t] = sum;
      }
  }
}

// What bounds need to know of an encoded query before and behind each place, where there are many: quantised a place at a
// time, as turned queries are, short ones took a sixth longer to search.  Its error before a place is taken as that of
// all of it.
void divide(Work &w, int64_t local) {
  Query &q = w.query[local];
  const float *x = w.scaled + local * w.d;
  const int8_t *codes = reinterpret_cast<const int8_t *>(w.codes + local * w.d4);
  const int64_t places = w.index->places;
  const double out = 1.0 + 4.0 * SLACK;
  int32_t sum = 0, squares = 0;
  double beyond[FR_PLACES + 1];
  int64_t t = 0;
  for (int64_t s = 0; s <= places; ++s) {
    const int64_t end = s < places ? 4 * w.index->place[s] : w.d;
    double length = 0.0;
    for (; t < end; ++t) {
      sum += codes[t], squares += codes[t] * codes[t];
      length += double(x[t]) * double(x[t]);
    }
    beyond[s] = length;
    if (s == places) break;
    q.partial[s] = 128 * sum;
    q.coded_to[s] = float(sqrt(double(squares)) * q.step * out);
    q.residual_to[s] = q.residual;
  }
  double left = 0.0;
  for (int64_t s = places; s > 0; --s) {
    left += beyond[s];
    q.beyond[s - 1] = float(sqrt(left) * out);
  }
}

// Put the codes of a query that `prepare` looked at into `codes`, their bounds into `q`.
void encode(Work &w, int64_t local) {
  Query &q = w.query[local];
  const float *x = (w.index->turn ? w.turned : w.scaled) + local * w.d;
  float step = float(largest_of(x, w.d) / FR_QUERY_LEVELS);
  if (w.index->beta && step < q.beta * 0x1p-14f) step = q.beta * 0x1p-14f;  // keeps additive terms within 2^29 steps
  if (!(step > 0x1p-60f)) step = 0x1p-60f;
  q.step = step;
  // Turned, no item is longer than M (1 + turn_error), and its product with w is off by at most |w| M turn_error.
  const bool turned = w.index->turn != nullptr;
  const double error = turned ? w.index->turn_error : 0.0, inverse = 1.0 / double(step);
  double residual = 0.0, behind = 0.0, squares = 0.0, first = 0.0;
  int64_t sum = 0;
  uint8_t *codes = reinterpret_cast<uint8_t *>(w.codes + local * w.d4);
  const auto up_to = [&](int64_t begin, int64_t end, int32_t &offset, float &coded, float &lost) FR_BODY {
    for (int64_t t = begin, size; t < end; t += size) {
      alignas(64) uint8_t code[64];
      size = end - t < 64 ? end - t : 64;
      const double missed = quantise(x + t, size, 1.0, inverse, double(step), code);
      residual += missed;
      if (begin > 0) behind += missed;
      int32_t of_codes = 0, of_squares = 0;
      for (int64_t j = 0; j < size; ++j) {
        const int32_t c = int32_t(code[j]) - 128;
        of_codes += c, of_squares += c * c;
      }
      for (int64_t j = 0; j < (size + 3) / 4 * 4; ++j) codes[t + j] = code[j] ^ 0x80;
      sum += of_codes, squares += of_squares;
    }
    offset = int32_t(128 * sum);
    coded = float_above(sqrt(squares) * step * (1.0 + 2.0 * SLACK));
    lost = float_above((sqrt(residual) * (1.0 + error) + double(q.reach) * (SLACK + error)) * (1.0 + 2.0 * SLACK));
  };
  int64_t begin = 0;
  for (int s = 0; turned && s < FR_LOOKS; begin = 4 * w.index->place[s++]) {
    const int64_t end = 4 * w.index->place[s];
    up_to(begin, end, q.partial[s], q.coded_to[s], q.residual_to[s]);
    if (s == 0) first = squares;
    q.beyond[s] = float_above(sqrt(dot64(x + end, x + end, w.d - end)) * (1.0 + 2.0 * SLACK));
  }
  up_to(begin, w.d, q.offset, q.coded, q.residual);
  if (!turned) {
    if (w.index->rest) divide(w, local);
    return;
  }
  q.coded_behind = float_above(sqrt(squares - first) * step * (1.0 + 2.0 * SLACK));
  q.residual_behind = float_above(sqrt(behind) * (1.0 + 2.0 * SLACK));
}

// ---- screening --------------------------------------------------------------------------------------------------

constexpr float NEVER = 0x1p126f;  // a cut that nothing reaches, and that arithmetic does not turn into NaN
constexpr int WIDE = FR_TILE_I8 > FR_LANES ? FR_TILE_I8 : FR_LANES;  // length of a tile's parameter arrays
constexpr int span(int size) { return (size + FR_LANES - 1) / FR_LANES * FR_LANES; }  // what of them is looked at

struct alignas(64) Tile {
  float bar[WIDE];      // the query's cut, lowered by everything that does not depend on the panel
  float coded[WIDE], residual[WIDE], reach[WIDE], step[WIDE], inverse[WIDE], beta[WIDE];
  float coded_behind[WIDE], residual_behind[WIDE];
  float beyond[FR_PLACES][WIDE], coded_to[FR_PLACES][WIDE], residual_to[FR_PLACES][WIDE];  // of places in `known`
  int32_t partial[FR_PLACES][WIDE];
  int32_t offset[WIDE];
  int32_t member[WIDE];
  uint32_t real;        // bits of the queries that are not padding
  uint32_t known;       // bits of the places that `know` was called for
  float beta_error;     // relative error of the additive terms in the screen
};

FR_INLINE float lowered(float cut) { return cut - 2.0f * SLACK * fabsf(cut) - 2.0f * FLOOR; }

void fill_tile(const Work &w, Tile &tile, const int32_t *members, int size, int slots, float float_error) {
  tile.real = uint32_t((uint64_t(1) << size) - 1), tile.known = 0;
  tile.beta_error = float_error > SLACK ? float_error : SLACK;
  for (int j = 0; j < slots; ++j) {
    const bool real = j < size;
    const Query &q = w.query[members[real ? j : 0]];
    tile.member[j] = members[real ? j : 0];
    tile.bar[j] = real ? lowered(q.cut) : NEVER;
    tile.coded[j] = q.coded;
    tile.residual[j] = float_error > 0.0f ? float_above(double(q.reach) * float_error) : q.residual;
    tile.coded_behind[j] = q.coded_behind, tile.residual_behind[j] = q.residual_behind;
    tile.reach[j] = q.reach;
    tile.step[j] = q.step;
    tile.inverse[j] = 1.0f / q.step;
    tile.beta[j] = q.beta;
    tile.offset[j] = q.offset;
  }
}

// What the tile's queries are before and behind place s, of which few are looked at.
FR_INLINE void know(const Work &w, Tile &tile, int slots, int64_t s) {
  if (FR_LIKELY(tile.known >> s & 1)) return;
  tile.known |= 1u << s;
  for (int j = 0; j < slots; ++j) {
    const Query &q = w.query[tile.member[j]];
    tile.beyond[s][j] = q.beyond[s], tile.partial[s][j] = q.partial[s];
    tile.coded_to[s][j] = q.coded_to[s], tile.residual_to[s][j] = q.residual_to[s];
  }
}

// Append the items of `mask` to the query's buffer with their bounds value -+ error.
template <class T>
FR_INLINE void append(Work &w, int64_t local, const T *dots, uint32_t mask, T offset, float unit, float error,
                      const uint32_t *rows) {
  Query &q = w.query[local];
  float *low = w.low + local * w.cap, *high = w.high + local * w.cap;
  uint32_t *row = w.row + local * w.cap;
  int64_t n = q.count;
#if defined(FR_AVX512)
  if (FR_UNLIKELY(__builtin_popcount(mask) > 4)) {  // the first panels; later there is one, nearly always
    for (int v = 0; v < 2; ++v) {
      const __mmask16 part = __mmask16(mask >> (16 * v));
      __m512 value;
      if (sizeof(T) == 4 && T(0.5) == T(0))
        value = _mm512_mul_ps(
            _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_loadu_si512(dots + 16 * v), _mm512_set1_epi32(int32_t(offset)))),
            _mm512_set1_ps(unit));
      else
        value = _mm512_loadu_ps(reinterpret_cast<const float *>(dots + 16 * v));
      const __m512 wide = _mm512_set1_ps(error);
      _mm512_storeu_ps(low + n, _mm512_maskz_compress_ps(part, _mm512_sub_ps(value, wide)));
      _mm512_storeu_ps(high + n, _mm512_maskz_compress_ps(part, _mm512_add_ps(value, wide)));
      _mm512_storeu_si512(row + n, _mm512_maskz_compress_epi32(part, _mm512_loadu_si512(rows + 16 * v)));
      n += __builtin_popcount(part);
    }
    mask = 0;
  }
#endif
  for (; mask; mask &= mask - 1) {
    const int i = __builtin_ctz(mask);
    const float value = float(dots[i] - offset) * unit;
    low[n] = value - error, high[n] = value + error, row[n] = rows[i];
    ++n;
  }
  q.survivors += n - q.count;
  q.count = n;
}

FR_INLINE uint32_t present(const Work &w, int64_t panel) {
  // Only the last panel has padding, at its end.
  if (panel + 1 < w.index->panels) return 0xffffffffu;
  const uint32_t *rows = w.index->order + panel * FR_PANEL;
  uint32_t mask = 0;
  for (int i = 0; i < FR_PANEL; ++i) mask |= uint32_t(rows[i] != 0xffffffffu) << i;
  return mask;
}

// True where some query of the tile may need the panel at all: |w| * norm + additive terms reach its cut.
template <int Q>
FR_INLINE bool alive(const Tile &tile, const float *m) {
  const vfloat norm = set_f(m[FR_NORM]), beta = set_f(m[FR_BETA_MAX]);
  uint32_t any = 0;
  for (int v = 0; v < span(Q); v += FR_LANES) {
    const vfloat most = fma_f(load_f(tile.reach + v), norm, mul_f(load_f(tile.beta + v), beta));
    any |= above_f(most, load_f(tile.bar + v));
  }
  return any != 0;
}

// A panel's record of places where items are turned: most of an item then lies before the first, so that two errors,
// each with norms of its own, are less than one.
FR_INLINE const float *parts_of(const Work &w, int64_t p) {
  return w.index->turn ? w.index->rest + p * FR_TURNED : nullptr;
}

// The error of a screened value of query j in this panel: |screened - exact| stays below it.  With `parts`, the record
// of places of a panel of turned items, it is that of what lies before the first and that of what lies behind.
FR_INLINE float error_i8(const Tile &tile, int j, const float *m, bool beta, const float *parts) {
  const float terms = beta ? tile.beta_error * (tile.beta[j] * m[FR_BETA_ABS]) + 2.0f * (tile.step[j] * m[FR_SCALE]) : 0.0f;
  if (parts)
    return tile.coded_to[0][j] * parts[FR_BEFORE] + tile.residual_to[0][j] * m[FR_NORM] +
           tile.coded_behind[j] * parts[FR_BEHIND] + tile.residual_behind[j] * parts[0] + FLOOR + terms;
  return tile.coded[j] * m[FR_RESIDUAL] + tile.residual[j] * m[FR_NORM] + FLOOR + terms;
}
FR_INLINE float error_f32(const Tile &tile, int j, const float *m) {
  return tile.residual[j] * m[FR_NORM] + FLOOR + tile.beta_error * (tile.beta[j] * m[FR_BETA_ABS]);
}

// The bar of each query of a tile in one panel, as a sum of products of codes: an item matters only if it exceeds it.
// `start` gets -1 minus the bar, so that what matters is not negative once its products are added.  With `looks` at the
// places from `place` on, for which `rest` is the panel's record, `staged` gets what tile_in_registers takes: bars of the
// products before a place lie lower by |w| |item| behind it, and the error is that of what lies before.  `parts` as in
// error_i8.
template <int Q>
FR_INLINE void bars_i8(const Tile &tile, const float *m, bool beta, const float *parts, const float *rest,
                       int64_t place, int looks, int32_t *start, int32_t (*staged)[span(Q)]) {
  const vfloat r = set_f(m[FR_RESIDUAL]), n = set_f(m[FR_NORM]), inverse = set_f(m[FR_INVERSE]);
  for (int v = 0; v < span(Q); v += FR_LANES) {
    vfloat x = load_f(tile.bar + v);
    if (beta) {
      x = nfma_f(load_f(tile.beta + v), set_f(tile.beta_error * m[FR_BETA_ABS]), x);
      x = nfma_f(load_f(tile.step + v), set_f(2.0f * m[FR_SCALE]), x);
    }
    // No item lies below -2^30: additive terms stay within 2^29 steps, codes within 2^28.
    // max first: it turns a NaN (an infinity times zero) into its second operand
    const vfloat steps = mul_f(load_f(tile.inverse + v), inverse);
    const auto bar = [&](vfloat x, const int32_t *offset) FR_BODY {
      x = min_f(max_f(mul_f(x, steps), set_f(-0x1p30f)), set_f(0x1p29f));
      return sub_i(set_i(2), add_i(truncate_f(x), load_i(offset + v)));
    };
    const auto lower = [&](const float *coded, vfloat r, const float *residual) FR_BODY {
      return nfma_f(load_f(coded + v), r, nfma_f(load_f(residual + v), n, x));
    };
    vfloat least;
    if (parts)
      least = nfma_f(load_f(tile.coded_behind + v), set_f(parts[FR_BEHIND]),
                     nfma_f(load_f(tile.residual_behind + v), set_f(parts[0]),
                            lower(tile.coded_to[0], set_f(parts[FR_BEFORE]), tile.residual_to[0])));
    else
      least = lower(tile.coded, r, tile.residual);
    const vint whole = bar(least, tile.offset);
    store_i(start + v, whole);
    if (!looks) continue;
    vint before = set_i(0);
    for (int i = 0; i < looks; ++i) {
      const int64_t s = place + i;
      const vfloat y = lower(tile.coded_to[s], parts ? set_f(parts[FR_BEFORE + s]) : r, tile.residual_to[s]);
      const vint part = bar(nfma_f(load_f(tile.beyond[s] + v), set_f(rest[s]), y), tile.partial[s]);
      store_i(staged[i] + v, sub_i(part, before));
      before = part;
    }
    store_i(staged[looks] + v, sub_i(whole, before));
  }
}

// Keep what matters among the sums of query j of a tile with panel p: whether its bar may have risen for that.
FR_INLINE bool keep_i8(Work &w, Tile &tile, int j, int64_t number0, int64_t p, const int32_t *dots, uint32_t mask,
                       int32_t start) {
  const int64_t local = tile.member[j];
  Query &q = w.query[local];
  if (q.loose) return false;
  for (int i = 0; i < q.seeds; ++i)  // the buffer has what is in these
    if (w.seeds[local * MOST_SEEDS + i] == p / FR_STRETCH) return false;
  const float *m = w.index->meta + p * FR_META;
  append<int32_t>(w, local, dots, mask & present(w, p), start + tile.offset[j], tile.step[j] * m[FR_SCALE],
                  error_i8(tile, j, m, w.index->beta != nullptr, parts_of(w, p)), w.index->order + p * FR_PANEL);
  if (q.count < q.full) return false;
  tighten(w, local, number0 + local);
  tile.bar[j] = q.loose ? NEVER : lowered(q.cut);
  return true;
}

// Additive terms of panel p in integer steps, into dots [Q][32].
template <int Q>
FR_INLINE void begin_terms(const Work &w, const Tile &tile, int64_t p, int32_t *dots) {
  alignas(64) float steps[span(Q)];
  const vfloat inverse = set_f(w.index->meta[p * FR_META + FR_INVERSE]);
  for (int v = 0; v < span(Q); v += FR_LANES)
    store_f(steps + v, mul_f(load_f(tile.beta + v), mul_f(load_f(tile.inverse + v), inverse)));
  terms_i8<Q>(w.index->beta + p * FR_PANEL, steps, dots);
}

// The first panel from p on that some query of the tile needs.
template <int Q>
FR_INLINE int64_t next_alive(const Work &w, const Tile &tile, int64_t p, int64_t end) {
  while (p < end && !alive<Q>(tile, w.index->meta + p * FR_META)) ++p;
  return p;
}

// Bring the row numbers of a panel into the cache: looked at where something passes, no stride foretells which.
FR_INLINE void fetch_rows(const Work &w, int64_t p) {
#if defined(__GNUC__)
  __builtin_prefetch(w.index->order + p * FR_PANEL);
  __builtin_prefetch(w.index->order + p * FR_PANEL + FR_PANEL / 2);
#else
  (void)w, (void)p;
#endif
}

// Panels that looks end are read in leaps, which the hardware does not foresee.  So the next block, panels begin..end,
// is asked for in portions while `chosen` queries pass over the `panels` of this one.  For fewer than four nothing is
// looked at on the way; one tile that is turned asks for what it needs as it goes.
FR_INLINE void announce(Work &w, int64_t chosen, int64_t panels, int64_t begin, int64_t end) {
  w.coming = w.come = nullptr;
  if (chosen < 4 || !w.index->rest || (w.cold && w.index->turn)) return;
  const int64_t bytes = FR_PANEL * 4 * w.d4, tiles = (chosen + FR_TILE_I8 - 1) / FR_TILE_I8;
  w.coming = w.index->codes + begin * bytes, w.come = w.index->codes + end * bytes;
  w.portion = (w.come - w.coming) / (tiles * panels) / 64 * 64 + 64;
}
FR_INLINE void fetch_coming(Work &w) {
#if defined(__GNUC__)
  if (w.coming >= w.come) return;
  for (int64_t i = 0; i < w.portion; i += 64) __builtin_prefetch(w.coming + i, 0, 2);  // into the second cache
  w.coming += w.portion;
#else
  (void)w;
#endif
}

// Where a tile looks whether a panel still matters.  Norms fall from panel to panel, and the place from which no product
// reaches the bar any more moves from the end to the start: looks follow it by what they find.  The first is at the place
// `late` / PATIENCE, the second at the next; a panel that neither ends moves both a place on, one that only the second
// ends half a place, and as many as PATIENCE that the first ends a place back.  Behind the last place there is no look,
// and every panel counts as ended by the first.
//
// Turned items lie by cluster, so that no panel tells of the next; all that matters lies before their two places, and
// both are looked at, in the panel after one that they ended and else ever more rarely.
constexpr int32_t PATIENCE = 8;

struct Looks {
  int64_t place;  // the first of `count`
  int count;
};

// Pass a tile, with `codes` of its queries from weave_i8, over panels begin..end; with LOOKS, looking on the way.
template <int Q, bool LOOKS>
void run_in_registers(Work &w, Tile &tile, const int32_t *codes, int32_t *late, int64_t number0, int64_t begin,
                      int64_t end) {
  // The bars of a panel are computed before the products of the one before it, which hide what they take.
  alignas(64) int32_t dots[Q * FR_PANEL], start[2][span(Q)], staged[2][FR_LOOKS + 1][span(Q)];
  const int64_t panel_bytes = FR_PANEL * 4 * w.d4, places = w.index->places, record = fr_record(w.index);
  const bool beta = w.index->beta != nullptr;
  const bool turned = LOOKS && w.index->turn;
  int64_t p = next_alive<Q>(w, tile, begin, end), trial = p, wait = 0;
  const auto where = [&](int64_t panel) FR_BODY {
    Looks looks = {0, 0};
    if (turned) {
      looks.count = panel >= trial ? FR_LOOKS : 0;
    } else if (LOOKS) {
      looks.place = *late / PATIENCE;
      const int64_t left = places - looks.place;
      looks.count = left < 0 ? 0 : left < FR_LOOKS ? int(left) : int(FR_LOOKS);
    }
    return looks;
  };
  int64_t ends[2][FR_LOOKS];
  const auto bars = [&](int64_t panel, int turn, Looks looks) FR_BODY {
    for (int i = 0; LOOKS && i < FR_LOOKS; ++i) {
      if (i < looks.count) know(w, tile, span(Q), looks.place + i);
      ends[turn][i] = i < looks.count ? w.index->place[looks.place + i] : w.d4;
    }
    bars_i8<Q>(tile, w.index->meta + panel * FR_META, beta, turned ? parts_of(w, panel) : nullptr,
               LOOKS ? w.index->rest + panel * record : nullptr, looks.place, LOOKS ? looks.count : 0,
               start[turn], staged[turn]);
  };
  // Whether the panel behind this one has its record, where bars are as they were: nothing need be computed then.
  const auto again = [&](int64_t panel, Looks looks) FR_BODY {
    if (!LOOKS || turned || panel + 1 >= end || looks.place != *late / PATIENCE) return false;
    const float *m = w.index->meta + panel * FR_META, *rest = w.index->rest + panel * record + looks.place;
    if (memcmp(m, m + FR_META, FR_META * sizeof(float)) != 0) return false;
    bool same = true;
    for (int i = 0; i < looks.count; ++i) same &= rest[i] == rest[i + record];
    return same;
  };
  if (turned) know(w, tile, span(Q), 0);
  int turn = 0;
  bool raised = false;
  Looks looks[2] = {};
  if (p < end) looks[0] = where(p), bars(p, 0, looks[0]);
  while (p < end) {
    const bool same = !raised && again(p, looks[turn]);
    const int64_t next = same ? p + 1 : next_alive<Q>(w, tile, p + 1, end);
    if (next < end) {
      if (!same) {
        looks[turn ^ 1] = where(turned && p >= trial ? trial : next);
        bars(next, turn ^ 1, looks[turn ^ 1]);
      }
      fetch_rows(w, next);
    }
    raised = false;
    fetch_coming(w);
    if (beta) begin_terms<Q>(w, tile, p, dots);
    const uint8_t *panel = w.index->codes + p * panel_bytes;
    const uint8_t *ahead = w.index->codes + (next < end ? next : p) * panel_bytes;
    const auto products = [&](auto terms, auto mode) FR_BODY {
      constexpr int MODE = mode;
      return tile_i8<Q, terms, MODE>(panel, w.d4, ends[turn], codes, MODE != WHOLE ? staged[turn][0] : start[turn],
                                     span(Q), ahead, dots);
    };
    const auto products_of = [&](auto mode) FR_BODY {
      return beta ? products(Constant<1>(), mode) : products(Constant<0>(), mode);
    };
    const bool looked = LOOKS && looks[turn].count && !(turned && p < trial);
    uint32_t hits = !looked  ? products_of(Constant<WHOLE>()) | EARLY
                    : !turned ? products_of(Constant<LOOKING>())
                    : w.cold  ? products_of(Constant<COLD>())
                              : products_of(Constant<TURNED>());
    if (LOOKS && !turned) {
      *late += hits & EARLY ? -(*late > 0) : hits & DROPPED ? PATIENCE / 2 : PATIENCE;
    } else if (looked) {
      wait = hits & DROPPED ? 0 : wait ? 2 * wait : 1;
      trial = hits & DROPPED ? next : p + wait;
    }
    for (hits &= tile.real; hits; hits &= hits - 1) {
      const int j = __builtin_ctz(hits);
      const int32_t *sums = dots + j * FR_PANEL;
      raised |= keep_i8(w, tile, j, number0, p, sums, reaching_32(sums, 0), start[turn][j]);
    }
    p = next, turn ^= same ? 0 : 1;
  }
}

#if defined(FR_AMX)
// The same with AMX, for tiles of 16 and 32: what a call computes is complete after the next one.
template <int Q>
void run_tile_amx(Work &w, Tile &tile, const int32_t *codes, int64_t number0, int64_t begin, int64_t end) {
  alignas(64) int32_t dots[2][Q * FR_PANEL];
  const int64_t panel_bytes = FR_PANEL * 4 * w.d4;
  const bool beta = w.index->beta != nullptr;
  const auto keep = [&](int64_t p, const int32_t *sums) FR_BODY {
    alignas(64) int32_t start[span(Q)], bar[span(Q)];
    bars_i8<Q>(tile, w.index->meta + p * FR_META, beta, parts_of(w, p), nullptr, 0, 0, start, nullptr);
    for (int v = 0; v < span(Q); v += FR_LANES) store_i(bar + v, sub_i(set_i(-1), load_i(start + v)));
    for (uint32_t hits = hits_i8<Q>(sums, bar) & tile.real; hits; hits &= hits - 1) {
      const int j = __builtin_ctz(hits);
      keep_i8(w, tile, j, number0, p, sums + j * FR_PANEL, reaching_32(sums + j * FR_PANEL, start[j]), 0);
    }
  };
  int64_t before = -1;
  int turn = 0;
  if (w.index->turn) know(w, tile, span(Q), 0);
  amx_hold<Q>(w.d4, codes);
  for (int64_t p = next_alive<Q>(w, tile, begin, end); p < end; p = next_alive<Q>(w, tile, p + 1, end)) {
    const uint8_t *panel = w.index->codes + p * panel_bytes;
    if (beta) {
      begin_terms<Q>(w, tile, p, dots[turn]);
      dots_amx<Q, true>(panel, w.d4, codes, dots[turn], dots[turn ^ 1]);
    } else {
      dots_amx<Q, false>(panel, w.d4, codes, dots[turn], dots[turn ^ 1]);
    }
    turn ^= 1;
    if (before >= 0) keep(before, dots[turn]);
    before = p;
  }
  if (before < 0) return;
  amx_flush<Q>(dots[turn ^ 1]);
  keep(before, dots[turn ^ 1]);
}
#endif

template <int Q>
FR_INLINE void run_tile_i8(Work &w, Tile &tile, const int32_t *codes, int32_t *late, int64_t number0, int64_t begin,
                           int64_t end) {
#if defined(FR_AMX)
  if constexpr (Q >= 16) return run_tile_amx<Q>(w, tile, codes, number0, begin, end);
#endif
  if constexpr (Q < 16) {
    // Few queries wait for memory, which looks would only read in leaps, if these are not foreseen.
    if (w.index->rest && (Q >= 4 || w.index->turn))
      run_in_registers<Q, true>(w, tile, codes, late, number0, begin, end);
    else
      run_in_registers<Q, false>(w, tile, codes, late, number0, begin, end);
  }
}

template <int Q>
void run_tile_f32(Work &w, Tile &tile, int64_t number0, int64_t begin, int64_t end) {
  alignas(64) float threshold[span(Q)], dots[Q * FR_PANEL];
  const float *beta = w.index->beta;
  for (int64_t p = begin; p < end; ++p) {
    const float *m = w.index->meta + p * FR_META;
    if (!alive<Q>(tile, m)) continue;
    for (int j = 0; j < span(Q); ++j) threshold[j] = tile.bar[j] - error_f32(tile, j, m);
    uint32_t hits = tile_f32<Q>(w.panel + (p - begin) * w.d * FR_PANEL, w.d, w.tile, threshold,
                                beta ? beta + p * FR_PANEL : nullptr, tile.beta, dots);
    hits &= tile.real;
    if (FR_LIKELY(!hits)) continue;
    const uint32_t real = present(w, p);
    for (; hits; hits &= hits - 1) {
      const int j = __builtin_ctz(hits);
      const int64_t local = tile.member[j];
      append<float>(w, local, dots + j * FR_PANEL, above_32(dots + j * FR_PANEL, threshold[j]) & real, 0.0f, 1.0f,
                    error_f32(tile, j, m), w.index->order + p * FR_PANEL);
      if (w.query[local].count >= w.query[local].full) {
        tighten(w, local, number0 + local);
        tile.bar[j] = lowered(w.query[local].cut);
      }
    }
  }
}

// Interleave the floats of a tile's queries: [d][Q].
template <int Q>
FR_INLINE void weave_f32(Work &w, const int32_t *members, int size) {
  for (int j = 0; j < Q; ++j) {
    const float *from = w.scaled + int64_t(members[j < size ? j : 0]) * w.d;
    for (int64_t t = 0; t < w.d; ++t) w.tile[t * Q + j] = from[t];
  }
}

// Panels begin..end as floats in item units, each d-major.
void unpack(Work &w, int64_t begin, int64_t end) {
  const double unit = ldexp(1.0, -w.index->exponent);
  for (int64_t p = begin; p < end; ++p) {
    const uint32_t *rows = w.index->order + p * FR_PANEL;
    float *panel = w.panel + (p - begin) * w.d * FR_PANEL;
    for (int i = 0; i < FR_PANEL; ++i) {
      if (rows[i] == 0xffffffffu) {
        for (int64_t t = 0; t < w.d; ++t) panel[t * FR_PANEL + i] = 0.0f;
        continue;
      }
      const float *x = item_row(*w.items, rows[i], w.line);
      double factor = unit;
      if (w.items->metric == FR_COSINE) {
        const double norm = sqrt(dot64(x, x, w.d));
        factor = norm == 0.0 ? 0.0 : 1.0 / norm;
      }
      for (int64_t t = 0; t < w.d; ++t) panel[t * FR_PANEL + i] = float(double(x[t]) * factor);
    }
  }
}

// Which of the active queries need panels begin..end at all; those that need none from here on leave the list.
int64_t choose(Work &w, int64_t &actives, int64_t number0, int64_t begin, int64_t end) {
  float norm = 0.0f, beta = -INFINITY;
  for (int64_t p = begin; p < end; ++p) {
    const float *m = w.index->meta + p * FR_META;
    norm = m[FR_NORM] > norm ? m[FR_NORM] : norm;
    beta = m[FR_BETA_MAX] > beta ? m[FR_BETA_MAX] : beta;
  }
  const float *m = w.index->meta + begin * FR_META;
  const float beta_tail = m[FR_BETA_TAIL], norm_tail = m[FR_NORM_TAIL];
  int64_t kept = 0, chosen = 0;
  for (int64_t i = 0; i < actives; ++i) {
    const int32_t local = w.active[i];
    Query &q = w.query[local];
    learn(w, number0 + local, q);
    if (q.loose || q.reach * norm_tail + q.beta * beta_tail + FLOOR < q.cut) continue;
    w.active[kept++] = local;
    if (q.reach * norm + q.beta * beta + FLOOR < q.cut) continue;
    q.screened += end - begin;
    w.chosen[chosen++] = local;
  }
  actives = kept;
  return chosen;
}

// Sizes of tiles, largest first.
#if FR_TILE == 12
#define FR_SIZES_F32(CALL) CALL(12) CALL(8) CALL(4) CALL(2) CALL(1)
#elif FR_TILE == 3
#define FR_SIZES_F32(CALL) CALL(3) CALL(2) CALL(1)
#else
#define FR_SIZES_F32(CALL) CALL(1)
#endif
#if defined(FR_AMX)
#define FR_SIZES_I8(CALL) CALL(32) CALL(16) CALL(4) CALL(2) CALL(1)
#elif FR_TILE == 3
#define FR_SIZES_I8(CALL) CALL(6) FR_SIZES_F32(CALL)
#else
#define FR_SIZES_I8(CALL) FR_SIZES_F32(CALL)
#endif
// Pass one tile, the smallest that holds `left` queries or the largest there is, over the panels; returns its size.
#define FR_FITS(n) if (left <= n) size = n;
FR_INLINE int64_t pass_i8(Work &w, const int32_t *members, int64_t left, int32_t *woven, bool weave, int32_t *late,
                          int64_t number0, int64_t begin, int64_t end) {
  int size = FR_TILE_I8;
  FR_SIZES_I8(FR_FITS)
  const int used = int(left < size ? left : size);
  Tile tile;
  switch (size) {
#define FR_RUN(n)                                                                                                   \
  case n:                                                                                                           \
    if (weave)                                                                                                      \
      weave_i8<n>(woven, w.d4, [&](int j) FR_BODY { return w.codes + int64_t(members[j < used ? j : 0]) * w.d4; }); \
    fill_tile(w, tile, members, used, span(n), 0.0f);                                                               \
    run_tile_i8<n>(w, tile, woven, late, number0, begin, end);                                                      \
    break;
    FR_SIZES_I8(FR_RUN)
#undef FR_RUN
  }
  return used;
}
FR_INLINE int64_t pass_f32(Work &w, const int32_t *members, int64_t left, int64_t number0, int64_t begin, int64_t end) {
  int size = FR_TILE;
  FR_SIZES_F32(FR_FITS)
  const int used = int(left < size ? left : size);
  Tile tile;
  switch (size) {
#define FR_RUN(n)                                                              \
  case n:                                                                      \
    weave_f32<n>(w, members, used);                                            \
    fill_tile(w, tile, members, used, span(n), float(w.d + 8) * 0x1p-23f);     \
    run_tile_f32<n>(w, tile, number0, begin, end);                             \
    break;
    FR_SIZES_F32(FR_RUN)
#undef FR_RUN
  }
  return used;
}
#undef FR_FITS

// Put the active queries in order; ties stay as they are.
template <class F>
FR_INLINE void arrange(Work &w, int64_t actives, const F &follows) {
  for (int64_t i = 1; i < actives; ++i) {
    const int32_t one = w.active[i];
    int64_t j = i;
    for (; j > 0 && follows(w.query[w.active[j - 1]], w.query[one]); --j) w.active[j] = w.active[j - 1];
    w.active[j] = one;
  }
}

// Pass the active queries over every `segments`-th block of panels.  Blocks start small, so that thresholds rise soon.
void screen(Work &w, int64_t actives, int64_t number0, int64_t segment, bool codes, bool guessing) {
  const int64_t panels = w.index->panels, segments = w.scan->segments;
  // Every pass of every segment must cut the panels at the same places, or a share of them would be nobody's: a float
  // pass after an int8 one takes the blocks of that, a few panels at a time.
  const bool coded = w.scan->use_codes && w.index->codes;
  const int64_t most = coded ? block_panels(FR_PANEL * 4 * w.d4) : w.block_panels;
  w.befores = -1, w.coded = codes, w.likely = w.k;
  for (int64_t i = 0; i < w.group; ++i) w.late[i] = int32_t(w.index->places) * PATIENCE;
  const bool looking = codes && w.index->rest && !w.index->turn;
  guessing = guessing && totals(w)[FR_SHUFFLED] != 0.0f && segments == 1;
#if defined(FR_AMX)
  if (codes) amx_enter(w.d4);
#endif
  const bool falling = totals(w)[FR_SHUFFLED] == 0.0f && !w.index->turn;
  int64_t check = (8192 + 256 * w.k) / (w.d4 + 1);  // panels that take far longer than concluding does
  int64_t size = 4, turn = 0;
  for (int64_t first = 0; first < panels && actives; ++turn) {
    // Where norms fall, few of the k best are found late, and a threshold lags behind while the buffer does not fill.
    if (falling && first > check) {
      for (check *= 2; check < first;) check *= 2;
      for (int64_t i = 0; i < actives; ++i) {
        Query &q = w.query[w.active[i]];
        if (q.loose || q.count <= w.k || q.count == q.exact) continue;
        conclude(w, w.active[i], number0 + w.active[i]);
        q.excluded_bits = q.count;
        make_room(w, q);
      }
    }
    const int64_t last = first + size < panels ? first + size : panels, grown = 2 * size < most ? 2 * size : most;
    for (int64_t begin = turn % segments == segment ? first : last, end; begin < last; begin = end) {
      end = codes || begin + w.block_panels > last ? last : begin + w.block_panels;
      if (guessing) w.likely = expect(double(end) / double(panels), w.k);
      // Queries as far from their thresholds come together: what ends a tile for one of them ends it for all.
      if (looking && turn >= 4 && (turn & (turn - 1)) == 0)
        arrange(w, actives, [](const Query &a, const Query &b) { return a.cut * b.reach < b.cut * a.reach; });
      const int64_t chosen = choose(w, actives, number0, begin, end);
      w.cold = chosen <= FR_TILE_I8;
      if (codes) {
        const bool weave = chosen != w.befores || memcmp(w.chosen, w.before, size_t(chosen) * 4) != 0;
        if (weave) memcpy(w.before, w.chosen, size_t(chosen) * 4), w.befores = chosen;
        const int64_t next = last + (segments - 1 - segment) * size + segment * grown;
        announce(w, chosen, end - begin, next < panels ? next : panels, next + grown < panels ? next + grown : panels);
        for (int64_t i = 0, tile = 0; i < chosen; ++tile)
          i += pass_i8(w, w.chosen + i, chosen - i, w.woven + tile * w.tile_size, weave, w.late + tile, number0, begin, end);
      } else if (chosen) {
        unpack(w, begin, end);
        for (int64_t i = 0; i < chosen;) i += pass_f32(w, w.chosen + i, chosen - i, number0, begin, end);
      }
    }
    first = last;
    if (turn % segments == segments - 1 && size < most) size = grown;
  }
#if defined(FR_AMX)
  if (codes) amx_leave();
#endif
}

// Offer those of `count` rows (`rows[i]`, or `first + i` where it is null) that are not excluded, a buffer at a time.
void offer_all(Work &w, int64_t local, int64_t number, const uint32_t *rows, int64_t first, int64_t count) {
  uint32_t *chunk = w.row + local * w.cap;  // free: nothing was screened yet
  for (int64_t i = 0; i < count;) {
    int64_t n = 0;
    for (; i < count && n < w.limit; ++i) {
      const uint32_t row = rows ? rows[i] : uint32_t(first + i);
      if (!excluded(w, local, number, row)) chunk[n++] = row;
    }
    offer(w, local, number, chunk, n);
  }
}

// Forget the entries, keep the certain threshold: what earned it is found again.
void start_again(Work &w, int64_t local, int64_t number, int64_t segment) {
  Query &q = w.query[local];
  q.count = q.exact = q.excluded_bits = q.loose = q.seeds = 0;
  q.full = first_full(w);
  q.guess = -INFINITY, q.cut = q.sure;
  if (segment == 0) offer_all(w, local, number, w.index->special, 0, w.index->specials);
}

// A zero query scores 0 against every item that has no NaN or infinity: the first k rows are the answer.
void first_rows(Work &w, int64_t local, int64_t number) {
  if (w.scan->min_score > 0.0f) return;
  const int64_t n = w.items->n;
  for (int64_t row = 0; row < n && w.query[local].exact < w.k; row += w.limit)
    offer_all(w, local, number, nullptr, row, n - row < w.limit ? n - row : w.limit);
}

// ---- turned items ------------------------------------------------------------------------------------------------

// The stretches whose means promise most to a query, best first, into `seeds`; `home` is the best of them.
FR_NOINLINE void choose_seeds(Work &w, const int32_t *members, int used, int64_t number0) {
  const int64_t stretches = (w.index->panels + FR_STRETCH - 1) / FR_STRETCH, size = 4 * w.index->place[0];
  alignas(64) float dots[FR_TILE * FR_PANEL];
  float best[FR_TILE][MOST_SEEDS];
  int wanted[FR_TILE];
  for (int j = 0; j < FR_TILE; ++j) {
    const int64_t local = members[j < used ? j : 0], number = number0 + local;
    const fr_lists &exclude = w.scan->exclude;
    const int64_t barred = exclude.indptr ? exclude.indptr[number + 1] - exclude.indptr[number] : 0;
    const int64_t enough = SEEDS + 2 * (w.k + barred) / (FR_STRETCH * FR_PANEL);
    wanted[j] = enough <= MOST_SEEDS && 4 * enough <= stretches ? int(enough) : 1;
    w.query[local].seeds = 0;
    for (int64_t t = 0; t < size; ++t) w.tile[t * FR_TILE + j] = w.turned[local * w.d + t];
  }
  for (int64_t begin = 0; begin < stretches; begin += FR_PANEL) {
    const int64_t end = begin + FR_PANEL < stretches ? begin + FR_PANEL : stretches;
    dots_f32<FR_TILE, false>(w.index->means + begin * size, size, w.tile, dots);
    for (int j = 0; j < used; ++j) {
      int32_t *seeds = w.seeds + members[j] * MOST_SEEDS;
      int &held = w.query[members[j]].seeds;
      for (int64_t s = begin; s < end; ++s) {
        const float value = dots[j * FR_PANEL + s - begin];
        if (held == wanted[j] && !(value > best[j][held - 1])) continue;
        int at = held < wanted[j] ? held++ : held - 1;
        for (; at > 0 && best[j][at - 1] < value; --at) best[j][at] = best[j][at - 1], seeds[at] = seeds[at - 1];
        best[j][at] = value, seeds[at] = int32_t(s);
      }
    }
  }
  for (int j = 0; j < used; ++j) w.query[members[j]].home = w.seeds[members[j] * MOST_SEEDS];
}

// Items that are turned lie by clusters, so that a search can begin where it will end: in the stretches that promise
// most.  With the scores of the best there the threshold is close to the last one before the scan begins, and what the
// scan finds there once more is passed over.  Queries with the same home come together: they need the same panels.
void seed(Work &w, int64_t actives, int64_t number0) {
  for (int64_t i = 0; i < actives; i += FR_TILE)
    choose_seeds(w, w.active + i, int(actives - i < FR_TILE ? actives - i : FR_TILE), number0);
  arrange(w, actives, [](const Query &a, const Query &b) { return a.home > b.home; });
  w.coded = true, w.cold = true, w.likely = w.k;
  for (int64_t i = 0; i < actives; ++i) {
    const int32_t local = w.active[i];
    const int64_t number = number0 + local;
    Query &q = w.query[local];
    const int seeds = q.seeds;
    q.seeds = 0;  // until they are over, nothing is passed over
    if (seeds < 2) continue;
    for (int j = 0; j < seeds && !q.loose; ++j) {
      const int64_t begin = w.seeds[local * MOST_SEEDS + j] * int64_t(FR_STRETCH), end = begin + FR_STRETCH;
      pass_i8(w, &local, 1, w.woven, j == 0, w.late, number0, begin, end < w.index->panels ? end : w.index->panels);
      q.screened += FR_STRETCH;
    }
    if (q.loose) continue;
    settle(w, local, number);
    q.seeds = seeds;
  }
}

}  // namespace

extern "C" {

int64_t FR_FN(fr_scan_scratch)(const fr_scan *scan) {
  Work w;
  return lay_out(scan, nullptr, w) + 64;
}

void FR_FN(fr_scan_task)(const fr_scan *scan, int64_t task, int worker) {
  Work w;
  char *base = scan->scratch + worker * scan->scratch_bytes;
  base += (64 - (reinterpret_cast<uintptr_t>(base) & 63)) & 63;
  lay_out(scan, base, w);
  const int64_t segments = scan->segments, segment = task % segments, number0 = task / segments * scan->group;
  const int64_t size = scan->q - number0 < scan->group ? scan->q - number0 : scan->group;
  const fr_index &index = *scan->index;
  int64_t actives = 0;
  for (int64_t local = 0; local < size; ++local) {
    const int64_t number = number0 + local;
    prepare(w, local, number);
    Query &q = w.query[local];
    fill_bloom(w, local, number);
    if (q.kind == EXHAUSTIVE) {
      const int64_t begin = w.items->n * segment / segments, end = w.items->n * (segment + 1) / segments;
      offer_all(w, local, number, nullptr, begin, end - begin);
    } else if (q.kind == ZERO && segment == 0) {
      first_rows(w, local, number);
    } else if (q.kind == SCREEN) {
      if (segment == 0) offer_all(w, local, number, index.special, 0, index.specials);
      w.active[actives++] = int32_t(local);
    }
  }
  const bool codes = scan->use_codes && index.codes;
  if (codes) {
    if (index.turn) turn(w, w.active, actives);
    for (int64_t i = 0; i < actives; ++i) encode(w, w.active[i]);
    if (index.means) seed(w, actives, number0);
    // Shares of the items each find what lies in them: thresholds are all that they take from seeds.
    for (int64_t i = 0; index.means && segments > 1 && i < actives; ++i)
      if (!w.query[w.active[i]].loose) start_again(w, w.active[i], number0 + w.active[i], segment);
  }
  if (actives) screen(w, actives, number0, segment, codes, true);
  // At most two more passes for a few: those that guessed too high, and those whose int8 bounds are too loose.
  for (int64_t local = 0; local < size; ++local) {
    const Query &q = w.query[local];
    if (q.kind == SCREEN && !q.loose) conclude(w, local, number0 + local);
  }
  for (int pass = 0; pass < 2; ++pass) {
    actives = 0;
    for (int64_t local = 0; local < size; ++local) {
      Query &q = w.query[local];
      if (q.kind != SCREEN || !(pass == 0 ? doubtful(q) && !q.loose : q.loose != 0)) continue;
      start_again(w, local, number0 + local, segment);
      if (scan->stats) scan->stats[(number0 + local) * 4 + 3] |= pass == 0 ? 32 : 1;
      w.active[actives++] = int32_t(local);
    }
    if (!actives) continue;
    const int64_t again = actives;
    memcpy(w.members, w.active, size_t(actives) * 4);
    screen(w, actives, number0, segment, codes && pass == 0, false);
    for (int64_t i = 0; i < again; ++i)
      if (!w.query[w.members[i]].loose) conclude(w, w.members[i], number0 + w.members[i]);
  }
  for (int64_t local = 0; local < size; ++local) {
    const int64_t number = number0 + local, at = (number * segments + segment) * scan->k;
    write(w, local, scan->rows + at, scan->scores + at);
    if (scan->stats) {
      const Query &q = w.query[local];
      int64_t *s = scan->stats + number * 4;
#if defined(__GNUC__)
      __atomic_fetch_add(s + 0, q.screened, __ATOMIC_RELAXED);
      __atomic_fetch_add(s + 1, q.survivors, __ATOMIC_RELAXED);
      __atomic_fetch_add(s + 2, q.rescored, __ATOMIC_RELAXED);
#endif
      if (q.kind != SCREEN) s[3] |= 2 << q.kind;
    }
  }
}

}  // extern "C"
