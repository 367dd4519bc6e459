; The same work again and again, on two CPUs at once, under timer interrupts, IPIs and NMIs: with page faults, divide
; errors, system calls from user mode, self-modifying code, instructions and data that cross pages, strings, x87 and
; SSE. The result must be that of the first time, which ran undisturbed (SDM 3A 6.6: interrupted programs go on without
; loss of continuity).
%include "bare.inc"
%include "smp.inc"

AREA            equ 0x1800000           ; per CPU, at R15
AREA_SIZE       equ 0x100000
STACK           equ 0x10000             ; offsets: top of the stack,
CODE            equ 0x4ff0              ; code that crosses a page,
BUFFER          equ 0x1000              ; data
FX              equ 0x20000             ; FXSAVE areas of the handlers
LIN             equ 0x40000000          ; demand-paged: 2 MiB per CPU
ROUNDS          equ 60                  ; of work, disturbed
TURNS           equ 200                 ; in each
TSS_AP          equ SLOT
V_TIMER         equ 0x40
V_IPI           equ 0x41

section .text
main:   WRMSR_ MSR_EFER, EFER_SCE
        GO64 start

; RAX += value, mixed
%macro MIX 1
        add rax, %1
        imul rax, rbp
        rol rax, 17
%endmacro

        bits 64
; R15: the CPU's area. Gives RAX; all registers but R15 and RSP are lost.
work:   mov [r15 + 0x8000], rsp
        mov eax, 0x12345
        mov rbp, 0x5851f42d4c957f2d
        xor r12d, r12d
.turn:  ; flags, carry chains
        mov rcx, rax
        mov rdx, r12
        add rcx, rbp
        adc rdx, rax
        sbb rcx, r12
        pushfq
        pop rbx
        and ebx, 0x8d5
        MIX rbx
        MIX rdx
        ; an instruction that crosses pages, changed each time
        lea rdi, [r15 + CODE]
        mov word [rdi + 8], 0xb848              ; mov rax, imm64: 8 bytes in this page, the others in the next
        mov [rdi + 10], r12
        mov dword [rdi + 18], 0xc3d8f748        ; neg rax; ret
        lea rcx, [rdi + 8]
        mov rbx, rax
        call rcx
        xchg rax, rbx
        MIX rbx
        ; data that crosses pages
        lea rsi, [r15 + BUFFER + 0xffb]
        mov [rsi], rax
        mov ebx, [rsi + 3]
        lock add [rsi + 1], rbp
        xor rbx, [rsi]
        MIX rbx
        ; strings over a page's end
        lea rdi, [r15 + BUFFER + 0xf80]
        mov ecx, 100
        rep stosb
        lea rsi, [r15 + BUFFER + 0xf80]
        lea rdi, [r15 + BUFFER + 0x1f7d]
        mov ecx, 0x84
        rep movsb
        lea rsi, [r15 + BUFFER + 0xf80]
        lea rdi, [r15 + BUFFER + 0x1f7d]
        mov ecx, 0x90
        repe cmpsb
        setb bl
        movzx ebx, bl
        MIX rcx
        MIX rbx
        lea rdi, [r15 + BUFFER + 0xf80]
        mov ecx, 0x100
        repne scasw
        MIX rcx
        ; divide error, repaired by its handler
        mov r8, rax
        mov rdx, r12
        xor ecx, ecx
        div rcx
        xchg rax, r8
        MIX r8
        MIX rdx
        ; demand paging
        mov ecx, r12d
        and ecx, 15
        shl ecx, 12
        lea rsi, [r15 - AREA]
        shl rsi, 1
        lea rsi, [rsi + rcx + LIN + 0x100]
        mov [rsi], rax
        mov rbx, [rsi]
        MIX rbx
        mov rdi, rsi
        shr rdi, 12
        and edi, 0x3ff
        mov qword [t_pt + rdi * 8], 0
        invlpg [rsi]
        ; SSE and x87
        cvtsi2sd xmm0, r12
        addsd xmm0, [one]
        divsd xmm0, [three]
        mulsd xmm0, xmm0
        movq rbx, xmm0
        MIX rbx
        movd xmm1, eax
        pshufd xmm1, xmm1, 0
        paddd xmm1, xmm1
        movq rbx, xmm1
        MIX rbx
        push r12
        fild qword [rsp]
        fld1
        faddp
        fsqrt
        fstp qword [rsp]
        pop rbx
        MIX rbx
        ; compare-exchange, exchange
        lea rsi, [r15 + BUFFER]
        mov [rsi], rax
        mov r8, rax
        lea rbx, [rax + 7]
        lock cmpxchg [rsi], rbx
        mov rax, r8
        xadd [rsi], rbp
        MIX rbp
        mov rbp, 0x5851f42d4c957f2d
        ; user mode and back by SYSCALL, with and without interrupts in between
        mov r8, rax
        mov [r15 + 0x8008], rsp
        mov rcx, u_work
        mov r11d, 0x202
        test qword [r15 + 0x8010], 1            ; undisturbed: IF stays 0
        jnz .user
        mov r11d, 2
