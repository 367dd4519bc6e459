; SYSENTER and SYSEXIT in long mode, which Intel's CPUs have (SDM 2), and other things that depend on the vendor.
%include "bare.inc"
section .text
main:   GO64 start
        bits 64
start:  WRMSR_ 0x174, KCODE32
        WRMSR_ 0x175, ring0_stack_top - 64
        WRMSR_ 0x176, .entered
        TRY
        USER u_sysenter, 0x3202
.entered:
        mov eax, cs
        mov [seen], rax
        mov eax, ss
        mov [seen + 8], rax
        pushfq
        pop qword [seen + 16]
        mov ecx, user_stack_top - 8
        mov edx, u_done
        o64 sysexit
        END "SYSENTER and SYSEXIT to 64-bit code", u_done
        SHOW "CS", [seen]
        SHOW "SS", [seen + 8]
        SHOW "flags", [seen + 16]
        SHOWD "CS afterwards", [fault.cs]
        SHOWD "SS afterwards", [fault.ss]
        TRY
        mov ecx, user_stack_top - 8
        mov edx, u_done
        sysexit
        END "SYSEXIT to 32-bit code", u_done
        SHOWD "CS afterwards", [fault.cs]
        TRY
        mov ecx, user_stack_top - 8
        mov rdx, 0x800000000000
        HERE
        o64 sysexit
        END "SYSEXIT to a non-canonical address"
        TRY
        USER u_sysexit
        END "SYSEXIT from ring 3", u_sysexit
        WRMSR_ 0x174, 0
        TRY
        USER u_sysenter
        END "SYSENTER with CS 0", u_sysenter
        ; SYSCALL from compatibility mode is undefined here
        WRMSR_ MSR_EFER, EFER_LME | EFER_SCE
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UCODE32
        push u_syscall
        iretq
        END "SYSCALL from compatibility mode", u_syscall
        EXIT
section .user
        bits 64
u_sysenter: sysenter
u_done: int 0x80
u_sysexit: sysexit
u_syscall: syscall
section .bss
alignb 8
seen:   resq 4
