// CUDA's language on the host, so that a .cu file runs as it is, without a card: see cuda_host.py.
//
// Every thread of a block is a fiber with a stack of its own; blocks run one after the other.  A fiber runs until it
// has to wait: at __syncthreads for its block, at a shuffle, a vote or an mma for the lanes named in the mask.  When no
// fiber can run and some have not returned, the launch fails and says who waits where.  Between two waits a thread runs
// alone, in an order that the launch chooses (forward, reverse or shuffled), so that a missing barrier shows as a
// different answer.  Shared memory is filled with rubbish before each block; a copy begun by cp.async lands when it is
// waited for, not before.  Faults (a guard page beside an array, a trap of the undefined-behaviour sanitizer) become
// errors with the thread, the block and the place in the source.
#ifndef FR_CUDA_HOST_H
#define FR_CUDA_HOST_H
#define FR_CUDA_HOST 1

#include <fenv.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <type_traits>
#include <ucontext.h>
#include <utility>

#define __global__ __attribute__((used, noclone))  // cuda_host.py looks for this text after preprocessing
#define __device__ __attribute__((unused))
#define __host__
#define __constant__ static
#define __shared__ static __attribute__((section("fr_shared")))
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
#define __grid_constant__
#define FR_HOST_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

// Vector types ---------------------------------------------------------------------------------------------------
#define FR_HOST_VECTOR(T, name, a2, a4)                                                        \
  struct name##1 { T x; };                                                                     \
  struct __attribute__((aligned(a2))) name##2 { T x, y; };                                     \
  struct name##3 { T x, y, z; };                                                               \
  struct __attribute__((aligned(a4))) name##4 { T x, y, z, w; };                               \
  inline name##2 make_##name##2(T x, T y) { return {x, y}; }                                   \
  inline name##3 make_##name##3(T x, T y, T z) { return {x, y, z}; }                           \
  inline name##4 make_##name##4(T x, T y, T z, T w) { return {x, y, z, w}; }
FR_HOST_VECTOR(signed char, char, 2, 4)
FR_HOST_VECTOR(unsigned char, uchar, 2, 4)
FR_HOST_VECTOR(short, short, 4, 8)
FR_HOST_VECTOR(unsigned short, ushort, 4, 8)
FR_HOST_VECTOR(int, int, 8, 16)
FR_HOST_VECTOR(unsigned, uint, 8, 16)
FR_HOST_VECTOR(float, float, 8, 16)
FR_HOST_VECTOR(double, double, 16, 16)
FR_HOST_VECTOR(long long, longlong, 16, 16)
FR_HOST_VECTOR(unsigned long long, ulonglong, 16, 16)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

