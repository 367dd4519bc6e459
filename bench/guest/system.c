/* The kernel on one CPU: system calls, page faults, processes, context switches, signals, files. */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static uint64_t system_calls(uint64_t n) {
  uint64_t same = 0;
  long parent = syscall(SYS_getppid);
  for (uint64_t i = 0; i < n; i++) same += syscall(SYS_getppid) == parent;
  return same;
}

static uint64_t page_faults(uint64_t n) {
  enum { PAGES = 256 };
  uint64_t sum = 0;
  for (uint64_t round = 0; round < n; round++) {
    volatile char *memory =
        mmap(NULL, PAGES * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) fail("mmap");
    for (int i = 0; i < PAGES; i++) sum += (uint64_t)memory[i * 4096] + (memory[i * 4096 + 8] = 1);
    if (munmap((void *)memory, PAGES * 4096) != 0) fail("munmap");
  }
  return sum;
}

static int child_status(pid_t child) {
  int status;
  if (child < 0) fail("fork");
  if (waitpid(child, &status, 0) != child) fail("waitpid");
  return WEXITSTATUS(status);
}
static uint64_t fork_wait(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    pid_t child = fork();
    if (child == 0) _exit((int)(i & 127));
    sum = mix(sum, (uint64_t)child_status(child));
  }
  return sum;
}
static NOINLINE int run_nothing(void) {
  pid_t child = vfork();
  if (child == 0) {
    execl("/proc/self/exe", "bench", "--nothing", (char *)NULL);
    _exit(127);
  }
  return child_status(child);
}
static uint64_t exec(uint64_t n) {
  uint64_t sum = 0;
  for (uint64_t i = 0; i < n; i++) sum += run_nothing() == 0;
  return sum;
}

static void pin(int cpu) {
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  if (sched_setaffinity(0, sizeof set, &set) != 0) fail("sched_setaffinity");
}
/* Two processes on one CPU hand a byte to and fro. */
static uint64_t context_switches(uint64_t n) {
  int there[2], back[2];
  uint64_t sum = 0;
  cpu_set_t before;
  if (sched_getaffinity(0, sizeof before, &before) != 0) fail("sched_getaffinity");
  pin(0);
  if (pipe(there) != 0 || pipe(back) != 0) fail("pipe");
  pid_t child = fork();
  if (child == 0) {
    uint8_t byte;
    close(there[1]);
    while (read(there[0], &byte, 1) == 1) {
      byte = (uint8_t)(byte * 3 + 1);
      if (write(back[1], &byte, 1) != 1) _exit(1);
    }
    _exit(0);
  }
  close(there[0]);
  close(back[1]);
  for (uint64_t i = 0; i < n; i++) {
    uint8_t byte = (uint8_t)i;
    if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1) fail("pipe");
    sum = mix(sum, byte);
  }
  close(there[1]);
  close(back[0]);
  child_status(child);
  if (sched_setaffinity(0, sizeof before, &before) != 0) fail("sched_setaffinity");
  return sum;
}

static volatile uint64_t signals_seen;
static void on_signal(int number) { signals_seen += (uint64_t)number; }
static uint64_t signals(uint64_t n) {
  struct sigaction action = {.sa_handler = on_signal};
  sigaction(SIGUSR1, &action, NULL);
  signals_seen = 0;
  for (uint64_t i = 0; i < n; i++) kill(getpid(), SIGUSR1);
  return signals_seen;
}

static uint64_t files(uint64_t n) {
  enum { SIZE = 65536 };
  static uint8_t block[SIZE];
  const char *path = "/tmp/bench-file";
  uint64_t state = 73, sum = 0;
  for (uint64_t i = 0; i < n; i++) {
    int file = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
    if (file < 0) fail(path);
    for (int k = 0; k < SIZE; k += 512) block[k] = (uint8_t)next_random(&state);
    if (write(file, block, SIZE) != SIZE) fail("write");
    for (off_t at = 0; at < SIZE; at += 4096) {
      uint8_t small[64];
      if (pread(file, small, sizeof small, at) != sizeof small) fail("pread");
      sum = mix(sum, small[0]);
    }
    close(file);
    if (unlink(path) != 0) fail("unlink");
  }
  return sum;
}

const struct workload system_workloads[] = {
    {"syscall", system_calls, 700000}, {"page-faults", page_faults, 120}, {"fork", fork_wait, 250}, {"exec", exec, 100},
    {"switches", context_switches, 6000}, {"signals", signals, 50000},  {"files", files, 500},  {0},
};
