// Ranking metrics: one pass over each query's list gives every metric at every cutoff.
//
// 1. Order.  Lists with scores are checked, sorted only where they are not in order already, and their tied blocks
//    put into the order that was asked for.
// 2. Find.  Positions of the list go into a small hash table that is never cleared: a slot is believed only when the
//    list really holds the id at the position it names.  Items that lost their slot are kept aside (a handful), so
//    that the same table answers "is this relevant item in the list, and where" and "is an item in it twice".
//    The cost is O(list + truth), in cache, whatever the ids are.
// 3. Sum.  What was found becomes a short vector of judged items by position; prefix sums over it give each metric
//    at each cutoff by a lookup.
//
// All sums are float64, in order of position: the same on every instruction set and thread count.
#include "evaluation_types.h"

#include <math.h>
#include <string.h>

namespace {

const int64_t TINY_LIST = 255;    // positions that fit a byte
const int TINY_BITS = 14;
const int64_t SHORT_LIST = 4096;  // longer lists use an ordinary hash table
const int SHORT_BITS = 16;
const int64_t POWERS = 256;       // powers of a persistence that are kept
#if defined(FR_AVX512)
const int64_t COUNTED_LIST = 512; // lists that are ordered by comparing all with all, where 64-bit comparisons are wide
#elif defined(FR_AVX2)
const int64_t COUNTED_LIST = 256;
#else
const int64_t COUNTED_LIST = 0;
#endif
const int64_t COUNTED = 32;       // that are compared at a time

FR_INLINE int64_t min64(int64_t a, int64_t b) { return a < b ? a : b; }

FR_INLINE int lowest_bit(uint64_t word) {
#if defined(_MSC_VER)
  unsigned long index;
  _BitScanForward64(&index, word);
  return (int)index;
#else
  return __builtin_ctzll(word);
#endif
}

FR_INLINE int bits_set(uint64_t word) {
#if defined(FR_AVX2) && !defined(_MSC_VER)
  return __builtin_popcountll(word);
#else
  word -= word >> 1 & 0x5555555555555555u;
  word = (word & 0x3333333333333333u) + (word >> 2 & 0x3333333333333333u);
  return (int)(((word + (word >> 4)) & 0x0F0F0F0F0F0F0F0Fu) * 0x0101010101010101u >> 56);
#endif
}

// The value, of which the compiler is to know nothing: it would gather loads that take one step each into vectors.
FR_INLINE uint32_t one_by_one(uint32_t x) {
#if !defined(_MSC_VER)
  __asm__("" : "+r"(x));
#endif
  return x;
}

// The same of a truth value, lest it becomes a branch that nothing foretells.
FR_INLINE uint64_t no_branch(uint64_t x) {
#if !defined(_MSC_VER)
  __asm__("" : "+r"(x));
#endif
  return x;
}

FR_INLINE void prefetch(const void *first, int64_t bytes) {
#if !defined(_MSC_VER)
  for (int64_t at = 0; at < bytes; at += 64) __builtin_prefetch((const char *)first + at);
#endif
}

FR_INLINE uint32_t mix(int32_t id) { return (uint32_t)id * 0x9E3779B1u; }
// The same for an id that fits 32 bits, whatever type holds it, so that a list of int32 meets a truth of int64.
FR_INLINE uint32_t mix(int64_t id) {
  const uint32_t high = (uint32_t)((uint64_t)id >> 32) + ((uint32_t)id >> 31);  // 0 where id fits int32
  return ((uint32_t)id ^ (high * 0x85EBCA6Bu)) * 0x9E3779B1u;
}

int short_bits(int64_t n) { return n <= 1024 ? 14 : SHORT_BITS; }

int64_t long_slots(int64_t n) {
  int64_t slots = 2;
  while (slots < 2 * n) slots *= 2;
  return slots;
}

// Scratch of one thread, cut from one block.
struct Bump {
  char *next;
  char *take(int64_t bytes) {
    char *here = next;
    next += (bytes + 63) & ~(int64_t)63;
    return here;
  }
};

struct Pair {
  double key;
  int64_t item;
};

// Where the ids of a list are.  Memory is lent; `find` may be called after `build`.
template <class I>
struct Lookup {
  uint8_t *tiny;       // lists of at most TINY_LIST
  uint16_t *slots;     // short lists
  uint16_t *hashes;
  int32_t *wide;       // long lists: position + 1, 0 is free
  int32_t *losers;     // positions whose slot belongs to another
  const I *ids;
  int64_t n;
  int64_t lost;
  int bits;

  void lend(Bump &bump, int64_t longest) {
    tiny = (uint8_t *)bump.take((int64_t)1 << TINY_BITS);
    slots = longest > TINY_LIST ? (uint16_t *)bump.take(sizeof(uint16_t) << SHORT_BITS) : nullptr;
    hashes = (uint16_t *)bump.take(2 * min64(longest, SHORT_LIST) + 64);
    losers = (int32_t *)bump.take(4 * (longest + 1));
    wide = longest > SHORT_LIST ? (int32_t *)bump.take(4 * long_slots(longest)) : nullptr;
  }

  // Returns how many entries repeat an earlier one; their bits are set in `repeated` (cleared here when needed).
  int64_t build(const I *list, int64_t length, uint64_t *repeated) {
    ids = list;
    n = length;
    lost = 0;
    return n <= TINY_LIST ? build_tiny(repeated) : n <= SHORT_LIST ? build_short(repeated) : build_long(repeated);
  }

  int64_t build_tiny(uint64_t *repeated) {
    const int64_t size = n;
    const I *FR_RESTRICT list = ids;
    uint8_t *FR_RESTRICT slot = tiny;
    uint16_t *FR_RESTRICT hash = hashes;
    bits = TINY_BITS;
    lost = 0;
    for (int64_t i = 0; i < size; ++i) hash[i] = (uint16_t)(mix(list[i]) >> (32 - TINY_BITS));
    int64_t i = size;
    for (; i & 3; --i) slot[hash[i - 1]] = (uint8_t)(i - 1);
    for (; i > 0; i -= 4)  // from the end: the earliest wins
      for (int64_t j = 1; j <= 4; ++j) slot[one_by_one(hash[i - j])] = (uint8_t)(i - j);
    uint32_t differs[4] = {0, 0, 0, 0};
    for (; i + 4 <= size; i += 4)
      for (int64_t j = 0; j < 4; ++j) differs[j] |= one_by_one(slot[hash[i + j]]) ^ (uint32_t)(i + j);
    for (; i < size; ++i) differs[0] |= (uint32_t)slot[hash[i]] ^ (uint32_t)i;
    if (FR_LIKELY(!(differs[0] | differs[1] | differs[2] | differs[3]))) return 0;
    int64_t count = 0;
    for (i = 0; i < size; ++i) {
      losers[count] = (int32_t)i;
      count += slot[hash[i]] != (uint8_t)i;
    }
    lost = count;
    int64_t repeats = 0;
    for (int64_t j = 0; j < count; ++j)
      if (FR_UNLIKELY(again(j, slot[hash[losers[j]]]))) repeats += mark(repeated, losers[j], repeats);
    return repeats;
  }

  // Does the j-th loser hold the id of the winner of its slot, or of an earlier loser?
  bool again(int64_t j, int64_t winner) const {
    const I id = ids[losers[j]];
    bool found = ids[winner] == id;
    for (int64_t e = 0; e < j && !found; ++e) found = ids[losers[e]] == id;
    return found;
  }

  int64_t build_short(uint64_t *repeated) {
    bits = short_bits(n);
    const int shift = 32 - bits;
    for (int64_t i = 0; i < n; ++i) hashes[i] = (uint16_t)(mix(ids[i]) >> shift);
    int64_t i = n;
    for (; i & 7; --i) slots[hashes[i - 1]] = (uint16_t)(i - 1);
    for (; i > 0; i -= 8)  // from the end: the earliest wins
      for (int64_t j = 1; j <= 8; ++j) slots[hashes[i - j]] = (uint16_t)(i - j);
    int64_t count = 0;
    for (i = 0; i + 8 <= n; i += 8) {
      uint32_t differs = 0;
      for (int64_t j = 0; j < 8; ++j) differs |= (uint32_t)slots[hashes[i + j]] ^ (uint32_t)(i + j);
      if (FR_LIKELY(!differs)) continue;
      for (int64_t j = i; j < i + 8; ++j)
        if (slots[hashes[j]] != (uint16_t)j) losers[count++] = (int32_t)j;
    }
    for (; i < n; ++i)
      if (slots[hashes[i]] != (uint16_t)i) losers[count++] = (int32_t)i;
    lost = count;
    int64_t repeats = 0;
    for (int64_t j = 0; j < count; ++j)
      if (FR_UNLIKELY(again(j, slots[hashes[losers[j]]]))) repeats += mark(repeated, losers[j], repeats);
    return repeats;
  }

  int64_t build_long(uint64_t *repeated) {
    const int64_t mask = long_slots(n) - 1;
    memset(wide, 0, sizeof(int32_t) * (size_t)(mask + 1));
    int64_t repeats = 0;
    for (int64_t i = 0; i < n; ++i) {
      int64_t slot = start(ids[i]) & mask;
      while (wide[slot] && ids[wide[slot] - 1] != ids[i]) slot = (slot + 1) & mask;
      if (wide[slot]) repeats += mark(repeated, i, repeats);
      else wide[slot] = (int32_t)i + 1;
    }
    return repeats;
  }