// Fibers ---------------------------------------------------------------------------------------------------------
namespace fr_host {

enum State { READY, BARRIER, WARP, DONE };
enum { MAX_THREADS = 1024, STACK = 256 << 10, GUARD = 4096, PAYLOAD = 64, MAX_COPIES = 256 };

struct Copy {
  void *to;
  const void *from;
  int bytes, zeros;
};

struct Fiber {
  uint3 thread;
  int index;
  State state;
  bool entered;
  jmp_buf context;
  ucontext_t first;
  char *stack;
  const char *what, *file;  // where it waits
  int line;
  unsigned mask;
  alignas(16) unsigned char in[PAYLOAD], out[PAYLOAD];
  Copy copies[MAX_COPIES];
  int copied, group_ends[MAX_COPIES], groups;
};

struct Launch {  // as cuda_host.py fills it
  unsigned grid[3], block[3];
  uint64_t shared;  // bytes of dynamic shared memory
  int64_t order;    // 0 forward, 1 reverse, else a seed
  double seconds;   // of CPU time; then the launch fails
};

struct Report {  // as cuda_host.py reads it
  char text[2048];
  uint64_t address, pc;
  int signal, writes;
};

static Report report;
static Fiber *fibers;
static Fiber *now;
static uint3 block_index;
static dim3 block_size, grid_size;
static int threads;
static char *dynamic_memory;
static jmp_buf scheduler;
static sigjmp_buf escape;
static void (*body)(void *);
static void *body_arguments;
extern "C" char __start_fr_shared[] __attribute__((weak)), __stop_fr_shared[] __attribute__((weak));

[[noreturn]] inline void leave() { siglongjmp(escape, 1); }

[[noreturn]] inline void fail(const char *file, int line, const char *format, ...) {
  char text[1024];
  va_list list;
  va_start(list, format);
  vsnprintf(text, sizeof text, format, list);
  va_end(list);
  snprintf(report.text, sizeof report.text, "%s:%d: %s, in thread (%u, %u, %u) of block (%u, %u, %u)", file, line, text,
           now->thread.x, now->thread.y, now->thread.z, block_index.x, block_index.y, block_index.z);
  leave();
}

inline void wait() {
  if (!_setjmp(now->context)) _longjmp(scheduler, 1);
}

inline void fiber_main() {
  for (;;) {
    body(body_arguments);
    now->state = DONE;
    wait();  // for the next block
  }
}

inline void resume(Fiber &f) {
  now = &f;
  if (_setjmp(scheduler)) return;
  if (f.entered) _longjmp(f.context, 1);
  f.entered = true;
  getcontext(&f.first);
  f.first.uc_stack.ss_sp = f.stack;
  f.first.uc_stack.ss_size = STACK;
  f.first.uc_link = nullptr;
  makecontext(&f.first, fiber_main, 0);
  setcontext(&f.first);
}

inline void describe(char *to, size_t size) {  // who waits where
  size_t used = 0;
  int done = 0, first_done = -1;
  bool told[MAX_THREADS] = {};
  for (int i = 0; i < threads; ++i) {
    const Fiber &f = fibers[i];
    if (f.state == DONE) {
      if (!done++) first_done = i;
      continue;
    }
    if (told[i]) continue;
    int count = 0;
    for (int j = i; j < threads; ++j) {
      const Fiber &g = fibers[j];
      if (g.state == f.state && g.line == f.line && !strcmp(g.file, f.file) && !strcmp(g.what, f.what) &&
          (f.state == BARRIER || (g.mask == f.mask && g.index / 32 == f.index / 32))) {
        told[j] = true;
        ++count;
      }
    }
    char mask[32] = "";
    if (f.state == WARP) snprintf(mask, sizeof mask, " with mask 0x%08x", f.mask);
    if (used < size)
      used += (size_t)snprintf(to + used, size - used, "%d threads wait in %s%s at %s:%d (first (%u, %u, %u)); ", count,
                               f.what, mask, f.file, f.line, f.thread.x, f.thread.y, f.thread.z);
  }
  if (done && used < size)
    snprintf(to + used, size - used, "%d threads have returned (first (%u, %u, %u)); ", done,
             fibers[first_done].thread.x, fibers[first_done].thread.y, fibers[first_done].thread.z);
}

inline uint64_t scramble(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

inline void arrange(int *order, int n, int64_t how, uint64_t salt) {
  for (int i = 0; i < n; ++i) order[i] = how == 1 ? n - 1 - i : i;
  if (how == 0 || how == 1) return;
  for (int i = n - 1; i > 0; --i) {
    const int j = (int)(scramble((uint64_t)how + salt * 0x9E3779B97F4A7C15u + (uint64_t)i) % (uint64_t)(i + 1));
    const int t = order[i];
    order[i] = order[j];
    order[j] = t;
  }
}

inline void run_block(const Launch &launch, uint64_t number) {
  // A value that is no sensible float, double, index or pointer.
  if (__start_fr_shared) memset(__start_fr_shared, 0xFB, (size_t)(__stop_fr_shared - __start_fr_shared));
  if (launch.shared) memset(dynamic_memory, 0xFB, launch.shared);
  for (int i = 0; i < threads; ++i) {
    Fiber &f = fibers[i];
    f.index = i;
    f.thread = {(unsigned)i % block_size.x, (unsigned)i / block_size.x % block_size.y,
                (unsigned)i / block_size.x / block_size.y};
    f.state = READY;
    f.copied = f.groups = 0;
  }
  static int order[MAX_THREADS];
  for (uint64_t round = 0;; ++round) {
    arrange(order, threads, launch.order, number * 1000003 + round);
    bool moved = false, left = false;
    for (int i = 0; i < threads; ++i) {
      Fiber &f = fibers[order[i]];
      if (f.state == READY) {
        moved = true;
        resume(f);
      }
      left |= f.state != DONE;
    }
    if (!left) return;
    if (!moved) {
      char who[1500];
      describe(who, sizeof who);
      snprintf(report.text, sizeof report.text, "deadlock in block (%u, %u, %u): %s", block_index.x, block_index.y,
               block_index.z, who);
      leave();
    }
  }
}

inline void on_signal(int signal, siginfo_t *info, void *context) {
  report.signal = signal;
  report.address = (uint64_t)info->si_addr;
#if defined(__x86_64__)
  const auto *machine = &((ucontext_t *)context)->uc_mcontext;
  report.pc = (uint64_t)machine->gregs[REG_RIP];
  report.writes = (machine->gregs[REG_ERR] & 2) != 0;
#else
  (void)context;
#endif
  snprintf(report.text, sizeof report.text, "thread (%u, %u, %u) of block (%u, %u, %u)", now->thread.x, now->thread.y,
           now->thread.z, block_index.x, block_index.y, block_index.z);
  leave();
}

// Stacks for as many threads as a block has so far had: each is two mappings of the process, which may have some 65,000.
inline bool make_fibers() {
  if (!fibers) fibers = (Fiber *)calloc(MAX_THREADS, sizeof(Fiber));
  if (!fibers) return false;
  for (int i = 0; i < threads; ++i) {
    if (fibers[i].stack) continue;
    char *p = (char *)mmap(nullptr, GUARD + STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) return false;
    mprotect(p, GUARD, PROT_NONE);
    fibers[i].stack = p + GUARD;
  }
  return true;
}

inline int run(const Launch *launch, void (*kernel)(void *), void *arguments, char *memory) {
  static const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGVTALRM};
  static char alternate[64 << 10];
  memset(&report, 0, sizeof report);
  block_size = dim3(launch->block[0], launch->block[1], launch->block[2]);
  grid_size = dim3(launch->grid[0], launch->grid[1], launch->grid[2]);
  threads = (int)(block_size.x * block_size.y * block_size.z);
  if (!make_fibers()) {
    snprintf(report.text, sizeof report.text, "no memory for the stacks of %d threads", threads);
    return 2;
  }
  dynamic_memory = memory;
  body = kernel;
  body_arguments = arguments;
  now = &fibers[0];

  struct sigaction mine, before[6];
  memset(&mine, 0, sizeof mine);
  mine.sa_sigaction = on_signal;
  mine.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  stack_t other = {}, saved;
  other.ss_sp = alternate;
  other.ss_size = sizeof alternate;
  sigaltstack(&other, &saved);
  for (int i = 0; i < 6; ++i) sigaction(SIGNALS[i], &mine, &before[i]);
  itimerval limit = {}, none = {};
  limit.it_value.tv_sec = (time_t)launch->seconds;
  limit.it_value.tv_usec = 1;
  fenv_t rounding;
  fegetenv(&rounding);

  int failed = sigsetjmp(escape, 1);
  if (!failed) {
    setitimer(ITIMER_VIRTUAL, &limit, nullptr);
    const uint64_t blocks = (uint64_t)grid_size.x * grid_size.y * grid_size.z;
    for (uint64_t i = 0; i < blocks; ++i) {
      const uint64_t number = launch->order == 1 ? blocks - 1 - i : i;
      block_index = {(unsigned)(number % grid_size.x), (unsigned)(number / grid_size.x % grid_size.y),
                     (unsigned)(number / grid_size.x / grid_size.y)};
      run_block(*launch, number);
    }
  } else {
    for (int i = 0; i < MAX_THREADS; ++i) fibers[i].entered = false;  // they stand in the middle of a kernel
  }
  setitimer(ITIMER_VIRTUAL, &none, nullptr);
  fesetenv(&rounding);
  for (int i = 0; i < 6; ++i) sigaction(SIGNALS[i], &before[i], nullptr);
  sigaltstack(&saved, nullptr);
  return failed;
}

// Waiting for others ---------------------------------------------------------------------------------------------

// Block barrier; returns {sum of the values, all, any} as __syncthreads_count and its kin need them.
inline int barrier(const char *what, int value, int mode, const char *file, int line) {
  Fiber &f = *now;
  memcpy(f.in, &value, sizeof value);
  f.what = what;
  f.file = file;
  f.line = line;
  f.state = BARRIER;
  int waiting = 0;
  for (int i = 0; i < threads; ++i) waiting += fibers[i].state == BARRIER;
  if (waiting < threads) {
    wait();
  } else {
    int sum = 0;
    for (int i = 0; i < threads; ++i) {
      int v;
      memcpy(&v, fibers[i].in, sizeof v);
      sum += v != 0;
      if (strcmp(fibers[i].what, what)) fail(file, line, "%s meets %s", what, fibers[i].what);
    }
    const int result = mode == 0 ? sum : mode == 1 ? sum == threads : sum > 0;
    for (int i = 0; i < threads; ++i) {
      memcpy(fibers[i].out, &result, sizeof result);
      fibers[i].state = READY;
    }
  }
  int result;
  memcpy(&result, f.out, sizeof result);
  return result;
}

// The lanes of `mask` meet; the last one to come runs `finish(first lane of the warp)`, which fills their `out`.
template <class In, class Out, class Finish>
Out meet(const char *what, unsigned mask, const In &in, Finish finish, const char *file, int line) {
  static_assert(sizeof(In) <= PAYLOAD && sizeof(Out) <= PAYLOAD, "payload");
  Fiber &f = *now;
  Fiber *warp = &fibers[f.index & ~31];
  const int lanes = threads - (f.index & ~31) < 32 ? threads - (f.index & ~31) : 32;
  if (!(mask >> (f.index & 31) & 1)) fail(file, line, "%s: the mask 0x%08x leaves the caller's own lane out", what, mask);
  memcpy(f.in, &in, sizeof in);
  f.what = what;
  f.file = file;
  f.line = line;
  f.mask = mask;
  f.state = WARP;
  bool complete = true;
  for (int i = 0; i < 32; ++i) {
    if (!(mask >> i & 1)) continue;
    if (i >= lanes) fail(file, line, "%s: the mask 0x%08x names lane %d, which the block does not have", what, mask, i);
    complete &= warp[i].state == WARP && warp[i].mask == mask && !strcmp(warp[i].what, what);
  }
  if (complete) {
    finish(warp);
    for (int i = 0; i < 32; ++i)
      if (mask >> i & 1) warp[i].state = READY;
  } else {
    wait();
  }
  Out out;
  memcpy(&out, f.out, sizeof out);
  return out;
}

template <class T> T in_of(const Fiber &f) {
  T value;
  memcpy(&value, f.in, sizeof value);
  return value;
}
template <class T> void out_to(Fiber &f, const T &value) { memcpy(f.out, &value, sizeof value); }

template <class T> struct Shuffle {
  T value;
  int from;    // lane of the warp to read, -1: own
};

template <class T>
T shuffle(const char *what, unsigned mask, T value, int from, const char *file, int line) {
  const int own = now->index & 31;
  const Shuffle<T> in = {value, from < 0 ? own : from};
  return meet<Shuffle<T>, T>(what, mask, in, [&](Fiber *warp) {
    for (int i = 0; i < 32; ++i) {
      if (!(mask >> i & 1)) continue;
      const int from = in_of<Shuffle<T>>(warp[i]).from;
      if (!(mask >> from & 1)) fail(file, line, "%s: lane %d reads lane %d, which is not in the mask 0x%08x", what, i, from, mask);
      out_to(warp[i], in_of<Shuffle<T>>(warp[from]).value);
    }
  }, file, line);
}

template <class T, class R, class F>
R together(const char *what, unsigned mask, T value, F combine, const char *file, int line) {  // one result for all
  return meet<T, R>(what, mask, value, [&](Fiber *warp) {
    const R result = combine(warp);
    for (int i = 0; i < 32; ++i)
      if (mask >> i & 1) out_to(warp[i], result);
  }, file, line);
}

// Signatures and launching ---------------------------------------------------------------------------------------
template <class T> char kind_of() {
  return std::is_same<T, bool>::value ? 'b' : std::is_floating_point<T>::value ? 'f' : std::is_integral<T>::value
         ? (std::is_signed<T>::value ? 'i' : 'u') : std::is_pointer<T>::value ? 'p' : 's';
}
template <class T> struct Describe {
  static int text(char *to) { return sprintf(to, "%c%d;", kind_of<T>(), (int)sizeof(T)); }
};
template <class T> struct Describe<T *> {
  static int text(char *to) {
    using Plain = typename std::remove_cv<T>::type;
    if constexpr (std::is_void<Plain>::value) return sprintf(to, "*%cv1;", std::is_const<T>::value ? 'c' : 'm');
    else return sprintf(to, "*%c%c%d;", std::is_const<T>::value ? 'c' : 'm', kind_of<Plain>(), (int)sizeof(Plain));
  }
};
template <class... A> const char *signature(void (*)(A...)) {
  static char text[2048];
  char *to = text;
  ((to += Describe<A>::text(to)), ...);
  *to = 0;
  return text;
}
template <class... A> struct Call {
  void (*kernel)(A...);
  void **arguments;
  template <size_t... I> void apply(std::index_sequence<I...>) {
    kernel((*(typename std::remove_reference<A>::type *)arguments[I])...);
  }
  static void enter(void *self) { ((Call *)self)->apply(std::index_sequence_for<A...>()); }
};
template <class... A> int launch(void (*kernel)(A...), const Launch *how, void **arguments, char *memory) {
  Call<A...> call = {kernel, arguments};
  return run(how, Call<A...>::enter, &call, memory);
}

// Memory between two guards: a step outside is a fault.  `room` keeps the start aligned to 16 bytes.
inline char *map_guarded(uint64_t bytes, char **whole, uint64_t *size) {
  const uint64_t page = 4096, guard = 256u << 20, room = (bytes + 15) / 16 * 16, data = (room + page - 1) / page * page;
  *size = guard + data + guard;
  char *p = (char *)mmap(nullptr, *size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == (char *)MAP_FAILED) return nullptr;
  *whole = p;
  if (data && mprotect(p + guard, data, PROT_READ | PROT_WRITE)) return nullptr;
  memset(p + guard, 0xFB, data);
  return p + guard + data - room;
}

}  // namespace fr_host

