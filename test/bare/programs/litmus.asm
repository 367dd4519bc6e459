; Memory-order litmus tests between two to four CPUs. Command line: test=NUMBER n=RUNS near=1 meet=RUNS spin=TURNS
; patience=TURNS nap=1 (decimal). Without n it goes on until something comes in on COM1.
;
; Prints "thread START END" for each thread's routine, "so far" each 32768 runs, then a histogram: "KEY COUNT" in
; hexadecimal, where KEY has three bits of results for each thread, thread 0's lowest, then X and Y as they are left, two
; bits each; then "met COUNT OF" for each thread. test/tools/litmus.ts knows what each test's key means and what x86-TSO
; forbids (SDM 3A 8.2).
;
; Each run has locations X and Y of its own, in lines of their own: of one page with near=1, else of different pages.
; A batch of runs ends when all CPUs are through; which CPU has which thread changes from batch to batch.
;
; Every `meet` runs, a power of two, who is ahead waits for those who are behind as long as they move, so threads that
; run at the same time come to each run together, in an order that a varying number of turns makes different. One that
; does not move, since the host has no core for it, is not waited for. At the end of a batch a CPU looks `spin` times
; for the next one, then sleeps until it gets an interrupt. With nap=1 it sleeps for a while within a batch, too: where
; there are fewer host cores than CPUs, all go on in turns.
%include "bare.inc"
%include "smp.inc"

BATCH           equ 4096
STRETCH         equ 512                 ; runs in one call of a routine
TOLD            equ 8                   ; batches, after which it says so
LINES           equ 0x1000000           ; two for each run
KEYS            equ 0x1200000           ; a byte each, BATCH for each thread
SYNC            equ 0x1220000           ; a line each
SEEN            equ 0x1220400           ; a line each: where a thread has seen the others stand still
SEQ             equ 0x1230000
DATA_A          equ 0x1230040
DATA_B          equ 0x1230080           ; in SEQ's page, or the next
HIST            equ 0x1240000           ; a qword for each key
KEY_BITS        equ 16
THREADS         equ 4
V_WAKE          equ 0x41
PATIENCE        equ 1000                ; turns without a move after which a thread is taken to stand still
NAP             equ 20000               ; ns

section .text
main:   GO64 start

; What is between two accesses of a thread: nothing, or what orders a store before a load.
%macro FENCE 0
  %if variant == 1
        mfence
  %elif variant == 2
        lock or dword [rsp - 64], 0
  %endif
%endmacro

; One thread of a test: name, thread, number of threads. The body is the macro NAME_THREAD: X at RSI, Y at RDI, a
; number of the run in R13, DATA_B at R11, key to EAX; R12, R14 and RBP are kept.
%macro THREAD 3
run_%1_%2_ %+ variant:
        lea r14d, [rbx + STRETCH]
.next:  inc r13d
        test ebx, [meet]
        jnz .go
        inc dword [meetings + %2 * 4]
        mov [SYNC + %2 * 64], r13d
  %assign %%other 0
  %rep %3
    %if %%other != %2
        mov eax, [SYNC + %%other * 64]
        mov ecx, eax
        sub ecx, r13d
        jns %%there_ %+ %%other
        cmp eax, [SEEN + %2 * 64 + %%other * 4]
        je %%alone_ %+ %%other
%%behind_ %+ %%other:
        mov edx, PATIENCE
        test ebx, ebx
        cmovz edx, [patience]
%%look_ %+ %%other:
        mov ecx, [SYNC + %%other * 64]
        cmp ecx, eax
        jne %%moved_ %+ %%other
        dec edx
        jnz %%look_ %+ %%other
        mov [SEEN + %2 * 64 + %%other * 4], eax
        jmp %%alone_ %+ %%other
%%moved_ %+ %%other:
        mov eax, ecx
        sub ecx, r13d
        js %%behind_ %+ %%other
%%there_ %+ %%other:
        cmp ecx, [meet]
        ja %%alone_ %+ %%other
        inc dword [met + %2 * 4]
