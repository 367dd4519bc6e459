; Two CPUs: start-up, IPIs, locked operations of every kind on shared operands, code that the other CPU changes
; (SDM 3A 8.1, 8.4, 10.6).
%include "bare.inc"

%include "smp.inc"

PHYS            equ 0x1000000
ROUNDS          equ 20000

section .text
main:   GO64 start

        bits 64
start:  call start_ap
        SHOWD "CPUs started", [ap_count]

        BOTH w_add32
        SHOW "LOCK ADD of 32 bits", [PHYS]
        BOTH w_add_misaligned
        mov rax, [PHYS + 0x41]
        SHOW "misaligned LOCK ADD of 64 bits", rax
        BOTH w_add_line
        mov rax, [PHYS + 0x7d]
        SHOW "LOCK ADD crossing a cache line", rax
        BOTH w_add_page
        mov rax, [PHYS + 0x2000 - 3]
        SHOW "LOCK ADD crossing a page", rax
        BOTH w_xadd
        SHOW "XADD", [PHYS + 0x200]
        BOTH w_inc8
        movzx eax, byte [PHYS + 0x300]
        SHOW "LOCK INC of 8 bits", rax
        BOTH w_inc16
        movzx eax, word [PHYS + 0x310]
        SHOW "LOCK INC of 16 bits", rax
        BOTH w_inc16_odd
        movzx eax, word [PHYS + 0x321]
        SHOW "LOCK INC of 16 bits, misaligned", rax
        BOTH w_cmpxchg
        SHOW "LOCK CMPXCHG loop", [PHYS + 0x400]
        BOTH w_cmpxchg8b
        SHOW "LOCK CMPXCHG8B loop", [PHYS + 0x410]
        BOTH w_cmpxchg16b
        SHOW "LOCK CMPXCHG16B loop, low", [PHYS + 0x420]
        SHOW "high", [PHYS + 0x428]
        BOTH w_xchg
        SHOW "count under an XCHG lock", [PHYS + 0x508]
        BOTH w_bts
        SHOW "count under a LOCK BTS lock", [PHYS + 0x608]
        BOTH w_mixed
        mov rax, [PHYS + 0x700]
        SHOW "aligned and misaligned LOCK ADD overlapping", rax
        mov dword [PHYS + 0x814], 5
        BOTH w_not
        SHOW "LOCK ADC, SBB, DEC, ADD; SUB", [PHYS + 0x800]
        SHOW "LOCK XOR; OR, AND", [PHYS + 0x808]
        SHOW "LOCK NOT; NEG", [PHYS + 0x810]

        ; --- IPIs
        SETIDT 0x50, h_ipi, KCODE64, INT32
        mov dword [ipis], 0
        mov qword [ap_work], w_idle
        mov ecx, 100
.ipi:   mov eax, [ipis]
        mov dword [LAPIC + 0x310], 1 << 24
        mov dword [LAPIC + 0x300], 0x4050
.seen:  pause
        cmp eax, [ipis]
        je .seen
        loop .ipi
        mov ebx, [ipis]
        mov dword [idle_stop], 1
        mov dword [LAPIC + 0x310], 1 << 24
        mov dword [LAPIC + 0x300], 0x4050
        mov rax, ap_work
.end:   pause
        cmp qword [rax], 0
        jne .end
        SHOWD "IPIs taken in HLT", ebx
        mov dword [ipis], 0
        mov qword [ap_work], w_spin
        mov ecx, 100
.ipi2:  mov eax, [ipis]
        mov dword [LAPIC + 0x300], 0xc4050      ; all but self
.seen2: pause
        cmp eax, [ipis]
        je .seen2
        loop .ipi2
        mov dword [idle_stop], 2
.end2:  pause
        cmp qword [ap_work], 0
        jne .end2
        SHOWD "IPIs taken in a loop", [ipis]
        ; NMI by IPI
        SETIDT 2, h_nmi, KCODE64, INT32
        mov dword [idle_stop], 0
        mov qword [ap_work], w_spin
        mov dword [LAPIC + 0x300], 0xc4400
.nmi:   pause
        cmp dword [nmis], 1
        jb .nmi
        mov dword [idle_stop], 2
