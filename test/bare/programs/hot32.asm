; Hot 32-bit code whose segments change: what a translator took for granted when it met the code must be found out anew
; (SDM 3A 3.4, 5.3, 5.5: limits and types at each access; SDM 1 3.5: ESP, EIP and 16-bit operands).
%include "bare.inc"

A_              equ SLOT + 0
B_              equ SLOT + 8
C_              equ SLOT + 16
PHYS            equ 0x1000000
TURNS           equ 1000000             ; of code that is met first,
AGAIN           equ 200000              ; and of code that is hot, or slow in tier 0
FEW             equ 0x1000
LOW_STACK       equ 0x9000
LOW_DATA        equ 0x9100

; Runs `work`: FS selector, EBX, its step, ESI
%macro WORK 4
        mov eax, %1
        mov fs, eax
        mov ebx, %2
        mov edi, %3
        mov esi, %4
        xor eax, eax
        call work
%endmacro
; The same where it faults: ECX tells when.
%macro FAULT 4 ; name, FS, EBX, step
        mov ecx, FEW
        TRY
        WORK %2, %3, %4, PHYS + 0x20
        END %1, work
        SHOW "turns left", ecx
%endmacro

section .text
main:   mov edi, PHYS
        xor eax, eax
        mov ecx, 0x1000
        rep stosd
        mov dword [PHYS + 0x10], 3
        mov dword [PHYS + 0x20], 5
        mov dword [PHYS + 0x110], 0x1000
        mov dword [PHYS + 0x1000], 9
        mov dword [LOW_DATA], 7

        SETDESC A_, PHYS, 0xfff, 0x93, 4
        mov ecx, TURNS
        WORK A_, 0x10, 0, PHYS + 0x20
        SHOW "hot", eax
        sub ebp, work.back
        SHOW "return address", ebp

        ; --- FS
        FAULT "beyond the limit of FS", A_, 0, 4
        SETDESC B_, PHYS, 0xffd, 0x93, 4
        FAULT "two bytes beyond the limit", B_, 0xff0, 4
        FAULT "null FS", 0, 0, 4
        SETDESC B_, PHYS + 0x100, 0xfff, 0x93, 4
        mov ecx, AGAIN
        WORK B_, 0x10, 0, PHYS + 0x20
        SHOW "another base", eax
        SETDESC B_, PHYS, 0xfffff, 0x91, 0xc
        mov ecx, FEW
        WORK B_, 0x10, 0, PHYS + 0x20
        SHOW "read-only", eax
        SETDESC B_, PHYS, 0xfff, 0x97, 4
        mov ecx, FEW
        WORK B_, 0x1000, 0, PHYS + 0x20
        SHOW "expand-down", eax
        FAULT "expand-down, below", B_, 0x1010, -4

        ; --- DS with a base and a limit
        mov ecx, AGAIN
        mov eax, A_
        mov ds, eax
        WORK KDATA, PHYS + 0x10, 0, 0x20
        mov edx, KDATA
        mov ds, edx
        SHOW "DS with a base", eax
        mov ecx, FEW
        TRY
        mov eax, A_
        mov ds, eax
        WORK KDATA, PHYS + 0x10, 0, 0x1000
        END "beyond the limit of DS", work
        mov ecx, FEW
        WORK KDATA, PHYS + 0x10, 0, PHYS + 0x20
        SHOW "flat again", eax

        ; --- CS with a base
        SETDESC C_, BASE, 0xfffff, 0x9b, 0xc
        mov ecx, AGAIN
        mov dword [far_work + 4], C_
        mov dword [far_work], work_far - BASE
        mov eax, A_
        mov fs, eax
        mov ebx, 0x10
        xor edi, edi
        mov esi, PHYS + 0x20
        xor eax, eax
        call far [far_work]
        SHOW "CS with a base", eax
        sub ebp, work.back
        SHOW "return address", ebp

        ; --- a stack of 16 bits, with the flat segment
        SETDESC B_, 0, 0xfffff, 0x93, 8
        mov ecx, AGAIN
        mov eax, A_
        mov fs, eax
        mov [old_stack], esp
        mov eax, B_
        mov ss, eax
        mov esp, 0x5a5a0000 + LOW_STACK
        WORK A_, 0x10, 0, PHYS + 0x20
        mov edx, esp
        mov ebx, KDATA
        mov ss, ebx
        mov esp, [old_stack]
        SHOW "16-bit stack", eax
        SHOW "ESP", edx
        SHOW "return address was at", [LOW_STACK - 4]

        ; --- addresses
        mov ecx, TURNS
        mov ebx, PHYS + 0x20
        mov esi, 0x40000000             ; times 4: a whole turn
        xor eax, eax
        call addresses
        SHOW "around the end", eax
        mov ecx, TURNS
        mov ebx, 0x7fffffff
        mov esi, (PHYS + 0x20 - 0x80000000 + 0x100000000) / 4
        xor eax, eax
        inc ebx
        call addresses
        SHOW "around the end with a sum", eax
        mov ecx, TURNS
        mov ebx, 0xabcd0000 + LOW_DATA - 0x34
        mov esi, 0x12340034
        xor eax, eax
        call addresses16
        SHOW "16-bit addresses", eax

        ; --- 16-bit jumps and calls
        mov ecx, TURNS
        xor eax, eax
        mov edx, esp
        call low32
        SHOW "16-bit calls", eax
        sub edx, esp
        SHOW "stack moved by", edx

        ; --- segment registers, as a kernel's entries save, load and restore them
        SETDESC A_, PHYS, 0xfff, 0x93, 4
        SETDESC B_, PHYS + 0x100, 0xfff, 0x92, 4        ; not accessed yet
