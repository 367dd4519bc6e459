; #PF whose handler's stack is missing, then #DF whose handler's stack is missing (SDM 3A 6.15).
%include "bare.inc"
section .text
main:   GO64 start
        bits 64
start:  SAY "before", 10
        mov byte [idt64 + 8 * 16 + 4], 0        ; no IST
        mov qword [pdpt + 8], 0
        mov rsp, 0x40001000
        mov eax, [0x40000000]
        SAY "after", 10
        EXIT
