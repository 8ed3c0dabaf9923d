"""The emulator plays CUDA rightly, and reports what a card would do wrong in silence."""

from __future__ import annotations

import cuda_host
import numpy as np
import pytest

pytestmark = cuda_host.NEEDED

SOURCE = r"""
#include "mma.cuh"
extern "C" {
__global__ void __launch_bounds__(256) reduce(const float *x, long long n, double *out) {
  __shared__ double part[8];
  const int lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  double sum = 0.0;
  for (long long i = blockIdx.x * (long long)blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
    sum = __dadd_rn(sum, x[i]);
  for (int d = 16; d; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  if (lane == 0) part[warp] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    double total = 0.0;
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += part[w];
    atomicAdd(out, total);
  }
}

__global__ void scan(const int *x, int *out, int n) {  // one block
  extern __shared__ __align__(16) int tile[];
  const int i = threadIdx.x;
  tile[i] = i < n ? x[i] : 0;
  __syncthreads();
  for (int d = 1; d < (int)blockDim.x; d *= 2) {
    const int before = i >= d ? tile[i - d] : 0;
    __syncthreads();
    tile[i] += before;
    __syncthreads();
  }
  if (i < n) out[i] = tile[i];
}

__global__ void histogram(const unsigned char *x, long long n, unsigned *counts) {
  __shared__ unsigned bins[256];
  bins[threadIdx.x] = 0;
  __syncthreads();
  for (long long i = threadIdx.x; i < n; i += 256) atomicAdd(&bins[x[i]], 1u);
  __syncthreads();
  atomicAdd(&counts[threadIdx.x], bins[threadIdx.x]);
}

__global__ void ranks_in_warp(const int *keys, int *rank, unsigned *ballots) {  // how many earlier lanes hold my key
  const unsigned lane = threadIdx.x;
  const unsigned same = __match_any_sync(0xffffffffu, keys[lane]);
  rank[lane] = __popc(same & ((1u << lane) - 1));
  ballots[lane] = __ballot_sync(0xffffffffu, keys[lane] > 1);
}

__global__ void shuffles(const int *x, int *up, int *down, int *from) {
  const int v = x[threadIdx.x];
  up[threadIdx.x] = __shfl_up_sync(0xffffffffu, v, 3);
  down[threadIdx.x] = __shfl_down_sync(0xffffffffu, v, 3, 16);
  from[threadIdx.x] = __shfl_sync(0xffffffffu, v, 5, 8);
}

__global__ void product_s8(const signed char *a, const signed char *b, int *c) {  // (16, 32) (8, 32) -> (16, 8)
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned fa[4], fb[2];
  int fc[4];
  for (int r = 0; r < 4; ++r) fa[r] = *(const unsigned *)(a + 32 * (g + 8 * (r % 2)) + 4 * t + 16 * (r / 2));
  for (int r = 0; r < 2; ++r) fb[r] = *(const unsigned *)(b + 32 * g + 4 * t + 16 * r);
  for (int r = 0; r < 4; ++r) fc[r] = c[8 * (g + 8 * (r / 2)) + 2 * t + r % 2];
  fr_mma_s8_m16n8k32(fc, fa, fb);
  for (int r = 0; r < 4; ++r) c[8 * (g + 8 * (r / 2)) + 2 * t + r % 2] = fc[r];
}

__global__ void product_bf16(const unsigned short *a, const unsigned short *b, float *c) {  // depth 16
  __shared__ __align__(16) unsigned short tile[16 * 16];
  const int lane = threadIdx.x, g = lane / 4, t = lane % 4;
  fr_cp_async_16(tile + 8 * lane, a + 8 * lane);
  fr_cp_async_commit();
  fr_cp_async_wait<0>();
  __syncwarp();
  unsigned fa[4], fb[2];
  float fc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  fr_ldmatrix_x4(fa, tile + 16 * (lane % 16) + 8 * (lane / 16));
  for (int r = 0; r < 2; ++r) fb[r] = *(const unsigned *)(b + 16 * g + 2 * t + 8 * r);
  fr_mma_bf16_m16n8k16(fc, fa, fb);
  for (int r = 0; r < 4; ++r) c[8 * (g + 8 * (r / 2)) + 2 * t + r % 2] = fc[r];
}

__global__ void product_tf32(const float *a, const float *b, float *c) {  // (16, 8) (8, 8) -> (16, 8)
  const int g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned fa[4], fb[2];
  float fc[4] = {0.0f, 0.0f, 0.0f, 0.0f};
  for (int r = 0; r < 4; ++r) fa[r] = __float_as_uint(a[8 * (g + 8 * (r % 2)) + t + 4 * (r / 2)]);
  for (int r = 0; r < 2; ++r) fb[r] = __float_as_uint(b[8 * g + t + 4 * r]);
  fr_mma_tf32_m16n8k8(fc, fa, fb);
  for (int r = 0; r < 4; ++r) c[8 * (g + 8 * (r / 2)) + 2 * t + r % 2] = fc[r];
}

__global__ void divergent_barrier(int *x) {
  if (threadIdx.x < 48) __syncthreads();
  x[threadIdx.x] = 1;
}
__global__ void divergent_shuffle(int *x) {
  if (threadIdx.x != 7) x[threadIdx.x] = __shfl_sync(0xffffffffu, (int)threadIdx.x, 0);
}
__global__ void overrun(const float *x, float *y, int n) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  y[i] = i <= n ? x[i] : 0.0f;
}
__global__ void underrun(float *x) { x[-1 - (int)threadIdx.x] = 0.0f; }
__global__ void shared_overrun(int *x, int n) {
  __shared__ int tile[32];
  tile[threadIdx.x] = 1;
  __syncthreads();
  x[threadIdx.x] = tile[threadIdx.x + n];
}
__global__ void misaligned(const float *x, float *y) { y[0] = ((const float4 *)(x + 1))->x; }
__global__ void through_const(const float *x) { *(float *)x = 1.0f; }
__global__ void endless(volatile int *x) { while (x[0] == 0) {} }
__global__ void race(int *x) {  // a barrier is missing
  __shared__ int tile[64];
  tile[threadIdx.x] = (int)threadIdx.x;
  x[threadIdx.x] = tile[63 - threadIdx.x];
}
__global__ void late_copy(const int *x, int *y) {  // the copy is read before it is waited for
  __shared__ __align__(16) int tile[4];
  fr_cp_async_16(tile, x);
  fr_cp_async_commit();
  y[0] = tile[0];
  fr_cp_async_wait<0>();
  y[1] = tile[0];
}
__global__ void roundings(const double *x, float *up, float *down, int *near) {
  const int i = threadIdx.x;
  up[i] = __double2float_ru(x[i]);
  down[i] = __double2float_rd(x[i]);
  near[i] = __double2int_rn(x[i]);
}
}
"""
ORDERS = ["forward", "reverse", 7]


