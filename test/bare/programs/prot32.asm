; 32-bit protected mode without paging: segments, gates, rings, tasks, LAR and its family, I/O permissions
; (SDM 3A 5, 6, 7; SDM 1 19.5; SDM 2 at each instruction).
%include "bare.inc"

A_              equ SLOT + 0            ; descriptors of the tests
B_              equ SLOT + 8
C_              equ SLOT + 16
D_              equ SLOT + 24
PHYS            equ 0x1000000

%macro FRAME 1
        SAY %1, ": cs="
        HEXD [fault.cs]
        SAY " flags="
        HEXD [fault.flags]
        SAY 10
%endmacro
%macro LOADS 3 ; register, selector, name
        mov eax, %2
        TRY
        mov %1, ax
        ; what follows needs segments that it can write to
        mov ecx, KDATA
        mov ss, ecx
        mov ds, ecx
        mov es, ecx
        mov fs, ecx
        END %3
%endmacro

section .text
main:   ; --- loading segment registers
        LOADS ds, 0, "DS null"
        LOADS ss, 0, "SS null"
        LOADS ds, 0xff0, "DS beyond the GDT"
        LOADS ss, 0xff0, "SS beyond the GDT"
        LOADS ds, 4, "DS in no LDT"
        LOADS ds, KCODE32, "DS readable code"
        LOADS ss, KCODE32, "SS code"
        LOADS ds, TSS, "DS a TSS"
        LOADS ss, UDATA, "SS of ring 3"
        LOADS ss, KDATA | 1, "SS with another RPL"
        LOADS ds, KDATA | 3, "DS of ring 0 with RPL 3"
        LOADS ds, UDATA, "DS of ring 3"
        SETDESC A_, 0, 0xfffff, 0x13, 0xc       ; data, not present
        LOADS ds, A_, "DS not present"
        LOADS ss, A_, "SS not present"
        SETDESC A_, 0, 0xfffff, 0x91, 0xc       ; read-only
        LOADS ds, A_, "DS read-only"
        LOADS ss, A_, "SS read-only"
        SETDESC A_, 0, 0xfffff, 0x99, 0xc       ; execute-only
        LOADS ds, A_, "DS execute-only"
        SETDESC A_, 0, 0xfffff, 0x9f, 0xc       ; conforming, readable
        LOADS ds, A_ | 3, "DS conforming code with RPL 3"
        SETDESC A_, 0, 0xfffff, 0x92, 0xc
        LOADS es, A_, "ES sets the accessed bit"
        movzx eax, byte [gdt + A_ + 5]
        SHOW "access byte", eax
        TRY
        push dword A_
        pop fs
        END "POP FS"
        TRY
        push dword 0xff0
        HERE
        pop fs
        END "POP FS beyond the GDT"
        TRY
        lds eax, [far_bad]
        END "LDS of a bad selector"
        lfs eax, [far_good]
        SHOW "LFS offset", eax
        mov eax, fs
        SHOW "LFS selector", eax
        TRY
        mov ax, KDATA
        HERE
        mov cs, ax
        END "MOV CS"

        ; --- bases and a 16-bit stack
        SETDESC A_, PHYS, 0xfffff, 0x93, 0xc
        mov eax, A_
        mov es, eax
        mov dword [es:0x10], 0x12345678
        mov eax, [PHYS + 0x10]
        SHOW "segment base", eax
        SETDESC B_, PHYS, 0xffff, 0x93, 0       ; 16-bit stack
        mov ebx, esp
        mov eax, B_
        mov ss, eax
        mov esp, 0xaaaa0000
        push dword 0x11223344
        mov ecx, esp
        pop edx
        mov esi, esp
        mov eax, KDATA
        mov ss, eax
        mov esp, ebx
        SHOW "16-bit stack: ESP after a push", ecx
        SHOW "ESP after a pop", esi
        SHOW "popped", edx
        mov eax, KDATA
        mov es, eax

        ; --- LAR, LSL, VERR, VERW, ARPL
%macro DESCR 2 ; selector, name
        mov ecx, %1
        xor eax, eax
        lar eax, ecx
        call put_zf
        bt dword [zf], 0
        jnc %%keep
        and eax, 0xf0ff00               ; the other bits are undefined
