// Executes instruction cases on the host CPU. Reads one batch on stdin, writes the results to stdout; the formats
// are those of format.ts. Each case is entered with IRETQ (64-bit or compatibility mode) with every register
// loaded and ends with a signal, from whose context the state is read.
//
// Between entry and signal the FS base belongs to the case: nothing here may use thread-local storage then.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#define PAGE 4096
#define PAGES 8
#define IMAGE (PAGES * PAGE)

// the image's pages: where they are mapped for the cases
static const struct {
  uintptr_t address;
  int first, count, prot;
} areas[] = {
    {0x10000000, 0, 2, PROT_READ | PROT_EXEC},
    {0x20000000, 2, 2, PROT_READ | PROT_WRITE},
    {0x20002000, 4, 1, PROT_READ},
    {0x30000000, 5, 2, PROT_READ | PROT_WRITE},
    {0x5a5a5a5a0000, 7, 1, PROT_READ | PROT_WRITE},
};

enum { MODE32 = 1, HAS_FX = 2 };

struct case_head {
  uint32_t flags;
  uint16_t patches, pad;
  uint64_t rip, rflags, gpr[16], fs_base, gs_base, pad2;
};
struct result_head {
  uint64_t gpr[16], rip, rflags, cr2, fs_base, gs_base;
  uint32_t trap, error;
  uint16_t cs, ss, ds, es, fs, gs, runs, pad;
  uint8_t fx[512];
};
struct patch {
  uint16_t offset, length;
};

#define TRAP_TIMEOUT 255
#define TICK_US 20000

// used from assembly
struct {
  uint64_t saved_rsp, host_fs, frame[5], gpr[16], fs_base, gs_base;
  uint32_t data_selector, running, ticks, pad;
  uint8_t fx[512] __attribute__((aligned(64)));
} run __attribute__((aligned(64), used));

static uint8_t *image;
static uint8_t base[IMAGE];
static uint8_t default_fx[512] __attribute__((aligned(64)));
static struct result_head result;

void enter(void);
void leave(void);
void on_signal(int, siginfo_t *, void *);

// frame: rip, cs, rflags, rsp, ss at offset 16; gpr at 56; bases at 184, 192; data_selector at 200; fx at 256
__asm__(".text\n"
        ".globl enter\n"
        "enter:\n"
        "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
        "  mov %rsp, run(%rip)\n"
        "  rdfsbase %rax; mov %rax, run+8(%rip)\n"
        "  fxrstor64 run+256(%rip)\n"
        "  mov run+200(%rip), %eax\n"
        "  mov %eax, %ds; mov %eax, %es\n"
        "  xor %eax, %eax; mov %eax, %fs; mov %eax, %gs\n"
        "  mov run+184(%rip), %rax; wrfsbase %rax\n"
        "  mov run+192(%rip), %rax; wrgsbase %rax\n"
        "  movl $1, run+204(%rip)\n"
        "  lea run+16(%rip), %rsp\n"
        "  mov run+56(%rip), %rax; mov run+64(%rip), %rcx; mov run+72(%rip), %rdx; mov run+80(%rip), %rbx\n"
        "  mov run+96(%rip), %rbp; mov run+104(%rip), %rsi; mov run+112(%rip), %rdi; mov run+120(%rip), %r8\n"
        "  mov run+128(%rip), %r9; mov run+136(%rip), %r10; mov run+144(%rip), %r11; mov run+152(%rip), %r12\n"
        "  mov run+160(%rip), %r13; mov run+168(%rip), %r14; mov run+176(%rip), %r15\n"
        "  iretq\n"
        ".globl leave\n"
        "leave:\n"
        "  mov run(%rip), %rsp\n"
        "  mov run+8(%rip), %rax; wrfsbase %rax\n"
        "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
        "  ret\n"
        // AC, NT and TF of the case must not reach the handler
        ".globl signal_entry\n"
        "signal_entry:\n"
        "  pushq $0x202; popfq\n"
        "  jmp on_signal\n");
void signal_entry(int, siginfo_t *, void *);