  int64_t mark(uint64_t *repeated, int64_t i, int64_t before) {
    if (before == 0) memset(repeated, 0, 8 * (size_t)((n + 63) / 64));
    repeated[i >> 6] |= (uint64_t)1 << (i & 63);
    return 1;
  }

  static int64_t start(int64_t id) {
    const uint64_t h = (uint64_t)id * 0x9E3779B97F4A7C15u;
    return (int64_t)(h ^ (h >> 32));
  }

  // The position that the slot of `id` names, in a tiny or short list: there the id is, or among the losers.
  FR_INLINE int64_t guess(int64_t id) const {
    const uint32_t slot = mix(id) >> (32 - bits);
    return n <= TINY_LIST ? (int64_t)tiny[slot] : (int64_t)slots[slot];
  }

  // Position of `id` in a long list, or -1.
  FR_INLINE int64_t find(int64_t id) const {
    const int64_t mask = long_slots(n) - 1;
    int64_t slot = start(id) & mask;
    while (wide[slot] && (int64_t)ids[wide[slot] - 1] != id) slot = (slot + 1) & mask;
    return (int64_t)wide[slot] - 1;
  }

  // The same in a list of any length.
  int64_t find_anywhere(int64_t id) const {
    if (n == 0) return -1;
    if (n > SHORT_LIST) return find(id);
    const int64_t at = guess(id);
    if (at < n && (int64_t)ids[at] == id) return at;
    for (int64_t j = 0; j < lost; ++j)
      if ((int64_t)ids[losers[j]] == id) return losers[j];
    return -1;
  }
};

// Stable merge sort of `n` elements, `spare` as long; `before(a, b)` says a must come first.
template <class T, class Before>
void merge_sort(T *data, T *spare, int64_t n, Before before) {
  const int64_t RUN = 12;
  for (int64_t lo = 0; lo < n; lo += RUN) {
    const int64_t hi = min64(lo + RUN, n);
    for (int64_t i = lo + 1; i < hi; ++i) {
      const T x = data[i];
      int64_t j = i;
      for (; j > lo && before(x, data[j - 1]); --j) data[j] = data[j - 1];
      data[j] = x;
    }
  }
  T *from = data, *to = spare;
  for (int64_t width = RUN; width < n; width *= 2) {
    for (int64_t lo = 0; lo < n; lo += 2 * width) {
      const int64_t mid = min64(lo + width, n), hi = min64(lo + 2 * width, n);
      int64_t a = lo, b = mid, o = lo;
      while (a < mid && b < hi) to[o++] = before(from[b], from[a]) ? from[b++] : from[a++];
      while (a < mid) to[o++] = from[a++];
      while (b < hi) to[o++] = from[b++];
    }
    T *swap = from;
    from = to;
    to = swap;
  }
  if (from != data) memcpy(data, from, sizeof(T) * (size_t)n);
}

struct HighKeyFirst {
  bool operator()(const Pair &a, const Pair &b) const { return a.key > b.key; }
};

// Order of integers written in decimal, as text: "10" < "9", "1" < "10", "-" before every digit.
bool decimal_less(int64_t a, int64_t b) {
  if ((a < 0) != (b < 0)) return a < 0;
  uint64_t x = a < 0 ? 0 - (uint64_t)a : (uint64_t)a, y = b < 0 ? 0 - (uint64_t)b : (uint64_t)b;
  int dx = 1, dy = 1;
  for (uint64_t t = x; t >= 10; t /= 10) ++dx;
  for (uint64_t t = y; t >= 10; t /= 10) ++dy;
  for (int i = dx; i < 19; ++i) x *= 10;  // an int64 has at most 19 digits, and 19 nines fit uint64
  for (int i = dy; i < 19; ++i) y *= 10;
  return x != y ? x < y : dx < dy;
}

struct DecimalDesc {
  bool operator()(int64_t a, int64_t b) const { return decimal_less(b, a); }
};
struct RankDesc {
  const int64_t *rank;
  int64_t key(int64_t id) const { return rank ? rank[id] : id; }
  bool operator()(int64_t a, int64_t b) const { return key(a) > key(b); }
};
struct RankAsc {
  const int64_t *rank;
  int64_t key(int64_t id) const { return rank ? rank[id] : id; }
  bool operator()(int64_t a, int64_t b) const { return key(a) < key(b); }
};
uint64_t splitmix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

struct Shuffled {
  uint64_t seed;
  const int64_t *rank;  // of codes: what stands for their text
  uint64_t key(int64_t id) const { return splitmix(seed + (uint64_t)(rank ? rank[id] : id) * 0x9E3779B97F4A7C15u); }
  bool operator()(int64_t a, int64_t b) const {
    const uint64_t x = key(a), y = key(b);
    return x != y ? x < y : a < b;
  }
};

FR_INLINE double power(double base, int64_t exponent) {
  double result = 1.0;
  for (; exponent > 0; exponent >>= 1, base *= base)
    if (exponent & 1) result *= base;
  return result;
}

// A column of the result.
struct Step {
  int32_t kind, cutoff;     // fr_rank_metric, place among the cutoffs
  int32_t last;             // one past the last of the columns of this kind that follow one another
  int64_t k;
  const double *parameter;  // two
  int64_t function;
  const double *powers;     // [i] parameter[0]^i, of the metrics that need them
};

// One query: its list, what was found in it, and the prefix sums.
template <class I>
struct Query {
  const fr_rank_job *job;
  Lookup<I> lookup;
  // the list
  I *ids;            // own copy, once ordered
  double *keys;      // scores
  Pair *pairs, *pairs_spare;
  int64_t *block_ids, *block_spare;
  int32_t *block;    // first position of the tied block each position is in
  int32_t *block_end;
  uint64_t *marks;
  bool scored, tied, shifted;
  bool wants_ap, wants_dcg;
  bool useful_only;  // no column tells a judged item that is worth nothing from one that was not judged
  int64_t n;
  // judged items found, by position
  double *gain_at, *value_at;
  int32_t *position;
  double *gain, *value;
  int32_t *hits;     // [e] relevant among the first e
  double *dcg, *ap;  // [e] sums over the first e
  int64_t events;
  int32_t *below;    // [c] events above cutoff c
  double *best;      // [c] ideal dcg at cutoff c
  double *dense, *dense_ideal, *sorted_values;
  int64_t relevant, nonrelevant;  // in the truth
  int64_t useful;                 // relevant, or with a gain above 0: where `useful_only`
  int32_t *overlap;  // [d] items that a list and its ideal share from depth d + 1 on
  // subtopics
  int64_t *judgement_at;               // by position of a judged item
  int64_t *moving;                     // the judgements of events, while their positions change
  double *topic_worth, *topic_total;   // by subtopic
  int64_t *candidates;
  double *ideal_added;
  int64_t ideal_size, ideal_of, judgements_of;
  double ideal_alpha;

  void lend(const fr_rank_job *j, char *scratch) {
    job = j;
    Bump bump = {scratch};
    const int64_t longest = j->longest, events_max = min64(longest, j->longest_truth);
    lookup.lend(bump, longest);
    ids = (I *)bump.take((int64_t)sizeof(I) * longest);
    keys = (double *)bump.take(8 * longest);
    const bool sorts = j->scores32 || j->scores64;
    pairs = (Pair *)bump.take(sorts ? (int64_t)sizeof(Pair) * (longest + COUNTED) : 0);
    pairs_spare = (Pair *)bump.take(sorts ? (int64_t)sizeof(Pair) * longest : 0);
    block_ids = (int64_t *)pairs;  // the two are never in use together
    block_spare = (int64_t *)pairs_spare;
    block = (int32_t *)bump.take(4 * longest);
    block_end = (int32_t *)bump.take(4 * longest);
    marks = (uint64_t *)bump.take(8 * (longest / 64 + 1));
    gain_at = (double *)bump.take(8 * (longest + 1));
    value_at = (double *)bump.take(8 * (longest + 1));
    position = (int32_t *)bump.take(4 * (events_max + 16));  // whole vectors are written
    gain = (double *)bump.take(8 * (events_max + 1));
    value = (double *)bump.take(8 * (events_max + 1));
    hits = (int32_t *)bump.take(4 * (events_max + 1));
    dcg = (double *)bump.take(8 * (events_max + 1));
    ap = (double *)bump.take(8 * (events_max + 1));
    below = (int32_t *)bump.take(4 * (j->cutoff_count + 1));
    best = (double *)bump.take(8 * (j->cutoff_count + 1));
    dense = (double *)bump.take(8 * longest);
    dense_ideal = (double *)bump.take(8 * j->longest_truth);
    sorted_values = (double *)bump.take(8 * 2 * (events_max + 1));
    cascade.sums = (double *)bump.take(8 * (events_max + 1));
    biased.sums = (double *)bump.take(8 * (events_max + 1));
    int64_t biased_columns = 0;
    for (int m = 0; m < j->metrics; ++m) biased_columns += is_biased(j->kinds[m]);
    steps = (Step *)bump.take((int64_t)sizeof(Step) * j->metrics);
    power_tables = (double *)bump.take(8 * POWERS * biased_columns);
    overlap = (int32_t *)bump.take(4 * ((longest > j->longest_truth ? longest : j->longest_truth) + 1));
    const bool topics = j->topic_ptr != nullptr;
    judgement_at = (int64_t *)bump.take(topics ? 8 * (longest + 1) : 0);
    moving = (int64_t *)bump.take(topics ? 8 * (events_max + 1) : 0);
    topic_worth = (double *)bump.take(topics ? 8 * (j->most_topics + 1) : 0);
    topic_total = (double *)bump.take(topics ? 8 * (j->most_topics + 1) : 0);
    candidates = (int64_t *)bump.take(topics ? 8 * (j->longest_truth + 1) : 0);
    ideal_added = (double *)bump.take(topics ? 8 * (j->longest_truth + 1) : 0);
    judgements_of = ideal_of = -1;
    end_of_scratch = bump.next;
  }
  char *end_of_scratch;

