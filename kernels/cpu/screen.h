// Micro-kernels: a tile of Q queries against one panel of 32 items.  Each answers two questions at once: the 32 x Q
// inner products (integers, or floats), and which queries have one that exceeds their threshold.
//
// Vectors of 64, 32 or 16 bytes; a panel row (one group of 4 dimensions, or one dimension) is FR_NV vectors.  The
// accumulators of a tile must stay in registers: Q * FR_NV <= 24 of 32 (AVX-512) or 12 of 16.
#pragma once
#include "amx.h"
#include "ranking_types.h"

#if defined(FR_AVX512)
#define FR_TILE 12
#define FR_LANES 16
#elif defined(FR_AVX2)
#define FR_TILE 3
#define FR_LANES 8
#else
#define FR_TILE 1
#define FR_LANES 4
#endif
#define FR_NV (FR_PANEL / FR_LANES)
// The largest tile of the integer screen.  AMX takes more queries at a time than accumulators fit into vectors; with
// AVX2 two tiles of registers, one after the other, share what is computed for eight queries at once.
#if defined(FR_AMX)
#define FR_TILE_I8 32
#elif FR_TILE == 3
#define FR_TILE_I8 6
#else
#define FR_TILE_I8 FR_TILE
#endif

#if !defined(FR_AVX2) && defined(__SSE2__)
#include <emmintrin.h>
#define FR_SSE2 1
#endif

// The largest magnitude of a query's codes.  vpdpbusd adds four u8*s8 products exactly; without it, pairs are added in
// 16 bits with saturation, which 255 * 63 * 2 = 32,130 stays clear of.
#if defined(FR_VNNI) || defined(FR_SSE2) || !defined(FR_AVX2)
#define FR_QUERY_LEVELS 127
#else
#define FR_QUERY_LEVELS 63
#endif

