; x2APIC mode, the TSC deadline, errors of the local APIC, PCID (SDM 3A 10.12, 10.5.4.1, 10.5.3, 4.10.1).
%include "bare.inc"
%include "smp.inc"

PHYS            equ 0x1000000
LIN             equ 0x40000000
V_SELF          equ 0x41

%macro X2READ 2
        RDMSR_ %2
        SAY %1, ": "
        HEXD edx
        SAY ":"
        HEXD eax
        SAY 10
%endmacro
%macro REFUSED 4 ; name, msr, high, low
        TRY
        mov ecx, %2
        mov edx, %3
        mov eax, %4
        HERE
        wrmsr
        END %1
%endmacro
%macro SETTLE 0
  %rep 3
        jmp short $ + 2
  %endrep
%endmacro

section .text
main:   GO64 start
        bits 64
start:  SETIDT V_SELF, h_self, KCODE64, INT32
        ; --- errors in xAPIC mode
        mov dword [LAPIC + 0xf0], 0x1ff
        mov dword [LAPIC + 0x280], 0
        mov dword [LAPIC + 0x300], 0x40000 | 5
        mov dword [LAPIC + 0x280], 0
        SHOWD "ESR after an IPI of vector 5", [LAPIC + 0x280]
        mov dword [LAPIC + 0x280], 0
        SHOWD "ESR after it was written", [LAPIC + 0x280]
        ; --- two CPUs, one in xAPIC mode still
        call start_ap
        TRY
        mov ecx, 0x802
        HERE
        rdmsr
        END "x2APIC register in xAPIC mode"
        REFUSED "EXTD without EN", 0x1b, 0, 0xfee00500
        REFUSED "reserved bit of APIC_BASE", 0x1b, 0, 0xfee00901
        WRMSR_ 0x1b, 0xfee00d00
        X2READ "APIC_BASE", 0x1b
        X2READ "id", 0x802
        X2READ "logical id", 0x80d
        X2READ "spurious vector register", 0x80f
        REFUSED "back to xAPIC mode", 0x1b, 0, 0xfee00900
        REFUSED "id is read-only", 0x802, 0, 1
        REFUSED "EOI of 1", 0x80b, 0, 1
        REFUSED "reserved bits of the LVT", 0x832, 1, 0x10000
        TRY
        mov ecx, 0x80e
        HERE
        rdmsr
        END "DFR"
        TRY
        mov ecx, 0x831
        HERE
        rdmsr
        END "ICR high"
        ; self IPI register
        WRMSR_ 0x83f, V_SELF
        X2READ "IRR", 0x822
        sti
        SETTLE
        cli
        SHOWD "self IPI taken", [count]
        X2READ "IRR then", 0x822
        ; ICR is one 64-bit register: to the other CPU
        mov qword [ap_work], w_spin
        WRMSR_ 0x830, 0x4000 | V_SELF, 1
.other: pause
        cmp dword [count], 2
        jb .other
        mov dword [stop], 1
.done:  pause
        cmp qword [ap_work], 0
        jne .done
        SHOWD "IPI to x2APIC id 1", [count]
        WRMSR_ 0x808, 0x50
        mov rax, cr8
        SHOW "CR8 by the TPR's MSR", rax
        xor eax, eax
        mov cr8, rax
        X2READ "TPR by CR8", 0x808

        ; --- TSC deadline
        TRY
        mov ecx, 0x6e0
        HERE
        rdmsr
        END "TSC_DEADLINE read"
        mov dword [count], 0
        WRMSR_ 0x832, 0x40000 | V_SELF
        rdtsc
        mov esi, eax
        mov edi, edx
        add eax, 100000
        adc edx, 0
        mov ecx, 0x6e0
        wrmsr
.wait:  cli
        cmp dword [count], 1
        jae .came
        sti
        hlt
        jmp .wait
.came:  rdtsc
        sub eax, esi
        sbb edx, edi
        jnz .late
        cmp eax, 100000