  // What is the same for every query.
  void prepare() {
    const int64_t events_max = min64(job->longest, job->longest_truth);
    hits[0] = 0;
    wants_ap = wants_dcg = false;
    for (int m = 0; m < job->metrics; ++m) {
      wants_ap |= job->kinds[m] == FR_AP;
      wants_dcg |= job->kinds[m] == FR_DCG || job->kinds[m] == FR_NDCG;
    }
    useful_only = job->gains && job->zero_is_nothing && !job->skip_unjudged && !job->topic_ptr;
    for (int m = 0; m < job->metrics; ++m) useful_only &= sees_useful_only(job->kinds[m]);
    plan();
    if (job->all_relevant)
      for (int64_t e = 0; e < events_max; ++e) {
        gain[e] = value[e] = 1.0;
        hits[e + 1] = (int32_t)e + 1;
      }
  }

  static bool is_biased(int kind) {
    return kind == FR_RBP || kind == FR_GRADED_RBP || kind == FR_RBP_RESIDUAL || kind == FR_NORMAL_RBP;
  }

  static bool sees_useful_only(int kind) {
    switch (kind) {
      case FR_DCG: case FR_NDCG: case FR_AP: case FR_RR: case FR_RECALL: case FR_PRECISION: case FR_HIT: case FR_FBETA:
      case FR_RPREC: case FR_RETRIEVED: case FR_RELEVANT: case FR_RELEVANT_RETRIEVED: return true;
      default: return false;
    }
  }

  // The columns, and the powers that those by rank-biased precision multiply by: of the same p they share a table.
  void plan() {
    double *next = power_tables;
    for (int m = 0; m < job->metrics; ++m) {
      const int c = job->cutoff_of[m];
      steps[m] = {job->kinds[m], c, m + 1, job->cutoffs[c], job->parameters + 2 * m, job->functions[m], nullptr};
      if (!is_biased(job->kinds[m])) continue;
      const double p = steps[m].parameter[0];
      for (int o = 0; o < m && !steps[m].powers; ++o)
        if (steps[o].powers && steps[o].parameter[0] == p) steps[m].powers = steps[o].powers;
      if (steps[m].powers) continue;
      for (int64_t i = 0; i < POWERS; ++i) next[i] = power(p, i);
      steps[m].powers = next;
      next += POWERS;
    }
    for (int m = job->metrics - 2; m >= 0; --m)
      if (steps[m].kind == steps[m + 1].kind) steps[m].last = steps[m + 1].last;
  }

  FR_INLINE bool is_relevant(double g) const { return job->strict ? g > job->level : g >= job->level; }

  // 1. Order -----------------------------------------------------------------------------------------------------

  // Is every score below the one before it, as they are compared?  Then none is NaN, unless it is alone.
  template <class Compared, class Wide, class Score>
  FR_INLINE bool falls(const Score *s) const {
    Wide stays = 0;  // as wide as what is compared, so that the loop is vectorised
    for (int64_t i = 1; i < n; ++i) stays |= !((Compared)s[i - 1] > (Compared)s[i]);
    return !stays && !(n == 1 && s[0] != s[0]);
  }
  bool scores_fall(int64_t first) const {
    if (job->scores32) return falls<float, int32_t>(job->scores32 + first);
    if (job->float32_scores) return falls<float, int32_t>(job->scores64 + first);
    return falls<double, int64_t>(job->scores64 + first);
  }

  // Fills keys; false where a score is NaN.
  bool read_scores(int64_t first) {
    bool good = true;
    if (job->scores32) {
      const float *s = job->scores32 + first;
      for (int64_t i = 0; i < n; ++i) {
        keys[i] = s[i];
        good &= s[i] == s[i];
      }
    } else if (job->float32_scores) {
      const double *s = job->scores64 + first;
      for (int64_t i = 0; i < n; ++i) {
        keys[i] = (float)s[i];
        good &= s[i] == s[i];
      }
    } else {
      const double *s = job->scores64 + first;
      for (int64_t i = 0; i < n; ++i) {
        keys[i] = s[i];
        good &= s[i] == s[i];
      }
    }
    return good;
  }

  FR_NOINLINE const I *order(const I *list, int64_t row) {
    bool sorted = true;
    for (int64_t i = 1; i < n; ++i) sorted &= keys[i - 1] >= keys[i];
    if (sorted) {
      memcpy(ids, list, sizeof(I) * (size_t)n);
    } else if (n <= COUNTED_LIST && (job->scores32 || job->float32_scores)) {
      order_by_counting(list);
    } else {
      for (int64_t i = 0; i < n; ++i) pairs[i] = {keys[i], (int64_t)list[i]};
      merge_sort(pairs, pairs_spare, n, HighKeyFirst());
      for (int64_t i = 0; i < n; ++i) {
        keys[i] = pairs[i].key;
        ids[i] = (I)pairs[i].item;
      }
    }
    find_blocks();
    if (tied && job->ties != FR_TIES_GIVEN) order_blocks(row);
    return ids;
  }

  // The place of an item is how many stand above it: n^2 comparisons in vectors and no branch.  Scores of 32 bits take
  // the upper half of a number whose lower half settles ties by position, so that no two are the same.
  FR_NOINLINE void order_by_counting(const I *list) {
    int64_t *standing = (int64_t *)pairs;
    double *sorted = (double *)pairs_spare;
    const int64_t padded = (n + COUNTED - 1) / COUNTED * COUNTED;
    for (int64_t i = 0; i < n; ++i) {
      const float score = (float)keys[i] + 0.0f;  // -0 is 0
      int32_t bits;
      memcpy(&bits, &score, sizeof bits);
      bits ^= (bits >> 31) & 0x7FFFFFFF;  // in the order of the scores
      standing[i] = (int64_t)(((uint64_t)(uint32_t)bits << 32) | (uint32_t)~(uint32_t)i);
    }
    for (int64_t i = n; i < padded; ++i) standing[i] = INT64_MIN;
    for (int64_t from = 0; from < padded; from += COUNTED) {
      int64_t above[COUNTED] = {};
      for (int64_t j = 0; j < n; ++j)
        for (int64_t l = 0; l < COUNTED; ++l) above[l] += standing[j] > standing[from + l];
      const int64_t to = min64(COUNTED, n - from);
      for (int64_t l = 0; l < to; ++l) {
        ids[above[l]] = list[from + l];
        sorted[above[l]] = keys[from + l];
      }
    }
    memcpy(keys, sorted, 8 * (size_t)n);
  }

  void find_blocks() {
    int64_t count = 0;
    for (int64_t i = 0; i < n;) {
      int64_t j = i + 1;
      while (j < n && keys[j] == keys[i]) ++j;
      if (j > i + 1) count += j - i;
      for (int64_t p = i; p < j; ++p) {
        block[p] = (int32_t)i;
        block_end[p] = (int32_t)j;
      }
      i = j;
    }
    tied = count > 0;
    tied_items = count;
  }
  int64_t tied_items;

  template <class Before>
  void sort_block(int64_t from, int64_t to, Before before) {
    for (int64_t p = from; p < to; ++p) block_ids[p - from] = (int64_t)ids[p];
    merge_sort(block_ids, block_spare, to - from, before);
    for (int64_t p = from; p < to; ++p) ids[p] = (I)block_ids[p - from];
  }

  FR_NOINLINE void order_blocks(int64_t row) {
    const uint64_t seed = job->seed + (job->query_keys ? splitmix(job->query_keys[row]) : 0);
    for (int64_t from = 0; from < n; from = block_end[from]) {
      const int64_t to = block_end[from];
      if (to - from < 2) continue;
      switch (job->ties) {
        case FR_TIES_DECIMAL_DESC: sort_block(from, to, DecimalDesc()); break;
        case FR_TIES_ID_DESC: sort_block(from, to, RankDesc{job->tie_rank}); break;
        case FR_TIES_ID_ASC: sort_block(from, to, RankAsc{job->tie_rank}); break;
        case FR_TIES_RANDOM: sort_block(from, to, Shuffled{seed, job->tie_rank}); break;
        default: return;
      }
    }
  }

  // 2. Find ------------------------------------------------------------------------------------------------------

  // Keep the entries whose mark is `keep`; the list moves into `ids`.
  FR_NOINLINE const I *compress(const I *list, bool keep) {
    int64_t kept = 0;
    for (int64_t i = 0; i < n; ++i) {
      if ((marks[i >> 6] >> (i & 63) & 1) != (uint64_t)keep) continue;
      ids[kept] = list[i];
      if (tied) keys[kept] = keys[i];
      ++kept;
    }
    n = kept;
    if (scored && tied) find_blocks();
    return ids;
  }

