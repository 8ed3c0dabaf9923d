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

// ---- with weights: words are sorted, and `weights` in their order ---------------------------------------------------------
// Sums of weights are float64, so their order matters: within a chunk a fixed tree, chunk after chunk.

// {weight of positives, of negatives} of each chunk of rows.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_masses(const fr_u64 *words, const double *weights, fr_i64 n,
                                                                         double *masses) {
  __shared__ double positive[FR_THREADS], negative[FR_THREADS];
  const int t = (int)threadIdx.x;
  const fr_i64 first = blockIdx.x * (fr_i64)FR_ROWS;
  double p = 0.0, q = 0.0;
  for (fr_i64 i = first + t; i < first + FR_ROWS && i < n; i += FR_THREADS) {
    if (words[i] & 1) p += weights[i];
    else q += weights[i];
  }
  positive[t] = p, negative[t] = q;
  __syncthreads();
  for (int d = FR_THREADS / 2; d; d /= 2) {
    if (t < d) positive[t] += positive[t + d], negative[t] += negative[t + d];
    __syncthreads();
  }
  if (t == 0) masses[2 * blockIdx.x] = positive[0], masses[2 * blockIdx.x + 1] = negative[0];
}

// Weight of positives, and of negatives, before each row and in all: (n + 1).
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_prefix(const fr_u64 *words, const double *weights, fr_i64 n,
                                                                         const double *masses, double *positives,
                                                                         double *negatives) {
  __shared__ double p[FR_THREADS], q[FR_THREADS], before[2];
  const int t = (int)threadIdx.x;
  const fr_i64 first = blockIdx.x * (fr_i64)FR_ROWS;
  if (t < 2) {
    double sum = 0.0;
    for (unsigned c = 0; c < blockIdx.x; ++c) sum += masses[2 * c + t];
    before[t] = sum;
    if (first == 0) (t ? negatives : positives)[0] = 0.0;
  }
  for (fr_i64 base = first; base < first + FR_ROWS && base < n; base += FR_THREADS) {
    const fr_i64 i = base + t;
    const bool here = i < n, clicked = here && (words[i] & 1);
    p[t] = clicked ? weights[i] : 0.0;
    q[t] = here && !clicked ? weights[i] : 0.0;
    __syncthreads();
    for (int d = 1; d < FR_THREADS; d *= 2) {
      const double more_p = t >= d ? p[t - d] : 0.0, more_q = t >= d ? q[t - d] : 0.0;
      __syncthreads();
      p[t] += more_p, q[t] += more_q;
      __syncthreads();
    }
    if (here) positives[i + 1] = before[0] + p[t], negatives[i + 1] = before[1] + q[t];
    __syncthreads();
    if (t == 0) before[0] += p[FR_THREADS - 1];
    if (t == 1) before[1] += q[FR_THREADS - 1];
    __syncthreads();
  }
}

// Sums of a chunk of rows: {pairs in order, precision, ks, f1}.  A row adds its own weight times what its block of ties
// sees, so that no difference of large sums is taken.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_weighted(const fr_u64 *words, const double *weights, fr_i64 n,
                                                                           const fr_i64 *number, const fr_i64 *starts,
                                                                           const double *positives, const double *negatives,
                                                                           double *sums) {
  __shared__ double tree[4][FR_THREADS];
  const int t = (int)threadIdx.x;
  const fr_i64 first = blockIdx.x * (fr_i64)FR_ROWS;
  const double all = positives[n], others = negatives[n];
  double pairs = 0.0, precision = 0.0, ks = -1.0, f1 = -1.0;
  for (fr_i64 i = first + t; i < first + FR_ROWS && i < n; i += FR_THREADS) {
    const fr_i64 block = number[i] - 1, from = starts[block], to = starts[block + 1];
    const double w = weights[i], tp = positives[to], fp = negatives[to];
    if (w > 0.0) {
      if (words[i] & 1) precision += w * (tp / (tp + fp));
      else pairs += w * (0.5 * (positives[from] + tp));
    }
    ks = fmax(ks, fabs(tp * others - fp * all));
    if (all + tp + fp > 0.0) f1 = fmax(f1, 2.0 * tp / (tp + fp + all));
  }
  tree[0][t] = pairs, tree[1][t] = precision, tree[2][t] = ks, tree[3][t] = f1;
  __syncthreads();
  for (int d = FR_THREADS / 2; d; d /= 2) {
    if (t < d) {
      tree[0][t] += tree[0][t + d], tree[1][t] += tree[1][t + d];
      tree[2][t] = fmax(tree[2][t], tree[2][t + d]), tree[3][t] = fmax(tree[3][t], tree[3][t + d]);
    }
    __syncthreads();
  }
  if (t < 4) sums[4 * blockIdx.x + t] = tree[t][0];
}

