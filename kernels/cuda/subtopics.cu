// Metrics by subtopic of lists whose judged items fr_rank_metrics has found: a thread a query, the sums and their order of
// kernels/cpu/evaluation.isa.cpp.

#include "columns.cuh"

// In the order of SUBTOPIC_KINDS in fastrec/evaluation/on_device.py.
enum { FR_ALPHA_DCG, FR_ALPHA_NDCG, FR_ERR_IA, FR_NERR_IA, FR_NRBP, FR_NNRBP, FR_AP_IA, FR_PRECISION_IA, FR_SUBTOPIC_RECALL };

struct fr_list {
  const double *discounts;
  const fr_i64 *topic_ptr;  // judgement t is relevant to topics[topic_ptr[t] : topic_ptr[t + 1]]
  const int *topics;
  const fr_i64 *order;      // the query's judgements, the last as text first
  fr_i64 from, to;          // its judgements
  int subtopics;            // that have a relevant item
  const int *positions, *judged;  // of the judged items of the list
  fr_i64 events, n;
  int short_lists;
  double *worth, *total, *added;  // scratch: a subtopic each, and a judgement each
  fr_i64 *left;

  // Sum of what a judged item is worth by its subtopics; with `spend`, each is worth less from then on.
  __device__ __forceinline__ double novelty(fr_i64 t, double keep, bool spend) const {
    double sum = 0.0;
    for (fr_i64 s = topic_ptr[t]; s < topic_ptr[t + 1]; ++s) {
      double *own = worth + topics[s];
      sum += *own;
      if (spend) *own *= keep;
    }
    return sum;
  }

  // added[i]: what the i-th item of the list adds that always takes what adds most; returns its length.
  __device__ __forceinline__ fr_i64 greedy_ideal(double alpha) const {
    for (int s = 0; s < subtopics; ++s) worth[s] = 1.0;
    fr_i64 count = 0, size = 0;
    for (fr_i64 i = from; i < to; ++i)
      if (topic_ptr[order[i] + 1] > topic_ptr[order[i]]) left[count++] = order[i];
    while (count > 0) {
      fr_i64 best = 0;
      double most = -1.0;
      for (fr_i64 i = 0; i < count; ++i) {
        const double sum = novelty(left[i], 1.0, false);
        if (sum > most) most = sum, best = i;
      }
      if (!(most > 0.0)) break;
      added[size++] = novelty(left[best], 1.0 - alpha, true);
      for (fr_i64 i = best + 1; i < count; ++i) left[i - 1] = left[i];
      --count;
    }
    return size;
  }

  // Weight of a place in the sums over novelty; `decay` is beta^place.
  __device__ __forceinline__ double place_weight(int kind, fr_i64 place, double decay) const {
    if (kind == FR_ALPHA_DCG || kind == FR_ALPHA_NDCG) return discounts[place];
    return kind == FR_ERR_IA || kind == FR_NERR_IA ? 1.0 / (double)(place + 1) : decay;
  }

  // Average precision and precision by subtopic, and how many are covered.
  __device__ __forceinline__ double counted(int kind, fr_i64 k) const {
    for (int s = 0; s < subtopics; ++s) worth[s] = total[s] = 0.0;
    if (kind == FR_AP_IA)
      for (fr_i64 s = topic_ptr[from]; s < topic_ptr[to]; ++s) total[topics[s]] += 1.0;
    const fr_i64 size = fr_min(k, n);
    double sum = 0.0, seen = 0.0;
    for (fr_i64 e = 0; e < events && positions[e] < size; ++e)
      for (fr_i64 s = topic_ptr[judged[e]]; s < topic_ptr[judged[e] + 1]; ++s) {
        double *found = worth + topics[s];
        seen += *found == 0.0 ? 1.0 : 0.0;
        *found += 1.0;
        sum += kind == FR_AP_IA ? *found / (double)(positions[e] + 1) / total[topics[s]] : 1.0;
      }
    if (kind == FR_SUBTOPIC_RECALL) return seen / (double)subtopics;
    if (kind == FR_AP_IA) return fr_ratio(sum, (double)subtopics);
    const fr_i64 over = k == FR_WHOLE || short_lists ? size : k;
    return fr_ratio(sum, (double)over * (double)subtopics);
  }

  __device__ __forceinline__ double column(int kind, fr_i64 k, const double *parameter) const {
    if (subtopics == 0) return 0.0;
    if (kind == FR_AP_IA || kind == FR_PRECISION_IA || kind == FR_SUBTOPIC_RECALL) return counted(kind, k);
    const double keep = 1.0 - parameter[0], beta = parameter[1];
    const fr_i64 size = fr_min(k, n);
    for (int s = 0; s < subtopics; ++s) worth[s] = 1.0;
    double gained = 0.0, decay = 1.0;
    fr_i64 at = 0;
    for (fr_i64 e = 0; e < events && positions[e] < size; ++e) {
      if (kind == FR_NRBP || kind == FR_NNRBP) decay *= fr_power(beta, positions[e] - at);
      at = positions[e];
      gained += novelty(judged[e], keep, true) * place_weight(kind, at, decay);
    }
    if (kind == FR_NRBP) return gained * (1.0 - keep * beta) / (double)subtopics;
    double whole = 0.0;
    if (kind == FR_ALPHA_DCG || kind == FR_ERR_IA) {
      whole = parameter[1];  // of one subtopic, where there is a cutoff
      if (k == FR_WHOLE) {
        double left = 1.0;
        whole = 0.0;
        for (fr_i64 i = 0; i < n && left > 0.0; ++i, left *= keep) whole += left * place_weight(kind, i, 1.0);
      }
      whole *= (double)subtopics;
    } else {
      const fr_i64 length = greedy_ideal(parameter[0]);
      decay = 1.0;
      for (fr_i64 i = 0; i < length && i < k; ++i, decay *= beta) whole += added[i] * place_weight(kind, i, decay);
    }
    return fr_ratio(gained, whole);
  }
};

// Columns of `out` (queries, metrics) whose kind is not -1.  scratch: 2 (most_topics + longest_truth) doubles a thread.
extern "C" __global__ void __launch_bounds__(128, 6) fr_subtopic_metrics(
    const int *kinds, const int *cutoff_of, const fr_i64 *cutoffs, const double *parameters, const double *discounts,
    int metrics, int short_lists, const fr_i64 *truth_ptr, const fr_i64 *topic_ptr, const int *topics,
    const int *topic_counts, const fr_i64 *order, const int *lengths, const int *found, const int *positions,
    const int *judged, fr_i64 queries, fr_i64 most_topics, fr_i64 longest_truth, double *scratch, double *out) {
  const fr_i64 thread = (fr_i64)blockIdx.x * blockDim.x + threadIdx.x, threads = (fr_i64)gridDim.x * blockDim.x;
  double *own = scratch + 2 * thread * (most_topics + longest_truth);
  for (fr_i64 q = thread; q < queries; q += threads) {
    const fr_i64 from = truth_ptr[q];
    const fr_list list = {discounts, topic_ptr, topics, order, from, truth_ptr[q + 1], topic_counts[q], positions + from,
                          judged + from, found[q], lengths[q], short_lists, own, own + most_topics,
                          own + 2 * most_topics, (fr_i64 *)(own + 2 * most_topics + longest_truth)};
    for (int m = 0; m < metrics; ++m)
      if (kinds[m] >= 0) out[q * metrics + m] = list.column(kinds[m], cutoffs[cutoff_of[m]], parameters + 2 * m);
  }
}
