/* What the workloads share. Each does `n` units of fixed work and returns a checksum of its result. */
#ifndef BENCH_H
#define BENCH_H
#include <stddef.h>
#include <stdint.h>

struct workload {
  const char *name;
  uint64_t (*run)(uint64_t n);
  /* sized so that native QEMU's TCG takes 0.3 to 1 s */
  uint64_t n;
};

/* Tables end with an entry without a name. */
extern const struct workload integer_workloads[];
extern const struct workload code_workloads[];
extern const struct workload memory_workloads[];
extern const struct workload float_workloads[];
extern const struct workload simd_workloads[];
extern const struct workload text_workloads[];
extern const struct workload system_workloads[];
extern const struct workload thread_workloads[];

#define NOINLINE __attribute__((noinline))

/* SplitMix64: a stream of numbers that every build gets alike. */
static inline uint64_t next_random(uint64_t *state) {
  uint64_t z = *state += 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}
static inline uint64_t mix(uint64_t sum, uint64_t value) {
  sum ^= value;
  return sum * 0x100000001b3u + 1;
}
/* Ends the workload's process with a message. */
_Noreturn void fail(const char *what);
void *allocate(size_t size);
#endif
