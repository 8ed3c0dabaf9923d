// Building the packed index on the card: norms, codes with one scale a panel, bounds rounded outwards; and the float form
// of a stretch of it.  The numbers are those of kernels/cpu/pack.isa.cpp.
// variants: FR_ITEM=0,1,2
#include "canonical.cuh"
#include "query.cuh"

// Where the code of dimension t of item i of a panel lies: a panel is `steps` products of 32 dimensions for two halves of
// 16 items, each as the 32 lanes hold it for fr_mma_s8_m16n8k32 (mma.cuh), 16 bytes a lane.
__device__ __forceinline__ fr_i64 fr_code_at(fr_i64 panel, fr_i64 steps, int i, fr_i64 t) {
  const int k = (int)(t % 32), word = k / 16 * 2 + i % 16 / 8, lane = i % 8 * 4 + k % 16 / 4;
  return (((panel * steps + t / 32) * 2 + i / 16) * 32 + lane) * 16 + word * 4 + k % 4;
}

// The same for bfloat16: products of 16 dimensions, 8 values a lane as fr_mma_bf16_m16n8k16 holds them.
__device__ __forceinline__ fr_i64 fr_half_at(fr_i64 panel, fr_i64 steps, int i, fr_i64 t) {
  const int k = (int)(t % 16), word = k / 8 * 2 + i % 16 / 8, lane = i % 8 * 4 + k % 8 / 2;
  return (((panel * steps + t / 16) * 2 + i / 16) * 32 + lane) * 8 + word * 2 + k % 2;
}

