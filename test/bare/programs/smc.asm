; Code that changes code (SDM 3A 8.1.3, 11.6): the next instruction, the same page, another mapping of it, a page
; reached through new tables, code copied by string instructions, by locked and crossing stores, to a stack.
%include "bare.inc"

LIN             equ 0x40000000
PHYS            equ 0x1000000

section .text
main:   GO64 start

; mov eax, N; ret at RDI
%macro CODE 2 ; address, value
        mov byte [%1], 0xb8
        mov dword [%1 + 1], %2
        mov byte [%1 + 5], 0xc3
%endmacro

        bits 64
start:
        mov qword [pdpt + 8], t_pd + (P | W)
        mov qword [t_pd], t_pt + (P | W)
        mov qword [t_pt], PHYS + (P | W)
        mov qword [t_pt + 8], PHYS + (P | W)
        mov qword [t_pt + 16], PHYS + 0x1000 + (P | W)

        ; --- a call, a change, a call
        CODE PHYS, 1
        mov ebx, PHYS
        call rbx
        SHOW "first", rax
        mov dword [PHYS + 1], 2
        call rbx
        SHOW "changed", rax
        mov byte [PHYS + 2], 3
        call rbx
        SHOW "one byte changed", rax
        lock add dword [PHYS + 1], 0x10000
        call rbx
        SHOW "by a locked add", rax
        mov eax, 0x55
        xchg [PHYS + 1], al
        call rbx
        SHOW "by XCHG", rax
        mov rax, 0xc300000077b8
        mov [PHYS], rax
        call rbx
        SHOW "by an 8-byte store", rax
        mov eax, 0x77
        mov ecx, 0x99
        lock cmpxchg [PHYS + 1], ecx
        call rbx
        SHOW "by CMPXCHG", rax
        mov edi, PHYS + 1
        mov eax, 0x11
        mov ecx, 4
        rep stosb
        call rbx
        SHOW "by REP STOSB", rax
        mov esi, pattern
        mov edi, PHYS
        mov ecx, pattern_end - pattern
        rep movsb
        call rbx
        SHOW "by REP MOVSB", rax
        pushfq
        pop qword [PHYS + 0x800]
        call rbx
        SHOW "other bytes of the page changed", rax

        ; --- the next instruction, straight and in a loop
        mov byte [.next + 1], 5
.next:  mov al, 1
        movzx eax, al
        SHOW "next instruction", rax
        xor edx, edx
        mov ecx, 10
.loop:  add [.imm + 2], cl
.imm:   add edx, strict byte 0
        loop .loop
        SHOW "in a loop", rdx
        ; an instruction that overwrites itself
        mov edi, .self
        mov al, 0x90
        mov ecx, .self_end - .self
.self:  rep stosb
        nop
        nop
.self_end:
        SAY "REP STOSB over itself: ok", 10     ; how often it stores is not architectural
        mov byte [.jump], 0xeb
        mov byte [.jump + 1], 2
.jump:  nop
        nop
        ud2
        SAY "jump over UD2: ok", 10

        ; --- another mapping of the page
        CODE PHYS + 0x100, 1
        mov ebx, LIN + 0x100
        call rbx
        mov byte [LIN + 0x1000 + 0x101], 7
        call rbx
        SHOW "through another mapping", rax
        mov byte [PHYS + 0x101], 8
        call rbx
        SHOW "through the identity mapping", rax
        mov r8d, LIN + 0x1000 + 0x100
        call r8
        SHOW "called through the other", rax

        ; --- crossing from the page before into the code
        CODE LIN + 0x2000 + 0xffa, 1
        mov ebx, LIN + 0x2000 + 0xffa
        call rbx
        mov ecx, 0x44332211
        mov [LIN + 0x1000 + 0xffe], ecx         ; not code
        mov eax, [PHYS + 0x1000]
        SHOW "store crossing pages", rax
        CODE PHYS + 0x1000, 0x21
        mov ebx, PHYS + 0x1000
        call rbx
        mov rcx, 0x30b8aabb
        mov [PHYS + 0xffe], ecx                 ; overwrites b8 30 in the second page
        mov byte [PHYS + 0x1001], 0x31
        call rbx
        SHOW "store crossing into code", rax
        lock add dword [PHYS + 0xffd], 1 << 24  ; aligned wrongly, crossing: b8 to b9 (mov ecx)
        xor ecx, ecx
        call rbx
        SHOW "locked add crossing into code", rcx

        ; --- a page that was data, then code, then data, then other code
        mov dword [LIN + 0x2000 + 0x200], 0x12345678
        CODE LIN + 0x2000 + 0x204, 1
        mov ebx, LIN + 0x2000 + 0x204
        call rbx
        mov r9d, 0