extern "C" char *fr_host_map(uint64_t bytes, char **whole, uint64_t *size) { return fr_host::map_guarded(bytes, whole, size); }
extern "C" void fr_host_unmap(char *whole, uint64_t size) { munmap(whole, size); }
extern "C" int fr_host_protect(char *whole, uint64_t size) { return mprotect(whole, size, PROT_READ); }
extern "C" uint64_t fr_host_static() {
  using namespace fr_host;
  return __start_fr_shared ? (uint64_t)(__stop_fr_shared - __start_fr_shared) : 0;
}
extern "C" const fr_host::Report *fr_host_report() { return &fr_host::report; }
#define FR_HOST_EXPORT(name)                                                                                    \
  extern "C" const char *fr_signature_##name() { return fr_host::signature(&name); }                            \
  extern "C" int fr_launch_##name(const fr_host::Launch *how, void **arguments, char *memory) {                 \
    return fr_host::launch(&name, how, arguments, memory);                                                      \
  }

// The language ---------------------------------------------------------------------------------------------------
#define threadIdx (fr_host::now->thread)
#define blockIdx (fr_host::block_index)
#define blockDim (fr_host::block_size)
#define gridDim (fr_host::grid_size)
static const int warpSize = 32;

inline void __syncthreads(FR_HOST_SITE) { fr_host::barrier("__syncthreads", 0, 0, file, line); }
inline int __syncthreads_count(int v, FR_HOST_SITE) { return fr_host::barrier("__syncthreads_count", v, 0, file, line); }
inline int __syncthreads_and(int v, FR_HOST_SITE) { return fr_host::barrier("__syncthreads_and", v, 1, file, line); }
inline int __syncthreads_or(int v, FR_HOST_SITE) { return fr_host::barrier("__syncthreads_or", v, 2, file, line); }
inline void __syncwarp(unsigned mask = 0xffffffffu, FR_HOST_SITE) {
  fr_host::meet<int, int>("__syncwarp", mask, 0, [](fr_host::Fiber *) {}, file, line);
}
inline void __threadfence() {}
inline void __threadfence_block() {}
inline void __threadfence_system() {}
inline void __nanosleep(unsigned) { fr_host::wait(); }
[[noreturn]] inline void fr_host_trap(const char *file, int line) { fr_host::fail(file, line, "__trap()"); }
#define __trap() fr_host_trap(__FILE__, __LINE__)
inline long long clock64() { return 0; }