%%keep:
        SAY "LAR ", %2, ": "
        HEX eax
        call show_zf
        xor eax, eax
        lsl eax, ecx
        call put_zf
        SAY "LSL ", %2, ": "
        HEX eax
        call show_zf
        verr cx
        call put_zf
        SAY "VERR ", %2, ": "
        call show_zf
        verw cx
        call put_zf
        SAY "VERW ", %2, ": "
        call show_zf
%endmacro
        DESCR KDATA, "data"
        DESCR KCODE32, "code"
        DESCR UDATA, "user data"
        DESCR KDATA | 3, "data with RPL 3"
        DESCR TSS, "TSS"
        DESCR 0, "null"
        DESCR 0xff0, "beyond the GDT"
        SETDESC A_, 0, 0x12345, 0x91, 0         ; read-only, byte limit
        DESCR A_, "read-only"
        SETDESC A_, 0, 0x12, 0x82, 0
        DESCR A_, "LDT"
        SETGATE A_, KCODE32, gate0, CALL32, 0
        DESCR A_, "call gate"
        SETDESC A_, 0, 0x12, 0x80, 0
        DESCR A_, "type 0"
        mov ax, 0x1010
        mov cx, 3
        arpl ax, cx
        call put_zf
        SAY "ARPL 0 with 3: "
        HEX eax
        call show_zf
        mov ax, 0x1013
        mov cx, 1
        arpl ax, cx
        call put_zf
        SAY "ARPL 3 with 1: "
        HEX eax
        call show_zf

        ; --- LDT
        SETDESC_AT LDT, ldt, 15, 0x82, 0
        mov eax, LDT
        lldt ax
        xor eax, eax
        sldt ax
        SHOW "SLDT", eax
        LOADS ds, 0xc, "DS from the LDT"
        LOADS ds, 0x14, "DS beyond the LDT"
        TRY
        mov eax, KDATA
        HERE
        lldt ax
        END "LLDT of data"
        TRY
        mov eax, 0xc
        HERE
        lldt ax
        END "LLDT from the LDT"
        SETDESC_AT A_, ldt, 15, 0x02, 0
        TRY
        mov eax, A_
        HERE
        lldt ax
        END "LLDT not present"
        TRY
        mov eax, TSS
        HERE
        ltr ax
        END "LTR busy"
        SETDESC_AT A_, tss_b, 0x67, 0x09, 0
        TRY
        mov eax, A_
        HERE
        ltr ax
        END "LTR not present"
        str eax
        SHOW "STR", eax

        ; --- far jumps, calls, returns
        TRY
        jmp 0:main
        END "JMP to null"
        TRY
        jmp 0xff0:main
        END "JMP beyond the GDT"
        TRY
        jmp KDATA:main
        END "JMP to data"
        TRY
        jmp UCODE32:main
        END "JMP to ring 3"
        SETDESC A_, 0, 0xfffff, 0x1b, 0xc
        TRY
        jmp A_:main
        END "JMP to code not present"
        SETDESC A_, 0, 0xff, 0x9b, 0
        TRY
        jmp A_:0x100
        END "JMP beyond the limit"
        TRY
        jmp KCODE32 | 3:.j1
.j1:    END "JMP with RPL 3"
        TRY
        jmp KCODE32:.j2
