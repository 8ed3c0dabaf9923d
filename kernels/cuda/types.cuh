// Names for sizes, without headers: a .cu is compiled from its text alone.
#ifndef FR_TYPES_CUH
#define FR_TYPES_CUH
typedef long long fr_i64;
typedef unsigned long long fr_u64;
typedef unsigned int fr_u32;

#define FR_ALL 0xffffffffu                         // every lane of a warp
#define FR_INFINITY __uint_as_float(0x7f800000u)
enum { FR_THREADS = 256 };                         // of a block that works together
enum { FR_DOT = 0, FR_COSINE = 1, FR_L2 = 2 };
#endif
