// Linear models and their samples: kernels/cpu/learning.isa.cpp on a card, in the same order of additions, so that
// logits, losses, gradients and every step of training have the CPU's bits.
//
// There, a sum runs in eight lanes by position within a row and ends in a fixed tree; here a lane is a lane of a warp.
// Gradients grow row by row within a slice of a batch, and slice by slice; a slice is a block.  Nothing is fused
// (-fmad=false), and the logistic function is the CPU's own, not the library's.
// variants: FR_WIDE=0,1
#include "canonical.cuh"

#if FR_WIDE
typedef double fr_feature;
#else
typedef float fr_feature;
#endif

enum { FR_NONE = 0, FR_SGD = 1, FR_ADAM = 2 };                         // SOLVERS of kernels/cpu/learning.pyx
enum { FR_PROBABILITY = 0, FR_LOSS = 1, FR_RESIDUAL = 2, FR_ERROR = 3, FR_EL2N = 4, FR_NORM_OF = 5 };  // its KINDS
enum { FR_CHUNK = 64 };                                                // rows of a slice that are taken together

// exp(x) for x <= 0; 0 below -708.
__device__ __forceinline__ double fr_exp_of_negative(double x) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  const double shifted = x * 1.44269504088896338700 + magic, k = shifted - magic;
  const double r = (x - k * 6.93147180369123816490e-01) - k * 1.90821492927058770002e-10, r2 = r * r;
  double even = 1.0 / 479001600.0, odd = 1.0 / 6227020800.0;
  even = even * r2 + 1.0 / 3628800.0;
  odd = odd * r2 + 1.0 / 39916800.0;
  even = even * r2 + 1.0 / 40320.0;
  odd = odd * r2 + 1.0 / 362880.0;
  even = even * r2 + 1.0 / 720.0;
  odd = odd * r2 + 1.0 / 5040.0;
  even = even * r2 + 1.0 / 24.0;
  odd = odd * r2 + 1.0 / 120.0;
  even = even * r2 + 0.5;
  odd = odd * r2 + 1.0 / 6.0;
  const double p = (even * r2 + (odd * r2) * r) + r;
  const double power = __longlong_as_double((fr_i64)(((fr_u64)__double_as_longlong(shifted) + 1023) << 52));
  return x < -708.0 ? 0.0 : (p + 1.0) * power;
}

// log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e)).
__device__ __forceinline__ double fr_log1p_of_unit(double e) {
  const double s = e / (2.0 + e), s2 = s * s, s4 = s2 * s2;
  double even = 1.0 / 33, odd = 1.0 / 31;
#pragma unroll
  for (int k = 29; k >= 5; k -= 4) {
    even = even * s4 + 1.0 / k;
    odd = odd * s4 + 1.0 / (k - 2);
  }
  const double p = (even * s4 + odd * s2) * s + s;
  return p + p;
}

// With m = t z: -t sigma(-m), the derivative of the loss log(1 + exp(-m)).
__device__ __forceinline__ double fr_residual(double z, double t, double *loss) {
  const double m = t * z, e = fr_exp_of_negative(-(m < 0.0 ? -m : m));
  if (loss) *loss = (m < 0.0 ? -m : 0.0) + fr_log1p_of_unit(e);
  return -t * ((m < 0.0 ? 1.0 : e) / (1.0 + e));
}

// x . w, and where `squared` |x|^2, of one row by eight lanes; all 32 must call.
__device__ __forceinline__ double fr_row_dot(const fr_feature *values, const fr_i64 *indptr, const int *indices, fr_i64 row,
                                             fr_i64 columns, const double *w, bool squared, double &square) {
  const fr_i64 from = indptr ? indptr[row] : row * columns, count = indptr ? indptr[row + 1] - from : columns;
  double a = 0.0, s = 0.0;
#pragma unroll 4
  for (fr_i64 t = threadIdx.x & 7; t < count; t += 8) {
    const double x = (double)values[from + t];
    a = a + x * w[indices ? (fr_i64)indices[from + t] : t];
    s = s + x * x;
  }
  if (squared) square = fr_tree(s);
  return fr_tree(a);
}

// One step of parameter j along its gradient.
__device__ __forceinline__ void fr_move(int solver, double rate, double beta1, double beta2, double epsilon, double first_rate,
                                        double second_root, fr_i64 j, double g, double *w, double *first, double *second) {
  if (solver == FR_SGD) {
    w[j] = w[j] - rate * g;
    return;
  }
  const double m = beta1 * first[j] + (1.0 - beta1) * g, v = beta2 * second[j] + (1.0 - beta2) * (g * g);
  first[j] = m, second[j] = v;
  w[j] = w[j] - first_rate * m / (sqrt(v) * second_root + epsilon);
}