  // The judged items of a tiny list, without a branch on what is found: hits and misses come in no order.  Marks of up
  // to 128 positions stay in registers, where setting one does not wait for the one before.
  template <bool graded>
  int64_t mark_tiny(int64_t from, int64_t to) {
    const I *list = lookup.ids;
    uint64_t low = 0, high = 0;
    int64_t count = 0;
    for (; from < to; from += 64) {
      const int64_t *ids_of = job->truth_ids + from;
      const int64_t size = min64(to - from, 64);
      uint16_t hash[64];
      for (int64_t t = 0; t < size; ++t) hash[t] = (uint16_t)(mix(ids_of[t]) >> (32 - TINY_BITS));
      for (int64_t t = 0; t < size; ++t) {
        int64_t at = lookup.tiny[hash[t]];
        at = at < n ? at : 0;
        const uint64_t hit = no_branch((int64_t)list[at] == ids_of[t]), bit = hit << (at & 63);
        const uint64_t upper = (uint64_t)(at >> 6);  // 0 or 1
        low |= bit & (upper - 1);
        high |= bit & (0 - upper);
        count += (int64_t)hit;
        if (graded) {
          const int64_t slot = n + (at - n) * (int64_t)hit;  // one past the list is never read
          gain_at[slot] = job->gains[from + t];
          value_at[slot] = job->values[from + t];
        }
      }
    }
    marks[0] = low;
    if (n > 64) marks[1] = high;
    return count;
  }

  // The same for a list of any length that has slots.
  int64_t mark_short(int64_t from, int64_t to) {
    const I *list = lookup.ids;
    int64_t count = 0;
    for (int64_t t = from; t < to; ++t) {
      const int64_t id = job->truth_ids[t];
      int64_t at = lookup.guess(id);
      at = at < n ? at : 0;
      const bool hit = (int64_t)list[at] == id;
      marks[at >> 6] |= (uint64_t)hit << (at & 63);
      count += hit;
      if (job->gains) {
        const int64_t slot = hit ? at : n;  // one past the list: never read
        gain_at[slot] = job->gains[t];
        value_at[slot] = job->values[t];
      }
    }
    return count;
  }

  // The judged among the items that lost their slot.
  int64_t mark_losers(int64_t from, int64_t to) {
    const I *list = lookup.ids;
    int64_t count = 0;
    for (int64_t j = 0; j < lookup.lost; ++j) {
      const int64_t at = lookup.losers[j], id = (int64_t)list[at];
      for (int64_t t = from; t < to; ++t) {
        if (job->truth_ids[t] != id) continue;
        marks[at >> 6] |= (uint64_t)1 << (at & 63);
        ++count;
        if (job->gains) {
          gain_at[at] = job->gains[t];
          value_at[at] = job->values[t];
        }
      }
    }
    return count;
  }

  // Marks the judged items of the list; returns how many.
  int64_t mark_judged(int64_t row) {
    for (int64_t w = 0; w < (n + 63) / 64; ++w) marks[w] = 0;
    int64_t count = 0;
    const int64_t from = job->truth_ptr[row], to = useful_only ? from + useful : job->truth_ptr[row + 1];
    if (FR_UNLIKELY(n == 0)) return 0;
    if (FR_LIKELY(n <= SHORT_LIST)) {
      count = n > 128 ? mark_short(from, to) : job->gains ? mark_tiny<true>(from, to) : mark_tiny<false>(from, to);
      return lookup.lost ? count + mark_losers(from, to) : count;
    }
    for (int64_t t = from; t < to; ++t) {
      const int64_t at = lookup.find(job->truth_ids[t]);
      if (at < 0) continue;
      marks[at >> 6] |= (uint64_t)1 << (at & 63);
      if (job->gains) {
        gain_at[at] = job->gains[t];
        value_at[at] = job->values[t];
      }
      ++count;
    }
    return count;
  }

  void collect() {
    if (job->all_relevant) return collect_positions();
    int64_t e = 0;
    for (int64_t w = 0; w < (n + 63) / 64; ++w) {
      for (uint64_t word = marks[w]; word; word &= word - 1) {
        const int32_t at = (int32_t)(w * 64 + lowest_bit(word));
        position[e] = at;
        gain[e] = job->gains ? gain_at[at] : 1.0;
        value[e] = job->gains ? value_at[at] : 1.0;
        ++e;
      }
    }
    events = e;
  }

  // Where every gain is 1, a position says all; the other arrays were filled once (see `prepare`).
  void collect_positions() {
    int64_t e = 0;
#if defined(FR_AVX512)
    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    for (int64_t at = 0; at < n; at += 16) {
      const __mmask16 found = (__mmask16)(marks[at >> 6] >> (at & 63));
      const __m512i here = _mm512_add_epi32(_mm512_set1_epi32((int)at), lanes);
      _mm512_storeu_si512(position + e, _mm512_maskz_compress_epi32(found, here));
      e += bits_set(found);
    }
#else
    for (int64_t w = 0; w < (n + 63) / 64; ++w)
      for (uint64_t word = marks[w]; word; word &= word - 1) position[e++] = (int32_t)(w * 64 + lowest_bit(word));
#endif
    events = e;
  }

  // How many judged items are among the first k.
  int64_t judged_above(int64_t k) const {
    const int64_t reach = min64(k, n);
    int64_t count = 0, w = 0;
    for (; w < reach >> 6; ++w) count += bits_set(marks[w]);
    if (reach & 63) count += bits_set(marks[w] & (((uint64_t)1 << (reach & 63)) - 1));
    return count;
  }

  // Best or worst order inside tied blocks: useful items first (or last), the rest last (or first).
  FR_NOINLINE void shift_in_blocks(int64_t row, bool best_first) {
    const bool topics = job->topic_ptr != nullptr;
    if (topics) {
      find_judgements(row);
      for (int64_t e = 0; e < events; ++e) moving[e] = judgement_at[position[e]];
    }
    for (int64_t e = 0; e < events;) {
      const int32_t from = block[position[e]], to = block_end[position[e]];
      int64_t last = e;
      while (last < events && position[last] < to) ++last;
      for (int64_t i = e + 1; i < last; ++i) {  // by gain: descending for the best, ascending for the worst
        const double g = gain[i], v = value[i];
        const int64_t t = topics ? moving[i] : 0;
        int64_t j = i;
        for (; j > e && (best_first ? gain[j - 1] < g : gain[j - 1] > g); --j) {
          gain[j] = gain[j - 1];
          value[j] = value[j - 1];
          if (topics) moving[j] = moving[j - 1];
        }
        gain[j] = g;
        value[j] = v;
        if (topics) moving[j] = t;
      }
      int32_t head = 0;
      for (int64_t i = e; i < last; ++i) {
        const bool useful = gain[i] > 0;
        if (useful == best_first) position[i] = from + head++;
        else position[i] = to - (int32_t)(last - i);
        if (topics) judgement_at[position[i]] = moving[i];
      }
      e = last;
    }
  }

  // 3. Sum -------------------------------------------------------------------------------------------------------

  // Where every gain is 1.  The divisions run in vectors, ahead of the sums.
  void prefix_sums_of_ones() {
    double d = 0.0, a = 0.0;
    dcg[0] = ap[0] = 0.0;
    if (wants_ap) {
      for (int64_t e = 0; e < events; ++e) ap[e + 1] = (double)hits[e + 1] / (double)(position[e] + 1);
      for (int64_t e = 1; e <= events; ++e) ap[e] = a += ap[e];
    }
    if (wants_dcg)
      for (int64_t e = 0; e < events; ++e) dcg[e + 1] = d += job->discounts[position[e]];
    find_cutoffs();
  }

  void prefix_sums() {
    if (job->all_relevant) return prefix_sums_of_ones();
    int32_t h = 0;
    double d = 0.0, a = 0.0;
    dcg[0] = ap[0] = 0.0;
    for (int64_t e = 0; e < events; ++e) {
      const int32_t at = position[e];
      const bool relevant_here = is_relevant(gain[e]);
      h += relevant_here;
      a += relevant_here ? (double)h / (double)(at + 1) : 0.0;
      d += value[e] * job->discounts[at];
      hits[e + 1] = h;
      dcg[e + 1] = d;
      ap[e + 1] = a;
    }
    find_cutoffs();
  }

  void find_cutoffs() {
    if (!shifted) {
      for (int c = 0; c < job->cutoff_count; ++c) below[c] = (int32_t)judged_above(job->cutoffs[c]);
      return;
    }
    int64_t e = 0;
    for (int c = 0; c < job->cutoff_count; ++c) {
      while (e < events && position[e] < job->cutoffs[c]) ++e;
      below[c] = (int32_t)e;
    }
  }

