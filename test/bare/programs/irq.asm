; Interrupts: shadows, HLT, NMI blocking, 8259 pair, 8254, RTC, HPET, local APIC and I/O APIC (SDM 3A 6.8, 10; data
; sheets).
%include "bare.inc"

PHYS            equ 0x1000000

PIC1            equ 0x20
PIC2            equ 0xa0
IRQS            equ 0x20                ; vectors of the 8259 pair
V_TIMER         equ 0x40
V_SELF          equ 0x41
V_LOW           equ 0x31
V_HIGH          equ 0x91
V_SPURIOUS      equ 0xff

section .text
main:   GO64 start

; Long enough for an event to be noticed: emulators look between blocks.
%macro SETTLE 0
  %rep 3
        jmp short $ + 2
  %endrep
%endmacro
%macro OUTB 2
        mov al, %2
        out %1, al
%endmacro
%macro OUTDX 2
        mov dx, %1
        mov al, %2
        out dx, al
%endmacro
%macro LAPIC_W 2
        mov dword [LAPIC + %1], %2
%endmacro
%macro IOAPIC_W 2
        mov dword [IOAPIC], %1
        mov dword [IOAPIC + 0x10], %2
%endmacro
; A handler that counts: name, EOI (0 none, 1 PIC1, 2 both, 3 LAPIC)
%macro COUNTER 2
%1:     push rax
        push rdx
        inc dword [%1_count]
        mov rax, [rsp + 16]
        mov [%1_ip], rax
  %if %2 == 1 || %2 == 2
    %if %2 == 2
        OUTB PIC2, 0x20
    %endif
        OUTB PIC1, 0x20
  %elif %2 == 3
        LAPIC_W 0xb0, 0
  %endif
        pop rdx
        pop rax
        iretq
%endmacro
; HLT until a counter has reached a value. Interrupts are off again afterwards.
%macro AWAIT 2
%%again: cli
        cmp dword [%1_count], %2
        jae %%done
        sti
        hlt
        jmp %%again
%%done:
%endmacro

; Wait until channel 0 of the 8254 has its output high, but not for ever.
%macro OUT_HIGH 0
        mov ecx, 1000000
%%low:  OUTB 0x43, 0xe2
        in al, 0x40
        test al, 0x80
        loopz %%low
%endmacro

%macro AT_LEAST 3
        xor eax, eax
        cmp dword [%2_count], %3
        setae al
        SHOW %1, rax
%endmacro

        bits 64
start:  SETIDT V_SELF, h_self, KCODE64, INT32
        SETIDT V_TIMER, h_timer, KCODE64, INT32
        SETIDT V_LOW, h_low, KCODE64, INT32
        SETIDT V_HIGH, h_high, KCODE64, INT32
        SETIDT V_SPURIOUS, h_spurious, KCODE64, INT32
        SETIDT 2, h_nmi, KCODE64, INT32
%assign irq 0
%rep 16
        SETIDT IRQS + irq, h_irq %+ irq, KCODE64, INT32
  %assign irq irq + 1
%endrep
        ; --- local APIC: self IPIs
        LAPIC_W 0xf0, 0x100 | V_SPURIOUS
        LAPIC_W 0x80, 0
        LAPIC_W 0x350, 0x10000          ; LINT0 masked
        SHOWD "LAPIC id", [LAPIC + 0x20]
        mov eax, [LAPIC + 0x30]
        and eax, 0xf0                   ; 1x: integrated
        SHOW "LAPIC version", rax
        LAPIC_W 0x300, 0x40000 | V_SELF
        SHOWD "IRR with IF off", [LAPIC + 0x200 + (V_SELF / 32) * 16]
        sti
        nop
        cli
        SHOWD "self IPI", [h_self_count]
        SHOWD "IRR then", [LAPIC + 0x200 + (V_SELF / 32) * 16]
        SHOWD "ISR then", [LAPIC + 0x100 + (V_SELF / 32) * 16]

        ; --- STI and MOV SS hold it off for one instruction
        LAPIC_W 0x300, 0x40000 | V_SELF
        sti