static inline uint64_t fs_base(void) {
  uint64_t v;
  __asm__ volatile("rdfsbase %0" : "=r"(v));
  return v;
}
static inline uint64_t gs_base(void) {
  uint64_t v;
  __asm__ volatile("rdgsbase %0" : "=r"(v));
  return v;
}
#define SELECTOR(name)                                                                                                 \
  ({                                                                                                                   \
    uint32_t v;                                                                                                        \
    __asm__ volatile("mov %%" #name ", %0" : "=r"(v));                                                                 \
    (uint16_t)v;                                                                                                       \
  })

static void write_all(const uint8_t *from, size_t length) {
  while (length > 0) {
    ssize_t n = syscall(SYS_write, 1, from, length);
    if (n <= 0) _exit(3);
    from += n;
    length -= n;
  }
}

// order of uc_mcontext.gregs by register number
static const uint8_t greg_of[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                    REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

__attribute__((used)) void on_signal(int number, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  const greg_t *g = u->uc_mcontext.gregs;
  (void)info;
  if (!run.running) {
    if (number == SIGALRM) return;
    _exit(4);
  }
  if (number == SIGALRM && ++run.ticks < 3) return;
  run.running = 0;
  result.fs_base = fs_base();
  result.gs_base = gs_base();
  result.ds = SELECTOR(ds);
  result.es = SELECTOR(es);
  result.fs = SELECTOR(fs);
  result.gs = SELECTOR(gs);
  for (int i = 0; i < 16; i++) result.gpr[i] = g[greg_of[i]];
  result.rip = g[REG_RIP];
  result.rflags = g[REG_EFL];
  result.cr2 = g[REG_CR2];
  result.cs = g[REG_CSGSFS];
  result.ss = (uint64_t)g[REG_CSGSFS] >> 48;
  result.trap = number == SIGALRM ? TRAP_TIMEOUT : g[REG_TRAPNO];
  result.error = g[REG_ERR];
  const uint64_t *from = (const void *)u->uc_mcontext.fpregs;
  uint64_t *to = (void *)result.fx;
  for (int i = 0; i < 64; i++) to[i] = from[i];
  leave();
}

static uint8_t *out, *out_end;
static size_t out_size;

static void reserve(size_t n) {
  if ((size_t)(out + out_size - out_end) >= n) return;
  write_all(out, out_end - out);
  out_end = out;
}

// Appends the runs in which the image differs from the base, and makes them equal again.
static void collect(void) {
  reserve(sizeof result + IMAGE * 2);
  uint8_t *head = out_end;
  out_end += sizeof result;
  result.runs = 0;
  for (int page = 0; page < PAGES; page++) {
    uint8_t *now = image + page * PAGE, *was = base + page * PAGE;
    if (memcmp(now, was, PAGE) == 0) continue;
    for (int i = 0; i < PAGE;) {
      if (now[i] == was[i]) {
        i++;
        continue;
      }
      int end = i + 1;
      for (int j = end; j < PAGE && j < end + 8; j++)
        if (now[j] != was[j]) end = j + 1;
      struct patch p = {page * PAGE + i, end - i};
      memcpy(out_end, &p, 4);
      memcpy(out_end + 4, now + i, end - i);
      out_end += 4 + end - i;
      result.runs++;
      i = end;
    }
    memcpy(now, was, PAGE);
  }
  memcpy(head, &result, sizeof result);
  while ((out_end - out) & 7) *out_end++ = 0;
}

static uint8_t *read_all(size_t *length) {
  size_t size = 0, capacity = 1 << 20;
  uint8_t *buffer = malloc(capacity);
  for (;;) {
    ssize_t n = read(0, buffer + size, capacity - size);
    if (n < 0) _exit(3);
    if (n == 0) break;
    size += n;
    if (size == capacity) buffer = realloc(buffer, capacity *= 2);
  }
  *length = size;
  return buffer;
}

int main(void) {
  // bit 1 of AT_HWCAP2: RDFSBASE and WRFSBASE work in user mode
  if (!(getauxval(AT_HWCAP2) & 2)) return 5;
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(0, &set);
  sched_setaffinity(0, sizeof set, &set);
  int fd = memfd_create("cases", 0);
  if (fd < 0 || ftruncate(fd, IMAGE) < 0) return 6;
  image = mmap(0, IMAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (image == MAP_FAILED) return 6;
  for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) {
    void *p = mmap((void *)areas[i].address, areas[i].count * PAGE, areas[i].prot, MAP_SHARED | MAP_FIXED_NOREPLACE, fd,
                   areas[i].first * PAGE);
    if (p != (void *)areas[i].address) return 6;
  }

  size_t length;
  uint8_t *in = read_all(&length);
  if (length < 8 + IMAGE) return 7;
  uint32_t count;
  memcpy(&count, in, 4);
  memcpy(base, in + 8, IMAGE);
  memcpy(image, base, IMAGE);
  for (int i = 0; i < IMAGE; i += PAGE) {
    // present in the page tables of the cases: a first touch must not look like a fault
    for (size_t a = 0; a < sizeof areas / sizeof *areas; a++)
      if (i / PAGE >= areas[a].first && i / PAGE < areas[a].first + areas[a].count)
        (void)*(volatile uint8_t *)(areas[a].address + i - areas[a].first * PAGE);
  }
  out_size = 1 << 20;
  out = out_end = malloc(out_size);

  stack_t stack = {.ss_sp = malloc(1 << 17), .ss_size = 1 << 17};
  sigaltstack(&stack, 0);
  struct sigaction action = {.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};
  action.sa_sigaction = signal_entry;
  const int signals[] = {SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGBUS, SIGALRM};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, 0);
  struct itimerval timer = {{0, TICK_US}, {0, TICK_US}};
  setitimer(ITIMER_REAL, &timer, 0);

  __asm__ volatile("fninit; fxsave64 %0" : "=m"(default_fx));
  const uint8_t *p = in + 8 + IMAGE;
  for (uint32_t i = 0; i < count; i++) {
    struct case_head c;
    memcpy(&c, p, sizeof c);
    p += sizeof c;
    if (c.flags & HAS_FX) {
      memcpy(run.fx, p, 512);
      p += 512;
    } else {
      memcpy(run.fx, default_fx, 512);
      uint32_t mxcsr = 0x1f80;
      memcpy(run.fx + 24, &mxcsr, 4);
      memset(run.fx + 160, 0, 256);
    }
    for (int n = 0; n < c.patches; n++) {
      struct patch patch;
      memcpy(&patch, p, 4);
      memcpy(image + patch.offset, p + 4, patch.length);
      p += 4 + patch.length;
    }
    p = in + (((p - in) + 7) & ~7ul);
    memcpy(run.gpr, c.gpr, sizeof run.gpr);
    run.fs_base = c.fs_base;
    run.gs_base = c.gs_base;
    run.data_selector = c.flags & MODE32 ? 0x2b : 0;
    run.frame[0] = c.rip;
    run.frame[1] = c.flags & MODE32 ? 0x23 : 0x33;
    run.frame[2] = c.rflags;
    run.frame[3] = c.gpr[4];
    run.frame[4] = 0x2b;
    run.ticks = 0;
    enter();
    collect();
  }
  write_all(out, out_end - out);
  return 0;
}
