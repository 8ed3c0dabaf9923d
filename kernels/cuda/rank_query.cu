// A query's way through a search: its codes and bounds, its threshold after each stretch of items, its answer.
// variants: FR_ITEM=0,1,2 FR_BLOCK=256,512
#include "canonical.cuh"
#include "lists.cuh"
#include "query.cuh"

#define FR_BOUNDS __launch_bounds__(FR_THREADS, 512 / FR_THREADS)  // 128 registers

// Where items and lists are, for everything that scores canonically.
struct fr_place {
  const float *queries;
  const fr_item *items;
  fr_i64 d, stride;
  int metric;
  const float *bias;
  const fr_u32 *order;   // position -> row
  fr_i64 gathered;       // < 0: items lie by row; else row 0 of `items` is the item at this position
  const fr_i64 *banned;  // exclusions, or null
  const void *listed;
  int wide;
  fr_i64 number;         // the query's number in those lists
  float floor;
  fr_i64 k, room;
};

// Score things 0..count canonically and merge them with the query's best.  position_of(i) is where thing i is in the order
// of the index, row_of(i) its row.  `best` holds 2 * room keys, the first q.found of which are the query's best so far.
template <class Position, class Row>
__device__ inline void fr_offer(const fr_place &at, fr_i64 query, fr_query &q, fr_i64 count, Position position_of, Row row_of,
                                fr_u64 *best, const float *all, fr_room &room) {
  __shared__ fr_u32 held;
  const int batches = 8, each = FR_THREADS / 8;
  fr_u64 bar = q.found >= at.k ? q.bar : 0;
  __syncthreads();
  if (threadIdx.x == 0) held = q.found;
  __syncthreads();
  for (fr_i64 begin = 0; begin < count; begin += batches * each) {
    for (int b = 0; b < batches; ++b) {
      const fr_i64 first = begin + b * each + threadIdx.x / 32 * 4;
      if (first >= count) break;  // the whole warp
      const fr_i64 own = first + threadIdx.x % 32 / 8, i = own < count ? own : first;
      const fr_i64 row = row_of(i);
      const bool real = row != (fr_i64)FR_PADDING;
      const fr_i64 line = !real ? 0 : at.gathered >= 0 ? position_of(i) - at.gathered : row;
      const float *bias = at.bias ? at.bias + (real ? row : 0) : nullptr;
      const float score = fr_canonical(at.queries + query * at.d, at.items + line * at.stride, at.d, at.metric, bias);
      if (threadIdx.x % 8 || own >= count || !real || !(score >= at.floor)) continue;
      const fr_u64 key = fr_key(score, row);
      if (key > bar && !fr_listed(at.banned, at.listed, at.wide, at.number, row)) best[atomicAdd(&held, 1u)] = key;
    }
    __syncthreads();
    const fr_i64 now = held;
    __syncthreads();
    if (now > at.k && (now + batches * each > at.room || begin + batches * each >= count)) {
      const fr_u64 least = fr_divide(best, now, at.k, room);
      const fr_i64 kept = fr_filter(best, now, [&](fr_u64 key) { return key >= least; }, room);
      bar = fr_smallest(best, kept, 1, room);
      if (threadIdx.x == 0) held = (fr_u32)kept;
      __syncthreads();
    }
  }
  const fr_i64 found = held;
  if (found == at.k) bar = fr_smallest(best, found, 1, room);
  __syncthreads();
  if (threadIdx.x == 0) {
    q.found = (fr_u32)found, q.bar = bar, q.rescored += (fr_u32)count;
    if (found >= at.k) fr_raise(q, fr_key_score(bar), all);
  }
  __syncthreads();
}

enum { FR_MIDDLE = 0, FR_LAST = 1, FR_SEEDS = 2 };  // stages of fr_tighten
enum { FR_NEARBY = 1024 };  // excluded items that are looked up in shared memory

