// Which instruction sets this build holds and this machine can run.
#include "isa.h"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
static void cpuid(unsigned leaf, unsigned sub, unsigned r[4]) { __cpuidex(reinterpret_cast<int *>(r), leaf, sub); }
static uint64_t xcr0() { return _xgetbv(0); }
#else
#include <cpuid.h>
static void cpuid(unsigned leaf, unsigned sub, unsigned r[4]) {
  if (!__get_cpuid_count(leaf, sub, &r[0], &r[1], &r[2], &r[3])) r[0] = r[1] = r[2] = r[3] = 0;
}
static uint64_t xcr0() {
  unsigned lo, hi;
  __asm__ volatile("xgetbv" : "=a"(lo), "=d"(hi) : "c"(0));
  return (uint64_t(hi) << 32) | lo;
}
#endif

// The tile registers' 8 KB are saved for a process only once it has asked for that, and a kernel may refuse.
#if defined(FR_HAVE_AVX512AMX) && defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
static bool tiles_permitted() {
  enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static bool tiles_permitted() { return false; }
#endif

static bool bit(unsigned word, int n) { return (word >> n) & 1u; }

int fr_isa_machine(void) {
  unsigned one[4], seven[4];
  cpuid(1, 0, one);
  const bool osxsave = bit(one[2], 27);
  if (!osxsave || !bit(one[2], 28)) return FR_BASELINE;
  const uint64_t saved = xcr0();  // the operating system must save the registers, too
  cpuid(7, 0, seven);
  unsigned ext[4];
  cpuid(0x80000001u, 0, ext);
  const bool avx2 = (saved & 0x6) == 0x6 && bit(seven[1], 5) && bit(one[2], 12) /* fma */ &&
                    bit(one[2], 29) /* f16c */ && bit(seven[1], 3) && bit(seven[1], 8) /* bmi1, bmi2 */ &&
                    bit(one[2], 23) /* popcnt */ && bit(ext[2], 5) /* lzcnt */;
  if (!avx2) return FR_BASELINE;
  const bool avx512 = (saved & 0xe6) == 0xe6 && bit(seven[1], 16) /* f */ && bit(seven[1], 17) /* dq */ &&
                      bit(seven[1], 28) /* cd */ && bit(seven[1], 30) /* bw */ && bit(seven[1], 31) /* vl */;
  if (!avx512) return FR_AVX2;
  if (!bit(seven[2], 11)) return FR_AVX512;
  const bool amx = (saved & 0x60000) == 0x60000 && bit(seven[3], 24) /* tile */ && bit(seven[3], 25) /* int8 */;
  return amx && tiles_permitted() ? FR_AVX512AMX : FR_AVX512VNNI;
}
#else
int fr_isa_machine(void) { return FR_BASELINE; }
#endif

unsigned fr_isa_built(void) {
  unsigned mask = 1u << FR_BASELINE;
#if defined(FR_HAVE_AVX2)
  mask |= 1u << FR_AVX2;
#endif
#if defined(FR_HAVE_AVX512)
  mask |= 1u << FR_AVX512;
#endif
#if defined(FR_HAVE_AVX512VNNI)
  mask |= 1u << FR_AVX512VNNI;
#endif
#if defined(FR_HAVE_AVX512AMX)
  mask |= 1u << FR_AVX512AMX;
#endif
  return mask;
}
