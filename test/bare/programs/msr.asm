; MSRs and CPUID: values at start, what can be written, what is refused (SDM 4; SDM 2 CPUID).
%include "bare.inc"

%macro READ 2
        mov ecx, %2
        TRY
        rdmsr
        QUIET
        cmp dword [fault.vec], -1
        jne %%fault
        SAY %1, ": "
        HEXD edx
        SAY ":"
        HEXD eax
        SAY 10
        jmp %%done
%%fault:
        SAY %1, ": "
        call report64
        SAY 10
%%done:
%endmacro
; Writes edx:eax, reads back.
%macro WRITE 4 ; name, msr, high, low
        mov ecx, %2
        mov edx, %3
        mov eax, %4
        TRY
        wrmsr
        QUIET
        cmp dword [fault.vec], -1
        jne %%fault
        rdmsr
        SAY %1, ": "
        HEXD edx
        SAY ":"
        HEXD eax
        SAY 10
        jmp %%done
%%fault:
        SAY %1, ": "
        call report64
        SAY 10
%%done:
%endmacro

section .text
main:   GO64 start
        bits 64
start:  READ "EFER", MSR_EFER
        READ "APIC_BASE", 0x1b
        READ "PAT", 0x277
        READ "MTRR_DEF_TYPE", 0x2ff
        READ "SYSENTER_CS", 0x174
        READ "STAR", 0xc0000081
        READ "an unknown one", 0x12345678
        READ "TSC_AUX", 0xc0000103
        WRITE "EFER: SCE and NXE", MSR_EFER, 0, EFER_LME | EFER_SCE | EFER_NXE
        WRITE "EFER: reserved bit", MSR_EFER, 0, EFER_LME | 0x2
        WRITE "EFER: bit 32", MSR_EFER, 1, EFER_LME
        WRITE "EFER: LMA is read-only", MSR_EFER, 0, EFER_LME
        WRITE "STAR", 0xc0000081, 0x11223344, 0x55667788
        WRITE "LSTAR", 0xc0000082, 0xffff8000, 0x12345678
        WRITE "LSTAR not canonical", 0xc0000082, 0x8000, 0
        WRITE "SFMASK", 0xc0000084, 0, 0x47700
        WRITE "FS_BASE", 0xc0000100, 0x7fff, 0xfffff000
        WRITE "KERNEL_GS_BASE", 0xc0000102, 0xffff8888, 0x1000
        WRITE "KERNEL_GS_BASE not canonical", 0xc0000102, 0xffff0000, 0x1000
        WRITE "SYSENTER_CS", 0x174, 0, 0x10
        WRITE "SYSENTER_ESP", 0x175, 0xffffffff, 0x80001000
        WRITE "PAT", 0x277, 0x01040506, 0x00070106
        WRITE "PAT with a reserved type", 0x277, 0, 0x02
        WRITE "MTRR_PHYSBASE0", 0x200, 0, 0x80000006
        WRITE "MTRR_PHYSMASK0", 0x201, 0xff, 0x80000800
        WRITE "MTRR_FIX64K", 0x250, 0x06060606, 0x06060606
        WRITE "MTRR_DEF_TYPE", 0x2ff, 0, 0xc06
        WRITE "TSC_AUX", 0xc0000103, 0, 0x12345
        rdtscp
        SHOW "RDTSCP's ECX", rcx
        ; the TSC rises and can be set
        rdtsc
        mov ebx, eax
        mov esi, edx
        rdtsc
        sub eax, ebx
        sbb edx, esi
        setnc al
        movzx eax, al
        SHOW "TSC rises", rax
        WRMSR_ 0x10, 0, 0x100           ; the low half may wrap around before it is read
        rdtsc
        shr edx, 8
        SHOW "TSC set, high half, over 256", rdx
        RDMSR_ 0x10
        shr edx, 8
        SHOW "by RDMSR", rdx
        ; CPUID
        mov eax, 0
        cpuid
        mov [text], ebx
        mov [text + 4], edx
        mov [text + 8], ecx
        mov esi, text
        SAY "vendor: "
        call puts64
        SAY 10
        mov eax, 1
        cpuid
        and edx, 0x0780e3fd             ; fpu de? .. sse sse2 mmx fxsr: what a PC must have
        SHOW "leaf 1 EDX", rdx
        mov eax, ebx
        shr eax, 24
        SHOW "APIC id", rax
        mov eax, 1
        cpuid
        and ecx, 0x00982201             ; sse3 ssse3 cx16 sse4.1 sse4.2 popcnt
        SHOW "leaf 1 ECX", rcx
        mov eax, 0x80000001
        cpuid
        and edx, 0x28100800             ; syscall nx pdpe1gb? rdtscp lm
        SHOW "leaf 80000001 EDX", rdx
        mov eax, 0x80000008
        cpuid
        and eax, 0xff00
        SHOW "linear address bits", rax
        mov eax, 0x40000000
        cpuid
        mov [text], ebx
        mov [text + 4], ecx
        mov [text + 8], edx
        mov esi, text
        SAY "hypervisor: "
        call puts64
        SAY 10
        TRY
        USER u_cpuid
        END "CPUID in ring 3", u_cpuid
        EXIT

section .user
        bits 64
u_cpuid: xor eax, eax
        cpuid
        int 0x80
section .bss
text:   resb 16
