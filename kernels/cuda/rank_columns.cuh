// One ranked list against its judgements: every metric of kernels/cpu/evaluation.isa.cpp, from the same prefix sums in
// the same order, so that a column has the CPU's bits wherever exp2 has.  A lane computes a whole column.
#ifndef FR_RANK_COLUMNS_CUH
#define FR_RANK_COLUMNS_CUH

#include "columns.cuh"

typedef unsigned long long fr_u64;

// In the order of KINDS in fastrec/evaluation/on_device.py.
enum { FR_DCG, FR_NDCG, FR_AP, FR_RR, FR_RECALL, FR_PRECISION, FR_HIT, FR_FBETA, FR_RPREC, FR_JUDGED, FR_UNJUDGED,
       FR_RETRIEVED, FR_RELEVANT, FR_RELEVANT_RETRIEVED, FR_ERR, FR_NERR, FR_RBP, FR_GRADED_RBP, FR_RBP_RESIDUAL,
       FR_NORMAL_RBP, FR_BPREF, FR_INFAP, FR_IPREC, FR_ELEVEN_POINT, FR_AUC, FR_LIMITED_AUC, FR_PARTIAL_AUC,
       FR_PARTIAL_TOP, FR_MEAN_RANK, FR_GAIN_RANK, FR_PAIR_ACCURACY, FR_COMPATIBILITY };
// In the order of kernels/cpu/evaluation_types.h.
enum { FR_TIES_GIVEN, FR_TIES_DECIMAL_DESC, FR_TIES_ID_DESC, FR_TIES_ID_ASC, FR_TIES_AVERAGE, FR_TIES_OPTIMISTIC,
       FR_TIES_PESSIMISTIC, FR_TIES_RANDOM };
enum { FR_IDEAL_JUDGED, FR_IDEAL_LIST, FR_IDEAL_FULL };
enum { FR_AP_RELEVANT, FR_AP_CAPPED, FR_AP_CUTOFF, FR_AP_HITS, FR_AP_LENGTH };
enum { FR_COUNT_RETRIEVED, FR_COUNT_RELEVANT, FR_COUNT_HITS, FR_COUNT_DUPLICATES, FR_COUNT_TIED, FR_COUNT_BAD, FR_COUNTS };
enum { FR_BAD_NONE, FR_BAD_SCORE, FR_BAD_PADDING };

__device__ __forceinline__ double fr_nan() { return __longlong_as_double(0x7ff8000000000000LL); }

// Judged items found in a list, by position, with the sums over those before each; and what the columns ask of them.
struct fr_found {
  // the call
  const double *discounts, *discount_sums, *parameters;
  const fr_i64 *cutoffs;
  const int *kinds, *cutoff_of;
  double level;
  int strict, ties, ap_denominator, recall_capped, short_lists;
  // the list
  fr_i64 n;                       // items
  bool tied;
  const int *block, *block_end;   // of the tied block of each position
  // its judged items
  fr_i64 events;
  const int *position, *hits;     // hits, dcg, ap: sums over the first e
  const double *gain, *value, *dcg, *ap;
  const int *below;               // [c] events above cutoff c
  const double *best;             // [c] ideal dcg
  fr_i64 relevant, nonrelevant;   // in the truth
  const double *truth;            // its gains, descending; null: all 1
  fr_i64 judgements;
  int *overlaps;                  // a row of `reach` for each column of compatibility
  fr_i64 reach;

  __device__ __forceinline__ bool is_relevant(double g) const { return strict ? g > level : g >= level; }

  __device__ double relevant_above(fr_i64 k) const {
    fr_i64 e = 0;
    while (e < events && position[e] < k) ++e;
    return (double)hits[e];
  }

  __device__ double average_over(fr_i64 k, double found) const {  // what average precision divides by
    switch (ap_denominator) {
      case FR_AP_CAPPED: return (double)fr_min(relevant, k);
      case FR_AP_CUTOFF: return (double)(k == FR_WHOLE ? n : k);
      case FR_AP_HITS: return found;
      case FR_AP_LENGTH: return (double)fr_min(relevant, fr_min(k, n));
      default: return (double)relevant;
    }
  }
  __device__ double precision_over(fr_i64 k) const {
    return (double)(k == FR_WHOLE || short_lists ? fr_min(k, n) : k);
  }
  __device__ double recall_over(fr_i64 k) const { return (double)(recall_capped ? fr_min(relevant, k) : relevant); }

