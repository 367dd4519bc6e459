; SYSCALL, SYSRET, SWAPGS, segment bases, SYSENTER where AMD has it (not in long mode), in 64-bit mode and from
; compatibility mode (SDM 2; APM 3 for SYSCALL from compatibility mode).
%include "bare.inc"

PHYS            equ 0x1000000
MSR_STAR        equ 0xc0000081
MSR_LSTAR       equ 0xc0000082
MSR_CSTAR       equ 0xc0000083
MSR_SFMASK      equ 0xc0000084
MSR_FS          equ 0xc0000100
MSR_GS          equ 0xc0000101
MSR_KGS         equ 0xc0000102

section .text
main:   ; SYSENTER and SYSEXIT, SYSCALL and SYSRET in protected mode
        TRY
        USER u_sysenter32
        END "SYSENTER with CS 0", u_sysenter32
        WRMSR_ 0x174, KCODE32
        WRMSR_ 0x175, ring0_stack_top - 64
        WRMSR_ 0x176, .entered
        TRY
        USER u_sysenter32, 0x3202
.entered:
        mov eax, cs
        mov [seen], eax
        mov eax, ss
        mov [seen + 8], eax
        pushfd
        pop dword [seen + 16]
        mov [seen + 24], esp
        mov ecx, user_stack_top - 8
        mov edx, u_exited
        sysexit
        END "SYSENTER and SYSEXIT in protected mode", u_exited
        SHOW "CS", [seen]
        SHOW "SS", [seen + 8]
        SHOW "flags", [seen + 16]
        mov eax, ring0_stack_top
        sub eax, [seen + 24]
        SHOW "ESP below the top", eax
        SHOW "CS afterwards", [fault.cs]
        SHOW "SS afterwards", [fault.ss]
        mov eax, user_stack_top
        sub eax, [fault.sp]
        SHOW "ESP afterwards below the top", eax
        TRY
        USER u_sysexit
        END "SYSEXIT from ring 3", u_sysexit
        TRY
        USER u_syscall32
        END "SYSCALL without SCE", u_syscall32
        WRMSR_ MSR_EFER, EFER_SCE
        WRMSR_ MSR_STAR, .called, (0x18 << 16) | KCODE32
        TRY
        USER u_syscall32, 0x3202
.called:
        mov eax, cs
        mov [seen], eax
        mov eax, ss
        mov [seen + 8], eax
        mov esp, ring0_stack_top - 128
        pushfd
        pop dword [seen + 16]
        mov [seen + 24], ecx
        mov ecx, u_exited
        sysret
        END "SYSCALL and SYSRET in protected mode", u_exited
        SHOW "CS", [seen]
        SHOW "SS", [seen + 8]
        SHOW "flags", [seen + 16]
        mov eax, [seen + 24]
        sub eax, u_syscall32
        SHOW "ECX relative", eax
        SHOW "CS afterwards", [fault.cs]
        SHOW "flags afterwards", [fault.flags]

        WRMSR_ MSR_EFER, 0
        GO64 start
        bits 64
start:  TRY
        USER u_syscall
        END "64-bit: SYSCALL without SCE", u_syscall
        WRMSR_ MSR_EFER, EFER_LME | EFER_SCE
        WRMSR_ MSR_STAR, 0x12345678, (0x18 << 16) | KCODE64
        WRMSR_ MSR_LSTAR, .called
        WRMSR_ MSR_CSTAR, .compat_called
        WRMSR_ MSR_SFMASK, 0x40700
        TRY
        USER u_syscall, 0x40246 | FL_DF
.called:
        mov [seen + 32], rsp
        mov esp, ring0_stack_top - 128
        pushfq
        pop qword [seen + 16]
        mov eax, cs
        mov [seen], rax
        mov eax, ss
        mov [seen + 8], rax
        mov [seen + 24], rcx
        mov [seen + 40], r11
        mov rsp, [seen + 32]
        mov ecx, u_exited
        o64 sysret
        END "64-bit: SYSCALL and SYSRETQ", u_exited
        SHOW "CS", [seen]
        SHOW "SS", [seen + 8]
        SHOW "flags masked", [seen + 16]
        mov rax, [seen + 24]
        sub rax, u_syscall
        SHOW "RCX relative", rax
        SHOW "R11", [seen + 40]
        mov rax, user_stack_top
        sub rax, [seen + 32]
        SHOW "RSP below the user's top", rax
        SHOWD "CS afterwards", [fault.cs]
        SHOWD "SS afterwards", [fault.ss]
        SHOWD "flags afterwards", [fault.flags]
        ; to compatibility mode
        TRY
        mov ecx, u_exited
        mov r11d, 0x2
        mov esp, user_stack_top
        sysret
        END "SYSRETL", u_exited
        SHOWD "CS afterwards", [fault.cs]
        SHOWD "SS afterwards", [fault.ss]
        ; flags that SYSRET takes from R11
        TRY
        mov ecx, u_exited
        mov r11d, 0x3c7ed7 & ~0x180000 & ~FL_NT
        mov esp, user_stack_top
        o64 sysret
        END "SYSRETQ with all flags", u_exited
        SHOWD "flags afterwards", [fault.flags]
        TRY
        mov rcx, 0x800000000000
        mov r11d, 2
        HERE
        o64 sysret
        END "SYSRETQ to a non-canonical address"
        TRY
        USER u_sysret
        END "SYSRET from ring 3", u_sysret
        ; SYSCALL by the supervisor
        WRMSR_ MSR_LSTAR, .again
        TRY
        syscall