  void ideal_sums(int64_t row) {
    if (job->ideal_mode == FR_IDEAL_FULL) {
      for (int c = 0; c < job->cutoff_count; ++c)
        best[c] = job->discount_sums[job->cutoffs[c] == INT64_MAX ? n : job->cutoffs[c]];
      return;
    }
    const double *sorted;
    int64_t size;
    if (job->ideal_mode == FR_IDEAL_LIST) {
      for (int64_t e = 0; e < events; ++e) sorted_values[e] = value[e];
      merge_sort(sorted_values, sorted_values + events, events, [](double a, double b) { return a > b; });
      sorted = sorted_values;
      size = events;
    } else {
      size = job->truth_ptr[row + 1] - job->truth_ptr[row];
      if (!job->ideal) {
        for (int c = 0; c < job->cutoff_count; ++c) best[c] = job->discount_sums[min64(job->cutoffs[c], size)];
        return;
      }
      sorted = job->ideal + job->truth_ptr[row];
    }
    double sum = 0.0;
    int64_t i = 0;
    for (int c = 0; c < job->cutoff_count; ++c) {
      const int64_t to = min64(job->cutoffs[c], size);
      for (; i < to && sorted[i] > 0.0; ++i) sum += sorted[i] * job->discounts[i];
      best[c] = sum;
    }
  }

  void count_truth(int64_t row) {
    const int64_t from = job->truth_ptr[row], to = job->truth_ptr[row + 1];
    relevant = to - from;
    nonrelevant = 0;
    if (job->all_relevant) return;
    if (!job->gains) {
      if (is_relevant(1.0)) return;
      nonrelevant = relevant;
      relevant = 0;
      return;
    }
    const double *gains = job->gains;
    const double level = job->level;
    int64_t found = 0, others = 0;
    if (useful_only && job->positives && job->strict) {  // the level is then 0
      useful = relevant = job->positives[row];
      return;
    }
    if (job->strict)
      for (int64_t t = from; t < to; ++t) found += gains[t] > level;
    else
      for (int64_t t = from; t < to; ++t) found += gains[t] >= level;
    if (useful_only) {
      useful = relevant = found;
      if (level > 0.0) {
        useful = 0;
        for (int64_t t = from; t < to; ++t) useful += gains[t] > 0.0;
      }
      return;
    }
    for (int64_t t = from; t < to; ++t) others += gains[t] >= 0.0;
    relevant = found;
    if (level >= 0.0) {  // then what is relevant is not below 0
      nonrelevant = others - found;
      return;
    }
    for (int64_t t = from; t < to; ++t) nonrelevant += !is_relevant(gains[t]) && gains[t] >= 0.0;
  }

  double relevant_above(int64_t k) const {  // for a cutoff that is not in the table (R)
    if (job->all_relevant && !shifted) return (double)judged_above(k);
    int64_t e = 0;
    while (e < events && position[e] < k) ++e;
    return (double)hits[e];
  }

  double ap_denominator(int64_t k, double found) const {
    const int64_t reach = min64(k, n);
    switch (job->ap_denominator) {
      case FR_AP_CAPPED: return (double)min64(relevant, k);
      case FR_AP_CUTOFF: return (double)(k == INT64_MAX ? n : k);
      case FR_AP_HITS: return found;
      case FR_AP_LENGTH: return (double)min64(relevant, reach);
      default: return (double)relevant;
    }
  }

  double precision_denominator(int64_t k) const {
    return (double)(k == INT64_MAX || job->short_lists ? min64(k, n) : k);
  }
  double recall_denominator(int64_t k) const { return (double)(job->recall_capped ? min64(relevant, k) : relevant); }

  // How many relevant items the best list holds among its first k.
  int64_t best_length(int64_t k) const { return min64(relevant, job->short_lists ? min64(k, n) : k); }

  double reciprocal_rank(int64_t e_end) const {
    for (int64_t e = 0; e < e_end; ++e)
      if (hits[e + 1]) return 1.0 / (double)(position[e] + 1);
    return 0.0;
  }

  static FR_INLINE double ratio(double a, double b) { return b > 0.0 ? a / b : 0.0; }

  double f_beta(double h, int64_t k, double beta) const {
    const double p = ratio(h, precision_denominator(k)), r = ratio(h, recall_denominator(k)), b = beta * beta;
    return ratio((1.0 + b) * p * r, b * p + r);
  }

  // Sums over the first e judged items, kept for the other cutoffs of the same parameters.
  struct Running {
    double *sums;
    double parameter;
    int worth;
    bool known;
    bool is(double p, int w) const { return known && parameter == p && worth == w; }
  };
  Running cascade, biased;
  double *power_tables;
  Step *steps;

  FR_NOINLINE double reciprocal_cascade(int64_t e_end, double largest) {  // ERR
    if (cascade.is(largest, 0)) return cascade.sums[e_end];
    double sum = 0.0, left = 1.0;
    const double scale = exp2(largest);
    cascade.sums[0] = 0.0;
    for (int64_t e = 0; e < events; ++e) {
      if (gain[e] > 0.0) {
        const double stop = ((gain[e] == 1.0 ? 2.0 : exp2(gain[e])) - 1.0) / scale;
        sum += left * stop / (double)(position[e] + 1);
        left *= 1.0 - stop;
      }
      cascade.sums[e + 1] = sum;
    }
    cascade = {cascade.sums, largest, 0, true};
    return cascade.sums[e_end];
  }

  // ERR of the best list: the truth is in that order.
  FR_NOINLINE double ideal_cascade(int64_t row, int64_t k, double largest) const {
    const int64_t from = job->truth_ptr[row], to = from + min64(k, job->truth_ptr[row + 1] - from);
    double sum = 0.0, left = 1.0;
    const double scale = exp2(largest);
    for (int64_t t = from; t < to; ++t) {
      const double g = job->gains ? job->gains[t] : 1.0;
      if (!(g > 0.0)) break;
      const double stop = (exp2(g) - 1.0) / scale;
      sum += left * stop / (double)(t - from + 1);
      left *= 1.0 - stop;
    }
    return sum;
  }

  // (1 - p) * sum of p^place over the relevant (0), of p^place * gain over all judged (1), of p^place over all judged (2).
  FR_INLINE double rank_biased(const Step &s, int64_t e_end, int worth) {
    if (!biased.is(s.parameter[0], worth)) sum_rank_biased(s.parameter[0], s.powers, worth);
    return biased.sums[e_end];
  }

  FR_NOINLINE void sum_rank_biased(double p, const double *power_of, int worth) {
    double sum = 0.0, weight = 1.0;
    int64_t at = 0;
    biased.sums[0] = 0.0;
    for (int64_t e = 0; e < events; ++e) {
      if (worth == 2 || (worth == 0 ? is_relevant(gain[e]) : gain[e] > 0.0)) {
        const int64_t gap = position[e] - at;
        weight *= FR_LIKELY(gap < POWERS) ? power_of[gap] : power(p, gap);
        at = position[e];
        sum += worth == 1 ? weight * gain[e] : weight;
      }
      biased.sums[e + 1] = (1.0 - p) * sum;
    }
    biased = {biased.sums, p, worth, true};
  }

  // The weight of the first `length` places, (1 - p) * (1 + p + ... + p^(length - 1)).
  FR_NOINLINE static double geometric(double p, int64_t length) {
    double sum = 0.0, weight = 1.0;
    for (int64_t i = 0; i < length && weight > 0.0; ++i, weight *= p) sum += weight;
    return (1.0 - p) * sum;
  }

  // Rank-biased overlap with the ideal list nearest to this one, over its best (Clarke, Vtyurina and Smucker, 2021).
  FR_NOINLINE double compatibility(int64_t row, int64_t k, double p) {
    const int64_t size = min64(k, n), depth = size > relevant ? size : relevant;
    if (relevant == 0) return 0.0;
    for (int64_t d = 0; d < depth; ++d) overlap[d] = 0;
    const int64_t from = job->truth_ptr[row];
    for (int64_t e = 0; e < events; ++e) {
      if (!is_relevant(gain[e]) || position[e] >= size) continue;
      int64_t ideal = 0;  // items before it: of a larger gain, or of the same and earlier in the list
      if (job->gains)
        while (ideal < relevant && job->gains[from + ideal] > gain[e]) ++ideal;
      for (int64_t o = 0; o < e; ++o) ideal += gain[o] == gain[e];
      const int64_t at = ideal > position[e] ? ideal : position[e];
      ++overlap[at];
    }
    double total = 0.0, best_total = 0.0, weight = 1.0;
    int64_t both = 0;
    for (int64_t d = 0; d < depth; ++d, weight *= p) {
      both += overlap[d];
      total += weight * (double)both / (double)(d + 1);
      best_total += weight * (double)min64(d + 1, relevant) / (double)(d + 1);
    }
    return ratio(total, best_total);
  }

  FR_NOINLINE double bpref(int64_t e_end) const {
    if (nonrelevant == 0) return ratio((double)hits[e_end], (double)relevant);
    double sum = 0.0;
    int64_t above = 0;
    const double most = (double)min64(nonrelevant, relevant);
    for (int64_t e = 0; e < e_end; ++e) {
      if (is_relevant(gain[e])) sum += above ? 1.0 - (double)min64(above, relevant) / most : 1.0;
      else if (gain[e] >= 0.0) ++above;
    }
    return ratio(sum, (double)relevant);
  }

