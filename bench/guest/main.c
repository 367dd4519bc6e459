/*
 * Runs workloads one by one, each in a process of its own: `bench [NAME...]`, all without a name.
 * Prints for each: `bench NAME CHECKSUM FIRST-NS NS`, of the first round of its work and of one after it has warmed up,
 * the mean of some.
 */
#include "bench.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const struct workload *const tables[] = {
    integer_workloads, code_workloads, memory_workloads, float_workloads,
    simd_workloads,    text_workloads, system_workloads, thread_workloads,
};
#define TABLES (sizeof tables / sizeof *tables)

_Noreturn void fail(const char *what) {
  fprintf(stderr, "%s: %s\n", what, strerror(errno));
  _exit(1);
}
void *allocate(size_t size) {
  void *memory = malloc(size);
  if (memory == NULL) fail("malloc");
  return memory;
}

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000ull + t.tv_nsec;
}

/* At least so long, in ns, and one round each. */
#define WARM_UP 3000000000ull
#define MEASURED 1000000000ull

/* Does the work until so much time has passed since `start`; ns of a round. */
static uint64_t rounds(const struct workload *w, uint64_t checksum, uint64_t start, uint64_t time) {
  uint64_t passed, count = 0;
  do {
    uint64_t other = w->run(w->n);
    if (other != checksum) {
      printf("bench %s differs: %016llx %016llx\n", w->name, (unsigned long long)checksum, (unsigned long long)other);
      fflush(stdout);
      _exit(1);
    }
    count++;
    passed = now() - start;
  } while (passed < time);
  return passed / count;
}
static void measure(const struct workload *w) {
  uint64_t start = now();
  uint64_t checksum = w->run(w->n);
  uint64_t first = now() - start;
  if (first < WARM_UP) rounds(w, checksum, start, WARM_UP);
  printf("bench %s %016llx %llu %llu\n", w->name, (unsigned long long)checksum, (unsigned long long)first,
         (unsigned long long)rounds(w, checksum, now(), MEASURED));
}

static int apart(const struct workload *w) {
  fflush(stdout);
  pid_t child = fork();
  if (child < 0) fail("fork");
  if (child == 0) {
    measure(w);
    fflush(stdout);
    _exit(0);
  }
  int status;
  if (waitpid(child, &status, 0) < 0) fail("waitpid");
  if (status == 0) return 0;
  printf("bench %s failed: status %x\n", w->name, (unsigned)status);
  return 1;
}

static int wanted(const char *name, int count, char **names) {
  if (count == 0) return 1;
  for (int i = 0; i < count; i++)
    if (strcmp(names[i], name) == 0) return 1;
  return 0;
}

int main(int argc, char **argv) {
  int failed = 0;
  /* what the workload `exec` runs */
  if (argc == 2 && strcmp(argv[1], "--nothing") == 0) return 0;
  for (size_t t = 0; t < TABLES; t++)
    for (const struct workload *w = tables[t]; w->name != NULL; w++)
      if (wanted(w->name, argc - 1, argv + 1)) failed |= apart(w);
  return failed;
}
