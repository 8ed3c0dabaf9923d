// Looking a row up in a query's list.
#pragma once
#include "ranking_types.h"

namespace {

template <class T>
FR_INLINE bool contains(const T *list, int64_t n, T value) {
  while (n > 0) {
    const int64_t half = n / 2;
    if (list[half] == value) return true;
    if (list[half] < value) list += half + 1, n -= half + 1;
    else n = half;
  }
  return false;
}

FR_INLINE int64_t entry(const fr_lists &lists, int64_t i) {
  return lists.wide ? static_cast<const int64_t *>(lists.indices)[i] : static_cast<const int32_t *>(lists.indices)[i];
}

FR_INLINE bool is_listed(const fr_lists &lists, int64_t query, int64_t row) {
  const int64_t begin = lists.indptr[query], n = lists.indptr[query + 1] - begin;
  return lists.wide ? contains(static_cast<const int64_t *>(lists.indices) + begin, n, row)
                    : contains(static_cast<const int32_t *>(lists.indices) + begin, n, int32_t(row));
}

}  // namespace
