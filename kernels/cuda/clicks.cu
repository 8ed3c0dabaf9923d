// Click metrics: words that sort as the scores fall, sums over blocks of tied scores, and sums over rows.
//
// A word is group << 33 | code << 1 | label, where codes grow as scores fall.  Counts are integers, exact in any order;
// float64 sums are made in a fixed order within each chunk, and the chunks are added exactly by the caller.

typedef long long fr_i64;
typedef unsigned long long fr_u64;

#define FR_THREADS 256
#define FR_TIES (16 * FR_THREADS)    // tie blocks of a chunk of fr_click_sweep
#define FR_ROWS (256 * FR_THREADS)   // rows of a chunk of fr_click_points

__device__ __forceinline__ fr_u64 fr_falling32(float x) {
  const unsigned bits = __float_as_uint(x + 0.0f);  // -0.0 is 0.0
  return (bits >> 31 ? bits : ~bits & 0x7fffffffu) & 0xffffffffu;
}

// Codes of float64 scores, which need ranks for they leave no room in a word.
extern "C" __global__ void __launch_bounds__(256) fr_click_codes(const double *p, fr_i64 n, fr_u64 *codes) {
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < n; i += (fr_i64)gridDim.x * blockDim.x) {
    const fr_u64 bits = (fr_u64)__double_as_longlong(p[i] + 0.0);
    codes[i] = bits >> 63 ? bits : ~bits & 0x7fffffffffffffffull;
  }
}

extern "C" __global__ void __launch_bounds__(256) fr_click_pack(const float *p, const fr_i64 *ranks,
                                                                const unsigned char *labels, const int *groups,
                                                                fr_i64 n, fr_u64 *words) {
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < n; i += (fr_i64)gridDim.x * blockDim.x) {
    const fr_u64 code = ranks ? (fr_u64)ranks[i] : fr_falling32(p[i]);
    words[i] = (groups ? (fr_u64)groups[i] << 33 : 0) | code << 1 | labels[i];
  }
}

// Where each block of equal scores (of one group) begins; `number` holds the blocks up to and with each row.
extern "C" __global__ void __launch_bounds__(256) fr_click_starts(const fr_u64 *words, const fr_i64 *number, fr_i64 n,
                                                                  fr_i64 *starts) {
  for (fr_i64 i = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; i < n; i += (fr_i64)gridDim.x * blockDim.x) {
    if (i == 0 || words[i] >> 1 != words[i - 1] >> 1) starts[number[i] - 1] = i;
    if (i == n - 1) starts[number[i]] = n;
  }
}

struct fr_best {
  double value;
  fr_i64 at;
};
__device__ __forceinline__ void fr_better(fr_best &a, double value, fr_i64 at) {  // the first of the largest
  if (value > a.value || (value == a.value && at < a.at)) {
    a.value = value;
    a.at = at;
  }
}

// Sums of a chunk of tie blocks.  positives: (n + 1), before each row.  doubles: {precision, ks, f1} a chunk; integers:
// {twice the pairs in order, tie block of ks, tie block of f1}.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_sweep(const fr_i64 *starts, const fr_i64 *positives,
                                                                        const fr_i64 *blocks, fr_i64 n, double *doubles,
                                                                        fr_i64 *integers) {
  __shared__ double precision[FR_THREADS], ks[FR_THREADS], f1[FR_THREADS];
  __shared__ fr_i64 pairs[FR_THREADS], ks_at[FR_THREADS], f1_at[FR_THREADS];
  const int t = (int)threadIdx.x;
  const fr_i64 count = blocks[0], all = positives[n], others = n - all, first = blockIdx.x * (fr_i64)FR_TIES;
  double sum = 0.0;
  fr_i64 pairs2 = 0;
  fr_best gap = {-1.0, n}, top = {-1.0, n};
  for (fr_i64 b = first + t; b < first + FR_TIES && b < count; b += FR_THREADS) {
    const fr_i64 from = starts[b], to = starts[b + 1], tp0 = positives[from], tp = positives[to];
    const fr_i64 pos = tp - tp0, neg = to - from - pos, fp = to - tp;
    pairs2 += neg * (2 * tp0 + pos);
    if (pos) sum += (double)pos * ((double)tp / (double)to);
    fr_better(gap, fabs((double)tp * (double)others - (double)fp * (double)all), b);
    fr_better(top, 2.0 * (double)tp / ((double)to + (double)all), b);
  }
  precision[t] = sum;
  pairs[t] = pairs2;
  ks[t] = gap.value;
  ks_at[t] = gap.at;
  f1[t] = top.value;
  f1_at[t] = top.at;
  __syncthreads();
  for (int d = FR_THREADS / 2; d; d /= 2) {
    if (t < d) {
      precision[t] += precision[t + d];
      pairs[t] += pairs[t + d];
      fr_best a = {ks[t], ks_at[t]}, b = {f1[t], f1_at[t]};
      fr_better(a, ks[t + d], ks_at[t + d]);
      fr_better(b, f1[t + d], f1_at[t + d]);
      ks[t] = a.value;
      ks_at[t] = a.at;
      f1[t] = b.value;
      f1_at[t] = b.at;
    }
    __syncthreads();
  }
  if (t == 0) {
    doubles[3 * blockIdx.x] = precision[0];
    doubles[3 * blockIdx.x + 1] = ks[0];
    doubles[3 * blockIdx.x + 2] = f1[0];
    integers[3 * blockIdx.x] = pairs[0];
    integers[3 * blockIdx.x + 1] = ks_at[0];
    integers[3 * blockIdx.x + 2] = f1_at[0];
  }
}

