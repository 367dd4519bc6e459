; Exceptions, interrupts and returns in long mode (SDM 3A 6.12-6.15, 6.14; SDM 2 IRET; SDM 3B 18).
%include "bare.inc"

PHYS            equ 0x1000000

section .text
main:   GO64 start

; Prints what the recorded frame says beside vector and error code.
%macro FRAME 1
        SAY %1, ": cs="
        HEXD [fault.cs]
        SAY " ss="
        HEXD [fault.ss]
        SAY " flags="
        HEXD [fault.flags]
        SAY 10
%endmacro

        bits 64
start:
        ; --- every way to a vector
        TRY
        xor ecx, ecx
        HERE
        div ecx
        END "DIV by 0"
        TRY
        mov eax, -1
        mov edx, 5
        mov ecx, 5
        HERE
        div ecx
        END "DIV overflow"
        TRY
        mov eax, 0x80000000
        cdq
        mov ecx, -1
        HERE
        idiv ecx
        END "IDIV overflow"
        TRY
        HERE
        int3
        END "INT3"
        TRY
        HERE
        int 3
        END "INT 3"
        TRY
        ud2
        END "UD2"
        TRY
        db 0x06
        END "06 in 64-bit code"
        TRY
        db 0xf0, 0x90
        END "LOCK NOP"
        TRY
        lock mov [PHYS], eax
        END "LOCK MOV"
        TRY
        lock add eax, eax
        END "LOCK with a register"
        TRY
        db 0x0f, 0x0f, 0x00, 0x00
        END "3DNow!"
        TRY
        times 14 db 0x66
        nop
        END "15 bytes"
        TRY
        times 15 db 0x66
        nop
        END "16 bytes"
        TRY
        int 0x80
        END "INT 80"
        TRY
        int 0x41
        END "INT 41 from ring 0"
        TRY
        USER u_int41
        END "INT 41 from ring 3", u_int41
        TRY
        USER u_int3
        END "INT3 from ring 3", u_int3
        FRAME "INT3 from ring 3"
        TRY
        USER u_int1
        END "INT1 from ring 3", u_int1
        TRY
        USER u_hlt
        END "HLT from ring 3", u_hlt
        TRY
        USER u_cli
        END "CLI from ring 3", u_cli
        TRY
        USER u_cli, 0x3002
        END "CLI from ring 3, IOPL 3", u_cli
        FRAME "CLI from ring 3, IOPL 3"
        TRY
        USER u_in
        END "IN from ring 3", u_in
        TRY
        USER u_cr
        END "MOV CR0 from ring 3", u_cr
        TRY
        USER u_dr
        END "MOV DR7 from ring 3", u_dr
        TRY
        USER u_rdmsr
        END "RDMSR from ring 3", u_rdmsr
        TRY
        USER u_lgdt
        END "LGDT from ring 3", u_lgdt
        TRY
        USER u_invlpg
        END "INVLPG from ring 3", u_invlpg
        TRY
        USER u_swapgs
        END "SWAPGS from ring 3", u_swapgs
        TRY
        USER u_wbinvd
        END "WBINVD from ring 3", u_wbinvd
        TRY
        USER u_popf, 0x3202
        END "POPF from ring 3, IOPL 3", u_popf
        FRAME "POPF of FFFFFFFF without TF in ring 3, IOPL 3"
        TRY
        USER u_popf, 2
        END "POPF from ring 3, IOPL 0", u_popf
        FRAME "POPF of FFFFFFFF without TF in ring 3, IOPL 0"
        push 0xfffffffffffffeff & ~FL_IF & ~FL_NT
        popfq
        pushfq
        pop rax
        cld
        SHOW "POPF of FFFFFCFF in ring 0", rax
        push 0x2
        popfq

        ; --- the gate
        mov byte [idt64 + 0x41 * 16 + 5], INT32 & ~0x80
        TRY
        int 0x41
        END "gate not present"
        mov byte [idt64 + 0x41 * 16 + 5], 0x85
        TRY
        int 0x41
        END "task gate in long mode"
        mov byte [idt64 + 0x41 * 16 + 5], INT16
        TRY
        int 0x41
        END "16-bit gate in long mode"
        mov byte [idt64 + 0x41 * 16 + 5], INT32
        mov word [idt64 + 0x41 * 16 + 2], KCODE32
        TRY
        int 0x41
        END "gate to 32-bit code"
        mov word [idt64 + 0x41 * 16 + 2], KDATA64
        TRY
        int 0x41
        END "gate to data"
        mov word [idt64 + 0x41 * 16 + 2], 0
        TRY
        int 0x41
        END "gate to null"
        mov word [idt64 + 0x41 * 16 + 2], 0xff0
        TRY
        int 0x41
        END "gate beyond the GDT"
        mov word [idt64 + 0x41 * 16 + 2], UCODE64
        TRY
        int 0x41
        END "gate to an outer ring"
        mov word [idt64 + 0x41 * 16 + 2], KCODE64
        mov dword [idt64 + 0x41 * 16 + 8], 0x12345678
        TRY
        int 0x41
        END "gate to a non-canonical address"
        mov dword [idt64 + 0x41 * 16 + 8], 0
        mov word [short_idtr], 0x41 * 16 + 14
        lidt [short_idtr]
        TRY
        int 0x41
        END "gate beyond the IDT limit"
        lidt [idtr64]

        ; --- interrupt and trap gates
        SETIDT 0x41, h_flags, KCODE64, INT32
        push 0x202
        popfq
        int 0x41
        cli
        SHOW "flags in an interrupt gate's handler", [seen]
        SETIDT 0x41, h_flags, KCODE64, TRAP32
        push 0x40202
        popfq
        int 0x41
        cli
        SHOW "flags in a trap gate's handler", [seen]
        pushfq
        pop rax
        SHOW "flags after IRETQ", rax
        push 2
        popfq

        ; --- stacks
        SETIDT 0x41, h_stack, KCODE64, INT32
        mov rbx, rsp
        mov rsp, PHYS + 0x1238
        int 0x41
        mov rsp, rbx
        SHOW "misaligned stack: RSP in the handler", [seen]
        SHOW "saved RSP", [seen + 8]
        SHOW "saved SS", [seen + 16]
        SETIDT 0x41, h_stack, KCODE64, INT32, 2
        int 0x41
        mov rax, [seen]
        sub rax, ist2_top
        SHOW "IST: RSP from the top", rax
        SETIDT 0x41, h_stack, KCODE64, INT32 | DPL3
        TRY
        USER u_int41
        QUIET
        mov rax, [seen]
        sub rax, ring0_stack_top
        SHOW "from ring 3: RSP from the top", rax
        SHOW "SS in the handler", [seen + 24]
        SHOW "saved SS", [seen + 16]
        SETIDT 0x41, h_stack, KCODE64, INT32 | DPL3, 3
        TRY
        USER u_int41
        QUIET
        mov rax, [seen]
        sub rax, ist3_top
        SHOW "from ring 3 with IST: RSP from the top", rax
        ; an IST entry that is not canonical: #SS? the push fails
        mov dword [tss64 + 0x34 + 4], 0x80000000
        TRY
        int 0x41
        END "IST not canonical"
        mov dword [tss64 + 0x34 + 4], 0
        mov dword [tss64 + 0x34], 0x7f001000
        mov dword [pd + 0x3f8 * 8], 0
        invlpg [0x7f000000]
        TRY
        int 0x41
        END "IST not present"
        mov dword [tss64 + 0x34], ist3_top

        ; --- fault while delivering: #DF and its error code; page fault in #PF's delivery
        mov byte [idt64 + 14 * 16 + 5], INT32 & ~0x80
        TRY
        mov eax, [0x7f000100]
        END "#PF with its gate not present"
        mov byte [idt64 + 14 * 16 + 5], INT32
        mov byte [idt64 + 13 * 16 + 5], INT32 & ~0x80
        TRY
        mov eax, 0xff0
        HERE
        mov ds, eax
        END "#GP with its gate not present"
        mov byte [idt64 + 6 * 16 + 5], INT32 & ~0x80
        mov byte [idt64 + 13 * 16 + 5], INT32
        TRY
        ud2
        END "#UD with its gate not present"
        mov byte [idt64 + 6 * 16 + 5], INT32
        mov byte [idt64 + 0 * 16 + 5], INT32 & ~0x80
        TRY
        xor ecx, ecx
        HERE
        div ecx
        END "#DE with its gate not present"
        mov byte [idt64 + 0 * 16 + 5], INT32
        ; benign then page fault: the page fault is delivered
        SETIDT 6, h_flags, KCODE64, INT32, 3
        mov dword [tss64 + 0x34], 0x7f001000
        TRY
        ud2
        END "#UD whose stack is missing"
        SETIDT 13, h_flags, KCODE64, INT32, 3
        TRY
        mov eax, 0xff0
        HERE
        mov ds, eax
        END "#GP whose stack is missing"
        SETIDT 14, h_flags, KCODE64, INT32, 3
        TRY
        mov eax, [0x7f000100]
        END "#PF whose stack is missing"
        mov dword [tss64 + 0x34], ist3_top
        SETIDT 6, stubs + 6 * STUB_SIZE, KCODE64, INT32
        SETIDT 13, stubs + 13 * STUB_SIZE, KCODE64, INT32, 1
        SETIDT 14, stubs + 14 * STUB_SIZE, KCODE64, INT32

        ; --- IRETQ
        TRY
        push KDATA64
        mov rax, rsp
        push rax
        push 0x202
        push KCODE64
        push .same
        iretq