template <class T> T __shfl_sync(unsigned mask, T value, int source, int width = 32, FR_HOST_SITE) {
  const int base = (fr_host::now->index & 31) & ~(width - 1);
  return fr_host::shuffle("__shfl_sync", mask, value, base + (source & (width - 1)), file, line);
}
template <class T> T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32, FR_HOST_SITE) {
  const int lane = fr_host::now->index & 31, base = lane & ~(width - 1);
  return fr_host::shuffle("__shfl_up_sync", mask, value, lane - (int)delta < base ? -1 : lane - (int)delta, file, line);
}
template <class T> T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32, FR_HOST_SITE) {
  const int lane = fr_host::now->index & 31, end = (lane & ~(width - 1)) + width;
  return fr_host::shuffle("__shfl_down_sync", mask, value, lane + (int)delta >= end ? -1 : lane + (int)delta, file, line);
}
template <class T> T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32, FR_HOST_SITE) {
  const int lane = fr_host::now->index & 31, to = lane ^ bits;
  return fr_host::shuffle("__shfl_xor_sync", mask, value, to >= (lane & ~(width - 1)) + width ? -1 : to, file, line);
}
inline unsigned __ballot_sync(unsigned mask, int predicate, FR_HOST_SITE) {
  return fr_host::together<int, unsigned>("__ballot_sync", mask, predicate, [&](fr_host::Fiber *warp) {
    unsigned bits = 0;
    for (int i = 0; i < 32; ++i) bits |= (unsigned)((mask >> i & 1) && fr_host::in_of<int>(warp[i])) << i;
    return bits;
  }, file, line);
}
inline int __any_sync(unsigned mask, int predicate, FR_HOST_SITE) { return __ballot_sync(mask, predicate, file, line) != 0; }
inline int __all_sync(unsigned mask, int predicate, FR_HOST_SITE) { return __ballot_sync(mask, predicate, file, line) == mask; }
inline unsigned __activemask() { return 1u << (fr_host::now->index & 31); }  // all that may be relied upon
template <class T> unsigned __match_any_sync(unsigned mask, T value, FR_HOST_SITE) {
  return fr_host::meet<T, unsigned>("__match_any_sync", mask, value, [&](fr_host::Fiber *warp) {
    for (int i = 0; i < 32; ++i) {
      if (!(mask >> i & 1)) continue;
      unsigned same = 0;
      for (int j = 0; j < 32; ++j)
        same |= (unsigned)((mask >> j & 1) && !memcmp(warp[i].in, warp[j].in, sizeof(T))) << j;
      fr_host::out_to(warp[i], same);
    }
  }, file, line);
}
template <class T> unsigned __match_all_sync(unsigned mask, T value, int *all, FR_HOST_SITE) {
  *all = __match_any_sync(mask, value, file, line) == mask;
  return *all ? mask : 0;
}
#define FR_HOST_REDUCE(name, T, step)                                                               \
  inline T __reduce_##name##_sync(unsigned mask, T value, FR_HOST_SITE) {                           \
    return fr_host::together<T, T>("__reduce_" #name "_sync", mask, value, [&](fr_host::Fiber *warp) { \
      bool any = false;                                                                             \
      T a = 0;                                                                                      \
      for (int i = 0; i < 32; ++i) {                                                                \
        if (!(mask >> i & 1)) continue;                                                             \
        const T b = fr_host::in_of<T>(warp[i]);                                                     \
        a = any ? (T)(step) : b;                                                                    \
        any = true;                                                                                 \
      }                                                                                             \
      return a;                                                                                     \
    }, file, line);                                                                                 \
  }