  // Yilmaz and Aslam (2006), with trec_eval's smoothing; a negative gain marks an item that was pooled but never judged.
  FR_NOINLINE double inferred_ap(int64_t e_end) const {
    const double eps = 0.00001;
    double sum = 0.0, rel = 0.0, non = 0.0, unjudged = 0.0;
    for (int64_t e = 0; e < e_end; ++e) {
      if (gain[e] < 0.0 && !is_relevant(gain[e])) {
        unjudged += 1.0;
        continue;
      }
      if (!is_relevant(gain[e])) {
        non += 1.0;
        continue;
      }
      const double j = (double)position[e];
      if (position[e] == 0) sum += 1.0;
      else
        sum += 1.0 / (j + 1.0) + (j / (j + 1.0)) * ((rel + non + unjudged) / j) * ((rel + eps) / (rel + non + 2.0 * eps));
      rel += 1.0;
    }
    return ratio(sum, (double)relevant);
  }

  // Highest precision at or after the point where `recall` of the relevant items is reached.
  FR_NOINLINE double interpolated(double recall, double version, int64_t e_end) const {
    const int64_t need = (int64_t)(recall * (double)relevant + (version < 10.0 ? 0.9 : 0.5));  // trec_eval's rounding
    double top = 0.0;
    for (int64_t e = 0; e < e_end; ++e) {
      if (hits[e + 1] == hits[e] || hits[e + 1] < need) continue;
      const double p = (double)hits[e + 1] / (double)(position[e] + 1);
      if (p > top) top = p;
    }
    return top;
  }

  FR_NOINLINE double eleven_point(double version, int64_t e_end) const {
    double sum = 0.0;
    for (int i = 0; i <= 10; ++i) sum += interpolated((double)i / 10.0, version, e_end);
    return sum / 11.0;
  }

  // Share of (relevant, other) pairs of the first k that are in order, half for a tied pair.
  FR_NOINLINE double auc(int64_t e_end, int64_t k) const {
    const int64_t size = min64(k, n);
    const double positives = (double)hits[e_end], negatives = (double)size - positives;
    if (!(positives > 0.0) || !(negatives > 0.0)) return NAN;
    double won = 0.0;
    for (int64_t e = 0; e < e_end;) {
      int64_t from = position[e], to = from + 1;
      if (tied) {
        from = block[position[e]];
        to = min64(block_end[position[e]], size);
      }
      const double rel_before = (double)hits[e];
      int64_t last = e;
      while (last < e_end && position[last] < to) ++last;
      const double rel_in = (double)(hits[last] - hits[e]);
      const double other_before = (double)from - rel_before, other_in = (double)(to - from) - rel_in;
      won += rel_in * (negatives - other_before - other_in) + 0.5 * rel_in * other_in;
      e = last;
    }
    return won / (positives * negatives);
  }

  // The ROC curve of a catalogue of `items` of which the first k are ranked, and the rest stands in any order.
  FR_NOINLINE double limited_auc(int64_t e_end, int64_t k, double items) const {
    const double rel = (double)relevant, others = items - rel;
    if (!(others > 0.0)) return NAN;
    double under = 0.0;
    int64_t at = 0;
    for (int64_t e = 0; e < e_end; ++e) {  // misses before this item have the hits before it above them
      if (hits[e + 1] == hits[e]) continue;
      under += (double)hits[e] * (double)(position[e] - at);
      at = position[e] + 1;
    }
    const int64_t size = min64(k, n);
    const double found = (double)hits[e_end];
    under += found * (double)(size - at);
    const double beyond = (1.0 - ((double)size - found) / others) * (found + rel) / 2.0;
    return ratio(under / others + beyond, rel);
  }

  // AUC of the first `count` relevant items against the first k others.
  FR_NOINLINE double against_first_others(int64_t k, int64_t count) const {
    double won = 0.0;
    int64_t taken = 0;
    for (int64_t e = 0; e < events && taken < count; ++e) {
      if (hits[e + 1] == hits[e]) continue;
      const int64_t above = position[e] - taken;
      if (above >= k) break;
      won += (double)(k - above);
      ++taken;
    }
    return ratio(won, (double)count * (double)k);
  }

  // Mean over the relevant items of a worth by how many others stand above; an item that is not in the list has all.
  FR_NOINLINE double by_others(const double *worth, int64_t others) const {
    double sum = 0.0;
    for (int64_t e = 0; e < events; ++e)
      if (hits[e + 1] != hits[e]) sum += worth[min64(position[e] - hits[e], others)];
    return ratio(sum + (double)(relevant - hits[events]) * worth[others], (double)relevant);
  }

  FR_NOINLINE double gain_rank(int64_t e_end) const {
    double sum = 0.0, weight = 0.0;
    for (int64_t e = 0; e < e_end; ++e) {
      if (hits[e + 1] == hits[e] || !(gain[e] > 0.0)) continue;
      double rank = (double)position[e] + 1.0;
      if (tied && job->ties == FR_TIES_AVERAGE)
        rank = 0.5 * ((double)block[position[e]] + 1.0 + (double)block_end[position[e]]);
      sum += rank * gain[e];
      weight += gain[e];
    }
    return weight > 0.0 ? sum / weight : NAN;
  }

  FR_NOINLINE double mean_rank(int64_t e_end) const {
    double sum = 0.0;
    for (int64_t e = 0; e < e_end; ++e) {
      if (hits[e + 1] == hits[e]) continue;
      double rank = (double)position[e] + 1.0;
      if (tied && job->ties == FR_TIES_AVERAGE)
        rank = 0.5 * ((double)block[position[e]] + 1.0 + (double)block_end[position[e]]);
      sum += rank;
    }
    return hits[e_end] ? sum / (double)hits[e_end] : NAN;
  }

  // Share of the pairs of the first k with different gains that are in order; a tied pair counts `tie`.
  FR_NOINLINE double pair_accuracy(int64_t e_end, int64_t k, double tie) const {
    const int64_t size = min64(k, n);
    const double unjudged = (double)(size - e_end);
    double won = 0.0, pairs_seen = 0.0;
    for (int64_t e = 0; e < e_end; ++e) {
      const double g = gain[e];
      const int64_t at = position[e];
      const int64_t from = tied ? block[at] : at, to = tied ? min64(block_end[at], size) : at + 1;
      if (g != 0.0) {
        int64_t judged_before = 0, judged_in = 0;
        for (int64_t o = 0; o < e_end; ++o) {
          judged_before += position[o] < from;
          judged_in += position[o] >= from && position[o] < to;
        }
        const double above = (double)(from - judged_before), level_with = (double)(to - from - judged_in);
        const double under = unjudged - above - level_with;
        won += (g > 0.0 ? under : above) + tie * level_with;
        pairs_seen += unjudged;
      }
      for (int64_t o = e + 1; o < e_end; ++o) {
        if (gain[o] == g) continue;
        pairs_seen += 1.0;
        if (position[o] < to) won += tie;
        else if (g > gain[o]) won += 1.0;
      }
    }
    return pairs_seen > 0.0 ? won / pairs_seen : NAN;
  }

  // Subtopics ------------------------------------------------------------------------------------------------------

  // Which judgement each judged item of the list is.
  void find_judgements(int64_t row) {
    for (int64_t t = job->truth_ptr[row]; t < job->truth_ptr[row + 1]; ++t) {
      const int64_t at = lookup.find_anywhere(job->truth_ids[t]);
      if (at >= 0) judgement_at[at] = t;
    }
    judgements_of = row;
  }

  // Sum of what a judged item is worth by its subtopics; with `spend`, each is worth less from then on.
  FR_INLINE double novelty(int64_t t, double keep, bool spend) {
    double added = 0.0;
    for (int64_t s = job->topic_ptr[t]; s < job->topic_ptr[t + 1]; ++s) {
      double *worth = topic_worth + job->topics[s];
      added += *worth;
      if (spend) *worth *= keep;
    }
    return added;
  }

  // ideal_added[i]: what the i-th item of the greedy ideal list adds.  Stops where nothing adds any more.
  FR_NOINLINE void greedy_ideal(int64_t row, double alpha) {
    const int64_t from = job->truth_ptr[row], size = job->truth_ptr[row + 1] - from;
    const int64_t *order = job->topic_order + from;
    for (int32_t s = 0; s < job->topic_counts[row]; ++s) topic_worth[s] = 1.0;
    int64_t left = 0;
    for (int64_t i = 0; i < size; ++i)
      if (job->topic_ptr[order[i] + 1] > job->topic_ptr[order[i]]) candidates[left++] = order[i];
    ideal_size = 0;
    while (left > 0) {
      int64_t best = 0;
      double most = -1.0;
      for (int64_t i = 0; i < left; ++i) {
        const double added = novelty(candidates[i], 1.0, false);
        if (added > most) {
          most = added;
          best = i;
        }
      }
      if (!(most > 0.0)) break;
      ideal_added[ideal_size++] = novelty(candidates[best], 1.0 - alpha, true);
      for (int64_t i = best + 1; i < left; ++i) candidates[i - 1] = candidates[i];
      --left;
    }
    ideal_of = row;
    ideal_alpha = alpha;
  }

  // Weight of a place in the sums over novelty; `decay` is beta^place.
  FR_INLINE double place_weight(int kind, int64_t place, double decay) const {
    switch (kind) {
      case FR_ALPHA_DCG:
      case FR_ALPHA_NDCG: return job->discounts[place];
      case FR_ERR_IA:
      case FR_NERR_IA: return 1.0 / (double)(place + 1);
      default: return decay;
    }
  }

