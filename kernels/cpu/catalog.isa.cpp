// Catalogue metrics: how often each item is listed, and how alike the items of a list are.
#include "catalog_types.h"

namespace {

// stamps[item] holds 1 + the last list that named it, so a repeated item shows at once and nothing is ever cleared.
template <class Id>
void count(const Id *ids, int64_t width, int64_t k, int64_t begin, int64_t end, int64_t items, uint32_t *stamps,
           int64_t *counts, int32_t *lengths, fr_catalog_report *report) {
  fr_catalog_report found = {-1, -1, 0};
  for (int64_t list = begin; list < end; ++list) {
    const Id *row = ids + list * width;
    const uint32_t stamp = static_cast<uint32_t>(list) + 1;
    int32_t length = 0;
    uint32_t repeated = 0;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t item = row[i];
      if (FR_UNLIKELY(static_cast<uint64_t>(item) >= static_cast<uint64_t>(items))) {
        if (item != -1) {
          found.bad = list;
          *report = found;
          return;
        }
        continue;
      }
      repeated |= stamps[item] == stamp;
      stamps[item] = stamp;
      ++counts[item];
      ++length;
    }
    if (FR_UNLIKELY(repeated) && found.duplicate < 0) found.duplicate = list;
    lengths[list] = length;
    found.listed += length;
  }
  *report = found;
}

constexpr int LANES = 8;
constexpr int64_t AHEAD = 12;  // vectors that are fetched before they are added: they lie anywhere in memory

FR_INLINE void fetch(const double *vector, int64_t dims) {
#if !defined(_MSC_VER)
  for (int64_t d = 0; d < dims; d += 8) __builtin_prefetch(vector + d);
#else
  (void)vector, (void)dims;
#endif
}

// The mean of u.v over pairs of the unit vectors of a list is (|sum u|^2 - sum |u|^2) / (m (m - 1)).
template <class Id>
void similarity(const Id *ids, int64_t width, int64_t k, int64_t begin, int64_t end, const double *units, int64_t dims,
                double *sum, double *out) {
  for (int64_t list = begin; list < end; ++list) {
    const Id *row = ids + list * width;
    double own[LANES] = {}, all[LANES] = {};
    int64_t m = 0;
    for (int64_t d = 0; d < dims; ++d) sum[d] = 0.0;
    for (int64_t i = 0; i < k; ++i) {
      const int64_t next = list * width + i + AHEAD;  // of this list, or one of the few after it
      if (next < end * width && ids[next] >= 0) fetch(units + ids[next] * dims, dims);
      if (row[i] < 0) continue;
      const double *unit = units + row[i] * dims;
      ++m;
      for (int64_t d = 0; d < dims; d += LANES)
        for (int l = 0; l < LANES; ++l) {
          sum[d + l] += unit[d + l];
          own[l] += unit[d + l] * unit[d + l];
        }
    }
    for (int64_t d = 0; d < dims; d += LANES)
      for (int l = 0; l < LANES; ++l) all[l] += sum[d + l] * sum[d + l];
    for (int l = 0; l < LANES; ++l) all[l] -= own[l];
    const double total = ((all[0] + all[4]) + (all[2] + all[6])) + ((all[1] + all[5]) + (all[3] + all[7]));
    out[list] = m > 1 ? total / (static_cast<double>(m) * static_cast<double>(m - 1)) : __builtin_nan("");
  }
}

}  // namespace

extern "C" void FR_FN(fr_catalog_count)(const void *ids, int wide, int64_t width, int64_t k, int64_t begin, int64_t end,
                                        int64_t items, uint32_t *stamps, int64_t *counts, int32_t *lengths,
                                        fr_catalog_report *report) {
  if (wide) count(static_cast<const int64_t *>(ids), width, k, begin, end, items, stamps, counts, lengths, report);
  else count(static_cast<const int32_t *>(ids), width, k, begin, end, items, stamps, counts, lengths, report);
}

// units: rows of `dims` numbers, a multiple of 8 (zeros fill it up); sum: scratch of as many.
extern "C" void FR_FN(fr_catalog_similarity)(const void *ids, int wide, int64_t width, int64_t k, int64_t begin,
                                             int64_t end, const double *units, int64_t dims, double *sum, double *out) {
  if (wide) similarity(static_cast<const int64_t *>(ids), width, k, begin, end, units, dims, sum, out);
  else similarity(static_cast<const int32_t *>(ids), width, k, begin, end, units, dims, sum, out);
}