.j2:    END "JMP"
        TRY
        call KCODE32:far_sub
        END "far CALL and RET"
        TRY
        call far [far_pointer]
        END "far CALL through memory"
        SETDESC A_, 0, 0xfffff, 0xff, 0xc       ; conforming, DPL 3
        TRY
        call A_:far_sub
        END "CALL to conforming code of ring 3"
        SETDESC A_, 0, 0xfffff, 0x9f, 0xc       ; conforming, DPL 0
        TRY
        USER u_conforming
        END "user CALL to conforming code of ring 0", u_conforming
        SHOW "its CS", [seen]
        TRY
        push dword 0
        push dword main
        HERE
        retf
        END "RETF to null"
        TRY
        push dword UDATA
        push dword user_stack_top
        push dword UCODE32
        push dword user_done
        retf
        END "RETF to ring 3", user_done
        FRAME "RETF to ring 3"
        TRY
        push dword 0
        push dword user_stack_top
        push dword UCODE32
        push dword user_done
        HERE
        retf
        END "RETF to ring 3 with a null SS"
        TRY
        mov ecx, UDATA
        mov es, ecx
        mov ecx, KDATA
        mov ds, ecx
        mov fs, ecx
        push dword UDATA
        push dword user_stack_top - 64
        push dword 0x11
        push dword 0x22
        push dword UCODE32
        push dword u_segs
        retf 8
        END "RETF 8 to ring 3", u_segs
        SHOW "DS in ring 3", [seen]
        SHOW "ES in ring 3", [seen + 4]
        SHOW "FS in ring 3", [seen + 8]
        mov eax, user_stack_top
        sub eax, [fault.sp]
        SHOW "ESP in ring 3 below the top", eax

        ; --- call gates
        SETGATE A_, KCODE32, gate0, CALL32, 0
        TRY
        call A_:0
        END "call gate, same ring"
        SHOW "dwords on the stack", [seen]
        TRY
        USER u_gate
        END "call gate of ring 0 from ring 3", u_gate
        SETGATE A_, KCODE32, gate0, CALL32 | DPL3, 0
        TRY
        USER u_gate
        END "call gate from ring 3", u_gate
        SHOW "dwords on the stack", [seen]
        SHOW "CS in the gate's code", [seen + 4]
        SHOW "SS in the gate's code", [seen + 8]
        SHOW "saved CS", [seen + 12]
        SETGATE A_, KCODE32, gate3, CALL32 | DPL3, 3
        TRY
        USER u_gate3
        END "call gate with 3 parameters", u_gate3
        SHOW "dwords on the stack", [seen]
        SHOW "first pushed", [seen + 4]
        SHOW "last pushed", [seen + 8]
        mov eax, user_stack_top
        sub eax, [fault.sp]
        SHOW "ESP afterwards below the top", eax
        SETGATE A_, KCODE32, gate0, CALL32 & ~0x80 | DPL3, 0
        TRY
        USER u_gate
        END "call gate not present", u_gate
        SETGATE A_, KDATA, gate0, CALL32 | DPL3, 0
        TRY
        USER u_gate
        END "call gate to data", u_gate
        SETGATE A_, 0, gate0, CALL32 | DPL3, 0
        TRY
        USER u_gate
        END "call gate to null", u_gate
        SETGATE A_, KCODE32, gate0, CALL32 | DPL3, 0
        TRY
        USER u_gate_jmp
        END "JMP through a call gate to an inner ring", u_gate_jmp
        TRY
        jmp A_:0
        END "JMP through a call gate, same ring", gate0
        ; to ring 1
        SETDESC B_, 0, 0xfffff, 0xbb, 0xc
        SETGATE A_, B_, gate1, CALL32 | DPL3, 0
        mov dword [tss32 + 12], ring0_stack_top
        mov dword [tss32 + 16], 0
        TRY
        USER u_gate
        END "inner SS null", u_gate
        mov dword [tss32 + 16], UDATA
        TRY
        USER u_gate
        END "inner SS of ring 3", u_gate
        mov dword [tss32 + 16], 0xff0
        TRY
        USER u_gate
        END "inner SS beyond the GDT", u_gate
        SETDESC C_, 0, 0xfffff, 0x33, 0xc
        mov dword [tss32 + 16], C_ | 1
        TRY
        USER u_gate
        END "inner SS not present", u_gate
        SETDESC C_, 0, 0xfffff, 0xb3, 0xc
        TRY
        USER u_gate
        END "call gate to ring 1", gate1
        FRAME "call gate to ring 1"
        SETDESC B_, 0, 0xffff, 0x9b, 0
        SETGATE A_, B_, 0x7000, CALL16 | DPL3, 0
        TRY
        USER u_gate
        END "16-bit call gate", 0x7000
        SHOW "words on the stack", [seen]

        ; --- interrupt gates
        TRY
        USER u_int42
        END "INT 42 from ring 3", u_int42
        SETIDT 0x42, h_flags, KCODE32, INT32 | DPL3
        push dword 0x202
        popfd
        int 0x42
        cli
        SHOW "flags in an interrupt gate", [seen]
        SETIDT 0x42, h_flags, KCODE32, TRAP32
        sti
        int 0x42
        cli
        SHOW "flags in a trap gate", [seen]
        SETIDT 0x42, 0x7010, B_, INT16
        TRY
        int 0x42
        END "16-bit interrupt gate", 0x7000
        SHOW "words on the stack", [seen]
        SETIDT 0x42, h_flags, KDATA, INT32
        TRY
        int 0x42
        END "interrupt gate to data"
        SETIDT 0x42, h_flags, 0xff0, INT32
        TRY
        int 0x42
        END "interrupt gate beyond the GDT"
        SETIDT 0x42, h_flags, UCODE32, INT32
        TRY
        int 0x42
        END "interrupt gate to an outer ring"
        SETIDT 0x42, h_flags, KCODE32, 0x8c
        TRY
        int 0x42
        END "call gate in the IDT"
        SETIDT 0x42, h_flags, KCODE32, INT32 & ~0x80
        TRY
        int 0x42
        END "interrupt gate not present"
        SETIDT 0x42, stubs + 0x42 * STUB_SIZE, KCODE32, INT32
        TRY
        HERE
        int3
        END "INT3"
        TRY
        xor eax, eax
        HERE
        into
        END "INTO without OF"
        TRY
        mov al, 0x7f
        inc al
        HERE
        into
        END "INTO with OF"
        TRY
        mov eax, 5
        HERE
        bound eax, [bounds]
        END "BOUND inside"
        TRY
        mov eax, 11
        HERE
        bound eax, [bounds]
        END "BOUND outside"
        TRY
        mov eax, -3
        HERE
        bound eax, [bounds]
        END "BOUND below"
        TRY
        HERE
        aam 0
        END "AAM 0"
        TRY
        USER user_done
        END "INT 80 from ring 3", user_done
        FRAME "INT 80 from ring 3"
        mov eax, ring0_stack_top
        sub eax, [fault.frame]
        SHOW "bytes of its frame", eax

        TRY
        push dword 2 | FL_NT                    ; the upper half of EFLAGS is not taken
        push word 2
        push word CODE16
        push word 0x7030
        o16 iret
        END "16-bit IRET to 16-bit code", 0x7030
        FRAME "16-bit IRET to 16-bit code"
        TRY
        push word UDATA
        push word 0x6000
        push word 2
        push word UCODE32
        push word 0x7030
        o16 iret
        END "16-bit IRET to ring 3", 0x7030
        SHOW "its ESP, lower half", [fault.sp]

        ; --- tasks
        call make_tasks
        SETDESC_AT C_, tss_b, 0x67, 0x89, 0
        TRY
        call C_:0
        END "CALL of a TSS"
        SHOW "EAX in the task", [seen]
        SHOW "flags in the task", [seen + 4]
        SHOW "TR in the task", [seen + 8]
        SHOW "link", [seen + 12]
        mov eax, cr0
        and eax, CR0_TS
        SHOW "CR0.TS", eax
        clts
        movzx eax, byte [gdt + C_ + 5]
        SHOW "access byte of its TSS afterwards", eax
        movzx eax, byte [gdt + TSS + 5]
        SHOW "access byte of the caller's", eax
        str eax
        SHOW "TR afterwards", eax
        ; by JMP, and back by JMP
        call make_tasks
        mov dword [tss_b + 0x20], task_jmp
        TRY
        jmp C_:0
        END "JMP to a TSS and back"
        SHOW "access byte of the old TSS in the task", [seen]
        SHOW "flags in the task", [seen + 4]
        clts
        ; task gate in the GDT and the IDT
        call make_tasks
        mov dword [gdt + D_], C_ << 16
        mov dword [gdt + D_ + 4], 0x8500
        TRY
        call D_:0
        END "CALL of a task gate"
        SHOW "EAX in the task", [seen]
        call make_tasks
        mov dword [idt32 + 0x43 * 8], C_ << 16
        mov dword [idt32 + 0x43 * 8 + 4], 0x8500
        TRY
        int 0x43
        END "INT through a task gate"
        SHOW "flags in the task", [seen + 4]
        ; #DF and #GP by task gates: error code on the new stack
        call make_tasks
        mov dword [tss_b + 0x20], task_error
        mov dword [idt32 + 13 * 8], C_ << 16
        mov dword [idt32 + 13 * 8 + 4], 0x8500
        mov eax, 0xff0
        mov ds, eax
        SHOW "#GP by a task gate: error code", [seen]
        SHOW "its return address points to MOV DS", [seen + 4]
        SETIDT 13, stubs + 13 * STUB_SIZE, KCODE32, INT32
        mov eax, KDATA
        mov ds, eax
        clts
        ; bad ones
        SETDESC_AT C_, tss_b, 0x67, 0x8b, 0
        TRY
        call C_:0
        END "CALL of a busy TSS"
        SETDESC_AT C_, tss_b, 0x67, 0x09, 0
        TRY
        call C_:0
        END "CALL of a TSS not present"
        SETDESC_AT C_, tss_b, 0x66, 0x89, 0
        TRY
        call C_:0
        END "CALL of a short TSS"
        push dword FL_NT | 2
        popfd
        mov word [tss32], KDATA
        TRY
        iretd
        END "IRET with NT and a bad link"
        push dword 2
        popfd
        call make_tasks
        SETDESC_AT C_, tss_b, 0x67, 0x89, 0
        ; faults in the new task, whose stack is not good: #TS and others by a task gate
        mov edi, tss_c
        mov esi, tss_b
        mov ecx, 26
        rep movsd
        mov dword [tss_c + 0x20], task_fault
        mov dword [tss_c + 0x38], fault_stack_top
        SETDESC_AT D_, tss_c, 0x67, 0x89, 0
        mov dword [idt32 + 10 * 8], D_ << 16
        mov dword [idt32 + 10 * 8 + 4], 0x8500
        mov dword [idt32 + 11 * 8], D_ << 16
        mov dword [idt32 + 11 * 8 + 4], 0x8500
        mov dword [idt32 + 12 * 8], D_ << 16
        mov dword [idt32 + 12 * 8 + 4], 0x8500
