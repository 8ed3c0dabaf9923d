// Linear models and the selection of samples.
//
// Every sum runs in float64 in an order that depends on the shape of the data alone: eight lanes by position, then a
// fixed tree, within a row; row by row within a slice; slice by slice within a batch.  So the bits do not depend on
// threads or instruction set.  (No FMA either: -ffp-contract=off.)
#include "lanes.h"
#include "learning_types.h"
#if !defined(__GNUC__)
#include <math.h>
#include <string.h>
#endif

namespace {

// ---- eight lanes of float64 ---------------------------------------------------------------------------------------

#if defined(__GNUC__)
typedef float f32s __attribute__((vector_size(4 * WIDE)));
typedef int8_t i8s __attribute__((vector_size(WIDE)));
#define FR_CONVERT(value, type) __builtin_convertvector(value, type)
#define FR_COPY(to, from) __builtin_memcpy(to, from, sizeof *(to))
#else
typedef float f32s;
typedef int8_t i8s;
#define FR_CONVERT(value, type) static_cast<type>(value)
#define FR_COPY(to, from) memcpy(to, from, sizeof *(to))
#endif

// yes where x < bound, else no
FR_INLINE f64x8 where_below(f64x8 x, double bound, f64x8 yes, f64x8 no) {
  FR_EACH no.part[i] = x.part[i] < f64s{} + bound ? yes.part[i] : no.part[i];
  return no;
}
FR_INLINE f64x8 absolute(f64x8 x) { return where_below(x, 0.0, -x, x); }
// x * 2^k, given shifted = k + 1.5 * 2^52, whose low bits are k
FR_INLINE f64x8 times_power_of_two(f64x8 x, f64x8 shifted) {
  FR_EACH {
    i64s bits;
    FR_COPY(&bits, &shifted.part[i]);
    bits = (bits + 1023) << 52;
    f64s power;
    FR_COPY(&power, &bits);
    x.part[i] *= power;
  }
  return x;
}
FR_INLINE f64x8 load8(const double *p) { f64x8 r; FR_EACH FR_COPY(&r.part[i], p + i * WIDE); return r; }
FR_INLINE f64x8 load8(const float *p) {
  f64x8 r;
  FR_EACH {
    f32s v;
    FR_COPY(&v, p + i * WIDE);
    r.part[i] = FR_CONVERT(v, f64s);
  }
  return r;
}
FR_INLINE f64x8 load8(const int8_t *p) {
  f64x8 r;
  FR_EACH {
    i8s v;
    FR_COPY(&v, p + i * WIDE);
    r.part[i] = FR_CONVERT(v, f64s);
  }
  return r;
}
FR_INLINE void store8(double *p, f64x8 v) {
  FR_EACH {
    f64s *to = reinterpret_cast<f64s *>(p + i * WIDE);
    FR_COPY(to, &v.part[i]);
  }
}
FR_INLINE void store8(float *p, f64x8 v) {
  FR_EACH {
    const f32s narrow = FR_CONVERT(v.part[i], f32s);
    f32s *to = reinterpret_cast<f32s *>(p + i * WIDE);
    FR_COPY(to, &narrow);
  }
}
FR_INLINE double lane_sum(f64x8 lanes) {
  double v[8];
  store8(v, lanes);
  return ((v[0] + v[4]) + (v[2] + v[6])) + ((v[1] + v[5]) + (v[3] + v[7]));
}
// The last, incomplete group of eight, padded with zeros.
template <typename T>
FR_INLINE f64x8 load_tail(const T *p, int64_t count) {
  T padded[8] = {0, 0, 0, 0, 0, 0, 0, 0};
  for (int64_t i = 0; i < count; ++i) padded[i] = p[i];
  return load8(padded);
}
FR_INLINE double root(double x) {
#if defined(__GNUC__)
  return __builtin_sqrt(x);
#else
  return sqrt(x);
#endif
}
FR_INLINE f64x8 roots(f64x8 x) {
  double v[8];
  store8(v, x);
  for (int i = 0; i < 8; ++i) v[i] = root(v[i]);
  return load8(v);
}
FR_INLINE void prefetch(const void *p) {
#if defined(__GNUC__)
  __builtin_prefetch(p);
#else
  (void)p;
#endif
}

// ---- the logistic function ----------------------------------------------------------------------------------------
// libm's exp and log1p have other bits on other machines; these have the same everywhere, within 2 units in the last
// place, eight at a time.

// exp(x) for x <= 0; 0 below -708, where the result would be subnormal.
FR_INLINE f64x8 exp_of_negative(f64x8 x) {
  const double magic = 6755399441055744.0;  // 1.5 * 2^52: adding it rounds to an integer
  const f64x8 shifted = x * splat(1.44269504088896338700) + splat(magic);
  const f64x8 k = shifted - splat(magic);
  // ln 2 in two parts, the first with enough trailing zeros for k * ln2_high to be exact
  const f64x8 r = (x - k * splat(6.93147180369123816490e-01)) - k * splat(1.90821492927058770002e-10);
  // Taylor's series, even and odd terms apart to halve the chain of dependent operations; the first term left out is
  // below 5e-18 for |r| < 0.347.
  const f64x8 r2 = r * r;
  f64x8 even = splat(1.0 / 479001600.0), odd = splat(1.0 / 6227020800.0);
  even = even * r2 + splat(1.0 / 3628800.0);
  odd = odd * r2 + splat(1.0 / 39916800.0);
  even = even * r2 + splat(1.0 / 40320.0);
  odd = odd * r2 + splat(1.0 / 362880.0);
  even = even * r2 + splat(1.0 / 720.0);
  odd = odd * r2 + splat(1.0 / 5040.0);
  even = even * r2 + splat(1.0 / 24.0);
  odd = odd * r2 + splat(1.0 / 120.0);
  even = even * r2 + splat(0.5);
  odd = odd * r2 + splat(1.0 / 6.0);
  const f64x8 p = (even * r2 + (odd * r2) * r) + r;  // exp(r) - 1
  return where_below(x, -708.0, splat(0.0), times_power_of_two(p + splat(1.0), shifted));
}

// log(1 + e) for 0 <= e <= 1, as 2 artanh(e / (2 + e)).
FR_INLINE f64x8 log1p_of_unit(f64x8 e) {
  const f64x8 s = e / (splat(2.0) + e), s2 = s * s, s4 = s2 * s2;
  f64x8 even = splat(1.0 / 33), odd = splat(1.0 / 31);  // of s2^k / (2 k + 1), k = 1 .. 16
  for (int k = 29; k >= 5; k -= 4) {
    even = even * s4 + splat(1.0 / k);
    odd = odd * s4 + splat(1.0 / (k - 2));
  }
  const f64x8 p = (even * s4 + odd * s2) * s + s;
  return p + p;
}

// With m = t z: residual = -t sigma(-m), without the cancellation of sigma(z) - y.
FR_INLINE f64x8 residual8(f64x8 z, f64x8 t, f64x8 *loss) {
  const f64x8 m = t * z, e = exp_of_negative(-absolute(m));
  if (loss) *loss = where_below(m, 0.0, -m, splat(0.0)) + log1p_of_unit(e);
  return -t * (where_below(m, 0.0, splat(1.0), e) / (splat(1.0) + e));
}

// ---- dense rows -----------------------------------------------------------------------------------------------------

template <typename T>
FR_INLINE void dots4(const T *const rows[4], const double *w, int64_t d, bool with_squares, double *out,
                     double *squares) {
  f64x8 a0 = splat(0), a1 = a0, a2 = a0, a3 = a0, s0 = a0, s1 = a0, s2 = a0, s3 = a0;
  int64_t j = 0;
  for (; j + 8 <= d; j += 8) {
    const f64x8 wj = load8(w + j);
    const f64x8 x0 = load8(rows[0] + j), x1 = load8(rows[1] + j), x2 = load8(rows[2] + j), x3 = load8(rows[3] + j);
    a0 += x0 * wj; a1 += x1 * wj; a2 += x2 * wj; a3 += x3 * wj;
    if (with_squares) { s0 += x0 * x0; s1 += x1 * x1; s2 += x2 * x2; s3 += x3 * x3; }
  }
  if (j < d) {
    const f64x8 wj = load_tail(w + j, d - j);
    const f64x8 x0 = load_tail(rows[0] + j, d - j), x1 = load_tail(rows[1] + j, d - j);
    const f64x8 x2 = load_tail(rows[2] + j, d - j), x3 = load_tail(rows[3] + j, d - j);
    a0 += x0 * wj; a1 += x1 * wj; a2 += x2 * wj; a3 += x3 * wj;
    if (with_squares) { s0 += x0 * x0; s1 += x1 * x1; s2 += x2 * x2; s3 += x3 * x3; }
  }
  out[0] = lane_sum(a0); out[1] = lane_sum(a1); out[2] = lane_sum(a2); out[3] = lane_sum(a3);
  if (with_squares) {
    squares[0] = lane_sum(s0); squares[1] = lane_sum(s1); squares[2] = lane_sum(s2); squares[3] = lane_sum(s3);
  }
}

FR_INLINE int64_t row_at(const int64_t *order, int64_t i) { return order ? order[i] : i; }

// Scores of the rows at positions begin..end of `order`, written to out[0..].
template <typename T>
void dense_scores(const fr_samples &x, const int64_t *order, int64_t begin, int64_t end, const double *w, double *out,
                  double *squares) {
  const T *values = static_cast<const T *>(x.values);
  const int64_t d = x.columns;
  const int64_t ahead = 8, lines = d * static_cast<int64_t>(sizeof(T)) > 512 ? 8 : (d * sizeof(T) + 63) / 64;
  for (int64_t i = begin; i < end; i += 4) {
    const T *rows[4];
    const int64_t count = end - i < 4 ? end - i : 4;
    for (int64_t r = 0; r < 4; ++r) rows[r] = values + row_at(order, i + (r < count ? r : 0)) * d;
    if (order)
      for (int64_t r = i + ahead; r < i + ahead + 4 && r < end; ++r)
        for (int64_t line = 0; line < lines; ++line)
          prefetch(reinterpret_cast<const char *>(values + order[r] * d) + 64 * line);
    double z[4], s[4];
    if (squares) dots4<T>(rows, w, d, true, z, s); else dots4<T>(rows, w, d, false, z, s);
    for (int64_t r = 0; r < count; ++r) {
      out[i - begin + r] = z[r] + w[d];
      if (squares) squares[i - begin + r] = s[r];
    }
  }
}

// gradient[j] += sum over rows of residual * x[j], one row after the other.
template <typename T>
void dense_gradient(const fr_samples &x, const int64_t *order, int64_t begin, int64_t end, const double *residuals,
                    double *FR_RESTRICT gradient) {
  const T *values = static_cast<const T *>(x.values);
  const int64_t d = x.columns;
  int64_t i = begin;
  for (; i + 4 <= end; i += 4) {
    const T *x0 = values + row_at(order, i) * d, *x1 = values + row_at(order, i + 1) * d;
    const T *x2 = values + row_at(order, i + 2) * d, *x3 = values + row_at(order, i + 3) * d;
    const double r0 = residuals[i - begin], r1 = residuals[i - begin + 1];
    const double r2 = residuals[i - begin + 2], r3 = residuals[i - begin + 3];
    const f64x8 v0 = splat(r0), v1 = splat(r1), v2 = splat(r2), v3 = splat(r3);
    int64_t j = 0;
    for (; j + 8 <= d; j += 8) {
      f64x8 g = load8(gradient + j);
      g += v0 * load8(x0 + j);
      g += v1 * load8(x1 + j);
      g += v2 * load8(x2 + j);
      g += v3 * load8(x3 + j);
      store8(gradient + j, g);
    }
    for (; j < d; ++j)
      gradient[j] = (((gradient[j] + r0 * x0[j]) + r1 * x1[j]) + r2 * x2[j]) + r3 * x3[j];
  }
  for (; i < end; ++i) {
    const T *xi = values + row_at(order, i) * d;
    const double r = residuals[i - begin];
    for (int64_t j = 0; j < d; ++j) gradient[j] += r * xi[j];
  }
}

// ---- sparse rows ----------------------------------------------------------------------------------------------------

template <typename T>
FR_INLINE double sparse_dot(const T *values, const int32_t *indices, int64_t count, const double *w, double *square) {
  f64x8 a = splat(0), s = a;
  int64_t i = 0;
  for (; i + 8 <= count; i += 8) {
    double gathered[8];
    for (int l = 0; l < 8; ++l) gathered[l] = w[indices[i + l]];
    const f64x8 x = load8(values + i);
    a += x * load8(gathered);
    if (square) s += x * x;
  }
  if (i < count) {
    double gathered[8] = {0, 0, 0, 0, 0, 0, 0, 0};
    for (int64_t l = 0; i + l < count; ++l) gathered[l] = w[indices[i + l]];
    const f64x8 x = load_tail(values + i, count - i);
    a += x * load8(gathered);
    if (square) s += x * x;
  }
  if (square) *square = lane_sum(s);
  return lane_sum(a);
}

template <typename T>
void sparse_scores(const fr_samples &x, const int64_t *order, int64_t begin, int64_t end, const double *w, double *out,
                   double *squares) {
  const T *values = static_cast<const T *>(x.values);
  const double intercept = w[x.columns];
  for (int64_t i = begin; i < end; ++i) {
    if (order && i + 16 < end) {
      const int64_t later = x.indptr[order[i + 16]];
      prefetch(x.indices + later);
      prefetch(values + later);
    }
    const int64_t row = row_at(order, i), from = x.indptr[row], count = x.indptr[row + 1] - from;
    double *square = squares ? squares + (i - begin) : nullptr;
    out[i - begin] = sparse_dot<T>(values + from, x.indices + from, count, w, square) + intercept;
  }
}

void scores(const fr_samples &x, const int64_t *order, int64_t begin, int64_t end, const double *w, double *out,
            double *squares) {
  if (x.indptr) {
    if (x.wide) sparse_scores<double>(x, order, begin, end, w, out, squares);
    else sparse_scores<float>(x, order, begin, end, w, out, squares);
  } else {
    if (x.wide) dense_scores<double>(x, order, begin, end, w, out, squares);
    else dense_scores<float>(x, order, begin, end, w, out, squares);
  }
}

// ---- forward ----------------------------------------------------------------------------------------------------------

// Rows a task takes: about 64 KB of data, a multiple of 64 rows.
int64_t rows_per_task(const fr_samples &x) {
  const int64_t per_row = x.indptr ? (x.rows ? x.indptr[x.rows] / x.rows + 1 : 1) : x.columns + 1;
  const int64_t rows = 16384 / per_row;
  return rows < 64 ? 64 : rows / 64 * 64;
}

void forward_task(void *context, int64_t task, int) {
  const fr_linear_forward &a = *static_cast<fr_linear_forward *>(context);
  const int64_t size = rows_per_task(a.x), begin = task * size;
  const int64_t end = begin + size < a.x.rows ? begin + size : a.x.rows;
  scores(a.x, nullptr, begin, end, a.parameters, a.scores + begin, a.squares ? a.squares + begin : nullptr);
  if (a.squares) for (int64_t i = begin; i < end; ++i) a.squares[i] += a.extra;
}

FR_INLINE f64x8 mapped(const fr_logistic_map &a, f64x8 z, f64x8 t, f64x8 squares) {
  f64x8 loss;
  switch (a.kind) {
    case FR_LOGISTIC_PROBABILITY: return residual8(z, splat(-1.0), nullptr);
    case FR_LOGISTIC_LOSS: residual8(z, t, &loss); return loss;
    case FR_LOGISTIC_ERROR: return absolute(residual8(z, t, nullptr));
    case FR_LOGISTIC_EL2N: return absolute(residual8(z, t, nullptr)) * splat(1.41421356237309504880);
    case FR_LOGISTIC_NORM: return absolute(residual8(z, t, nullptr)) * roots(squares);
    default: return residual8(z, t, nullptr);
  }
}

template <typename Out>
void map_range(const fr_logistic_map &a, int64_t begin, int64_t end, Out *out) {
  const f64x8 one = splat(1.0);
  int64_t i = begin;
  for (; i + 8 <= end; i += 8) {
    f64x8 y = mapped(a, load8(a.scores + i), a.target ? load8(a.target + i) : one,
                     a.squares ? load8(a.squares + i) : one);
    if (a.weight) y = y * load8(a.weight + i);
    store8(out + i, y);
  }
  if (i < end) {
    const int64_t count = end - i;
    Out last[8];
    f64x8 y = mapped(a, load_tail(a.scores + i, count), a.target ? load_tail(a.target + i, count) : one,
                     a.squares ? load_tail(a.squares + i, count) : one);
    if (a.weight) y = y * load_tail(a.weight + i, count);
    store8(last, y);
    for (int64_t l = 0; l < count; ++l) out[i + l] = last[l];
  }
}

const int64_t map_rows = 16384;

void map_task(void *context, int64_t task, int) {
  const fr_logistic_map &a = *static_cast<fr_logistic_map *>(context);
  const int64_t begin = task * map_rows, end = begin + map_rows < a.rows ? begin + map_rows : a.rows;
  if (a.out32) map_range(a, begin, end, a.out32); else map_range(a, begin, end, a.out64);
}

// ---- training ---------------------------------------------------------------------------------------------------------

struct batch_context {
  fr_logistic_epoch *a;
  int64_t begin, end;  // positions in order
};

// Scores of positions begin..end turned into weighted residuals, in place; returns the weighted loss.
double residuals_in_place(const fr_logistic_epoch &a, int64_t begin, int64_t end, double *z) {
  f64x8 total = splat(0);
  for (int64_t i = begin; i < end; i += 8) {
    const int64_t count = end - i < 8 ? end - i : 8;
    int8_t t[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    double s[8] = {0, 0, 0, 0, 0, 0, 0, 0};  // the padding weighs nothing
    for (int64_t l = 0; l < count; ++l) {
      const int64_t row = row_at(a.order, i + l);
      t[l] = a.target[row];
      s[l] = a.weight ? a.weight[row] : 1.0;
    }
    double *zi = z + (i - begin), last[8];
    f64x8 loss;
    const f64x8 weight = load8(s);
    const f64x8 r = residual8(count == 8 ? load8(zi) : load_tail(zi, count), load8(t), &loss) * weight;
    total += loss * weight;
    if (count == 8) {
      store8(zi, r);
    } else {
      store8(last, r);
      for (int64_t l = 0; l < count; ++l) zi[l] = last[l];
    }
  }
  return lane_sum(total);
}

// A slice of a dense batch: scores, residuals and its own gradient, 64 rows at a time while they are in the cache.
void dense_slice(void *context, int64_t slice, int) {
  const batch_context &b = *static_cast<batch_context *>(context);
  const fr_logistic_epoch &a = *b.a;
  const int64_t d = a.x.columns, begin = b.begin + slice * a.slice_rows;
  const int64_t end = begin + a.slice_rows < b.end ? begin + a.slice_rows : b.end;
  double *gradient = a.gradient + slice * (d + 1), loss = 0.0, bias = 0.0;
  for (int64_t j = 0; j < d; ++j) gradient[j] = 0.0;
  for (int64_t i = begin; i < end; i += 64) {
    const int64_t stop = i + 64 < end ? i + 64 : end;
    double z[64];
    scores(a.x, a.order, i, stop, a.parameters, z, nullptr);
    loss += residuals_in_place(a, i, stop, z);
    if (a.x.wide) dense_gradient<double>(a.x, a.order, i, stop, z, gradient);
    else dense_gradient<float>(a.x, a.order, i, stop, z, gradient);
    for (int64_t r = 0; r < stop - i; ++r) bias += z[r];
  }
  gradient[d] = bias;
  a.slice_losses[slice] = loss;
}

void sparse_slice(void *context, int64_t slice, int) {
  const batch_context &b = *static_cast<batch_context *>(context);
  const fr_logistic_epoch &a = *b.a;
  const int64_t begin = b.begin + slice * a.slice_rows;
  const int64_t end = begin + a.slice_rows < b.end ? begin + a.slice_rows : b.end;
  double *z = a.residuals + (begin - b.begin);
  scores(a.x, a.order, begin, end, a.parameters, z, nullptr);
  a.slice_losses[slice] = residuals_in_place(a, begin, end, z);
}

// Add residual * x over the batch to the slots, noting which columns were met; returns how many were.
template <typename T>
int64_t sparse_scatter(const fr_logistic_epoch &a, int64_t begin, int64_t end) {
  const T *values = static_cast<const T *>(a.x.values);
  double *slots = a.slots;
  int64_t met = 0;
  for (int64_t i = begin; i < end; ++i) {
    if (i + 2 < end) {  // the columns of the row after next
      const int64_t later = row_at(a.order, i + 2);
      for (int64_t k = a.x.indptr[later]; k < a.x.indptr[later + 1]; ++k)
        prefetch(slots + 2 * static_cast<int64_t>(a.x.indices[k]));
    }
    const int64_t row = row_at(a.order, i), from = a.x.indptr[row], to = a.x.indptr[row + 1];
    const double r = a.residuals[i - begin];
    for (int64_t k = from; k < to; ++k) {
      const int32_t j = a.x.indices[k];
      double *slot = slots + 2 * static_cast<int64_t>(j);
      a.touched[met] = j;  // kept only where this is the first time
      met += slot[1] == 0.0;
      slot[0] += r * values[k];
      slot[1] += 1.0;
    }
  }
  return met;
}

struct step {
  double rate, beta1, beta2, epsilon;
  double first_rate, second_root;  // Adam: rate / (1 - beta1^t) and 1 / sqrt(1 - beta2^t)
};

FR_INLINE void sgd(const step &s, double g, double *w) { *w -= s.rate * g; }
FR_INLINE void adam(const step &s, double g, double *w, double *first, double *second) {
  *first = s.beta1 * *first + (1.0 - s.beta1) * g;
  *second = s.beta2 * *second + (1.0 - s.beta2) * (g * g);
  *w -= s.first_rate * *first / (root(*second) * s.second_root + s.epsilon);
}

void update(fr_logistic_epoch &a, const step &s, int64_t j, double g) {
  if (a.solver == FR_SOLVER_SGD) sgd(s, g, a.parameters + j);
  else adam(s, g, a.parameters + j, a.first + j, a.second + j);
}

// One batch of a dense matrix: every column steps.
void dense_batch(fr_logistic_epoch &a, int64_t begin, int64_t end, const step &s) {
  batch_context b = {&a, begin, end};
  const int64_t d = a.x.columns, slices = (end - begin + a.slice_rows - 1) / a.slice_rows;
  a.parallel_for(dense_slice, &b, slices, a.threads);
  double *FR_RESTRICT g = a.gradient;
  for (int64_t slice = 1; slice < slices; ++slice) {
    const double *FR_RESTRICT more = a.gradient + slice * (d + 1);
    for (int64_t j = 0; j <= d; ++j) g[j] += more[j];
  }
  for (int64_t slice = 0; slice < slices; ++slice) a.loss += a.slice_losses[slice];
  const double rows = static_cast<double>(end - begin), l2 = a.l2;
  double *FR_RESTRICT w = a.parameters, *FR_RESTRICT first = a.first, *FR_RESTRICT second = a.second;
  for (int64_t j = 0; j < d; ++j) g[j] = g[j] / rows + l2 * w[j];
  g[d] /= rows;
  if (a.solver == FR_SOLVER_SGD)
    for (int64_t j = 0; j < d; ++j) sgd(s, g[j], w + j);
  if (a.solver == FR_SOLVER_ADAM)
    for (int64_t j = 0; j < d; ++j) adam(s, g[j], w + j, first + j, second + j);
}

// One batch of a sparse matrix: the columns it holds step, each with its share of the penalty.
void sparse_batch(fr_logistic_epoch &a, int64_t begin, int64_t end, const step &s) {
  batch_context b = {&a, begin, end};
  const int64_t d = a.x.columns, slices = (end - begin + a.slice_rows - 1) / a.slice_rows;
  a.parallel_for(sparse_slice, &b, slices, a.threads);
  for (int64_t slice = 0; slice < slices; ++slice) a.loss += a.slice_losses[slice];
  const int64_t met = a.x.wide ? sparse_scatter<double>(a, begin, end) : sparse_scatter<float>(a, begin, end);
  const double rows = static_cast<double>(end - begin);
  double bias = 0.0;
  for (int64_t i = 0; i < end - begin; ++i) bias += a.residuals[i];
  if (a.solver == FR_SOLVER_NONE) {  // every column's gradient, for a caller that wants the whole vector
    for (int64_t j = 0; j < d; ++j) {
      a.gradient[j] = a.slots[2 * j] / rows + a.l2 * a.parameters[j];
      a.slots[2 * j] = a.slots[2 * j + 1] = 0.0;
    }
  } else {
    for (int64_t k = 0; k < met; ++k) {
      const int64_t ahead = a.touched[k + 12 < met ? k + 12 : k], j = a.touched[k];
      prefetch(a.slots + 2 * ahead);
      prefetch(a.parameters + ahead);
      if (a.share) prefetch(a.share + ahead);
      if (a.solver == FR_SOLVER_ADAM) {
        prefetch(a.first + ahead);
        prefetch(a.second + ahead);
      }
      double g = a.slots[2 * j];
      if (a.share) g += a.share[j] * a.slots[2 * j + 1] * a.parameters[j];
      a.slots[2 * j] = a.slots[2 * j + 1] = 0.0;
      update(a, s, j, g / rows);
    }
  }
  a.gradient[d] = bias / rows;
}

// ---- selection ----------------------------------------------------------------------------------------------------------

// Floats as unsigned integers in the same order, -0 and 0 alike; turned around where the smallest are wanted.
FR_INLINE uint64_t key_of(const float *scores, int64_t i, int smallest) {
  union { float f; int32_t s; uint32_t u; } cell;
  cell.f = scores[i] + 0.0f;
  cell.u ^= static_cast<uint32_t>(cell.s >> 31) | 0x80000000u;
  return smallest ? static_cast<uint32_t>(~cell.u) : cell.u;
}
FR_INLINE uint64_t key_of(const double *scores, int64_t i, int smallest) {
  union { double f; int64_t s; uint64_t u; } cell;
  cell.f = scores[i] + 0.0;
  cell.u ^= static_cast<uint64_t>(cell.s >> 63) | 0x8000000000000000u;
  return smallest ? ~cell.u : cell.u;
}

struct select_context {
  fr_select_rows *a;
  int shift, bits;  // this pass reads `bits` bits above `shift`
  bool first;
};

template <typename T>
void count_digits(void *context, int64_t task, int worker) {
  const select_context &c = *static_cast<select_context *>(context);
  const fr_select_rows &a = *c.a;
  const T *scores = static_cast<const T *>(a.scores);
  int64_t *histogram = a.histograms + worker * a.group_count * FR_SELECT_BINS;
  const int64_t begin = task * a.chunk, end = begin + a.chunk < a.rows ? begin + a.chunk : a.rows;
  const uint64_t mask = (uint64_t{1} << c.bits) - 1;
  if (!a.groups) {
    const uint64_t prefix = a.prefix[0];
    if (c.first) {
      for (int64_t i = begin; i < end; ++i) ++histogram[key_of(scores, i, a.smallest) >> c.shift];
    } else {
      for (int64_t i = begin; i < end; ++i) {
        const uint64_t key = key_of(scores, i, a.smallest) >> c.shift;
        if (key >> c.bits == prefix) ++histogram[key & mask];
      }
    }
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    const uint64_t key = key_of(scores, i, a.smallest) >> c.shift;
    const int64_t group = a.groups[i];
    if (c.first || key >> c.bits == a.prefix[group]) ++histogram[group * FR_SELECT_BINS + (key & mask)];
  }
}

// How many rows of each chunk lie above, and at, their group's threshold.
template <typename T>
void count_taken(void *context, int64_t task, int) {
  const select_context &c = *static_cast<select_context *>(context);
  const fr_select_rows &a = *c.a;
  const T *scores = static_cast<const T *>(a.scores);
  int64_t *counts = a.chunk_counts + task * a.group_count * 2;
  const int64_t begin = task * a.chunk, end = begin + a.chunk < a.rows ? begin + a.chunk : a.rows;
  for (int64_t g = 0; g < 2 * a.group_count; ++g) counts[g] = 0;
  if (!a.groups) {
    int64_t above = 0, at = 0;
    for (int64_t i = begin; i < end; ++i) {
      const uint64_t key = key_of(scores, i, a.smallest) >> c.shift;
      above += key > a.prefix[0];
      at += key == a.prefix[0];
    }
    counts[0] = above;
    counts[1] = at;
    return;
  }
  for (int64_t i = begin; i < end; ++i) {
    const int64_t group = a.groups[i];
    const uint64_t key = key_of(scores, i, a.smallest) >> c.shift;
    counts[2 * group] += key > a.prefix[group];
    counts[2 * group + 1] += key == a.prefix[group];
  }
}

// Write the rows of one chunk that are taken; of those at the threshold, the first counts[2 g + 1].
template <typename T>
void emit(void *context, int64_t task, int) {
  const select_context &c = *static_cast<select_context *>(context);
  const fr_select_rows &a = *c.a;
  const T *scores = static_cast<const T *>(a.scores);
  int64_t *counts = a.chunk_counts + task * a.group_count * 2;
  const int64_t begin = task * a.chunk, end = begin + a.chunk < a.rows ? begin + a.chunk : a.rows;
  int64_t *out = a.out + a.chunk_starts[task], *stop = a.out + a.chunk_starts[task + 1];
  for (int64_t i = begin; i < end && out < stop; ++i) {
    const int64_t group = a.groups ? a.groups[i] : 0;
    const uint64_t key = key_of(scores, i, a.smallest) >> c.shift, threshold = a.prefix[group];
    int64_t *ties = counts + 2 * group + 1;
    const bool tied = key == threshold && *ties > 0;
    *ties -= tied;
    *out = i;
    out += (key > threshold) | tied;
  }
}

template <typename T>
void select_rows(fr_select_rows &a) {
  const int64_t groups = a.group_count, bins = groups * FR_SELECT_BINS;
  int shift = 8 * sizeof(T);
  bool open = true;  // some group's threshold is not yet settled
  select_context c = {&a, 0, 0, true};
  for (int64_t g = 0; g < groups; ++g) a.prefix[g] = 0;
  while (open && shift > 0) {
    c.bits = shift < FR_SELECT_BITS ? shift : FR_SELECT_BITS;
    c.shift = shift -= c.bits;
    for (int64_t b = 0; b < a.threads * bins; ++b) a.histograms[b] = 0;
    a.parallel_for(count_digits<T>, &c, a.chunks, a.threads);
    for (int t = 1; t < a.threads; ++t)
      for (int64_t b = 0; b < bins; ++b) a.histograms[b] += a.histograms[t * bins + b];
    open = false;
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t *histogram = a.histograms + g * FR_SELECT_BINS;
      int64_t digit = (int64_t{1} << c.bits) - 1;
      while (digit > 0 && histogram[digit] < a.need[g]) a.need[g] -= histogram[digit--];
      a.prefix[g] = a.prefix[g] << c.bits | static_cast<uint64_t>(digit);
      open |= histogram[digit] != a.need[g];
    }
    c.first = false;
  }
  a.parallel_for(count_taken<T>, &c, a.chunks, a.threads);
  int64_t start = 0;
  for (int64_t chunk = 0; chunk < a.chunks; ++chunk) {
    int64_t *counts = a.chunk_counts + chunk * groups * 2;
    a.chunk_starts[chunk] = start;
    for (int64_t g = 0; g < groups; ++g) {
      int64_t &at = counts[2 * g + 1];
      if (at > a.need[g]) at = a.need[g];
      a.need[g] -= at;
      start += counts[2 * g] + at;
    }
  }
  a.chunk_starts[a.chunks] = start;
  a.parallel_for(emit<T>, &c, a.chunks, a.threads);
}

}  // namespace

