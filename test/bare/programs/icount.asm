; What counts as an instruction with -icount: the time stamp counter is the number of instructions executed.
%include "bare.inc"

; Instructions from after RDTSC up to and with the next: the code between and 2 more, which are taken off.
%macro BEGIN 0
        rdtsc
        mov [start], eax
%endmacro
%macro COUNT 1
        rdtsc
        sub eax, [start]
        sub eax, 2
        SHOW %1, eax
%endmacro

section .bss
start:  resd 1
buffer: resb 256
handled: resd 1

section .text
skip2:  add dword [esp], 2
        iretd
skip2_code:
        add esp, 4
        add dword [esp], 2
        iretd
return: iretd
pf:     add esp, 4
        or dword [page_table + 4 * 0x200], P
        iretd

main:
        BEGIN
        COUNT "nothing"

        BEGIN
        nop
        nop
        nop
        COUNT "three"

        mov ecx, 5
        BEGIN
.loop:  dec ecx
        jnz .loop
        COUNT "five times two"

        BEGIN
        call .sub
        COUNT "call, ret"
        jmp .string
.sub:   ret

.string:
%macro REP 3 ; name, count, code
        mov esi, buffer
        mov edi, buffer + 128
        mov ecx, %2
        mov eax, 0
        BEGIN
        %3
        COUNT %1
%endmacro
        REP "rep movsb, 0", 0, rep movsb
        REP "rep movsb, 1", 1, rep movsb
        REP "rep movsb, 5", 5, rep movsb
        REP "rep movsd, 10", 10, rep movsd
        REP "rep stosb, 7", 7, rep stosb
        REP "rep stosd, 3", 3, rep stosd
        REP "rep lodsb, 4", 4, rep lodsb
        ; 0 0 0 1 0 0 0 0 against zeros
        xor eax, eax
        mov edi, buffer
        mov ecx, 64
        rep stosd
        mov byte [buffer + 3], 1
        REP "repe cmpsb, ended by a difference at 3 of 8", 8, repe cmpsb
        REP "repe cmpsb, ended by a difference at 3 of 4", 4, repe cmpsb
        REP "repe cmpsb, 3 equal", 3, repe cmpsb
        REP "repne cmpsb, ended by the first", 8, repne cmpsb
        REP "repe scasb, 0", 0, repe scasb
        REP "movsb without rep", 5, movsb
        mov dx, 0x80
        mov esi, buffer
        mov ecx, 3
        rdtsc
        mov [start], eax
        mov dx, 0x80
        rep outsb
        COUNT "mov, rep outsb, 3"

        mov dx, 0x80
        BEGIN
        out 0x80, al
        in al, 0x80
        COUNT "out, in"
        mov eax, [LAPIC_PHYS + 0x20]
        BEGIN
        mov eax, [LAPIC_PHYS + 0x20]
        mov eax, [LAPIC_PHYS + 0x30]
        COUNT "two loads of device memory"
        mov eax, 1
        BEGIN
        cpuid
        COUNT "cpuid"
        mov ecx, 0x1b
        BEGIN
        rdmsr
        COUNT "rdmsr"
        BEGIN
        lock inc dword [buffer]
        lock inc dword [buffer + 3]
        lock inc dword [buffer + 63]
        COUNT "locked, misaligned, line crossing"
        BEGIN
        pushfd
        popfd
        cld
        cli
        COUNT "pushf, popf, cld, cli"
        BEGIN
        mov ax, ss
        mov ss, ax
        nop
        COUNT "mov from ss, mov to ss, nop"
        BEGIN
        fninit
        fldpi
        fsin
        fstp st0
        COUNT "four of x87"
        BEGIN
        pause
        pause
        COUNT "pause, pause"
        BEGIN
        jmp KCODE32:.far
.far:   lidt [idtr32]
        mov eax, cr0
        mov cr0, eax
        COUNT "far jump, lidt, cr0 twice"

        ; interrupts and faults: a handler's instructions are counted, the delivery is not
        SETIDT 0x80, return, KCODE32, INT32 | DPL3
        BEGIN
        int 0x80
        COUNT "int, iret"
        SETIDT 3, return, KCODE32, INT32 | DPL3
        BEGIN
        int3
        COUNT "int3, iret"
        SETIDT 6, skip2, KCODE32, INT32
        BEGIN
        ud2
        COUNT "ud2, add, iret"
        SETIDT 0, skip2, KCODE32, INT32
        xor ecx, ecx
        BEGIN
        div ecx
        COUNT "div by zero, add, iret"
        SETIDT 13, skip2_code, KCODE32, INT32
        mov bx, 0xfff8
        BEGIN
        mov ds, bx
        COUNT "load of a bad selector, add, add, iret"
        mov eax, 1
        mov ecx, 0x12345
        BEGIN
        rdmsr
        COUNT "rdmsr of what is not there, add, add, iret"

        ; a page fault, taken and repeated
        mov edi, page_table
        mov eax, P | W
        mov ecx, 1024
.fill:  stosd
        add eax, 0x1000
        loop .fill
        mov eax, page_table
        or eax, P | W
        mov [page_directory], eax
        mov dword [page_directory + 4 * (LAPIC_PHYS >> 22)], (LAPIC_PHYS & 0xffc00000) | P | W | PS
        mov eax, cr4
        or eax, CR4_PSE
        mov cr4, eax
        mov eax, page_directory
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        SETIDT 14, pf, KCODE32, INT32
        and dword [page_table + 4 * 0x200], ~P
        invlpg [0x200000]
        BEGIN
        mov eax, [0x200000]
        COUNT "page fault, add, or, iret, load again"
        and dword [page_table + 4 * 0x200], ~P
        invlpg [0x200000]
        mov esi, 0x200000 - 3
        mov edi, buffer
        mov ecx, 8
        BEGIN
        rep movsb
        COUNT "rep movsb, 8, page fault at 3, handler of three"
        jmp .cross

        align 4096
        times 4096 - 7 nop
.cross: BEGIN
        jmp .at
        align 4096
        times 4096 - 2 nop
.at:    mov eax, 0x12345678             ; crosses a page
        mov ebx, eax
        COUNT "jump, an instruction that crosses a page, another"

        ; code written just before
        mov byte [.patch + 1], 7
        BEGIN
        mov byte [.patch + 1], 9
.patch: mov al, 1
        nop
        COUNT "a store to the code that follows, that, nop"

        ; single steps
        SETIDT 1, step, KCODE32, INT32
        mov dword [handled], 0
        BEGIN
        pushfd
        or dword [esp], FL_TF
        popfd
        nop
        nop
        pushfd
        and dword [esp], ~FL_TF
        popfd
        nop
        COUNT "nine, with a handler of two at some"
        SHOWD "single steps", [handled]
        EXIT

step:   inc dword [handled]
        iretd

section .bss
        alignb 4096
page_directory: resb 4096
page_table: resb 4096
