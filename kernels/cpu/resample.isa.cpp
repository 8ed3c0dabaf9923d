// Resampling as a matrix product: sums[r, m] = sum over q of weight[r, q] * values[q, m].
//
// The weights are never stored.  A tile holds FR_RESAMPLE_LANES replicates side by side, one a lane, and walks over the
// queries in blocks: the block's weights are written to a small buffer in L1, multiplied into the block's values in
// registers, and the block's sums added to the totals.  A lane never looks at another, and queries are added in one
// order (within a block of BLOCK, then block after block), so the result of a replicate is the same bits whatever the
// vector width, the tile it fell into or the number of threads.
//
// Random numbers are SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), whose n-th output is a function of n: replicate r
// reads a stream of its own, so any replicate can be made alone.
#include <string.h>
#include "resample_types.h"

namespace {

constexpr int LANES = FR_RESAMPLE_LANES;
constexpr int BLOCK = 128;    // queries per block: BLOCK * LANES doubles are 16 KiB
constexpr int DRAWS = 512;    // draws made at a time, so that their arithmetic runs in vectors
constexpr uint64_t GOLDEN = 0x9e3779b97f4a7c15u;

// Registers for the product: LANES are taken WIDE vectors at a time, METRICS columns at a time.
#if defined(_MSC_VER)
struct vec {
  double at[2];
};
inline vec operator+(vec a, vec b) { return {{a.at[0] + b.at[0], a.at[1] + b.at[1]}}; }
inline vec operator*(vec a, double b) { return {{a.at[0] * b, a.at[1] * b}}; }
constexpr int VECTOR = 2, METRICS = 4;
#elif defined(FR_AVX512)
typedef double vec __attribute__((vector_size(64)));
constexpr int VECTOR = 8, METRICS = 10;
#elif defined(FR_AVX2)
typedef double vec __attribute__((vector_size(32)));
constexpr int VECTOR = 4, METRICS = 5;
#else
typedef double vec __attribute__((vector_size(16)));
constexpr int VECTOR = 2, METRICS = 5;
#endif
constexpr int WIDE = 2;

FR_INLINE uint64_t mix(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

FR_INLINE uint64_t stream_of(const fr_resample_job *job, int64_t replicate) {
  return mix(mix(job->seed + GOLDEN) + (uint64_t)(replicate + 1) * GOLDEN);
}

// The high word of z * n, for n < 2^32: z spread evenly over 0..n-1.
FR_INLINE uint64_t below(uint64_t z, uint64_t n) {
  return ((z >> 32) * n + (((z & 0xffffffffu) * n) >> 32)) >> 32;
}

// totals[column][lane] += sum over the block of weights[query][lane] * values[query][column], for COLUMNS columns.
template <int COLUMNS>
FR_INLINE void product(const double *FR_RESTRICT weights, const double *FR_RESTRICT values, int64_t stride, int size,
                       double *FR_RESTRICT totals) {
  for (int lane = 0; lane < LANES; lane += WIDE * VECTOR) {
    vec sum[COLUMNS][WIDE];
    for (int c = 0; c < COLUMNS; c++)
      for (int w = 0; w < WIDE; w++) sum[c][w] = vec{};
    const double *row = values;
    for (int q = 0; q < size; q++, row += stride) {
      vec weight[WIDE];
      for (int w = 0; w < WIDE; w++) memcpy(&weight[w], weights + q * LANES + lane + w * VECTOR, sizeof(vec));
      for (int c = 0; c < COLUMNS; c++)
        for (int w = 0; w < WIDE; w++) sum[c][w] = sum[c][w] + weight[w] * row[c];
    }
    for (int c = 0; c < COLUMNS; c++)
      for (int w = 0; w < WIDE; w++) {
        double *at = totals + c * LANES + lane + w * VECTOR;
        vec total;
        memcpy(&total, at, sizeof(vec));
        total = total + sum[c][w];
        memcpy(at, &total, sizeof(vec));
      }
  }
}

FR_NOINLINE void product_full(const double *weights, const double *values, int64_t stride, int size, double *totals) {
  product<METRICS>(weights, values, stride, size, totals);
}

FR_NOINLINE void product_one(const double *weights, const double *values, int64_t stride, int size, double *totals) {
  product<1>(weights, values, stride, size, totals);
}

FR_INLINE void add_block(const fr_resample_job *job, const double *weights, int64_t start, int size, double *totals) {
  const double *values = job->values + start * job->columns;
  int64_t c = 0;
  for (; c + METRICS <= job->columns; c += METRICS)
    product_full(weights, values + c, job->columns, size, totals + c * LANES);
  for (; c < job->columns; c++) product_one(weights, values + c, job->columns, size, totals + c * LANES);
}

FR_INLINE void write_sums(const fr_resample_job *job, int64_t tile, const double *totals) {
  for (int lane = 0; lane < LANES && tile * LANES + lane < job->replicates; lane++) {
    double *out = job->sums + (tile * LANES + lane) * job->columns;
    for (int64_t c = 0; c < job->columns; c++) out[c] = totals[c * LANES + lane];
  }
}

// counts[query][lane] = how often that lane's replicate drew the query, in as many draws as there are queries.
FR_NOINLINE void draw(const fr_resample_job *job, int64_t tile, uint8_t *FR_RESTRICT counts) {
  const uint64_t n = (uint64_t)job->queries;
  uint32_t drawn[DRAWS];
  memset(counts, 0, (size_t)n * LANES);
  for (int lane = 0; lane < LANES && tile * LANES + lane < job->replicates; lane++) {
    const uint64_t stream = stream_of(job, job->first + tile * LANES + lane);
    uint8_t *mine = counts + lane;
    for (uint64_t start = 0; start < n; start += DRAWS) {
      for (int i = 0; i < DRAWS; i++) drawn[i] = (uint32_t)below(mix(stream + (start + i + 1) * GOLDEN), n);
      const int size = n - start < DRAWS ? (int)(n - start) : DRAWS;
      for (int i = 0; i < size; i++) mine[(size_t)drawn[i] * LANES]++;
    }
  }
}

}  // namespace

extern "C" int FR_FN(fr_resample_level)(void) { return FR_LEVEL; }

extern "C" void FR_FN(fr_resample_bootstrap)(const fr_resample_job *job, int64_t tile, int worker) {
  uint8_t *counts = job->counts + (int64_t)worker * job->queries * LANES;
  double *totals = job->totals + (int64_t)worker * job->columns * LANES;
  double weights[BLOCK * LANES];
  draw(job, tile, counts);
  memset(totals, 0, (size_t)job->columns * LANES * sizeof(double));
  for (int64_t start = 0; start < job->queries; start += BLOCK) {
    const int size = job->queries - start < BLOCK ? (int)(job->queries - start) : BLOCK;
    const uint8_t *block = counts + start * LANES;
    for (int i = 0; i < size * LANES; i++) weights[i] = block[i];
    add_block(job, weights, start, size, totals);
  }
  write_sums(job, tile, totals);
}

extern "C" void FR_FN(fr_resample_sign_flip)(const fr_resample_job *job, int64_t tile, int worker) {
  double *totals = job->totals + (int64_t)worker * job->columns * LANES;
  double signs[BLOCK * LANES];
  uint64_t streams[LANES], words[LANES] = {};
  for (int lane = 0; lane < LANES; lane++) streams[lane] = stream_of(job, job->first + tile * LANES + lane);
  memset(totals, 0, (size_t)job->columns * LANES * sizeof(double));
  for (int64_t start = 0; start < job->queries; start += BLOCK) {
    const int size = job->queries - start < BLOCK ? (int)(job->queries - start) : BLOCK;
    for (int q = 0; q < size; q++) {
      const int bit = q % 64;  // one word of random bits serves 64 queries
      if (bit == 0) {
        const uint64_t word = (uint64_t)(start + q) / 64;
        for (int lane = 0; lane < LANES; lane++) words[lane] = mix(streams[lane] + (word + 1) * GOLDEN);
      }
      for (int lane = 0; lane < LANES; lane++)
        signs[q * LANES + lane] = (words[lane] >> bit & 1) ? -1.0 : 1.0;
    }
    add_block(job, signs, start, size, totals);
  }
  write_sums(job, tile, totals);
}