@pytest.fixture(scope="module")
def module():
    return cuda_host.compile(SOURCE)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("order", ORDERS)
def test_a_reduction_with_shuffles_and_shared_memory(module, rng, order):
    x = rng.standard_normal(10_007).astype(np.float32)
    out = np.zeros(1)
    with cuda_host.thread_order(order):
        module.get_function("reduce")((5,), (256,), (x, len(x), out))
    np.testing.assert_allclose(out, x.astype(np.float64).sum(), rtol=1e-12)


@pytest.mark.parametrize("order", ORDERS)
def test_a_scan_in_dynamic_shared_memory(module, rng, order):
    x = rng.integers(-9, 9, 300).astype(np.int32)
    out = np.empty_like(x)
    with cuda_host.thread_order(order):
        module.get_function("scan")((1,), (512,), (x, out, np.int32(300)), shared_mem=512 * 4)
    np.testing.assert_array_equal(out, np.cumsum(x))


@pytest.mark.parametrize("order", ORDERS)
def test_a_histogram_with_atomics(module, rng, order):
    x = rng.integers(0, 256, 20_000).astype(np.uint8)
    counts = np.zeros(256, np.uint32)
    with cuda_host.thread_order(order):
        module.get_function("histogram")((1,), (256,), (x, len(x), counts))
    np.testing.assert_array_equal(counts, np.bincount(x, minlength=256))


def test_votes_and_matches(module, rng):
    keys = rng.integers(0, 4, 32).astype(np.int32)
    rank, ballots = np.empty(32, np.int32), np.empty(32, np.uint32)
    module.get_function("ranks_in_warp")((1,), (32,), (keys, rank, ballots))
    np.testing.assert_array_equal(rank, [(keys[:i] == keys[i]).sum() for i in range(32)])
    assert set(ballots) == {sum(1 << i for i in range(32) if keys[i] > 1)}