extern "C" int FR_FN(fr_learning_level)(void) { return FR_LEVEL; }

extern "C" void FR_FN(fr_linear_forward)(fr_linear_forward *a) {
  const int64_t size = rows_per_task(a->x);
  a->parallel_for(forward_task, a, (a->x.rows + size - 1) / size, a->threads);
}

extern "C" void FR_FN(fr_logistic_map)(fr_logistic_map *a) {
  a->parallel_for(map_task, a, (a->rows + map_rows - 1) / map_rows, a->threads);
}

extern "C" void FR_FN(fr_logistic_epoch)(fr_logistic_epoch *a) {
  const int64_t n = a->x.rows, d = a->x.columns;
  a->loss = 0.0;
  for (int64_t k = 0; k < a->batches; ++k) {
    // k n / batches without overflow
    const int64_t whole = n / a->batches, rest = n % a->batches;
    const int64_t begin = k * whole + (k < rest ? k : rest), end = begin + whole + (k < rest);
    a->power1 *= a->beta1;
    a->power2 *= a->beta2;
    const double rate = a->rate - static_cast<double>(k) * a->rate_drop;
    const step s = {rate, a->beta1, a->beta2, a->epsilon, rate / (1.0 - a->power1), 1.0 / root(1.0 - a->power2)};
    if (a->x.indptr) sparse_batch(*a, begin, end, s); else dense_batch(*a, begin, end, s);
    if (a->intercept && a->solver != FR_SOLVER_NONE) update(*a, s, d, a->gradient[d]);
  }
}

