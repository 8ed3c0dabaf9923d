// Plain structs shared by the ranking bodies and their binding.  Units and proofs: docs/adr/0011-int8-screen.md.
#pragma once
#include "common.h"

enum { FR_DOT = 0, FR_COSINE = 1, FR_L2 = 2 };
enum { FR_F32 = 0, FR_F16 = 1, FR_BF16 = 2 };
enum { FR_PANEL = 32 };       // items of a panel
enum { FR_STRETCH = 8 };      // panels whose mean is kept, where items are turned
enum { FR_META = 8 };         // floats of a panel's meta record
enum { FR_LINE = 16384 };     // longest row of a half-precision matrix
// Fields of a panel's record.  All in item units (values times 2^-exponent); bounds are rounded outwards.
enum {
  FR_SCALE = 0,    // one step of the int8 codes
  FR_RESIDUAL = 1, // largest |item - scale * code|
  FR_NORM = 2,     // largest |item|
  FR_BETA_MAX = 3, // largest additive term, plus its rounding slack
  FR_BETA_ABS = 4, // largest |additive term|
  FR_BETA_TAIL = 5, // largest FR_BETA_MAX of this panel and all that follow
  FR_INVERSE = 6,   // 1 / FR_SCALE
  FR_NORM_TAIL = 7  // largest FR_NORM of this panel and all that follow
};
// Fields of the last record: over all panels.
enum {
  FR_ALL_BETA = 0,  // largest |additive term|
  FR_ALL_NORM = 1,  // largest |item|
  FR_SHUFFLED = 2   // 1 where positions are in random order
};

// Part of the way through a panel a screen looks whether anything in it can still matter: at one or two of so many
// places.  A panel's record of them: the largest norm of what lies behind each; where items are turned, which have two,
// also the largest residuals of what lies before them, and that of what lies behind the first.
enum { FR_PLACES = 15, FR_LOOKS = 2, FR_BEFORE = FR_LOOKS, FR_BEHIND = 2 * FR_LOOKS, FR_TURNED = FR_BEHIND + 1 };

// The caller's item matrix, viewed.
struct fr_items {
  const void *data;   // (n, d), rows `stride` elements apart, elements of a row adjacent
  int64_t n, d, stride;
  int dtype, metric;
  const float *bias;  // (n,) or null
};

// The packed index beside it.
struct fr_index {
  fr_items items;
  int64_t panels;          // of FR_PANEL positions: by norm, descending but for like ones, or at random (FR_SHUFFLED)
  const uint32_t *order;   // (panels * FR_PANEL,) position -> row; padding repeats 0xffffffff
  const uint8_t *codes;    // [panel][d/4][FR_PANEL][4] value + 128, or null without an int8 copy
  const float *meta;       // [panel][FR_META], and a last record of totals
  const float *beta;       // (panels * FR_PANEL,) additive term in item units, or null
  int64_t places, place[FR_PLACES];  // and how many groups of 4 dimensions lie before each, ascending
  const float *rest;       // [panel][fr_record] in item units, or null: no looks
  const float *turn;       // (d, d): what codes are of is a row times this, in float32; or null: of the row itself
  double turn_error;       // how far, relative to |u| |i|, products of turned rows are from those of the rows
  const float *means;      // [stretch / 32][4 place[0]][32] means of FR_STRETCH panels of turned items, or null
  const uint32_t *special; // rows that hold infinities: scored canonically for every query
  int64_t specials;
  int exponent;            // item unit: value * 2^-exponent
};

// Floats of a panel's record in `rest`.
static inline int64_t fr_record(const fr_index *index) { return index->turn ? int64_t(FR_TURNED) : index->places; }

// Lists of item rows, one a query: CSR, sorted within a query.
struct fr_lists {
  const int64_t *indptr;   // (q + 1,), or null: no lists
  const void *indices;
  int wide;                // 1: int64, 0: int32
};

// One call of topk.  The work is a grid of (query group) x (item segment) tasks.
struct fr_scan {
  const fr_index *index;
  const float *queries;            // (q, d) contiguous
  int64_t q, k;
  int64_t group;                   // queries of a group
  int64_t segments;                // interleaved shares of the panels
  fr_lists exclude;                // rows never returned
  int use_codes;                   // screen with the int8 copy
  float min_score;                 // -inf: none
  float *shared;                   // (q,) best known threshold of each query, shared between segments; or null
  int64_t *rows;                   // out: (q, segments, k)
  float *scores;                   // out: (q, segments, k)
  int64_t *stats;                  // (q, 4) or null: panels screened, survivors, re-scored, path bits
  char *scratch;                   // scratch_bytes for each worker
  int64_t scratch_bytes;
};

struct fr_pairs {
  fr_items items;
  const float *queries;
  int64_t q;
  const int64_t *rows;   // (n,) query of each pair
  const int64_t *cols;   // (n,) item of each pair
  int64_t n, chunk;
  float *out;
  int *astray;           // becomes 1 where a pair names no query or no item; nothing is read for it
};

struct fr_candidates {
  fr_items items;
  const float *queries;
  int64_t q, k;
  fr_lists own;              // the candidates of each query
  int64_t longest;           // of these lists
  fr_lists exclude;
  float min_score;
  int64_t *rows;
  float *scores;
  char *scratch;
  int64_t scratch_bytes;
};

struct fr_select {
  const float *scores;   // (q, n) contiguous
  int64_t q, n, k;
  int64_t *rows;
  float *values;
  char *scratch;
  int64_t scratch_bytes;
};