%macro BAD_TASK 3 ; offset in the TSS, value, name
        call make_tasks
        SETDESC_AT C_, tss_b, 0x67, 0x89, 0
        mov dword [tss_b + %1], %2
        mov dword [seen], -1
        jmp C_:0
        SAY %3, ": error "
        HEX [seen]
        SAY " from "
        HEX [seen + 4]
        SAY 10
        clts
%endmacro
        BAD_TASK 0x50, KCODE32, "new task's SS is code"
        BAD_TASK 0x50, 0, "new task's SS is null"
        BAD_TASK 0x50, UDATA, "new task's SS is of ring 3"
        BAD_TASK 0x54, 0xff0, "new task's DS is beyond the GDT"
        BAD_TASK 0x54, KCODE64 + 0x40, "new task's DS is no segment"
        BAD_TASK 0x4c, KDATA, "new task's CS is data"
        BAD_TASK 0x4c, 0, "new task's CS is null"
        BAD_TASK 0x60, KDATA, "new task's LDT is data"
        SETDESC B_, 0, 0xfffff, 0x13, 0xc
        BAD_TASK 0x54, B_, "new task's DS is not present"
        BAD_TASK 0x50, B_, "new task's SS is not present"
        SETIDT 10, stubs + 10 * STUB_SIZE, KCODE32, INT32
        SETIDT 11, stubs + 11 * STUB_SIZE, KCODE32, INT32
        SETIDT 12, stubs + 12 * STUB_SIZE, KCODE32, INT32
        mov eax, KDATA
        mov ds, eax
        ; 16-bit TSS
        call make_tasks
        SETDESC_AT C_, tss16, 0x2b, 0x81, 0
        TRY
        call C_:0
        END "CALL of a 16-bit TSS"
        SHOW "AX in the task", [seen]
        clts
        ; T bit: a debug trap in the new task
        call make_tasks
        SETDESC_AT C_, tss_b, 0x67, 0x89, 0
        mov word [tss_b + 0x64], 1
        TRY
        jmp C_:0
        END "T bit of a TSS", task_call
        mov eax, dr6
        SHOW "DR6", eax
        mov eax, 0xffff0ff0
        mov dr6, eax
        call back_to_own_task

        ; --- ring 3: privileged instructions and ports
        TRY
        USER u_cli
        END "CLI at IOPL 0", u_cli
        TRY
        USER u_cli, 0x3002
        END "CLI at IOPL 3", u_cli
        TRY
        USER u_hlt
        END "HLT", u_hlt
        TRY
        USER u_ltr
        END "LTR", u_ltr
        TRY
        USER u_clts
        END "CLTS", u_clts
        TRY
        USER u_sgdt
        END "SGDT without UMIP", u_sgdt
        TRY
        USER u_in
        END "IN of a denied port", u_in
        TRY
        USER u_in, 0x3002
        END "IN at IOPL 3", u_in
        and byte [tss32 + 0x68 + 0x80 / 8], ~1
        TRY
        USER u_in
        END "IN of an allowed port", u_in
        TRY
        USER u_inw
        END "IN of 2 ports, 1 allowed", u_inw
        and byte [tss32 + 0x68 + 0x80 / 8], ~2
        TRY
        USER u_inw
        END "IN of 2 allowed ports", u_inw
        TRY
        USER u_ind
        END "IN of 4 ports, 2 allowed", u_ind
        TRY
        USER u_outs
        END "OUTSB to a denied port", u_outs
        TRY
        USER u_top
        END "IN of port FFFF", u_top
        and byte [tss32 + 0x68 + 0x1fff], 0x7f
        TRY
        USER u_top
        END "IN of port FFFF, allowed", u_top
        mov word [tss32 + 0x66], 0x2069
        TRY
        USER u_in
        END "bitmap beyond the TSS", u_in
        mov word [tss32 + 0x66], 0x68

        ; --- #AC
        mov eax, cr0
        or eax, CR0_AM
        mov cr0, eax
        TRY
        USER u_misaligned
        END "misaligned access without AC", u_misaligned
        TRY
        push dword FL_AC | 2
        popfd
        mov eax, [PHYS + 1]
        END "misaligned access in ring 0 with AC"
        mov eax, cr0
        and eax, ~CR0_AM
        mov cr0, eax
        TRY
        USER u_misaligned, FL_AC | 2
        END "misaligned access with AC, AM off", u_misaligned
        EXIT