  FR_NOINLINE double by_subtopic(int kind, int64_t row, int64_t k, const double *parameter) {
    const int32_t count = job->topic_counts[row];
    if (count == 0) return 0.0;
    if (judgements_of != row) find_judgements(row);
    const int64_t size = min64(k, n);
    if (kind == FR_AP_IA || kind == FR_PRECISION_IA || kind == FR_SUBTOPIC_RECALL) {
      for (int32_t s = 0; s < count; ++s) topic_worth[s] = topic_total[s] = 0.0;
      if (kind == FR_AP_IA)
        for (int64_t s = job->topic_ptr[job->truth_ptr[row]]; s < job->topic_ptr[job->truth_ptr[row + 1]]; ++s)
          topic_total[job->topics[s]] += 1.0;
      double sum = 0.0, seen = 0.0;
      for (int64_t e = 0; e < events && position[e] < size; ++e) {
        const int64_t t = judgement_at[position[e]];
        for (int64_t s = job->topic_ptr[t]; s < job->topic_ptr[t + 1]; ++s) {
          double *found = topic_worth + job->topics[s];
          seen += *found == 0.0 ? 1.0 : 0.0;
          *found += 1.0;
          sum += kind == FR_AP_IA ? *found / (double)(position[e] + 1) / topic_total[job->topics[s]] : 1.0;
        }
      }
      if (kind == FR_SUBTOPIC_RECALL) return seen / (double)count;
      return ratio(sum, kind == FR_AP_IA ? (double)count : precision_denominator(k) * (double)count);
    }
    const double keep = 1.0 - parameter[0], beta = parameter[1];
    for (int32_t s = 0; s < count; ++s) topic_worth[s] = 1.0;
    double gained = 0.0, decay = 1.0;
    int64_t at = 0;
    for (int64_t e = 0; e < events && position[e] < size; ++e) {
      if (kind == FR_NRBP || kind == FR_NNRBP) decay *= power(beta, position[e] - at);
      at = position[e];
      gained += novelty(judgement_at[position[e]], keep, true) * place_weight(kind, at, decay);
    }
    double whole = 0.0;
    if (kind == FR_NRBP) {
      return gained * (1.0 - keep * beta) / (double)count;
    } else if (kind == FR_ALPHA_DCG || kind == FR_ERR_IA) {
      whole = parameter[1];  // of one subtopic, where there is a cutoff
      if (k == INT64_MAX) {
        double worth = 1.0;
        whole = 0.0;
        for (int64_t i = 0; i < n && worth > 0.0; ++i, worth *= keep) whole += worth * place_weight(kind, i, 1.0);
      }
      whole *= (double)count;
    } else {
      if (ideal_of != row || ideal_alpha != parameter[0]) greedy_ideal(row, parameter[0]);
      decay = 1.0;
      for (int64_t i = 0; i < ideal_size && i < k; ++i, decay *= beta) whole += ideal_added[i] * place_weight(kind, i, decay);
    }
    return ratio(gained, whole);
  }

  FR_NOINLINE double custom(const Step &s, int m, int64_t row, int32_t *counts) {
    for (int64_t i = 0; i < n; ++i) dense[i] = 0.0;
    for (int64_t e = 0; e < events; ++e) dense[position[e]] = gain[e];
    const int64_t from = job->truth_ptr[row], size = job->truth_ptr[row + 1] - from;
    for (int64_t i = 0; i < size; ++i) dense_ideal[i] = job->gains ? job->gains[from + i] : 1.0;
    int64_t status = 0;
    const double value = ((fr_rank_custom)(intptr_t)s.function)(
        dense, n, dense_ideal, size, s.k == INT64_MAX ? -1 : s.k, &status);
    if (status) counts[FR_COUNT_BAD] = FR_COUNTS + m;
    return value;
  }

  // `value` of each of the columns m..end-1, given what the column is and how many judged items its cutoff leaves.
  template <class Value>
  FR_INLINE void each(int m, int end, double *out, Value value) {
    for (; m < end; ++m) out[m] = value(steps[m], (int64_t)below[steps[m].cutoff]);
  }

  // The columns m..end-1, which are of one kind: most often a metric at several cutoffs.
  FR_INLINE void columns(int m, int end, int64_t row, int32_t *counts, double *out) {
#define FR_EACH(expression) \
  return each(m, end, out, [&](const Step &s, int64_t e_end) { (void)s, (void)e_end; return expression; })
    switch (steps[m].kind) {
      case FR_DCG: FR_EACH(dcg[e_end] * s.parameter[0]);
      case FR_NDCG: FR_EACH(ratio(dcg[e_end], best[s.cutoff]));
      case FR_AP: FR_EACH(ratio(ap[e_end], ap_denominator(s.k, (double)hits[e_end])));
      case FR_RR: FR_EACH(reciprocal_rank(e_end));
      case FR_RECALL: FR_EACH(ratio((double)hits[e_end], recall_denominator(s.k)));
      case FR_PRECISION: FR_EACH(ratio((double)hits[e_end], precision_denominator(s.k)));
      case FR_HIT: FR_EACH(hits[e_end] ? 1.0 : 0.0);
      case FR_FBETA: FR_EACH(f_beta((double)hits[e_end], s.k, s.parameter[0]));
      case FR_RPREC: FR_EACH(ratio(relevant_above(min64(relevant, s.k)), (double)relevant));
      case FR_ERR: FR_EACH(reciprocal_cascade(e_end, s.parameter[0]));
      case FR_NERR: FR_EACH(ratio(reciprocal_cascade(e_end, s.parameter[0]), ideal_cascade(row, s.k, s.parameter[0])));
      case FR_RBP: FR_EACH(rank_biased(s, e_end, 0));
      case FR_GRADED_RBP: FR_EACH(rank_biased(s, e_end, 1) / s.parameter[1]);
      case FR_RBP_RESIDUAL: FR_EACH(1.0 - rank_biased(s, e_end, 2));  // all but what is judged
      case FR_NORMAL_RBP: FR_EACH(ratio(rank_biased(s, e_end, 0), geometric(s.parameter[0], best_length(s.k))));
      case FR_BPREF: FR_EACH(bpref(e_end));
      case FR_INFAP: FR_EACH(inferred_ap(e_end));
      case FR_IPREC: FR_EACH(interpolated(s.parameter[0], s.parameter[1], e_end));
      case FR_ELEVEN_POINT: FR_EACH(eleven_point(s.parameter[0], e_end));
      case FR_AUC: FR_EACH(auc(e_end, s.k));
      case FR_LIMITED_AUC: FR_EACH(limited_auc(e_end, s.k, s.parameter[0]));
      case FR_PARTIAL_AUC: FR_EACH(against_first_others(s.k, relevant));
      case FR_PARTIAL_TOP: FR_EACH(against_first_others(s.k, min64(relevant, s.k)));
      case FR_MEAN_RANK: FR_EACH(mean_rank(e_end));
      case FR_GAIN_RANK: FR_EACH(gain_rank(e_end));
      case FR_PAIR_ACCURACY: FR_EACH(pair_accuracy(e_end, s.k, s.parameter[0]));
      case FR_JUDGED: FR_EACH(ratio((double)e_end, (double)min64(s.k, n)));
      case FR_UNJUDGED: FR_EACH(ratio((double)(min64(s.k, n) - e_end), (double)min64(s.k, n)));
      case FR_COMPATIBILITY: FR_EACH(compatibility(row, s.k, s.parameter[0]));
      case FR_ALPHA_DCG:
      case FR_ALPHA_NDCG:
      case FR_ERR_IA:
      case FR_NERR_IA:
      case FR_NRBP:
      case FR_NNRBP:
      case FR_AP_IA:
      case FR_PRECISION_IA:
      case FR_SUBTOPIC_RECALL: FR_EACH(by_subtopic(s.kind, row, s.k, s.parameter));
      case FR_BY_OTHERS: FR_EACH(by_others((const double *)(intptr_t)s.function, (int64_t)s.parameter[0]));
      case FR_RETRIEVED: FR_EACH((double)min64(n, s.k));
      case FR_RELEVANT: FR_EACH((double)relevant);
      case FR_RELEVANT_RETRIEVED: FR_EACH((double)hits[e_end]);
      default: FR_EACH(custom(s, (int)(&s - steps), row, counts));
    }
#undef FR_EACH
  }