namespace {

#if defined(FR_AVX512)
typedef __m512i vint;
typedef __m512 vfloat;
FR_INLINE vint load_i(const void *p) { return _mm512_loadu_si512(p); }
FR_INLINE void store_i(void *p, vint v) { _mm512_storeu_si512(p, v); }
FR_INLINE vint set_i(int32_t x) { return _mm512_set1_epi32(x); }
FR_INLINE vint and_i(vint a, vint b) { return _mm512_and_si512(a, b); }
FR_INLINE uint32_t negative_i(vint v) { return _mm512_movepi32_mask(v); }
FR_INLINE vfloat load_f(const float *p) { return _mm512_loadu_ps(p); }
FR_INLINE void store_f(float *p, vfloat v) { _mm512_storeu_ps(p, v); }
FR_INLINE vfloat set_f(float x) { return _mm512_set1_ps(x); }
FR_INLINE vfloat fma_f(vfloat a, vfloat b, vfloat c) { return _mm512_fmadd_ps(a, b, c); }
FR_INLINE vfloat mul_f(vfloat a, vfloat b) { return _mm512_mul_ps(a, b); }
FR_INLINE vfloat max_f(vfloat a, vfloat b) { return _mm512_max_ps(a, b); }
FR_INLINE vfloat min_f(vfloat a, vfloat b) { return _mm512_min_ps(a, b); }
FR_INLINE uint32_t above_f(vfloat a, vfloat b) { return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ); }
FR_INLINE vint round_f(vfloat v) { return _mm512_cvtps_epi32(v); }
FR_INLINE vint truncate_f(vfloat v) { return _mm512_cvttps_epi32(v); }
FR_INLINE vint add_i(vint a, vint b) { return _mm512_add_epi32(a, b); }
FR_INLINE vint sub_i(vint a, vint b) { return _mm512_sub_epi32(a, b); }
FR_INLINE vfloat nfma_f(vfloat a, vfloat b, vfloat c) { return _mm512_fnmadd_ps(a, b, c); }
#if defined(FR_VNNI)
FR_INLINE vint dot4(vint sum, vint items, vint query) { return _mm512_dpbusd_epi32(sum, items, query); }
#else
FR_INLINE vint dot4(vint sum, vint items, vint query) {
  return _mm512_add_epi32(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(items, query), _mm512_set1_epi16(1)));
}
#endif
#elif defined(FR_AVX2)
typedef __m256i vint;
typedef __m256 vfloat;
FR_INLINE vint load_i(const void *p) { return _mm256_loadu_si256(static_cast<const __m256i *>(p)); }
FR_INLINE void store_i(void *p, vint v) { _mm256_storeu_si256(static_cast<__m256i *>(p), v); }
FR_INLINE vint set_i(int32_t x) { return _mm256_set1_epi32(x); }
FR_INLINE vint and_i(vint a, vint b) { return _mm256_and_si256(a, b); }
FR_INLINE uint32_t negative_i(vint v) { return uint32_t(_mm256_movemask_ps(_mm256_castsi256_ps(v))); }
FR_INLINE vfloat load_f(const float *p) { return _mm256_loadu_ps(p); }
FR_INLINE void store_f(float *p, vfloat v) { _mm256_storeu_ps(p, v); }
FR_INLINE vfloat set_f(float x) { return _mm256_set1_ps(x); }
FR_INLINE vfloat fma_f(vfloat a, vfloat b, vfloat c) { return _mm256_fmadd_ps(a, b, c); }
FR_INLINE vfloat mul_f(vfloat a, vfloat b) { return _mm256_mul_ps(a, b); }
FR_INLINE vfloat max_f(vfloat a, vfloat b) { return _mm256_max_ps(a, b); }
FR_INLINE vfloat min_f(vfloat a, vfloat b) { return _mm256_min_ps(a, b); }
FR_INLINE uint32_t above_f(vfloat a, vfloat b) { return uint32_t(_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_GT_OQ))); }
FR_INLINE vint round_f(vfloat v) { return _mm256_cvtps_epi32(v); }
FR_INLINE vint truncate_f(vfloat v) { return _mm256_cvttps_epi32(v); }
FR_INLINE vint add_i(vint a, vint b) { return _mm256_add_epi32(a, b); }
FR_INLINE vint sub_i(vint a, vint b) { return _mm256_sub_epi32(a, b); }
FR_INLINE vfloat nfma_f(vfloat a, vfloat b, vfloat c) { return _mm256_fnmadd_ps(a, b, c); }
FR_INLINE vint dot4(vint sum, vint items, vint query) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(items, query), _mm256_set1_epi16(1)));
}
#elif defined(FR_SSE2)
typedef __m128i vint;
typedef __m128 vfloat;
FR_INLINE vint load_i(const void *p) { return _mm_loadu_si128(static_cast<const __m128i *>(p)); }
FR_INLINE void store_i(void *p, vint v) { _mm_storeu_si128(static_cast<__m128i *>(p), v); }
FR_INLINE vint set_i(int32_t x) { return _mm_set1_epi32(x); }
FR_INLINE vint and_i(vint a, vint b) { return _mm_and_si128(a, b); }
FR_INLINE uint32_t negative_i(vint v) { return uint32_t(_mm_movemask_ps(_mm_castsi128_ps(v))); }
FR_INLINE vfloat load_f(const float *p) { return _mm_loadu_ps(p); }
FR_INLINE void store_f(float *p, vfloat v) { _mm_storeu_ps(p, v); }
FR_INLINE vfloat set_f(float x) { return _mm_set1_ps(x); }
FR_INLINE vfloat fma_f(vfloat a, vfloat b, vfloat c) { return _mm_add_ps(_mm_mul_ps(a, b), c); }
FR_INLINE vfloat mul_f(vfloat a, vfloat b) { return _mm_mul_ps(a, b); }
FR_INLINE vfloat max_f(vfloat a, vfloat b) { return _mm_max_ps(a, b); }
FR_INLINE vfloat min_f(vfloat a, vfloat b) { return _mm_min_ps(a, b); }
FR_INLINE uint32_t above_f(vfloat a, vfloat b) { return uint32_t(_mm_movemask_ps(_mm_cmpgt_ps(a, b))); }
FR_INLINE vint round_f(vfloat v) { return _mm_cvtps_epi32(v); }
FR_INLINE vint truncate_f(vfloat v) { return _mm_cvttps_epi32(v); }
FR_INLINE vint add_i(vint a, vint b) { return _mm_add_epi32(a, b); }
FR_INLINE vint sub_i(vint a, vint b) { return _mm_sub_epi32(a, b); }
FR_INLINE vfloat nfma_f(vfloat a, vfloat b, vfloat c) { return _mm_sub_ps(c, _mm_mul_ps(a, b)); }
// Widen to 16 bits, multiply and add pairs, then add the two halves of each item.
FR_INLINE vint dot4(vint sum, vint items, vint query) {
  const __m128i zero = _mm_setzero_si128();
  const __m128i wide = _mm_srai_epi16(_mm_unpacklo_epi8(query, query), 8);
  const __m128 low = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpacklo_epi8(items, zero), wide));
  const __m128 high = _mm_castsi128_ps(_mm_madd_epi16(_mm_unpackhi_epi8(items, zero), wide));
  const __m128i even = _mm_castps_si128(_mm_shuffle_ps(low, high, 0x88));
  const __m128i odd = _mm_castps_si128(_mm_shuffle_ps(low, high, 0xdd));
  return _mm_add_epi32(sum, _mm_add_epi32(even, odd));
}
#else  // plain C++: four lanes as a struct, for any architecture
struct vint { int32_t x[4]; };
struct vfloat { float x[4]; };
#define FR_EACH for (int i = 0; i < 4; ++i)
FR_INLINE vint load_i(const void *p) { vint v; memcpy(&v, p, 16); return v; }
FR_INLINE void store_i(void *p, vint v) { memcpy(p, &v, 16); }
FR_INLINE vint set_i(int32_t x) { vint v; FR_EACH v.x[i] = x; return v; }
FR_INLINE vint and_i(vint a, vint b) { FR_EACH a.x[i] &= b.x[i]; return a; }
FR_INLINE uint32_t negative_i(vint v) { uint32_t m = 0; FR_EACH m |= uint32_t(v.x[i] < 0) << i; return m; }
FR_INLINE vfloat load_f(const float *p) { vfloat v; memcpy(&v, p, 16); return v; }
FR_INLINE void store_f(float *p, vfloat v) { memcpy(p, &v, 16); }
FR_INLINE vfloat set_f(float x) { vfloat v; FR_EACH v.x[i] = x; return v; }
FR_INLINE vfloat fma_f(vfloat a, vfloat b, vfloat c) { FR_EACH a.x[i] = a.x[i] * b.x[i] + c.x[i]; return a; }
FR_INLINE vfloat mul_f(vfloat a, vfloat b) { FR_EACH a.x[i] *= b.x[i]; return a; }
FR_INLINE vfloat max_f(vfloat a, vfloat b) { FR_EACH a.x[i] = a.x[i] > b.x[i] ? a.x[i] : b.x[i]; return a; }
FR_INLINE vfloat min_f(vfloat a, vfloat b) { FR_EACH a.x[i] = a.x[i] < b.x[i] ? a.x[i] : b.x[i]; return a; }
FR_INLINE uint32_t above_f(vfloat a, vfloat b) { uint32_t m = 0; FR_EACH m |= uint32_t(a.x[i] > b.x[i]) << i; return m; }
FR_INLINE vint round_f(vfloat v) { vint r; FR_EACH r.x[i] = int32_t(v.x[i] + (v.x[i] < 0 ? -0.5f : 0.5f)); return r; }
FR_INLINE vint truncate_f(vfloat v) { vint r; FR_EACH r.x[i] = int32_t(v.x[i]); return r; }
// of unsigned numbers, which may wrap
FR_INLINE vint add_i(vint a, vint b) { FR_EACH a.x[i] = int32_t(uint32_t(a.x[i]) + uint32_t(b.x[i])); return a; }
FR_INLINE vint sub_i(vint a, vint b) { FR_EACH a.x[i] = int32_t(uint32_t(a.x[i]) - uint32_t(b.x[i])); return a; }
FR_INLINE vfloat nfma_f(vfloat a, vfloat b, vfloat c) { FR_EACH a.x[i] = c.x[i] - a.x[i] * b.x[i]; return a; }
FR_INLINE vint dot4(vint sum, vint items, vint query) {
  uint8_t u[16];
  int8_t s[4];
  memcpy(u, &items, 16), memcpy(s, &query, 4);
  FR_EACH for (int j = 0; j < 4; ++j) sum.x[i] += int32_t(u[4 * i + j]) * s[j];
  return sum;
}
#endif

