; Limits and types of segments in data accesses outside 64-bit mode (SDM 3A 5.3, 5.5): 32- and 16-bit code, expand-down
; segments, the stack, string instructions, segment overrides.
%include "bare.inc"

A_              equ SLOT + 0
B_              equ SLOT + 8
PHYS            equ 0x1000000

; CHECK name, selector, instructions with FS as the segment
%macro CHECK 3+
        mov eax, %2
        mov fs, eax
        xor eax, eax
        mov ebx, 0x1000
        TRY
        %3
        END %1
%endmacro
; The same through DS and ES: what the macros need is put back inside the case.
%macro CHECKDS 3+
        mov eax, %2
        xor ebx, ebx
        mov edx, KDATA
        TRY
        mov ds, eax
        mov es, eax
        HERE
        %3
        mov ds, edx
        mov es, edx
        END %1
%endmacro

section .text
main:   ; --- expand-up, limit 0FFFh
        SETDESC A_, PHYS, 0xfff, 0x93, 4
        CHECK "byte at the limit", A_, mov al, [fs:0xfff]
        CHECK "byte beyond the limit", A_, mov al, [fs:0x1000]
        CHECK "word at the limit", A_, mov ax, [fs:0xfff]
        CHECK "dword three before the limit", A_, mov eax, [fs:0xffc]
        CHECK "dword two before the limit", A_, mov eax, [fs:0xffd]
        CHECK "store beyond the limit", A_, mov [fs:ebx], eax
        CHECK "read-modify-write beyond the limit", A_, add dword [fs:ebx - 2], eax
        CHECK "LOCK beyond the limit", A_, lock inc dword [fs:ebx - 3]
        CHECK "negative offset", A_, mov eax, [fs:ebx - 0x1004]
        CHECK "base and index", A_, mov eax, [fs:ebx + eax * 4 - 4]
        CHECK "LEA reads nothing", A_, lea eax, [fs:ebx]
        CHECK "NOP reads nothing", A_, nop dword [fs:ebx]
        CHECK "PREFETCH reads nothing", A_, prefetcht0 [fs:ebx]
        CHECK "x87 load of 8 bytes", A_, fld qword [fs:0xffa]
        CHECK "x87 load of 10 bytes at the limit", A_, fld tword [fs:0xff6]
        CHECK "x87 load of 10 bytes", A_, fld tword [fs:0xff7]
        CHECK "PUSH of memory", A_, push dword [fs:0xffd]
        CHECK "jump through memory", A_, jmp dword [fs:0xffd]
        CHECK "XLAT", A_, fs xlatb
        mov dword [PHYS + 0xffc], 0
        CHECK "bit string far beyond the limit", A_, bt dword [fs:0xff8], ebx
        mov ecx, 32
        mov eax, A_
        mov fs, eax
        TRY
        bts [fs:0xffc], ecx             ; the dword after the operand
        END "bit string beyond the limit"
        mov ecx, 31
        mov eax, A_
        mov fs, eax
        TRY
        bts [fs:0xffc], ecx
        END "bit string at the limit"
        SHOW "its last dword", [PHYS + 0xffc]
        CHECK "16-bit address", A_, a16 mov al, [fs:bx + 0x100 - 0x101]
        CHECK "16-bit address beyond", A_, a16 mov al, [fs:bx]

        ; --- expand-down, limit 0FFFh
        SETDESC A_, PHYS, 0xfff, 0x97, 4
        CHECK "expand-down, at the limit", A_, mov al, [fs:0xfff]
        CHECK "expand-down, above the limit", A_, mov al, [fs:0x1000]
        CHECK "expand-down, below the top", A_, mov al, [fs:ebx + 0x1000]
        SETDESC A_, PHYS, 0xfff, 0x97, 0
        CHECK "expand-down of 64 KiB, at the top", A_, mov al, [fs:0xffff]
        CHECK "expand-down of 64 KiB, over the top", A_, mov ax, [fs:0xffff]
        CHECK "expand-down of 64 KiB, beyond", A_, mov al, [fs:0x10000]
        CHECK "expand-down of 64 KiB, below the limit", A_, mov al, [fs:0xffe]

        ; --- types
        SETDESC A_, PHYS, 0xfffff, 0x91, 0xc
        CHECK "read-only, read", A_, mov eax, [fs:0]
        CHECK "read-only, write", A_, mov [fs:0], eax
        CHECK "read-only, compare", A_, cmp dword [fs:0], 1
        CHECK "read-only, read-modify-write", A_, or dword [fs:0], 1
        SETDESC A_, PHYS, 0xfffff, 0x9b, 0xc
        CHECK "code, read", A_, mov eax, [fs:0]
        CHECK "code, write", A_, mov [fs:0], eax
        CHECK "null, read", 0, mov eax, [fs:0]
        CHECK "null, write", 0, mov [fs:0], eax
        TRY
        mov [cs:main], eax
        END "store through CS"
        TRY
        mov eax, [cs:main]
        END "load through CS"

        ; --- DS, ES and SS with limits
        SETDESC A_, 0, 0x1fff, 0x93, 0xc        ; 32 MiB from 0
        SETDESC B_, PHYS, 0xfff, 0x93, 4
        CHECKDS "DS inside", A_, mov ecx, [main]
        CHECKDS "DS beyond", A_, mov ecx, [ebx + 0x2000000]
        CHECKDS "DS at the end", A_, mov ecx, [ebx + 0x1fffffc]
        CHECKDS "DS over the end", A_, mov ecx, [ebx + 0x1fffffd]
        CHECKDS "null DS", 0, mov ecx, [ebx]

        ; --- strings: registers afterwards
        mov byte [PHYS + 0xffe], 0x11
        mov esi, 0xff0
        mov edi, 0
        mov ecx, 0x20
        CHECKDS "REP MOVSB to the limit of DS", B_, rep movsb
        SHOW "ECX", ecx
        SHOW "ESI", esi
        SHOW "EDI", edi
        mov edi, 0xff0
        mov ecx, 8
        CHECKDS "REP STOSD to the limit of ES", B_, rep stosd
        SHOW "ECX", ecx
        SHOW "EDI", edi
        mov esi, 0xffe
        mov ecx, 1
        CHECKDS "LODSB at the limit", B_, lodsb
        CHECKDS "LODSB and one more", B_, rep lodsb
        mov edi, 0xff0
        mov ecx, 0x100
        mov dword [PHYS + 0xff8], 0x44332211
        TRY
        mov eax, B_
        mov es, eax
        mov al, 0x33
        cld
        repne scasb
        mov edx, KDATA
        mov es, edx
        END "REPNE SCASB finds its byte before the limit"
        SHOW "ECX", ecx
        SHOW "EDI", edi
        mov edi, 4
        mov ecx, 3
        std
        CHECKDS "REP STOSD downwards from 4", B_, rep stosd
        cld
        SHOW "ECX", ecx
        SHOW "EDI", edi

        ; --- the stack: #SS