.end3:  pause
        cmp qword [ap_work], 0
        jne .end3
        SHOWD "NMI by IPI", [nmis]
        ; NMI to a CPU that halts with interrupts off
        mov dword [idle_stop], 0
        mov qword [ap_work], w_halt
.halts: pause
        cmp dword [idle_stop], 3
        jne .halts
        mov ecx, 1000
.deep:  pause
        loop .deep
        mov dword [LAPIC + 0x300], 0xc4050      ; an interrupt does not wake it
        mov ecx, 10000
.deep2: pause
        loop .deep2
        mov eax, [idle_stop]
        SHOW "halted with IF off", rax
        mov dword [LAPIC + 0x300], 0xc4400
.end5:  pause
        cmp qword [ap_work], 0
        jne .end5
        SHOWD "woken by NMI", [nmis]
        ; remote TLB shoot-down
        mov qword [pdpt + 8], t_pd + (P | W)
        mov qword [t_pd], t_pt + (P | W)
        mov qword [t_pt], PHYS + 0x5000 + (P | W)
        mov qword [PHYS + 0x5000], 0x55
        mov qword [PHYS + 0x6000], 0x66
        SETIDT 0x51, h_flush, KCODE64, INT32
        mov dword [idle_stop], 0
        mov qword [ap_work], w_read
.mapped: pause
        cmp qword [seen], 0x55
        jne .mapped
        mov qword [t_pt], PHYS + 0x6000 + (P | W)
        mov dword [LAPIC + 0x300], 0xc4051
.flushed: pause
        cmp dword [flushes], 1
        jne .flushed
.new:   pause
        cmp qword [seen], 0x66
        jne .new
        mov dword [idle_stop], 2
.end4:  pause
        cmp qword [ap_work], 0
        jne .end4
        SHOW "after a remote INVLPG", [seen]
        ; INIT puts the AP back to its start, SIPI starts it again
        mov dword [ap_count], 0
        call start_ap
        SHOWD "started again", [ap_count]
        BOTH w_add32
        SHOW "LOCK ADD then", [PHYS]
        ; A and D bits set by both at once: no update of the entry is lost
        mov qword [t_pt], 0
        BOTH w_ad
        SHOW "PTE changes lost against A and D bits", [PHYS + 0x900]
        EXIT

h_ipi:  lock inc dword [ipis]
        mov dword [LAPIC + 0xb0], 0
        iretq
h_nmi:  lock inc dword [nmis]
        iretq
h_flush:
        invlpg [0x40000000]
        mov dword [LAPIC + 0xb0], 0
        lock inc dword [flushes]
        iretq

w_idle: sti
        hlt
        cli
        cmp dword [idle_stop], 1
        jne w_idle
        ret
w_halt: cli
        mov dword [idle_stop], 3
        hlt
        mov dword [idle_stop], 4
        sti
        nop
        jmp .taken
.taken: cli
        ret
w_spin: sti
.spin:  cmp dword [idle_stop], 2
        jne .spin
        cli
        ret
w_read: sti
.spin:  mov rax, [0x40000000]
        mov [seen], rax
        cmp dword [idle_stop], 2
        jne .spin
        cli
        ret

w_add32:
        TOGETHER
        mov ecx, ROUNDS
.next:  lock add dword [PHYS], 1
        loop .next
        ret
w_add_misaligned:
        TOGETHER
        mov ecx, 1000
        mov rax, 0x0000000100000001
.next:  lock add [PHYS + 0x41], rax
        loop .next
        ret
w_add_line:
        TOGETHER
        mov ecx, 1000
        mov rax, 0x0000000100000001
.next:  lock add [PHYS + 0x7d], rax
        loop .next
        ret
w_add_page:
        TOGETHER
        mov ecx, 1000
        mov rax, 0x0000000100000001
.next:  lock add [PHYS + 0x2000 - 3], rax
        loop .next
        ret
w_xadd: TOGETHER
        mov ecx, ROUNDS
.next:  mov eax, 3
        lock xadd [PHYS + 0x200], rax
        loop .next
        ret
w_inc8: TOGETHER
        mov ecx, ROUNDS + 3
.next:  lock inc byte [PHYS + 0x300]
        loop .next
        ret
w_inc16:
        TOGETHER
        mov ecx, ROUNDS
