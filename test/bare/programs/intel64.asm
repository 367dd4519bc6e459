; What Intel's CPUs do in 64-bit mode and AMD's do otherwise, so that an AMD host cannot be asked: far pointers of 16:64
; (SDM 2 JMP, CALL, LDS), near branches with an operand-size prefix (SDM 2 appendix A.2.5, f64), PUSH of a segment
; register in 32-bit code (SDM 2 PUSH), registers after a repeated string instruction with 32-bit addresses.
%include "bare.inc"

section .text
main:   ; 16 of the 32 bits are written
        mov dword [esp - 4], 0xaaaaaaaa
        push fs
        pop eax
        shr eax, 16
        SHOW "above a pushed selector", eax
        GO64 start
        bits 64

start:  mov rax, 0x1122334455667788
        mov [pointer], rax
        mov word [pointer + 8], KDATA64
        lfs rcx, [pointer]
        mov ebx, fs
        SHOW "LFS offset", rcx
        SHOW "LFS selector", rbx
        lgs r9, [pointer]
        mov ebx, gs
        SHOW "LGS offset", r9
        SHOW "LGS selector", rbx
        lss rdx, [pointer]
        mov ebx, ss
        SHOW "LSS offset", rdx
        SHOW "LSS selector", rbx
        mov rax, .jumped
        mov [pointer], rax
        mov word [pointer + 8], KCODE64
        db 0x48
        jmp far dword [pointer]
.jumped:
        SAY "JMP far: there", 10
        mov rax, .called
        mov [pointer], rax
        mov rbx, rsp
        db 0x48
        call far dword [pointer]
.back:  SAY "RETF: back", 10
        mov rax, 0x800000000000
        mov [pointer], rax
        TRY
        db 0x48
        jmp far dword [pointer]
        END "JMP far to a non-canonical offset"
        TRY
        db 0x48
        call far dword [pointer]
        END "CALL far to a non-canonical offset"

        ; --- 66h is ignored
        db 0x66, 0xeb, .short - ($ + 3)
        hlt
.short: SAY "JMP rel8", 10
        db 0x66, 0xe9
        dd .near - ($ + 4)
        hlt
.near:  SAY "JMP rel32", 10
        cmp eax, eax
        db 0x66, 0x74, .jcc - ($ + 3)
        hlt
.jcc:   SAY "Jcc rel8", 10
        cmp eax, eax
        db 0x66, 0x0f, 0x84
        dd .jcc32 - ($ + 4)
        hlt
.jcc32: SAY "Jcc rel32", 10
        mov ecx, 2
        db 0x66, 0xe2, .loop - ($ + 3)
        hlt
.loop:  SAY "LOOP", 10
        mov rax, .register
        db 0x66, 0xff, 0xe0
        hlt
.register:
        SAY "JMP register", 10
        mov rbx, rsp
        db 0x66, 0xe8
        dd .sub - ($ + 4)
        sub rbx, rsp
        SHOW "CALL rel32: stack afterwards", rbx
        mov rax, .sub
        mov rbx, rsp
        db 0x66, 0xff, 0xd0
        sub rbx, rsp
        SHOW "CALL register: stack afterwards", rbx

        ; --- nothing to do, yet the registers lose their upper halves
        mov rcx, 0x1234567800000000
        mov rsi, 0x1234567800000000
        mov rdi, 0x1234567800000000
        a32 rep movsb
        SHOW "RCX after REP MOVSB of nothing", rcx
        EXIT

.called:
        mov rdx, rbx
        sub rdx, rsp
        SHOW "CALL far: bytes pushed", rdx
        mov rax, [rsp]
        sub rax, .back
        SHOW "its return address", rax
        mov rax, [rsp + 8]
        SHOW "its CS", rax
        o64 retf
.sub:   mov rdx, rbx
        sub rdx, rsp
        SHOW "bytes pushed", rdx
        db 0x66, 0xc3

section .bss
alignb 8
pointer: resq 2