; ZF of the last instruction, kept for show_zf.
put_zf: pushfd
        push eax
        mov eax, [esp + 4]
        shr eax, 6
        and eax, 1
        mov [zf], eax
        pop eax
        popfd
        ret
show_zf:
        SAY " ZF="
        HEX [zf]
        SAY 10
        ret

far_sub: retf
gate0:  mov eax, ring0_stack_top
        sub eax, esp
        shr eax, 2
        cmp eax, 100
        jb .inner
        mov eax, [resume_sp]
        sub eax, esp
        shr eax, 2
.inner: mov [seen], eax
        mov eax, cs
        mov [seen + 4], eax
        mov eax, ss
        mov [seen + 8], eax
        mov eax, [esp + 4]
        mov [seen + 12], eax
        cmp dword [resume_sp], esp
        je .jumped
        retf
.jumped: int 0x42
gate1:  int 0x80
gate3:  mov eax, ring0_stack_top
        sub eax, esp
        shr eax, 2
        mov [seen], eax
        mov eax, [esp + 16]
        mov [seen + 4], eax
        mov eax, [esp + 8]
        mov [seen + 8], eax
        retf 12
h_flags:
        pushfd
        pop dword [seen]
        iretd

; TSS B: a task with its own stack.
make_tasks:
        mov edi, tss_b
        xor eax, eax
        mov ecx, 26
        rep stosd
        mov eax, cr3
        mov [tss_b + 0x1c], eax
        mov dword [tss_b + 0x20], task_call
        mov dword [tss_b + 0x24], 2
        mov dword [tss_b + 0x28], 0xaaaa        ; EAX
        mov dword [tss_b + 0x38], task_stack_top
        mov dword [tss_b + 0x48], KDATA         ; ES
        mov dword [tss_b + 0x4c], KCODE32
        mov dword [tss_b + 0x50], KDATA         ; SS
        mov dword [tss_b + 0x54], KDATA         ; DS
        mov dword [tss_b + 0x58], KDATA
        mov dword [tss_b + 0x5c], KDATA
        mov dword [tss_b + 0x64], 0x680000
        mov edi, tss16
        mov ecx, 11
        rep stosd
        mov word [tss16 + 14], 0x7020           ; IP
        mov word [tss16 + 16], 2
        mov word [tss16 + 18], 0xbbbb
        mov word [tss16 + 26], 0x6ff0           ; SP
        mov word [tss16 + 34], DATA16           ; ES, CS, SS, DS
        mov word [tss16 + 36], CODE16
        mov word [tss16 + 38], DATA16
        mov word [tss16 + 40], KDATA
        ret