extern "C" {

#if FR_BLOCK == 256  // the wider block is for what has a block a query
// Bounds of each query and its screened form: int8 codes or bfloat16 (tiles of eight queries as fr_mma_s8_m16n8k32 and
// fr_mma_bf16_m16n8k16 take them), or floats.  `error` is that of products of floats, relative.  One warp a query.
__global__ void FR_BOUNDS fr_prepare(const float *queries, fr_i64 count, fr_i64 d, int metric, int exponent, int has_beta,
                                     int limit_dim, const float *all, float floor, float error, int exact, fr_i64 steps,
                                     signed char *codes, unsigned short *halves, float *scaled, fr_query *states,
                                     fr_u32 *counts) {
  const int lane = threadIdx.x & 31;
  const fr_i64 number = (fr_i64)blockIdx.x * (FR_THREADS / 32) + threadIdx.x / 32;
  if (number >= count) return;  // the whole warp
  const float *u = queries + number * d;
  float top = 0.0f;
  double norm2 = 0.0;
  bool infinite = false, nan = false;
  for (fr_i64 t = lane; t < d; t += 32) {
    const float a = fabsf(u[t]);
    nan |= a != a, infinite |= a == FR_INFINITY;
    top = a > top ? a : top;
    norm2 += (double)a * (double)a;
  }
  for (int other = 16; other; other /= 2) {
    top = fmaxf(top, __shfl_xor_sync(FR_ALL, top, other));
    norm2 += __shfl_xor_sync(FR_ALL, norm2, other);
  }
  nan = __any_sync(FR_ALL, nan), infinite = __any_sync(FR_ALL, infinite);
  fr_query q;
  q.shift = 0.0, q.up = 1.0, q.down = 1.0, q.bar = 0;
  q.tau = q.cut = -FR_INFINITY;
  q.reach = q.coded = q.residual = q.step = q.beta = 0.0f;
  q.exact = exact, q.held = q.found = q.rescored = 0;
  q.kind = nan ? FR_EMPTY
           : infinite || d > limit_dim ? FR_EXHAUSTIVE
           : top == 0.0f && metric != FR_L2 && !has_beta ? (exact ? FR_EXHAUSTIVE : FR_ZERO) : FR_SCREEN;
  int of_query = 0;
  double factor = 1.0;
  if (metric == FR_COSINE) {
    const double norm = sqrt(norm2);
    factor = norm == 0.0 ? 0.0 : 1.0 / norm;
  } else if (q.kind == FR_SCREEN) {
    if (top > 0.0f) frexp((double)top * (metric == FR_L2 ? 2.0 : 1.0), &of_query);
    else of_query = metric == FR_L2 ? exponent : 0;
    factor = ldexp(metric == FR_L2 ? 2.0 : 1.0, -of_query);
  }
  const int unit = metric == FR_COSINE ? 0 : of_query + exponent;
  const int lift = metric == FR_COSINE ? 0 : metric == FR_L2 ? exponent - of_query : -of_query;
  if (q.kind == FR_SCREEN && has_beta && (lift > 100 || lift < -100)) q.kind = FR_EXHAUSTIVE;
  const bool screened = q.kind == FR_SCREEN;
  double squares = 0.0, largest = 0.0, coded = 0.0, residual = 0.0;
  if (screened) {
    q.beta = has_beta ? (float)ldexp(1.0, lift) : 0.0f;
    q.up = ldexp(1.0, unit), q.down = ldexp(1.0, -unit);
    if (metric == FR_L2) q.shift = norm2 * q.down;
  }
  for (fr_i64 t = lane; t < d; t += 32) {
    const double x = screened ? (double)u[t] * factor : 0.0;
    if (scaled) scaled[number * d + t] = (float)x;
    squares += x * x;
    largest = fabs(x) > largest ? fabs(x) : largest;
  }
  for (int other = 16; other; other /= 2) {
    squares += __shfl_xor_sync(FR_ALL, squares, other);
    largest = fmax(largest, __shfl_xor_sync(FR_ALL, largest, other));
  }
  const double out = 1.0 + 2.0 * FR_SLACK;
  float step = (float)(largest / 127.0);
  if (has_beta && step < q.beta * 0x1p-14f) step = q.beta * 0x1p-14f;  // keeps additive terms within 2^29 steps
  if (!(step > 0x1p-60f)) step = 0x1p-60f;
  if (codes)
    for (fr_i64 t = lane; t < 32 * steps; t += 32) {
      double c = 0.0;
      if (screened && t < d) {
        const double x = (double)u[t] * factor;
        c = rint(x / step);
        c = c > 127.0 ? 127.0 : c < -127.0 ? -127.0 : c;
        const double back = c * step;
        coded += back * back, residual += (x - back) * (x - back);
      }
      const int k = (int)(t % 32), of = (int)(number % 8) * 4 + k % 16 / 4;
      codes[((number / 8 * steps + t / 32) * 32 + of) * 8 + k / 16 * 4 + k % 4] = (signed char)(int)c;
    }
  if (halves)
    for (fr_i64 t = lane; t < 16 * steps; t += 32) {
      const double x = screened && t < d ? (double)u[t] * factor : 0.0;
      const unsigned short half = fr_bf16(x);
      const double back = fr_of_bf16(half);
      coded += back * back, residual += (x - back) * (x - back);
      const int k = (int)(t % 16), of = (int)(number % 8) * 4 + k % 8 / 2;
      halves[((number / 8 * steps + t / 16) * 32 + of) * 4 + k / 8 * 2 + k % 2] = half;
    }
  for (int other = 16; other; other /= 2) {
    coded += __shfl_xor_sync(FR_ALL, coded, other);
    residual += __shfl_xor_sync(FR_ALL, residual, other);
  }
  if (lane) return;
  if (screened) {
    q.reach = __double2float_ru(sqrt(squares) * out);
    if (codes || halves) {
      q.step = codes ? step : 0.0f;
      q.coded = __double2float_ru(sqrt(coded) * out);
      q.residual = __double2float_ru((sqrt(residual) + (double)q.reach * (FR_SLACK + (double)error)) * out);
    } else {
      q.residual = __double2float_ru((double)q.reach * (double)error);
    }
  }
  if (screened) fr_raise(q, floor, all);
  states[number] = q;
  counts[number] = 0;
}
#endif

// After panels begin..end were screened: raise each query's threshold and make room.  One block a query.
//
// Entries [0, held) were looked at before.  Where there were more survivors than room, or bounds are too wide to make
// room, entries are scored canonically instead, after a loss the whole stretch: slow, and never wrong.
//
// FR_LAST: after the last stretch of few queries nothing is thinned out, as fr_rescore scores all entries sooner than one
// block drops some.  FR_SEEDS: entries are the best of panels that will be screened again (some may be lost: any k of them
// will do); they raise the threshold, and go.
__global__ void FR_BOUNDS fr_tighten(
    const float *queries, const fr_item *items, fr_i64 d, fr_i64 stride, int metric, const float *bias, const fr_u32 *order,
    fr_i64 gathered, const float *meta, fr_i64 panels, fr_i64 begin, fr_i64 end,
    const fr_i64 *banned, const void *listed, int wide, fr_i64 number, float floor, float beta_error, fr_i64 k,
    int stage, fr_query *states, fr_u32 *counts, fr_u64 *entries, fr_i64 cap, fr_u64 *best, fr_i64 best_room) {
  __shared__ fr_room room;
  __shared__ fr_query q;
  __shared__ fr_u32 nearby[FR_NEARBY];
  const fr_i64 query = blockIdx.x;
  fr_u64 *own = entries + query * cap, *keys = best + query * best_room;
  const float *all = meta + panels * FR_META;
  if (threadIdx.x == 0) q = states[query];
  __syncthreads();
  if (q.kind == FR_EMPTY || q.kind == FR_ZERO) return;
  const fr_place at = {queries, items, d, stride, metric, bias, order, gathered, banned, listed, wide, number + query, floor, k, best_room};
  const auto here = [&](fr_i64 i) { return begin * FR_PANEL + i; };
  const auto here_row = [&](fr_i64 i) { return (fr_i64)order[begin * FR_PANEL + i]; };
  const auto entry = [&](fr_i64 i) { return fr_entry_position(own[i]); };
  const auto entry_row = [&](fr_i64 i) { return (fr_i64)order[fr_entry_position(own[i])]; };
  const fr_u32 total = counts[query];
  fr_i64 n = total < cap ? (fr_i64)total : cap;
  const bool lost = total > cap;
  __syncthreads();
  const bool seeds = stage == FR_SEEDS;
  if (seeds && (q.kind == FR_EXHAUSTIVE || q.exact)) {
    n = 0;
  } else if (q.kind == FR_EXHAUSTIVE) {
    fr_offer(at, query, q, (end - begin) * FR_PANEL, here, here_row, keys, all, room);
    n = 0;
  } else if (!seeds && (lost || q.exact)) {
    fr_offer(at, query, q, lost ? (fr_i64)q.held : n, entry, entry_row, keys, all, room);
    if (lost) fr_offer(at, query, q, (end - begin) * FR_PANEL, here, here_row, keys, all, room);
    if (threadIdx.x == 0) q.exact = 1;
    n = 0;
  } else {
    if (banned) {
      const fr_i64 from = banned[number + query], length = banned[number + query + 1] - from;
      const bool close = length <= FR_NEARBY;
      for (fr_i64 i = threadIdx.x; close && i < length; i += FR_THREADS) nearby[i] = (fr_u32)fr_entry(listed, wide, from + i);
      __syncthreads();
      for (fr_i64 i = q.held + threadIdx.x; i < n; i += FR_THREADS) {
        const fr_u32 row = order[fr_entry_position(own[i])];
        const bool out = close ? fr_found(0, (int)length, row, [&](int at) { return (fr_i64)nearby[at]; })
                               : fr_listed(banned, listed, wide, number + query, row);
        if (out) own[i] = 0;
      }
      __syncthreads();
    }
    if (stage != FR_LAST) {
      const fr_u64 divide = fr_divide(own, n, k, room);
      if (divide > 1) {  // at most the k-th largest, by less than a bin of those that were counted
        if (threadIdx.x == 0) fr_raise(q, fr_certain(q, fr_entry_low(divide), all), all);
        __syncthreads();
      }
      const float cut = fr_lowered(q.cut);
      n = seeds ? 0 : fr_filter(own, n, [&](fr_u64 key) {
        const float error = fr_error(q, meta + fr_entry_position(key) / FR_PANEL * FR_META, beta_error);
        return fr_entry_low(key) + 2.0f * error >= cut;
      }, room);
      if (n > cap / 2) {
        fr_offer(at, query, q, n, entry, entry_row, keys, all, room);
        if (threadIdx.x == 0) q.exact = 1;
        n = 0;
      }
    }
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    q.held = (fr_u32)n;
    counts[query] = (fr_u32)n;
    states[query] = q;
  }
}

#if FR_BLOCK == 256
// Items with an infinity are scored for every query, first; they lie by row, or gathered in the order of `special`.
__global__ void FR_BOUNDS fr_offer_special(
    const float *queries, const fr_item *items, fr_i64 d, fr_i64 stride, int metric, const float *bias, int gathered,
    const fr_u32 *special, fr_i64 specials, const float *all, const fr_i64 *banned, const void *listed, int wide,
    fr_i64 number, float floor, fr_i64 k, fr_query *states, fr_u64 *best, fr_i64 best_room) {
  __shared__ fr_room room;
  __shared__ fr_query q;
  const fr_i64 query = blockIdx.x;
  if (threadIdx.x == 0) q = states[query];
  __syncthreads();
  if (q.kind == FR_EMPTY || q.kind == FR_ZERO) return;
  const fr_place at = {queries, items, d, stride, metric, bias, special, gathered ? 0 : -1, banned, listed, wide, number + query, floor, k, best_room};
  fr_offer(at, query, q, specials, [&](fr_i64 i) { return i; }, [&](fr_i64 i) { return (fr_i64)special[i]; },
           best + query * best_room, all, room);
  if (threadIdx.x == 0) states[query] = q;
}

// The entries that are left become canonical keys where they are, 0 for what has no key or lies below `floor`.  Blocks of a
// query (blockIdx.y) share them out.
__global__ void __launch_bounds__(FR_THREADS) fr_rescore(const float *queries, const fr_item *items, fr_i64 d, fr_i64 stride,
                                                         int metric, const float *bias, const fr_u32 *order, float floor,
                                                         const fr_query *states, const fr_u32 *counts, fr_u64 *entries,
                                                         fr_i64 cap) {
  const fr_i64 query = blockIdx.x, n = counts[query], each = FR_THREADS / 8;
  if (states[query].kind != FR_SCREEN) return;
  fr_u64 *own = entries + query * cap;
  for (fr_i64 at = blockIdx.y * each + threadIdx.x / 32 * 4; at < n; at += gridDim.y * each) {  // the whole warp
    const fr_i64 i = at + threadIdx.x % 32 / 8;
    const fr_u64 entry = own[i < n ? i : at];  // 0 was struck out
    const fr_i64 row = order[entry ? fr_entry_position(entry) : 0];
    const float score =
        fr_canonical(queries + query * d, items + row * stride, d, metric, bias ? bias + row : nullptr);
    if (threadIdx.x % 8 == 0 && i < n) own[i] = entry && score >= floor ? fr_key(score, row) : 0;
  }
}
#endif

// Merge the keys of fr_rescore with the best so far and write each query's answer.  A zero query scores 0 against every
// item that has no NaN or infinity: the first k rows that are allowed are its answer.
__global__ void FR_BOUNDS fr_conclude(
    const float *queries, const fr_item *items, fr_i64 items_count, fr_i64 d, fr_i64 stride, int metric, const float *bias,
    const fr_u32 *order, const float *all, const fr_i64 *banned, const void *listed, int wide, fr_i64 number, float floor,
    fr_i64 k, fr_query *states, const fr_u32 *counts, const fr_u64 *entries, fr_i64 cap, fr_u64 *best, fr_i64 best_room,
    fr_u64 *scratch, fr_i64 sorted, fr_i64 columns, fr_i64 *rows, float *scores) {
  __shared__ fr_room room;
  __shared__ fr_query q;
  const fr_i64 query = blockIdx.x;
  const fr_u64 *own = entries + query * cap;
  fr_u64 *keys = best + query * best_room, *ordered = scratch + query * sorted;
  if (threadIdx.x == 0) q = states[query];
  __syncthreads();
  const fr_place at = {queries, items, d, stride, metric, bias, order, -1, banned, listed, wide, number + query, floor, k, best_room};
  if (q.kind == FR_SCREEN && counts[query] > 0) {
    const fr_i64 n = counts[query];
    const fr_u64 least = fr_divide(own, n, k, room);
    if (threadIdx.x == 0) room.count = q.found;
    __syncthreads();
    for (fr_i64 i = threadIdx.x; i < n; i += FR_THREADS)
      if (own[i] >= least) keys[atomicAdd(&room.count, 1u)] = own[i];  // 2 k with what is there, and there is room
    __syncthreads();
    fr_i64 both = room.count;
    __syncthreads();
    if (both > k) {
      const fr_u64 bar = fr_divide(keys, both, k, room);
      both = fr_filter(keys, both, [&](fr_u64 key) { return key >= bar; }, room);
    }
    if (threadIdx.x == 0) q.found = (fr_u32)both, q.rescored += (fr_u32)n;
    __syncthreads();
  }
  if (q.kind == FR_ZERO)
    for (fr_i64 from = 0; from < items_count && q.found < k; from += 1024)
      fr_offer(at, query, q, items_count - from < 1024 ? items_count - from : 1024, [&](fr_i64 i) { return from + i; },
               [&](fr_i64 i) { return from + i; }, keys, all, room);
  const fr_i64 found = q.kind == FR_EMPTY ? 0 : (fr_i64)q.found;
  for (fr_i64 i = threadIdx.x; i < found; i += FR_THREADS) ordered[i] = keys[i];
  __syncthreads();
  fr_write(ordered, found, sorted, columns, rows + query * columns, scores + query * columns, room);
  if (threadIdx.x == 0) states[query] = q;
}
}