.again: END "SYSCALL in ring 0"
        ; from compatibility mode: AMD goes to CSTAR
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UCODE32
        push u_syscall32
        iretq
.compat_called:
        mov esp, ring0_stack_top - 128
        mov eax, cs
        mov [seen], rax
        mov [seen + 24], rcx
        mov esp, user_stack_top
        sysret
        END "SYSCALL from compatibility mode", u_syscall32
        SHOW "CS", [seen]
        mov rax, [seen + 24]
        sub rax, u_syscall32
        SHOW "RCX relative", rax
        ; single step through SYSCALL: TF masked
        WRMSR_ MSR_LSTAR, .stepped
        TRY
        USER u_syscall, 0x102
.stepped:
        mov esp, ring0_stack_top - 128
        pushfq
        pop qword [seen]
        mov rcx, r11
        END "SYSCALL with TF, masked"
        SHOW "flags there", [seen]
        and ecx, FL_TF
        SHOW "TF in R11", rcx
        WRMSR_ MSR_SFMASK, 0
        TRY
        USER u_syscall, 0x102
        END "SYSCALL with TF, not masked", .stepped
        TRY
        mov ecx, u_nop
        mov r11d, 0x102
        mov esp, user_stack_top
        o64 sysret
        END "SYSRET that sets TF", u_nop

        ; --- FS, GS
        WRMSR_ MSR_FS, PHYS
        WRMSR_ MSR_GS, PHYS + 0x100
        WRMSR_ MSR_KGS, PHYS + 0x200
        mov dword [PHYS + 8], 0xf5
        mov dword [PHYS + 0x108], 0x65
        mov dword [PHYS + 0x208], 0x66
        mov eax, [fs:8]
        SHOW "FS", rax
        mov eax, [gs:8]
        SHOW "GS", rax
        swapgs
        mov eax, [gs:8]
        SHOW "GS swapped", rax
        RDMSR_ MSR_KGS
        SHOW "KERNEL_GS_BASE then", rax
        swapgs
        mov eax, KDATA64
        mov fs, eax
        RDMSR_ MSR_FS
        SHOW "FS base after a selector", rax
        WRMSR_ MSR_FS, PHYS
        xor eax, eax
        mov fs, eax
        RDMSR_ MSR_FS
        SHOW "FS base after a null selector", rax      ; AMD keeps it, Intel clears it
        TRY
        USER u_gs
        END "SWAPGS from ring 3", u_gs
        TRY
        mov ecx, MSR_GS
        mov edx, 0x8000
        xor eax, eax
        HERE
        wrmsr
        END "GS base not canonical"
        TRY
        HERE
        rdfsbase rax
        END "RDFSBASE without FSGSBASE"
        mov rax, cr4
        or eax, CR4_FSGSBASE
        mov cr4, rax
        mov rax, 0xffff800012345678
        wrgsbase rax
        rdgsbase rbx
        SHOW "WRGSBASE, RDGSBASE", rbx
        wrfsbase eax
        rdfsbase rbx
        SHOW "WRFSBASE of 32 bits", rbx
        TRY
        mov rax, 0x8000000000000000
        HERE
        wrfsbase rax
        END "WRFSBASE not canonical"
        TRY
        USER u_fsbase
        END "RDFSBASE from ring 3", u_fsbase
        ; large segment bases count in 64-bit mode for FS and GS only
        SETDESC SLOT, PHYS, 0xfffff, 0x93, 0xc
        mov eax, SLOT
        mov ds, eax
        mov eax, [abs multiboot]          ; the multiboot magic: DS has no base
        SHOW "DS base ignored", rax
        mov eax, KDATA64
        mov ds, eax
        ; UMIP
        mov rax, cr4
        or eax, CR4_UMIP
        mov cr4, rax
        TRY
        USER u_sgdt
        END "SGDT from ring 3, UMIP", u_sgdt
        TRY
        USER u_str
        END "STR from ring 3, UMIP", u_str
        TRY
        USER u_smsw
        END "SMSW from ring 3, UMIP", u_smsw
        ; TSD, PCE
        TRY
        USER u_rdtsc
        END "RDTSC from ring 3", u_rdtsc
        mov rax, cr4
        or eax, CR4_TSD
        mov cr4, rax
        TRY
        USER u_rdtsc
        END "RDTSC from ring 3, TSD", u_rdtsc
        TRY
        USER u_rdtscp
        END "RDTSCP from ring 3, TSD", u_rdtscp
        TRY
        rdtsc
        END "RDTSC from ring 0, TSD"
        EXIT

section .user
        bits 32
u_sysenter32: sysenter
u_sysexit: sysexit
u_syscall32: syscall
        int 0x80
u_exited: int 0x80
        bits 64
u_syscall: syscall
        int 0x80
u_sysret: o64 sysret
u_nop:  nop
        nop
        int 0x80
u_gs:   swapgs
u_fsbase: rdfsbase rax
        int 0x80
u_sgdt: sgdt [rsp - 16]
u_str:  str ax
u_smsw: smsw ax
u_rdtsc: rdtsc
        int 0x80
u_rdtscp: rdtscp
        int 0x80

section .bss
alignb 8
seen:   resq 8
