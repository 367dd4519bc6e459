; Transitions between all modes (SDM 3A 9.9, 10.8.5), A20, real-mode interrupts, unreal mode, wrap at 1 MiB.
%include "bare.inc"

section .text
main:   mov dword [ivt_esp], esp
        ; --- protected to real and back
        mov word [0x42 * 4], 0x7000 + rm_int - low_start
        mov word [0x42 * 4 + 2], 0
        mov word [6 * 4], 0x7000 + rm_ud - low_start
        mov word [6 * 4 + 2], 0
        mov word [0 * 4], 0x7000 + rm_de - low_start
        mov word [0 * 4 + 2], 0
        mov word [13 * 4], 0x7000 + rm_gp - low_start
        mov word [13 * 4 + 2], 0
        mov dword [back], .real_done
        jmp CODE16:enter_real
.real_done:
        SHOWD "real mode: INT 42's flags", [rm_flags]
        SHOWD "stack in the handler", [rm_sp]
        SHOWD "words there: IP offset", [rm_words]
        SHOWD "CS", [rm_words + 4]
        SHOWD "flags", [rm_words + 8]
        SHOWD "UD2 in real mode", [rm_ud_count]
        SHOWD "DIV by 0 in real mode: IP offset", [rm_de_ip]
        SHOWD "unreal mode: load above 1 MiB", [rm_unreal]
        SHOWD "segment wrap: FFFF:0010", [rm_wrap]
        SHOWD "A20 off: FFFF:0010", [rm_a20]
        SHOWD "PUSH SP", [rm_push_sp]
        SHOWD "32-bit operands", [rm_op32]
        SHOWD "CALL FAR and RETF", [rm_far]
        SHOWD "MOV CR0 in real mode", [rm_cr0]
        SHOWD "SMSW", [rm_smsw]
        SHOWD "LOOP with CX, ECX", [rm_loop]
        SHOWD "16-bit address wraps", [rm_ea]

        ; --- protected, PAE, long, compatibility and all the way back
        GO64 in64
        bits 64
in64:   SAY "64-bit mode: ok", 10
        mov rax, 0x1122334455667788
        mov r15, 0x99
        ; compatibility mode by far jump through memory, and back
        jmp far dword [to_compat]
        bits 32
compat: mov eax, 0x12345678
        mov ecx, esp
        jmp KCODE64:in64_again
        bits 64
in64_again:
        SHOW "compatibility mode and back: R15", r15
        SHOW "RAX", rax
        ; far call to compatibility mode and far return
        call far dword [to_compat_sub]
        SHOW "far call to compatibility mode: EAX", rax
        ; 64-bit far call
        call far dword [to_64_sub]
        SHOW "far call to 64-bit code", rax
        ; call gate to 64-bit code
        mov eax, sub64_gate
        mov [gdt + SLOT], ax
        mov word [gdt + SLOT + 2], KCODE64
        mov word [gdt + SLOT + 4], 0x8c00
        shr eax, 16
        mov [gdt + SLOT + 6], ax
        mov dword [gdt + SLOT + 8], 0
        mov dword [gdt + SLOT + 12], 0
        call far dword [to_gate]
        SHOW "64-bit call gate", rax
        TRY
        USER u_call_gate
        END "64-bit call gate of ring 0 from ring 3", u_call_gate
        or byte [gdt + SLOT + 5], DPL3
        TRY
        USER u_call_gate
        END "64-bit call gate from ring 3", u_call_gate
        SHOW "saved SS", [gate_ss]
        SHOW "SS there", [gate_ss + 8]
        mov word [gdt + SLOT + 2], KCODE32
        TRY
        call far dword [to_gate]
        END "64-bit call gate to 32-bit code"
        mov word [gdt + SLOT + 2], KCODE64
        mov dword [gdt + SLOT + 12], 0x100
        TRY
        call far dword [to_gate]
        END "64-bit call gate with a type in its upper half"
        mov dword [gdt + SLOT + 12], 0
        mov dword [gdt + SLOT + 8], 0x800000
        TRY
        call far dword [to_gate]
        END "64-bit call gate to a non-canonical address"
        mov dword [gdt + SLOT + 8], 0
        ; 16-bit code in compatibility mode: what a segment limit means
        push KDATA64
        mov rax, rsp
        push rax
        push 2
        push KCODE32
        push leave_long
        iretq
        bits 32
leave_long:
        SAY "compatibility mode in ring 0: ok", 10
        ; long mode off
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        jmp .nopaging
.nopaging:
        lidt [idtr32]
        mov ecx, MSR_EFER
        rdmsr
        SHOW "EFER after PG off", eax
        and eax, ~EFER_LME
        wrmsr
        mov eax, cr4
        and eax, ~CR4_PAE
        mov cr4, eax
        SAY "protected mode again: ok", 10
        TRY
        HERE
        ud2
        END "exception in protected mode"
        ; real mode again, then long mode straight from it
        mov dword [back], .real2
        mov dword [rm_flags], 0
        jmp CODE16:enter_real
.real2: SHOWD "real mode again: INT 42's flags", [rm_flags]
        GO64 in64_2
        bits 64
in64_2: SAY "64-bit mode again: ok", 10
        ; PAE without long mode needs PG off, PAE off, LME off: CR4.PAE cannot be cleared here
        mov rax, cr4
        SHOW "CR4", rax
        mov ecx, MSR_EFER
        rdmsr
        SHOW "EFER", rax
        EXIT

        bits 32
sub32:  mov eax, 0x77777777
        retf
        bits 64
sub64:  mov eax, 0x66
        retf
sub64_gate:
        mov eax, 0x5555
        mov rdx, [rsp + 24]
        mov [gate_ss], rdx
        mov edx, ss
        mov [gate_ss + 8], rdx
        o64 retf

