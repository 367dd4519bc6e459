; When x87, MMX and SSE instructions raise #NM, #MF, #XM, #UD (SDM 3A 2.5 table 2-2, 13.1; SDM 1 8.7, 11.5).
%include "bare.inc"

PHYS            equ 0x1000000

%macro CR0_ 2 ; set, clear
        mov rax, cr0
        or eax, %1
        and eax, ~(%2)
        mov cr0, rax
%endmacro
%macro CR4_ 2
        mov rax, cr4
        or eax, %1
        and eax, ~(%2)
        mov cr4, rax
%endmacro
%macro CASE 2+ ; name, instruction
        TRY
        %2
        END %1
%endmacro

section .text
main:   GO64 start
        bits 64
start:  CR4_ CR4_OSFXSR | CR4_OSXMMEXCPT, 0
        CR0_ CR0_NE | CR0_MP, CR0_EM | CR0_TS
        fninit
        ; --- EM, MP, TS
        CASE "x87", fld1
        CASE "MMX", movd mm0, eax
        CASE "SSE", addps xmm0, xmm0
        CASE "WAIT", fwait
        fninit
        CR0_ CR0_TS, 0
        CASE "TS: x87", fld1
        CASE "TS: FNINIT", fninit
        CASE "TS: FNSTSW AX", fnstsw ax
        CASE "TS: MMX", movd mm0, eax
        CASE "TS: EMMS", emms
        CASE "TS: SSE", addps xmm0, xmm0
        CASE "TS: SSE2", paddd xmm0, xmm0
        CASE "TS: LDMXCSR", ldmxcsr [mxcsr_default]
        CASE "TS: FXSAVE", fxsave [PHYS]
        CASE "TS, MP: WAIT", fwait
        CASE "TS: PREFETCH", prefetcht0 [PHYS]
        CASE "TS: SFENCE", sfence
        CASE "TS: MOVNTI", movnti [PHYS], eax
        CASE "TS: CRC32", crc32 eax, eax
        CASE "TS: POPCNT", popcnt eax, eax
        CR0_ 0, CR0_MP
        CASE "TS, no MP: WAIT", fwait
        CASE "TS, no MP: x87", fld1
        clts
        CASE "after CLTS", fld1
        fninit
        CR0_ CR0_EM | CR0_MP, 0
        CASE "EM: x87", fld1
        CASE "EM: WAIT", fwait
        CASE "EM: MMX", movd mm0, eax
        CASE "EM: SSE", addps xmm0, xmm0
        CASE "EM: FXSAVE", fxsave [PHYS]
        CR0_ CR0_TS, 0
        CASE "EM, TS: x87", fld1
        CASE "EM, TS: SSE", addps xmm0, xmm0
        CASE "EM, TS: MMX", movd mm0, eax
        CASE "EM, TS, MP: WAIT", fwait
        CR0_ 0, CR0_EM | CR0_TS
        CR4_ 0, CR4_OSFXSR
        CASE "no OSFXSR: SSE", addps xmm0, xmm0
        CASE "no OSFXSR: SSE2 integer", paddd xmm0, xmm0
        CASE "no OSFXSR: MMX", movd mm0, eax
        CASE "no OSFXSR: LDMXCSR", ldmxcsr [mxcsr_default]
        CASE "no OSFXSR: FXSAVE", fxsave [PHYS]
        emms
        CR4_ CR4_OSFXSR, 0

        ; --- x87 exceptions: pending until the next waiting instruction
        fninit
        fldcw [cw_ze]                   ; zero divide unmasked
        TRY
        fld1
        fldz
        fdivp
        mov ecx, 1
        END "division by zero itself"
        CASE "then FLD1", fld1
        CASE "then WAIT", fwait
        CASE "then FNSTSW", fnstsw ax
        movzx eax, ax
        SHOW "status", rax
        CASE "then MMX", movd mm0, eax
        CASE "then FNSTCW", fnstcw [PHYS]
        CASE "then FNCLEX", fnclex
        CASE "then FLD1 again", fld1
        fnstsw ax
        movzx eax, ax
        SHOW "status", rax
        fninit
        fldcw [cw_ie]                   ; invalid unmasked
        TRY
        fldz
        fldz
        fdivp
        HERE
        fst st0
        END "0/0, then FST"
        fninit
        fldcw [cw_ie]
        TRY
        fld1
        faddp st3, st0
        HERE
        fwait
        END "stack underflow, then WAIT"
        fnstsw ax
        movzx eax, ax
        SHOW "status", rax
        fninit
        TRY
        fldz
        fldz
        fdivp
        fwait
        END "masked 0/0"
        fnstsw ax
        movzx eax, ax
        SHOW "status", rax
        ; CR0.NE = 0: no exception but FERR#, IRQ 13
        fninit
        fldcw [cw_ze]
        CR0_ 0, CR0_NE
        TRY
        fld1
        fldz
        fdivp
        nop
        END "NE 0: division by zero"
        fnclex
        CR0_ CR0_NE, 0
        fninit
        ; unmasking by FLDCW and by FLDENV makes a pending one
        fld1
        fldz
        fdivp
        TRY
        fldcw [cw_ze]
        END "FLDCW that unmasks"
        CASE "then FLD1", fld1
        fnclex
        fninit

        ; --- SSE exceptions
        ldmxcsr [mxcsr_ze]
        TRY
        xorps xmm1, xmm1
        movaps xmm0, [ones]
        HERE
        divps xmm0, xmm1
        END "DIVPS by zero"
        stmxcsr [PHYS]
        SHOWD "MXCSR", [PHYS]
        TRY
        movaps xmm0, [ones]
        HERE
        divss xmm0, [zero]
        END "DIVSS by zero in memory"
        movd eax, xmm0
        SHOW "destination unchanged", rax
        CR4_ 0, CR4_OSXMMEXCPT
        TRY
        HERE
        divps xmm0, xmm1
        END "DIVPS by zero, no OSXMMEXCPT"
        CR4_ CR4_OSXMMEXCPT, 0
        ldmxcsr [mxcsr_default]
        CASE "masked", divps xmm0, xmm1
        stmxcsr [PHYS]
        SHOWD "MXCSR", [PHYS]
        TRY
        HERE
        ldmxcsr [mxcsr_bad]
        END "LDMXCSR with a reserved bit"
        TRY
        mov ebx, PHYS + 8
        HERE
        movaps xmm0, [rbx]
        END "MOVAPS misaligned"
        TRY
        HERE
        paddd xmm0, [rbx]
        END "PADDD misaligned"
        CASE "MOVUPS misaligned", movups xmm0, [rbx]
        TRY
        HERE
        fxsave [rbx]
        END "FXSAVE misaligned"
        ; --- XSAVE family without OSXSAVE
        TRY
        xor ecx, ecx
        HERE
        xgetbv
        END "XGETBV without OSXSAVE"
        CASE "XSAVE without OSXSAVE", xsave [PHYS]
        CASE "VADDPS without OSXSAVE", vaddps xmm0, xmm1, xmm2
        ; lazy switching: #NM, CLTS, again
        SETIDT 7, h_nm, KCODE64, INT32
        CR0_ CR0_TS, 0
        fninit
        fld1
        fistp dword [PHYS]
        SHOWD "after a lazy switch", [PHYS]
        SHOWD "switches", [switches]
        EXIT

h_nm:   inc dword [switches]
        clts
        iretq

section .data
align 16
ones:   dd 1.0, 1.0, 1.0, 1.0
zero:   dd 0
mxcsr_default: dd 0x1f80
mxcsr_ze: dd 0x1d80
mxcsr_bad: dd 0x80001f80
cw_ze:  dw 0x37b
cw_ie:  dw 0x37e
section .bss
switches: resd 1
