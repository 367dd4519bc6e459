; Memory-order litmus tests between two to four CPUs. Command line: test=NUMBER n=RUNS near=1 meet=RUNS (decimal).
; Without n it goes on until something comes in on COM1.
;
; Prints "thread START END" for each CPU's routine, then a histogram: "KEY COUNT" in hexadecimal, where KEY has three
; bits of results for each CPU, CPU 0's lowest, then X and Y as they are left, two bits each. test/tools/litmus.ts knows
; what each test's key means and what x86-TSO forbids (SDM 3A 8.2).
;
; Each run has locations X and Y of its own, in lines of their own: of one page with near=1, else of different pages.
; Every `meet` runs, a power of two, the CPUs meet, and before each run they wait for a varying number of turns, so that
; they come to the test at about the same time in every order. Where there are fewer host cores than CPUs a meeting may
; take a time slice.
%include "bare.inc"
%include "smp.inc"

BATCH           equ 4096
LINES           equ 0x1000000           ; two for each run
KEYS            equ 0x1200000           ; a byte each, BATCH for each CPU
SYNC            equ 0x1220000           ; a line each
SEQ             equ 0x1230000
DATA_A          equ 0x1230040
DATA_B          equ 0x1230080
HIST            equ 0x1240000           ; a qword for each key
KEY_BITS        equ 16

section .text
main:   GO64 start

; One thread of a test: name, CPU, number of CPUs. The body is the macro NAME_CPU: X at RSI, Y at RDI, key to EAX.
%macro THREAD 3
run_%1_%2:
        mov esi, LINES
        mov edi, [y_start]
        mov r12d, [stride]
        xor ebx, ebx
        mov r13d, [round]
.next:  inc r13d
        test ebx, [meet]
        jnz .go
        mov [SYNC + %2 * 64], r13d
  %assign %%other 0
  %rep %3
    %if %%other != %2
%%meet_ %+ %%other:
        mov eax, [SYNC + %%other * 64]
        sub eax, r13d
        js %%meet_ %+ %%other
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
        cmp ebx, BATCH
        jb .next
        ret
.end:
%endmacro
; Name, number of CPUs.
%macro TESTCODE 1-2 2
  %assign thread 0
  %rep %2
        THREAD %1, thread, %2
    %assign thread thread + 1
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
; 0 CoRR: two reads of one location
%macro corr_0 0
        mov dword [rsi], 1
        xor eax, eax
%endmacro
%macro corr_1 0
        mov eax, [rsi]
        mov ecx, [rsi]
        KEY2
%endmacro
        TESTCODE corr
; 1 load X, load Y, load X
%macro xyx_0 0
        mov dword [rsi], 1
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro xyx_1 0
        mov eax, [rsi]
        mov ecx, [rdi]
        mov edx, [rsi]
        KEY3
%endmacro
        TESTCODE xyx
; 2 message passing
%macro mp_0 0
        mov dword [rsi], 1
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro mp_1 0
        mov eax, [rdi]
        mov ecx, [rsi]
        KEY2
%endmacro
        TESTCODE mp
; 3 store buffering
%macro sb_0 0
        mov dword [rsi], 1
        mov eax, [rdi]
%endmacro
%macro sb_1 0
        mov dword [rdi], 1
        mov eax, [rsi]
%endmacro
        TESTCODE sb
; 4 with MFENCE
%macro sbf_0 0
        mov dword [rsi], 1
        mfence
        mov eax, [rdi]
%endmacro
%macro sbf_1 0
        mov dword [rdi], 1
        mfence
        mov eax, [rsi]
%endmacro
        TESTCODE sbf
; 5 with XCHG as the store
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
; 6 with a locked instruction on the stack between
%macro sbl_0 0
        mov dword [rsi], 1
        lock or dword [rsp - 64], 0
        mov eax, [rdi]
%endmacro
%macro sbl_1 0
        mov dword [rdi], 1
        lock or dword [rsp - 64], 0
        mov eax, [rsi]
%endmacro
        TESTCODE sbl
; 7 load buffering
%macro lb_0 0
        mov eax, [rsi]
        mov dword [rdi], 1
%endmacro
%macro lb_1 0
        mov eax, [rdi]
        mov dword [rsi], 1
%endmacro
        TESTCODE lb
; 8 2+2W: the last values; stores are seen in order
%macro w22_0 0
        mov dword [rsi], 1
        mov dword [rdi], 2
        xor eax, eax
%endmacro
%macro w22_1 0
        mov dword [rdi], 1
        mov dword [rsi], 2
        xor eax, eax
%endmacro
        TESTCODE w22
; 9 message passing with a byte inside a qword: mixed sizes, one location
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
; 10 a store is seen by its own CPU first
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
; 11 string stores and loads: REP STOSD, then a flag
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
; 12 the second write of one CPU against the read after the other's
%macro r_0 0
        mov dword [rsi], 1
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro r_1 0
        mov dword [rdi], 2
        mov eax, [rsi]
%endmacro
        TESTCODE r
; 13 with MFENCE
%macro rf_0 0
        r_0
%endmacro
%macro rf_1 0
        mov dword [rdi], 2
        mfence
        mov eax, [rsi]
%endmacro
        TESTCODE rf
; 14 a write after a read of what was written after it
%macro s_0 0
        mov dword [rsi], 2
        mov dword [rdi], 1
        xor eax, eax
%endmacro
%macro s_1 0
        mov eax, [rdi]
        mov dword [rsi], 1
