#include "evaluation_types.h"

extern "C" int FR_FN(fr_evaluation_level)(void) {
#if defined(FR_VNNI)
  return 3;
#elif defined(FR_AVX512)
  return 2;
#elif defined(FR_AVX2)
  return 1;
#else
  return 0;
#endif
}