section .low
        bits 16
enter_real:
        mov ax, DATA16
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov ss, ax
        mov sp, 0x6000
        lidt [cs:0x7000 + rm_idtr - low_start]
        mov eax, cr0
        and al, ~1
        mov cr0, eax
        jmp 0:0x7000 + .real - low_start
.real:  xor ax, ax
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov fs, ax
        mov gs, ax
        ; results go above 1 MiB: unreal FS later; here to low memory
        sti
        cli
        push dword 0x200 + 2
        popfd
.int:   int 0x42
.int_end:
        cli
        mov word [0x7000 + rm_vars - low_start + 44], .int_end - low_start + 0x7000
        ud2
        xor cx, cx
.div:   div cx
.div_end:
        ; A20 and FFFF:0010
        mov ax, 0xffff
        mov es, ax
        push dword [0]
        mov dword [0], 0x11111111
        mov eax, [es:0x10]              ; 100000
        mov [0x7000 + rm_vars - low_start + 4], eax
        in al, 0x92
        and al, ~2
        out 0x92, al
        mov eax, [es:0x10]              ; 0
        mov [0x7000 + rm_vars - low_start + 8], eax
        in al, 0x92
        or al, 2
        out 0x92, al
        pop dword [0]
        push sp
        pop ax
        sub ax, sp
        movzx eax, ax
        mov [0x7000 + rm_vars - low_start + 12], eax
        mov eax, 0x80000000
        add eax, eax
        setc al
        movzx eax, al
        shl eax, 16
        mov [0x7000 + rm_vars - low_start + 16], eax
        call 0:0x7000 + .far - low_start
        mov eax, cr0
        and eax, ~0x10
        mov [0x7000 + rm_vars - low_start + 24], eax
        smsw ax
        movzx eax, ax
        and eax, ~0x10
        mov [0x7000 + rm_vars - low_start + 28], eax
        mov ecx, 0x10003
        xor dx, dx
.loop:  inc dx
        loop .loop
        mov ecx, 0x3
.loop2: inc dx
        a32 loop .loop2
        movzx edx, dx
        mov [0x7000 + rm_vars - low_start + 32], edx
        mov dword [0x500], 0xabcd
        mov bx, 0xff00
        mov si, 0x0600
        mov eax, [bx + si]              ; 0500
        mov [0x7000 + rm_vars - low_start + 36], eax
        ; unreal mode
        cli
        lgdt [0x7000 + rm_gdtr - low_start]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        mov bx, KDATA
        mov es, bx
        and al, ~1
        mov cr0, eax
        jmp 0:0x7000 + .unreal - low_start
.unreal:
        xor ax, ax
        mov fs, ax
        mov edi, multiboot
        mov eax, [es:edi]
        mov [0x7000 + rm_vars - low_start + 40], eax
        ; results to where the 32-bit code looks for them
        mov edi, rm_results
        mov esi, 0x7000 + rm_vars - low_start
        mov cx, 20
        a32 rep movsd
        ; back to protected mode
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword KCODE32:from_real
.far:   mov dword [0x7000 + rm_vars - low_start + 20], 0xfa4
        retf
rm_int: push bp
        mov bp, sp
        pushf
        pop word [0x7000 + rm_vars - low_start + 48]
        mov [0x7000 + rm_vars - low_start + 52], bp
        mov ax, [bp + 2]
        sub ax, enter_real.int_end - low_start + 0x7000
        mov [0x7000 + rm_vars - low_start + 56], ax
        mov ax, [bp + 4]
        mov [0x7000 + rm_vars - low_start + 60], ax
        mov ax, [bp + 6]
        mov [0x7000 + rm_vars - low_start + 64], ax
        pop bp
        iret
rm_ud:  inc word [0x7000 + rm_vars - low_start + 68]
        push bp
        mov bp, sp
        add word [bp + 2], 2
        pop bp
        iret
rm_de:  push bp
        mov bp, sp
        mov ax, [bp + 2]
        sub ax, enter_real.div - low_start + 0x7000
        mov [0x7000 + rm_vars - low_start + 72], ax
        mov word [bp + 2], enter_real.div_end - low_start + 0x7000
        pop bp
        iret
rm_gp:  inc word [0x7000 + rm_vars - low_start + 76]
        push bp
        mov bp, sp
        add word [bp + 2], 2
        pop bp
        iret
align 4
rm_idtr: dw 0x3ff
        dd 0
rm_gdtr: dw gdt_end - gdt - 1
        dd gdt
rm_vars: times 20 dd 0

section .text
        bits 32
from_real:
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov esp, [ivt_esp]
        lidt [idtr32]
        jmp [back]

section .user
        bits 64
u_call_gate:
        call far dword [user_far]
        int 0x80
user_far: dd 0
        dw SLOT | 3

section .data
to_compat: dd compat
        dw KCODE32
to_compat_sub: dd sub32
        dw KCODE32
to_64_sub: dd sub64
        dw KCODE64
to_gate: dd 0
        dw SLOT
section .bss
alignb 8
gate_ss: resq 2
ivt_esp: resd 1
back:   resd 1
rm_results:
        resd 1
rm_wrap: resd 1
rm_a20: resd 1
rm_push_sp: resd 1
rm_op32: resd 1
rm_far: resd 1
rm_cr0: resd 1
rm_smsw: resd 1
rm_loop: resd 1
rm_ea:  resd 1
rm_unreal: resd 1
        resd 1
rm_flags: resd 1
rm_sp:  resd 1
rm_words: resd 3
rm_ud_count: resd 1
rm_de_ip: resd 1
rm_gp_count: resd 1