back_to_own_task:
        ; TR names the failed task: its descriptor is made free and our own loaded
        SETDESC_AT C_, tss_b, 0x67, 0x89, 0
        mov byte [gdt + TSS + 5], 0x89
        mov eax, TSS
        ltr ax
        clts
        ret

task_call:
        mov [seen], eax
        pushfd
        pop dword [seen + 4]
        str eax
        mov [seen + 8], eax
        movzx eax, word [tss_b]
        mov [seen + 12], eax
        iretd
task_ret: iretd
task_jmp:
        movzx eax, byte [gdt + TSS + 5]
        mov [seen], eax
        pushfd
        pop dword [seen + 4]
        jmp TSS:0
task_fault:
        pop dword [seen]
        movzx eax, word [tss_c]
        mov [seen + 4], eax
        mov dword [tss_c + 0x24], 2
        jmp TSS:0
        jmp task_fault                  ; where it is entered again
task_error:
        pop dword [seen]
        mov eax, [tss32 + 0x20]
        movzx eax, word [eax]
        mov [seen + 4], eax             ; 8e d8
        add dword [tss32 + 0x20], 2     ; skip it
        iretd

section .low
        bits 16
; 7000: 16-bit call gate's code
        mov ax, KDATA
        mov ds, ax
        mov eax, ring0_stack_top
        sub eax, esp
        jmp low_gate
        times 0x10 - ($ - $$) db 0x90