.next:  lock inc word [PHYS + 0x310]
        loop .next
        ret
w_inc16_odd:
        TOGETHER
        mov ecx, 1000
.next:  lock inc word [PHYS + 0x321]
        loop .next
        ret
w_cmpxchg:
        TOGETHER
        mov ecx, ROUNDS
.next:  mov rax, [PHYS + 0x400]
.again: lea rdx, [rax + 1]
        lock cmpxchg [PHYS + 0x400], rdx
        jne .again
        loop .next
        ret
w_cmpxchg8b:
        TOGETHER
        push rbx
        mov esi, ROUNDS
.next:  mov eax, [PHYS + 0x410]
        mov edx, [PHYS + 0x414]
.again: lea ebx, [rax + 1]
        lea ecx, [rdx + 2]
        lock cmpxchg8b [PHYS + 0x410]
        jne .again
        dec esi
        jnz .next
        pop rbx
        ret
w_cmpxchg16b:
        TOGETHER
        push rbx
        mov esi, 1000
.next:  mov rax, [PHYS + 0x420]
        mov rdx, [PHYS + 0x428]
.again: lea rbx, [rax + 1]
        lea rcx, [rdx + 2]
        lock cmpxchg16b [PHYS + 0x420]
        jne .again
        dec esi
        jnz .next
        pop rbx
        ret
w_xchg: TOGETHER
        mov ecx, ROUNDS / 4
.next:  mov eax, 1
.again: xchg [PHYS + 0x500], eax
        test eax, eax
        jz .got
        pause
        jmp .again
.got:   inc qword [PHYS + 0x508]
        mov dword [PHYS + 0x500], 0
        loop .next
        ret
w_bts:  TOGETHER
        mov ecx, ROUNDS / 4
.next:  lock bts dword [PHYS + 0x600], 31
        jnc .got
        pause
        jmp .next
.got:   inc qword [PHYS + 0x608]
        lock btr dword [PHYS + 0x600], 31
        loop .next
        ret
; one CPU adds to the whole qword, the other to its upper bytes at an odd address
w_mixed:
        mov eax, 1
        lock xadd [PHYS + 0x710], eax
        mov r8d, eax
        TOGETHER
        mov ecx, 1000
        test r8d, r8d
        jnz .other
.next:  lock add qword [PHYS + 0x700], 1
        loop .next
        ret
.other: lock add dword [PHYS + 0x703], 1
        loop .other
        ret
w_not:  TOGETHER
        mov ecx, 1000
        mov eax, 0x10
.next:  lock not dword [PHYS + 0x810]
        lock neg dword [PHYS + 0x814]
        lock xor dword [PHYS + 0x808], eax
        lock xor dword [PHYS + 0x808], eax
        lock or dword [PHYS + 0x80c], eax
        lock and dword [PHYS + 0x80c], eax
        stc
        lock adc dword [PHYS + 0x800], 1
        stc
        lock sbb dword [PHYS + 0x800], 0
        lock dec dword [PHYS + 0x800]
        lock add dword [PHYS + 0x800], 1
        lock sub dword [PHYS + 0x804], eax
        loop .next
        ret

; One CPU sets the D bit by writing, the other counts in the entry's available bits.
w_ad:   mov eax, 1
        lock xadd [PHYS + 0x910], eax
        mov r8d, eax
        TOGETHER
        mov ecx, 2000
        test r8d, r8d
        jnz .touch
        mov qword [t_pt], PHYS + 0x5000 + (P | W)
        mov rdx, 1 << 52
.count: lock add [t_pt], rdx            ; bits 52.. of the entry are ignored
        lock and byte [t_pt], ~(A | D)
        loop .count
        mov rax, [t_pt]
        shr rax, 52
        and eax, 0x7ff
        sub eax, 2000
        mov [PHYS + 0x900], rax
        ret
.touch: invlpg [0x40000000]
        test qword [t_pt], P
        jz .touch
        mov [0x40000000], eax
        loop .touch
        ret

section .bss
alignb 4096
t_pd:   resb 4096
t_pt:   resb 4096
alignb 8
ipis:   resd 1
nmis:   resd 1
flushes: resd 1
idle_stop: resd 1
        resd 2
seen:   resq 1
