// A small thread pool.  One parallel region per call: fr_parallel_for hands task numbers 0..tasks-1 to at most
// `threads` threads, the caller among them, from an atomic cursor.
//   fn(context, task, worker)   worker is in 0..threads-1 and belongs to one thread for the whole region, so it can
//                               index scratch memory.
// Any number of Python threads may be inside at once; idle pool threads are shared between their regions.  After
// fork() the child starts its own threads on first use.
#pragma once
#include <stdint.h>

extern "C" {
typedef void (*fr_task)(void *context, int64_t task, int worker);
typedef void (*fr_parallel_for_type)(fr_task fn, void *context, int64_t tasks, int threads);
}
void fr_parallel_for(fr_task fn, void *context, int64_t tasks, int threads);