// {weight of positives, of negatives, of pairs in order} of each group, by a warp; `within` (n) is scratch.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_weighted_groups(
    const fr_u64 *words, const double *weights, const fr_i64 *number, const fr_i64 *starts, const fr_i64 *offsets, fr_i64 groups,
    double *within, double *sums) {
  const int lane = (int)threadIdx.x & 31;
  const fr_i64 warps = (fr_i64)gridDim.x * (FR_THREADS / 32);
  for (fr_i64 g = (fr_i64)blockIdx.x * (FR_THREADS / 32) + threadIdx.x / 32; g < groups; g += warps) {
    const fr_i64 from = offsets[g], to = offsets[g + 1];
    double positive = 0.0, negative = 0.0, pairs = 0.0;
    for (fr_i64 base = from; base < to; base += 32) {  // weight of the group's positives up to and with each row
      const fr_i64 i = base + lane;
      const bool here = i < to, clicked = here && (words[i] & 1);
      double sum = clicked ? weights[i] : 0.0;
      if (here && !clicked) negative += weights[i];
      for (int d = 1; d < 32; d *= 2) {
        const double more = __shfl_up_sync(0xffffffffu, sum, (unsigned)d);
        if (lane >= d) sum += more;
      }
      if (here) within[i] = positive + sum;
      positive += __shfl_sync(0xffffffffu, sum, 31);
    }
    __syncwarp();
    for (fr_i64 i = from + lane; i < to; i += 32) {
      if (words[i] & 1) continue;
      const fr_i64 block = number[i] - 1, start = starts[block], end = starts[block + 1];
      pairs += weights[i] * (0.5 * ((start > from ? within[start - 1] : 0.0) + within[end - 1]));
    }
    for (int d = 16; d; d /= 2) {
      negative += __shfl_xor_sync(0xffffffffu, negative, d);
      pairs += __shfl_xor_sync(0xffffffffu, pairs, d);
    }
    if (lane == 0) sums[3 * g] = positive, sums[3 * g + 1] = negative, sums[3 * g + 2] = pairs;
  }
}

// ---- rows in any order ---------------------------------------------------------------------------------------------------

// The label of a row: 0 or 1, or where `targets` are given a real number.
__device__ __forceinline__ double fr_target(const unsigned char *labels, const double *targets, fr_i64 i) {
  return targets ? targets[i] : (double)labels[i];
}