// The bits that all three have.
FR_INLINE vint and_i(vint a, vint b, vint c) {
#if defined(FR_AVX512)
  return _mm512_ternarylogic_epi32(a, b, c, 0x80);
#else
  return and_i(and_i(a, b), c);
#endif
}

template <int I>
struct Constant {
  constexpr operator int() const { return I; }
};

// Call f(0), f(1), ... f(N - 1) with constants.  Loops would do, but GCC unrolls them only after it has decided which
// arrays live in registers, and then keeps the accumulators in memory.
#define FR_BODY __attribute__((always_inline))
template <int N, class F>
FR_INLINE void unroll(const F &f) {
  if constexpr (N > 0) {
    unroll<N - 1>(f);
    f(Constant<N - 1>());
  }
}

// Oblige the compiler to have `v` in a register here.
#if defined(__GNUC__) && defined(FR_AVX512)
#define FR_IN_REGISTER(v) asm volatile("" : "+v"(v))
#elif defined(__GNUC__) && (defined(FR_AVX2) || defined(FR_SSE2))
#define FR_IN_REGISTER(v) asm volatile("" : "+x"(v))
#else
#define FR_IN_REGISTER(v) (void)(v)
#endif

// How a tile passes over a panel: to its end; with looks on the way, which may end it; with looks after which a few
// queries of it go on by themselves, which pays where items are turned; the same with the next panel not in the cache,
// and asked for.
enum { WHOLE, LOOKING, TURNED, COLD };
// What a tile returns beside the bits of queries: a look ended it for all but those; the first did.
constexpr uint32_t DROPPED = 1u << 31, EARLY = 1u << 28;
// Inside: it ended it for all but those, whose products go on one by one from the first look or the second.
constexpr uint32_t UNFINISHED[FR_LOOKS] = {1u << 29, 1u << 30};
// The most queries of a tile of Q that go on by themselves: more are as quickly finished together.
constexpr int few_of(int Q) { return Q * 5 / 12; }

