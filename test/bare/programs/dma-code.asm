; Code that an IDE disk's DMA writes over (SDM 3A 8.1.3, 11.6): two CPUs call a function until it is hot, then a sector with
; another one is read into its place. The disk is this very file. Where the command line ends with `w` it goes on until
; something comes in on COM1.
%include "bare.inc"
%include "smp.inc"

PHYS            equ 0x1000000
TURNS           equ 30000
ROUNDS          equ 24
CALLS           equ 4
PCI_IDE         equ 0x80000900          ; 0:1.1

section .text
main:   GO64 start

; Sectors, each with a function that adds its number TURNS times to EAX. Each is somewhere else in the sector, and the
; last ends in its last byte.
%macro SECTOR 1
        align 512
sector_%1:
  %if %1 == 2
        times 497 nop
  %elif %1 == 1
        times 64 nop
  %endif
        mov ecx, TURNS
%%turn: add eax, %1 + 1
        dec ecx
        jnz %%turn
        ret
%endmacro

        bits 64
        SECTOR 0
        SECTOR 1
        SECTOR 2
        SECTOR 3
        align 512
start:  mov eax, PCI_IDE + 4
        mov dx, 0xcf8
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        or eax, 5                       ; I/O space, bus master
        out dx, eax
        mov eax, PCI_IDE + 0x20
        mov dx, 0xcf8
        out dx, eax
        mov dx, 0xcfc
        in eax, dx
        and eax, 0xfffc
        mov [busmaster], eax
        call start_ap
        xor ebp, ebp
.round: push rbp
        and ebp, 3
        mov [expected], ebp
        inc dword [expected]
        imul eax, [expected], TURNS
        mov [expected], eax
        shl ebp, 9
        lea ecx, [rbp + sector_0 - BASE]
        shr ecx, 9
        call read_sector
        BOTH call_all
        pop rbp
        inc ebp
        cmp ebp, ROUNDS
        jb .round
        mov esi, cmdline
.find:  lodsb
        test al, al
        jnz .find
        cmp byte [rsi - 2], 'w'
        jne .end
        mov dx, COM1 + 5
        in al, dx
        test al, 1
        jz .round
.end:
        SHOW "calls of what was there before", [bad]
        SHOW "other errors", [errors]
        EXIT

; Sector ECX to PHYS.
read_sector:
        mov dword [prd], PHYS
        mov dword [prd + 4], 0x80000200
        mov edx, [busmaster]
        xor eax, eax
        out dx, al
        add edx, 2
        mov al, 6                       ; interrupt and error are cleared by ones
        out dx, al
        add edx, 2
        mov eax, prd
        out dx, eax
        mov dx, 0x1f6
        mov al, 0xe0
        out dx, al
        mov dx, 0x1f2
        mov al, 1
        out dx, al
        inc edx
        mov eax, ecx
        out dx, al
        inc edx
        mov al, ah
        out dx, al
        inc edx
        xor eax, eax
        out dx, al
        mov dx, 0x1f7
        mov al, 0xc8                    ; READ DMA
        out dx, al
        mov edx, [busmaster]
        mov al, 9                       ; start, to memory
        out dx, al
        add edx, 2
.wait:  in al, dx
        test al, 4
        jz .wait
        test al, 2
        jz .fine
        inc qword [errors]
.fine:  sub edx, 2
        xor eax, eax
        out dx, al
        mov dx, 0x1f7
        in al, dx
        test al, 0x89                   ; BSY, DRQ, ERR
        jz .done
        inc qword [errors]
.done:  ret

call_all:
        mov esi, CALLS
        mov ebx, PHYS
.next:  xor eax, eax
        call rbx
        cmp eax, [expected]
        je .good
        lock inc qword [bad]
.good:  dec esi
        jnz .next
        ret

section .bss
alignb 8
prd:    resq 1
bad:    resq 1
errors: resq 1
busmaster: resd 1
expected: resd 1
