; String instructions with faults in the middle, repeated port instructions, page-crossing data, interrupts between
; elements (SDM 2 REP, INS, OUTS; SDM 1 7.3.9).
%include "bare.inc"

LIN             equ 0x40000000
PHYS            equ 0x1000000

; What a repeated instruction left: count and pointers.
%macro LEFT 1
        SAY %1, ": rcx="
        HEX rcx
        SAY " rsi="
        HEX rsi
        SAY " rdi="
        HEX rdi
        SAY 10
%endmacro
%macro FILL 3 ; address, value, bytes
        mov edi, %1
        mov eax, %2
        mov ecx, %3
        rep stosb
%endmacro

section .text
main:   GO64 start
        bits 64
start:  mov qword [pdpt + 8], t_pd + (P | W | U)
        mov qword [t_pd], t_pt + (P | W | U)
        mov qword [t_pt], PHYS + (P | W | U)
        ; pages 1 and 3 of LIN are missing; 2 is read-only
        mov qword [t_pt + 16], PHYS + 0x2000 + (P | U)
        mov rax, cr0
        or eax, CR0_WP
        mov cr0, rax
        FILL PHYS, 0x5a, 0x4000

        ; --- faults in the middle
        TRY
        mov edi, LIN + 0xff0
        mov ecx, 0x20
        mov al, 0x11
        cld
        HERE
        rep stosb
        END "REP STOSB into a missing page"
        LEFT "left"
        TRY
        mov edi, LIN + 0xff4
        mov ecx, 0x20
        mov eax, 0x22222222
        HERE
        rep stosd
        END "REP STOSD into a missing page"
        LEFT "left"
        TRY
        mov edi, LIN + 0xff6
        mov ecx, 0x20
        mov eax, 0x33333333
        HERE
        rep stosd
        END "REP STOSD, an element crossing into it"
        LEFT "left"
        mov eax, [PHYS + 0xffe]
        and eax, 0xffff
        SHOW "crossing element not written", rax
        TRY
        mov esi, LIN + 0xff8
        mov edi, PHYS + 0x3000
        mov ecx, 4
        HERE
        rep movsq
        END "REP MOVSQ from a missing page"
        LEFT "left"
        TRY
        mov esi, PHYS + 0x3000
        mov edi, LIN + 0xff8
        mov ecx, 4
        HERE
        rep movsq
        END "REP MOVSQ into a missing page"
        LEFT "left"
        TRY
        mov esi, PHYS + 0x3000
        mov edi, LIN + 0x2000
        mov ecx, 4
        HERE
        rep movsq
        END "REP MOVSQ into a read-only page"
        LEFT "left"
        TRY
        mov esi, LIN + 0x2008
        mov edi, PHYS + 0x3008
        mov ecx, 4
        std
        HERE
        rep movsq
        END "REP MOVSQ downwards from a missing page"
        cld
        LEFT "left"
        TRY
        mov esi, LIN + 0xff0
        mov edi, PHYS + 0xff0
        mov ecx, 0x20
        HERE
        repe cmpsb
        END "REPE CMPSB into a missing page"
        LEFT "left"
        TRY
        mov edi, LIN + 0xff0
        mov ecx, 0x20
        mov al, 0x99
        xor edx, edx                    ; ZF
        HERE
        repne scasb
        END "REPNE SCASB into a missing page"
        LEFT "left"
        SHOWD "flags as before", [fault.flags]
        TRY
        mov esi, LIN + 0xffc
        mov ecx, 3
        HERE
        rep lodsd
        END "REP LODSD into a missing page"
        LEFT "left"
        TRY
        mov ecx, 0
        mov esi, LIN + 0x1000
        mov edi, LIN + 0x1000
        rep movsb
        END "REP MOVSB of nothing"
        TRY
        mov rcx, 0x100000003
        mov rsi, PHYS + 0x3000
        mov edi, LIN + 0xffe
        HERE
        a32 rep movsb
        END "REP MOVSB with ECX into a missing page"
        LEFT "left"
        ; the fault repaired, the instruction goes on
        SETIDT 14, h_repair, KCODE64, INT32
        mov esi, PHYS + 0x3000
        mov rax, 0x0807060504030201
        mov [rsi], rax
        mov rax, 0x100f0e0d0c0b0a09
        mov [rsi + 8], rax
        mov edi, LIN + 0xff8
        mov ecx, 16
        rep movsb
        SHOW "repaired: low part", [PHYS + 0xff8]
        SHOW "high part", [PHYS + 0x1000]
        SHOWD "faults", [faults]
        SETIDT 14, stubs + 14 * STUB_SIZE, KCODE64, INT32
        ; by user code
        mov qword [t_pt + 8], 0
        invlpg [LIN + 0x1000]
        TRY
        USER u_movs
        END "user REP MOVSB into a missing page", u_movs.rep
        LEFT "left"

        ; --- overlap, directions, sizes
        mov rax, 0x0706050403020100
        mov [PHYS], rax
        mov esi, PHYS
        mov edi, PHYS + 1
        mov ecx, 7
        rep movsb
        SHOW "overlap by 1 upwards", [PHYS]
        mov [PHYS], rax
        mov esi, PHYS + 6
        mov edi, PHYS + 7
        mov ecx, 7
        std
        rep movsb
        cld
        SHOW "overlap by 1 downwards", [PHYS]
        mov [PHYS], rax
        mov dword [PHYS + 8], 0x0b0a0908
        mov dword [PHYS + 12], 0x0f0e0d0c
        mov esi, PHYS
        mov edi, PHYS + 3
        mov ecx, 3
        rep movsd
        SHOW "overlap by 3, dwords", [PHYS]
        SHOW "its rest", [PHYS + 8]
        ; the same frame by two mappings
        mov [PHYS], rax
        mov esi, LIN
        mov edi, PHYS + 2
        mov ecx, 6
        rep movsb
        SHOW "overlap through another mapping", [PHYS]
        mov edi, PHYS + 0xffd
        mov eax, 0x44332211
        stosd
        mov eax, [PHYS + 0xffd]
        SHOW "STOSD crossing pages", rax
        mov byte [PHYS + 0x500], 0
        mov edi, PHYS + 0x480
        xor eax, eax
        mov rcx, -1
        FILL PHYS + 0x480, 0x41, 0x80
        mov edi, PHYS + 0x480
        xor eax, eax
        mov ecx, 0x1000
        repne scasb
        lahf
        SHOW "strlen", rcx
        setz al
        movzx eax, al
        SHOW "ZF", rax
        mov esi, PHYS + 0x480
        mov edi, PHYS + 0x481
        mov ecx, 0x7f
        repe cmpsb
        setz al
        movzx eax, al
        LEFT "REPE CMPSB of equal strings"
        SHOW "ZF", rax
        mov esi, PHYS + 0x480
        mov edi, PHYS + 0x481
        mov ecx, 0x90
        repe cmpsb
        seta al
        movzx eax, al
        LEFT "REPE CMPSB of strings that differ"
        SHOW "above", rax

        ; --- ports
        mov dx, 0x92                    ; reads as a constant
        mov edi, PHYS + 0x600
        mov ecx, 4
        rep insb
        LEFT "REP INSB"
        TRY
        mov dx, 0x80
        mov edi, LIN + 0xffe
        mov ecx, 4
        HERE
        rep insb
        END "REP INSB into a missing page"
        LEFT "left"
        TRY
        mov esi, LIN + 0xffc
        mov ecx, 4
        mov dx, 0x80
        HERE
        rep outsw
        END "REP OUTSW from a missing page"
        LEFT "left"
        ; OUTSB to COM1: text
        mov esi, text
        mov ecx, text_end - text
        mov dx, COM1