// Ask for four dimensions of a panel.
FR_INLINE void ask_for(const uint8_t *at) {
#if defined(__GNUC__)
  __builtin_prefetch(at);
  __builtin_prefetch(at + 64);
#else
  (void)at;
#endif
}

// Whether all sums of a tile are negative.
template <int Q>
FR_INLINE bool all_negative(const vint (&sum)[Q][FR_NV]) {
  constexpr int N = Q * FR_NV;
  const auto at = [&](auto i) FR_BODY { return sum[i / FR_NV][i % FR_NV]; };
  vint all = sum[0][0];
  unroll<(N - 1) / 2>([&](auto i) FR_BODY { all = and_i(all, at(Constant<2 * i + 1>()), at(Constant<2 * i + 2>())); });
  if constexpr (N % 2 == 0) all = and_i(all, at(Constant<N - 1>()));
  return negative_i(all) == (1u << FR_LANES) - 1;
}

// Which of the queries of a tile have a sum that is not negative.
template <int Q>
FR_INLINE uint32_t not_negative(const vint (&sum)[Q][FR_NV]) {
  uint32_t hits = 0;
  unroll<Q>([&](auto i) FR_BODY {
    constexpr int q = Q - 1 - i;
    vint all = sum[q][0];
    unroll<FR_NV - 1>([&](auto v) FR_BODY { all = and_i(all, sum[q][v + 1]); });
    hits = 2 * hits + (negative_i(all) != (1u << FR_LANES) - 1);
  });
  return hits;
}