; 7010: 16-bit interrupt gate's code
        mov eax, [dword resume_sp]
        sub eax, esp
        jmp low_int
        times 0x20 - ($ - $$) db 0x90
; 7020: 16-bit task
        movzx eax, ax
        mov [dword seen], eax
        iret
        times 0x30 - ($ - $$) db 0x90
; 7030
        int 0x80
low_gate:
        shr eax, 1
        mov [dword seen], eax
        int 0x80                        ; it cannot return: it keeps 16 bits of the pointer
low_int:
        shr eax, 1
        mov [dword seen], eax
        int 0x80

section .user
        bits 32
u_conforming:
        call A_:far_seen
        int 0x80
far_seen:
        mov eax, cs
        mov ecx, UDATA
        mov ds, ecx
        mov [seen], eax
        retf
u_segs: mov ecx, ds
        mov eax, es
        mov edx, fs
        mov esi, UDATA
        mov ds, esi
        mov [seen], ecx
        mov [seen + 4], eax
        mov [seen + 8], edx
        int 0x80
u_gate: call A_:0
        int 0x80
u_gate_jmp:
        jmp A_:0
u_gate3:
        push dword 0x111
        push dword 0x222
        push dword 0x333
        call A_:0
        int 0x80
u_int42: int 0x42
u_cli:  cli
        int 0x80
u_hlt:  hlt
u_ltr:  ltr ax
u_clts: clts
u_sgdt: sub esp, 8
        sgdt [esp]
        int 0x80
u_in:   in al, 0x80
        int 0x80
u_inw:  in ax, 0x80
        int 0x80
u_ind:  in eax, 0x80
        int 0x80
u_outs: mov ecx, UDATA
        mov ds, ecx
        mov esi, user_stack_top - 16
        mov edx, 0x90
        outsb
u_top:  mov edx, 0xffff
        in al, dx
        int 0x80
u_misaligned:
        mov ecx, UDATA
        mov ds, ecx
        mov eax, [user_stack_top - 15]
        int 0x80

section .data
far_bad: dd 0
        dw 0xff0
far_good: dd 0x55667788
        dw KDATA
far_pointer: dd far_sub
        dw KCODE32
bounds: dd -2, 10
align 8
ldt:    dq 0
        DESC 0, 0xfffff, 0x93, 0xc

section .bss
alignb 8
seen:   resd 4
zf:     resd 1
tss_b:  resb 104
tss16:  resb 44
        resb 1024
task_stack_top:
tss_c:  resb 104
        resb 1024
fault_stack_top:
