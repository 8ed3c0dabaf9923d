// What this machine can do at most, to hold measured times against: multiply-adds that never wait for memory, and
// memory that is never waited on by arithmetic.  Each kernel returns the operations (or bytes) it did and stores a
// value that depends on all of them, so that none can be optimised away.
#include "amx.h"
#include "roofs_types.h"

#include <string.h>

#if !defined(FR_AVX2) && defined(__SSE2__)
#include <emmintrin.h>
#endif

#if defined(__GNUC__)
#define FR_PREFETCH(p) __builtin_prefetch(p, 0, 2)  // into the second cache, which has room for more requests
#else
#define FR_PREFETCH(p) (void)0
#endif

namespace {

// Each step is written as the instructions themselves: from intrinsics GCC makes register copies and spills here that
// cost up to half of the rate, and hoists products of constants out of the loop.  (The sets above the baseline are
// compiled by GCC and Clang only.)  Twelve independent chains hide an instruction's latency (4 or 5 cycles x 2 a
// cycle) and stay in sixteen registers; they are variables of their own because GCC copies the elements of an array.
#define FR_CHAINS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11)
enum { CHAINS = 12 };

// fp32: x <- x * 1/2 + 1/2 goes to 1, so no value ever becomes subnormal.
#if defined(FR_AVX512)
typedef __m512 floats;
enum { LANES = 16 };
FR_INLINE floats all(float x) { return _mm512_set1_ps(x); }
FR_INLINE void step(floats &x, floats a) { asm volatile("vfmadd213ps %1, %1, %0" : "+v"(x) : "v"(a)); }
#elif defined(FR_AVX2)
typedef __m256 floats;
enum { LANES = 8 };
FR_INLINE floats all(float x) { return _mm256_set1_ps(x); }
FR_INLINE void step(floats &x, floats a) { asm volatile("vfmadd213ps %1, %1, %0" : "+x"(x) : "x"(a)); }
#elif defined(__SSE2__)
typedef __m128 floats;
enum { LANES = 4 };
FR_INLINE floats all(float x) { return _mm_set1_ps(x); }
FR_INLINE void step(floats &x, floats a) { x = _mm_add_ps(_mm_mul_ps(x, a), a); }
#else
typedef float floats;
enum { LANES = 1 };
FR_INLINE floats all(float x) { return x; }
FR_INLINE void step(floats &x, floats a) { x = x * a + a; }
#endif

// int8: unsigned x signed bytes, summed in int32, by the shortest sequence the instruction set has.
#if defined(FR_VNNI)
typedef __m512i ints;
enum { BYTES = 64 };
FR_INLINE ints every(int x) { return _mm512_set1_epi32(x); }
FR_INLINE void dot(ints &sum, ints a, ints) { asm volatile("vpdpbusd %1, %1, %0" : "+v"(sum) : "v"(a)); }
#elif defined(FR_AVX512)
typedef __m512i ints;
enum { BYTES = 64 };
FR_INLINE ints every(int x) { return _mm512_set1_epi32(x); }
FR_INLINE void dot(ints &sum, ints a, ints ones) {
  ints part;
  asm volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
               : "+v"(sum), "=&v"(part) : "v"(a), "v"(ones));
}
#elif defined(FR_AVX2)
typedef __m256i ints;
enum { BYTES = 32 };
FR_INLINE ints every(int x) { return _mm256_set1_epi32(x); }
FR_INLINE void dot(ints &sum, ints a, ints ones) {
  ints part;
  asm volatile("vpmaddubsw %2, %2, %1\n\tvpmaddwd %3, %1, %1\n\tvpaddd %1, %0, %0"
               : "+x"(sum), "=&x"(part) : "x"(a), "x"(ones));
}
#elif defined(__SSE2__)
// SSE2 has no product of bytes: they are held widened to 16 bits, so a register takes 8 of them.
typedef __m128i ints;
enum { BYTES = 8 };
FR_INLINE ints every(int x) { return _mm_set1_epi32(x); }
FR_INLINE void dot(ints &sum, ints, ints ones) { sum = _mm_add_epi32(sum, _mm_madd_epi16(_mm_xor_si128(sum, ones), ones)); }
#else
typedef uint32_t ints;
enum { BYTES = 1 };
FR_INLINE ints every(int x) { return (uint32_t)x; }
FR_INLINE void dot(ints &sum, ints a, ints) { sum += (sum & 0x7f) * (a & 0x7f); }
#endif

template <typename T>
FR_INLINE uint64_t first_word(const T &value) {
  uint64_t word = 0;
  memcpy(&word, &value, sizeof value < 8 ? sizeof value : 8);
  return word;
}

// A row in 0..rows-1 (rows < 2^32) from a linear congruential step: no table of indices to read beside the rows.
FR_INLINE uint64_t next(uint64_t state) { return state * 6364136223846793005u + 1442695040888963407u; }
FR_INLINE const uint64_t *row_of(const uint64_t *data, uint64_t rows, uint64_t state) {
  return data + ((state >> 32) * rows >> 32) * FR_ROW_WORDS;
}

}  // namespace

extern "C" int FR_FN(fr_roofs_level)(void) { return FR_LEVEL; }