.same:  cli
        END "IRETQ to the same ring"
        TRY
        push 0
        mov rax, rsp
        push rax
        push 2
        push KCODE64
        push .nullss
        iretq
.nullss:
        END "IRETQ with a null SS"
        mov eax, ss
        SHOW "SS then", rax
        mov eax, KDATA64
        mov ss, eax
        TRY
        push 0
        push user_stack_top
        push 2
        push UCODE64
        push user_done
        HERE
        iretq
        END "IRETQ to ring 3 with a null SS"
        TRY
        push UDATA
        push user_stack_top
        push 2
        push KCODE64
        push user_done
        HERE
        iretq
        END "IRETQ: SS of another ring"
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UDATA
        push user_done
        HERE
        iretq
        END "IRETQ: CS is data"
        TRY
        push UDATA
        push user_stack_top
        push 2
        push 0
        push user_done
        HERE
        iretq
        END "IRETQ: CS is null"
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UCODE64
        push user_done
        mov dword [rsp + 4], 0x800000
        HERE
        iretq
        END "IRETQ: RIP not canonical"
        TRY
        push UDATA
        push user_stack_top
        push 2 | FL_NT
        popfq
        push 2
        push UCODE64
        push user_done
        HERE
        iretq
        END "IRETQ with NT"
        SETDESC SLOT, 0, 0xfffff, 0x7b, 0xa     ; user 64-bit code, not present
        TRY
        push UDATA
        push user_stack_top
        push 2
        push SLOT | 3
        push user_done
        HERE
        iretq
        END "IRETQ: CS not present"
        SETDESC SLOT, 0, 0xfffff, 0x73, 0xc     ; user data, not present
        TRY
        push SLOT | 3
        push user_stack_top
        push 2
        push UCODE64
        push user_done
        HERE
        iretq
        END "IRETQ: SS not present"
        TRY
        push UDATA
        push user_stack_top
        push 0x3002
        push UCODE64
        push u_iret
        iretq
        END "IRETQ from ring 3 to itself", user_done
        FRAME "IRETQ from ring 3 to itself"
        TRY
        USER u_iret_in
        END "IRETQ from ring 3 to ring 0", u_iret_in.iret
        ; to compatibility mode, ring 3 and ring 0
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UCODE32
        push user_done
        iretq
        END "IRETQ to 32-bit user code", user_done
        FRAME "IRETQ to 32-bit user code"
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UCODE32
        push u_inc
        iretq
        END "32-bit user code: 40 is INC EAX", u_inc
        TRY
        push KDATA64
        mov rax, rsp
        push rax
        push 2
        push KCODE32
        push k_32
        iretq
