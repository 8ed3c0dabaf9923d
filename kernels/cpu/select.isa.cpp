// Top-k of a given matrix of scores, row by row.
#include <math.h>

#include "ranking_types.h"
#include "select.h"

namespace {

// Values and columns of a row's candidates; cut back to k when full.
struct Buffer {
  float *value;
  uint32_t *column;
  float *floats;
  int64_t n, k, limit;
  float cut;  // only larger values matter: an equal one has a larger column than the k that are held
};

FR_NOINLINE void tighten(Buffer &b) {
  const float least = kth_largest(b.value, b.n, b.k, b.floats);
  // Keep everything above, and of those equal the first columns, which come first.
  int64_t above = 0;
  for (int64_t i = 0; i < b.n; ++i) above += b.value[i] > least;
  int64_t equal = b.k - above, n = 0;
  for (int64_t i = 0; i < b.n; ++i) {
    const float v = b.value[i];
    b.value[n] = v, b.column[n] = b.column[i];
    const bool tie = v == least;
    n += v > least || (tie && equal > 0);
    equal -= tie;
  }
  b.n = n, b.cut = least;
}

// Values that are held before they are cut back to k: enough that this is rare, and never more than there are.
FR_INLINE int64_t measure(const fr_select &args) {
  const int64_t k = args.k < args.n ? args.k : args.n, limit = k + (k < 65536 ? 2 * k : 131072) + 512;
  return limit < args.n + 1 ? limit : args.n + 1;
}

}  // namespace

extern "C" {

int64_t FR_FN(fr_select_scratch)(const fr_select *args) {
  const int64_t cap = measure(*args) + 64;
  return cap * 8 + 4 * (cap + 16) * 4 + 256;
}

void FR_FN(fr_select_task)(const fr_select *args, int64_t task, int worker) {
  const int64_t k = args->k < args->n ? args->k : args->n, limit = measure(*args), cap = limit + 64;
  char *at = args->scratch + worker * args->scratch_bytes;
  Buffer b;
  b.value = reinterpret_cast<float *>(at), at += cap * 4;
  b.column = reinterpret_cast<uint32_t *>(at), at += cap * 4;
  at += (8 - (reinterpret_cast<uintptr_t>(at) & 7)) & 7;
  // the same memory for both: floats while values are cut back, keys once they are final
  b.floats = reinterpret_cast<float *>(at);
  uint64_t *keys = reinterpret_cast<uint64_t *>(at), *more = keys + cap;
  b.n = 0, b.k = k, b.limit = limit, b.cut = -INFINITY;
  const float *x = args->scores + task * args->n;
  const int64_t n = args->n;
  int64_t i = 0;
#if defined(FR_AVX512)
  __m512i column = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i step = _mm512_set1_epi32(16);
  __m512 cut = _mm512_set1_ps(b.cut);
  for (; i + 64 <= n; i += 64) {
    __m512 v[4];
    uint32_t any = 0;
    __mmask16 mask[4];
    for (int j = 0; j < 4; ++j) {
      v[j] = _mm512_loadu_ps(x + i + 16 * j);
      mask[j] = _mm512_cmp_ps_mask(v[j], cut, _CMP_GT_OQ);
      any |= mask[j];
    }
    if (FR_UNLIKELY(any)) {
      for (int j = 0; j < 4; ++j) {
        if (!mask[j]) continue;
        // adding zero turns -0 into +0, as the public order wants
        _mm512_storeu_ps(b.value + b.n, _mm512_maskz_compress_ps(mask[j], _mm512_add_ps(v[j], _mm512_setzero_ps())));
        const __m512i c = _mm512_add_epi32(column, _mm512_set1_epi32(16 * j));
        _mm512_storeu_si512(b.column + b.n, _mm512_maskz_compress_epi32(mask[j], c));
        b.n += __builtin_popcount(mask[j]);
      }
      if (b.n >= limit) {
        tighten(b);
        cut = _mm512_set1_ps(b.cut);
      }
    }
    column = _mm512_add_epi32(column, _mm512_add_epi32(_mm512_add_epi32(step, step), _mm512_add_epi32(step, step)));
  }
#elif defined(FR_AVX2)
  for (; i + 32 <= n; i += 32) {
    const __m256 cut = _mm256_set1_ps(b.cut);
    uint32_t mask = 0;
    for (int j = 0; j < 4; ++j)
      mask |= uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(_mm256_loadu_ps(x + i + 8 * j), cut, _CMP_GT_OQ))) << (8 * j);
    for (; mask; mask &= mask - 1) {
      const int j = __builtin_ctz(mask);
      b.value[b.n] = x[i + j] + 0.0f, b.column[b.n] = uint32_t(i + j), ++b.n;
    }
    if (b.n >= limit) tighten(b);
  }
#endif
  for (; i < n; ++i) {
    if (!(x[i] > b.cut)) continue;
    b.value[b.n] = x[i] + 0.0f, b.column[b.n] = uint32_t(i), ++b.n;
    if (b.n >= limit) tighten(b);
  }
  if (b.n > k) tighten(b);
  for (int64_t j = 0; j < b.n; ++j) keys[j] = key_of(b.value[j], b.column[j]);
  int64_t found = b.n;
  sort_descending(keys, found, more);
  if (found < k)  // too few above -inf: those that are -inf follow, by column
    for (int64_t j = 0; j < n && found < k; ++j)
      if (x[j] == -INFINITY) keys[found++] = key_of(-INFINITY, uint32_t(j));
  int64_t *rows = args->rows + task * args->k;
  float *values = args->values + task * args->k;
  for (int64_t j = 0; j < args->k; ++j) {
    rows[j] = j < found ? int64_t(key_row(keys[j])) : -1;
    values[j] = j < found ? key_score(keys[j]) : -INFINITY;
  }
}

}  // extern "C"