extern "C" int64_t FR_FN(fr_fp32_peak)(int64_t steps, uint64_t *sink) {
  const floats half = all(0.5f);
#define FR_START(i) floats c##i = all(1.0f + i);
#define FR_STEP(i) step(c##i, half);
#define FR_END(i) *sink ^= first_word(c##i);
  FR_CHAINS(FR_START)
  for (int64_t s = 0; s < steps; ++s) { FR_CHAINS(FR_STEP) }
  FR_CHAINS(FR_END)
  return steps * CHAINS * LANES * 2;
#undef FR_START
#undef FR_STEP
}

#if defined(FR_AMX)
extern "C" int64_t FR_FN(fr_int8_peak)(int64_t steps, uint64_t *sink) {
  alignas(64) uint64_t tile[128] = {};
  amx_enter(16);
  _tile_loadd(4, tile, 64);
  _tile_loadd(6, tile, 64);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (int64_t s = 0; s < steps; ++s) {  // four sums: 52 cycles of latency, 16 a product
    _tile_dpbusd(0, 4, 6);
    _tile_dpbusd(1, 4, 6);
    _tile_dpbusd(2, 4, 6);
    _tile_dpbusd(3, 4, 6);
  }
  _tile_stored(0, tile, 64);
  *sink ^= tile[0];
  amx_leave();
  return steps * 4 * 16 * 16 * 64 * 2;
}
#else
extern "C" int64_t FR_FN(fr_int8_peak)(int64_t steps, uint64_t *sink) {
  const ints a = every(0x01010101), ones = every(0x00010001);
#define FR_START(i) ints c##i = every(i);
#define FR_STEP(i) dot(c##i, a, ones);
  FR_CHAINS(FR_START)
  for (int64_t s = 0; s < steps; ++s) { FR_CHAINS(FR_STEP) }
  FR_CHAINS(FR_END)
  return steps * CHAINS * BYTES * 2;
}
#endif

// Four streams at once: one page-walk or prefetcher alone does not fill the memory channels.
extern "C" int64_t FR_FN(fr_read_all)(const uint64_t *data, int64_t lines, uint64_t *sink) {
  const int64_t quarter = lines / 4 * FR_LINE_WORDS;
  uint64_t sums[4][FR_LINE_WORDS] = {};
  for (int64_t at = 0; at < quarter; at += FR_LINE_WORDS)
    for (int stream = 0; stream < 4; ++stream)
      for (int w = 0; w < FR_LINE_WORDS; ++w) sums[stream][w] += data[stream * quarter + at + w];
  for (int stream = 0; stream < 4; ++stream)
    for (int w = 0; w < FR_LINE_WORDS; ++w) *sink += sums[stream][w];
  return quarter * 4 * 8;
}

extern "C" int64_t FR_FN(fr_read_random)(const uint64_t *data, int64_t rows, int64_t reads, uint64_t seed,
                                         uint64_t *sink) {
  const int ahead = 48;  // rows asked for before they are read
  uint64_t now = next(seed), later = now, sums[FR_ROW_WORDS] = {};
  for (int i = 0; i < ahead; ++i) later = next(later);
  for (int64_t r = 0; r < reads; ++r) {
    const uint64_t *soon = row_of(data, (uint64_t)rows, later), *row = row_of(data, (uint64_t)rows, now);
    for (int w = 0; w < FR_ROW_WORDS; w += FR_LINE_WORDS) FR_PREFETCH(soon + w);
    for (int w = 0; w < FR_ROW_WORDS; ++w) sums[w] += row[w];
    now = next(now);
    later = next(later);
  }
  for (int w = 0; w < FR_ROW_WORDS; ++w) *sink += sums[w];
  return reads * FR_ROW_WORDS * 8;
}

// The same for rows that lie in five lines, as those of NumPy's matrices do.  Five lines in order start the hardware's
// streams, which bring what nobody reads, and four do not: so the last is asked for apart, a long way ahead, and rows are
// read from their ends.
extern "C" int64_t FR_FN(fr_read_apart)(const uint64_t *data, int64_t rows, int64_t reads, uint64_t seed, uint64_t *sink) {
  const int ahead = 32, early = 64;
  uint64_t now = next(seed), later = now, sums[FR_ROW_WORDS] = {};
  for (int i = 0; i < ahead; ++i) later = next(later);
  uint64_t latest = later;
  for (int i = ahead; i < early; ++i) latest = next(latest);
  for (int64_t r = 0; r < reads; ++r) {
    const uint64_t *soon = row_of(data, (uint64_t)rows, later), *row = row_of(data, (uint64_t)rows, now);
    FR_PREFETCH(row_of(data, (uint64_t)rows, latest) + FR_ROW_WORDS - 1);
    for (int w = 0; w < FR_ROW_WORDS; w += FR_LINE_WORDS) FR_PREFETCH(soon + w);
    for (int at = FR_ROW_WORDS - FR_LINE_WORDS; at >= 0; at -= FR_LINE_WORDS)
      for (int w = 0; w < FR_LINE_WORDS; ++w) sums[at + w] += row[at + w];
    now = next(now), later = next(later), latest = next(latest);
  }
  for (int w = 0; w < FR_ROW_WORDS; ++w) *sink += sums[w];
  return reads * FR_ROW_WORDS * 8;
}