FR_HOST_REDUCE(add, unsigned, a + b)
FR_HOST_REDUCE(min, unsigned, a < b ? a : b)
FR_HOST_REDUCE(max, unsigned, a > b ? a : b)
FR_HOST_REDUCE(add, int, (unsigned)a + (unsigned)b)
FR_HOST_REDUCE(min, int, a < b ? a : b)
FR_HOST_REDUCE(max, int, a > b ? a : b)
FR_HOST_REDUCE(and, unsigned, a &b)
FR_HOST_REDUCE(or, unsigned, a | b)
FR_HOST_REDUCE(xor, unsigned, a ^ b)

// Atomics: between two waits a thread runs alone.
#define FR_HOST_ATOMIC(name, expression)                                      \
  template <class T> T name(T *at, typename std::common_type<T>::type b) {    \
    const T a = *at;                                                          \
    *at = (T)(expression);                                                    \
    return a;                                                                 \
  }
FR_HOST_ATOMIC(atomicSub, a - b)
FR_HOST_ATOMIC(atomicMax, a > b ? a : b)
FR_HOST_ATOMIC(atomicMin, a < b ? a : b)
FR_HOST_ATOMIC(atomicExch, b)
FR_HOST_ATOMIC(atomicAnd, a &b)
FR_HOST_ATOMIC(atomicOr, a | b)
FR_HOST_ATOMIC(atomicXor, a ^ b)
FR_HOST_ATOMIC(atomicInc, a >= b ? 0 : a + 1)
FR_HOST_ATOMIC(atomicDec, a == 0 || a > b ? b : a - 1)
template <class T> T atomicAdd(T *at, typename std::common_type<T>::type b) {
  const T a = *at;
  if constexpr (std::is_integral<T>::value) *at = (T)((unsigned long long)a + (unsigned long long)b);  // wraps
  else *at = a + b;
  return a;
}
template <class T> T atomicCAS(T *at, typename std::common_type<T>::type old, typename std::common_type<T>::type value) {
  const T a = *at;
  if (a == old) *at = value;
  return a;
}

// Loads and stores with a caching hint.
#define FR_HOST_LOAD(name) template <class T> T name(const T *p) { return *p; }
FR_HOST_LOAD(__ldg) FR_HOST_LOAD(__ldcs) FR_HOST_LOAD(__ldcg) FR_HOST_LOAD(__ldca) FR_HOST_LOAD(__ldlu) FR_HOST_LOAD(__ldcv)
#define FR_HOST_STORE(name) template <class T> void name(T *p, T v) { *p = v; }
FR_HOST_STORE(__stcs) FR_HOST_STORE(__stcg) FR_HOST_STORE(__stwb) FR_HOST_STORE(__stwt)

