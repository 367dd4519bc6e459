; 16-bit code: addressing, stack, strings with 16-bit counters and pointers, prefixes, decimal instructions
; (SDM 1 3.3.5, 3.7; SDM 2 2.1, tables 2-1 and 3-1). Run in real mode, in 16-bit protected mode and in virtual-8086
; mode; all three must print the same.
%include "bare.inc"

%define OFF(label) (LOW_CODE + label - low_start)
%define mode OFF(low_mode)
%assign result 0

section .text
main:   mov [saved_esp], esp
        ; real mode
        mov dword [mode], 0
        jmp CODE16:OFF(to_real)
done:   bits 32
        mov eax, KDATA
        mov ds, eax
        mov es, eax
        mov ss, eax
        mov fs, eax
        mov gs, eax
        mov esp, [saved_esp]
        lidt [idtr32]
        mov esi, OFF(results)
        xor ebx, ebx
        ; the first run's results are printed, the others compared with them
        cmp dword [mode], 0
        jne .compare
        mov edi, first
        mov ecx, RESULTS
        rep movsd
.print: SAY "result "
        HEX ebx
        SAY ": "
        HEX [first + ebx * 4]
        SAY 10
        inc ebx
        cmp ebx, RESULTS
        jb .print
        jmp .next
.compare:
        mov eax, [OFF(results) + ebx * 4]
        cmp eax, [first + ebx * 4]
        je .same
        SAY "mode "
        HEX [mode]
        SAY " differs in result "
        HEX ebx
        SAY ": "
        HEX eax
        SAY 10
.same:  inc ebx
        cmp ebx, RESULTS
        jb .compare
        SAY "mode "
        HEX [mode]
        SAY " done", 10
.next:  mov edi, OFF(results)
        mov ecx, RESULTS
        xor eax, eax
        rep stosd
        inc dword [mode]
        cmp dword [mode], 1
        je .protected
        cmp dword [mode], 2
        je .v86
        EXIT
.protected:
        ; 16-bit code whose CS can be stored through: a data alias in GS is not needed, results go by DS
        jmp CODE16:OFF(to_protected)
.v86:   TRY
        push dword 0
        push dword 0
        push dword 0
        push dword 0
        push dword 0
        push dword 0x6ff0
        push dword FL_VM | 0x3002
        push dword 0
        push dword OFF(body)
        iretd
        QUIET
        jmp done

section .low
        bits 16
to_real:
        mov ax, DATA16
        mov ss, ax
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov eax, cr0
        and al, ~1
        mov cr0, eax
        jmp 0:OFF(.real)
.real:  xor ax, ax
        mov ss, ax
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov sp, 0x6ff0
        call body
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword KCODE32:done
to_protected:
        mov ax, DATA16
        mov ss, ax
        mov ds, ax
        mov es, ax
        mov fs, ax
        mov gs, ax
        mov sp, 0x6ff0
        call body
        jmp dword KCODE32:done

; Stores a 32-bit result.
%macro PUT 1
        mov [OFF(results) + result * 4], %1
  %assign result result + 1
%endmacro
; Works on 0500-06FF; segments are all 0 based.
body:   cld
        mov di, 0x500
        mov cx, 0x100
        mov al, 0
.fill:  stosb
        inc al
        loop .fill
        ; the eight addressing forms
        mov bx, 0x500
        mov bp, 0x520
        mov si, 0x10
        mov di, 0x20
        movzx eax, byte [bx + si]
        PUT eax
        movzx eax, byte [bx + di]
        PUT eax
        movzx eax, byte [bp + si]
        PUT eax
        movzx eax, byte [bp + di + 1]
        PUT eax
        movzx eax, byte [si + 0x4f1]
        PUT eax
        movzx eax, byte [di + 0x4f1]
        PUT eax
        movzx eax, byte [bp - 3]
        PUT eax
        movzx eax, byte [bx + 0x7f]
        PUT eax
        movzx eax, byte [0x5aa]
        PUT eax
        mov bx, 0xfff0
        movzx eax, byte [bx + 0x5ff - 0xfff0 + 0x10000 - 0x10000]
        PUT eax
        mov si, 0x600
        movzx eax, byte [bx + si]       ; wraps to 05F0
        PUT eax
        ; 32-bit addresses
        mov ebx, 0x500
        mov ecx, 4
        movzx eax, byte [ebx + ecx * 4 + 2]
        PUT eax
        mov esp, 0x6ff0 - 2
        movzx eax, byte [ebx + 0x40]
        PUT eax
        lea ax, [bx + si + 0x1234]
        movzx eax, ax
        PUT eax
        lea eax, [bx + si]
        PUT eax
        mov ebx, 0x12345678
        lea ax, [ebx + 1]
        movzx eax, ax
        PUT eax
        ; stack
        mov bp, sp
        push word 0x1122
        push dword 0x33445566
        pop ax
        pop cx
        pop dx
        shl eax, 16
        mov ax, cx
        PUT eax
        movzx eax, dx
        PUT eax
        sub bp, sp
        movzx eax, bp
        PUT eax
        mov eax, 0x11111111
        mov ebx, 0x22222222
        pusha
        mov bp, sp
        mov ax, [bp + 14]
        mov dx, [bp + 6]
        sub dx, sp
        popa
        PUT eax
        PUT ebx
        pushad
        add sp, 16
        pop ebx
        sub sp, 20
        popad
        mov bp, 0x6e00
        enter 8, 0
        mov ax, bp
        sub ax, sp
        leave
        movzx eax, ax
        PUT eax
        push bp
        mov bp, 0x6e00
        mov word [0x6dfe], 0xaaaa
        mov word [0x6dfc], 0xbbbb
        enter 4, 3
        mov ax, [bp - 2]
        mov dx, [bp - 4]
        shl eax, 16
        mov ax, dx
        leave
        pop bp
        PUT eax
        ; near calls and returns
        mov eax, 0
        call .sub
        PUT eax
        mov bx, OFF(.sub)
        call bx
        PUT eax
        push word 0x99
        call .sub_pop
        PUT eax
        call dword .sub32
        PUT eax
        mov word [0x4f0], OFF(.sub)
        call [0x4f0]
        PUT eax
        jmp .past
