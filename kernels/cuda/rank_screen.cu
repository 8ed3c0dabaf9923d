// The screen: which items may be among the k best?  In int8 or bfloat16 on tensor cores, or from a product of floats.
// variants: FR_TILES=8,4,2,1 FR_HALF=0,1
#include "mma.cuh"
#include "query.cuh"

#if FR_HALF
typedef float fr_product;
#define FR_MOST FR_INFINITY  // no product is larger
#define FR_PRODUCT fr_mma_bf16_m16n8k16
#else
typedef int fr_product;
#define FR_MOST 0x7fffffff
#define FR_PRODUCT fr_mma_s8_m16n8k32
#endif

#if FR_TILES > 2
#define FR_BOUNDS __launch_bounds__(512, 1)
#else
#define FR_BOUNDS __launch_bounds__(512, 2)
#endif

enum { FR_WIDE = 8 * FR_TILES };       // queries of a block
enum { FR_RING = 4 };                  // steps of a warp: one is multiplied while three are on their way
enum { FR_WAITING = 32 + 128 };        // fewer than 32 hits stay, and a column of each lane brings 128 at most

// What a warp has of its block's shared memory.  Hits wait there until 32 lanes can finish one each: what finishing takes
// from memory, an atomic among it, waits for the slowest once and not once a hit.
struct fr_own {
  uint4 ring[FR_RING][64];  // steps of 1,024 bytes; a lane reads what it asked for itself, so that nobody waits for others
  fr_product thresholds[FR_WIDE];
  float beta_steps[FR_WIDE];
  fr_u32 positions[FR_WAITING];
  fr_product products[FR_WAITING];
  unsigned char columns[FR_WAITING];  // of the query, in the block's tile
};
static_assert(sizeof(fr_own) == 5536 + 64 * FR_TILES, "fastrec/ranking/device_index.py makes room for it");