%%alone_ %+ %%other:
    %endif
    %assign %%other %%other + 1
  %endrep
.go:
        imul eax, r13d, 0x9e3779b1 + %2 * 0x10004562
        shr eax, 28
.delay: dec eax
        jns .delay
        %1_%2
        mov [KEYS + %2 * BATCH + rbx], al
        add esi, r12d
        add edi, r12d
        inc ebx
        cmp ebx, r14d
        jb .next
        ret
.end:
%endmacro
; Name, number of threads.
%macro THREADS_OF 2
  %assign thread 0
  %rep %2
        THREAD %1, thread, %2
    %assign thread thread + 1
  %endrep
%endmacro
%macro TESTCODE 1-2 2
  %assign variant 0
        THREADS_OF %1, %2
%endmacro
; The same in all variants of FENCE.
%macro FENCED 1-2 2
  %assign variant 0
  %rep 3
        THREADS_OF %1, %2
    %assign variant variant + 1
  %endrep
%endmacro
; Key bits from EAX, ECX, EDX (0 or 1 each).
%macro KEY2 0
        lea eax, [rax + rcx * 2]
%endmacro
%macro KEY3 0
        lea eax, [rax + rcx * 2]
        lea eax, [rax + rdx * 4]
%endmacro

        bits 64
; CoRR: two reads of one location
%macro corr_0 0
        mov dword [rsi], 1
        xor eax, eax
%endmacro
%macro corr_1 0
        mov eax, [rsi]
        FENCE
        mov ecx, [rsi]
        KEY2
%endmacro
        FENCED corr
; load X, load Y, load X
%macro xyx_0 0
        mov dword [rsi], 1
        FENCE
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro xyx_1 0
        mov eax, [rsi]
        FENCE
        mov ecx, [rdi]
        FENCE
        mov edx, [rsi]
        KEY3
%endmacro
        FENCED xyx
; message passing
%macro mp_0 0
        mov dword [rsi], 1
        FENCE
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro mp_1 0
        mov eax, [rdi]
        FENCE
        mov ecx, [rsi]
        KEY2
%endmacro
        FENCED mp
; store buffering
%macro sb_0 0
        mov dword [rsi], 1
        FENCE
        mov eax, [rdi]
%endmacro
%macro sb_1 0
        mov dword [rdi], 1
        FENCE
        mov eax, [rsi]
%endmacro
        FENCED sb
; with XCHG as the store
%macro sbx_0 0
        mov edx, 1
        xchg [rsi], edx
        mov eax, [rdi]
%endmacro
%macro sbx_1 0
        mov edx, 1
        xchg [rdi], edx
        mov eax, [rsi]
%endmacro
        TESTCODE sbx
; load buffering
%macro lb_0 0
        mov eax, [rsi]
        FENCE
        mov dword [rdi], 1
%endmacro
%macro lb_1 0
        mov eax, [rdi]
        FENCE
        mov dword [rsi], 1
%endmacro
        FENCED lb
; 2+2W: the last values; stores are seen in order
%macro w22_0 0
        mov dword [rsi], 1
        FENCE
        mov dword [rdi], 2
        xor eax, eax
%endmacro
%macro w22_1 0
        mov dword [rdi], 1
        FENCE
        mov dword [rsi], 2
        xor eax, eax
%endmacro
        FENCED w22
; message passing with a byte inside a qword: mixed sizes, one location
%macro mix_0 0
        mov rax, 0x0101010101010101
        mov [rsi], rax
        mov byte [rdi], 1
        xor eax, eax
%endmacro
%macro mix_1 0
        movzx eax, byte [rdi]
        mov rcx, [rsi]
        and ecx, 1
        movzx edx, byte [rsi + 7]
        KEY3
%endmacro
        TESTCODE mix
; a store is seen by its own CPU first
%macro own_0 0
        mov dword [rsi], 1
        mov eax, [rsi]
        mov ecx, [rdi]
        KEY2