// Bits.
template <class To, class From> To fr_host_bits(From value) {
  static_assert(sizeof(To) == sizeof(From), "size");
  To to;
  memcpy(&to, &value, sizeof to);
  return to;
}
inline int __float_as_int(float v) { return fr_host_bits<int>(v); }
inline unsigned __float_as_uint(float v) { return fr_host_bits<unsigned>(v); }
inline float __int_as_float(int v) { return fr_host_bits<float>(v); }
inline float __uint_as_float(unsigned v) { return fr_host_bits<float>(v); }
inline long long __double_as_longlong(double v) { return fr_host_bits<long long>(v); }
inline double __longlong_as_double(long long v) { return fr_host_bits<double>(v); }
inline int __double2hiint(double v) { return (int)(__double_as_longlong(v) >> 32); }
inline int __double2loint(double v) { return (int)(__double_as_longlong(v) & 0xffffffffLL); }
inline int __popc(unsigned v) { return __builtin_popcount(v); }
inline int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
inline int __ffs(int v) { return __builtin_ffs(v); }
inline int __ffsll(long long v) { return __builtin_ffsll(v); }
inline int __clz(int v) { return v ? __builtin_clz((unsigned)v) : 32; }
inline int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
inline unsigned long long __brevll(unsigned long long v) {
  unsigned long long r = 0;
  for (int i = 0; i < 64; ++i) r |= (v >> i & 1) << (63 - i);
  return r;
}
inline unsigned __brev(unsigned v) { return (unsigned)(__brevll(v) >> 32); }
inline unsigned __byte_perm(unsigned x, unsigned y, unsigned selector) {
  const unsigned long long both = (unsigned long long)y << 32 | x;
  unsigned r = 0;
  for (int i = 0; i < 4; ++i) {
    const unsigned s = selector >> (4 * i) & 15, byte = (unsigned)(both >> (8 * (s & 7))) & 255;
    r |= (s & 8 ? (byte & 128 ? 255u : 0u) : byte) << (8 * i);
  }
  return r;
}
inline unsigned __funnelshift_l(unsigned low, unsigned high, unsigned n) {
  return (unsigned)((((unsigned long long)high << 32 | low) << (n & 31)) >> 32);
}
inline unsigned __funnelshift_r(unsigned low, unsigned high, unsigned n) {
  return (unsigned)(((unsigned long long)high << 32 | low) >> (n & 31));
}
inline unsigned __umulhi(unsigned a, unsigned b) { return (unsigned)((unsigned long long)a * b >> 32); }
inline int __mulhi(int a, int b) { return (int)((long long)a * b >> 32); }
inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  return (unsigned long long)((unsigned __int128)a * b >> 64);
}
template <class A, class B, class C> C fr_host_dp4a(unsigned a, unsigned b, C c) {
  long long sum = c;
  for (int i = 0; i < 4; ++i) sum += (long long)(A)(a >> 8 * i) * (B)(b >> 8 * i);
  return (C)sum;
}
inline int __dp4a(int a, int b, int c) { return fr_host_dp4a<int8_t, int8_t>((unsigned)a, (unsigned)b, c); }
inline unsigned __dp4a(unsigned a, unsigned b, unsigned c) { return fr_host_dp4a<uint8_t, uint8_t>(a, b, c); }

// Arithmetic with a stated rounding.
template <class F> auto fr_host_rounded(int mode, F operation) {
  const int before = fegetround();
  fesetround(mode);
  const auto result = operation();
  fesetround(before);
  return result;
}
#define FR_HOST_ROUND(suffix, mode)                                                                                       \
  inline float __fadd_##suffix(float a, float b) { volatile float x = a, y = b; return fr_host_rounded(mode, [&] { volatile float r = x + y; return (float)r; }); }   \
  inline float __fsub_##suffix(float a, float b) { volatile float x = a, y = b; return fr_host_rounded(mode, [&] { volatile float r = x - y; return (float)r; }); }   \
  inline float __fmul_##suffix(float a, float b) { volatile float x = a, y = b; return fr_host_rounded(mode, [&] { volatile float r = x * y; return (float)r; }); }   \
  inline float __fdiv_##suffix(float a, float b) { volatile float x = a, y = b; return fr_host_rounded(mode, [&] { volatile float r = x / y; return (float)r; }); }   \
  inline float __fsqrt_##suffix(float a) { volatile float x = a; return fr_host_rounded(mode, [&] { volatile float r = sqrtf(x); return (float)r; }); }               \
  inline float __fmaf_##suffix(float a, float b, float c) { volatile float x = a, y = b, z = c; return fr_host_rounded(mode, [&] { volatile float r = fmaf(x, y, z); return (float)r; }); } \
  inline double __dadd_##suffix(double a, double b) { volatile double x = a, y = b; return fr_host_rounded(mode, [&] { volatile double r = x + y; return (double)r; }); } \
  inline double __dsub_##suffix(double a, double b) { volatile double x = a, y = b; return fr_host_rounded(mode, [&] { volatile double r = x - y; return (double)r; }); } \
  inline double __dmul_##suffix(double a, double b) { volatile double x = a, y = b; return fr_host_rounded(mode, [&] { volatile double r = x * y; return (double)r; }); } \
  inline double __ddiv_##suffix(double a, double b) { volatile double x = a, y = b; return fr_host_rounded(mode, [&] { volatile double r = x / y; return (double)r; }); } \
  inline double __dsqrt_##suffix(double a) { volatile double x = a; return fr_host_rounded(mode, [&] { volatile double r = sqrt(x); return (double)r; }); }            \
  inline double __fma_##suffix(double a, double b, double c) { volatile double x = a, y = b, z = c; return fr_host_rounded(mode, [&] { volatile double r = fma(x, y, z); return (double)r; }); } \
  inline float __double2float_##suffix(double a) { volatile double x = a; return fr_host_rounded(mode, [&] { volatile float r = (float)x; return (float)r; }); }      \
  inline float __int2float_##suffix(int a) { volatile int x = a; return fr_host_rounded(mode, [&] { volatile float r = (float)x; return (float)r; }); }               \
  inline float __uint2float_##suffix(unsigned a) { volatile unsigned x = a; return fr_host_rounded(mode, [&] { volatile float r = (float)x; return (float)r; }); }    \
  inline float __ll2float_##suffix(long long a) { volatile long long x = a; return fr_host_rounded(mode, [&] { volatile float r = (float)x; return (float)r; }); }    \
  inline double __ll2double_##suffix(long long a) { volatile long long x = a; return fr_host_rounded(mode, [&] { volatile double r = (double)x; return (double)r; }); } \
  inline double __ull2double_##suffix(unsigned long long a) { volatile unsigned long long x = a; return fr_host_rounded(mode, [&] { volatile double r = (double)x; return (double)r; }); } \
  inline int __float2int_##suffix(float a) { return (int)fr_host_integer(mode, a, -2147483648.0, 2147483647.0); }         \
  inline unsigned __float2uint_##suffix(float a) { return (unsigned)fr_host_integer(mode, a, 0.0, 4294967295.0); }        \
  inline int __double2int_##suffix(double a) { return (int)fr_host_integer(mode, a, -2147483648.0, 2147483647.0); }       \
  inline long long __float2ll_##suffix(float a) { return fr_host_long(mode, a); }                                         \
  inline long long __double2ll_##suffix(double a) { return fr_host_long(mode, a); }