.user:  mov r13, r12
        o64 sysret
returned:
        mov rsp, [r15 + 0x8008]
        test qword [r15 + 0x8010], 1
        jz .quiet
        sti
.quiet: mov rax, r8
        MIX r13
        ; segment loads and their shadows
        mov ecx, KDATA64
        mov es, ecx
        mov ss, ecx
        nop
        ; serialising
        mov rsi, rax
        xor eax, eax
        xor ecx, ecx
        cpuid
        mov rax, rsi
        MIX rbx
        inc r12d
        cmp r12d, TURNS
        jb work.turn
        mov rsp, [r15 + 0x8000]
        ret

; Both CPUs: the area, the MSRs, the timer; then the rounds.
rounds: mov qword [r15 + 0x8010], 1
        mov r14d, ROUNDS
        mov dword [LAPIC + 0x80], 0
        mov dword [LAPIC + 0x3e0], 0xb
        mov dword [LAPIC + 0x320], 0x20000 | V_TIMER
        mov dword [LAPIC + 0x380], 30000
        sti
.round: mov [r15 + 0x8018], r14
        call work
        mov r14, [r15 + 0x8018]
        cmp rax, [expected]
        je .good
        lock inc dword [bad]
.good:  ; the other CPU is disturbed too
        mov dword [LAPIC + 0x300], 0xc4000 + V_IPI
        test r14d, 7
        jnz .no_nmi
        mov dword [LAPIC + 0x300], 0xc4400
.no_nmi:
        dec r14d
        jnz .round
        cli
        mov dword [LAPIC + 0x320], 0x10000
        mov dword [LAPIC + 0x380], 0
        ret

set_msrs:
        WRMSR_ MSR_EFER, EFER_LME | EFER_SCE
        WRMSR_ 0xc0000081, 0, (0x18 << 16) | KCODE64
        WRMSR_ 0xc0000082, returned
        WRMSR_ 0xc0000084, 0x700
        ret

ap_rounds:
        mov [AREA + AREA_SIZE + 0x8020], rsp
        mov r15d, AREA + AREA_SIZE
        call set_msrs
        mov rax, cr0
        and eax, ~CR0_EM
        or eax, CR0_MP | CR0_NE
        mov cr0, rax
        mov rax, cr4
        or eax, CR4_OSFXSR
        mov cr4, rax
        fninit
        mov eax, TSS_AP
        ltr ax
        lea rsp, [r15 + STACK]
        call rounds
        mov rsp, [AREA + AREA_SIZE + 0x8020]
        ret

