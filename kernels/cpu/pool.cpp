#include "pool.h"

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>

#if !defined(_WIN32)
#include <pthread.h>
#endif

namespace {

struct Region {
  fr_task fn;
  void *context;
  int64_t tasks;
  int threads;                    // workers wanted, the caller included
  std::atomic<int64_t> cursor{0};
  int joined = 1;                 // workers that have ever entered (guarded by the pool's mutex); the caller is 0
  int inside = 0;                 // pool workers still inside (guarded by the pool's mutex)
  Region *next = nullptr;         // the pool's list of open regions (guarded by the pool's mutex)

  void work(int worker) {
    for (int64_t task; (task = cursor.fetch_add(1, std::memory_order_relaxed)) < tasks;) fn(context, task, worker);
  }
  bool open() const { return joined < threads && cursor.load(std::memory_order_relaxed) < tasks; }
};

class Pool {
 public:
  void run(Region &region) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (started_ < region.threads - 1) {
      try {
        std::thread([this] { loop(); }).detach();
      } catch (...) {
        break;  // out of threads: those that exist, and the caller, do the work
      }
      ++started_;
    }
    Region **end = &first_;  // oldest first
    while (*end) end = &(*end)->next;
    *end = &region;
    lock.unlock();
    if (region.threads == 2) wake_.notify_one(); else wake_.notify_all();
    region.work(0);
    lock.lock();
    Region **link = &first_;
    while (*link != &region) link = &(*link)->next;
    *link = region.next;
    done_.wait(lock, [&] { return region.inside == 0; });
  }

 private:
  void loop() {
    std::unique_lock<std::mutex> lock(mutex_);
    for (;;) {
      Region *region = nullptr;
      wake_.wait(lock, [&] {
        for (region = first_; region && !region->open();) region = region->next;
        return region != nullptr;
      });
      const int worker = region->joined++;
      ++region->inside;
      lock.unlock();
      region->work(worker);
      lock.lock();
      if (--region->inside == 0) done_.notify_all();
    }
  }

  std::mutex mutex_;
  std::condition_variable wake_, done_;
  Region *first_ = nullptr;
  int started_ = 0;
};

// Never destroyed: detached threads wait on it until the process ends.
std::atomic<Pool *> g_pool{nullptr};

#if !defined(_WIN32)
// The child of a fork has none of the pool's threads and may have copied its mutex locked: forget it.
void forget_pool() { g_pool.store(nullptr, std::memory_order_relaxed); }
#endif

Pool &pool() {
  Pool *existing = g_pool.load(std::memory_order_acquire);
  if (existing) return *existing;
#if !defined(_WIN32)
  static const int registered = pthread_atfork(nullptr, nullptr, forget_pool);
  (void)registered;
#endif
  Pool *made = new Pool;
  if (g_pool.compare_exchange_strong(existing, made, std::memory_order_acq_rel)) return *made;
  delete made;
  return *existing;
}

}  // namespace

void fr_parallel_for(fr_task fn, void *context, int64_t tasks, int threads) {
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    for (int64_t task = 0; task < tasks; ++task) fn(context, task, 0);
    return;
  }
  Region region;
  region.fn = fn;
  region.context = context;
  region.tasks = tasks;
  region.threads = threads;
  pool().run(region);
}
