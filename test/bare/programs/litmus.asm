; Memory-order litmus tests between two CPUs. Command line: test=NUMBER n=RUNS (decimal).
;
; Prints a histogram: "KEY COUNT" in hexadecimal, where KEY has the results of CPU 0 in bits 2:0 and those of CPU 1 in
; bits 5:3; test/tools/litmus.ts knows what each test's key means and what x86-TSO forbids (SDM 3A 8.2).
;
; Each run has locations X and Y of its own, in lines of their own. Every 8 runs the CPUs meet, and before each run
; they wait for a varying number of turns, so that they come to the test at about the same time in every order.
%include "bare.inc"
%include "smp.inc"

BATCH           equ 4096
XS              equ 0x1000000           ; a line each
YS              equ XS + BATCH * 64
KEYS0           equ 0x1200000           ; a byte each
KEYS1           equ 0x1210000
SYNC0           equ 0x1220000
SYNC1           equ 0x1220080
SEQ             equ 0x1230000
DATA_A          equ 0x1230040
DATA_B          equ 0x1230080

section .text
main:   GO64 start

; One thread of a test: name, CPU. The body is the macro NAME_CPU: X at RSI, Y at RDI, key to EAX.
%macro THREAD 2
run_%1_%2:
        mov esi, XS
        mov edi, YS
        xor ebx, ebx
        mov r13d, [round]
.next:  inc r13d
        test bl, 7
        jnz .go
  %if %2 == 0
        mov [SYNC0], r13d
.meet:  mov eax, [SYNC1]
  %else
        mov [SYNC1], r13d
.meet:  mov eax, [SYNC0]
  %endif
        sub eax, r13d
        js .meet
.go:
        imul eax, r13d, 0x9e3779b1 + %2 * 0x10004562
        shr eax, 28
.delay: dec eax
        jns .delay
        %1_%2
  %if %2 == 0
        mov [KEYS0 + rbx], al
  %else
        mov [KEYS1 + rbx], al
  %endif
        add esi, 64
        add edi, 64
        inc ebx
        cmp ebx, BATCH
        jb .next
        ret
%endmacro
%macro TESTCODE 1
        THREAD %1, 0
        THREAD %1, 1
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
TESTS           equ 12

; 12 seqlock: one writer, one reader
seq_write:
        mov ecx, [runs]
        xor eax, eax
.next:  inc dword [SEQ]
        inc eax
        mov [DATA_A], eax
        mov [DATA_B], eax
        inc dword [SEQ]
        dec ecx
        jnz .next
        mov dword [seq_stop], 1
        ret
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
        inc qword [hist]
        jmp .more
.torn:  inc qword [hist + 2 * 8]
        jmp .more
.again: inc qword [hist + 1 * 8]
.more:  cmp dword [seq_stop], 0
        je seq_read
        ret

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
        call start_ap
        mov ebp, [test_number]
        cmp ebp, TESTS
        jb .batches
        jne .bad
        mov qword [ap_work], seq_write
        call seq_read
.seq:   pause
        cmp qword [ap_work], 0
        jne .seq
        jmp .print
.bad:   SAY "no such test", 10
        EXIT PASS + 1
.batches:
        mov r15d, [runs]
        add r15d, BATCH - 1
        shr r15d, 12
.batch: mov edi, XS
        mov ecx, BATCH * 128 / 8
        xor eax, eax
        rep stosq
        mov eax, [table1 + rbp * 8]
        mov [ap_work], rax
        mov eax, [table0 + rbp * 8]
        call rax
.wait:  pause
        cmp qword [ap_work], 0
        jne .wait
        add dword [round], BATCH
        xor ebx, ebx
.tally: movzx eax, byte [KEYS0 + rbx]
        movzx ecx, byte [KEYS1 + rbx]
        cmp ebp, 8
        jne .key
        ; 2+2W: what is left in memory
        mov edx, ebx
        shl edx, 6
        mov eax, [XS + rdx]
        mov ecx, [YS + rdx]
.key:   shl ecx, 3
        or eax, ecx
        inc qword [hist + rax * 8]
        inc ebx
        cmp ebx, BATCH
        jb .tally
        dec r15d
        jnz .batch
.print: xor ebx, ebx
.line:  cmp qword [hist + rbx * 8], 0
        je .none
        HEX rbx
        SAY " "
        HEX [hist + rbx * 8]
        SAY 10
.none:  inc ebx
        cmp ebx, 64
        jb .line
        EXIT

section .data
opt_test: db " test="
opt_n:  db " n="
align 8
%macro TABLE 1-*
%assign cpu 0
%rep 2
table %+ cpu:
  %rep %0
        dq run_%1_ %+ cpu
    %rotate 1
  %endrep
  %assign cpu cpu + 1
%endrep
%endmacro
        TABLE corr, xyx, mp, sb, sbf, sbx, sbl, lb, w22, mix, own, rep

section .bss
alignb 8
hist:   resq 64
test_number: resd 1
runs:   resd 1
round:  resd 1
seq_stop: resd 1