%endmacro
%macro own_1 0
        mov dword [rdi], 1
        mov eax, [rdi]
        mov ecx, [rsi]
        KEY2
%endmacro
        TESTCODE own
; string stores and loads: REP STOSD, then a flag
%macro rep_0 0
        mov r8, rdi
        mov rdi, rsi
        mov eax, 1
        mov ecx, 2
        rep stosd
        mov rdi, r8
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro rep_1 0
        mov eax, [rdi]
        mov ecx, [rsi]
        mov edx, [rsi + 4]
        KEY3
%endmacro
        TESTCODE rep
; the second write of one CPU against the read after the other's
%macro r_0 0
        mov dword [rsi], 1
        FENCE
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro r_1 0
        mov dword [rdi], 2
        FENCE
        mov eax, [rsi]
%endmacro
        FENCED r
; a write after a read of what was written after it
%macro s_0 0
        mov dword [rsi], 2
        FENCE
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro s_1 0
        mov eax, [rdi]
        FENCE
        mov dword [rsi], 1
%endmacro
        FENCED s
; one location: what a CPU reads after its own store
%macro cowr_0 0
        mov dword [rsi], 1
        FENCE
        mov eax, [rsi]
        mov ecx, eax
        and eax, 1
        shr ecx, 1
        KEY2
%endmacro
%macro cowr_1 0
        mov dword [rsi], 2
        xor eax, eax
%endmacro
        FENCED cowr
; a loop that waits, unrolled by hand
%macro spin_0 0
        mov dword [rsi], 1
        FENCE
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro spin_1 0
%%wait: cmp dword [rdi], 0
        jne %%seen
        cmp dword [rdi], 0
        jne %%seen
        cmp dword [rdi], 0
        jne %%seen
        cmp dword [rdi], 0
        je %%wait
%%seen:
        FENCE
        mov eax, [rsi]
%endmacro
        FENCED spin
; store buffering with other locked instructions between
%macro SB_0 1+
        mov dword [rsi], 1
        mov ecx, 1
        xor eax, eax
        %1
        mov eax, [rdi]
%endmacro
%macro SB_1 1+
        mov dword [rdi], 1
        mov ecx, 1
        xor eax, eax
        %1
        mov eax, [rsi]
%endmacro
%macro sba_0 0
        SB_0 lock add qword [rsp - 64], 1
%endmacro
%macro sba_1 0
        SB_1 lock add qword [rsp - 64], 1
%endmacro
        TESTCODE sba
%macro sbd_0 0
        SB_0 lock xadd [rsp - 64], ecx
%endmacro
%macro sbd_1 0
        SB_1 lock xadd [rsp - 64], ecx
%endmacro
        TESTCODE sbd
%macro sbc_0 0
        SB_0 lock cmpxchg [rsp - 64], ecx
%endmacro
%macro sbc_1 0
        SB_1 lock cmpxchg [rsp - 64], ecx
%endmacro
        TESTCODE sbc
%macro sbb_0 0
        SB_0 lock bts dword [rsp - 64], 3
%endmacro
%macro sbb_1 0
        SB_1 lock bts dword [rsp - 64], 3
%endmacro
        TESTCODE sbb
; store buffering with SFENCE and LFENCE, which order no store before a load
%macro sbs_0 0
        mov dword [rsi], 1
        sfence
        lfence
        mov eax, [rdi]
%endmacro
%macro sbs_1 0
        mov dword [rdi], 1
        sfence
        lfence
        mov eax, [rsi]
%endmacro
        TESTCODE sbs
; three CPUs: what one has seen, the next sees
%macro wrc_0 0
        mov dword [rsi], 1
        xor eax, eax
%endmacro
%macro wrc_1 0
        mov eax, [rsi]
        FENCE
        mov [rdi], eax
%endmacro
%macro wrc_2 0
        mov eax, [rdi]
        FENCE
        mov ecx, [rsi]
        KEY2
%endmacro
        FENCED wrc, 3