back64: END "IRETQ to 32-bit supervisor code and back by far jump"
        SETDESC SLOT, 0, 0xffff, 0xfb, 0        ; 16-bit user code
        TRY
        push UDATA
        push user_stack_top
        push 2
        push SLOT | 3
        push 0x7000
        iretq
        END "IRETQ to 16-bit user code, IP page not for users", 0x7000
        SETDESC SLOT, 0, 0xfffff, 0xfb, 0xe     ; L and D
        TRY
        push UDATA
        push user_stack_top
        push 2
        push SLOT | 3
        push user_done
        HERE
        iretq
        END "IRETQ: CS with L and D"
        TRY
        push UDATA
        push user_stack_top
        push 2
        push UCODE32
        push user_done
        mov dword [rsp + 4], 1
        HERE
        iretq
        END "IRETQ to 32-bit code beyond 4 GiB"
        ; IRETD in 64-bit code
        sub rsp, 64
        mov dword [rsp], .iretd
        mov dword [rsp + 4], KCODE64
        mov dword [rsp + 8], 2
        mov [rsp + 12], esp
        mov dword [rsp + 16], KDATA64
        TRY
        iretd
.iretd: END "IRETD in 64-bit code"
        add rsp, 64

        ; 16-bit IRET: to the low 64 KiB
        mov dword [0x7100], 0x90fb50fb          ; not executed
        mov byte [0x7100], 0xff                 ; jmp rbx
        mov byte [0x7101], 0xe3
        mov ebx, .iretw
        mov rcx, rsp
        sub rsp, 64
        mov word [rsp], 0x7100
        mov word [rsp + 2], KCODE64
        mov word [rsp + 4], 2
        mov word [rsp + 6], 0x6f00
        mov word [rsp + 8], KDATA64
        TRY
        o16 iret