.late:  setae al
        movzx eax, al
        SHOW "deadline not too early", rax
        X2READ "TSC_DEADLINE afterwards", 0x6e0
        mov dword [count], 0
        WRMSR_ 0x6e0, 1                 ; long past
        sti
        SETTLE
.past:  pause
        cmp dword [count], 1
        jb .past
        cli
        SHOWD "deadline in the past", [count]
        WRMSR_ 0x832, 0x10000 | V_SELF

        ; --- PCID
        mov qword [pdpt + 8], t_pd + (P | W)
        mov qword [t_pd], t_pt + (P | W)
        mov qword [t_pt], PHYS + (P | W)
        mov dword [PHYS], 0x11
        mov dword [PHYS + 0x1000], 0x22
        TRY
        mov rax, cr3
        or eax, 1
        mov cr3, rax
        mov rax, cr4
        or eax, CR4_PCIDE
        HERE
        mov cr4, rax
        END "PCIDE with a PCID in CR3"
        mov eax, pml4
        mov cr3, rax
        mov rax, cr4
        or eax, CR4_PCIDE
        mov cr4, rax
        mov eax, pml4 + 1
        mov cr3, rax
        mov ebx, [LIN]
        mov rax, cr3
        SHOW "CR3", rax
        mov qword [t_pt], PHYS + 0x1000 + (P | W)
        mov eax, pml4 + 1
        mov cr3, rax
        mov eax, [LIN]
        SHOW "after CR3 of the same PCID", rax
        mov rax, pml4 + 2 + (1 << 63)
        mov cr3, rax
        mov rax, cr3
        SHOW "bit 63 is not kept", rax
        mov qword [t_pt], PHYS + (P | W)
        mov eax, 1
        mov qword [descriptor], 2
        mov qword [descriptor + 8], LIN
        mov eax, 0
        invpcid rax, [descriptor]
        mov eax, [LIN]
        SHOW "after INVPCID of an address", rax
        mov qword [t_pt], PHYS + 0x1000 + (P | W)
        mov eax, 1
        invpcid rax, [descriptor]
        mov eax, [LIN]
        SHOW "after INVPCID of a PCID", rax
        mov qword [t_pt], PHYS + (P | W)
        mov eax, 2
        invpcid rax, [descriptor]
        mov eax, [LIN]
        SHOW "after INVPCID of all", rax
        TRY
        mov eax, 4
        HERE
        invpcid rax, [descriptor]
        END "INVPCID of type 4"
        mov qword [descriptor], 0x1000
        TRY
        mov eax, 1
        HERE
        invpcid rax, [descriptor]
        END "INVPCID with a reserved bit"
        mov qword [descriptor], 0
        mov rax, 0x800000000000
        mov [descriptor + 8], rax
        TRY
        mov eax, 0
        HERE
        invpcid rax, [descriptor]
        END "INVPCID of a non-canonical address"
        TRY
        USER u_invpcid
        END "INVPCID from ring 3", u_invpcid
        TRY
        mov rax, cr0
        btr rax, 31
        HERE
        mov cr0, rax
        END "PG off with PCIDE"
        mov eax, pml4 + 5
        mov cr3, rax
        mov rax, cr4
        and eax, ~CR4_PCIDE
        mov cr4, rax
        mov rax, cr3
        SHOW "CR3 after PCIDE off", rax
        EXIT

h_self: lock inc dword [count]
        push rax
        push rcx
        push rdx
        mov ecx, 0x1b
        rdmsr
        bt eax, 10
        jnc .xapic
        mov ecx, 0x80b
        xor eax, eax
        xor edx, edx
        wrmsr
        jmp .done
.xapic: mov dword [LAPIC + 0xb0], 0
.done:  pop rdx
        pop rcx
        pop rax
        iretq
w_spin: sti
.spin:  cmp dword [stop], 1
        jne .spin
        cli
        ret

section .user
        bits 64
u_invpcid: invpcid rax, [rsp - 16]
section .bss
alignb 4096
t_pd:   resb 4096
t_pt:   resb 4096
descriptor: resq 2
count:  resd 1
stop:   resd 1