; four CPUs: two readers see two writers in one order
%macro iriw_0 0
        mov dword [rsi], 1
        xor eax, eax
%endmacro
%macro iriw_1 0
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro iriw_2 0
        mov eax, [rsi]
        FENCE
        mov ecx, [rdi]
        KEY2
%endmacro
%macro iriw_3 0
        mov eax, [rdi]
        FENCE
        mov ecx, [rsi]
        KEY2
%endmacro
        FENCED iriw, 4
; three CPUs: one location is written twice, all see one order
%macro order_0 0
        mov dword [rsi], 1
        xor eax, eax
%endmacro
%macro order_1 0
        mov dword [rsi], 2
        xor eax, eax
%endmacro
%macro order_2 0
        mov eax, [rsi]
        FENCE
        mov ecx, [rsi]
        lea eax, [rax + rcx * 4]
%endmacro
        FENCED order, 3

; seqlock: one writer, one reader, who says 1: come again, 2: torn
%macro seq_0 0
        inc dword [SEQ]
        FENCE
        mov [DATA_A], r13d
        FENCE
        mov [r11], r13d
        FENCE
        inc dword [SEQ]
        xor eax, eax
%endmacro
%macro seq_1 0
        mov r8d, [SEQ]
        FENCE
        mov ecx, [DATA_A]
        FENCE
        mov edx, [r11]
        FENCE
        mov r9d, [SEQ]
        mov eax, 1
        cmp r8d, r9d
        jne %%end
        test r8d, eax
        jnz %%end
        xor eax, eax
        cmp ecx, edx
        je %%end
        mov eax, 2
%%end:
%endmacro
        FENCED seq

; Decimal number after the two-character or longer name at RDX (length RCX) on the command line; 0 when there is none.
number: mov esi, cmdline
.find:  mov al, [rsi]
        test al, al
        jz .none
        push rsi
        push rcx
        mov edi, edx
        repe cmpsb
        pop rcx
        mov r8, rsi
        pop rsi
        je .found
        inc esi
        jmp .find
.found: xor eax, eax
.digit: movzx r9d, byte [r8]
        sub r9d, '0'
        cmp r9d, 9
        ja .end
        imul eax, eax, 10
        add eax, r9d
        inc r8
        jmp .digit
.none:  xor eax, eax
.end:   ret

; OPTION name, label
%macro OPTION 2
        mov edx, %1
        mov ecx, %1.end - %1
        call number
        mov [%2], eax
%endmacro

start:  OPTION opt_test, test_number
        OPTION opt_n, runs
        OPTION opt_meet, meet
        dec dword [meet]
        OPTION opt_spin, spin
        OPTION opt_patience, patience
        OPTION opt_nap, nap
        OPTION opt_near, one_page
        mov dword [stride], 64
        mov dword [y_start], LINES + BATCH * 64
        mov dword [data_b], DATA_B + 4096
        cmp dword [one_page], 0
        je .far
        mov dword [stride], 128
        mov dword [y_start], LINES + 64
        mov dword [data_b], DATA_B
.far:   mov ebp, [test_number]
        cmp ebp, TESTS
        jb .start
        SAY "no such test", 10
        EXIT PASS + 1
.start: lea rax, [rbp + rbp * 8]                ; a count and four routines with their ends
        lea r14, [table + rax * 8]
        SETIDT V_WAKE, on_wake, KCODE64, INT32
        call start_ap
.aps:   pause
        mov eax, [ap_count]
        inc eax
        cmp eax, [r14]
        jb .aps
        xor ebp, ebp
        call join
        mov ecx, [r14]
        dec ecx
.crew:  mov qword [ap_work - 8 + rcx * 8], crew
        loop .crew
.joined: pause
        mov eax, [r14]
        cmp [joined], eax
        jb .joined
        xor ebx, ebx