inline double fr_host_integer(int mode, double a, double low, double high) {  // saturates; NaN is 0
  if (a != a) return 0.0;
  volatile double x = a;
  const double r = fr_host_rounded(mode, [&] { return nearbyint(x); });
  return r < low ? low : r > high ? high : r;
}
inline long long fr_host_long(int mode, double a) {
  if (a != a) return 0;
  volatile double x = a;
  const double r = fr_host_rounded(mode, [&] { return nearbyint(x); });
  return r >= 0x1p63 ? INT64_MAX : r < -0x1p63 ? INT64_MIN : (long long)r;
}
FR_HOST_ROUND(rn, FE_TONEAREST)
FR_HOST_ROUND(ru, FE_UPWARD)
FR_HOST_ROUND(rd, FE_DOWNWARD)
FR_HOST_ROUND(rz, FE_TOWARDZERO)
inline float rsqrtf(float v) { return 1.0f / sqrtf(v); }
inline double rsqrt(double v) { return 1.0 / sqrt(v); }
inline float __saturatef(float v) { return v > 0.0f ? (v < 1.0f ? v : 1.0f) : 0.0f; }
template <class A, class B> typename std::common_type<A, B>::type min(A a, B b) {
  using T = typename std::common_type<A, B>::type;
  if constexpr (std::is_floating_point<T>::value) return (T)fmin((T)a, (T)b);
  else return (T)b < (T)a ? (T)b : (T)a;
}
template <class A, class B> typename std::common_type<A, B>::type max(A a, B b) {
  using T = typename std::common_type<A, B>::type;
  if constexpr (std::is_floating_point<T>::value) return (T)fmax((T)a, (T)b);
  else return (T)a < (T)b ? (T)b : (T)a;
}

// What kernels/cuda/mma.cuh writes in PTX ------------------------------------------------------------------------
// Fragments as PTX lays them out: g = lane / 4 is a row (of C) or a column (of B), t = lane % 4 a place in it.
struct FrHostMma {
  unsigned a[4], b[2];
  unsigned c[4];
};
template <class Finish> void fr_host_mma(const char *what, unsigned *c, const unsigned *a, const unsigned *b, Finish finish,
                                         const char *file, int line) {
  FrHostMma in;
  memcpy(in.a, a, sizeof in.a);
  memcpy(in.b, b, sizeof in.b);
  memcpy(in.c, c, sizeof in.c);
  struct Out { unsigned c[4]; };
  const Out out = fr_host::meet<FrHostMma, Out>(what, 0xffffffffu, in, [&](fr_host::Fiber *warp) {
    static FrHostMma lanes[32];
    for (int i = 0; i < 32; ++i) lanes[i] = fr_host::in_of<FrHostMma>(warp[i]);
    for (int i = 0; i < 32; ++i) {
      Out made;
      for (int r = 0; r < 4; ++r) made.c[r] = finish(lanes, i / 4 + 8 * (r / 2), i % 4 * 2 + r % 2, lanes[i].c[r]);
      fr_host::out_to(warp[i], made);
    }
  }, file, line);
  memcpy(c, out.c, sizeof out.c);
}
inline float fr_host_bf16(unsigned two, int which) { return fr_host_bits<float>(which ? two & 0xffff0000u : two << 16); }

