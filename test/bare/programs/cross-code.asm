; Code that one CPU changes while up to three others execute it all the time, in loops that get hot (SDM 3A 8.1.3): in the
; loop's page, in another page, through other mappings of the page, piece by piece under a breakpoint as Linux does it,
; whole with a serializing instruction, and a loop's own branch. The command line ends with the number of CPUs. With a `w`
; before that, each hot time lasts until something comes in on COM1.
%include "bare.inc"
%include "smp.inc"

PHYS            equ 0x1000000
LIN             equ 0x40000000          ; PHYS once more
LIN2            equ 0x40200000          ; and again
V_SYNC          equ 0x50
LAST            equ 8                   ; changes in each case
WARM            equ 6000                ; turns of each reader between changes
HOT             equ 200000              ; and now and then
LINE            equ 64

section .text
main:   GO64 start
        bits 64

; Counts a turn. R10: this reader's counters.
%macro TURN 0
        inc qword [r10]
%endmacro

; Calls code again and again: what it returns never falls, and ends at LAST. Copied to where it runs; the argument is the
; code's distance from it.
%macro READ_LOOP 2 ; name, distance
%1:     xor edx, edx
.next:  call %1 + %2
        cmp eax, edx
        jae .good
        lock inc qword [bad]
.good:  mov edx, eax
        TURN
        cmp eax, LAST
        jne .next
        ret
.end:
%endmacro
        READ_LOOP loop_same, 0x100
        READ_LOOP loop_other, 0x1040

; Puts code somewhere: from, to.
%macro COPY 2
        mov esi, %1
        mov edi, %2
        mov ecx, %1 %+ .end - %1
        rep movsb
%endmacro
; mov eax, VALUE; ret
%macro VALUE_AT 2 ; address, value
        mov byte [%1], 0xb8
        mov dword [%1 + 1], %2
        mov byte [%1 + 5], 0xc3
%endmacro

; All others run a routine: what those of even numbers enter, what the others, the routine.
%macro READERS 3
        mov qword [enter_at], %1
        mov qword [enter_at + 8], %2
        mov rax, %3
        call start_readers
%endmacro

; A new value every WARM turns: through address %1 by a store of four bytes, and this CPU sees it at once at %2.
%macro CHANGES 2
        mov ebp, 1
%%next: call warm
        mov [%1 + 1], ebp
        mov ebx, %2
        call rbx
        cmp eax, ebp
        je %%good
        lock inc qword [bad]
%%good: inc ebp
        cmp ebp, LAST
        jbe %%next
        call join
%endmacro

start:  ; the number of CPUs
        mov esi, cmdline
.find:  lodsb
        test al, al
        jnz .find
        movzx eax, byte [rsi - 2]
        sub eax, '1'
        mov [readers], eax
        cmp byte [rsi - 3], 'w'
        sete [waits]
        mov qword [pdpt + 8], t_pd + (P | W)
        mov qword [t_pd], PHYS + (PS | P | W)
        mov qword [t_pd + 8], PHYS + (PS | P | W)
        SETIDT 3, breakpoint, KCODE64, INT32
        SETIDT V_SYNC, on_sync, KCODE64, INT32
        call start_ap
.aps:   pause
        mov eax, [ap_count]
        cmp eax, [readers]
        jb .aps

        COPY loop_same, PHYS
        VALUE_AT PHYS + 0x100, 0
        READERS PHYS, PHYS, read
        CHANGES PHYS + 0x100, PHYS + 0x100
        SHOW "in the loop's page, bad values", [bad]

        COPY loop_other, PHYS + 0x2000
        VALUE_AT PHYS + 0x3040, 0
        READERS PHYS + 0x2000, PHYS + 0x2000, read
        CHANGES PHYS + 0x3040, PHYS + 0x3040
        SHOW "in another page, bad values", [bad]

        ; readers through two mappings, changed through a third
        COPY loop_other, PHYS + 0x4000
        VALUE_AT PHYS + 0x5040, 0
        READERS LIN + 0x4000, PHYS + 0x4000, read
        CHANGES LIN2 + 0x5040, LIN + 0x5040
        SHOW "through other mappings, bad values", [bad]

        ; the loop from one page to the next
        COPY loop_same, PHYS + 0x6ff0
        VALUE_AT PHYS + 0x70f0, 0
        READERS PHYS + 0x6ff0, LIN + 0x6ff0, read
        CHANGES LIN2 + 0x70f0, PHYS + 0x70f0
        SHOW "a loop across pages, bad values", [bad]

        call pokes
        SHOW "under a breakpoint, bad values", [bad]
        xor eax, eax
        cmp qword [traps], -1
        setne al
        SHOW "under a breakpoint, done", rax

        call whole
        SHOW "whole, with CPUID, bad values", [bad]

        call branches
        SHOW "a loop's own branch, rounds", rax
        EXIT

; --- readers

; Reader: R8 its number, R10 its counters; calls what it is given.
read:   mov ecx, r8d
        and ecx, 1
        call [enter_at + rcx * 8]
        ret

; All other CPUs do what RAX says, with R8 and R10.
start_readers:
        mov qword [bad], 0
        mov [reader_body], rax
        mov ecx, [readers]
.next:  imul eax, ecx, LINE
        mov qword [counters - LINE + rax], 0
        mov qword [counters - LINE + rax + 8], 0
        mov qword [seen - LINE + rax], 0
        mov qword [ap_work - 8 + rcx * 8], reader
        dec ecx
        jnz .next
        ret
reader: mov r8d, ecx                    ; ap_main has it there
        imul r10d, r8d, LINE
        add r10d, counters
        sti
        call [reader_body]
        ret                             ; interrupts stay on: `sync` waits for all