.where: SAY "thread "
        HEX [r14 + 8 + rbx * 8]
        SAY " "
        HEX [r14 + 40 + rbx * 8]
        SAY 10
        inc ebx
        cmp ebx, [r14]
        jb .where
        mov r15d, [runs]
        add r15d, BATCH - 1
        shr r15d, 12
.batch: mov edi, LINES
        mov ecx, BATCH * 128 / 8
        xor eax, eax
        rep stosq
        call work_together
        add dword [round], BATCH
        xor ebx, ebx
        mov esi, LINES
        mov edi, [y_start]
.tally: mov eax, [rdi]
        and eax, 3
        mov edx, [rsi]
        and edx, 3
        lea eax, [rdx + rax * 4]
        mov edx, KEYS + 3 * BATCH
        mov ecx, 4
.key:   movzx r8d, byte [rdx + rbx]
        shl eax, 3
        or eax, r8d
        sub edx, BATCH
        loop .key
        inc qword [HIST + rax * 8]
        add esi, [stride]
        add edi, [stride]
        inc ebx
        cmp ebx, BATCH
        jb .tally
        test dword [batch], TOLD - 1
        jnz .untold
        SAY "so far", 10
.untold:
        dec r15d
        jz .print
        jns .batch
        mov dx, COM1 + 5                ; no number: until told
        in al, dx
        test al, 1
        jz .batch
.print: xor ebx, ebx
.line:  cmp qword [HIST + rbx * 8], 0
        je .none
        HEX rbx
        SAY " "
        HEX [HIST + rbx * 8]
        SAY 10
.none:  inc ebx
        cmp ebx, 1 << KEY_BITS
        jb .line
        xor ebx, ebx
.met:   SAY "met "
        HEXD [met + rbx * 4]
        SAY " "
        HEXD [meetings + rbx * 4]
        SAY 10
        inc ebx
        cmp ebx, [r14]
        jb .met
        EXIT

; Gives each CPU a thread of the test, runs one, and waits for the others. R14: the test.
work_together:
        mov ebp, [r14]
        inc dword [batch]
        mov eax, [batch]
        xor edx, edx
        div ebp
        mov r10d, edx                   ; the first CPU's thread
        mov eax, [batch]
        shr eax, 2
        lea ecx, [rbp - 1]
        xor edx, edx
        div ecx
        lea ecx, [rdx + 1]              ; the CPU that is told first
        mov ebx, 1
.give:  lea eax, [r10 + rcx]
        cmp eax, ebp
        jb .thread
        sub eax, ebp
.thread:
        mov rax, [r14 + 8 + rax * 8]
        xchg [task + rcx * 8], rax
        cmp dword [asleep + rcx * 4], 0
        je .awake
        call wake
.awake: inc ecx
        cmp ecx, ebp
        jb .more
        mov ecx, 1
.more:  inc ebx
        cmp ebx, ebp
        jb .give
        mov rax, [r14 + 8 + r10 * 8]
        push r14
        push r15
        push rbp
        call part
        pop rbp
        pop r15
        pop r14
.wait:  mov edx, [spin]
.look:  lea ecx, [rbp - 1]
.busy:  cmp qword [task + rcx * 8], 0
        jne .not_yet
        dec ecx
        jnz .busy
        ret
.not_yet:
        pause
        dec edx
        jnz .look
        mov eax, 1
        xchg [asleep], eax
        lea ecx, [rbp - 1]
.busy2: cmp qword [task + rcx * 8], 0
        jne .sleep
        dec ecx
        jnz .busy2
        jmp .up
.sleep: sti
        hlt
        cli
.up:    mov dword [asleep], 0
        jmp .wait

; What all other CPUs do for ever. ECX: a number from 0.
crew:   lea ebp, [rcx + 1]
        call join
.wait:  mov edx, [spin]
.look:  mov rax, [task + rbp * 8]
        test rax, rax
        jnz .work
        pause
        dec edx
        jnz .look
        mov eax, 1
        xchg [asleep + rbp * 4], eax
        cmp qword [task + rbp * 8], 0
        jne .up
        sti
        hlt
        cli
