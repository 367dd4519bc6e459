; Device memory through every kind of instruction: read-modify-write, locked, strings, 8 bytes, stack, x87 and SSE
; operands, from two CPUs; ports of all sizes (SDM 3A 8.1, 10.4.1: registers are accessed by aligned dwords).
%include "bare.inc"
%include "smp.inc"

PHYS            equ 0x1000000
TPR             equ LAPIC + 0x80
ICR_HIGH        equ LAPIC + 0x310
COMPARATOR      equ HPET + 0x108        ; of timer 0: 64 bits of storage while the HPET is off

section .text
main:   GO64 start
        bits 64
start:  mov dword [LAPIC + 0xf0], 0x1ff
        mov dword [TPR], 0x10
        SHOWD "MOV", [TPR]
        or dword [TPR], 0x20
        SHOWD "OR", [TPR]
        add dword [TPR], 0x10
        SHOWD "ADD", [TPR]
        lock xor dword [TPR], 0x40
        SHOWD "LOCK XOR", [TPR]
        mov eax, 0x70
        xchg [TPR], eax
        SHOW "XCHG gives", rax
        SHOWD "XCHG leaves", [TPR]
        mov eax, 0x70
        mov ecx, 0x50
        lock cmpxchg [TPR], ecx
        setz al
        movzx eax, al
        SHOW "LOCK CMPXCHG: ZF", rax
        SHOWD "CMPXCHG leaves", [TPR]
        mov eax, 0x10
        xadd [TPR], eax
        SHOW "XADD gives", rax
        SHOWD "XADD leaves", [TPR]
        inc dword [TPR]
        SHOWD "INC", [TPR]
        not dword [TPR]
        SHOWD "NOT", [TPR]
        shl dword [TPR], 1
        SHOWD "SHL", [TPR]
        bts dword [TPR], 4
        setc al
        movzx eax, al
        SHOW "BTS: CF", rax
        SHOWD "BTS", [TPR]
        cmp dword [TPR], 0xf0
        setb al
        movzx eax, al
        SHOW "CMP: below", rax
        push qword [ICR_HIGH]
        pop rax
        mov eax, eax
        SHOW "PUSH of device memory", rax
        mov eax, 0x5000000
        push rax
        pop qword [PHYS]
        mov [ICR_HIGH], eax
        SHOWD "ICR high", [ICR_HIGH]
        ; strings
        mov dword [PHYS], 0x20
        mov esi, PHYS
        mov edi, TPR
        movsd
        SHOWD "MOVSD to a device", [TPR]
        mov esi, TPR
        mov edi, PHYS + 8
        movsd
        SHOWD "MOVSD from a device", [PHYS + 8]
        mov edi, TPR
        mov eax, 0x30
        mov ecx, 3
.stos:  stosd                           ; TPR, and two that are read-only
        sub edi, 4
        loop .stos
        SHOWD "STOSD to a device", [TPR]
        mov edi, TPR
        mov ecx, 1
        rep stosd
        SHOW "REP STOSD to a device: RDI", rdi
        mov eax, 0x30
        mov edi, TPR
        mov ecx, 1
        repe scasd
        setz al
        movzx eax, al
        SHOW "REPE SCASD of a device: ZF", rax
        ; 8 bytes at once
        mov dword [HPET + 0x10], 0
        mov rax, 0x1122334455667788
        mov dword [HPET + 0x100], 0
        mov [HPET + 0xf0], rax
        SHOW "8-byte register", [HPET + 0xf0]
        SHOWD "low half", [HPET + 0xf0]
        SHOWD "high half", [HPET + 0xf4]
        mov dword [HPET + 0xf4], 0xaabbccdd
        SHOW "high half written", [HPET + 0xf0]
        lock add qword [HPET + 0xf0], 1
        SHOW "LOCK ADD of 8 bytes", [HPET + 0xf0]
        ; device memory as an operand of x87 and SSE
        mov rax, cr4
        or eax, CR4_OSFXSR
        mov cr4, rax
        fninit
        fild dword [TPR]
        fistp dword [PHYS]
        SHOWD "FILD of a device", [PHYS]
        movd xmm0, [TPR]
        movd eax, xmm0
        SHOW "MOVD of a device", rax
        mov eax, 0x40
        movd xmm1, eax
        movd [TPR], xmm1
        SHOWD "MOVD to a device", [TPR]
        movq xmm2, [HPET + 0xf0]
        movq rax, xmm2
        SHOW "MOVQ of a device", rax
        ; code and stack in RAM, tables at the end of a page next to device memory: a fault is not made up
        mov dword [pd + (0x30400000 >> 21) * 8], 0
        TRY
        mov rax, [0x303ffffc]
        END "crossing from a device into nothing"
        ; two CPUs
        call start_ap
        mov qword [HPET + 0xf0], 0
        BOTH w_add
        SHOW "LOCK ADD of a device by two CPUs", [HPET + 0xf0]
        ; ports
        mov dx, 0xcf8
        mov eax, 0x80000000
        out dx, eax
        in eax, dx
        SHOW "32-bit port", rax
        mov dx, 0xcfc
        in eax, dx
        SHOW "PCI vendor and device", rax
        in ax, dx
        movzx eax, ax
        SHOW "16 bits of it", rax
        mov dx, 0xcff
        in al, dx
        movzx eax, al
        SHOW "8 bits of it", rax
        mov dx, 0xcfe
        in ax, dx
        movzx eax, ax
        SHOW "upper 16 bits of it", rax
        mov rax, 0x1122334455667788
        mov dx, 0xcfc
        in ax, dx
        SHOW "16-bit IN keeps the rest", rax
        in eax, dx
        SHOW "32-bit IN clears it", rax
        EXIT

w_add:  TOGETHER
        mov ecx, 500
.next:  lock add qword [HPET + 0xf0], 3
        loop .next
        ret
