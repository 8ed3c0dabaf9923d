// AMX: inner products of 16 or 32 queries with one panel of 32 items, as 16 x 16 tiles of int32.
//
// A panel, [d/4][32 items][4] bytes, already is what the instruction wants of its second operand: rows of 16 items, 4
// dimensions each.  The first operand is 16 queries x up to 64 dimensions.  Where d is no multiple of 64 the last step
// goes back to cover 64 dimensions again, with zeros in the queries for those that were done.
#pragma once
#include "ranking_types.h"

#if defined(FR_AMX)
namespace {

// Groups of 4 dimensions that one step takes, and the steps of a panel.
FR_INLINE int64_t amx_depth(int64_t d4) { return d4 < 16 ? d4 : 16; }
FR_INLINE int64_t amx_steps(int64_t d4) { return (d4 + 15) / 16; }
FR_INLINE int64_t amx_start(int64_t d4, int64_t step) {
  const int64_t last = d4 - amx_depth(d4);
  return 16 * step < last ? 16 * step : last;
}

// Shape this thread's tile registers: 0..3 sums, 4 and 5 queries, 6 and 7 items.  amx_leave() ends it.
FR_INLINE void amx_enter(int64_t d4) {
  struct alignas(64) Shape {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t rows[16];
  } shape = {};
  const int64_t depth = amx_depth(d4);
  shape.palette = 1;
  for (int t = 0; t < 8; ++t) {
    shape.rows[t] = uint8_t(t < 6 ? 16 : depth);
    shape.bytes[t] = uint16_t(t == 4 || t == 5 ? 4 * depth : 64);
  }
  asm volatile("" ::: "memory");  // the intrinsics of GCC 12 do not say that they read memory
  _tile_loadconfig(&shape);
}
FR_INLINE void amx_leave() { _tile_release(); }

// The queries' codes as operands: [step][Q][depth] of four s8 in an int32.  `codes(j)` is the query's [d4].
template <int Q, class F>
FR_INLINE void amx_weave(int32_t *out, int64_t d4, const F &codes) {
  const int64_t depth = amx_depth(d4), steps = amx_steps(d4);
  for (int64_t s = 0; s < steps; ++s) {
    const int64_t start = amx_start(d4, s), done = 16 * s - start;
    for (int j = 0; j < Q; ++j, out += depth) {
      const int32_t *from = codes(j) + start;
      for (int64_t t = 0; t < depth; ++t) out[t] = t < done ? 0 : from[t];
    }
  }
}

#define FR_AMX_START(sum, at)           \
  do {                                  \
    if (ADD) _tile_loadd(sum, at, row); \
    else _tile_zero(sum);               \
  } while (0)

// Put the queries of a pass into registers, where one step takes all dimensions; dots_amx relies on it.
template <int Q>
FR_INLINE void amx_hold(int64_t d4, const int32_t *query) {
  const int64_t depth = amx_depth(d4);
  asm volatile("" ::: "memory");
  _tile_loadd(4, query, 4 * depth);
  if (Q > 16) _tile_loadd(5, query + 16 * depth, 4 * depth);
}

// dots[q][i] = start + query q . item i, where start is what `dots` holds if ADD, else 0.
//
// Tile instructions run nearly in order, so products, stores and loads overlap only if they alternate: each sum is
// stored one product later, and the last one by the next call, which is told where (`before`), or by amx_flush.
template <int Q, bool ADD>
FR_INLINE void dots_amx(const uint8_t *panel, int64_t d4, const int32_t *query, int32_t *dots, int32_t *before) {
  const int64_t depth = amx_depth(d4), steps = amx_steps(d4), row = 4 * FR_PANEL;
  constexpr int64_t LOWER = 16 * FR_PANEL;  // the second 16 queries
  asm volatile("" ::: "memory");
  for (int64_t s = 0; s < steps; ++s) {
    const bool first = s == 0, last = s == steps - 1;
    const uint8_t *const items = panel + amx_start(d4, s) * row;
    const int32_t *const codes = query + s * Q * depth;
    // what the next step, of this panel or the next, will load: the hardware does not foresee loads of tiles
    for (int64_t b = depth * row; b < 2 * depth * row; b += 64) __builtin_prefetch(items + b);
    _tile_loadd(6, items, row);
    if (steps > 1) _tile_loadd(4, codes, 4 * depth);
    if (first) FR_AMX_START(0, dots);
    _tile_dpbsud(0, 4, 6);
    if (Q > 16) {
      if (first) {
        _tile_stored(3, before + LOWER + 16, row);
        FR_AMX_START(2, dots + LOWER);
      }
      if (steps > 1) _tile_loadd(5, codes + 16 * depth, 4 * depth);
      _tile_dpbsud(2, 5, 6);
      if (last) _tile_stored(0, dots, row);
      _tile_loadd(7, items + 64, row);
      if (first) FR_AMX_START(1, dots + 16);
      _tile_dpbsud(1, 4, 7);
      if (last) _tile_stored(2, dots + LOWER, row);
      if (first) FR_AMX_START(3, dots + LOWER + 16);
      _tile_dpbsud(3, 5, 7);
      if (last) _tile_stored(1, dots + 16, row);
    } else {
      if (first) _tile_stored(1, before + 16, row);
      _tile_loadd(7, items + 64, row);
      if (first) FR_AMX_START(1, dots + 16);
      _tile_dpbsud(1, 4, 7);
      if (last) _tile_stored(0, dots, row);
    }
  }
}
template <int Q>
FR_INLINE void amx_flush(int32_t *before) {
  if (Q > 16) _tile_stored(3, before + 16 * FR_PANEL + 16, 4 * FR_PANEL);
  else _tile_stored(1, before + 16, 4 * FR_PANEL);
}
#undef FR_AMX_START

}  // namespace
#endif
