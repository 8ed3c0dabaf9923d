// Ranking metrics: one warp a query, every metric at every cutoff in one pass over its list and its judgements.
//
// 1. Order.  Scores are checked; the list is sorted (bitonic, under a total order: score, tie rule, place) only where it
//    is not in order already.  Positions are then read through `order`.
// 2. Find.  Positions go into an open hash table of the warp by their ids, the earliest of a repeated id winning, so that
//    the same table answers "is an item in the list twice" and "where in the list is this judged item".
// 3. Sum.  Judged items are collected by position; products are made lane by lane and added in order of position, as
//    kernels/cpu/evaluation.isa.cpp adds them.  Then a lane computes a column (rank_columns.cuh).
//
// Scratch is `stride` bytes a warp, in dynamic shared memory or (lists too long for it) in `scratch`.
//
// FR_SCORED: lists have scores.  FR_EVERY: all metrics, and what subtopics.cu reads; without it those that are asked for every day, in fewer registers.
// variants: FR_SCORED=0,1 FR_EVERY=0,1
#ifndef FR_SCORED
#define FR_SCORED 1
#endif
#ifndef FR_EVERY
#define FR_EVERY 1
#endif
#include "rank_columns.cuh"

#define FR_ALL 0xffffffffu

struct fr_job {
  const int *ids32;        // one of the two
  const fr_i64 *ids64;
  const float *scores32;
  const double *scores64;
  const fr_i64 *run_ptr;   // null: row r is width ids from r * width, ended early by -1
  fr_i64 width;
  const fr_i64 *run_row;   // the run's row of each query, -1 for none; null: the same row
  const fr_i64 *tie_rank;
  const fr_u64 *query_keys;  // what a random order tells queries apart by; null: the same in each
  const fr_i64 *truth_ptr, *truth_ids;
  const double *gains;     // null: all 1
  const double *values;    // gain function of each; null: all 1
  const double *ideal;     // the values of each row, descending; null: all 1
  int metrics, cutoff_count;
  int float32_scores, ideal_mode, skip_unjudged, all_relevant;
  fr_u64 seed;
  fr_i64 longest, longest_truth;
  double *out;
  int *counts;
  // what custom_metric.py and subtopics.cu read, null where nobody asks: the items of each list, its judged items, and
  // for each of these (from truth_ptr on) position, gain and judgement
  int *lengths, *found;
  int *positions;
  double *found_gains;
  int *judged;             // with FR_EVERY
};

// Order of integers written in decimal, as text: "10" < "9", "1" < "10", "-" before every digit.
__device__ bool fr_decimal_less(fr_i64 a, fr_i64 b) {
  if ((a < 0) != (b < 0)) return a < 0;
  fr_u64 x = a < 0 ? 0 - (fr_u64)a : (fr_u64)a, y = b < 0 ? 0 - (fr_u64)b : (fr_u64)b;
  int dx = 1, dy = 1;
  for (fr_u64 t = x; t >= 10; t /= 10) ++dx;
  for (fr_u64 t = y; t >= 10; t /= 10) ++dy;
  for (int i = dx; i < 19; ++i) x *= 10;
  for (int i = dy; i < 19; ++i) y *= 10;
  return x != y ? x < y : dx < dy;
}

__device__ fr_u64 fr_splitmix(fr_u64 z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
  return z ^ (z >> 31);
}

struct fr_query {
  const fr_job *job;
  fr_found found;
  int lane;
  // the list
  fr_i64 first;     // where it begins
  fr_i64 n;
  fr_u64 seed;      // of a random order
  bool ordered;     // positions go through `order`
  bool tied;
  // scratch of the warp; how much, fastrec/evaluation/on_device.py says in the same order
  int *slots, *order, *judge, *block, *block_end, *position, *hits, *below;
  unsigned *marks;
  double *gain, *value, *dcg, *ap, *sorted, *best;
  unsigned mask;    // of the table

  // The smaller kernel, which is asked for every day, does without the test.
  __device__ __forceinline__ bool judged_wanted() const { return FR_EVERY && job->judged; }