// Sums of a chunk of rows: {w, w y, w p, w loss, w (p - y)^2, w |p - y|, w (y - centre)^2} and, where bins are asked for,
// {w, w y, w p} of the `bins` + 1 bins that begin at `edges`.  A thread owns a bin and adds its rows in order.  No weights:
// all 1.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_points(
    const unsigned char *labels, const double *targets, const float *p32, const double *p64, const double *weights, fr_i64 n,
    int loss, double eps, double centre, const double *edges, int bins, double *sums, double *bin_sums) {
  __shared__ double tree[FR_THREADS], prob[FR_THREADS], weight[FR_THREADS], label[FR_THREADS];
  __shared__ int where[FR_THREADS];
  const int t = (int)threadIdx.x;
  const fr_i64 first = blockIdx.x * (fr_i64)FR_ROWS;
  double total[7] = {0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0}, mine[3] = {0.0, 0.0, 0.0};
  for (fr_i64 base = first; base < first + FR_ROWS && base < n; base += FR_THREADS) {
    const fr_i64 i = base + t;
    if (i < n) {
      const double p = p32 ? (double)p32[i] : p64[i], y = fr_target(labels, targets, i), w = weights ? weights[i] : 1.0;
      total[0] += w;
      total[1] += w * y;
      total[2] += w * p;
      if (loss && w > 0.0) {
        const double q = 1.0 - p, high = 1.0 - eps;
        if (y != 0.0) total[3] -= w * (y * log(p < eps ? eps : p > high ? high : p));
        if (y != 1.0) total[3] -= w * ((1.0 - y) * log(q < eps ? eps : q > high ? high : q));
      }
      total[4] += w * ((p - y) * (p - y));
      total[5] += w * fabs(p - y);
      total[6] += w * ((y - centre) * (y - centre));
      if (edges) {
        int low = 0, end = bins + 1;  // the last edge that p reaches; the first is below all
        while (end - low > 1) {
          const int middle = (low + end) / 2;
          if (p >= edges[middle]) low = middle;
          else end = middle;
        }
        where[t] = low;
        prob[t] = p;
        weight[t] = w;
        label[t] = y;
      }
    }
    if (edges) {
      __syncthreads();
      if (t <= bins) {
        const int rows = n - base < FR_THREADS ? (int)(n - base) : FR_THREADS;
        for (int j = 0; j < rows; ++j) {
          if (where[j] != t) continue;
          mine[0] += weight[j];
          mine[1] += weight[j] * label[j];
          mine[2] += weight[j] * prob[j];
        }
      }
      __syncthreads();
    }
  }
  for (int s = 0; s < 7; ++s) {
    tree[t] = total[s];
    __syncthreads();
    for (int d = FR_THREADS / 2; d; d /= 2) {
      if (t < d) tree[t] += tree[t + d];
      __syncthreads();
    }
    if (t == 0) sums[7 * blockIdx.x + s] = tree[0];
    __syncthreads();
  }
  if (edges && t <= bins)
    for (int s = 0; s < 3; ++s) bin_sums[((fr_i64)blockIdx.x * (bins + 1) + t) * 3 + s] = mine[s];
}

// {w, w y, w p} of each segment of rows in an order, by a warp: groups, or more bins than a block has threads.
extern "C" __global__ void __launch_bounds__(FR_THREADS) fr_click_segments(
    const fr_i64 *order, const fr_i64 *offsets, fr_i64 segments, const unsigned char *labels, const double *targets,
    const float *p32, const double *p64, const double *weights, double *sums) {
  const int lane = (int)threadIdx.x & 31;
  const fr_i64 warps = (fr_i64)gridDim.x * (FR_THREADS / 32);
  for (fr_i64 g = (fr_i64)blockIdx.x * (FR_THREADS / 32) + threadIdx.x / 32; g < segments; g += warps) {
    double total[3] = {0.0, 0.0, 0.0};
    for (fr_i64 at = offsets[g] + lane; at < offsets[g + 1]; at += 32) {
      const fr_i64 i = order[at];
      const double w = weights ? weights[i] : 1.0;
      total[0] += w;
      total[1] += w * fr_target(labels, targets, i);
      total[2] += w * (p32 ? (double)p32[i] : p64[i]);
    }
    for (int s = 0; s < 3; ++s) {
      for (int d = 16; d; d /= 2) total[s] += __shfl_xor_sync(0xffffffffu, total[s], d);
      if (lane == 0) sums[3 * g + s] = total[s];
    }
  }
}
