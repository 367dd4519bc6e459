; S5 through the PIIX4's power management (ACPI 4.8.4.2; PMBASE 600h).
%include "bare.inc"
section .text
main:   SAY "before", 10
        mov dx, 0x604
        mov ax, 0x2000
        out dx, ax
        cli
        hlt