// C (16 x 8, int32) += A (16 x 32, int8, rows) B (32 x 8, int8, columns)
inline void fr_mma_s8_m16n8k32(int *c, const unsigned *a, const unsigned *b, FR_HOST_SITE) {
  fr_host_mma("fr_mma_s8_m16n8k32", (unsigned *)c, a, b, [](const FrHostMma *lanes, int row, int column, unsigned before) {
    int sum = (int)before;
    for (int k = 0; k < 32; ++k) {
      const unsigned x = lanes[row % 8 * 4 + k % 16 / 4].a[row / 8 + 2 * (k / 16)];
      const unsigned y = lanes[column * 4 + k % 16 / 4].b[k / 16];
      sum += (int)(int8_t)(x >> 8 * (k % 4)) * (int)(int8_t)(y >> 8 * (k % 4));
    }
    return (unsigned)sum;
  }, file, line);
}
// C (16 x 8, float) += A (16 x 16, bfloat16, rows) B (16 x 8, bfloat16, columns).  As tensor cores have been seen to do
// (Fasi et al. 2021), every addend is cut to 24 bits from the largest of them on, and the sum is cut, not rounded: only
// an answer with a bound on that error may rest on it.
inline void fr_mma_bf16_m16n8k16(float *c, const unsigned *a, const unsigned *b, FR_HOST_SITE) {
  fr_host_mma("fr_mma_bf16_m16n8k16", (unsigned *)c, a, b, [](const FrHostMma *lanes, int row, int column, unsigned before) {
    double addends[17] = {fr_host_bits<float>(before)}, largest = fabs(addends[0]), sum = 0.0;
    for (int k = 0; k < 16; ++k) {
      addends[k + 1] = (double)fr_host_bf16(lanes[row % 8 * 4 + k % 8 / 2].a[row / 8 + 2 * (k / 8)], k % 2) *
                       (double)fr_host_bf16(lanes[column * 4 + k % 8 / 2].b[k / 8], k % 2);
      if (fabs(addends[k + 1]) > largest) largest = fabs(addends[k + 1]);
    }
    const double unit = largest > 0.0 && largest < INFINITY ? ldexp(1.0, ilogb(largest) - 23) : 0.0;
    for (double x : addends) sum += unit > 0.0 ? trunc(x / unit) * unit : x;
    return fr_host_bits<unsigned>(__double2float_rz(sum));
  }, file, line);
}
// C (16 x 8, float) += A (16 x 8, tf32, rows) B (8 x 8, tf32, columns); tf32 is a float whose last 13 bits do not count
inline void fr_mma_tf32_m16n8k8(float *c, const unsigned *a, const unsigned *b, FR_HOST_SITE) {
  fr_host_mma("fr_mma_tf32_m16n8k8", (unsigned *)c, a, b, [](const FrHostMma *lanes, int row, int column, unsigned before) {
    double sum = fr_host_bits<float>(before);
    for (int k = 0; k < 8; ++k)
      sum += (double)fr_host_bits<float>(lanes[row % 8 * 4 + k % 4].a[row / 8 + 2 * (k / 4)] & 0xffffe000u) *
             (double)fr_host_bits<float>(lanes[column * 4 + k % 4].b[k / 4] & 0xffffe000u);
    return fr_host_bits<unsigned>(__double2float_rz(sum));
  }, file, line);
}
// Four 8 x 8 matrices of 16-bit elements from shared memory: lane 8 i + r names row r of matrix i.
inline void fr_ldmatrix_x4(unsigned *to, const void *row, FR_HOST_SITE) {
  struct Out { unsigned word[4]; };
  const Out out = fr_host::meet<const void *, Out>("fr_ldmatrix_x4", 0xffffffffu, row, [](fr_host::Fiber *warp) {
    for (int i = 0; i < 32; ++i) {
      Out made;
      for (int m = 0; m < 4; ++m)
        made.word[m] = ((const unsigned *)fr_host::in_of<const void *>(warp[8 * m + i / 4]))[i % 4];
      fr_host::out_to(warp[i], made);
    }
  }, file, line);
  memcpy(to, out.word, sizeof out.word);
}
inline void fr_ldmatrix_x2(unsigned *to, const void *row, FR_HOST_SITE) {
  struct Out { unsigned word[2]; };
  const Out out = fr_host::meet<const void *, Out>("fr_ldmatrix_x2", 0xffffffffu, row, [](fr_host::Fiber *warp) {
    for (int i = 0; i < 32; ++i) {
      Out made;
      for (int m = 0; m < 2; ++m)
        made.word[m] = ((const unsigned *)fr_host::in_of<const void *>(warp[8 * m + i / 4]))[i % 4];
      fr_host::out_to(warp[i], made);
    }
  }, file, line);
  memcpy(to, out.word, sizeof out.word);
}
// 16 bytes from global to shared memory, of which `bytes` are read and the rest are 0; they are there after the wait.
inline void fr_cp_async_16(void *to, const void *from, int bytes = 16, FR_HOST_SITE) {
  fr_host::Fiber &f = *fr_host::now;
  if (((uint64_t)to | (bytes ? (uint64_t)from : 0)) & 15) fr_host::fail(file, line, "fr_cp_async_16: an address is not a multiple of 16");
  if (bytes < 0 || bytes > 16) fr_host::fail(file, line, "fr_cp_async_16: %d bytes", bytes);
  if (f.copied == fr_host::MAX_COPIES) fr_host::fail(file, line, "fr_cp_async_16: %d copies under way", f.copied);
  f.copies[f.copied++] = {to, from, bytes, 16 - bytes};
}
inline void fr_cp_async_commit(FR_HOST_SITE) {
  fr_host::Fiber &f = *fr_host::now;
  if (f.groups == fr_host::MAX_COPIES) fr_host::fail(file, line, "fr_cp_async_commit: too many groups");
  f.group_ends[f.groups++] = f.copied;
}
template <int LEFT> void fr_cp_async_wait() {  // until all but the last LEFT groups have landed
  fr_host::Fiber &f = *fr_host::now;
  const int finished = f.groups - LEFT;
  if (finished <= 0) return;
  const int end = f.group_ends[finished - 1];
  for (int i = 0; i < end; ++i) {
    memcpy(f.copies[i].to, f.copies[i].from, (size_t)f.copies[i].bytes);
    memset((char *)f.copies[i].to + f.copies[i].bytes, 0, (size_t)f.copies[i].zeros);
  }
  memmove(f.copies, f.copies + end, sizeof(fr_host::Copy) * (size_t)(f.copied - end));
  f.copied -= end;
  for (int i = finished; i < f.groups; ++i) f.group_ends[i - finished] = f.group_ends[i] - end;
  f.groups = LEFT;
}

#endif
