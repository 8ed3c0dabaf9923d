// Names for sizes, without headers: a .cu is compiled from its text alone.
#ifndef FR_TYPES_CUH
#define FR_TYPES_CUH
typedef long long fr_i64;
typedef unsigned long long fr_u64;
typedef unsigned int fr_u32;

#define FR_ALL 0xffffffffu                         // every lane of a warp
#define FR_INFINITY __uint_as_float(0x7f800000u)
#ifndef FR_BLOCK
#define FR_BLOCK 256
#endif
enum { FR_THREADS = FR_BLOCK };                    // of a block that works together
enum { FR_DOT = 0, FR_COSINE = 1, FR_L2 = 2 };
#endif