  __device__ void lend(char *at) {
    const fr_i64 longest = job->longest, most = fr_min(longest, job->longest_truth);
    fr_i64 size = 32;
    while (size < 2 * longest) size *= 2;
    gain = (double *)at;
    value = gain + most + 1;
    dcg = value + most + 1;
    ap = dcg + most + 1;
    best = ap + most + 1;
    sorted = best + job->cutoff_count;
    slots = (int *)(sorted + (job->ideal_mode == FR_IDEAL_LIST ? most : 0));
    order = slots + size;
    position = order + longest;
    hits = position + most + 1;
    below = hits + most + 1;
    marks = (unsigned *)(below + job->cutoff_count);
    judge = (int *)marks + (longest + 31) / 32;
    block = judge + (job->gains || judged_wanted() ? longest : 0);
    block_end = block + (FR_SCORED ? longest : 0);
    found.overlaps = block_end + (FR_SCORED ? longest : 0);
    found.reach = (longest > job->longest_truth ? longest : job->longest_truth) + 1;
    found.block = block;
    found.block_end = block_end;
    found.position = position;
    found.hits = hits;
    found.gain = gain;
    found.value = value;
    found.dcg = dcg;
    found.ap = ap;
    found.below = below;
    found.best = best;
    mask = (unsigned)size - 1;
  }

  __device__ __forceinline__ fr_i64 place(fr_i64 i) const { return ordered ? order[i] : i; }
  __device__ __forceinline__ fr_i64 came(fr_i64 p) const {  // the id at place p as it came
    return job->ids32 ? (fr_i64)job->ids32[first + p] : job->ids64[first + p];
  }
  __device__ __forceinline__ fr_i64 id(fr_i64 i) const { return came(place(i)); }
  __device__ __forceinline__ unsigned under() const { return (1u << lane) - 1; }  // the lanes below

  // 1. Order -----------------------------------------------------------------------------------------------------

  __device__ __forceinline__ double key(fr_i64 p) const {  // of the item at place p as it came
    if (job->scores32) return (double)job->scores32[first + p];
    const double s = job->scores64[first + p];
    return job->float32_scores ? (double)(float)s : s;
  }

  __device__ fr_u64 shuffled(fr_i64 id) const {
    return fr_splitmix(seed + (fr_u64)(job->tie_rank ? job->tie_rank[id] : id) * 0x9E3779B97F4A7C15ull);
  }

  __device__ bool before(fr_i64 a, fr_i64 b) const {  // places as they came
    const double x = key(a), y = key(b);
    if (x != y) return x > y;
    const fr_i64 i = came(a), j = came(b);
    switch (found.ties) {
      case FR_TIES_DECIMAL_DESC:
        if (i != j) return fr_decimal_less(j, i);
        break;
      case FR_TIES_ID_DESC:
      case FR_TIES_ID_ASC: {
        const fr_i64 r = job->tie_rank ? job->tie_rank[i] : i, s = job->tie_rank ? job->tie_rank[j] : j;
        if (r != s) return found.ties == FR_TIES_ID_DESC ? r > s : r < s;
        break;
      }
      case FR_TIES_RANDOM: {
        const fr_u64 r = shuffled(i), s = shuffled(j);
        if (r != s) return r < s;
        if (i != j) return i < j;
        break;
      }
    }
    return a < b;
  }

  // Length without the -1 that may end it; 0 and false where a -1 stands before an item.
  __device__ bool trim() {
    fr_i64 last = 0, real = 0;
    for (fr_i64 base = 0; base < n; base += 32) {
      const unsigned word = __ballot_sync(FR_ALL, base + lane < n && came(base + lane) != -1);
      if (word) last = base + 32 - __clz((int)word);
      real += __popc(word);
    }
    n = last;
    if (real == n) return true;
    n = 0;
    return false;
  }

  __device__ bool read_scores() const {  // whether none is NaN
    bool good = true;
    for (fr_i64 i = lane; i < n; i += 32) {
      const double s = job->scores32 ? (double)job->scores32[first + i] : job->scores64[first + i];
      good &= s == s;
    }
    return __all_sync(FR_ALL, good) != 0;
  }