extern "C" {

// Panels begin..end against FR_WIDE queries a block (blockIdx.y); each of its warps takes panels in turn.
//
// A panel is two fragments of 16 items a step of 32 dimensions (16 of bfloat16), 16 bytes a lane as fr_pack lays them,
// read once and used for every tile of queries.  Steps are asked for three ahead, across panels, and land in shared memory,
// where the fragments of queries are, too (steps * FR_TILES * 256 bytes behind the warps' own): no register waits for them.
// An item matters only if its product reaches the threshold of (query, panel), which the warp computes for all of its
// queries first; so the loop ends in one compare a product.  A hit waits in shared memory for others, and 32 of them go to
// their queries' buffers together.
//
// With `seeding` a panel's best is its only hit (or some that equal it): enough to learn a threshold from many panels.  The
// widest block has no registers for it; its queries' codes lie so that blocks of half its width can take them.
__global__ void FR_BOUNDS fr_screen(const uint4 *items, fr_i64 steps, const float *meta, const float *beta,
                                    const fr_u32 *order, fr_i64 origin, fr_i64 begin, fr_i64 end, const uint2 *codes,
                                    const fr_query *queries, fr_i64 count, float beta_error, int seeding, fr_u32 *counts,
                                    fr_u64 *entries, fr_i64 cap) {
  enum { OWN = (FR_WIDE + 31) / 32 };
  extern __shared__ uint4 room[];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5;
  const int group = lane / 4, pair = lane % 4 * 2;
  const fr_i64 first = (fr_i64)blockIdx.y * FR_WIDE;
  fr_own &own = ((fr_own *)room)[warp];
  uint4 *const ring = own.ring[0] + lane;
  uint2 *const of_queries = (uint2 *)((fr_own *)room + warps);
  // Positions have 32 bits, so numbers of panels have 27.
  const fr_u32 stride = gridDim.x * warps, stop = (fr_u32)end;
  fr_u32 panel = (fr_u32)begin + blockIdx.x * warps + warp;

  fr_u32 asked = panel;  // the panel and the step of it that are asked for next
  int asked_step = 0;
  const uint4 *from = items + ((fr_i64)asked - origin) * steps * 64 + lane;
  const fr_i64 jump = ((fr_i64)stride - 1) * steps * 64;
  const auto ask = [&](fr_u32 slot) {
    if (asked < stop) {
      fr_cp_async_16(ring + slot % FR_RING * 64, from);
      fr_cp_async_16(ring + slot % FR_RING * 64 + 32, from + 32);
      from += 64;
      if (++asked_step == (int)steps) asked_step = 0, asked += stride, from += jump;
    }
    fr_cp_async_commit();
  };
  for (fr_u32 slot = 0; slot < FR_RING - 1; ++slot) ask(slot);
  fr_u32 turn = 0;  // the slot of the step that is multiplied next
  float record = panel < stop ? meta[(fr_i64)panel * FR_META + lane % FR_META] : 0.0f;

  for (int i = threadIdx.x; i < (int)steps * FR_TILES * 32; i += blockDim.x) {  // [step][tile][lane]
    const int tile = i / 32 % FR_TILES, s = i / 32 / FR_TILES;
    of_queries[i] = codes[((first / 8 + tile) * steps + s) * 32 + lane];
  }
  // The queries whose thresholds this lane computes: `lane` and `lane + 32` of the tile.
  float bar[OWN], coded[OWN], residual[OWN], reach[OWN], terms[OWN];
#if !FR_HALF
  float inverse[OWN], step[OWN];
#endif
#pragma unroll
  for (int j = 0; j < OWN; ++j) {
    const fr_i64 number = first + j * 32 + lane;
    const bool real = j * 32 + lane < FR_WIDE && number < count && queries[number < count ? number : 0].kind == FR_SCREEN;
    const fr_query &q = queries[real ? number : 0];
    bar[j] = real ? fr_lowered(q.cut) : FR_NEVER;
    coded[j] = real ? q.coded : 0.0f, residual[j] = real ? q.residual : 0.0f, reach[j] = real ? q.reach : 0.0f;
    terms[j] = real ? q.beta : 0.0f;
#if !FR_HALF
    step[j] = real ? q.step : 1.0f, inverse[j] = 1.0f / step[j];
#endif
  }
  int waiting = 0;
  __syncthreads();

  for (bool last = false; !last; panel += stride) {
    fr_u32 columns = 0;  // pairs of (tile, c) in which this lane has a hit
    fr_product sum[2][FR_TILES][4];
    float m[FR_META];
#pragma unroll
    for (int i = 0; i < FR_META; ++i) m[i] = __shfl_sync(FR_ALL, record, i);
    bool alive = false, later = false;
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      alive |= reach[j] * m[FR_NORM] + terms[j] * m[FR_BETA_MAX] + FR_FLOOR > bar[j];
      later |= reach[j] * m[FR_NORM_TAIL] + terms[j] * m[FR_BETA_TAIL] + FR_FLOOR > bar[j];
    }
    // Where norms have fallen so far, nobody needs this panel or any that follows.
    last = panel >= stop || !__any_sync(FR_ALL, later);
    alive = !last && __any_sync(FR_ALL, alive);
    if (!last && stop - panel > stride) record = meta[((fr_i64)panel + stride) * FR_META + lane % FR_META];
    if (alive) {
      __syncwarp();
#pragma unroll
      for (int j = 0; j < OWN; ++j) {
#if FR_HALF
        float x = bar[j] - coded[j] * m[FR_RESIDUAL] - residual[j] * m[FR_NORM] - FR_FLOOR;
        if (beta) x = x - terms[j] * (beta_error * m[FR_BETA_ABS]);
        if (j * 32 + lane < FR_WIDE) {
          own.thresholds[j * 32 + lane] = bar[j] == FR_NEVER ? FR_INFINITY : x;
          if (beta) own.beta_steps[j * 32 + lane] = terms[j];
        }
#else
        const float per = inverse[j] * m[FR_INVERSE];
        float x = bar[j] - coded[j] * m[FR_RESIDUAL] - residual[j] * m[FR_NORM];
        if (beta) x = x - terms[j] * (beta_error * m[FR_BETA_ABS]) - 2.0f * (step[j] * m[FR_SCALE]);
        // No item lies below -2^30: additive terms stay within 2^29 steps, codes within 2^28.  fmaxf first: of a NaN (an
        // infinity times zero) and a number it takes the number.
        x = fminf(fmaxf(x * per, -0x1p30f), 0x1p29f);
        if (j * 32 + lane < FR_WIDE) {
          own.thresholds[j * 32 + lane] = bar[j] == FR_NEVER ? 0x7fffffff : __float2int_rz(x) - 3;
          if (beta) own.beta_steps[j * 32 + lane] = terms[j] * per;
        }
#endif
      }
      __syncwarp();
    }
    const auto arrived = [&] {  // the slot of the next step
      ask(turn + FR_RING - 1);  // where the step before this one was
      fr_cp_async_wait<FR_RING - 1>();
      return turn++ % FR_RING * 64;
    };
    if (alive) {
      const uint2 *query = of_queries + lane;
      const auto multiply = [&] {
        const fr_u32 slot = arrived();
        const uint4 low = ring[slot], high = ring[slot + 32];
        const unsigned a[4] = {low.x, low.y, low.z, low.w}, b[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
        for (int tile = 0; tile < FR_TILES; ++tile) {
          const unsigned q[2] = {query[tile * 32].x, query[tile * 32].y};
          FR_PRODUCT(sum[0][tile], a, q);
          FR_PRODUCT(sum[1][tile], b, q);
        }
        query += FR_TILES * 32;
      };
#pragma unroll
      for (int tile = 0; tile < FR_TILES; ++tile)
#pragma unroll
        for (int r = 0; r < 8; ++r) sum[r / 4][tile][r % 4] = 0;
      multiply();  // apart, as an instruction knows zeros that no register holds
#pragma unroll 1
      for (int left = (int)steps - 1; left; --left) multiply();
    } else if (!last) {
#pragma unroll 1
      for (int left = (int)steps; left; --left) arrived();
    }
    if (alive) {
      if (beta)
#pragma unroll
        for (int r = 0; r < 4; ++r) {  // items group, group + 8, group + 16, group + 24
          const float term = beta[(fr_i64)panel * FR_PANEL + group + 8 * r];
#pragma unroll
          for (int o = 0; o < 2 * FR_TILES; ++o) {
            const float x = term * own.beta_steps[o / 2 * 8 + pair + o % 2];
#if FR_HALF
            sum[r / 2][o / 2][r % 2 * 2 + o % 2] += x;
#else
            sum[r / 2][o / 2][r % 2 * 2 + o % 2] += __float2int_rn(fminf(fmaxf(x, -0x1p30f), 0x1p30f));
#endif
          }
        }
#if FR_TILES < 8
      if (seeding) {
#pragma unroll
        for (int o = 0; o < 2 * FR_TILES; ++o) {
          fr_product best = sum[0][o / 2][o % 2];
#pragma unroll
          for (int r = 1; r < 4; ++r) best = max(best, sum[r / 2][o / 2][r % 2 * 2 + o % 2]);
#pragma unroll
          for (int other = 4; other < 32; other *= 2) best = max(best, __shfl_xor_sync(FR_ALL, best, other));
#if FR_HALF
          best = nextafterf(best, -FR_INFINITY);
#else
          best -= 1;
#endif
          fr_product &threshold = own.thresholds[o / 2 * 8 + pair + o % 2];
          if (group == 0 && best > threshold) threshold = best;
        }
        __syncwarp();
      }
#endif
#pragma unroll
      for (int o = 0; o < 2 * FR_TILES; ++o) {
        const fr_product threshold = own.thresholds[o / 2 * 8 + pair + o % 2];
        bool hit = false;
#pragma unroll
        for (int r = 0; r < 4; ++r) hit |= sum[r / 2][o / 2][r % 2 * 2 + o % 2] > threshold;
        if (hit) columns |= 1u << o;
      }
    }
    // Each lane takes a column of its own at a time, so that hits of several lanes wait for nobody.
    fr_u32 lanes = __ballot_sync(FR_ALL, columns != 0);
    do {
      if (lanes) {
        const fr_u32 at = (fr_u32)__ffs((int)columns) - 1u, column = at / 2 * 8 + pair + at % 2;
        const fr_product threshold = columns ? own.thresholds[column] : FR_MOST;
        columns &= columns - 1;
        fr_product of[4];
        fr_u32 rows = 0;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
          fr_product found[2 * FR_TILES];
#pragma unroll
          for (int o = 0; o < 2 * FR_TILES; ++o) found[o] = sum[r / 2][o / 2][r % 2 * 2 + o % 2];
#pragma unroll
          for (int level = 0; level < 4; ++level)  // to the one of number `at`, a bit of it at a time
#pragma unroll
            for (int o = 0; o < FR_TILES; ++o)
              if (o < FR_TILES >> level)
                found[o] = at & FR_TILES >> level ? found[o + (FR_TILES >> level)] : found[o];
          of[r] = found[0];
          if (of[r] > threshold) rows |= 1u << r;
        }
        fr_u32 votes = __ballot_sync(FR_ALL, rows != 0);
        do {  // once, but where a lane has several hits of one query
          if (rows) {
            const int r = __ffs((int)rows) - 1, slot = waiting + __popc(votes & ((1u << lane) - 1));
            own.positions[slot] = panel * FR_PANEL + group + 8 * r;
            own.products[slot] = r & 2 ? r & 1 ? of[3] : of[2] : r & 1 ? of[1] : of[0];
            own.columns[slot] = (unsigned char)column;
            rows &= rows - 1;
          }
          waiting += __popc(votes);
          votes = __ballot_sync(FR_ALL, rows != 0);
        } while (votes);
        lanes = __ballot_sync(FR_ALL, columns != 0);
      }
      if (waiting >= 32 || last) {
        __syncwarp();
        for (int done = 0; done < waiting; done += 32) {
          const int i = done + lane < waiting ? done + lane : done;
          const fr_i64 position = own.positions[i];
          const bool real = done + lane < waiting && order[position] != FR_PADDING;
          const fr_u32 those = __ballot_sync(FR_ALL, real);
          if (!real) continue;
          // Hits of one query take their places in its buffer together.
          const int column = own.columns[i];
          const fr_i64 number = first + column;
          const fr_u32 same = __match_any_sync(those, column);
          const int leader = __ffs((int)same) - 1;
          fr_u32 slot = 0;  // a count beyond `cap` says that entries were lost
          if (lane == leader) slot = atomicAdd(counts + number, (fr_u32)__popc(same));
          slot = __shfl_sync(those, slot, leader) + __popc(same & ((1u << lane) - 1));
          if (slot >= cap) continue;
          const fr_query &q = queries[number];
          const float *of_panel = meta + position / FR_PANEL * FR_META;
          const fr_product product = own.products[i];
          const float value = FR_HALF ? (float)product : (float)product * (q.step * of_panel[FR_SCALE]);
          entries[number * cap + slot] = fr_entry_of(value - fr_error(q, of_panel, beta_error), position);
        }
        __syncwarp();
        waiting = 0;
      }
    } while (lanes);
  }
  fr_cp_async_wait<0>();
}