%macro CHECKSS 2+
        mov eax, A_
        mov edx, KDATA
        mov ebx, esp
        TRY
        mov ss, eax
        HERE
        %2
        mov esp, ebx
        mov ss, edx
        END %1
%endmacro
        CHECKSS "through SS at the end", mov ecx, [ss:0x1fffffc]
        CHECKSS "through SS beyond the limit", mov ecx, [ss:0x2000000]
        mov esi, 0x2000000
        CHECKSS "through SS, a register", mov ecx, [ss:esi]
        mov ebp, 0x2000000
        CHECKSS "through EBP", mov ecx, [ebp]
        CHECKSS "through EBP, inside", mov ecx, [ebp - 4]
        CHECKSS "LEAVE", leave
        ; in ring 3, so that the exception finds a good stack
%macro CHECK3 3 ; name, label, ESP
        TRY
        push A_ | 3
        push dword %3
        push dword 2
        push UCODE32
        push %2
        iretd
        END %1, %2
%endmacro
        SETDESC A_, 0, 0x1fff, 0xf3, 0xc
        mov dword [0x1fffffc], 0xabcdef
        CHECK3 "PUSH at the limit", u_push, 0x2000000
        CHECK3 "PUSH over the limit", u_push, 0x2000001
        CHECK3 "PUSH of a word over the limit", u_push16, 0x2000001
        CHECK3 "CALL over the limit", u_call, 0x2000002
        CHECK3 "PUSHF over the limit", u_pushf, 0x2000003
        CHECK3 "PUSHA over the limit", u_pusha, 0x2000004
        CHECK3 "POP at the limit", u_pop, 0x1fffffc
        CHECK3 "POP over the limit", u_pop, 0x1fffffd
        CHECK3 "RET over the limit", u_ret, 0x1fffffe
        CHECK3 "ENTER over the limit", u_enter, 0x2000001
        ; 16-bit stack: the pointer's last word
        SETDESC A_, PHYS, 0xffff, 0x93, 0
        mov ebx, esp
        mov eax, A_
        mov ss, eax
        mov esp, 0
        push dword 0x12345678
        mov ecx, esp
        mov eax, KDATA
        mov ss, eax
        mov esp, ebx
        SHOW "16-bit stack: SP after a push at 0", ecx
        SHOW "stored", [PHYS + 0xfffc]

        ; --- segments that are flat again
        mov eax, KDATA
        mov fs, eax
        CHECK "flat FS", KDATA, mov eax, [fs:0x1000000]
        CHECKDS "flat DS", KDATA, mov ecx, [ebx + 0x1fff000]
        EXIT

section .user
        bits 32
u_push: push eax
        int 0x80
u_push16:
        push ax
        int 0x80
u_call: call u_ret
        int 0x80
u_pushf:
        pushfd
        int 0x80
u_pusha:
        pushad
        int 0x80
u_pop:  pop eax
        int 0x80
u_ret:  ret
u_enter:
        enter 0, 0
        int 0x80
