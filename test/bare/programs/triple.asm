; A triple fault resets the machine (SDM 3A 6.15): with -no-reboot that is the end.
%include "bare.inc"
section .text
main:   SAY "before", 10
        ; no descriptor table of interrupts, and a fault
        lidt [none]
        ud2
        SAY "after", 10
        EXIT
section .data
none:   dw 0
        dd 0
