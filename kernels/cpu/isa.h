#pragma once
#include <stdint.h>

// Level numbers; setup.py and fastrec/_core/isa.py list the same order.
enum { FR_BASELINE = 0, FR_AVX2 = 1, FR_AVX512 = 2, FR_AVX512VNNI = 3, FR_AVX512AMX = 4 };

int fr_isa_machine(void);      // the highest level this processor and operating system can run
unsigned fr_isa_built(void);   // bit mask of the levels this build holds