; Waits until every reader has done WARM turns more, or HOT ones every eighth time. Registers survive but RAX, RCX, RDX.
warm:   inc dword [warmed]
        mov edx, WARM
        mov eax, [warmed]
        and eax, 7
        cmp eax, 3
        jne .turns
        cmp byte [waits], 0
        je .hot
        mov dx, COM1 + 5
.host:  in al, dx
        test al, 1
        jz .host
        mov dx, COM1
        in al, dx
.hot:   mov edx, HOT
.turns: mov ecx, [readers]
.each:  imul eax, ecx, LINE
        push rbx
        mov rbx, [counters - LINE + rax]
        add rbx, rdx
.wait:  pause
        cmp [counters - LINE + rax], rbx
        jb .more
        pop rbx
        dec ecx
        jnz .each
        ret
.more:  ; one that has ended turns no more
        cmp qword [ap_work - 8 + rcx * 8], 0
        jne .wait
        pop rbx
        dec ecx
        jnz .each
        ret
; Waits until all readers have ended.
join:   mov ecx, [readers]
.wait:  pause
        cmp qword [ap_work - 8 + rcx * 8], 0
        jne .wait
        dec ecx
        jnz .wait
        ret

; --- int3 first, then the rest, then the first byte; all CPUs meet in between

POKED           equ PHYS + 0x8ffe       ; across two pages

; MOV EAX with the new value, for who meets the breakpoint.
breakpoint:
        lock inc qword [traps]
        mov eax, [poke_value]
        add qword [rsp], 4
        iretq
on_sync:
        push rax
        mov dword [LAPIC + 0xb0], 0
        lock inc dword [synced]
        pop rax
        iretq
sync:   mov dword [synced], 0
        mov dword [LAPIC + 0x300], 0xc4000 + V_SYNC
.wait:  pause
        mov eax, [synced]
        cmp eax, [readers]
        jb .wait
        ret
pokes:  COPY loop_same, POKED - 0x100
        VALUE_AT POKED, 0
        READERS POKED - 0x100, LIN + 0x8efe, read
        mov ebp, 1
.next:  call warm
        mov [poke_value], ebp
        mov byte [POKED], 0xcc
        call sync
        mov [LIN2 + 0x8fff], ebp
        call sync
        mov byte [POKED], 0xb8
        call sync
        inc ebp
        cmp ebp, LAST
        jbe .next
        jmp join

; --- the others wait; the code becomes other instructions; they serialize and go on

WHOLE           equ PHYS + 0xa013

; Runs the code while the version is even, and acknowledges an odd one.
read_whole:
        xor r9d, r9d
        mov r11d, r8d
        imul r11d, r11d, LINE
        add r11d, seen
.next:  mov eax, [version]
        test al, 1
        jnz .odd
        cmp eax, r9d
        je .run
        mov r9d, eax
        push rbx
        xor eax, eax
        cpuid
        pop rbx
.run:   mov esi, WHOLE
        call rsi
        cmp eax, r9d
        je .good
        lock inc qword [bad]
.good:  TURN
        cmp r9d, 2 * LAST
        jne .next
        ret
.odd:   mov [r11], rax
        jmp .next

shape_a: mov eax, 0
        ret
        nop
        nop
        nop
        nop
        nop
.end:
shape_b: push 0
        pop rax
        test eax, eax
        jnz .ret
        xor eax, eax
.ret:   ret
.end:
whole:  COPY shape_b, WHOLE
        mov dword [version], 0
        READERS read_whole, read_whole, read_whole
        mov ebp, 1
.next:  call warm
        mov [version], ebp
        mov ecx, [readers]
.ack:   imul eax, ecx, LINE
.wait:  pause
        cmp [seen - LINE + rax], rbp
        jne .wait
        dec ecx
        jnz .ack
        inc ebp
        test ebp, 2
        jz .b
        COPY shape_a, WHOLE
        mov [WHOLE + 1], ebp
        jmp .done
.b:     COPY shape_b, WHOLE
        mov eax, ebp
        mov [WHOLE + 1], al
.done:  mov [version], ebp
        inc ebp
        cmp ebp, 2 * LAST
        jb .next
        jmp join

; --- loops that end only when their branch is overwritten

align 16
turning: TURN
        TURN
        TURN
align 2
.branch: jmp short turning              ; two bytes at an even address, in this page
        ret
.end:
TURNING         equ PHYS + 0xc000
BRANCH          equ TURNING + (turning.branch - turning)
; Enters the loop once in each round.
read_branch:
        xor r9d, r9d
.next:  mov ecx, r8d
        and ecx, 1
        call [enter_at + rcx * 8]
        inc qword [r10 + 8]
        inc r9d
        cmp r9d, LAST
        je .end
.wait:  pause
        cmp [version], r9d
        jne .wait
        jmp .next
.end:   ret
branches:
        COPY turning, TURNING
        mov dword [version], 0
        READERS TURNING, LIN + 0xc000, read_branch
        xor ebp, ebp
.next:  call warm
        movzx ebx, word [BRANCH]
        mov word [BRANCH], 0x9090
        inc ebp
        mov ecx, [readers]
.out:   imul eax, ecx, LINE
.wait:  pause
        cmp [counters - LINE + rax + 8], rbp
        jne .wait
        dec ecx
        jnz .out
        mov [BRANCH], bx
        mov [version], ebp
        cmp ebp, LAST
        jb .next
        call join
        mov rax, rbp
        ret

section .bss
alignb 4096
t_pd:   resb 4096
alignb LINE
counters: resb 8 * LINE
seen:   resb 8 * LINE
enter_at: resq 2
reader_body: resq 1
bad:    resq 1
traps:  resq 1
readers: resd 1
warmed: resd 1
waits:  resd 1
synced: resd 1
poke_value: resd 1
version: resd 1
