; The reset port of the chip set (PIIX3 data sheet, port CF9h).
%include "bare.inc"
section .text
main:   SAY "before", 10
        mov dx, 0xcf9
        mov al, 2
        out dx, al
        mov al, 6
        out dx, al
        cli
        hlt