extern "C" {

// Euclidean norms in float64; infinity where a value is infinite, NaN where one is NaN.  Eight lanes an item.
__global__ void __launch_bounds__(FR_THREADS) fr_norms(const fr_item *items, fr_i64 n, fr_i64 d, fr_i64 stride, double *norms) {
  const fr_i64 step = (fr_i64)gridDim.x * (FR_THREADS / 8);
  for (fr_i64 first = (fr_i64)blockIdx.x * (FR_THREADS / 8) + threadIdx.x / 32 * 4; first < n; first += step) {
    const fr_i64 own = first + threadIdx.x % 32 / 8, i = own < n ? own : first;
    double squares = 0.0;
    for (fr_i64 t = threadIdx.x & 7; t < d; t += 8) {
      const double x = fr_value(items[i * stride + t]);
      squares = __fma_rn(x, x, squares);
    }
    squares = fr_tree(squares);
    if (own < n && threadIdx.x % 8 == 0) norms[own] = __dsqrt_rn(squares);
  }
}

// Panels begin..end of `codes` or `halves` (null: none), `meta` and `beta` (null: none).  One warp a panel, one lane an
// item.  Tail maxima and the last record of meta are left to the caller.
__global__ void __launch_bounds__(FR_THREADS, 2) fr_pack(const fr_item *items, fr_i64 d, fr_i64 stride, int metric,
                                                         const float *bias, const fr_u32 *order, int exponent, fr_i64 begin,
                                                         fr_i64 end, fr_i64 steps, signed char *codes,
                                                         unsigned short *halves, float *meta, float *beta) {
  const int lane = threadIdx.x & 31;
  const fr_i64 warps = (fr_i64)gridDim.x * (FR_THREADS / 32);
  const double unit = ldexp(1.0, -exponent);
  for (fr_i64 panel = begin + (fr_i64)blockIdx.x * (FR_THREADS / 32) + threadIdx.x / 32; panel < end; panel += warps) {
    const fr_u32 row = order[panel * FR_PANEL + lane];
    const bool real = row != FR_PADDING;
    const fr_item *item = items + (real ? (fr_i64)row : 0) * stride;
    double squares = 0.0, top = 0.0, factor = 0.0, norm = 0.0, term = 0.0;
    if (real) {
      for (fr_i64 piece = 0; piece < d; piece += 512) {
        double l[8] = {0, 0, 0, 0, 0, 0, 0, 0};
        const fr_i64 length = d - piece < 512 ? d - piece : 512;
        fr_i64 t = 0;
        for (; t + 8 <= length; t += 8)
#pragma unroll
          for (int j = 0; j < 8; ++j) {
            const double x = fr_value(item[piece + t + j]);
            l[j] = __fma_rn(x, x, l[j]);
            top = fabs(x) > top ? fabs(x) : top;
          }
#pragma unroll
        for (int j = 0; j < 8; ++j)
          if (t + j < length) {
            const double x = fr_value(item[piece + t + j]);
            l[j] = __fma_rn(x, x, l[j]);
            top = fabs(x) > top ? fabs(x) : top;
          }
        squares += ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
      }
      const double length = sqrt(squares);
      factor = metric == FR_COSINE ? (length == 0.0 ? 0.0 : 1.0 / length) : unit;
      norm = length * factor;
      if (beta) {
        term = bias ? (double)bias[row] : 0.0;
        if (metric == FR_L2) term = (term - squares) * unit * unit;
        else if (metric == FR_DOT) term *= unit;
      }
    }
    if (beta) beta[panel * FR_PANEL + lane] = (float)term;
    double largest = top * factor, most = norm, beta_max = real ? term : -(double)FR_INFINITY, beta_abs = fabs(term);
    for (int other = 16; other; other /= 2) {
      largest = fmax(largest, __shfl_xor_sync(FR_ALL, largest, other));
      most = fmax(most, __shfl_xor_sync(FR_ALL, most, other));
      beta_max = fmax(beta_max, __shfl_xor_sync(FR_ALL, beta_max, other));
      beta_abs = fmax(beta_abs, __shfl_xor_sync(FR_ALL, beta_abs, other));
    }
    if (!beta) beta_abs = 0.0;
    float scale = (float)(largest / 127.0);
    if (scale < (float)beta_abs * 0x1p-15f) scale = (float)beta_abs * 0x1p-15f;
    if (!(scale > 0x1p-60f)) scale = 0x1p-60f;
    double worst = 0.0;
    if (codes) {
      const double inverse = 1.0 / (double)scale, per = factor * inverse;
      for (fr_i64 t = 0; t < 32 * steps; ++t) {
        double c = 0.0;
        if (real && t < d) {
          const double x = fr_value(item[t]);
          c = rint(x * per);
          c = c > 127.0 ? 127.0 : c < -127.0 ? -127.0 : c;
          const double e = x * factor - c * (double)scale;
          worst += e * e;
        }
        codes[fr_code_at(panel, steps, lane, t)] = (signed char)(int)c;
      }
    }
    if (halves)
      for (fr_i64 t = 0; t < 16 * steps; ++t) {
        const double x = real && t < d ? fr_value(item[t]) * factor : 0.0;
        const unsigned short half = fr_bf16(x);
        const double e = x - fr_of_bf16(half);
        worst += e * e;
        halves[fr_half_at(panel, steps, lane, t)] = half;
      }
    for (int other = 16; other; other /= 2) worst = fmax(worst, __shfl_xor_sync(FR_ALL, worst, other));
    if (lane == 0) {
      const double out = 1.0 + 0x1p-40;  // covers the float64 rounding of the sums above
      float *m = meta + panel * FR_META;
      m[FR_SCALE] = scale;
      m[FR_RESIDUAL] = __double2float_ru(sqrt(worst) * out + most * 0x1p-48);
      m[FR_NORM] = __double2float_ru(most * out);
      m[FR_BETA_MAX] = beta ? __double2float_ru(beta_max + beta_abs * 0x1p-20) : 0.0f;
      m[FR_BETA_ABS] = __double2float_ru(beta_abs);
      m[FR_BETA_TAIL] = m[FR_BETA_MAX];
      m[FR_INVERSE] = 1.0f / scale;
      m[FR_NORM_TAIL] = m[FR_NORM];
    }
  }
}

// Positions begin..begin + count as floats in item units, (count, d): what the float screen multiplies.  Where `gathered`
// is set, item i of the stretch is row i of `items`.
__global__ void __launch_bounds__(FR_THREADS) fr_unpack(const fr_item *items, fr_i64 d, fr_i64 stride, int metric,
                                                        const fr_u32 *order, int exponent, fr_i64 begin, fr_i64 count,
                                                        int gathered, float *out) {
  const fr_i64 step = (fr_i64)gridDim.x * (FR_THREADS / 8);
  const double unit = ldexp(1.0, -exponent);
  for (fr_i64 first = (fr_i64)blockIdx.x * (FR_THREADS / 8) + threadIdx.x / 32 * 4; first < count; first += step) {
    const fr_i64 own = first + threadIdx.x % 32 / 8, i = own < count ? own : first;
    const fr_u32 row = order[begin + i];
    const fr_item *item = items + (gathered ? i : row == FR_PADDING ? 0 : (fr_i64)row) * stride;
    double factor = unit;
    if (metric == FR_COSINE) {
      double squares = 0.0;
      for (fr_i64 t = threadIdx.x & 7; t < d; t += 8) {
        const double x = fr_value(item[t]);
        squares = __fma_rn(x, x, squares);
      }
      const double norm = __dsqrt_rn(fr_tree(squares));
      factor = norm == 0.0 ? 0.0 : 1.0 / norm;
    }
    if (own < count)
      for (fr_i64 t = threadIdx.x & 7; t < d; t += 8)
        out[own * d + t] = row == FR_PADDING ? 0.0f : (float)((double)fr_value(item[t]) * factor);
  }
}

// The largest norm and additive term from each panel on, and the last record: over all panels.  One block of FR_THREADS.
__global__ void __launch_bounds__(FR_THREADS) fr_tails(float *meta, fr_i64 panels, float shuffled) {
  __shared__ float norms[FR_THREADS], terms[FR_THREADS], sizes[FR_THREADS];
  const int thread = threadIdx.x;
  const fr_i64 each = (panels + FR_THREADS - 1) / FR_THREADS, begin = thread * each < panels ? thread * each : panels;
  const fr_i64 end = begin + each < panels ? begin + each : panels;
  float norm = 0.0f, term = -FR_INFINITY, size = 0.0f;
  for (fr_i64 p = begin; p < end; ++p) {
    norm = fmaxf(norm, meta[p * FR_META + FR_NORM]);
    term = fmaxf(term, meta[p * FR_META + FR_BETA_MAX]);
    size = fmaxf(size, meta[p * FR_META + FR_BETA_ABS]);
  }
  norms[thread] = norm, terms[thread] = term, sizes[thread] = size;
  __syncthreads();
  norm = 0.0f, term = -FR_INFINITY;
  for (int later = thread + 1; later < FR_THREADS; ++later) norm = fmaxf(norm, norms[later]), term = fmaxf(term, terms[later]);
  for (fr_i64 p = end - 1; p >= begin; --p) {
    float *m = meta + p * FR_META;
    m[FR_NORM_TAIL] = norm = fmaxf(norm, m[FR_NORM]);
    m[FR_BETA_TAIL] = term = fmaxf(term, m[FR_BETA_MAX]);
  }
  if (thread) return;
  for (int i = 1; i < FR_THREADS; ++i) norms[0] = fmaxf(norms[0], norms[i]), sizes[0] = fmaxf(sizes[0], sizes[i]);
  meta[panels * FR_META + FR_ALL_BETA] = sizes[0];
  meta[panels * FR_META + FR_ALL_NORM] = norms[0];
  meta[panels * FR_META + 2] = shuffled;
}
}
