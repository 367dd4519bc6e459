; What control and system registers refuse in 64-bit mode (SDM 3A 2.5, 9.8; SDM 2 MOV, WRMSR, LTR, LLDT).
%include "bare.inc"

section .text
main:   GO64 start
start:
        ; --- system instructions that refuse
        TRY
        mov rax, cr0
        and eax, ~CR0_PE
        HERE
        mov cr0, rax
        END "PG without PE"
        TRY
        mov rax, cr0
        or eax, 1 << 29
        HERE
        mov cr0, rax
        END "NW without CD"
        TRY
        mov rax, cr0
        bts rax, 32
        HERE
        mov cr0, rax
        END "CR0 bit 32"
        TRY
        mov rax, cr4
        and eax, ~CR4_PAE
        HERE
        mov cr4, rax
        END "PAE off in long mode"
        TRY
        mov rax, cr4
        bts rax, 31
        HERE
        mov cr4, rax
        END "CR4 bit 31"
        TRY
        mov rax, cr3
        bts rax, 62
        HERE
        mov cr3, rax
        END "CR3 bit 62"
        TRY
        mov rax, cr0
        btr rax, 31
        HERE
        mov cr0, rax
        END "PG off in 64-bit code"
        TRY
        mov ecx, MSR_EFER
        rdmsr
        xor eax, EFER_LME
        HERE
        wrmsr
        END "LME changed with PG"
        TRY
        mov ecx, 0xc0000082
        mov edx, 0x800000
        xor eax, eax
        HERE
        wrmsr
        END "LSTAR not canonical"
        TRY
        mov ecx, 0x12345
        HERE
        rdmsr
        END "unknown MSR"
        TRY
        mov eax, cs
        mov ds, eax
        END "DS from CS"
        TRY
        HERE
        mov cs, eax
        END "MOV CS"
        TRY
        mov rax, cr1
        END "CR1"
        TRY
        mov eax, 16
        HERE
        mov cr8, rax
        END "CR8 of 16"
        TRY
        mov eax, TSS
        HERE
        ltr ax
        END "LTR of a busy TSS"
        TRY
        xor eax, eax
        HERE
        ltr ax
        END "LTR of null"
        TRY
        mov eax, KDATA
        HERE
        lldt ax
        END "LLDT of data"
        EXIT