.sub:   add eax, 0x10
        ret
.sub_pop:
        add eax, 0x20
        ret 2
.sub32: add eax, 0x40
        o32 ret
.past:  ; strings
        mov si, 0x500
        mov di, 0x600
        mov ecx, 0x10008                ; CX counts
        rep movsb
        mov eax, [0x604]
        PUT eax
        PUT ecx
        movzx eax, di
        PUT eax
        mov si, 0x507
        mov di, 0x607
        mov cx, 4
        std
        rep movsw
        cld
        movzx eax, si
        PUT eax
        mov esi, 0x500
        mov edi, 0x620
        mov ecx, 3
        a32 rep movsd
        PUT esi
        mov di, 0xfffe
        mov byte [0xfffe], 0
        mov byte [0xffff], 0
        mov byte [0], 0x5a
        push word [0]
        mov al, 0x77
        mov ecx, 3
        rep stosb                       ; wraps to 0
        movzx eax, di
        PUT eax
        movzx eax, byte [0]
        PUT eax
        pop word [0]
        mov al, 0x20
        mov di, 0x500
        mov cx, 0xff
        repne scasb
        movzx eax, cx
        PUT eax
        ; loops
        mov ecx, 0x20003
        xor dx, dx
.loop:  inc dx
        loop .loop
        PUT ecx
        mov cx, 5
        mov ax, 2
.loopne: dec ax
        loopne .loopne
        movzx eax, cx
        PUT eax
        xor cx, cx
        mov eax, 1
        jcxz .zero
        mov eax, 2
.zero:  PUT eax
        mov ecx, 0x10000
        mov eax, 1
        jecxz .zero2
        mov eax, 2
.zero2: PUT eax
        ; arithmetic
        mov ax, 0x1234
        mov cx, 0x5678
        mul cx
        shl edx, 16
        mov dx, ax
        PUT edx
        mov dx, 0x12
        mov ax, 0x3456
        mov cx, 0x789
        div cx
        shl edx, 16
        mov dx, ax
        PUT edx
        mov ax, -800
        mov cl, 7
        idiv cl
        movzx eax, ax
        PUT eax
        mov ax, 0x8000
        cwd
        shl edx, 16
        mov dx, ax
        PUT edx
        imul ax, ax, 3
        movzx eax, ax
        PUT eax
        mov ax, 0x1357
        mov dx, 0x2468
        shld ax, dx, 4
        movzx eax, ax
        PUT eax
        mov ax, 0x8001
        stc
        rcl ax, 9
        movzx eax, ax
        PUT eax
        ; decimal
        mov al, 0x38
        add al, 0x45
        daa
        lahf
        movzx eax, ax
        PUT eax
        mov al, 0x38
        sub al, 0x45
        das
        lahf
        movzx eax, ax
        PUT eax
        mov ax, 0x0207
        add al, 9
        aaa
        movzx eax, ax
        PUT eax
        mov ax, 0x0203
        sub al, 9
        aas
        movzx eax, ax
        PUT eax
        mov al, 99
        aam
        movzx eax, ax
        PUT eax
        aad
        movzx eax, ax
        PUT eax
        mov bx, 0x500
        mov al, 0x42
        xlatb
        movzx eax, al
        PUT eax
        ; far pointers
        mov word [0x4f4], 0x5678
        mov word [0x4f6], 0
        les di, [0x4f4]
        mov ax, es
        shl eax, 16
        mov ax, di
        PUT eax
        ; flags
        pushf
        pop ax
        and eax, 0x0cd5
        PUT eax
        pushfd
        pop eax
        and eax, 0x8d5
        PUT eax
        ; IP wraps in 16 bits: a jump from the end of the segment is not tried, a 66h jump is cut
        jmp word .cut
.cut:   mov eax, 0xc0de
        PUT eax
        cmp dword [mode], 2         ; in the first 64 KiB, as the limits are
        je .v86
        ret
.v86:   int 0x80
RESULTS         equ result
align 4
results: times RESULTS dd 0
low_mode:       dd 0

section .bss
alignb 4
saved_esp: resd 1
first:  resd 128
