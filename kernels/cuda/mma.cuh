// Tensor cores and asynchronous copies, the few instructions that have no CUDA C++ without headers.
//
// sm_80 and later.  Fragments are as PTX lays them out (g = lane / 4, t = lane % 4); every lane of the warp must call.
//   A of 16 rows, row-major: register r holds row g + 8 (r % 2), and k from r / 2 on: the 4 bytes at 4 t + 16 (r / 2)
//     (s8), the 2 halves at 2 t + 8 (r / 2) (bf16), the word at t + 4 (r / 2) (tf32).
//   B of 8 columns, column-major: register r holds column g, k as in A with r for r / 2.
//   C of 16 x 8: register r holds row g + 8 (r / 2), column 2 t + r % 2.
// Without a CUDA compiler (tests/support/cuda_host.h) the same names are functions of the host.
#ifndef FR_MMA_CUH
#define FR_MMA_CUH
#if defined(__CUDACC__) || defined(__CUDACC_RTC__)

// C (16 x 8, int32) += A (16 x 32, int8) B (32 x 8, int8)
__device__ __forceinline__ void fr_mma_s8_m16n8k32(int *c, const unsigned *a, const unsigned *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+r"(c[0]), "+r"(c[1]), "+r"(c[2]), "+r"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// C (16 x 8, float) += A (16 x 16, bfloat16) B (16 x 8, bfloat16)
__device__ __forceinline__ void fr_mma_bf16_m16n8k16(float *c, const unsigned *a, const unsigned *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// C (16 x 8, float) += A (16 x 8, tf32) B (8 x 8, tf32)
__device__ __forceinline__ void fr_mma_tf32_m16n8k8(float *c, const unsigned *a, const unsigned *b) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four (two) 8 x 8 matrices of 16-bit elements from shared memory: lane 8 i + r names row r of matrix i.
__device__ __forceinline__ void fr_ldmatrix_x4(unsigned *to, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}
__device__ __forceinline__ void fr_ldmatrix_x2(unsigned *to, const void *row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.shared.b16 {%0, %1}, [%2];"
               : "=r"(to[0]), "=r"(to[1])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}

// 16 bytes from global to shared memory, of which `bytes` are read and the rest are 0; they are there after the wait.
__device__ __forceinline__ void fr_cp_async_16(void *to, const void *from, int bytes = 16) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"((unsigned)__cvta_generic_to_shared(to)), "l"(from),
               "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void fr_cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int LEFT>
__device__ __forceinline__ void fr_cp_async_wait() {  // until all but the last LEFT groups have landed
  asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

#endif
#endif