// Products of a panel with a tile of queries, each less a bar: the bits of the queries of which one is not negative.
//   panel [d4][32][4] u8 · query [d4][Q] of four s8 · start [Q] minus the bars
//   dots  [Q][32] out, if there are such queries: start + products; with ADD also what it held before
// The sums begin at minus the bar, so that only signs are looked at and, where nothing passes, nothing is stored.
// With looks there is a bar for each, too, of dimensions up to 4 * ends[look] (none where that is d4), that lies lower by
// what those behind it could still add: where no sum reaches it the rest is not computed, and where those of a few
// queries do, only theirs may be.  `start` then is [looks + 1][apart], the first minus the bar of the first look, the
// others what each adds to the one before.
//
// The loop is in a function of its own, and the sums are named once more behind it: else GCC 12 prefers to have them
// in memory, in the loop too, at a third of the speed.
template <int Q, bool ADD, int MODE>
FR_NOINLINE uint32_t tile_in_registers(const uint8_t *FR_RESTRICT panel, int64_t d4, const int64_t *FR_RESTRICT ends,
                                       const int32_t *FR_RESTRICT query, const int32_t *FR_RESTRICT start,
                                       int64_t apart, const uint8_t *ahead, int32_t *FR_RESTRICT dots) {
  vint sum[Q][FR_NV];
  unroll<Q>([&](auto q) FR_BODY {
    unroll<FR_NV>([&](auto v) FR_BODY {
      sum[q][v] = ADD ? add_i(load_i(dots + q * FR_PANEL + v * FR_LANES), set_i(start[q])) : set_i(start[q]);
    });
  });
  const auto advance = [&](int64_t begin, int64_t end, auto asking) FR_BODY {
    for (int64_t t = begin; t < end; ++t) {
      if constexpr (asking) ask_for(ahead + t * 4 * FR_PANEL);
      vint item[FR_NV];
      unroll<FR_NV>([&](auto v) FR_BODY { item[v] = load_i(panel + (t * FR_NV + v) * (4 * FR_LANES)); });
      unroll<Q>([&](auto q) FR_BODY {
        const vint u = set_i(query[t * Q + q]);
        unroll<FR_NV>([&](auto v) FR_BODY { sum[q][v] = dot4(sum[q][v], item[v], u); });
      });
    }
    unroll<Q>([&](auto q) FR_BODY { unroll<FR_NV>([&](auto v) FR_BODY { FR_IN_REGISTER(sum[q][v]); }); });
  };
  int64_t done = 0;
  if constexpr (MODE != WHOLE) {
    for (int look = 0; look < FR_LOOKS && (MODE >= TURNED || ends[look] < d4); ++look) {
      const int64_t end = ends[look];
      if (MODE == COLD && look == 0)
        advance(done, end, Constant<1>());
      else
        advance(done, end, Constant<0>());
      if (all_negative<Q>(sum)) return look ? DROPPED : DROPPED | EARLY;
      if (MODE == COLD && look == 0)
        for (int64_t t = end; t < d4; ++t) ask_for(panel + t * 4 * FR_PANEL);
      if constexpr (MODE >= TURNED && few_of(Q)) {
        const uint32_t some = not_negative<Q>(sum);
        if (__builtin_popcount(some) <= few_of(Q)) {
          unroll<Q>([&](auto q) FR_BODY {
            unroll<FR_NV>([&](auto v) FR_BODY { store_i(dots + q * FR_PANEL + v * FR_LANES, sum[q][v]); });
          });
          return some | UNFINISHED[look];
        }
      }
      start += apart, done = end;
      unroll<Q>([&](auto q) FR_BODY {
        unroll<FR_NV>([&](auto v) FR_BODY { sum[q][v] = add_i(sum[q][v], set_i(start[q])); });
      });
    }
  }
  advance(done, d4, Constant<0>());
  if (all_negative<Q>(sum)) return 0;  // as nearly always: which ones takes three times as long to ask
  unroll<Q>([&](auto q) FR_BODY {
    unroll<FR_NV>([&](auto v) FR_BODY { store_i(dots + q * FR_PANEL + v * FR_LANES, sum[q][v]); });
  });
  return not_negative<Q>(sum);
}