.iretw: mov rdx, rsp
        mov rsp, rcx
        END "16-bit IRET in 64-bit code"
        SHOW "RSP then", rdx
        TRY
        mov ebx, PHYS + 8
        HERE
        lock cmpxchg16b [rbx]
        END "CMPXCHG16B misaligned"
        and byte [tss64 + 0x68 + 0x80 / 8], ~1
        TRY
        USER u_in
        END "IN from ring 3, allowed by the TSS", u_in
        mov word [tss64 + 0x66], 0x2069
        TRY
        USER u_in
        END "IN from ring 3, bitmap beyond the TSS", u_in
        mov word [tss64 + 0x66], 0x68

        ; --- single step
        SETIDT 1, h_step, KCODE64, INT32
        mov dword [steps], 0
        mov edi, trace
        push 2 | FL_TF
        popfq
        nop                             ; trap after this
        mov eax, 1
        add eax, 2
        jmp .over
        ud2
.over:  push 2
        popfq                           ; trap after this too
        SHOWD "steps", [steps]
        mov rax, [trace]
        mov rdx, .over
        sub rdx, rax
        SHOW "first trap before label", rdx
        mov rax, [trace + 8 * 3]
        mov rdx, .over
        sub rdx, rax
        SHOW "fourth trap at label plus", rdx
        mov rax, dr6
        SHOW "DR6", rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        ; a REP instruction traps after each step; INT clears TF in its handler
        mov dword [steps], 0
        mov esi, PHYS
        mov edi, PHYS + 0x100
        mov r15, rdi
        mov ecx, 3
        push 2 | FL_TF
        popfq
        rep movsb
        push 2
        popfq
        SHOWD "steps of REP MOVSB", [steps]
        mov dword [steps], 0
        SETIDT 0x41, h_flags, KCODE64, INT32
        push 2 | FL_TF
        popfq
        int 0x41
        push 2
        popfq
        SHOWD "steps over INT", [steps]
        SHOW "flags in INT's handler", [seen]
        mov dword [steps], 0
        push 2 | FL_TF
        popfq
        mov eax, ss
        mov ss, eax
        nop
        push 2
        popfq
        SHOWD "steps with MOV SS", [steps]
        mov dword [steps], 0
        push 2 | FL_TF
        popfq
        ud2_label: mov eax, 5
        cpuid
        push 2
        popfq
        SHOWD "steps with CPUID", [steps]
        ; a faulting instruction does not trap, its handler does not step
        SETIDT 1, stubs + 1 * STUB_SIZE, KCODE64, INT32
        TRY
        push 2 | FL_TF
        popfq
        HERE
        ud2
        END "UD2 with TF"
        SHOWD "flags saved", [fault.flags]
        TRY
        push 2 | FL_TF
        popfq
        HERE
        nop
        END "NOP with TF"
        SHOWD "flags saved", [fault.flags]
        mov rax, dr6
        SHOW "DR6", rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        TRY
        USER u_nop, 2 | FL_TF
        END "NOP in ring 3 with TF", u_nop
        TRY
        push KDATA64
        mov rax, rsp
        push rax
        push 2 | FL_TF
        push KCODE64
        push .stepped
        iretq
.stepped: nop
        END "IRETQ that sets TF", .stepped
        ; page-crossing instruction right after POPF
        mov esi, cross
        mov edi, PHYS + 0xffe
        mov ecx, 8
        rep movsb
        TRY
        mov ebx, PHYS + 0xffd
        mov byte [rbx], 0x9d            ; popfq
        push 2 | FL_TF
        jmp rbx
        END "page-crossing instruction after POPF", PHYS + 0xffe

        ; --- debug registers
        mov eax, .exec
        mov dr0, rax
        mov eax, 0x402
        mov dr7, rax
        TRY
        HERE
        nop
.exec:  nop
        END "execution breakpoint"
        SHOWD "flags saved", [fault.flags]
        mov rax, dr6
        SHOW "DR6", rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        SETIDT 1, h_rf, KCODE64, INT32
        mov dword [steps], 0
        call .exec2
        jmp .rf
.exec2: nop
        ret
