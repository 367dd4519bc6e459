; Virtual-8086 mode (SDM 3A 20): entry by IRET and by a task, what is allowed at which IOPL, exceptions and
; interrupts out of it, the frame, back again.
%include "bare.inc"

; Enters virtual-8086 mode at an offset of segment 0 (section .low); flags beside VM are given.
%macro V86 2 ; offset, flags
        push dword 0x44                 ; GS FS DS ES
        push dword 0x33
        push dword 0x22
        push dword 0x11
        push dword 0                    ; SS
        push dword 0x6ffe
        push dword %2 | FL_VM | 2
        push dword 0
        push dword %1
        iretd
%endmacro
%define OFF(label) (LOW_CODE + label - low_start)

%macro FRAME 1
        SAY %1, ": cs="
        HEXD [fault.cs]
        SAY " flags="
        HEXD [fault.flags]
        SAY " ss="
        HEXD [fault.ss]
        SAY " sp="
        HEXD [fault.sp]
        SAY 10
%endmacro
%macro CASE 3-4 ; label, flags, name [, label ip is relative to]
        TRY
        V86 OFF(%1), %2
  %if %0 == 4
        END %3, OFF(%4)
  %else
        END %3, OFF(%1)
  %endif
%endmacro

section .text
main:   CASE v_int80, 0x3000, "INT 80 at IOPL 3"
        FRAME "INT 80 at IOPL 3"
        mov esi, [fault.frame]
        SHOW "ES in the frame", [esi + 20]
        SHOW "DS", [esi + 24]
        SHOW "FS", [esi + 28]
        SHOW "GS", [esi + 32]
        mov eax, ring0_stack_top
        sub eax, esi
        SHOW "bytes of the frame", eax
        CASE v_int80, 0, "INT 80 at IOPL 0"
        CASE v_cli, 0, "CLI at IOPL 0"
        CASE v_cli, 0x3000, "CLI at IOPL 3"
        CASE v_sti, 0, "STI at IOPL 0"
        CASE v_sti, 0x3000, "STI at IOPL 3"
        FRAME "STI at IOPL 3"
        CASE v_pushf, 0, "PUSHF at IOPL 0"
        CASE v_pushf, 0x3000, "PUSHF at IOPL 3"
        CASE v_popf, 0, "POPF at IOPL 0"
        CASE v_popf, 0x3000, "POPF at IOPL 3"
        FRAME "POPF of FFFF at IOPL 3"
        CASE v_iret, 0, "IRET at IOPL 0"
        CASE v_iret, 0x3000, "IRET at IOPL 3", v_iret.back
        CASE v_hlt, 0x3000, "HLT"
        CASE v_cr0, 0x3000, "MOV CR0"
        CASE v_lmsw, 0x3000, "LMSW"
        CASE v_smsw, 0x3000, "SMSW"
        CASE v_lgdt, 0x3000, "LGDT"
        CASE v_lldt, 0x3000, "LLDT"
        CASE v_sldt, 0x3000, "SLDT"
        CASE v_str, 0x3000, "STR"
        CASE v_lar, 0x3000, "LAR"
        CASE v_verr, 0x3000, "VERR"
        CASE v_arpl, 0x3000, "ARPL"
        CASE v_in, 0x3000, "IN of a denied port"
        and byte [tss32 + 0x68 + 0x80 / 8], ~1
        CASE v_in, 0, "IN of an allowed port"
        CASE v_int3, 0, "INT3 at IOPL 0"
        CASE v_ud2, 0, "UD2"
        CASE v_de, 0, "DIV by 0"
        CASE v_pushw, 0, "push and pop, far call"
        SHOWD "CS pushed by the far call", [0x520]
        SHOWD "DS base", [0x524]
        CASE v_mov, 0, "segment loads"
        SHOWD "read through ES 0050", [0x528]
        CASE v_32, 0, "32-bit operands and addresses"
        SHOWD "result", [0x52c]
        CASE v_step, 0x100, "single step"
        CASE v_sysenter, 0x3000, "SYSENTER without MSR"
        ; interrupt gate of a ring that is not 0
        SETDESC SLOT, 0, 0xfffff, 0xfb, 0xc
        SETIDT 0x45, h_none, SLOT, INT32 | DPL3
        CASE v_int45, 0x3000, "interrupt gate to ring 3"
        SETDESC SLOT, 0, 0xfffff, 0x9f, 0xc
        SETIDT 0x45, h_none, SLOT, INT32 | DPL3
        CASE v_int45, 0x3000, "interrupt gate to conforming code"
        ; by a task switch
        mov edi, tss_v
        xor eax, eax
        mov ecx, 26
        rep stosd
        mov dword [tss_v + 0x04], ring0_stack_top
        mov dword [tss_v + 0x08], KDATA
        mov dword [tss_v + 0x20], OFF(v_task)
        mov dword [tss_v + 0x24], FL_VM | 0x3002
        mov dword [tss_v + 0x38], 0x6ff0
        mov dword [tss_v + 0x48], 0x50
        mov dword [tss_v + 0x54], 0x60
        mov dword [tss_v + 0x64], 0x680000
        SETDESC_AT SLOT + 8, tss_v, 0x67, 0x89, 0
        TRY
        jmp SLOT + 8:0
        END "by a task switch", OFF(v_task)
        FRAME "by a task switch"
        mov esi, [fault.frame]
        SHOW "ES", [esi + 20]
        SHOW "DS", [esi + 24]
        str eax
        SHOW "TR", eax
        ; IRET with VM from ring 3 does not enter it
        TRY
        USER u_vm
        END "IRETD with VM in ring 3", user_done
        FRAME "IRETD with VM in ring 3"
        EXIT
