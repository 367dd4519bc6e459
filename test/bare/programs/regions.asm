; More hot loops than there is room for as compiled code: two CPUs call FUNCTIONS functions in turn, each of which adds
; its number up. With a command line that ends in "+" they go on until something comes in on COM1.
%include "bare.inc"
%include "smp.inc"

FUNCTIONS       equ 1200
TURNS           equ 20000
ROUNDS          equ 2
PHYS            equ 0x1000000           ; 64 bytes each
SIZE            equ 64

section .text
main:   GO64 start
        bits 64
start:  ; mov ecx, TURNS; add eax, NUMBER; dec ecx; jnz to the ADD; ret
        mov edi, PHYS
        xor ebx, ebx
.make:  mov byte [rdi], 0xb9
        mov dword [rdi + 1], TURNS
        mov byte [rdi + 5], 0x05
        mov [rdi + 6], ebx
        mov dword [rdi + 10], 0xf775c9ff
        mov byte [rdi + 14], 0xc3
        add edi, SIZE
        inc ebx
        cmp ebx, FUNCTIONS
        jb .make
        call start_ap
        mov esi, cmdline
.find:  lodsb
        test al, al
        jnz .find
        cmp byte [rsi - 2], '+'
        sete [forever]
        SAY "begin", 10
        mov ebp, ROUNDS
.round: push rbp
        BOTH call_all
        pop rbp
        inc qword [rounds]
        cmp byte [forever], 0
        jne .ask
        dec ebp
        jnz .round
        jmp .end
.ask:   mov dx, COM1 + 5
        in al, dx
        test al, 1
        jz .round
        SHOW "rounds", [rounds]
.end:   SHOW "bad sums", [bad]
        EXIT

call_all:
        mov esi, PHYS
        xor ebx, ebx
.next:  mov eax, ebx
        call rsi
        imul ecx, ebx, TURNS + 1
        cmp eax, ecx
        je .good
        lock inc qword [bad]
.good:  add esi, SIZE
        inc ebx
        cmp ebx, FUNCTIONS
        jb .next
        ret

section .bss
alignb 8
bad:    resq 1
rounds: resq 1
forever: resb 1