// Go on with N queries of a tile from a look on: the bits of those that are left at the end.
template <int Q, int N>
FR_INLINE uint32_t finish_some(const uint8_t *FR_RESTRICT panel, int64_t d4, const int64_t *FR_RESTRICT ends,
                               const int32_t *FR_RESTRICT query, const int32_t *FR_RESTRICT start, int64_t apart,
                               int32_t *FR_RESTRICT dots, int look, const int (&q)[N]) {
  vint sum[N][2][FR_NV];  // of even and of odd groups, or additions would wait for each other
  unroll<N>([&](auto n) FR_BODY {
    unroll<FR_NV>([&](auto v) FR_BODY { sum[n][0][v] = load_i(dots + q[n] * FR_PANEL + v * FR_LANES); });
  });
  for (int64_t t = ends[look]; look < FR_LOOKS; ++look) {
    const int64_t end = look + 1 < FR_LOOKS ? ends[look + 1] : d4;
    unroll<N>([&](auto n) FR_BODY {
      const vint lower = set_i(start[(look + 1) * apart + q[n]]);
      unroll<FR_NV>([&](auto v) FR_BODY {
        sum[n][0][v] = add_i(sum[n][0][v], lower);
        sum[n][1][v] = set_i(0);
      });
    });
    const auto add = [&](int64_t t, auto a) FR_BODY {
      vint item[FR_NV];
      unroll<FR_NV>([&](auto v) FR_BODY { item[v] = load_i(panel + (t * FR_NV + v) * (4 * FR_LANES)); });
      unroll<N>([&](auto n) FR_BODY {
        const vint u = set_i(query[t * Q + q[n]]);
        unroll<FR_NV>([&](auto v) FR_BODY { sum[n][a][v] = dot4(sum[n][a][v], item[v], u); });
      });
    };
    for (; t + 2 <= end; t += 2) add(t, Constant<0>()), add(t + 1, Constant<1>());
    if (t < end) add(t++, Constant<0>());
    vint all = set_i(-1);
    unroll<N>([&](auto n) FR_BODY {
      unroll<FR_NV>([&](auto v) FR_BODY {
        sum[n][0][v] = add_i(sum[n][0][v], sum[n][1][v]);
        all = and_i(all, sum[n][0][v]);
      });
    });
    if (negative_i(all) == (1u << FR_LANES) - 1) return 0;
  }
  uint32_t hits = 0;
  unroll<N>([&](auto n) FR_BODY {
    vint all = set_i(-1);
    unroll<FR_NV>([&](auto v) FR_BODY {
      all = and_i(all, sum[n][0][v]);
      store_i(dots + q[n] * FR_PANEL + v * FR_LANES, sum[n][0][v]);
    });
    hits |= uint32_t(negative_i(all) != (1u << FR_LANES) - 1) << q[n];
  });
  return hits;
}