start:  mov rax, cr0
        and eax, ~CR0_EM
        or eax, CR0_MP | CR0_NE
        mov cr0, rax
        mov rax, cr4
        or eax, CR4_OSFXSR
        mov cr4, rax
        fninit
        call set_msrs
        SETIDT 0, h_de, KCODE64, INT32
        SETIDT 2, h_nmi, KCODE64, INT32, 2
        SETIDT 14, h_pf, KCODE64, INT32
        SETIDT V_TIMER, h_timer, KCODE64, INT32
        SETIDT V_IPI, h_ipi, KCODE64, INT32
        mov qword [pdpt + 8], t_pd + (P | W)
        mov qword [t_pd], t_pt + (P | W)
        mov qword [t_pd + 8], t_pt + 4096 + (P | W)
        ; the other CPU's TSS
        mov dword [tss_ap + 4], AREA + AREA_SIZE + STACK + 0x1000
        mov dword [tss_ap + 0x2c], AREA + AREA_SIZE + STACK + 0x2000
        mov eax, tss_ap
        mov dword [gdt + TSS_AP], 0x67
        mov [gdt + TSS_AP + 2], ax
        mov dword [gdt + TSS_AP + 4], 0x8900
        shr eax, 16
        mov [gdt + TSS_AP + 4], al
        mov [gdt + TSS_AP + 7], ah
        mov r15d, AREA
        lea rsp, [r15 + STACK]
        call work
        mov [expected], rax
        call work
        cmp rax, [expected]
        sete al
        movzx eax, al
        SHOW "twice the same undisturbed", rax
        call start_ap
        mov qword [ap_work], ap_rounds
        call rounds
.wait:  pause
        cmp qword [ap_work], 0
        jne .wait
        SHOWD "rounds that went wrong", [bad]
%macro AT_LEAST 3
        xor eax, eax
        cmp dword [%2], %3
        setae al
        SHOW %1, rax
%endmacro
        AT_LEAST "timer interrupts came", timers, 50
        AT_LEAST "IPIs came", ipis, 10
        AT_LEAST "NMIs came", nmis, 2
        AT_LEAST "page faults came", faults, ROUNDS * TURNS * 2
        EXIT

h_de:   mov ecx, 77
        xor edx, edx
        iretq
; Maps the page that is missing to the same offset in the CPU's area.
h_pf:   push rax
        push rcx
        mov rax, cr2
        mov ecx, eax
        shr ecx, 12
        and ecx, 0x3ff
        lock inc dword [faults]
        mov eax, ecx
        shl eax, 12
        add eax, 0x1a00000 + (P | W)
        mov [t_pt + rcx * 8], rax
        pop rcx
        pop rax
        add rsp, 8
        iretq
; Uses everything, as a kernel's handlers do.
h_timer:
        push rax
        push rcx
        push rdx
        push rsi
        push rdi
        push rbp
        mov rax, [LAPIC + 0x20]
        shr eax, 24
        imul eax, eax, AREA_SIZE
        lea rbp, [rax + AREA + FX]
        fxsave [rbp]
        fninit
        fldpi
        fldpi
        pxor xmm0, xmm0
        pcmpeqd xmm1, xmm1
        xor eax, eax
        lea rdi, [rbp + 0x400]
        mov ecx, 50
        rep stosq
        lock inc dword [timers]
        fxrstor [rbp]
        mov dword [LAPIC + 0xb0], 0
        pop rbp
        pop rdi
        pop rsi
        pop rdx
        pop rcx
        pop rax
        iretq
h_ipi:  lock inc dword [ipis]
        mov dword [LAPIC + 0xb0], 0
        iretq
h_nmi:  lock inc dword [nmis]
        iretq

section .user
        bits 64
u_work: imul r13, r13, 31
        add r13, 7
        bswap r13
        mov ecx, 20
.spin:  rol r13, 3
        xor r13, rcx
        loop .spin
        syscall

section .data
align 16
one:    dq 1.0
three:  dq 3.0
section .bss
alignb 4096
t_pd:   resb 4096
t_pt:   resb 8192
tss_ap: resb 0x68
expected: resq 1
bad:    resd 1
timers: resd 1
ipis:   resd 1
nmis:   resd 1
faults: resd 1