// Fisher and Yates's shuffle of 0..n-1 with the generator splitmix64.  The bias of taking the high half of a product
// (Lemire 2019, without the rejection) is below n / 2^64.
extern "C" void FR_FN(fr_shuffle)(int64_t *order, int64_t n, uint64_t seed) {
  for (int64_t i = 0; i < n; ++i) order[i] = i;
  uint64_t state = seed;
  int64_t picks[32];
  for (int64_t i = n - 1; i > 0;) {
    const int64_t count = i < 32 ? i : 32;
    for (int64_t p = 0; p < count; ++p) {  // 32 at a time, so that the cache lines can be asked for early
      uint64_t z = state += 0x9E3779B97F4A7C15u;
      z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
      z = (z ^ z >> 27) * 0x94D049BB133111EBu;
      z ^= z >> 31;
#if defined(__SIZEOF_INT128__)
      picks[p] = static_cast<int64_t>(static_cast<unsigned __int128>(z) * static_cast<uint64_t>(i - p + 1) >> 64);
#else
      const uint64_t m = static_cast<uint64_t>(i - p + 1), zl = z & 0xFFFFFFFFu, zh = z >> 32, ml = m & 0xFFFFFFFFu,
                     mh = m >> 32, middle = zh * ml + (zl * ml >> 32), low = zl * mh + (middle & 0xFFFFFFFFu);
      picks[p] = static_cast<int64_t>(zh * mh + (middle >> 32) + (low >> 32));
#endif
      prefetch(order + picks[p]);
    }
    for (int64_t p = 0; p < count; ++p, --i) {
      const int64_t held = order[i];
      order[i] = order[picks[p]];
      order[picks[p]] = held;
    }
  }
}

extern "C" void FR_FN(fr_select_rows)(fr_select_rows *a) {
  if (a->wide) select_rows<double>(*a); else select_rows<float>(*a);
}