// Go on with the queries that a look left of a tile, two at a time: tile_in_registers' arguments and what it returned.
template <int Q>
FR_NOINLINE uint32_t finish_in_registers(const uint8_t *FR_RESTRICT panel, int64_t d4, const int64_t *FR_RESTRICT ends,
                                         const int32_t *FR_RESTRICT query, const int32_t *FR_RESTRICT start,
                                         int64_t apart, int32_t *FR_RESTRICT dots, uint32_t found) {
  const int look = found & UNFINISHED[0] ? 0 : 1;
  uint32_t hits = DROPPED, left = found & ((1u << Q) - 1);
  const auto next = [&]() FR_BODY {
    const int q = __builtin_ctz(left);
    left &= left - 1;
    return q;
  };
  while (left) {
    const int one = next();
    if (few_of(Q) > 1 && left) {
      const int both[2] = {one, next()};
      hits |= finish_some<Q, 2>(panel, d4, ends, query, start, apart, dots, look, both);
    } else {
      const int alone[1] = {one};
      hits |= finish_some<Q, 1>(panel, d4, ends, query, start, apart, dots, look, alone);
    }
  }
  return hits;
}

template <int Q, bool ADD>
FR_NOINLINE void dots_f32(const float *FR_RESTRICT panel, int64_t d, const float *FR_RESTRICT query,
                          float *FR_RESTRICT dots) {
  vfloat sum[Q][FR_NV];
  unroll<Q>([&](auto q) FR_BODY {
    unroll<FR_NV>([&](auto v) FR_BODY {
      sum[q][v] = ADD ? load_f(dots + q * FR_PANEL + v * FR_LANES) : set_f(0.0f);
    });
  });
  for (int64_t t = 0; t < d; ++t) {
    vfloat item[FR_NV];
    unroll<FR_NV>([&](auto v) FR_BODY { item[v] = load_f(panel + t * FR_PANEL + v * FR_LANES); });
    unroll<Q>([&](auto q) FR_BODY {
      const vfloat u = set_f(query[t * Q + q]);
      unroll<FR_NV>([&](auto v) FR_BODY { sum[q][v] = fma_f(item[v], u, sum[q][v]); });
    });
  }
  unroll<Q>([&](auto q) FR_BODY {
    unroll<FR_NV>([&](auto v) FR_BODY { store_f(dots + q * FR_PANEL + v * FR_LANES, sum[q][v]); });
  });
}

// Queries whose sums are in registers at a time, of a tile of Q.
constexpr int in_registers(int Q) { return Q > FR_TILE ? FR_TILE : Q; }

// How the codes of a tile's queries lie: [d4][in_registers] of four s8 in an int32, once or more; or as AMX wants them.
template <int Q, class F>
FR_INLINE void weave_i8(int32_t *out, int64_t d4, const F &codes) {
#if defined(FR_AMX)
  if (Q >= 16) return amx_weave<Q>(out, d4, codes);
#endif
  constexpr int R = in_registers(Q);
  for (int j = 0; j < Q; ++j) {
    const int32_t *from = codes(j);
    int32_t *to = out + j / R * R * d4 + j % R;
    for (int64_t t = 0; t < d4; ++t) to[t * R] = from[t];
  }
}

// The additive terms of a panel, `step[q]` integer steps for each unit of beta [32], into dots [Q][32].
template <int Q>
FR_INLINE void terms_i8(const float *beta, const float *step, int32_t *dots) {
  for (int q = 0; q < Q; ++q)
    for (int v = 0; v < FR_NV; ++v) {
      const vfloat x = mul_f(load_f(beta + v * FR_LANES), set_f(step[q]));
      store_i(dots + q * FR_PANEL + v * FR_LANES, round_f(min_f(max_f(x, set_f(-0x1.8p29f)), set_f(0x1.8p29f))));
    }
}

