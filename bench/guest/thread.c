/* Two threads, each on a CPU of its own where there are two. */
#define _GNU_SOURCE
#include "bench.h"
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

struct job {
  int number;
  uint64_t n;
  uint64_t result;
  void (*body)(struct job *);
};

static void *run_job(void *argument) {
  struct job *job = argument;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(job->number, &set);
  /* fails where there is one CPU: then they share it */
  (void)pthread_setaffinity_np(pthread_self(), sizeof set, &set);
  job->body(job);
  return NULL;
}
static uint64_t together(void (*body)(struct job *), uint64_t n) {
  struct job jobs[2];
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    jobs[i] = (struct job){i, n, 0, body};
    if (pthread_create(&threads[i], NULL, run_job, &jobs[i]) != 0) fail("pthread_create");
  }
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  return mix(jobs[0].result, jobs[1].result);
}

/* Each alone, nothing shared. */
static void independent_body(struct job *job) {
  uint64_t state = (uint64_t)job->number, sum = 0;
  for (uint64_t i = 0; i < job->n; i++) sum += next_random(&state) >> 5;
  job->result = sum;
}
static uint64_t independent(uint64_t n) { return together(independent_body, n); }

static _Alignas(64) atomic_uint_fast64_t counter, maximum;
static void atomics_body(struct job *job) {
  uint64_t state = (uint64_t)job->number;
  for (uint64_t i = 0; i < job->n; i++) {
    atomic_fetch_add(&counter, 1);
    uint64_t value = next_random(&state) >> 8, seen = atomic_load(&maximum);
    while (seen < value && !atomic_compare_exchange_weak(&maximum, &seen, value)) {}
    atomic_fetch_xor(&counter, value << 32);
  }
}
static uint64_t atomics(uint64_t n) {
  counter = maximum = 0;
  together(atomics_body, n);
  return mix(counter, maximum);
}

/* Waits with PAUSE; gives the CPU away when the holder seems not to run. */
static _Alignas(64) atomic_int spin_word;
static uint64_t guarded[4];
static void spin_body(struct job *job) {
  for (uint64_t i = 0; i < job->n; i++) {
    for (unsigned tries = 1; atomic_exchange_explicit(&spin_word, 1, memory_order_acquire) != 0; tries++) {
      while (atomic_load_explicit(&spin_word, memory_order_relaxed) != 0 && tries % 1000 != 0) {
        __builtin_ia32_pause();
        tries++;
      }
      if (tries % 1000 == 0) sched_yield();
    }
    for (int k = 0; k < 4; k++) guarded[k] += (uint64_t)k + 1;
    atomic_store_explicit(&spin_word, 0, memory_order_release);
    for (volatile int k = 0; k < 20; k++) {}
  }
}
static uint64_t spin_lock(uint64_t n) {
  for (int k = 0; k < 4; k++) guarded[k] = 0;
  together(spin_body, n);
  uint64_t sum = 0;
  for (int k = 0; k < 4; k++) sum = mix(sum, guarded[k]);
  return sum;
}

static void mutex_body(struct job *job) {
  static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
  for (uint64_t i = 0; i < job->n; i++) {
    pthread_mutex_lock(&mutex);
    guarded[i & 3]++;
    pthread_mutex_unlock(&mutex);
  }
}
static uint64_t mutex(uint64_t n) {
  for (int k = 0; k < 4; k++) guarded[k] = 0;
  together(mutex_body, n);
  uint64_t sum = 0;
  for (int k = 0; k < 4; k++) sum = mix(sum, guarded[k]);
  return sum;
}

/* Each waits until it is its turn. */
static atomic_uint turn;
static void futex_body(struct job *job) {
  for (uint64_t i = 0; i < job->n; i++) {
    uint32_t mine = (uint32_t)(2 * i) + (uint32_t)job->number, seen;
    while ((seen = atomic_load(&turn)) != mine) syscall(SYS_futex, &turn, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_store(&turn, mine + 1);
    syscall(SYS_futex, &turn, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
  }
}
static uint64_t futex(uint64_t n) {
  turn = 0;
  together(futex_body, n);
  return turn;
}

/* Unmapping makes the kernel flush the other CPU's TLB. */
static void unmap_body(struct job *job) {
  enum { PAGES = 8 };
  for (uint64_t i = 0; i < job->n; i++) {
    volatile char *memory = mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    for (int k = 0; k < PAGES; k++) memory[k * 4096] = (char)k;
    job->result += (uint64_t)(memory[4096] + job->number);
    if (munmap((void *)memory, PAGES * 4096) != 0) fail("munmap");
  }
}
static uint64_t unmap(uint64_t n) { return together(unmap_body, n); }

const struct workload thread_workloads[] = {
    {"independent", independent, 100000000}, {"atomics", atomics, 8000000}, {"spin-lock", spin_lock, 1000000},
    {"mutex", mutex, 2000000},              {"futex", futex, 6000},       {"unmap", unmap, 250},
    {0},
};