.rf:    mov eax, .exec2
        mov dr0, rax
        call .exec2
        SHOWD "RF lets it pass, hits", [steps]
        SETIDT 1, stubs + 1 * STUB_SIZE, KCODE64, INT32
        mov eax, 0xffff0ff0
        mov dr6, rax
        mov eax, PHYS + 0x200
        mov dr0, rax
        mov eax, 0x000d0402             ; DR0: 4 bytes, write
        mov dr7, rax
        TRY
        HERE
        mov [PHYS + 0x200], eax
        nop
        END "write watchpoint: write"
        mov rax, dr6
        SHOW "DR6", rax
        TRY
        mov eax, [PHYS + 0x200]
        nop
        END "write watchpoint: read"
        TRY
        HERE
        mov byte [PHYS + 0x203], 1
        nop
        END "write watchpoint: last byte"
        TRY
        mov byte [PHYS + 0x204], 1
        nop
        END "write watchpoint: byte after"
        TRY
        HERE
        mov [PHYS + 0x1fd], eax
        nop
        END "write watchpoint: overlap"
        mov eax, 0x000f0402             ; read or write
        mov dr7, rax
        TRY
        HERE
        mov eax, [PHYS + 0x200]
        nop
        END "access watchpoint: read"
        TRY
        mov esi, PHYS + 0x1fc
        mov edi, PHYS + 0x300
        mov ecx, 4
        HERE
        rep movsd
        END "access watchpoint in REP MOVSD"
        SHOW "RCX then", rcx
        mov eax, 0x400
        mov dr7, rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        TRY
        mov eax, 0x2400                 ; GD
        mov dr7, rax
        HERE
        mov rax, dr0
        END "general detect"
        mov rax, dr6
        SHOW "DR6", rax
        mov rax, dr7
        SHOW "DR7", rax
        mov eax, 0xffff0ff0
        mov dr6, rax
        TRY
        mov rax, dr4
        END "DR4 without DE"
        mov rax, cr4
        or eax, CR4_DE
        mov cr4, rax
        TRY
        mov rax, dr4
        END "DR4 with DE"
        mov eax, 0x80
        mov dr1, rax
        mov eax, 0x00200408             ; DR1: I/O, 1 byte
        mov dr7, rax
        TRY
        HERE
        out 0x80, al
        nop
        END "I/O breakpoint"
        mov rax, dr6
        SHOW "DR6", rax
        mov eax, 0x400
        mov dr7, rax
        TRY
        mov rax, 1 << 32
        HERE
        mov dr6, rax
        END "MOV DR6 of 64 bits"
        TRY
        HERE
        int1
        END "INT1"

        EXIT

k_32:   bits 32
        mov eax, 0x11223344
        jmp KCODE64:back64
        bits 64

h_flags:
        pushfq
        pop qword [seen]
        iretq
h_stack:
        mov [seen], rsp
        push rax
        mov rax, [rsp + 8 + 24]
        mov [seen + 8], rax
        mov rax, [rsp + 8 + 32]
        mov [seen + 16], rax
        mov eax, ss
        mov [seen + 24], rax
        pop rax
        iretq
h_step: push rax
        inc dword [steps]
        mov rax, [rsp + 8]
        cmp edi, trace + 8 * 16
        jae .no
        cmp edi, trace
        jb .no
        mov [rdi], rax
        add edi, 8
.no:    pop rax
        iretq
h_rf:   inc dword [steps]
        or dword [rsp + 16], FL_RF
        iretq

section .user
        bits 64
u_int41: int 0x41
        int 0x80
u_int3: int3
        int 0x80
u_int1: int1
        int 0x80
u_hlt:  hlt
u_cli:  cli
        int 0x80
u_in:   in al, 0x80
        int 0x80
u_cr:   mov rax, cr0
u_dr:   mov rax, dr7
u_rdmsr: rdmsr
u_lgdt: lgdt [rsp]
u_invlpg: invlpg [rsp]
u_swapgs: swapgs
u_wbinvd: wbinvd
u_popf: push -1 & ~FL_TF & ~FL_NT
        popfq
        int 0x80
u_nop:  nop
        nop
        int 0x80
u_iret: push UDATA
        push user_stack_top
        push 0x40200
        push UCODE64
        push user_done
        iretq
u_iret_in:
        push KDATA64
        push user_stack_top
        push 2
        push KCODE64
        push user_done
.iret:  iretq
u_inc:  inc eax                 ; ff c0
        db 0x40
        int 0x80

section .data
cross:  db 0xb8, 1, 0, 0, 0, 0x90, 0x90, 0x90
short_idtr: dw 0
        dq idt64
section .bss
alignb 8
seen:   resq 4
steps:  resd 2
trace:  resq 16