  __device__ void sort() {
    bool good = true;
    for (fr_i64 i = lane; i + 1 < n; i += 32) good &= before(i, i + 1);
    if (__all_sync(FR_ALL, good)) return;
    for (fr_i64 i = lane; i < n; i += 32) order[i] = (int)i;
    ordered = true;
    __syncwarp();
    fr_i64 whole = 1;
    while (whole < n) whole *= 2;
    for (fr_i64 size = 2; size <= whole; size *= 2) {  // all exchanges go one way, so that the missing end never moves
      for (fr_i64 p = lane; p < whole / 2; p += 32) {
        const fr_i64 i = p / (size / 2) * size + p % (size / 2);
        exchange(i, i / size * size + size - 1 - i % size);
      }
      __syncwarp();
      for (fr_i64 half = size / 4; half > 0; half /= 2) {
        for (fr_i64 p = lane; p < whole / 2; p += 32) {
          const fr_i64 i = p / half * 2 * half + p % half;
          exchange(i, i + half);
        }
        __syncwarp();
      }
    }
  }

  __device__ __forceinline__ void exchange(fr_i64 i, fr_i64 j) {
    if (j >= n) return;
    const int a = order[i], b = order[j];
    if (before(b, a)) {
      order[i] = b;
      order[j] = a;
    }
  }

  // Ends of the tied block of every position; how many items are tied.
  __device__ fr_i64 find_blocks() {
    fr_i64 count = 0, start = 0, stop = n;
    for (fr_i64 base = 0; base < n; base += 32) {
      const fr_i64 i = base + lane;
      const bool head = i < n && (i == 0 || key(place(i - 1)) != key(place(i)));
      const unsigned heads = __ballot_sync(FR_ALL, head), mine = heads & (under() | 1u << lane);
      if (i < n) block[i] = (int)(mine ? base + 31 - __clz((int)mine) : start);
      if (heads) start = base + 31 - __clz((int)heads);
      const bool alone = head && (i + 1 == n || key(place(i)) != key(place(i + 1)));
      count += __popc(__ballot_sync(FR_ALL, i < n && !alone));
    }
    __syncwarp();
    for (fr_i64 base = (n - 1) / 32 * 32; base >= 0 && n > 0; base -= 32) {
      const fr_i64 i = base + lane;
      const unsigned heads = __ballot_sync(FR_ALL, i < n && block[i] == (int)i), later = heads & ~(under() | 1u << lane);
      if (i < n) block_end[i] = (int)(later ? base + __ffs((int)later) - 1 : stop);
      if (heads) stop = base + __ffs((int)heads) - 1;
    }
    __syncwarp();
    tied = count > 0;
    return count;
  }

  // 2. Find ------------------------------------------------------------------------------------------------------

  __device__ __forceinline__ unsigned slot_of(fr_i64 v) const {
    unsigned h = (unsigned)v * 0x9E3779B1u ^ (unsigned)((fr_u64)v >> 32) * 0x85EBCA6Bu;
    h ^= h >> 15;
    return h & mask;
  }

  // Fills the table, and `marks` with the entries that repeat an earlier one; returns how many do.
  __device__ fr_i64 build() {
    for (unsigned s = (unsigned)lane; s <= mask; s += 32) slots[s] = 0;
    __syncwarp();
    for (fr_i64 i = lane; i < n; i += 32) {
      const fr_i64 v = id(i);
      for (unsigned s = slot_of(v);; s = (s + 1) & mask) {
        const int old = atomicCAS(&slots[s], 0, (int)i + 1);
        if (old == 0) break;
        if (id(old - 1) == v) {
          atomicMin(&slots[s], (int)i + 1);
          break;
        }
      }
    }
    __syncwarp();
    fr_i64 repeats = 0;
    for (fr_i64 base = 0; base < n; base += 32) {
      const fr_i64 i = base + lane;
      const unsigned word = __ballot_sync(FR_ALL, i < n && find(id(i)) != i);
      if (lane == 0) marks[base / 32] = word;
      repeats += __popc(word);
    }
    __syncwarp();
    return repeats;
  }

  __device__ __forceinline__ fr_i64 find(fr_i64 v) const {  // position of an id, or -1
    for (unsigned s = slot_of(v);; s = (s + 1) & mask) {
      const int at = slots[s] - 1;
      if (at < 0 || id(at) == v) return at;
    }
  }

  // Keeps the entries whose mark is `kept`.
  __device__ void compress(bool kept) {
    fr_i64 size = 0;
    for (fr_i64 base = 0; base < n; base += 32) {
      const fr_i64 i = base + lane;
      const unsigned inside = n - base >= 32 ? FR_ALL : (1u << (n - base)) - 1;
      const unsigned word = (kept ? marks[base / 32] : ~marks[base / 32]) & inside;
      const int from = i < n ? (int)place(i) : 0;
      __syncwarp();
      if (word >> lane & 1) order[size + __popc(word & under())] = from;
      size += __popc(word);
    }
    __syncwarp();
    n = size;
    ordered = true;
    if (FR_SCORED && tied) find_blocks();
  }

  // Marks the judged items of the list; returns how many.
  __device__ fr_i64 mark_judged(fr_i64 q) {
    for (fr_i64 w = lane; w < (n + 31) / 32; w += 32) marks[w] = 0;
    __syncwarp();
    fr_i64 count = 0;
    const fr_i64 from = job->truth_ptr[q], to = job->truth_ptr[q + 1];
    for (fr_i64 base = from; base < to; base += 32) {
      fr_i64 at = -1;
      if (base + lane < to && n > 0) at = find(job->truth_ids[base + lane]);
      if (at >= 0) {
        atomicOr(&marks[at >> 5], 1u << (at & 31));
        if (job->gains || judged_wanted()) judge[at] = (int)(base + lane - from);
      }
      count += __popc(__ballot_sync(FR_ALL, at >= 0));
    }
    __syncwarp();
    return count;
  }

  __device__ void collect(fr_i64 q) {
    fr_i64 events = 0;
    for (fr_i64 base = 0; base < n; base += 32) {
      const unsigned word = marks[base / 32];
      if (word >> lane & 1) {
        const fr_i64 e = events + __popc(word & under()), t = job->gains ? job->truth_ptr[q] + judge[base + lane] : 0;
        position[e] = (int)base + lane;
        gain[e] = job->gains ? job->gains[t] : 1.0;
        value[e] = job->gains ? job->values[t] : 1.0;
        if (judged_wanted()) job->judged[job->truth_ptr[q] + e] = (int)job->truth_ptr[q] + judge[base + lane];
      }
      events += __popc(word);
    }
    found.events = events;
    __syncwarp();
  }

  // Best or worst order inside tied blocks: useful items first (or last), the rest last (or first).
  __device__ void shift_in_blocks(fr_i64 q, bool best_first) {
    int *judged = judged_wanted() ? job->judged + job->truth_ptr[q] : nullptr;
    for (fr_i64 e = 0; lane == 0 && e < found.events;) {
      const int from = block[position[e]], to = block_end[position[e]];
      fr_i64 last = e;
      while (last < found.events && position[last] < to) ++last;
      for (fr_i64 i = e + 1; i < last; ++i) {
        const double g = gain[i], v = value[i];
        const int t = judged ? judged[i] : 0;
        fr_i64 j = i;
        for (; j > e && (best_first ? gain[j - 1] < g : gain[j - 1] > g); --j) {
          gain[j] = gain[j - 1];
          value[j] = value[j - 1];
          if (judged) judged[j] = judged[j - 1];
        }
        gain[j] = g;
        value[j] = v;
        if (judged) judged[j] = t;
      }
      int head = 0;
      for (fr_i64 i = e; i < last; ++i) {
        const bool useful = gain[i] > 0.0;
        if (useful == best_first) position[i] = from + head++;
        else position[i] = to - (int)(last - i);
      }
      e = last;
    }
    __syncwarp();
  }

  // 3. Sum -------------------------------------------------------------------------------------------------------