#if !FR_HALF
// The same for values that a product of floats left in `values` (count, width), positions first..first + width.  Four
// columns a thread; width is a multiple of FR_PANEL.
__global__ void __launch_bounds__(FR_THREADS) fr_sift(const float4 *values, fr_i64 width, const float *meta, const float *beta,
                                                      const fr_u32 *order, fr_i64 first, const fr_query *queries,
                                                      float beta_error, fr_u32 *counts, fr_u64 *entries, fr_i64 cap) {
  const fr_i64 number = blockIdx.y;
  const fr_query &q = queries[number];
  if (q.kind != FR_SCREEN) return;
  const float bar = fr_lowered(q.cut);
  for (fr_i64 i = (fr_i64)blockIdx.x * FR_THREADS + threadIdx.x; i < width / 4; i += (fr_i64)gridDim.x * FR_THREADS) {
    const float4 four = values[number * (width / 4) + i];
    const float value[4] = {four.x, four.y, four.z, four.w};
    const float error = fr_error(q, meta + (first + 4 * i) / FR_PANEL * FR_META, beta_error);
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const fr_i64 position = first + 4 * i + j;
      const float x = beta ? value[j] + q.beta * beta[position] : value[j];
      if (x + error >= bar && order[position] != FR_PADDING)
        fr_append(number, x - error, position, counts, entries, cap);
    }
  }
}
#endif
}