def test_shuffles_keep_to_their_width(module):
    x = np.arange(32, dtype=np.int32)
    up, down, source = (np.empty_like(x) for _ in range(3))
    module.get_function("shuffles")((1,), (32,), (x, up, down, source))
    np.testing.assert_array_equal(up, np.where(x >= 3, x - 3, x))
    np.testing.assert_array_equal(down, np.where(x % 16 < 13, x + 3, x))
    np.testing.assert_array_equal(source, x // 8 * 8 + 5)


def test_the_int8_product_of_the_tensor_cores(module, rng):
    a = rng.integers(-128, 128, (16, 32)).astype(np.int8)
    b = rng.integers(-128, 128, (8, 32)).astype(np.int8)
    c = rng.integers(-1000, 1000, (16, 8)).astype(np.int32)
    expected = c + a.astype(np.int32) @ b.T.astype(np.int32)
    module.get_function("product_s8")((1,), (32,), (a, b, c))
    np.testing.assert_array_equal(c, expected)


@pytest.mark.parametrize(("kernel", "depth", "kept"), [("product_bf16", 16, 16), ("product_tf32", 8, 19)])
def test_the_floating_products_of_the_tensor_cores(module, rng, kernel, depth, kept):
    def cut(x):
        return (x.view(np.uint32) & np.uint32(-(1 << (32 - kept)) & 0xFFFFFFFF)).view(np.float32)

    a = cut(rng.standard_normal((16, depth)).astype(np.float32))
    b = cut(rng.standard_normal((8, depth)).astype(np.float32))
    c = np.empty((16, 8), np.float32)
    if depth == 16:
        arguments = ((a.view(np.uint32) >> 16).astype(np.uint16), (b.view(np.uint32) >> 16).astype(np.uint16))
    else:
        arguments = (a, b)
    module.get_function(kernel)((1,), (32,), (*arguments, c))
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.T.astype(np.float64), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("order", ORDERS)
def test_a_barrier_that_some_threads_miss_is_reported(module, order):
    x = np.zeros(64, np.int32)
    with cuda_host.thread_order(order), pytest.raises(cuda_host.Error) as error:
        module.get_function("divergent_barrier")((1,), (64,), (x,))
    message = str(error.value)
    assert "deadlock in block (0, 0, 0): 48 threads wait in __syncthreads at kernel.cu:" in message
    assert "16 threads have returned (first (48, 0, 0))" in message


def test_a_shuffle_that_a_lane_misses_is_reported_and_the_next_launch_is_well(module):
    x = np.zeros(32, np.int32)
    with pytest.raises(cuda_host.Error, match=r"31 threads wait in __shfl_sync with mask 0xffffffff"):
        module.get_function("divergent_shuffle")((1,), (32,), (x,))
    out = np.zeros(1)
    module.get_function("reduce")((1,), (64,), (np.ones(99, np.float32), 99, out))
    assert out[0] == 99


def test_a_step_outside_an_array_is_reported_with_its_place(module):
    x, y = np.ones(64, np.float32), np.empty(96, np.float32)
    line = SOURCE.split("\n").index("  y[i] = i <= n ? x[i] : 0.0f;") + 1
    with pytest.raises(
        cuda_host.Error,
        match=rf"reads 0 bytes past the end of argument 0 \(64 float32\), at \S*kernel.cu:{line}\b.*"
        r"thread \(0, 0, 0\) of block \(2, 0, 0\)",
    ):
        module.get_function("overrun")((3,), (32,), (x, y, np.int32(64)))
    with pytest.raises(cuda_host.Error, match=r"writes 0 bytes past the end of argument 1"):
        module.get_function("overrun")((4,), (32,), (x, y, np.int32(10)))
    with pytest.raises(cuda_host.Error, match="just outside argument 0"):
        module.get_function("underrun")((1,), (2,), (x,))


@pytest.mark.parametrize(
    ("kernel", "arguments", "message"),
    [
        ("shared_overrun", (np.zeros(32, np.int32), np.int32(1)), "index outside a fixed array"),
        ("misaligned", (np.ones(8, np.float32), np.ones(1, np.float32)), "misaligned access|not aligned"),
        ("through_const", (np.ones(8, np.float32),), "writes through a pointer to const"),
    ],
)
def test_other_faults_are_reported(module, kernel, arguments, message):
    with pytest.raises(cuda_host.Error, match=message):
        module.get_function(kernel)((1,), (32,), arguments)


def test_a_loop_without_end_is_reported(module):
    with pytest.raises(cuda_host.Error, match="still running after its time"):
        module.get_function("endless")((1,), (1,), (np.zeros(1, np.int32),), seconds=0.1)


def test_a_missing_barrier_shows_as_answers_that_differ_by_the_order_of_threads(module):
    answers = []
    for order in ORDERS:
        x = np.empty(64, np.int32)
        with cuda_host.thread_order(order):
            module.get_function("race")((1,), (64,), (x,))
        answers.append(x.tobytes())
    assert len(set(answers)) == 3


def test_an_asynchronous_copy_lands_only_when_it_is_waited_for(module):
    y = np.empty(2, np.int32)
    module.get_function("late_copy")((1,), (1,), (np.array([42, 0, 0, 0], np.int32), y))
    assert y[0] == np.array(0xFBFBFBFB, np.uint32).view(np.int32)
    assert y[1] == 42


def test_stated_roundings(module):
    x = np.array([0.1, -0.1, 1e300, 3e9, -3e9, 2.5])
    up, down, near = np.empty(6, np.float32), np.empty(6, np.float32), np.empty(6, np.int32)
    module.get_function("roundings")((1,), (6,), (x, up, down, near))
    assert (up.astype(float) >= x).all()
    assert (down.astype(float) <= x).all()
    assert np.float32(0.1) in (up[0], down[0])
    np.testing.assert_array_equal(near, [0, 0, 2**31 - 1, 2**31 - 1, -(2**31), 2])


@pytest.mark.parametrize(
    ("grid", "block", "arguments", "shared", "message"),
    [
        ((1,), (2048,), None, 0, "cannot be launched"),
        ((1,), (64, 32), None, 0, "more than 1024 threads"),
        ((0,), (32,), None, 0, "cannot be launched"),
        ((1, 70_000), (32,), None, 0, "cannot be launched"),
        ((1,), (32,), None, 60_000, "max_dynamic_shared_size_bytes"),
        ((1,), (32,), (np.ones(4), 4, np.zeros(1)), 0, r"argument 0 holds float64; .* const float32 \*"),
        ((1,), (32,), (np.ones(4, np.float32), np.int32(4), np.zeros(1)), 0, "argument 1 has 4 bytes"),
        ((1,), (32,), (np.ones(4, np.float32), 4.0, np.zeros(1)), 0, "argument 1 is float64"),
        ((1,), (32,), (np.ones(4, np.float32), 4), 0, "takes 3 arguments; got 2"),
        ((1,), (32,), ([1.0], 4, np.zeros(1)), 0, "must be an array"),
    ],
)
def test_launches_that_a_card_refuses_or_misreads(module, grid, block, arguments, shared, message):
    if arguments is None:
        arguments = (np.ones(4, np.float32), 4, np.zeros(1))
    with pytest.raises(cuda_host.Error, match=message):
        module.get_function("reduce")(grid, block, arguments, shared_mem=shared)


def test_source_that_does_not_compile_is_quoted():
    with pytest.raises(cuda_host.Error, match=r"kernel\.cu:2"):
        cuda_host.compile('extern "C" __global__ void f(int *x) {\n  x[0] = nothing;\n}\n')


def test_views_of_one_array_stay_one_array(module):
    both = np.zeros(9)
    x = np.ones(32, np.float32)
    for out in (both[:1], both[8:]):
        module.get_function("reduce")((1,), (32,), (x, 32, out))
    np.testing.assert_array_equal(both, [32, *[0] * 7, 32])


def test_options_define_macros_and_are_part_of_the_key():
    source = 'extern "C" __global__ void f(int *x) { x[0] = VALUE; }\n'
    for value in (3, 4):
        x = np.zeros(1, np.int32)
        cuda_host.compile(source, ("-std=c++17", f"-DVALUE={value}")).get_function("f")((1,), (1,), (x,))
        assert x[0] == value
