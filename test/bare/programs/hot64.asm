; Hot 64-bit code with what kernels do all the time: RDTSC, control and segment registers moved (SDM 2: RDTSC, MOV; 3A 2.5:
; CR4.TSD; 3A 3.4.4 and 5.4.1: null selectors in 64-bit mode).
%include "bare.inc"

TURNS           equ 1000000             ; of what is hot from a moment on,
AGAIN           equ 200000              ; and of what is hot already
MSR_GS          equ 0xc0000101

section .text
main:   GO64 start
        bits 64
start:  mov rax, 0x123456789abcd
        mov cr2, rax
        mov ecx, TURNS
        call read_all
        SHOW "clock went backwards", [backwards]
        SHOW "other CR0, CR2, CR3, CR4", [others]
        mov rax, -5
        mov cr2, rax
        mov ecx, AGAIN
        call read_all
        SHOW "another CR2, others", [others]

        mov ecx, TURNS
        call segments
        SHOW "wrong selectors", [wrong]
        ; a null selector takes the base along
        xor eax, eax
        mov edx, 0x1234
        mov ecx, MSR_GS
        wrmsr
        mov ecx, 1
        call segments
        mov ecx, MSR_GS
        rdmsr
        SHOW "base of GS", rax
        SHOW "wrong selectors", [wrong]

        TRY
        mov esi, TURNS
        mov edi, SLOT                   ; not present
        mov ebx, 1
        call loads
        END "the last one is no descriptor", loads.load
        SHOW "turns left", rsi

        ; in user mode; what makes it refuse comes when it is hot
        mov ebx, TURNS
        TRY
        USER u_clock
        END "RDTSC in user mode", u_clock.end
        mov rax, cr4
        or rax, CR4_TSD
        mov cr4, rax
        mov ebx, AGAIN
        TRY
        USER u_clock
        END "RDTSC with TSD in user mode", u_clock
        SHOW "turns left", rbx
        mov ecx, AGAIN
        call read_all
        SHOW "RDTSC with TSD in the kernel, backwards", [backwards]
        mov rax, cr4
        and rax, ~CR4_TSD
        mov cr4, rax
        mov ebx, AGAIN
        TRY
        USER u_clock
        END "RDTSC without TSD again", u_clock.end
        SHOW "turns left", rbx
        ; code that both privilege levels run
        mov ebx, TURNS
        mov qword [u_shared.back], .kernel
        call u_shared
.kernel:
        SHOW "CR0 in the kernel, turns left", rbx
        mov ebx, 1
        TRY
        USER u_shared
        END "CR0 in user mode", u_shared
        EXIT

; ECX times: the clock never goes back, control registers are what they were.
read_all:
        mov rbx, cr0
        mov rsi, cr2
        mov rdi, cr3
        mov rbp, cr4
        mov qword [last], 0
.next:  rdtsc
        shl rdx, 32
        or rax, rdx
        cmp rax, [last]
        jae .good
        inc qword [backwards]
.good:  mov [last], rax
        mov rax, cr0
        sub rax, rbx
        mov rdx, cr2
        sub rdx, rsi
        or rax, rdx
        mov rdx, cr3
        sub rdx, rdi
        or rax, rdx
        mov rdx, cr4
        sub rdx, rbp
        or rax, rdx
        jz .same
        inc qword [others]
.same:  dec ecx
        jnz .next
        ret

%macro IS 2 ; register, selector
        mov rax, -1
        mov eax, %1
        cmp rax, %2
        je %%good
        inc qword [wrong]
%%good:
%endmacro
; ECX times: null selectors to DS, ES, FS, GS, and a descriptor now and then.
segments:
        mov edx, KDATA64
        mov esi, 3
        xor edi, edi
.next:  mov ds, edi
        mov es, esi
        mov fs, esi
        mov gs, edi
        IS ds, 0
        IS es, 3
        IS fs, 3
        IS gs, 0
        IS cs, KCODE64
        mov word [stored + 2], 0x7777
        mov [stored], fs
        cmp dword [stored], 0x77770003
        je .kept
        inc qword [wrong]
.kept:  test ecx, 0xfff
        jnz .more
        mov ds, edx
        mov es, edx
        IS ds, KDATA64
        IS es, KDATA64
.more:  dec ecx
        jnz .next
        ret

; ESI times a null selector to FS; EDI's where ESI is EBX.
loads:  xor eax, eax
        cmp esi, ebx
        cmove eax, edi
.load:  mov fs, eax
        dec esi
        jnz loads
        ret

section .user
        bits 64
u_clock:
        rdtsc
        dec ebx
        jnz u_clock
.end:   int3
; With CR0 where it may not be read.
u_shared:
        mov rax, cr0
        dec ebx
        jnz u_shared
        jmp [.back]
        align 8
.back:  dq 0

section .bss
last:   resq 1
backwards: resq 1
others: resq 1
wrong:  resq 1
stored: resq 1