%macro SEGMENTS 4 ; turns, FS, GS, DS
        mov ecx, %1
        mov ebx, %2
        mov esi, %3
        mov ebp, %4
        xor eax, eax
        call segments
%endmacro
%macro BADSEG 4 ; name, FS, GS, DS
        TRY
        SEGMENTS FEW, %2, %3, %4
        END %1, segments
        SHOW "turns left", ecx
        mov edx, KDATA
        mov ds, edx
        mov es, edx
%endmacro
        SEGMENTS AGAIN, A_, B_, KDATA
        SHOW "FS and GS in turn", eax
        SHOW "access byte", [gdt + B_ + 5]
        mov edx, 0x12345678
        mov dx, fs
        SHOW "FS", edx
        mov edx, gs
        SHOW "GS", edx
        mov dword [0x10], 0x55
        SEGMENTS FEW, KDATA, B_, KDATA
        SHOW "a flat FS", eax
        SEGMENTS FEW, A_, A_, KDATA
        SHOW "the same twice", eax
        SETDESC C_, PHYS + 0x100, 0, 0x93, 0xc
        SEGMENTS FEW, A_, C_, KDATA
        SHOW "a limit in pages", eax
        BADSEG "null FS", 0, B_, KDATA
        BADSEG "null GS", A_, 3, KDATA
        BADSEG "beyond the table", 0x7ff8, B_, KDATA
        BADSEG "of no LDT", A_, B_ | 4, KDATA
        SETDESC C_, PHYS, 0xfff, 0x13, 4
        BADSEG "not present", C_, B_, KDATA
        SETDESC C_, PHYS, 0xfff, 0xf3, 4
        SEGMENTS FEW, C_ | 3, B_, KDATA
        SHOW "of ring 3", eax
        BADSEG "with a higher RPL", A_ | 1, B_, KDATA
        SETDESC C_, PHYS, 0xfffff, 0x9b, 0xc
        SEGMENTS FEW, A_, C_, KDATA
        SHOW "a code segment", eax
        BADSEG "null DS", A_, B_, 0
        BADSEG "DS with a limit", A_, B_, A_

        ; --- SYSENTER and SYSEXIT
        WRMSR_ 0x174, KCODE32
        WRMSR_ 0x175, ring0_stack_top
        WRMSR_ 0x176, on_sysenter
        xor edi, edi
        TRY
        USER u_calls
        END "system calls", u_calls.end
        SHOW "of them", edi
        SHOW "ESP in the kernel", esi
        mov esi, ring0_stack_top
        sub ebx, esp
        WRMSR_ 0x174, 0
        TRY
        USER u_calls
        END "without a selector", u_calls.enter

        ; --- code that changes itself, every 64 Ki turns
        mov ecx, 0x100000
        xor eax, eax
        call modifying
        SHOW "self-modifying", eax
        EXIT

; ECX turns of EAX += [FS:EBX] + [ESI]; EBX += EDI. EBP: the return address of its call.
work:
.turn:  mov edx, [fs:ebx]
        call .leaf
.back:  add eax, edx
        push eax
        add ebx, edi
        pop edx
        dec ecx
        jnz .turn
        ret
.leaf:  mov ebp, [esp]
        add eax, [esi]
        ret
work_far:
        call work
        retf

addresses:
        add eax, [ebx + esi * 4]
        dec ecx
        jnz addresses
        ret
addresses16:
        add eax, [bx + si]
        dec ecx
        jnz addresses16
        ret

; ECX turns: FS = BX, GS = SI, DS = BP, EAX += [FS:10h] + [GS:10h] + [PHYS + 20h].
segments:
.turn:  push fs
        push gs
        push ds
        mov fs, ebx
        mov gs, si
        mov edx, [fs:0x10]
        add edx, [gs:0x10]
        mov ds, ebp
        push ds
        pop es
        add eax, edx
        add eax, [PHYS + 0x20]
        pop ds
        pop gs
        pop fs
        dec ecx
        jnz .turn
        ret

on_sysenter:
        inc edi
        mov esi, esp
        sysexit

modifying:
.change:
        add eax, 1
        dec ecx
        test cx, cx
        jnz .change
        inc byte [.change + 2]
        test ecx, ecx
        jnz .change
        ret

section .user
        bits 32
u_calls:
        mov ebx, AGAIN
.enter: mov ecx, esp
        mov edx, .back
        sysenter
.back:  dec ebx
        jnz .enter
.end:   int 0x80

section .low
        bits 32
low32:  inc eax
        call word .leaf
        dec ecx
        jnz low32
        ret
.leaf:  add eax, 2
        o16 ret

section .data
far_work:
        dd 0, 0
old_stack:
        dd 0
