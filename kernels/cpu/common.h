// Shared by every kernel body.  A body `x.isa.cpp` is compiled once per instruction set; FR_FN(name) gives each
// function the suffix of the set it was compiled for.  Helpers live in anonymous namespaces: no STL containers, no
// exceptions, no templates with external linkage, so that an object exports its suffixed kernels and nothing else.
#pragma once
#include <stddef.h>
#include <stdint.h>

#define FR_JOIN_(a, b) a##_##b
#define FR_JOIN(a, b) FR_JOIN_(a, b)
#if defined(FR_ISA)
#define FR_FN(name) FR_JOIN(name, FR_ISA)
#endif

#if defined(_MSC_VER)
#define FR_RESTRICT __restrict
#define FR_NOINLINE __declspec(noinline)
#define FR_INLINE __forceinline
#define FR_LIKELY(x) (x)
#define FR_UNLIKELY(x) (x)
#else
#define FR_RESTRICT __restrict__
#define FR_NOINLINE __attribute__((noinline))
#define FR_INLINE inline __attribute__((always_inline))
#define FR_LIKELY(x) __builtin_expect(!!(x), 1)
#define FR_UNLIKELY(x) __builtin_expect(!!(x), 0)
#endif

#if defined(FR_ISA_AVX512AMX)
#define FR_AMX 1
#endif
#if defined(FR_ISA_AVX512VNNI) || defined(FR_AMX)
#define FR_VNNI 1
#endif
#if defined(FR_ISA_AVX512) || defined(FR_VNNI)
#define FR_AVX512 1
#endif
// The level number of the set a body is compiled for (isa.h), which lets a test see what dispatch chose.
#if defined(FR_AMX)
#define FR_LEVEL 4
#elif defined(FR_VNNI)
#define FR_LEVEL 3
#elif defined(FR_AVX512)
#define FR_LEVEL 2
#elif defined(FR_ISA_AVX2)
#define FR_LEVEL 1
#else
#define FR_LEVEL 0
#endif
#if defined(FR_AVX512) || defined(FR_ISA_AVX2)
#define FR_AVX2 1
#include <immintrin.h>
#endif