.shadow: nop
.after: nop
        cli
        mov rax, [h_self_ip]
        sub rax, .after
        SHOW "after STI: ip", rax
        LAPIC_W 0x300, 0x40000 | V_SELF
        sti
        cli
        mov eax, [h_self_count]
        SHOW "STI, CLI: count", rax
        pushfq
        or dword [rsp], FL_IF
        popfq
.after3: nop
        cli
        mov rax, [h_self_ip]
        sub rax, .after3
        SHOW "after POPF: ip", rax
        LAPIC_W 0x300, 0x40000 | V_SELF
        push KDATA64
        mov rax, rsp
        push rax
        push 0x202
        push KCODE64
        push .after4
        iretq
.after4: nop
        cli
        mov rax, [h_self_ip]
        sub rax, .after4
        SHOW "after IRET: ip", rax
        ; STI; HLT with the interrupt waiting: HLT is executed and left at once
        LAPIC_W 0x300, 0x40000 | V_SELF
        sti
        hlt
.after5: cli
        mov rax, [h_self_ip]
        sub rax, .after5
        SHOW "STI, HLT with one waiting: ip", rax
        sti
        LAPIC_W 0x300, 0x40000 | V_SELF
        SETTLE
        cli
        SHOWD "count", [h_self_count]
        ; STI; JMP: the interrupt is taken at the jump's target, whose code is known the second time
        mov edx, 2
.jump:  LAPIC_W 0x300, 0x40000 | V_SELF
        mov ebx, [h_self_count]
        mov ecx, 100
        jmp .here
.here:  sti
        jmp .spin
        nop
.spin:  cmp [h_self_count], ebx
        jne .spun
        dec ecx
        jnz .spin
.spun:  cli
        mov rax, [h_self_ip]
        sub rax, .spin
        dec edx
        jnz .jump
        SHOW "STI, JMP: ip", rax
        ; the same at the end of a page
        mov edi, PHYS + 0xffe
        mov dword [rdi], 0xf4fb9090     ; nop; nop (end of page) sti; hlt
        mov word [PHYS + 0xffe], 0xfb90 ; nop; sti | hlt; cli; ret
        mov dword [PHYS + 0x1000], 0x00c3faf4
        LAPIC_W 0x300, 0x40000 | V_SELF
        call rdi
        mov rax, [h_self_ip]
        SHOW "STI at the end of a page, HLT: ip", rax

        ; --- priorities, TPR
        LAPIC_W 0x80, 0x40
        LAPIC_W 0x300, 0x40000 | V_LOW
        LAPIC_W 0x300, 0x40000 | V_HIGH
        sti
        SETTLE
        cli
        SHOWD "TPR 40: vector 91 taken", [h_high_count]
        SHOWD "TPR 40: vector 31 taken", [h_low_count]
        SHOWD "PPR", [LAPIC + 0xa0]
        mov rax, cr8
        SHOW "CR8", rax
        sti
        xor eax, eax
        mov cr8, rax
        SETTLE
        cli
        SHOWD "CR8 0: vector 31 taken", [h_low_count]
        SHOWD "TPR then", [LAPIC + 0x80]
        SETIDT V_HIGH, h_nest, KCODE64, INT32
        LAPIC_W 0x300, 0x40000 | V_HIGH
        sti
        SETTLE
        cli
        SHOWD "lower one during a higher one's service", [nested]
        SHOWD "and after it", [h_low_count]
        SHOWD "PPR in service", [seen_ppr]
        ; same vector twice while in service: once more afterwards
        mov dword [h_self_count], 0
        SETIDT V_SELF, h_twice, KCODE64, INT32
        LAPIC_W 0x300, 0x40000 | V_SELF
        sti
        SETTLE
        cli
        SHOWD "requested twice in its handler: taken", [h_self_count]
        SETIDT V_SELF, h_self, KCODE64, INT32
        ; --- NMI
        LAPIC_W 0x300, 0x40400          ; NMI to self
        SETTLE
        SHOWD "NMI with IF off", [h_nmi_count]
        mov dword [h_nmi_count], 0
        SETIDT 2, h_nmi2, KCODE64, INT32
        LAPIC_W 0x300, 0x40400
        SETTLE
        SHOWD "NMI in NMI's handler: nested", [nested]
        SHOWD "taken", [h_nmi_count]
        SETIDT 2, h_nmi3, KCODE64, INT32
        mov dword [h_nmi_count], 0
        LAPIC_W 0x300, 0x40400
        SETTLE
        SHOWD "IRET of an exception in NMI's handler unblocks: nested", [nested]
        SHOWD "taken", [h_nmi_count]
        SETIDT 2, h_nmi, KCODE64, INT32

        ; --- local APIC timer
        LAPIC_W 0x3e0, 0xb              ; by 1
        LAPIC_W 0x320, V_TIMER          ; one-shot
        LAPIC_W 0x380, 10000
        AWAIT h_timer, 1
        SHOWD "LAPIC timer, one-shot", [h_timer_count]
        SHOWD "count then", [LAPIC + 0x390]
        LAPIC_W 0x320, V_TIMER | 0x20000
        LAPIC_W 0x380, 100000
        AWAIT h_timer, 6
        LAPIC_W 0x380, 0
        sti
        SETTLE
        cli
        AT_LEAST "LAPIC timer, periodic: at least 6", h_timer, 6
        mov dword [h_timer_count], 0
        LAPIC_W 0x320, V_TIMER | 0x10000
        LAPIC_W 0x380, 1000
