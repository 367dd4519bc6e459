/*
 * Runs in the guest.
 *   time-check order SECONDS   threads pinned to every CPU, and one that moves from CPU to CPU, read CLOCK_MONOTONIC
 *                              and the TSC; each reading is compared with the latest that any thread has made known
 *   time-check stamp           prints the clocks whenever a line comes
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { MONOTONIC, TSC, CLOCKS };

static _Atomic uint64_t latest[CLOCKS];
static _Atomic uint64_t checks[CLOCKS], backwards[CLOCKS], worst[CLOCKS];
static _Atomic uint64_t moves;
static uint64_t end_ns;
static int cpus;

static uint64_t clock_ns(clockid_t id) {
  struct timespec t;
  clock_gettime(id, &t);
  return t.tv_sec * UINT64_C(1000000000) + t.tv_nsec;
}

static uint64_t read_tsc(void) {
  uint32_t low, high;
  __asm__ volatile("lfence; rdtsc; lfence" : "=a"(low), "=d"(high)::"memory");
  return (uint64_t)high << 32 | low;
}

static uint64_t read_clock(int which) {
  return which == TSC ? read_tsc() : clock_ns(CLOCK_MONOTONIC);
}

static void raise_to(_Atomic uint64_t *to, uint64_t value) {
  uint64_t old = atomic_load(to);
  while (old < value && !atomic_compare_exchange_weak(to, &old, value)) {
  }
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) {
    perror("sched_setaffinity");
    exit(1);
  }
}

static void check(int which) {
  uint64_t before = atomic_load(&latest[which]);
  uint64_t now = read_clock(which);
  atomic_fetch_add(&checks[which], 1);
  if (now < before) {
    atomic_fetch_add(&backwards[which], 1);
    raise_to(&worst[which], before - now);
  }
  raise_to(&latest[which], now);
}

static void *stay(void *argument) {
  pin((int)(intptr_t)argument);
  while (clock_ns(CLOCK_MONOTONIC) < end_ns) {
    for (int i = 0; i < 100; i++) {
      check(MONOTONIC);
      check(TSC);
    }
    sched_yield();
  }
  return NULL;
}

static void *move(void *argument) {
  (void)argument;
  int cpu = 0;
  while (clock_ns(CLOCK_MONOTONIC) < end_ns) {
    cpu = (cpu + 1) % cpus;
    pin(cpu);
    atomic_fetch_add(&moves, 1);
    check(MONOTONIC);
    check(TSC);
  }
  return NULL;
}

static int order(int seconds) {
  cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
  end_ns = clock_ns(CLOCK_MONOTONIC) + seconds * UINT64_C(1000000000);
  pthread_t *threads = calloc(cpus + 1, sizeof *threads);
  for (int i = 0; i < cpus; i++) pthread_create(&threads[i], NULL, stay, (void *)(intptr_t)i);
  pthread_create(&threads[cpus], NULL, move, NULL);
  for (int i = 0; i <= cpus; i++) pthread_join(threads[i], NULL);
  static const char *const names[CLOCKS] = {"monotonic", "tsc"};
  for (int i = 0; i < CLOCKS; i++) {
    printf("%s checks %" PRIu64 " backwards %" PRIu64 " worst %" PRIu64 "\n", names[i], checks[i], backwards[i],
           worst[i]);
  }
  printf("moves %" PRIu64 "\n", moves);
  return 0;
}

static int stamp(void) {
  char line[256];
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (line[0] == 'q') break;
    printf("stamp %" PRIu64 " %" PRIu64 " %" PRIu64 "\n", clock_ns(CLOCK_MONOTONIC), read_tsc(),
           clock_ns(CLOCK_REALTIME));
    fflush(stdout);
  }
  return 0;
}

int main(int count, char **arguments) {
  if (count == 3 && strcmp(arguments[1], "order") == 0) return order(atoi(arguments[2]));
  if (count == 2 && strcmp(arguments[1], "stamp") == 0) return stamp();
  return 2;
}