h_none: iretd

section .low
        bits 16
v_int80: int 0x80
v_cli:  cli
        int 0x80
v_sti:  sti
        int 0x80
v_pushf: pushf
        int 0x80
v_popf: push word 0xfeff
        popf
        int 0x80
v_iret: push word 2
        push word 0
        push word OFF(.back)
        iret
.back:  int 0x80
v_hlt:  hlt
v_cr0:  mov eax, cr0
v_lmsw: lmsw ax
v_smsw: smsw ax
        int 0x80
v_lgdt: lgdt [0]
v_lldt: lldt ax
v_sldt: sldt ax
v_str:  str ax
v_lar:  lar ax, cx
v_verr: verr ax
v_arpl: arpl ax, cx
v_in:   in al, 0x80
        int 0x80
v_int3: int3
v_ud2:  ud2
v_de:   xor cx, cx
        div cx
v_pushw:
        push word 0x1234
        pop ax
        cmp ax, 0x1234
        jne v_ud2
        call 0:OFF(.far)
        mov ax, ds
        shl ax, 4
        xor bx, bx
        mov ds, bx
        mov [0x524], ax
        mov word [0x526], 0
        int 0x80
.far:   mov bp, sp
        mov ax, [bp + 2]
        xor bx, bx
        push ds
        mov ds, bx
        mov [0x520], ax
        mov word [0x522], 0
        pop ds
        retf
v_mov:  xor ax, ax
        mov ds, ax
        mov word [0x502], 0x5678
        mov ax, 0x50
        mov es, ax
        mov ax, [es:2]
        mov [0x528], ax
        mov word [0x52a], 0
        int 0x80
v_32:   xor eax, eax
        mov ds, ax
        mov ebx, 0x500
        mov ecx, 4
        mov dword [ebx + ecx * 2], 0x11223344
        mov eax, [ebx + 8]
        mov [0x52c], eax
        int 0x80
v_step: nop
        nop
v_sysenter: sysenter
v_int45: int 0x45
v_task: int 0x80

section .user
        bits 32
u_vm:   push dword UDATA
        push dword user_stack_top
        push dword FL_VM | 2
        push dword UCODE32
        push dword user_done
        iretd

section .bss
alignb 8
tss_v:  resb 104