  __device__ double f_beta(double h, fr_i64 k, double beta) const {
    const double p = fr_ratio(h, precision_over(k)), r = fr_ratio(h, recall_over(k)), b = beta * beta;
    return fr_ratio((1.0 + b) * p * r, b * p + r);
  }

#if FR_EVERY
  __device__ double reciprocal_cascade(fr_i64 end, double largest) const {
    double sum = 0.0, left = 1.0;
    const double scale = exp2(largest);
    for (fr_i64 e = 0; e < end; ++e) {
      if (!(gain[e] > 0.0)) continue;
      const double stop = (exp2(gain[e]) - 1.0) / scale;
      sum += left * stop / (double)(position[e] + 1);
      left *= 1.0 - stop;
    }
    return sum;
  }

  // ERR of the best list: the truth is in that order.
  __device__ double ideal_cascade(fr_i64 k, double largest) const {
    double sum = 0.0, left = 1.0;
    const double scale = exp2(largest);
    for (fr_i64 t = 0; t < fr_min(k, judgements); ++t) {
      const double g = truth ? truth[t] : 1.0;
      if (!(g > 0.0)) break;
      const double stop = (exp2(g) - 1.0) / scale;
      sum += left * stop / (double)(t + 1);
      left *= 1.0 - stop;
    }
    return sum;
  }

  // (1 - p) * sum of p^place over the relevant (0), of p^place * gain over all judged (1), of p^place over all judged (2).
  __device__ double rank_biased(fr_i64 end, double p, int worth) const {
    double sum = 0.0, weight = 1.0;
    fr_i64 at = 0;
    for (fr_i64 e = 0; e < end; ++e) {
      if (worth == 0 && !is_relevant(gain[e])) continue;
      if (worth == 1 && !(gain[e] > 0.0)) continue;
      weight *= fr_power(p, position[e] - at);
      at = position[e];
      sum += worth == 1 ? weight * gain[e] : weight;
    }
    return (1.0 - p) * sum;
  }

  __device__ double geometric(double p, fr_i64 length) const {
    double sum = 0.0, weight = 1.0;
    for (fr_i64 i = 0; i < length && weight > 0.0; ++i, weight *= p) sum += weight;
    return (1.0 - p) * sum;
  }

  // Rank-biased overlap with the ideal list nearest to this one, over its best (Clarke, Vtyurina and Smucker, 2021).
  __device__ double compatibility(int m, fr_i64 k, double p) const {
    const fr_i64 size = fr_min(k, n), depth = size > relevant ? size : relevant;
    if (relevant == 0) return 0.0;
    int *overlap = overlaps;
    for (int o = 0; o < m; ++o) overlap += kinds[o] == FR_COMPATIBILITY ? reach : 0;
    for (fr_i64 d = 0; d < depth; ++d) overlap[d] = 0;
    for (fr_i64 e = 0; e < events; ++e) {
      if (!is_relevant(gain[e]) || position[e] >= size) continue;
      fr_i64 ideal = 0;  // items before it: of a larger gain, or of the same and earlier in the list
      if (truth)
        while (ideal < relevant && truth[ideal] > gain[e]) ++ideal;
      for (fr_i64 o = 0; o < e; ++o) ideal += gain[o] == gain[e];
      ++overlap[ideal > position[e] ? ideal : position[e]];
    }
    double total = 0.0, best_total = 0.0, weight = 1.0;
    fr_i64 both = 0;
    for (fr_i64 d = 0; d < depth; ++d, weight *= p) {
      both += overlap[d];
      total += weight * (double)both / (double)(d + 1);
      best_total += weight * (double)fr_min(d + 1, relevant) / (double)(d + 1);
    }
    return fr_ratio(total, best_total);
  }

  __device__ double bpref(fr_i64 end) const {
    double sum = 0.0;
    fr_i64 above = 0;
    const double most = (double)fr_min(nonrelevant, relevant);
    for (fr_i64 e = 0; e < end; ++e) {
      if (is_relevant(gain[e])) sum += above ? 1.0 - (double)fr_min(above, relevant) / most : 1.0;
      else if (gain[e] >= 0.0) ++above;
    }
    return fr_ratio(sum, (double)relevant);
  }

  __device__ double inferred_ap(fr_i64 end) const {
    const double eps = 0.00001;
    double sum = 0.0, rel = 0.0, non = 0.0, unjudged = 0.0;
    for (fr_i64 e = 0; e < end; ++e) {
      const bool hit = is_relevant(gain[e]);
      if (!hit) {
        if (gain[e] < 0.0) unjudged += 1.0;
        else non += 1.0;
        continue;
      }
      const double j = (double)position[e];
      if (position[e] == 0) sum += 1.0;
      else
        sum += 1.0 / (j + 1.0) + (j / (j + 1.0)) * ((rel + non + unjudged) / j) * ((rel + eps) / (rel + non + 2.0 * eps));
      rel += 1.0;
    }
    return fr_ratio(sum, (double)relevant);
  }

  __device__ double interpolated(double recall, double version, fr_i64 end) const {
    const fr_i64 need = (fr_i64)(recall * (double)relevant + (version < 10.0 ? 0.9 : 0.5));
    double top = 0.0;
    for (fr_i64 e = 0; e < end; ++e) {
      if (hits[e + 1] == hits[e] || hits[e + 1] < need) continue;
      const double p = (double)hits[e + 1] / (double)(position[e] + 1);
      if (p > top) top = p;
    }
    return top;
  }

  __device__ double eleven_point(double version, fr_i64 end) const {
    double sum = 0.0;
    for (int i = 0; i <= 10; ++i) sum += interpolated((double)i / 10.0, version, end);
    return sum / 11.0;
  }

  __device__ double auc(fr_i64 end, fr_i64 k) const {
    const fr_i64 size = fr_min(k, n);
    const double positives = (double)hits[end], negatives = (double)size - positives;
    if (!(positives > 0.0) || !(negatives > 0.0)) return fr_nan();
    double won = 0.0;
    for (fr_i64 e = 0; e < end;) {
      fr_i64 from = position[e], to = from + 1;
      if (tied) {
        from = block[position[e]];
        to = fr_min(block_end[position[e]], size);
      }
      fr_i64 last = e;
      while (last < end && position[last] < to) ++last;
      const double rel_in = (double)(hits[last] - hits[e]);
      const double other_before = (double)from - (double)hits[e], other_in = (double)(to - from) - rel_in;
      won += rel_in * (negatives - other_before - other_in) + 0.5 * rel_in * other_in;
      e = last;
    }
    return won / (positives * negatives);
  }

  // The ROC curve of a catalogue of `items` of which the first k are ranked, and the rest stands in any order.
  __device__ double limited_auc(fr_i64 end, fr_i64 k, double items) const {
    const double rel = (double)relevant, others = items - rel;
    if (!(others > 0.0)) return fr_nan();
    double area = 0.0;
    fr_i64 at = 0;
    for (fr_i64 e = 0; e < end; ++e) {
      if (hits[e + 1] == hits[e]) continue;
      area += (double)hits[e] * (double)(position[e] - at);
      at = position[e] + 1;
    }
    const fr_i64 size = fr_min(k, n);
    const double found = (double)hits[end];
    area += found * (double)(size - at);
    const double beyond = (1.0 - ((double)size - found) / others) * (found + rel) / 2.0;
    return fr_ratio(area / others + beyond, rel);
  }

  // AUC of the first `count` relevant items against the first k others.
  __device__ double against_first_others(fr_i64 k, fr_i64 count) const {
    double won = 0.0;
    fr_i64 taken = 0;
    for (fr_i64 e = 0; e < events && taken < count; ++e) {
      if (hits[e + 1] == hits[e]) continue;
      const fr_i64 above = position[e] - taken;
      if (above >= k) break;
      won += (double)(k - above);
      ++taken;
    }
    return fr_ratio(won, (double)count * (double)k);
  }

  __device__ double gain_rank(fr_i64 end) const {
    double sum = 0.0, weight = 0.0;
    for (fr_i64 e = 0; e < end; ++e) {
      if (hits[e + 1] == hits[e] || !(gain[e] > 0.0)) continue;
      double rank = (double)position[e] + 1.0;
      if (tied && ties == FR_TIES_AVERAGE)
        rank = 0.5 * ((double)block[position[e]] + 1.0 + (double)block_end[position[e]]);
      sum += rank * gain[e];
      weight += gain[e];
    }
    return weight > 0.0 ? sum / weight : fr_nan();
  }

  __device__ double mean_rank(fr_i64 end) const {
    double sum = 0.0;
    for (fr_i64 e = 0; e < end; ++e) {
      if (hits[e + 1] == hits[e]) continue;
      double rank = (double)position[e] + 1.0;
      if (tied && ties == FR_TIES_AVERAGE)
        rank = 0.5 * ((double)block[position[e]] + 1.0 + (double)block_end[position[e]]);
      sum += rank;
    }
    return hits[end] ? sum / (double)hits[end] : fr_nan();
  }

  __device__ double pair_accuracy(fr_i64 end, fr_i64 k, double tie) const {
    const fr_i64 size = fr_min(k, n);
    const double unjudged = (double)(size - end);
    double won = 0.0, pairs_seen = 0.0;
    for (fr_i64 e = 0; e < end; ++e) {
      const double g = gain[e];
      const fr_i64 at = position[e];
      const fr_i64 from = tied ? block[at] : at, to = tied ? fr_min(block_end[at], size) : at + 1;
      if (g != 0.0) {
        fr_i64 judged_before = 0, judged_in = 0;
        for (fr_i64 o = 0; o < end; ++o) {
          judged_before += position[o] < from;
          judged_in += position[o] >= from && position[o] < to;
        }
        const double above = (double)(from - judged_before), level_with = (double)(to - from - judged_in);
        const double under = unjudged - above - level_with;
        won += (g > 0.0 ? under : above) + tie * level_with;
        pairs_seen += unjudged;
      }
      for (fr_i64 o = e + 1; o < end; ++o) {
        if (gain[o] == g) continue;
        pairs_seen += 1.0;
        if (position[o] < to) won += tie;
        else if (g > gain[o]) won += 1.0;
      }
    }
    return pairs_seen > 0.0 ? won / pairs_seen : fr_nan();
  }

#endif

  __device__ double column(int m) const {
    const int c = cutoff_of[m];
    const fr_i64 k = cutoffs[c], end = below[c];
    const double found = (double)hits[end];
    const double *parameter = parameters + 2 * m;
    switch (kinds[m]) {
      case FR_DCG: return dcg[end] * parameter[0];
      case FR_NDCG: return fr_ratio(dcg[end], best[c]);
      case FR_AP: return fr_ratio(ap[end], average_over(k, found));
      case FR_RR:
        for (fr_i64 e = 0; e < end; ++e)
          if (hits[e + 1]) return 1.0 / (double)(position[e] + 1);
        return 0.0;
      case FR_RECALL: return fr_ratio(found, recall_over(k));
      case FR_PRECISION: return fr_ratio(found, precision_over(k));
      case FR_HIT: return hits[end] ? 1.0 : 0.0;
      case FR_FBETA: return f_beta(found, k, parameter[0]);
      case FR_RPREC: return fr_ratio(relevant_above(fr_min(relevant, k)), (double)relevant);
      case FR_JUDGED: return fr_ratio((double)end, (double)fr_min(k, n));
      case FR_UNJUDGED: return fr_ratio((double)(fr_min(k, n) - end), (double)fr_min(k, n));
      case FR_RETRIEVED: return (double)fr_min(n, k);
      case FR_RELEVANT: return (double)relevant;
#if FR_EVERY
      case FR_ERR: return reciprocal_cascade(end, parameter[0]);
      case FR_NERR: return fr_ratio(reciprocal_cascade(end, parameter[0]), ideal_cascade(k, parameter[0]));
      case FR_RBP: return rank_biased(end, parameter[0], 0);
      case FR_GRADED_RBP: return rank_biased(end, parameter[0], 1) / parameter[1];
      case FR_RBP_RESIDUAL: return 1.0 - rank_biased(end, parameter[0], 2);
      case FR_NORMAL_RBP: return fr_ratio(rank_biased(end, parameter[0], 0), geometric(parameter[0], fr_min(relevant, short_lists ? fr_min(k, n) : k)));
      case FR_BPREF: return bpref(end);
      case FR_INFAP: return inferred_ap(end);
      case FR_IPREC: return interpolated(parameter[0], parameter[1], end);
      case FR_ELEVEN_POINT: return eleven_point(parameter[0], end);
      case FR_AUC: return auc(end, k);
      case FR_LIMITED_AUC: return limited_auc(end, k, parameter[0]);
      case FR_PARTIAL_AUC: return against_first_others(k, relevant);
      case FR_PARTIAL_TOP: return against_first_others(k, fr_min(relevant, k));
      case FR_MEAN_RANK: return mean_rank(end);
      case FR_GAIN_RANK: return gain_rank(end);
      case FR_PAIR_ACCURACY: return pair_accuracy(end, k, parameter[0]);
      case FR_COMPATIBILITY: return compatibility(m, k, parameter[0]);
#endif
      default: return found;  // FR_RELEVANT_RETRIEVED
    }
  }

#if FR_EVERY && FR_SCORED
  // Expected values over every order of the tied blocks (McSherry and Najork, 2008).
  __device__ double averaged_column(int m) const {
    const int c = cutoff_of[m], kind = kinds[m];
    fr_i64 k = fr_min(cutoffs[c], n);
    if (kind == FR_RPREC) k = fr_min(k, relevant);
    double gained = 0.0, found = 0.0, precisions = 0.0, none = 1.0, first = 0.0, before = 0.0;
    for (fr_i64 e = 0; e < events;) {
      const fr_i64 from = block[position[e]], to = block_end[position[e]];
      if (from >= k) break;
      double value_sum = 0.0, rel = 0.0;
      for (; e < events && position[e] < to; ++e) {
        value_sum += value[e];
        rel += is_relevant(gain[e]) ? 1.0 : 0.0;
      }
      const double size = (double)(to - from);
      const fr_i64 reach = fr_min(to, k);
      gained += value_sum / size * (discount_sums[reach] - discount_sums[from]);
      found += rel / size * (double)(reach - from);
      double miss = 1.0;  // chance that the block's items so far hold nothing relevant
      if (kind == FR_AP || kind == FR_RR || kind == FR_HIT)
        for (fr_i64 i = 0; i < reach - from; ++i) {
          const double rank = (double)(from + i + 1), more = size > 1.0 ? (double)i * (rel - 1.0) / (size - 1.0) : 0.0;
          precisions += rel / size * (before + 1.0 + more) / rank;
          const double here = rel < size - (double)i ? rel / (size - (double)i) : 1.0;
          first += none * miss * here / rank;
          miss *= 1.0 - here;
        }
      none *= miss;
      before += rel;
    }
    const fr_i64 cut = cutoffs[c];
    switch (kind) {
      case FR_DCG: return gained * parameters[2 * m];
      case FR_NDCG: return fr_ratio(gained, best[c]);
      case FR_RECALL: return fr_ratio(found, recall_over(cut));
      case FR_PRECISION: return fr_ratio(found, precision_over(cut));
      case FR_FBETA: return f_beta(found, cut, parameters[2 * m]);
      case FR_RPREC: return fr_ratio(found, (double)relevant);
      case FR_AP: return fr_ratio(precisions, average_over(cut, found));
      case FR_RR: return first;
      case FR_HIT: return 1.0 - none;
      case FR_RELEVANT_RETRIEVED: return found;
      default: return column(m);
    }
  }
#else
  __device__ double averaged_column(int m) const { return column(m); }
#endif
};

#endif