  __device__ void prefix_sums() {
    const fr_i64 events = found.events;
    int h = 0;
    double d = 0.0, a = 0.0;
    if (lane == 0) {
      hits[0] = 0;
      dcg[0] = ap[0] = 0.0;
    }
    for (fr_i64 base = 0; base < events; base += 32) {
      const fr_i64 e = base + lane;
      const bool here = e < events, rel = here && found.is_relevant(gain[e]);
      const unsigned word = __ballot_sync(FR_ALL, rel);
      const int mine = h + __popc(word & (under() | 1u << lane));
      const double precision = rel ? (double)mine / (double)(position[e] + 1) : 0.0;
      const double gained = here ? value[e] * found.discounts[position[e]] : 0.0;
      const int count = (int)fr_min(32, events - base);
      double d_here = 0.0, a_here = 0.0;
      for (int j = 0; j < count; ++j) {  // in order of position
        a += __shfl_sync(FR_ALL, precision, j);
        d += __shfl_sync(FR_ALL, gained, j);
        if (j == lane) {
          a_here = a;
          d_here = d;
        }
      }
      if (here) {
        hits[e + 1] = mine;
        dcg[e + 1] = d_here;
        ap[e + 1] = a_here;
      }
      h += __popc(word);
    }
    for (int c = lane; c < job->cutoff_count; c += 32) {
      fr_i64 low = 0, high = events;
      while (low < high) {
        const fr_i64 middle = (low + high) / 2;
        if (position[middle] < found.cutoffs[c]) low = middle + 1;
        else high = middle;
      }
      below[c] = (int)low;
    }
    __syncwarp();
  }

  __device__ void ideal_sums(fr_i64 q) {
    const fr_i64 from = job->truth_ptr[q];
    fr_i64 size = job->truth_ptr[q + 1] - from;
    if (job->ideal_mode == FR_IDEAL_FULL || (job->ideal_mode == FR_IDEAL_JUDGED && !job->ideal)) {
      for (int c = lane; c < job->cutoff_count; c += 32) {
        const fr_i64 k = found.cutoffs[c];
        best[c] = found.discount_sums[job->ideal_mode == FR_IDEAL_FULL ? (k == FR_WHOLE ? n : k) : fr_min(k, size)];
      }
      __syncwarp();
      return;
    }
    const double *descending = job->ideal ? job->ideal + from : nullptr;
    if (job->ideal_mode == FR_IDEAL_LIST) {
      size = found.events;
      for (fr_i64 e = lane; e < size; e += 32) {
        fr_i64 rank = 0;
        for (fr_i64 o = 0; o < size; ++o) rank += value[o] > value[e] || (value[o] == value[e] && o < e);
        sorted[rank] = value[e];
      }
      __syncwarp();
      descending = sorted;
    }
    double sum = 0.0;
    fr_i64 i = 0;
    for (int c = 0; c < job->cutoff_count; ++c) {  // the same in every lane
      const fr_i64 to = fr_min(found.cutoffs[c], size);
      for (; i < to && descending[i] > 0.0; ++i) sum += descending[i] * found.discounts[i];
      if (lane == 0) best[c] = sum;
    }
    __syncwarp();
  }

  __device__ void count_truth(fr_i64 q) {
    const fr_i64 from = job->truth_ptr[q], to = job->truth_ptr[q + 1];
    found.relevant = to - from;
    found.nonrelevant = 0;
    if (job->all_relevant) return;
    found.relevant = 0;
    for (fr_i64 base = from; base < to; base += 32) {
      const bool here = base + lane < to;
      const double g = here && job->gains ? job->gains[base + lane] : 1.0;
      const bool rel = here && found.is_relevant(g);
      found.relevant += __popc(__ballot_sync(FR_ALL, rel));
      found.nonrelevant += __popc(__ballot_sync(FR_ALL, here && !rel && g >= 0.0));
    }
  }