.out:   mov dx, COM1 + 5
        in al, dx
        test al, 0x20
        jz .out
        mov dx, COM1
        outsb
        loop .out
        ; FIFO: 14 bytes at once by REP OUTSB
        mov dx, COM1 + 2
        mov al, 7
        out dx, al
.empty: mov dx, COM1 + 5
        in al, dx
        test al, 0x40
        jz .empty
        mov esi, text2
        mov ecx, text2_end - text2
        mov dx, COM1
        rep outsb
.empty2: mov dx, COM1 + 5
        in al, dx
        test al, 0x40
        jz .empty2
        TRY
        USER u_ins
        END "INSB from ring 3, port denied", u_ins.ins
        TRY
        USER u_ins0
        END "REP INSB of nothing from ring 3, port denied", u_ins0.rep

        ; --- interrupted between elements
        mov dword [LAPIC + 0xf0], 0x1ff
        SETIDT 0x40, h_tick, KCODE64, INT32
        mov dword [LAPIC + 0x3e0], 0xb
        mov dword [LAPIC + 0x320], 0x20040
        mov dword [LAPIC + 0x380], 20000
        sti
        mov r8d, 40
.copy:  mov esi, PHYS
        mov edi, PHYS + 0x100000
        mov ecx, 0x40000
        rep movsb
        mov esi, PHYS
        mov edi, PHYS + 0x100000
        mov ecx, 0x40000
        repe cmpsb
        jne .bad
        cmp ecx, 0
        jne .bad
        mov edi, PHYS + 0x200000
        mov eax, r8d
        mov ecx, 0x10000
        rep stosw
        mov edi, PHYS + 0x200000
        mov ecx, 0x10000
        repe scasw
        jne .bad
        dec r8d
        jnz .copy
.bad:   cli
        mov dword [LAPIC + 0x380], 0
        SHOW "interrupted string instructions, rounds that failed", r8
        cmp dword [ticks], 5
        seta al
        movzx eax, al
        SHOW "interrupts came", rax
        EXIT

h_repair:
        push rax
        inc dword [faults]
        mov rax, cr2
        mov qword [t_pt + 8], PHYS + 0x1000 + (P | W | U)
        pop rax
        add rsp, 8
        iretq
h_tick: inc dword [ticks]
        mov dword [LAPIC + 0xb0], 0
        iretq

section .user
        bits 64
u_movs: mov esi, LIN
        mov edi, LIN + 0xff0
        mov ecx, 0x20
.rep:   rep movsb
        int 0x80
u_ins:  mov edi, user_stack_top - 64
        mov dx, 0x80
.ins:   insb
u_ins0: xor ecx, ecx
        mov edi, user_stack_top - 64
        mov dx, 0x80
.rep:   rep insb
        int 0x80

section .data
text:   db "OUTSB: text", 10
text_end:
text2:  db "REP OUTSB: ok", 10
text2_end:

section .bss
alignb 4096
t_pd:   resb 4096
t_pt:   resb 4096
faults: resd 1
ticks:  resd 1