.flip:  lea eax, [r9 + 1]
        mov [LIN + 0x2000 + 0x205], eax
        inc dword [LIN + 0x2000 + 0x200]
        call rbx
        inc r9d
        cmp r9d, eax
        jne .bad
        cmp r9d, 300
        jb .flip
.bad:   SHOW "rewritten again and again", r9

        ; --- another frame under the same linear address
        CODE PHYS + 0x3000, 0x3a
        CODE PHYS + 0x4000, 0x4a
        mov qword [t_pt + 24], PHYS + 0x3000 + (P | W)
        invlpg [LIN + 0x3000]
        mov ebx, LIN + 0x3000
        call rbx
        SHOW "frame A", rax
        mov qword [t_pt + 24], PHYS + 0x4000 + (P | W)
        invlpg [LIN + 0x3000]
        call rbx
        SHOW "frame B after INVLPG", rax
        mov qword [t_pt + 24], PHYS + 0x3000 + (P | W)
        mov rax, cr3
        mov cr3, rax
        call rbx
        SHOW "frame A after CR3", rax

        ; --- code that changes a page while it runs in it, through a call back and forth
        mov esi, walker
        mov edi, PHYS + 0x6000
        mov ecx, walker_end - walker
        rep movsb
        mov ebx, PHYS + 0x6000
        xor eax, eax
        call rbx
        SHOW "code that patches its own loop", rax

        ; --- on the stack
        mov rcx, 0xc3000001f4b890
        push rcx
        mov rax, rsp
        call rax
        pop rcx
        SHOW "on the stack", rax
        ; one address in 64-bit and in 32-bit code: 48 is REX.W there, DEC EAX here
        mov dword [PHYS + 0x7000], 0x90c8ff48
        mov byte [PHYS + 0x7004], 0xc3
        mov rax, 0x100000000
        mov ebx, PHYS + 0x7000
        call rbx
        SHOW "as 64-bit code", rax
        mov eax, 0x10
        push KDATA64
        mov rcx, rsp
        push rcx
        push 2
        push KCODE32
        push as32
        iretq
as32:   bits 32
        mov ebx, PHYS + 0x7000
        call ebx
        jmp KCODE64:as64
as64:   bits 64
        mov eax, eax
        SHOW "as 32-bit code", rax
        ; many pages of code
        mov r8d, 0x1100000
        xor r9d, r9d
.fill:  mov byte [r8], 0xb8
        mov [r8 + 1], r9d
        mov byte [r8 + 5], 0xc3
        add r8d, 4096
        inc r9d
        cmp r9d, 1500
        jb .fill
        mov r10d, 3
        xor r11d, r11d
.round: mov r8d, 0x1100000
        mov r9d, 1500
.call:  call r8
        add r11d, eax
        add r8d, 4096
        dec r9d
        jnz .call
        dec r10d
        jnz .round
        SHOW "1500 pages of code", r11
        EXIT

section .data
pattern: mov eax, 0xabcdef
        ret
pattern_end:
walker: bits 64
        lea rdi, [rel .target]
        mov ecx, 40
.again: mov [rdi + 1], cl
        call rdi
        loop .again
        ret
.target: db 0x05, 0, 0, 0, 0   ; add eax, imm32
        ret
walker_end:

section .bss
alignb 4096
t_pd:   resb 4096
t_pt:   resb 4096
