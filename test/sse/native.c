/*
 * Runs single instructions on the host CPU: the oracle of the SIMD tests.
 * stdin: u32 size of the code blob, the blob (16-byte slots: an instruction, then RET), then cases of u32 slot,
 * 12 bytes of padding and a struct state. stdout: the states afterwards.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

struct state {
  uint8_t xmm[4][16];
  uint64_t mm[4];
  uint64_t rax, rcx, rdx, r8, r9, flags;
  uint32_t mxcsr, signal;
  uint64_t padding;
  uint8_t memory[32];
} __attribute__((aligned(32)));

struct input {
  uint32_t slot, pad[3];
  uint8_t state[sizeof(struct state)];
};

static struct state current;
void run_case(struct state *s, void *code);
extern char after_call[];

__asm__(
    ".text\n"
    "run_case:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rdi, %r12\n"
    "  mov %rsi, %r13\n"
    "  movdqa 0(%r12), %xmm0; movdqa 16(%r12), %xmm1; movdqa 32(%r12), %xmm2; movdqa 48(%r12), %xmm3\n"
    "  movq 64(%r12), %mm0; movq 72(%r12), %mm1; movq 80(%r12), %mm2; movq 88(%r12), %mm3\n"
    "  mov 96(%r12), %rax; mov 104(%r12), %rcx; mov 112(%r12), %rdx; mov 120(%r12), %r8; mov 128(%r12), %r9\n"
    "  lea 160(%r12), %rbx\n"
    "  mov %rbx, %rdi\n"
    "  ldmxcsr 144(%r12)\n"
    "  call *%r13\n"
    ".globl after_call\n"
    "after_call:\n"
    "  pushfq; pop 136(%r12)\n"
    "  stmxcsr 144(%r12)\n"
    "  mov %rax, 96(%r12); mov %rcx, 104(%r12); mov %rdx, 112(%r12); mov %r8, 120(%r12); mov %r9, 128(%r12)\n"
    "  movdqa %xmm0, 0(%r12); movdqa %xmm1, 16(%r12); movdqa %xmm2, 32(%r12); movdqa %xmm3, 48(%r12)\n"
    "  movq %mm0, 64(%r12); movq %mm1, 72(%r12); movq %mm2, 80(%r12); movq %mm3, 88(%r12)\n"
    "  emms\n"
    "  push $0x1f80; ldmxcsr (%rsp); pop %rax\n"
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  ret\n");

static void on_signal(int number, siginfo_t *info, void *context) {
  ucontext_t *u = context;
  (void)info;
  current.signal = (uint32_t)number;
  u->uc_mcontext.gregs[REG_RIP] = (greg_t)after_call;
  u->uc_mcontext.gregs[REG_RSP] += 8;
}

static void must_read(void *to, size_t size) {
  if (fread(to, 1, size, stdin) != size) exit(2);
}

int main(void) {
  struct sigaction action;
  memset(&action, 0, sizeof action);
  action.sa_sigaction = on_signal;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGFPE, &action, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGILL, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  uint32_t size;
  must_read(&size, 4);
  uint8_t *code = mmap(NULL, size + 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 3;
  must_read(code, size);
  struct input in;
  while (fread(&in, 1, sizeof in, stdin) == sizeof in) {
    memcpy(&current, in.state, sizeof current);
    current.signal = 0;
    run_case(&current, code + (size_t)in.slot * 16);
    fwrite(&current, 1, sizeof current, stdout);
  }
  return 0;
}