extern "C" {

// scores: x . w[0..columns) + w[columns]; squares (null: not wanted): |x|^2 + extra.  Eight lanes a row.
__global__ void __launch_bounds__(FR_THREADS) fr_linear_forward(const fr_feature *values, const fr_i64 *indptr, const int *indices,
                                                                fr_i64 rows, fr_i64 columns, const double *w, double extra,
                                                                double *scores, double *squares) {
  const fr_i64 step = (fr_i64)gridDim.x * (FR_THREADS / 8);
  for (fr_i64 first = (fr_i64)blockIdx.x * (FR_THREADS / 8) + threadIdx.x / 32 * 4; first < rows; first += step) {
    const fr_i64 own = first + threadIdx.x % 32 / 8;
    double square = 0.0;
    const double score = fr_row_dot(values, indptr, indices, own < rows ? own : first, columns, w, squares != nullptr, square);
    if (own >= rows || threadIdx.x % 8) continue;
    scores[own] = score + w[columns];
    if (squares) squares[own] = square + extra;
  }
}

// A function of each score and label, see logistic_map; one of out32 and out64 is null.
__global__ void __launch_bounds__(FR_THREADS) fr_logistic_map(const double *scores, const signed char *target, const double *squares,
                                                              const double *weight, fr_i64 rows, int kind, float *out32,
                                                              double *out64) {
  for (fr_i64 i = (fr_i64)blockIdx.x * FR_THREADS + threadIdx.x; i < rows; i += (fr_i64)gridDim.x * FR_THREADS) {
    double loss;
    const double t = kind == FR_PROBABILITY ? -1.0 : (double)target[i];
    double y = fr_residual(scores[i], t, &loss);
    if (kind == FR_LOSS) y = loss;
    else if (kind >= FR_ERROR) y = y < 0.0 ? -y : y;
    if (kind == FR_EL2N) y = y * 1.41421356237309504880;
    else if (kind == FR_NORM_OF) y = y * sqrt(squares[i]);
    if (weight) y = y * weight[i];
    if (out32) out32[i] = (float)y;
    else out64[i] = y;
  }
}

// One batch of dense rows, positions begin..end of `order` (null: the rows in order): a block takes a slice, 64 rows at a
// time while they are near; the block that ends last adds the slices up, in order, and steps.  `done` is 0 before and after.
__global__ void __launch_bounds__(FR_THREADS, 2) fr_logistic_batch(
    const fr_feature *values, fr_i64 columns, const fr_i64 *order, fr_i64 begin, fr_i64 end, const signed char *target,
    const double *weight, double l2, fr_i64 slice_rows, int solver, int intercept, double rate, double beta1, double beta2,
    double epsilon, double first_rate, double second_root, double *parameters, double *first, double *second, double *gradient,
    double *slice_losses, fr_u32 *done, double *loss) {
  __shared__ double residuals[FR_CHUNK], losses[FR_CHUNK];
  __shared__ fr_i64 row_of[FR_CHUNK];
  __shared__ int last;
  const fr_i64 from = begin + blockIdx.x * slice_rows, to = from + slice_rows < end ? from + slice_rows : end;
  double *own = gradient + blockIdx.x * (columns + 1);
  for (fr_i64 j = threadIdx.x; j < columns; j += FR_THREADS) own[j] = 0.0;
  double bias = 0.0, sum = 0.0;
  for (fr_i64 at = from; at < to; at += FR_CHUNK) {
    const int rows = to - at < FR_CHUNK ? (int)(to - at) : FR_CHUNK;
    for (int r = (int)threadIdx.x / 8; r < FR_CHUNK; r += FR_THREADS / 8) {  // whole warps
      const bool real = r < rows;
      const fr_i64 position = at + (real ? r : 0), row = order ? order[position] : position;
      double unused;
      const double z = fr_row_dot(values, nullptr, nullptr, row, columns, parameters, false, unused) + parameters[columns];
      if (threadIdx.x % 8) continue;
      double l;
      const double s = weight ? weight[row] : 1.0, residual = fr_residual(z, (double)target[row], &l);
      row_of[r] = row, residuals[r] = residual * s, losses[r] = real ? l * s : 0.0;
    }
    __syncthreads();
    for (fr_i64 j = threadIdx.x; j < columns; j += FR_THREADS) {
      double g = own[j];
#pragma unroll 8
      for (int r = 0; r < rows; ++r) g = g + residuals[r] * (double)values[row_of[r] * columns + j];
      own[j] = g;
    }
    if (threadIdx.x >= FR_THREADS - 32) {
      double lanes = 0.0;
      for (int r = 0; r < FR_CHUNK; r += 8) lanes = lanes + losses[r + (threadIdx.x & 7)];
      sum = sum + fr_tree(lanes);
      for (int r = 0; r < rows; ++r) bias = bias + residuals[r];
    }
    __syncthreads();
  }
  if (threadIdx.x == FR_THREADS - 1) own[columns] = bias, slice_losses[blockIdx.x] = sum;
  __threadfence();
  __syncthreads();
  if (threadIdx.x == 0) last = atomicAdd(done, 1u) == gridDim.x - 1;
  __syncthreads();
  if (!last) return;
  __threadfence();
  const double count = (double)(end - begin);
  for (fr_i64 j = threadIdx.x; j <= columns; j += FR_THREADS) {
    double g = __ldcg(gradient + j);
    for (unsigned s = 1; s < gridDim.x; ++s) g = g + __ldcg(gradient + s * (columns + 1) + j);
    g = j < columns ? g / count + l2 * parameters[j] : g / count;
    gradient[j] = g;
    if (solver != FR_NONE && (j < columns || intercept))
      fr_move(solver, rate, beta1, beta2, epsilon, first_rate, second_root, j, g, parameters, first, second);
  }
  if (threadIdx.x == FR_THREADS - 1) {
    double all = *loss;
    for (unsigned s = 0; s < gridDim.x; ++s) all = all + __ldcg(slice_losses + s);
    *loss = all, *done = 0;
  }
}

// Weighted residuals and losses of the positions begin..end of a batch of sparse rows.  Eight lanes a row.
__global__ void __launch_bounds__(FR_THREADS) fr_logistic_rows(const fr_feature *values, const fr_i64 *indptr, const int *indices,
                                                               fr_i64 columns, const fr_i64 *order, fr_i64 begin, fr_i64 end,
                                                               const signed char *target, const double *weight,
                                                               const double *parameters, double *residuals, double *losses) {
  const fr_i64 step = (fr_i64)gridDim.x * (FR_THREADS / 8);
  for (fr_i64 first = begin + (fr_i64)blockIdx.x * (FR_THREADS / 8) + threadIdx.x / 32 * 4; first < end; first += step) {
    const fr_i64 own = first + threadIdx.x % 32 / 8, position = own < end ? own : first;
    const fr_i64 row = order ? order[position] : position;
    double unused;
    const double z = fr_row_dot(values, indptr, indices, row, columns, parameters, false, unused) + parameters[columns];
    if (own >= end || threadIdx.x % 8) continue;
    double l;
    const double s = weight ? weight[row] : 1.0, residual = fr_residual(z, (double)target[row], &l);
    residuals[own - begin] = residual * s, losses[own - begin] = l * s;
  }
}

// The columns that a sparse batch holds, one thread each.  Run i is column column_of[i], and begins[i]..begins[i + 1] its
// entries in the order of the rows: `entries` says where in `values`, `positions` at which position of `order`.  Without a
// solver the gradient is left for the caller, who has put l2 w into the columns that are not there.
__global__ void __launch_bounds__(FR_THREADS) fr_logistic_columns(
    const fr_feature *values, const fr_i64 *entries, const fr_i64 *positions, const fr_i64 *begins, const fr_i64 *column_of,
    fr_i64 runs_begin, fr_i64 runs_end, fr_i64 begin, double rows, const double *residuals, const double *share, double l2,
    int solver, double rate, double beta1, double beta2, double epsilon, double first_rate, double second_root,
    double *parameters, double *first, double *second, double *gradient) {
  const fr_i64 step = (fr_i64)gridDim.x * FR_THREADS;
  for (fr_i64 run = runs_begin + (fr_i64)blockIdx.x * FR_THREADS + threadIdx.x; run < runs_end; run += step) {
    const fr_i64 j = column_of[run], to = begins[run + 1];
    double g = 0.0;
    for (fr_i64 i = begins[run]; i < to; ++i) g = g + residuals[positions[i] - begin] * (double)values[entries[i]];
    if (solver == FR_NONE) {
      gradient[j] = g / rows + l2 * parameters[j];
      continue;
    }
    if (share) g = g + share[j] * (double)(to - begins[run]) * parameters[j];
    fr_move(solver, rate, beta1, beta2, epsilon, first_rate, second_root, j, g / rows, parameters, first, second);
  }
}

// The rest of a sparse batch: its loss, slice by slice, and the intercept.  One block.
__global__ void __launch_bounds__(FR_THREADS) fr_logistic_rest(fr_i64 count, fr_i64 columns, fr_i64 slice_rows, const double *residuals,
                                                               const double *losses, int solver, int intercept, double rate,
                                                               double beta1, double beta2, double epsilon, double first_rate,
                                                               double second_root, double *parameters, double *first,
                                                               double *second, double *gradient, double *slice_losses,
                                                               double *loss) {
  const fr_i64 slices = (count + slice_rows - 1) / slice_rows;
  for (fr_i64 s = threadIdx.x / 32; s < slices; s += FR_THREADS / 32) {
    const fr_i64 to = (s + 1) * slice_rows < count ? (s + 1) * slice_rows : count;
    double lanes = 0.0;
    for (fr_i64 i = s * slice_rows + (threadIdx.x & 7); i < to; i += 8) lanes = lanes + losses[i];
    lanes = fr_tree(lanes);
    if (threadIdx.x % 32 == 0) slice_losses[s] = lanes;
  }
  __syncthreads();
  if (threadIdx.x == 0) {
    double all = *loss;
    for (fr_i64 s = 0; s < slices; ++s) all = all + slice_losses[s];
    *loss = all;
  }
  if (threadIdx.x == 32) {
    double bias = 0.0;
#pragma unroll 8
    for (fr_i64 i = 0; i < count; ++i) bias = bias + residuals[i];
    gradient[columns] = bias / (double)count;
    if (solver != FR_NONE && intercept)
      fr_move(solver, rate, beta1, beta2, epsilon, first_rate, second_root, columns, gradient[columns], parameters, first, second);
  }
}
}