  // Expected values over every order of the tied blocks (McSherry and Najork, 2008): each block of the list with a
  // judged item in it is visited once for a column.
  FR_NOINLINE void averaged_column(int m, int64_t row, int32_t *counts, double *out) {
    const int kind = steps[m].kind;
    int64_t k = min64(steps[m].k, n);
    if (kind == FR_RPREC) k = min64(k, relevant);
    double gained = 0.0, found = 0.0, precisions = 0.0, none = 1.0, first = 0.0, before = 0.0;
    for (int64_t e = 0; e < events;) {
      const int64_t from = block[position[e]], to = block_end[position[e]];
      if (from >= k) break;
      double value_sum = 0.0, rel = 0.0;
      for (; e < events && position[e] < to; ++e) {
        value_sum += value[e];
        rel += is_relevant(gain[e]) ? 1.0 : 0.0;
      }
      const double size = (double)(to - from);
      const int64_t reach = min64(to, k);
      gained += value_sum / size * (job->discount_sums[reach] - job->discount_sums[from]);
      found += rel / size * (double)(reach - from);
      double miss = 1.0;  // chance that the block's items so far hold nothing relevant
      if (kind == FR_AP || kind == FR_RR || kind == FR_HIT)
        for (int64_t i = 0; i < reach - from; ++i) {
          const double rank = (double)(from + i + 1), more = size > 1.0 ? (double)i * (rel - 1.0) / (size - 1.0) : 0.0;
          precisions += rel / size * (before + 1.0 + more) / rank;
          const double here = rel < size - (double)i ? rel / (size - (double)i) : 1.0;
          first += none * miss * here / rank;
          miss *= 1.0 - here;
        }
      none *= miss;
      before += rel;
    }
    const int64_t cut = steps[m].k;
    const double *parameter = steps[m].parameter;
    switch (kind) {
      case FR_DCG: out[m] = gained * parameter[0]; return;
      case FR_NDCG: out[m] = ratio(gained, best[steps[m].cutoff]); return;
      case FR_RECALL: out[m] = ratio(found, recall_denominator(cut)); return;
      case FR_PRECISION: out[m] = ratio(found, precision_denominator(cut)); return;
      case FR_FBETA: out[m] = f_beta(found, cut, parameter[0]); return;
      case FR_RPREC: out[m] = ratio(found, (double)relevant); return;
      case FR_AP: out[m] = ratio(precisions, ap_denominator(cut, found)); return;
      case FR_RR: out[m] = first; return;
      case FR_HIT: out[m] = 1.0 - none; return;
      case FR_RELEVANT_RETRIEVED: out[m] = found; return;
      default: columns(m, m + 1, row, counts, out);  // as the order inside a block does not matter, or was refused
    }
  }

  void evaluate(int64_t row, const I *list, int64_t first, int64_t length) {
    int32_t *counts = job->counts + row * FR_COUNTS;
    double *out = job->out + row * job->metrics;
    for (int i = 0; i < FR_COUNTS; ++i) counts[i] = 0;
    n = length;
    if (!job->run_ptr) {
      while (n > 0 && list[n - 1] == (I)-1) --n;
      I hole = 0;  // as wide as an id, so that the loop is vectorised
      for (int64_t i = 0; i < n; ++i) hole |= list[i] == (I)-1;
      if (hole) {
        counts[FR_COUNT_BAD] = FR_BAD_PADDING;
        n = 0;
      }
    }
    counts[FR_COUNT_RETRIEVED] = (int32_t)n;
    scored = job->scores32 || job->scores64;
    tied = false;
    tied_items = 0;
    if (scored && !scores_fall(first)) {
      if (!read_scores(first)) {
        counts[FR_COUNT_BAD] = FR_BAD_SCORE;
        n = 0;
      }
      list = order(list, row);
      counts[FR_COUNT_TIED] = (int32_t)tied_items;
    }
    const int64_t repeats = lookup.build(list, n, marks);
    if (FR_UNLIKELY(repeats > 0)) {
      counts[FR_COUNT_DUPLICATES] = (int32_t)repeats;
      list = compress(list, false);
      lookup.build(list, n, marks);
    }
    count_truth(row);
    const int64_t judged = mark_judged(row);
    if (job->skip_unjudged && judged < n) {
      list = compress(list, true);
      lookup.build(list, n, marks);
      mark_judged(row);
    }
    collect();
    shifted = tied && (job->ties == FR_TIES_OPTIMISTIC || job->ties == FR_TIES_PESSIMISTIC);
    if (shifted) shift_in_blocks(row, job->ties == FR_TIES_OPTIMISTIC);
    prefix_sums();
    ideal_sums(row);
    counts[FR_COUNT_RELEVANT] = (int32_t)relevant;
    counts[FR_COUNT_HITS] = hits[events];
    cascade.known = biased.known = false;
    if (tied && job->ties == FR_TIES_AVERAGE)
      for (int m = 0; m < job->metrics; ++m) averaged_column(m, row, counts, out);
    else
      for (int m = 0; m < job->metrics; m = steps[m].last) columns(m, steps[m].last, row, counts, out);
  }
};

const int64_t AHEAD = 256;  // ids of the next list, and of its truth, that are fetched while this one is read

FR_INLINE void span_of(const fr_rank_job *job, int64_t q, int64_t &first, int64_t &length) {
  const int64_t row = job->run_row ? job->run_row[q] : q;
  first = length = 0;
  if (row < 0) return;
  first = job->run_ptr ? job->run_ptr[row] : row * job->width;
  length = job->run_ptr ? job->run_ptr[row + 1] - first : job->width;
}

template <class I>
void evaluate_rows(const fr_rank_job *job, const I *run, int64_t begin, int64_t end, char *scratch) {
  Query<I> query;
  query.lend(job, scratch);
  query.prepare();
  int64_t first, length, next_first = 0, next_length = 0;
  if (begin < end) span_of(job, begin, next_first, next_length);
  for (int64_t q = begin; q < end; ++q) {
    first = next_first;
    length = next_length;
    if (q + 1 < end) {
      span_of(job, q + 1, next_first, next_length);
      prefetch(run + next_first, min64(next_length, AHEAD) * (int64_t)sizeof(I));
      if (job->scores32) prefetch(job->scores32 + next_first, min64(next_length, AHEAD) * 4);
      else if (job->scores64) prefetch(job->scores64 + next_first, min64(next_length, AHEAD) * 8);
      const int64_t judged = job->truth_ptr[q + 1], size = min64(job->truth_ptr[q + 2] - judged, AHEAD) * 8;
      const bool short_read = query.useful_only && job->positives;
      const int64_t read = short_read ? min64(size, 8 * job->positives[q + 1]) : size;
      prefetch(job->truth_ids + judged, read);
      if (job->gains) {
        prefetch(job->gains + judged, job->strict ? read : size);
        if (job->values != job->gains) prefetch(job->values + judged, read);
        if (job->ideal != job->values) prefetch(job->ideal + judged, read);
      }
    }
    query.evaluate(q, run + first, first, length);
  }
}

}  // namespace

extern "C" int FR_FN(fr_evaluation_level)(void) { return FR_LEVEL; }

extern "C" int64_t FR_FN(fr_rank_scratch)(const fr_rank_job *job) {
  Query<int64_t> query;
  query.lend(job, (char *)nullptr);
  return (int64_t)(intptr_t)query.end_of_scratch + 64;
}

extern "C" void FR_FN(fr_rank_metrics)(const fr_rank_job *job, int64_t begin, int64_t end, char *scratch) {
  if (job->run32) evaluate_rows(job, job->run32, begin, end, scratch);
  else evaluate_rows(job, job->run64, begin, end, scratch);
}

// What `counts` says of all queries: lists and truths that are empty, sums of repeats and ties, the first fault or -1.
extern "C" void FR_FN(fr_rank_tally)(const int32_t *counts, int64_t queries, fr_rank_totals *out) {
  fr_rank_totals totals = {0, 0, 0, 0, -1};
  for (int64_t q = 0; q < queries; ++q) {
    const int32_t *row = counts + q * FR_COUNTS;
    totals.missing += row[FR_COUNT_RETRIEVED] == 0;
    totals.empty += row[FR_COUNT_RELEVANT] == 0;
    totals.duplicates += row[FR_COUNT_DUPLICATES];
    totals.tied += row[FR_COUNT_TIED];
    if (FR_UNLIKELY(row[FR_COUNT_BAD] != 0) && totals.bad < 0) totals.bad = q;
  }
  *out = totals;
}

// Sums of the columns of rows begin..end-1, in order of row, and how many of their values are NaN and left out.
extern "C" void FR_FN(fr_column_sums)(const double *FR_RESTRICT values, int64_t columns, int64_t begin, int64_t end,
                                      double *FR_RESTRICT sums, int64_t *FR_RESTRICT undefined) {
  for (int64_t c = 0; c < columns; ++c) sums[c] = 0.0;
  for (int64_t r = begin; r < end; ++r) {
    const double *row = values + r * columns;
    for (int64_t c = 0; c < columns; ++c) {
      const bool defined = row[c] == row[c];
      sums[c] += defined ? row[c] : 0.0;
      undefined[c] += !defined;
    }
  }
}

extern "C" int64_t FR_FN(fr_repeat_scratch)(int64_t longest) {
  Lookup<int64_t> lookup;
  Bump bump = {nullptr};
  lookup.lend(bump, longest);
  bump.take(8 * (longest / 64 + 1));
  return (int64_t)(intptr_t)bump.next + 64;
}

extern "C" int64_t FR_FN(fr_first_repeat)(const int64_t *ptr, const int64_t *ids, int64_t begin, int64_t end,
                                          char *scratch, int64_t *place) {
  int64_t longest = 0;
  for (int64_t r = begin; r < end; ++r)
    if (ptr[r + 1] - ptr[r] > longest) longest = ptr[r + 1] - ptr[r];
  Lookup<int64_t> lookup;
  Bump bump = {scratch};
  lookup.lend(bump, longest);
  uint64_t *marks = (uint64_t *)bump.take(8 * (longest / 64 + 1));
  for (int64_t r = begin; r < end; ++r) {
    if (lookup.build(ids + ptr[r], ptr[r + 1] - ptr[r], marks) == 0) continue;
    for (int64_t w = 0;; ++w)
      if (marks[w]) {
        *place = ptr[r] + w * 64 + lowest_bit(marks[w]);
        return r;
      }
  }
  return -1;
}
