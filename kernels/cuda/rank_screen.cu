// The screen: which items may be among the k best?  In int8 or bfloat16 on tensor cores, or from a product of floats.
// variants: FR_TILES=8,4,2,1 FR_HALF=0,1
#include "mma.cuh"
#include "query.cuh"

#if FR_HALF
typedef float fr_product;
#define FR_PRODUCT fr_mma_bf16_m16n8k16
#else
typedef int fr_product;
#define FR_PRODUCT fr_mma_s8_m16n8k32
#endif

#if FR_TILES == 8 && FR_HALF  // held to 128 registers, the compiler sinks half of the loads below the products: 48 ms for 36
#define FR_BOUNDS __launch_bounds__(128, 3)
#elif FR_TILES == 8  // 128 registers without a spill, left to itself
#define FR_BOUNDS __launch_bounds__(128)
#else
#define FR_BOUNDS __launch_bounds__(128, FR_TILES == 4 ? 4 : FR_TILES == 2 ? 6 : 8)
#endif

// Hits that wait in shared memory until 32 lanes can finish one each: what finishing takes from memory, an atomic among it,
// waits for the slowest once and not once a hit.
enum { FR_WAITING = 32 + 128 };  // fewer than 32 stay, and a column of each lane brings 128 at most
struct fr_hits {
  fr_u32 positions[FR_WAITING];
  fr_product products[FR_WAITING];
  unsigned char columns[FR_WAITING];  // of the query, in the block's tile
};