.masked: pause
        cmp dword [LAPIC + 0x390], 0
        jne .masked
        sti
        SETTLE
        cli
        SHOWD "LAPIC timer, masked", [h_timer_count]
        LAPIC_W 0x320, V_TIMER
        LAPIC_W 0x380, 0x7fffffff
        mov eax, [LAPIC + 0x390]
        mov ecx, 1000
.count: pause
        loop .count
        sub eax, [LAPIC + 0x390]
        cmp eax, 1
        setge al
        movzx eax, al
        SHOW "LAPIC timer counts down", rax
        LAPIC_W 0x380, 0

        ; --- 8259 pair behind LINT0 as ExtINT
        LAPIC_W 0x350, 0x700
        call pic_setup
        OUTB PIC1 + 1, 0xfe             ; IRQ0
        OUTB 0x43, 0x34                 ; channel 0, mode 2
        OUTB 0x40, 0xa9                 ; 1193 counts: 1 ms
        OUTB 0x40, 0x04
        AWAIT h_irq0, 5
        AT_LEAST "8254 mode 2 by 8259: at least 5", h_irq0, 5
        OUTB PIC1 + 1, 0xff
        OUTB 0x43, 0x30                 ; mode 0: once
        ; A pulse of mode 2 may come until a count of mode 0 is loaded (QEMU) and be latched: the 8259 forgets it. Then OUT goes
        ; high, and the 8259 may hear of that later (QEMU's main loop): nothing comes after that.
        OUTB 0x40, 0x00
        OUTB 0x40, 0x10
        call pic_setup
        OUT_HIGH
        mov ecx, 100000
.edge:  OUTB PIC1, 0x0a                 ; read IRR
        in al, PIC1
        test al, 1
        jnz .risen
        loop .edge
.risen:
        OUTB PIC1, 0x20
        call pic_setup
        OUTB 0x40, 0xe8
        OUTB 0x40, 0x03
        mov dword [h_irq0_count], 0
        OUTB PIC1 + 1, 0xfe
        AWAIT h_irq0, 1
        OUTB 0x43, 0xe2                 ; read back the status of channel 0
        in al, 0x40
        and eax, 0xbf
        SHOW "8254 mode 0 done: status", rax
        OUTB PIC1, 0x0a
        in al, PIC1
        and eax, 0xff
        SHOW "8259 IRR with OUT high", rax
        ; masked and unmasked
        OUTB PIC1 + 1, 0xff
        OUTB 0x43, 0x30
        OUTB 0x40, 0x10
        OUTB 0x40, 0
        OUT_HIGH
        sti
        SETTLE
        cli
        SHOWD "masked in the 8259: count", [h_irq0_count]
        OUTB PIC1 + 1, 0xfe
        AWAIT h_irq0, 2
        SHOWD "unmasked: count", [h_irq0_count]
        ; no EOI: nothing of lower or the same priority
        call pic_setup
        SETIDT IRQS, h_noeoi, KCODE64, INT32
        OUTB PIC1 + 1, 0xfe
        OUTB 0x43, 0x34
        OUTB 0x40, 0xa9
        OUTB 0x40, 0x04
        AWAIT h_noeoi, 1
        OUTB PIC1, 0x0b
        in al, PIC1
        and eax, 0xff
        SHOW "8259 ISR without EOI", rax
        mov ecx, 300000
        sti
.slow:  pause
        in al, 0x61
        loop .slow
        cli
        SHOWD "without EOI: count", [h_noeoi_count]
        OUTB 0x43, 0x30
        OUTB PIC1, 0x20
        SETIDT IRQS, h_irq0, KCODE64, INT32

        ; --- RTC behind the second 8259
        call pic_setup
        OUTB 0x70, 0x8a
        OUTB 0x71, 0x26                 ; 1024 Hz
        OUTB 0x70, 0x8c
        in al, 0x71
        OUTB 0x70, 0x8b
        OUTB 0x71, 0x42                 ; periodic interrupts, 24 h
        OUTB PIC1 + 1, 0xfb
        OUTB PIC2 + 1, 0xfe
        AWAIT h_irq8, 5
        AT_LEAST "RTC periodic: at least 5", h_irq8, 5
        SHOWD "register C", [seen_c]
        OUTB 0x70, 0x8b
        OUTB 0x71, 0x02
        OUTB 0x70, 0x8c
        in al, 0x71
        OUTB 0x70, 0x8b
        OUTB 0x71, 0x12                 ; update ended
        call pic_setup
        OUTB PIC1 + 1, 0xfb
        OUTB PIC2 + 1, 0xfe
        mov dword [h_irq8_count], 0
        AWAIT h_irq8, 1
        SHOWD "RTC update ended: register C", [seen_c]
        OUTB 0x70, 0x8b
        OUTB 0x71, 0x02
        OUTB 0x70, 0x0d
        in al, 0x71
        and eax, 0xff
        SHOW "RTC register D", rax
        ; --- COM1: transmitter empty, by the 8259
        call pic_setup
        OUTB PIC1 + 1, 0xef
        OUTDX COM1 + 4, 0x0b            ; OUT2
        OUTDX COM1 + 1, 0x02
        AWAIT h_irq4, 1
        SHOWD "COM1 interrupt identification", [seen_iir]
        OUTDX COM1 + 1, 0
        OUTDX COM1 + 4, 0

        ; --- I/O APIC: PIT at pin 2, RTC at 8, HPET
        OUTB PIC1 + 1, 0xff
        OUTB PIC2 + 1, 0xff
        LAPIC_W 0x350, 0x10000
        mov dword [IOAPIC], 1
        mov eax, [IOAPIC + 0x10]
        and eax, 0xff00ff
        SHOW "I/O APIC version", rax
        mov dword [h_timer_count], 0
        IOAPIC_W 0x10 + 2 * 2 + 1, 0
        IOAPIC_W 0x10 + 2 * 2, V_TIMER
        OUTB 0x43, 0x34
        OUTB 0x40, 0xa9
        OUTB 0x40, 0x04
        AWAIT h_timer, 5
        IOAPIC_W 0x10 + 2 * 2, 0x10000
        AT_LEAST "8254 by the I/O APIC: at least 5", h_timer, 5
        OUTB 0x43, 0x30
        mov dword [h_timer_count], 0
        SETIDT V_TIMER, h_rtc, KCODE64, INT32
        IOAPIC_W 0x10 + 8 * 2 + 1, 0
        IOAPIC_W 0x10 + 8 * 2, V_TIMER
        OUTB 0x70, 0x8b
        OUTB 0x71, 0x42
        AWAIT h_rtc, 5
        OUTB 0x70, 0x8b
        OUTB 0x71, 0x02
        IOAPIC_W 0x10 + 8 * 2, 0x10000
        AT_LEAST "RTC by the I/O APIC: at least 5", h_rtc, 5
        SETIDT V_TIMER, h_timer, KCODE64, INT32
        ; level-triggered: COM1's line stays up until the handler reads IIR; remote IRR and EOI
        SETIDT V_TIMER, h_level, KCODE64, INT32
        IOAPIC_W 0x10 + 4 * 2 + 1, 0
        IOAPIC_W 0x10 + 4 * 2, V_TIMER | 0x8000
        OUTDX COM1 + 4, 0x0b
        OUTDX COM1 + 1, 0x02
        AWAIT h_level, 3
        IOAPIC_W 0x10 + 4 * 2, 0x10000
        SHOWD "level-triggered: taken", [h_level_count]
        mov eax, [seen_remote]
        and eax, 0x4000
        SHOW "remote IRR in service", rax
        OUTDX COM1 + 1, 0
        OUTDX COM1 + 4, 0
        SETIDT V_TIMER, h_timer, KCODE64, INT32
        ; HPET timer 1 by the I/O APIC
        mov dword [h_timer_count], 0
        mov eax, [HPET]
        and eax, 0xffff0000
        SHOW "HPET capabilities, high", rax
        SHOWD "HPET period in fs", [HPET + 4]
        mov dword [HPET + 0x10], 0
        mov qword [HPET + 0xf0], 0
        SHOWD "HPET timer 1 routes", [HPET + 0x124]
        OUTB 0x43, 0x30                 ; the 8254's output low: it has the same pin
        IOAPIC_W 0x10 + 2 * 2 + 1, 0
        IOAPIC_W 0x10 + 2 * 2, V_TIMER
        mov dword [HPET + 0x120], (2 << 9) | 4
        mov qword [HPET + 0x128], 10000         ; 100 us
        mov dword [HPET + 0x10], 1
        AWAIT h_timer, 1
        SHOWD "HPET timer 1, one-shot", [h_timer_count]
        mov rax, [HPET + 0xf0]
        cmp rax, 10000
        setae al
        movzx eax, al
        SHOW "counter has passed", rax
        ; timer 0 periodic
        mov dword [HPET + 0x10], 0
        mov qword [HPET + 0xf0], 0
        mov dword [HPET + 0x120], 0
        mov dword [HPET + 0x100], (2 << 9) | 4 | 8 | 0x40
        mov qword [HPET + 0x108], 10000
        mov dword [HPET + 0x10], 1
        AWAIT h_timer, 6
        mov dword [HPET + 0x10], 0
        mov dword [HPET + 0x100], 0
        AT_LEAST "HPET timer 0, periodic: at least 6", h_timer, 6
        SHOWD "spurious", [h_spurious_count]
        EXIT

pic_setup:
        OUTB PIC1, 0x11
        OUTB PIC1 + 1, IRQS
        OUTB PIC1 + 1, 4
        OUTB PIC1 + 1, 1
        OUTB PIC2, 0x11
        OUTB PIC2 + 1, IRQS + 8
        OUTB PIC2 + 1, 2
        OUTB PIC2 + 1, 1
        OUTB PIC1 + 1, 0xff
        OUTB PIC2 + 1, 0xff
        ret

COUNTER h_self, 3
COUNTER h_timer, 3
COUNTER h_low, 3
COUNTER h_high, 3
COUNTER h_spurious, 0
COUNTER h_nmi, 0
COUNTER h_noeoi, 0
COUNTER h_irq0, 1
COUNTER h_irq1, 1
COUNTER h_irq2, 1
COUNTER h_irq3, 1
COUNTER h_irq5, 1
COUNTER h_irq6, 1
COUNTER h_irq7, 1
COUNTER h_irq9, 2
COUNTER h_irq10, 2
COUNTER h_irq11, 2
COUNTER h_irq12, 2
COUNTER h_irq13, 2
COUNTER h_irq14, 2
COUNTER h_irq15, 2
h_irq8: push rax
        inc dword [h_irq8_count]
        OUTB 0x70, 0x8c
        in al, 0x71
        movzx eax, al
        mov [seen_c], eax
        OUTB PIC2, 0x20
        OUTB PIC1, 0x20
        pop rax
        iretq
h_rtc:  push rax
        inc dword [h_rtc_count]
        OUTB 0x70, 0x8c
        in al, 0x71
        LAPIC_W 0xb0, 0
        pop rax
        iretq
h_irq4: push rax
        push rdx
        inc dword [h_irq4_count]
        mov dx, COM1 + 2
        in al, dx
        and eax, 0x3f
        mov [seen_iir], eax
        OUTB PIC1, 0x20
        pop rdx
        pop rax
        iretq
h_level:
        push rax
        push rdx
        inc dword [h_level_count]
        mov dword [IOAPIC], 0x10 + 4 * 2
        mov eax, [IOAPIC + 0x10]
        mov [seen_remote], eax
        cmp dword [h_level_count], 3
        jb .still
        mov dx, COM1 + 2
        in al, dx
.still: LAPIC_W 0xb0, 0
        pop rdx
        pop rax
        iretq
; a higher vector's handler: a lower one must wait
h_nest: push rax
        mov eax, [h_low_count]
        LAPIC_W 0x300, 0x40000 | V_LOW
        sti
        SETTLE
        cli
        sub eax, [h_low_count]
        mov [nested], eax
        mov eax, [LAPIC + 0xa0]
        mov [seen_ppr], eax
        LAPIC_W 0xb0, 0
        pop rax
        iretq
h_twice:
        inc dword [h_self_count]
        cmp dword [h_self_count], 1
        jne .no
        LAPIC_W 0x300, 0x40000 | V_SELF
        LAPIC_W 0x300, 0x40000 | V_SELF
.no:    LAPIC_W 0xb0, 0
        iretq
h_nmi2: inc dword [h_nmi_count]
        cmp dword [h_nmi_count], 1
        jne .no
        LAPIC_W 0x300, 0x40400
        SETTLE
        mov eax, [h_nmi_count]
        dec eax
        mov [nested], eax
.no:    iretq
h_nmi3: inc dword [h_nmi_count]
        cmp dword [h_nmi_count], 1
        jne .no
        SETIDT 0x45, .inner, KCODE64, INT32
        int 0x45
        LAPIC_W 0x300, 0x40400
        SETTLE
        mov eax, [h_nmi_count]
        dec eax
        mov [nested], eax
.no:    iretq
.inner: iretq

section .bss
alignb 8
%macro COUNTS 1-*
  %rep %0
%1_count: resd 2
%1_ip:  resq 1
    %rotate 1
  %endrep
%endmacro
COUNTS h_self, h_timer, h_low, h_high, h_spurious, h_nmi, h_noeoi, h_rtc, h_level
COUNTS h_irq0, h_irq1, h_irq2, h_irq3, h_irq4, h_irq5, h_irq6, h_irq7
COUNTS h_irq8, h_irq9, h_irq10, h_irq11, h_irq12, h_irq13, h_irq14, h_irq15
nested: resd 1
seen_ppr: resd 1
seen_c: resd 1
seen_iir: resd 1
seen_remote: resd 1
