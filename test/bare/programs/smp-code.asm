; Code that another CPU changes while it is executed (SDM 3A 8.1.3; the store is within what is fetched at once).
%include "bare.inc"
%include "smp.inc"

PHYS            equ 0x1000000

section .text
main:   GO64 start
        bits 64
start:  call start_ap
        mov byte [PHYS + 0x3000], 0xb8
        mov dword [PHYS + 0x3001], 0
        mov byte [PHYS + 0x3005], 0xc3
        BOTH w_patch
        SHOW "code patched by the other CPU, bad values", [patch_bad]
        SHOW "last value seen", [patch_last]

        EXIT

; The AP calls code that the first CPU patches: values only rise, and the last is seen.
w_patch:
        mov eax, 1
        lock xadd [patch_role], eax
        mov r8d, eax
        TOGETHER
        test r8d, r8d
        jnz .reader
        mov ecx, 1
.write: mov [PHYS + 0x3001], ecx
        push rcx
        mov ecx, 200
.slow:  pause
        loop .slow
        pop rcx
        inc ecx
        cmp ecx, 500
        jbe .write
        ret
.reader:
        mov r9d, PHYS + 0x3000
        xor edx, edx
.read:  call r9
        cmp eax, edx
        jae .good
        inc qword [patch_bad]
.good:  mov edx, eax
        mov [patch_last], rax
        cmp eax, 500
        jne .read
        ret

section .bss
alignb 8
patch_role: resd 2
patch_bad: resq 1
patch_last: resq 1