extern "C" {

// Panels begin..end against FR_TILES * 8 queries a block (blockIdx.y); each of the four warps takes panels in turn.
//
// A panel is two fragments of 16 items a step of 32 dimensions (16 of bfloat16), 16 bytes a lane as fr_pack lays them,
// read once and used for every tile of queries, whose fragments wait in shared memory (steps * FR_TILES * 256 bytes of it,
// dynamic).  An item matters only if its product reaches the threshold of (query, panel), which the warp computes for all
// of its queries first; so the loop ends in one compare a product.  A hit waits in shared memory for others, and 32 of
// them go to their queries' buffers together.
__global__ void FR_BOUNDS fr_screen(const uint4 *items, fr_i64 steps, const float *meta, const float *beta,
                                                 const fr_u32 *order, fr_i64 origin, fr_i64 begin, fr_i64 end,
                                                 const uint2 *codes, const fr_query *queries, fr_i64 count, float beta_error,
                                                 fr_u32 *counts, fr_u64 *entries, fr_i64 cap) {
  enum { WIDE = 8 * FR_TILES, OWN = (WIDE + 31) / 32 };
  extern __shared__ uint2 of_queries[];
  __shared__ fr_product thresholds[4][WIDE];
  __shared__ float beta_steps[4][WIDE];
  __shared__ fr_hits hits[4];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5, group = lane / 4, pair = lane % 4 * 2;
  const fr_i64 first = (fr_i64)blockIdx.y * WIDE;
  for (fr_i64 i = threadIdx.x; i < steps * FR_TILES * 32; i += 128) of_queries[i] = codes[first / 8 * steps * 32 + i];
  // The queries whose thresholds this lane computes: `lane` and `lane + 32` of the tile.
  float bar[OWN], coded[OWN], residual[OWN], reach[OWN], terms[OWN];
#if !FR_HALF
  float inverse[OWN], step[OWN];
#endif
#pragma unroll
  for (int j = 0; j < OWN; ++j) {
    const fr_i64 number = first + j * 32 + lane;
    const bool real = j * 32 + lane < WIDE && number < count && queries[number < count ? number : 0].kind == FR_SCREEN;
    const fr_query &q = queries[real ? number : 0];
    bar[j] = real ? fr_lowered(q.cut) : FR_NEVER;
    coded[j] = real ? q.coded : 0.0f, residual[j] = real ? q.residual : 0.0f, reach[j] = real ? q.reach : 0.0f;
    terms[j] = real ? q.beta : 0.0f;
#if !FR_HALF
    step[j] = real ? q.step : 1.0f, inverse[j] = 1.0f / step[j];
#endif
  }
  int waiting = 0;
  const auto finish = [&]() {
    __syncwarp();
    for (int i = lane; i < waiting; i += 32) {
      const fr_i64 position = hits[warp].positions[i], number = first + hits[warp].columns[i];
      if (order[position] == FR_PADDING) continue;
      const fr_query &q = queries[number];
      const float *m = meta + position / FR_PANEL * FR_META;
      const fr_product product = hits[warp].products[i];
      const float value = FR_HALF ? (float)product : (float)product * (q.step * m[FR_SCALE]);
      fr_append(number, value - fr_error(q, m, beta_error), position, counts, entries, cap);
    }
    __syncwarp();
    waiting = 0;
  };
  __syncthreads();
  // Positions have 32 bits, so numbers of panels have 27; a register less keeps the widest tile from spilling.
  for (fr_u32 panel = (fr_u32)begin + blockIdx.x * 4 + warp; panel < (fr_u32)end; panel += gridDim.x * 4) {
    const float *m = meta + (fr_i64)panel * FR_META;
    bool alive = false, later = false;
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
      alive |= reach[j] * m[FR_NORM] + terms[j] * m[FR_BETA_MAX] + FR_FLOOR > bar[j];
      later |= reach[j] * m[FR_NORM_TAIL] + terms[j] * m[FR_BETA_TAIL] + FR_FLOOR > bar[j];
    }
    if (!__any_sync(FR_ALL, later)) break;  // norms have fallen: nobody needs this panel or any that follows
    if (!__any_sync(FR_ALL, alive)) continue;
    __syncwarp();
#pragma unroll
    for (int j = 0; j < OWN; ++j) {
#if FR_HALF
      float x = bar[j] - coded[j] * m[FR_RESIDUAL] - residual[j] * m[FR_NORM] - FR_FLOOR;
      if (beta) x = x - terms[j] * (beta_error * m[FR_BETA_ABS]);
      if (j * 32 + lane < WIDE) {
        thresholds[warp][j * 32 + lane] = bar[j] == FR_NEVER ? FR_INFINITY : x;
        if (beta) beta_steps[warp][j * 32 + lane] = terms[j];
      }
#else
      const float per = inverse[j] * m[FR_INVERSE];
      float x = bar[j] - coded[j] * m[FR_RESIDUAL] - residual[j] * m[FR_NORM];
      if (beta) x = x - terms[j] * (beta_error * m[FR_BETA_ABS]) - 2.0f * (step[j] * m[FR_SCALE]);
      // No item lies below -2^30: additive terms stay within 2^29 steps, codes within 2^28.  fmaxf first: of a NaN (an
      // infinity times zero) and a number it takes the number.
      x = fminf(fmaxf(x * per, -0x1p30f), 0x1p29f);
      if (j * 32 + lane < WIDE) {
        thresholds[warp][j * 32 + lane] = bar[j] == FR_NEVER ? 0x7fffffff : __float2int_rz(x) - 3;
        if (beta) beta_steps[warp][j * 32 + lane] = terms[j] * per;
      }
#endif
    }
    __syncwarp();
    fr_product sum[2][FR_TILES][4];
#pragma unroll
    for (int tile = 0; tile < FR_TILES; ++tile)
#pragma unroll
      for (int r = 0; r < 8; ++r) sum[r / 4][tile][r % 4] = 0;
    const uint4 *codes_of = items + ((fr_i64)panel - origin) * steps * 64 + lane;
#pragma unroll(FR_TILES > 2 ? 2 : 4)
    for (fr_i64 s = 0; s < steps; ++s) {
      const uint4 low = codes_of[s * 64], high = codes_of[s * 64 + 32];
      const unsigned a[4] = {low.x, low.y, low.z, low.w}, b[4] = {high.x, high.y, high.z, high.w};
#pragma unroll
      for (int tile = 0; tile < FR_TILES; ++tile) {
        const uint2 query = of_queries[(tile * steps + s) * 32 + lane];
        const unsigned q[2] = {query.x, query.y};
        FR_PRODUCT(sum[0][tile], a, q);
        FR_PRODUCT(sum[1][tile], b, q);
      }
    }
    fr_u32 columns = 0;  // pairs of (tile, c) in which this lane has a hit
#pragma unroll
    for (int tile = 0; tile < FR_TILES; ++tile)
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        const fr_product threshold = thresholds[warp][tile * 8 + pair + c];
        if (beta) {
          const float per = beta_steps[warp][tile * 8 + pair + c];
#pragma unroll
          for (int r = 0; r < 4; ++r) {  // items group, group + 8, group + 16, group + 24
            const float x = beta[(fr_i64)panel * FR_PANEL + group + 8 * r] * per;
#if FR_HALF
            sum[r / 2][tile][r % 2 * 2 + c] += x;
#else
            sum[r / 2][tile][r % 2 * 2 + c] += __float2int_rn(fminf(fmaxf(x, -0x1p30f), 0x1p30f));
#endif
          }
        }
        bool hit = false;
#pragma unroll
        for (int r = 0; r < 4; ++r) hit |= sum[r / 2][tile][r % 2 * 2 + c] > threshold;
        if (hit) columns |= 1u << (tile * 2 + c);
      }
    for (columns = __reduce_or_sync(FR_ALL, columns); columns; columns &= columns - 1) {
      const int at = __ffs((int)columns) - 1;
      const fr_product threshold = thresholds[warp][at / 2 * 8 + pair + at % 2];
      fr_product product[4] = {};
#pragma unroll
      for (int o = 0; o < 2 * FR_TILES; ++o)
#pragma unroll
        for (int r = 0; r < 4; ++r)
          if (o == at) product[r] = sum[r / 2][o / 2][r % 2 * 2 + o % 2];
#pragma unroll
      for (int r = 0; r < 4; ++r) {
        const bool hit = product[r] > threshold;
        const fr_u32 votes = __ballot_sync(FR_ALL, hit);
        if (hit) {
          const int slot = waiting + __popc(votes & ((1u << lane) - 1));
          hits[warp].positions[slot] = panel * FR_PANEL + group + 8 * r;
          hits[warp].products[slot] = product[r];
          hits[warp].columns[slot] = (unsigned char)(at / 2 * 8 + pair + at % 2);
        }
        waiting += __popc(votes);
      }
      if (waiting >= 32) finish();
    }
  }
  finish();
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