  __device__ void evaluate(fr_i64 q) {
    const fr_i64 row = job->run_row ? job->run_row[q] : q;
    fr_i64 removed = 0, tied_items = 0;
    int bad = FR_BAD_NONE;
    first = n = 0;
    if (row >= 0) {
      first = job->run_ptr ? job->run_ptr[row] : row * job->width;
      n = job->run_ptr ? job->run_ptr[row + 1] - first : job->width;
    }
    ordered = tied = false;
    seed = job->seed + (job->query_keys ? fr_splitmix(job->query_keys[q]) : 0);
    found.judgements = job->truth_ptr[q + 1] - job->truth_ptr[q];
    found.truth = job->gains ? job->gains + job->truth_ptr[q] : nullptr;
    if (!job->run_ptr && !trim()) bad = FR_BAD_PADDING;
    const fr_i64 retrieved = n;
    if (FR_SCORED) {
      if (!read_scores()) {
        bad = FR_BAD_SCORE;
        n = 0;
      }
      sort();
      tied_items = find_blocks();
    }
    removed = build();
    if (removed > 0) {
      compress(false);
      build();
    }
    const fr_i64 judged = mark_judged(q);
    if (job->skip_unjudged && judged < n) {
      compress(true);
      build();
      mark_judged(q);
    }
    collect(q);
    if (FR_SCORED && tied && found.ties == FR_TIES_OPTIMISTIC) shift_in_blocks(q, true);
    if (FR_SCORED && tied && found.ties == FR_TIES_PESSIMISTIC) shift_in_blocks(q, false);
    count_truth(q);
    prefix_sums();
    ideal_sums(q);
    found.n = n;
    found.tied = tied;
    double *out = job->out + q * job->metrics;
    const bool averaged = FR_SCORED && tied && found.ties == FR_TIES_AVERAGE;
    for (int m = lane; m < job->metrics; m += 32)
      if (found.kinds[m] >= 0) out[m] = averaged ? found.averaged_column(m) : found.column(m);
    if (job->lengths) {
      const fr_i64 at = job->truth_ptr[q];
      for (fr_i64 e = lane; e < found.events; e += 32) job->positions[at + e] = position[e], job->found_gains[at + e] = gain[e];
      if (lane == 0) job->lengths[q] = (int)n, job->found[q] = (int)found.events;
    }
    if (lane == 0) {
      int *counts = job->counts + q * FR_COUNTS;
      counts[FR_COUNT_RETRIEVED] = (int)retrieved;
      counts[FR_COUNT_RELEVANT] = (int)found.relevant;
      counts[FR_COUNT_HITS] = hits[found.events];
      counts[FR_COUNT_DUPLICATES] = (int)removed;
      counts[FR_COUNT_TIED] = (int)tied_items;
      counts[FR_COUNT_BAD] = bad;
    }
    __syncwarp();  // before the scratch is used again
  }
};

extern "C" __global__ void __launch_bounds__(128, FR_EVERY ? 3 : 5) fr_rank_metrics(
    const int *ids32, const fr_i64 *ids64, const float *scores32, const double *scores64, const fr_i64 *run_ptr, fr_i64 width,
    const fr_i64 *run_row, const fr_i64 *tie_rank, const fr_u64 *query_keys, const fr_i64 *truth_ptr, const fr_i64 *truth_ids, const double *gains,
    const double *values, const double *ideal, const int *kinds, const int *cutoff_of, const double *parameters,
    const fr_i64 *cutoffs, const double *discounts, const double *discount_sums, int metrics, int cutoff_count,
    double level, int strict, int ties, int float32_scores, int ideal_mode, int ap_denominator, int recall_capped,
    int short_lists, int skip_unjudged, int all_relevant, fr_u64 seed, fr_i64 longest, fr_i64 longest_truth,
    fr_i64 queries, double *out, int *counts, int *lengths, int *found, int *positions, double *found_gains,
    int *judged, char *scratch, fr_i64 stride) {
  extern __shared__ __align__(16) char memory[];
  const int warps = (int)(blockDim.x / 32), warp = (int)(threadIdx.x / 32);
  const fr_i64 number = (fr_i64)blockIdx.x * warps + warp;
  const fr_job job = {ids32, ids64, scores32, scores64, run_ptr, width, run_row, tie_rank, query_keys, truth_ptr,
                      truth_ids, gains,
                      values, ideal, metrics, cutoff_count, float32_scores, ideal_mode, skip_unjudged, all_relevant, seed,
                      longest, longest_truth, out, counts, lengths, found, positions, found_gains, judged};
  fr_query query;
  query.job = &job;
  query.lane = (int)(threadIdx.x % 32);
  query.found.discounts = discounts;
  query.found.discount_sums = discount_sums;
  query.found.parameters = parameters;
  query.found.cutoffs = cutoffs;
  query.found.kinds = kinds;
  query.found.cutoff_of = cutoff_of;
  query.found.level = level;
  query.found.strict = strict;
  query.found.ties = ties;
  query.found.ap_denominator = ap_denominator;
  query.found.recall_capped = recall_capped;
  query.found.short_lists = short_lists;
  query.lend(scratch ? scratch + number * stride : memory + warp * stride);
  for (fr_i64 q = number; q < queries; q += (fr_i64)gridDim.x * warps) query.evaluate(q);
}