%endmacro
        TESTCODE s
; 15 one location: what a CPU reads after its own store
%macro cowr_0 0
        mov dword [rsi], 1
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
        TESTCODE cowr
; 16 a loop that waits, unrolled by hand
%macro spin_0 0
        mov dword [rsi], 1
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
%%seen: mov eax, [rsi]
%endmacro
        TESTCODE spin
; 17 to 20: store buffering with other locked instructions between
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
; 21 store buffering with SFENCE and LFENCE, which order no store before a load
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
; 22 three CPUs: what one has seen, the next sees
%macro wrc_0 0
        mov dword [rsi], 1
        xor eax, eax
%endmacro
%macro wrc_1 0
        mov eax, [rsi]
        mov [rdi], eax
%endmacro
%macro wrc_2 0
        mov eax, [rdi]
        mov ecx, [rsi]
        KEY2
%endmacro
        TESTCODE wrc, 3
; 23 four CPUs: two readers see two writers in one order
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
        mov ecx, [rdi]
        KEY2
%endmacro
%macro iriw_3 0
        mov eax, [rdi]
        mov ecx, [rsi]
        KEY2
%endmacro
        TESTCODE iriw, 4
; 24 three CPUs: one location is written twice, all see one order
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
        mov ecx, [rsi]
        lea eax, [rax + rcx * 4]
%endmacro
        TESTCODE order, 3

; 25 seqlock: one writer, one reader
seq_write:
        mov ecx, BATCH
        mov eax, [DATA_A]
.next:  inc dword [SEQ]
        inc eax
        mov [DATA_A], eax
        mov [DATA_B], eax
        inc dword [SEQ]
        dec ecx
        jnz .next
        mov dword [seq_stop], 1
        ret
.end:
seq_read:
        mov eax, [SEQ]
        mov ecx, [DATA_A]
        mov edx, [DATA_B]
        mov r8d, [SEQ]
        cmp eax, r8d
        jne .again
        test eax, 1
        jnz .again
        cmp ecx, edx
        jne .torn
        inc qword [HIST]
        jmp .more
.torn:  inc qword [HIST + 2 * 8]
        jmp .more
.again: inc qword [HIST + 1 * 8]
.more:  cmp dword [seq_stop], 0
        je seq_read
        ret
.end:

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

start:  mov edx, opt_test
        mov ecx, 6
        call number
        mov [test_number], eax
        mov edx, opt_n
        mov ecx, 3
        call number
        mov [runs], eax
        mov dword [stride], 64
        mov dword [y_start], LINES + BATCH * 64
        mov edx, opt_near
        mov ecx, 6
        call number
        test eax, eax
        jz .far
        mov dword [stride], 128
        mov dword [y_start], LINES + 64
.far:   mov edx, opt_meet
        mov ecx, 6
        call number
        dec eax
        mov [meet], eax
        mov ebp, [test_number]
        cmp ebp, TESTS
        jb .start
        SAY "no such test", 10
        EXIT PASS + 1
.start: lea rax, [rbp + rbp * 8]                ; a count and four routines with their ends
        lea r14, [table + rax * 8]
        call start_ap
.aps:   pause
        mov eax, [ap_count]
        inc eax
        cmp eax, [r14]
        jb .aps
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
        mov [seq_stop], eax
        call work_together
        add dword [round], BATCH
        cmp ebp, TESTS - 1
        je .more
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
.more:  dec r15d
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
        EXIT

; All CPUs of the test run their routines.
work_together:
        mov ecx, [r14]
        dec ecx
.give:  mov rax, [r14 + 8 + rcx * 8]
        mov [ap_work - 8 + rcx * 8], rax
        dec ecx
        jnz .give
        push r14
        push r15
        push rbp
        call [r14 + 8]
        str eax                         ; as in ap_main
        pop rbp
        pop r15
        pop r14
        mov ecx, [r14]
        dec ecx
.wait:  pause
        cmp qword [ap_work - 8 + rcx * 8], 0
        jne .wait
        dec ecx
        jnz .wait
        ret

section .data
opt_test: db " test="
opt_n:  db " n="
opt_near: db " near="
opt_meet: db " meet="
align 8
; Pairs of name and number of CPUs.
%macro TABLE 1-*
  %rep %0 / 2
        dq %2
    %assign cpu 0
    %rep %2
        dq run_%1_ %+ cpu
      %assign cpu cpu + 1
    %endrep
        times 4 - %2 dq 0
    %assign cpu 0
    %rep %2
        dq run_%1_ %+ cpu %+ .end
      %assign cpu cpu + 1
    %endrep
        times 4 - %2 dq 0
    %rotate 2
  %endrep
%endmacro
table:
        TABLE corr, 2, xyx, 2, mp, 2, sb, 2, sbf, 2, sbx, 2, sbl, 2, lb, 2, w22, 2, mix, 2, own, 2, rep, 2, r, 2, rf, 2
        TABLE s, 2, cowr, 2, spin, 2, sba, 2, sbd, 2, sbc, 2, sbb, 2, sbs, 2, wrc, 3, iriw, 4, order, 3
        dq 2, seq_read, seq_write, 0, 0, seq_read.end, seq_write.end, 0, 0
table_end:
TESTS           equ (table_end - table) / 72

section .bss
alignb 8
test_number: resd 1
runs:   resd 1
round:  resd 1
seq_stop: resd 1
stride: resd 1
y_start: resd 1
meet:   resd 1
