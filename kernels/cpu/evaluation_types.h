// Plain structs shared by the evaluation bodies and their binding.
#pragma once
#include "common.h"

// What a column of the result holds.  fastrec/evaluation/metrics/ names them; evaluation.pyx lists the same order.
enum fr_rank_metric {
  FR_DCG,          // parameter: factor of the logarithm's base
  FR_NDCG,
  FR_AP,
  FR_RR,
  FR_RECALL,
  FR_PRECISION,
  FR_HIT,
  FR_FBETA,        // parameter: beta
  FR_RPREC,
  FR_ERR,          // parameter: the largest gain
  FR_NERR,         // the same
  FR_RBP,          // parameter: persistence
  FR_GRADED_RBP,   // parameters: persistence, the largest gain
  FR_RBP_RESIDUAL, // parameter: persistence
  FR_NORMAL_RBP,   // parameter: persistence
  FR_BPREF,
  FR_INFAP,
  FR_IPREC,        // parameters: recall level, version of trec_eval
  FR_ELEVEN_POINT, // parameter: version of trec_eval
  FR_AUC,
  FR_LIMITED_AUC,  // parameter: items there are
  FR_PARTIAL_AUC,  // at the cutoff's first non-relevant items
  FR_PARTIAL_TOP,  // parameters: as FR_PARTIAL_AUC, over R + k items
  FR_MEAN_RANK,
  FR_GAIN_RANK,
  FR_PAIR_ACCURACY,// parameter: what a tied pair counts
  FR_JUDGED,
  FR_UNJUDGED,
  FR_COMPATIBILITY,// parameter: persistence
  FR_ALPHA_DCG,    // parameter: alpha
  FR_ALPHA_NDCG,   // the same
  FR_ERR_IA,       // the same
  FR_NERR_IA,      // the same
  FR_NRBP,         // parameters: alpha, beta
  FR_NNRBP,        // the same
  FR_AP_IA,
  FR_PRECISION_IA,
  FR_SUBTOPIC_RECALL,
  FR_RETRIEVED,
  FR_RELEVANT,
  FR_RELEVANT_RETRIEVED,
  FR_BY_OTHERS,    // parameter: others a list has; `functions`: (others + 1) doubles, an item's worth by others above it
  FR_CUSTOM,
};

enum fr_rank_ties { FR_TIES_GIVEN, FR_TIES_DECIMAL_DESC, FR_TIES_ID_DESC, FR_TIES_ID_ASC, FR_TIES_AVERAGE,
                    FR_TIES_OPTIMISTIC, FR_TIES_PESSIMISTIC, FR_TIES_RANDOM };
enum fr_rank_ideal { FR_IDEAL_JUDGED, FR_IDEAL_LIST, FR_IDEAL_FULL };
enum fr_rank_ap { FR_AP_RELEVANT, FR_AP_CAPPED, FR_AP_CUTOFF, FR_AP_HITS, FR_AP_LENGTH };
// Columns of `counts`, one row a query.
enum fr_rank_count { FR_COUNT_RETRIEVED, FR_COUNT_RELEVANT, FR_COUNT_HITS, FR_COUNT_DUPLICATES, FR_COUNT_TIED,
                     FR_COUNT_BAD, FR_COUNTS };
enum fr_rank_bad { FR_BAD_NONE, FR_BAD_SCORE, FR_BAD_PADDING };

// A user's metric: gains of the list (best first), gains of the ideal list, cutoff, and a status to set on failure.
typedef double (*fr_rank_custom)(const double *gains, int64_t n, const double *ideal, int64_t m, int64_t k,
                                 int64_t *status);

struct fr_rank_totals {
  int64_t missing;
  int64_t empty;
  int64_t duplicates;
  int64_t tied;
  int64_t bad;  // the first query with a fault, -1 where there is none
};

struct fr_rank_job {
  // The run: one list of ids a row, best first or with scores.  One of run32, run64; at most one of scores32, scores64.
  const int32_t *run32;
  const int64_t *run64;
  const float *scores32;
  const double *scores64;
  const int64_t *run_ptr;   // (rows + 1) or null: then row r is width ids from r * width, ended early by -1
  int64_t width;
  const int64_t *run_row;   // (Q) the run's row for each query, -1 for none; null: the same row
  const int64_t *tie_rank;  // (codes) rank of each id in the order of its text, where ids are codes; else null
  // The truth of each query: distinct ids by gain, descending.
  const int64_t *truth_ptr;
  const int64_t *truth_ids;
  const double *gains;      // null: all 1
  const double *values;     // gain function of each, never negative; null: all 1
  const double *ideal;      // the values of each row in descending order; null: all 1
  const int64_t *positives; // (Q) gains above 0; null: not known
  // What to compute.
  const int32_t *kinds;     // (M)
  const int32_t *cutoff_of; // (M) place in `cutoffs`
  const double *parameters; // (M, 2)
  const int64_t *functions; // (M) addresses: of fr_rank_custom for FR_CUSTOM, of doubles for FR_BY_OTHERS
  const int64_t *cutoffs;   // (C) ascending, INT64_MAX for none
  const double *discounts;  // at least the longest list or truth
  const double *discount_sums;  // one longer: sums of the first i
  int32_t metrics;
  int32_t cutoff_count;
  double level;             // relevant: gain > level (strict) or >= level
  int32_t strict;
  int32_t ties;
  int32_t float32_scores;   // compare scores after a cast to float32
  int32_t ideal_mode;
  int32_t ap_denominator;
  int32_t recall_capped;    // recall divides by min(R, k)
  int32_t short_lists;      // precision divides by the list's length where that is below k
  int32_t skip_unjudged;    // leave items without a judgement out of the list
  int32_t all_relevant;     // every gain is 1 and passes the level
  int32_t zero_is_nothing;  // the gain function of what is neither relevant nor has a gain above 0 is 0
  uint64_t seed;
  const uint64_t *query_keys;  // (Q) what tells queries apart in a random order of ties, or null
  // Subtopics, for the metrics that ask for them; else null.
  const int64_t *topic_ptr;    // (judgements + 1)
  const int32_t *topics;       // the subtopics each judged item is relevant to, numbered from 0 in each query
  const int32_t *topic_counts; // (Q) subtopics with a relevant item
  const int64_t *topic_order;  // (judgements) each query's judgements in the order that settles ties of the ideal list
  int64_t most_topics;
  int64_t longest;          // longest list
  int64_t longest_truth;
  // Results.
  double *out;              // (Q, M)
  int32_t *counts;          // (Q, FR_COUNTS)
};