// Integer tile of queries from weave_i8: tile_in_registers, once or more; `dots` holds the additive terms if ADD.
// DROPPED where looks ended all of it, EARLY where the first did.
template <int Q, bool ADD, int MODE>
FR_INLINE uint32_t tile_i8(const uint8_t *panel, int64_t d4, const int64_t *ends, const int32_t *query,
                           const int32_t *start, int64_t apart, const uint8_t *ahead, int32_t *dots) {
  constexpr int R = in_registers(Q);
  uint32_t hits = 0, ended = DROPPED | EARLY;
  for (int j = 0; j < Q; j += R) {
    uint32_t some =
        tile_in_registers<R, ADD, MODE>(panel, d4, ends, query + j * d4, start + j, apart, ahead, dots + j * FR_PANEL);
    if (MODE >= TURNED && some & (UNFINISHED[0] | UNFINISHED[1]))
      some = finish_in_registers<R>(panel, d4, ends, query + j * d4, start + j, apart, dots + j * FR_PANEL, some);
    ended &= some, hits |= (some & ~(DROPPED | EARLY)) << j;
  }
  return hits | ended;
}

#if defined(FR_AMX)
// The bits of the queries of which a dot exceeds the threshold.
template <int Q>
FR_INLINE uint32_t hits_i8(const int32_t *dots, const int32_t *threshold) {
  uint32_t hits = 0;
  asm("" : "+r"(threshold) : : "memory");  // or GCC 12 permutes them out of the vectors they came from, at twice the time
  unroll<Q>([&](auto i) FR_BODY {
    constexpr int q = Q - 1 - i;
    const vint best = _mm512_max_epi32(load_i(dots + q * FR_PANEL), load_i(dots + q * FR_PANEL + FR_LANES));
    uint32_t some = _mm512_cmpgt_epi32_mask(best, set_i(threshold[q]));
    asm("neg %1\n\tadc %0, %0" : "+r"(hits), "+r"(some) : : "cc");  // hits = 2 * hits + (some != 0)
  });
  return hits;
}
#endif

// Float tile: the same in one, with panel [d][32] floats, query [d][Q] floats and threshold [Q].
template <int Q>
FR_INLINE uint32_t tile_f32(const float *panel, int64_t d, const float *query, const float *threshold,
                            const float *beta, const float *step, float *dots) {
  if (beta) {
    for (int q = 0; q < Q; ++q)
      for (int v = 0; v < FR_NV; ++v)
        store_f(dots + q * FR_PANEL + v * FR_LANES, mul_f(load_f(beta + v * FR_LANES), set_f(step[q])));
    dots_f32<Q, true>(panel, d, query, dots);
  } else {
    dots_f32<Q, false>(panel, d, query, dots);
  }
  uint32_t hits = 0;
  unroll<Q>([&](auto q) FR_BODY {
    vfloat best = load_f(dots + q * FR_PANEL);
    unroll<FR_NV - 1>([&](auto v) FR_BODY { best = max_f(best, load_f(dots + q * FR_PANEL + (v + 1) * FR_LANES)); });
    hits |= uint32_t(above_f(best, set_f(threshold[q])) != 0) << q;
  });
  return hits;
}

// Which of a query's 32 sums, each with `more` added to it, are not negative; which exceed its threshold.
FR_INLINE uint32_t reaching_32(const int32_t *sums, int32_t more) {
  uint32_t mask = 0;
  for (int v = 0; v < FR_NV; ++v)
    mask |= negative_i(add_i(load_i(sums + v * FR_LANES), set_i(more))) << (v * FR_LANES);
  return ~mask;
}
FR_INLINE uint32_t above_32(const float *dots, float threshold) {
  uint32_t mask = 0;
  for (int v = 0; v < FR_NV; ++v) mask |= above_f(load_f(dots + v * FR_LANES), set_f(threshold)) << (v * FR_LANES);
  return mask;
}

}  // namespace
