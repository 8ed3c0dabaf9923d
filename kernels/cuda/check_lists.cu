// What is wrong with per-query lists, in one pass and one answer: see fastrec/ranking/device_lists.py.
// variants: FR_WIDE=0,1
typedef long long fr_i64;

#if FR_WIDE
typedef long long fr_index;
#else
typedef int fr_index;
#endif

// Largest of five things that are 0 where nothing is there or wrong: the length of a list; whether row pointers are
// malformed; an index, plus 1; minus an index; whether a list is not strictly rising.  `found` holds zeros before.
// `bounded` are the row pointers, none outside of 0..count: what reads lists by them stays within `indices`, whatever is
// found.  A warp takes lists in turn.
extern "C" __global__ void __launch_bounds__(256) fr_check_lists(const fr_i64 *indptr, fr_i64 lists, const fr_index *indices,
                                                                 fr_i64 count, fr_i64 *bounded, fr_i64 *found) {
  const int lane = threadIdx.x & 31;
  const fr_i64 most = 0x7fffffffffffffffLL;
  fr_i64 longest = 0, malformed = 0, above = 0, below = 0, unsorted = 0;
  const fr_i64 warps = (fr_i64)gridDim.x * (blockDim.x / 32);
  for (fr_i64 list = (fr_i64)blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32; list < lists; list += warps) {
    const fr_i64 begin = indptr[list], end = indptr[list + 1];
    if (lane < 2 && (lane == 0 || list == lists - 1)) {
      const fr_i64 pointer = lane ? end : begin;
      bounded[list + lane] = pointer < 0 ? 0 : pointer > count ? count : pointer;
    }
    if (begin < 0 || end < begin || end > count || (list == 0 && begin != 0) || (list == lists - 1 && end != count)) {
      malformed = 1;
      continue;
    }
    longest = end - begin > longest ? end - begin : longest;
    for (fr_i64 i = begin + lane; i < end; i += 32) {
      fr_i64 index = indices[i];
      index = index > most - 1 ? most - 1 : index < -most ? -most : index;  // so that neither sum below overflows
      above = index + 1 > above ? index + 1 : above;
      below = -index > below ? -index : below;
      if (i > begin && indices[i - 1] >= indices[i]) unsorted = 1;
    }
  }
  const fr_i64 own[5] = {longest, malformed, above, below, unsorted};
#pragma unroll
  for (int j = 0; j < 5; ++j) {
    fr_i64 all = own[j];
    for (int other = 16; other; other /= 2) {
      const fr_i64 theirs = __shfl_xor_sync(0xffffffffu, all, other);
      all = theirs > all ? theirs : all;
    }
    if (lane == 0 && all > 0) atomicMax(found + j, all);
  }
}

// Where `found` says that lists are wrong, answers of `size` (rows -1, scores NaN) that nobody takes for right ones: for a
// graph, in which the host cannot ask before it goes on.
extern "C" __global__ void __launch_bounds__(256) fr_refuse_answers(const fr_i64 *found, fr_i64 items, fr_i64 *rows,
                                                                    float *scores, fr_i64 size) {
  if (!found[1] && found[2] <= items && !found[3] && !found[4]) return;
  for (fr_i64 i = (fr_i64)blockIdx.x * blockDim.x + threadIdx.x; i < size; i += (fr_i64)gridDim.x * blockDim.x)
    rows[i] = -1, scores[i] = __int_as_float(0x7fc00000);
}