.up:    mov dword [asleep + rbp * 4], 0
        jmp .wait
.work:  push rbp
        call part
        pop rbp
        xor eax, eax
        xchg [task + rbp * 8], rax
        cmp dword [asleep], 0
        je .wait
        xor ecx, ecx
        call wake
        jmp .wait

; This CPU, number RBP, may be woken.
join:   mov eax, [LAPIC + 0x20]
        and eax, 0xff000000
        mov [apic_ids + rbp * 4], eax
        mov dword [LAPIC + 0x3e0], 0xb          ; its timer counts ns
        mov dword [LAPIC + 0x320], V_WAKE
        lock inc dword [joined]
        ret
; Wakes CPU ECX.
wake:   mov eax, [apic_ids + rcx * 4]
        mov [LAPIC + 0x310], eax
        mov dword [LAPIC + 0x300], 0x4000 | V_WAKE
        ret
on_wake:
        mov dword [LAPIC + 0xb0], 0
        iretq

; A thread's part of a batch, with its routine RAX.
part:   mov r15, rax
        mov esi, LINES
        mov edi, [y_start]
        mov r12d, [stride]
        mov r13d, [round]
        mov r11d, [data_b]
        xor ebx, ebx
.next:  str eax                         ; is in no region, so the call is in none either: the routine's is its own,
        call r15
        str eax                         ; and each return leaves it
        cmp ebx, BATCH
        jae .end
        cmp dword [nap], 0
        je .next
        imul eax, r13d, 0x9e3779b1
        add eax, r15d
        imul eax, eax, 0x85ebca6b
        test eax, eax
        js .next
        mov dword [LAPIC + 0x380], NAP
        sti
        hlt
        cli
        jmp .next
.end:   ret

section .data
%macro OPTION_NAME 2
%1:     db %2
.end:
%endmacro
        OPTION_NAME opt_test, " test="
        OPTION_NAME opt_n, " n="
        OPTION_NAME opt_near, " near="
        OPTION_NAME opt_meet, " meet="
        OPTION_NAME opt_spin, " spin="
        OPTION_NAME opt_patience, " patience="
        OPTION_NAME opt_nap, " nap="
align 8
; Name, number of threads, variant.
%macro ENTRY 3
        dq %2
    %assign thread 0
    %rep %2
        dq run_%1_ %+ thread %+ _%3
      %assign thread thread + 1
    %endrep
        times THREADS - %2 dq 0
    %assign thread 0
    %rep %2
        dq run_%1_ %+ thread %+ _%3.end
      %assign thread thread + 1
    %endrep
        times THREADS - %2 dq 0
%endmacro
; Pairs of name and number of threads.
%macro TABLE 1-*
  %rep %0 / 2
        ENTRY %1, %2, 0
    %rotate 2
  %endrep
%endmacro
%macro FENCED_TABLE 1-*
  %rep %0 / 2
        ENTRY %1, %2, 0
        ENTRY %1, %2, 1
        ENTRY %1, %2, 2
    %rotate 2
  %endrep
%endmacro
table:
        FENCED_TABLE corr, 2, xyx, 2, mp, 2, sb, 2, lb, 2, w22, 2, r, 2, s, 2, cowr, 2, spin, 2, seq, 2
        FENCED_TABLE wrc, 3, order, 3, iriw, 4
        TABLE sbx, 2, sba, 2, sbd, 2, sbc, 2, sbb, 2, sbs, 2, mix, 2, own, 2, rep, 2
table_end:
TESTS           equ (table_end - table) / 72

section .bss
alignb 8
task:   resq THREADS
asleep: resd THREADS
apic_ids: resd THREADS
met:    resd THREADS
meetings: resd THREADS
joined: resd 1
batch:  resd 1
test_number: resd 1
runs:   resd 1
round:  resd 1
stride: resd 1
y_start: resd 1
data_b: resd 1
meet:   resd 1
spin:   resd 1
patience: resd 1
nap:    resd 1
one_page: resd 1