// Twice the pairs in order of each group, added to `pairs2`; words are sorted by group first.
extern "C" __global__ void __launch_bounds__(256) fr_click_groups(const fr_u64 *words, const fr_i64 *starts,
                                                                  const fr_i64 *positives, const fr_i64 *blocks,
                                                                  const fr_i64 *offsets, fr_u64 *pairs2) {
  const fr_i64 count = blocks[0];
  for (fr_i64 b = blockIdx.x * (fr_i64)blockDim.x + threadIdx.x; b < count; b += (fr_i64)gridDim.x * blockDim.x) {
    const fr_i64 from = starts[b], to = starts[b + 1], group = (fr_i64)(words[from] >> 33);
    const fr_i64 before = positives[from] - positives[offsets[group]], pos = positives[to] - positives[from];
    const fr_i64 pairs = (to - from - pos) * (2 * before + pos);
    if (pairs) atomicAdd(&pairs2[group], (fr_u64)pairs);
  }
}

// Sums of a chunk of rows: {y, p, loss, (p - y)^2, |p - y|} and, where bins are asked for, {rows, y, p} of each of
// `bins` + 1 bins, the last for p = 1.  A thread owns a bin and adds its rows in order.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_points(
    const unsigned char *labels, const float *p32, const double *p64, fr_i64 n, int loss, double eps, const double *edges,
    int bins, double *sums, double *bin_sums) {
  __shared__ double tree[FR_THREADS], prob[FR_THREADS];
  __shared__ int where[FR_THREADS];  // bin << 1 | label
  const int t = (int)threadIdx.x;
  const fr_i64 first = blockIdx.x * (fr_i64)FR_ROWS;
  double total[5] = {0.0, 0.0, 0.0, 0.0, 0.0}, mine[3] = {0.0, 0.0, 0.0};
  for (fr_i64 base = first; base < first + FR_ROWS && base < n; base += FR_THREADS) {
    const fr_i64 i = base + t;
    if (i < n) {
      const double p = p32 ? (double)p32[i] : p64[i], y = (double)labels[i];
      total[0] += y;
      total[1] += p;
      if (loss) {
        double likelihood = labels[i] ? p : 1.0 - p;
        likelihood = likelihood < eps ? eps : likelihood > 1.0 - eps ? 1.0 - eps : likelihood;
        total[2] -= log(likelihood);
      }
      total[3] += (p - y) * (p - y);
      total[4] += fabs(p - y);
      if (bins) {
        int b = (int)(p * (double)bins);
        while (b > 0 && p < edges[b]) --b;
        while (b < bins && p >= edges[b + 1]) ++b;
        where[t] = b << 1 | labels[i];
        prob[t] = p;
      }
    }
    if (bins) {
      __syncthreads();
      if (t <= bins) {
        const int rows = n - base < FR_THREADS ? (int)(n - base) : FR_THREADS;
        for (int j = 0; j < rows; ++j) {
          if (where[j] >> 1 != t) continue;
          mine[0] += 1.0;
          mine[1] += (double)(where[j] & 1);
          mine[2] += prob[j];
        }
      }
      __syncthreads();
    }
  }
  for (int s = 0; s < 5; ++s) {
    tree[t] = total[s];
    __syncthreads();
    for (int d = FR_THREADS / 2; d; d /= 2) {
      if (t < d) tree[t] += tree[t + d];
      __syncthreads();
    }
    if (t == 0) sums[5 * blockIdx.x + s] = tree[0];
    __syncthreads();
  }
  if (bins && t <= bins)
    for (int s = 0; s < 3; ++s) bin_sums[((fr_i64)blockIdx.x * (bins + 1) + t) * 3 + s] = mine[s];
}
