// Eight lanes of float64, as registers of this instruction set: what the compiler makes of wider vectors than it has is
// slow.  One lane a "register" where it knows no vectors.
#pragma once
#include "common.h"

namespace {

constexpr int LANES = 8;

#if defined(__GNUC__)
#pragma GCC diagnostic ignored "-Wpsabi"  // about passing vectors to functions; all of these are inlined
#if defined(FR_AVX512)
enum { WIDE = 8 };
#elif defined(FR_AVX2)
enum { WIDE = 4 };
#else
enum { WIDE = 2 };
#endif
typedef double f64s __attribute__((vector_size(8 * WIDE)));
typedef int64_t i64s __attribute__((vector_size(8 * WIDE)));
#define FR_EACH _Pragma("GCC unroll 8") for (int i = 0; i < LANES / WIDE; ++i)
#else
enum { WIDE = 1 };
typedef double f64s;
typedef int64_t i64s;
#define FR_EACH for (int i = 0; i < LANES; ++i)
#endif

template <class Vector>
struct Eight {
  Vector part[LANES / WIDE];
};
typedef Eight<f64s> f64x8;

FR_INLINE f64x8 splat(double x) { f64x8 r; FR_EACH r.part[i] = x - f64s{}; return r; }

#define FR_OPERATOR(op)                                                                                          \
  template <class V>                                                                                             \
  FR_INLINE Eight<V> operator op(Eight<V> a, Eight<V> b) { FR_EACH a.part[i] = a.part[i] op b.part[i]; return a; } \
  FR_INLINE f64x8 operator op(f64x8 a, double b) { return a op splat(b); }                                       \
  FR_INLINE f64x8 operator op(double a, f64x8 b) { return splat(a) op b; }
FR_OPERATOR(+)
FR_OPERATOR(-)
FR_OPERATOR(*)
#undef FR_OPERATOR
FR_INLINE f64x8 operator/(f64x8 a, f64x8 b) { FR_EACH a.part[i] /= b.part[i]; return a; }
FR_INLINE f64x8 operator-(f64x8 a) { FR_EACH a.part[i] = -a.part[i]; return a; }
template <class V>
FR_INLINE Eight<V> &operator+=(Eight<V> &a, Eight<V> b) { return a = a + b; }

}  // namespace
