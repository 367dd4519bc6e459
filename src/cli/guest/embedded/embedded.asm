; The embedded guest of smp86: a 64-bit SMP program that needs no operating system.
;
; It starts every CPU that the ACPI tables name (INIT and SIPI through the local APIC), lets all of them
; count primes in slices that they take with an atomic add, and count under a spin lock, prints on COM1
; what each CPU did, checks the totals, and powers off through ACPI.
;
; One flat file that is both a multiboot kernel (by the addresses of its header) and an ELF file with a
; PVH entry point. "limit=N" on the command line sets the number below which primes are counted.
; Assembled by build.ts: nasm -f bin.

BASE            equ 0x100000
TRAMPOLINE      equ 0x8000              ; below 1 MiB, at a page: the SIPI vector is its number
MAX_CPUS        equ 64
STACK_SIZE      equ 4096
DEFAULT_LIMIT   equ 200000
MAX_LIMIT       equ 100000000
SLICE           equ 1024                ; numbers that a CPU takes at a time
ROUNDS          equ 2000                ; counts of each CPU, atomic and under the lock

LAPIC           equ 0xfee00000          ; Intel SDM volume 3, table 11-1
LAPIC_ID        equ 0x20
LAPIC_SVR       equ 0xf0
LAPIC_ICR       equ 0x300
ICR_INIT_OTHERS equ 0xc4500             ; INIT, assert, all excluding self
ICR_SIPI_OTHERS equ 0xc4600 | (TRAMPOLINE >> 12)

COM1            equ 0x3f8
PM1A_CONTROL    equ 0x604
SLP_EN_S5       equ 0x2000

; One record per CPU.
CPU_APIC_ID     equ 0
CPU_NUMBERS     equ 8
CPU_PRIMES      equ 16
CPU_RECORD      equ 32

        bits 32
        org BASE

; ELF header and program headers (System V ABI).
file_start:
        db 0x7f, "ELF", 1, 1, 1, 0
        times 8 db 0
        dw 2, 3                         ; executable, 386
        dd 1, entry, phdrs - file_start, 0, 0
        dw 52, 32, 2, 0, 0, 0
phdrs:  dd 1, 0, BASE, BASE, file_end - file_start, bss_end - BASE, 7, 4096
        dd 4, note - file_start, note, note, note_end - note, note_end - note, 4, 4

note:   dd 4, 4, 18                     ; XEN_ELFNOTE_PHYS32_ENTRY
        db "Xen", 0
        dd entry
note_end:

        align 4
multiboot:
        dd 0x1badb002, 0x00010000, -(0x1badb002 + 0x00010000)
        dd multiboot, BASE, file_end, bss_end, entry

; EBX: multiboot information or hvm_start_info; EAX tells which.
        align 16
entry:  cli
        cld
        mov esp, boot_stack_end
        mov edi, eax
        mov esi, ebx
        ; Where the command line is.
        cmp edi, 0x2badb002
        jne .pvh
        test dword [esi], 1 << 2
        jz .paging
        mov eax, [esi + 16]
        jmp .found
.pvh:   cmp dword [esi], 0x336ec578
        jne .paging
        mov eax, [esi + 24]
.found: mov [cmdline], eax

; Identity map of 4 GiB in 2 MiB pages.
.paging:
        mov dword [pml4], pdpt + 3
        mov ecx, 4
        mov edi, pdpt
        mov eax, directories + 3
.next_directory:
        mov [edi], eax
        add eax, 4096
        add edi, 8
        loop .next_directory
        mov ecx, 4 * 512
        mov edi, directories
        mov eax, 0x83                   ; present, writable, 2 MiB
.next_page:
        mov [edi], eax
        add eax, 0x200000
        add edi, 8
        loop .next_page
        lgdt [gdt_pointer]
        call enable_long_mode
        jmp 0x08:start64

; Page tables and long mode, for the first CPU and the others alike; still in 32-bit code when it returns.
enable_long_mode:
        mov eax, cr4
        or eax, (1 << 5) | (1 << 9)     ; PAE, OSFXSR
        mov cr4, eax
        mov eax, pml4
        mov cr3, eax
        mov ecx, 0xc0000080             ; EFER
        rdmsr
        or eax, 1 << 8                  ; LME
        wrmsr
        mov eax, cr0
        or eax, 1 << 31
        mov cr0, eax
        ret

; Copied to TRAMPOLINE: real mode, CS = TRAMPOLINE / 16.
        bits 16
trampoline:
        cli
        mov ax, cs
        mov ds, ax
        lgdt [trampoline_gdt_pointer - trampoline]
        mov eax, cr0
        or al, 1
        mov cr0, eax
        jmp dword 0x18:ap32
        align 4
trampoline_gdt_pointer:
        dw gdt_end - gdt - 1
        dd gdt
trampoline_end:

        bits 32
ap32:   mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        ; No stack yet, and others are here too: take a number first.
        mov eax, 1
        lock xadd [cpus_started], eax
        cmp eax, MAX_CPUS
        jae park32
        mov esi, eax
        mov esp, eax
        inc esp
        imul esp, esp, STACK_SIZE
        add esp, stacks
        call enable_long_mode
        jmp 0x08:ap64
park32: hlt
        jmp park32

        align 8
gdt:    dq 0
        dq 0x00af9b000000ffff           ; 0x08: 64-bit code
        dq 0x00cf93000000ffff           ; 0x10: data
        dq 0x00cf9b000000ffff           ; 0x18: 32-bit code
gdt_end:
gdt_pointer:
        dw gdt_end - gdt - 1
        dd gdt

        bits 64
start64:
        mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esp, stacks + STACK_SIZE
        mov r15d, LAPIC                 ; in all 64-bit code
        call serial_init
        call read_limit
        call count_cpus
        mov rsi, text_banner
        call print
        mov eax, [cpus_expected]
        call print_number
        mov rsi, text_cpus
        call print
        call start_others
        ; All CPUs begin together.
        mov dword [go], 1
        xor esi, esi
        call work
        ; Wait for the others.
.wait:  mov eax, [cpus_done]
        cmp eax, [cpus_started]
        je report
        pause
        jmp .wait

ap64:   mov ax, 0x10
        mov ds, ax
        mov es, ax
        mov ss, ax
        mov esi, esi                    ; clears the upper half
        mov eax, esp
        mov esp, eax
        mov r15d, LAPIC
        mov dword [r15 + LAPIC_SVR], 0x1ff
.wait:  pause
        cmp dword [go], 0
        je .wait
        call work
.park:  hlt
        jmp .park

; ESI: number of this CPU. Counts primes and rounds, then says it is done.
work:   mov eax, esi
        imul eax, eax, CPU_RECORD
        lea rdi, [cpus + rax]
        mov eax, [r15 + LAPIC_ID]
        shr eax, 24
        mov [rdi + CPU_APIC_ID], rax
.slice: mov eax, SLICE
        lock xadd [next_number], eax
        mov r9d, [limit]
        cmp eax, r9d
        jae .rounds
        mov r8d, eax                    ; candidate
        add eax, SLICE
        cmp eax, r9d
        jae .last
        mov r9d, eax                    ; end of the slice
.last:  mov eax, r9d
        sub eax, r8d
        add [rdi + CPU_NUMBERS], rax
.candidate:
        cmp r8d, 2
        jb .composite
        je .prime
        test r8d, 1
        jz .composite
        mov ecx, 3
.divide:
        mov eax, ecx
        imul eax, ecx
        cmp eax, r8d
        ja .prime
        mov eax, r8d
        xor edx, edx
        div ecx
        test edx, edx
        jz .composite
        add ecx, 2
        jmp .divide
.prime: inc qword [rdi + CPU_PRIMES]
        lock inc qword [primes]
.composite:
        inc r8d
        cmp r8d, r9d
        jb .candidate
        jmp .slice
.rounds:
        mov ecx, ROUNDS
.round: lock add dword [atomic_count], 1
.lock:  mov eax, 1
        xchg [spin_lock], eax
        test eax, eax
        jz .locked
.spin:  pause
        cmp dword [spin_lock], 0
        jne .spin
        jmp .lock
.locked:
        inc dword [locked_count]        ; no lock prefix: the spin lock protects it
        mov dword [spin_lock], 0
        dec ecx
        jnz .round
        lock inc dword [cpus_done]
        ret

; Sets cpus_expected from the MADT (ACPI 6.5, section 5.2.12); 1 when there is none.
count_cpus:
        mov dword [cpus_expected], 1
        mov edi, 0xe0000
.scan:  mov rax, "RSD PTR "
        cmp [rdi], rax
        je .checksum
.no:    add edi, 16
        cmp edi, 0x100000
        jb .scan
        ret
.checksum:
        xor eax, eax
        mov ecx, 20
        mov rsi, rdi
.sum:   add al, [rsi]
        inc rsi
        loop .sum
        test al, al
        jnz .no
        mov esi, [rdi + 16]             ; RSDT
        mov ecx, [rsi + 4]
        lea rbx, [rsi + rcx]            ; its end
        add esi, 36
.table: cmp rsi, rbx
        jae .done
        mov edi, [rsi]
        add rsi, 4
        cmp dword [rdi], "APIC"
        jne .table
        mov ecx, [rdi + 4]
        lea rbx, [rdi + rcx]
        add rdi, 44
        xor edx, edx
.entry: cmp rdi, rbx
        jae .counted
        movzx ecx, byte [rdi + 1]
        test ecx, ecx
        jz .counted
        cmp byte [rdi], 0               ; processor local APIC
        jne .skip
        test byte [rdi + 4], 1          ; enabled
        jz .skip
        inc edx
.skip:  add rdi, rcx
        jmp .entry
.counted:
        test edx, edx
        jz .done
        cmp edx, MAX_CPUS
        jbe .set
        mov edx, MAX_CPUS
.set:   mov [cpus_expected], edx
.done:  ret

; INIT, 10 ms, SIPI, and again after 1 ms (SDM volume 3, section 9.4.4.1); waits until all have come.
start_others:
        mov dword [cpus_started], 1
        mov dword [r15 + LAPIC_SVR], 0x1ff
        cmp dword [cpus_expected], 1
        je .all
        mov esi, trampoline
        mov edi, TRAMPOLINE
        mov ecx, trampoline_end - trampoline
        rep movsb
        mov dword [r15 + LAPIC_ICR], ICR_INIT_OTHERS
        mov ecx, 11932                  ; 10 ms of the 8254's 1.193182 MHz
        call delay
        mov dword [r15 + LAPIC_ICR], ICR_SIPI_OTHERS
        mov ecx, 1193
        call delay
        mov eax, [cpus_started]
        cmp eax, [cpus_expected]
        jae .all
        mov dword [r15 + LAPIC_ICR], ICR_SIPI_OTHERS
        mov r10d, 500                   ; 5 s at most
.wait:  mov eax, [cpus_started]
        cmp eax, [cpus_expected]
        jae .all
        mov ecx, 11932
        call delay
        dec r10d
        jnz .wait
        mov rsi, text_missing
        call print
        mov eax, [cpus_started]
        call print_number
        call newline
.all:   ret

; Waits ECX (below 65536) ticks: counter 2 of the 8254 in mode 0, its output at bit 5 of port 0x61.
delay:  in al, 0x61
        and al, 0xfc
        or al, 1                        ; gate on, speaker off
        out 0x61, al
        mov al, 0xb0                    ; counter 2, both bytes, mode 0
        out 0x43, al
        mov al, cl
        out 0x42, al
        mov al, ch
        out 0x42, al
.wait:  in al, 0x61
        test al, 0x20
        jz .wait
        ret

; Sets limit from "limit=N" on the command line.
read_limit:
        mov dword [limit], DEFAULT_LIMIT
        mov esi, [cmdline]
        test esi, esi
        jz .done
        mov rax, "limit="
        mov rdx, 0xffffffffffff
.scan:  cmp byte [rsi], 0
        je .done
        mov rcx, [rsi]
        and rcx, rdx
        cmp rcx, rax
        je .value
        inc rsi
        jmp .scan
.value: add rsi, 6
        xor eax, eax
.digit: movzx ecx, byte [rsi]
        sub ecx, "0"
        cmp ecx, 9
        ja .set
        imul rax, rax, 10
        add rax, rcx
        inc rsi
        cmp rax, MAX_LIMIT
        jbe .digit
        mov eax, MAX_LIMIT
.set:   mov [limit], eax
.done:  ret

report: xor ebx, ebx
        xor r12, r12                    ; sum of numbers
        xor r13, r13                    ; sum of primes
.cpu:   mov rsi, text_cpu
        call print
        mov eax, ebx
        call print_number
        mov rsi, text_apic
        call print
        mov eax, ebx
        imul eax, eax, CPU_RECORD
        lea rbp, [cpus + rax]
        mov rax, [rbp + CPU_APIC_ID]
        call print_number
        mov rsi, text_colon
        call print
        mov rax, [rbp + CPU_NUMBERS]
        add r12, rax
        call print_number
        mov rsi, text_numbers
        call print
        mov rax, [rbp + CPU_PRIMES]
        add r13, rax
        call print_number
        mov rsi, text_primes
        call print
        inc ebx
        cmp ebx, [cpus_started]
        jb .cpu

        mov rsi, text_total
        call print
        mov rax, r12
        call print_number
        mov rsi, text_numbers
        call print
        mov rax, r13
        call print_number
        mov rsi, text_primes_below
        call print
        mov eax, [limit]
        call print_number
        call newline
        mov rsi, text_atomic
        call print
        mov eax, [atomic_count]
        call print_number
        mov rsi, text_locked
        call print
        mov eax, [locked_count]
        call print_number
        call newline

        ; The sums must agree with what was counted atomically and with what was asked for.
        mov eax, [limit]
        cmp r12, rax
        jne .wrong
        cmp r13, [primes]
        jne .wrong
        mov eax, [cpus_started]
        cmp eax, [cpus_expected]
        jne .wrong
        imul eax, eax, ROUNDS
        cmp eax, [atomic_count]
        jne .wrong
        cmp eax, [locked_count]
        jne .wrong
        cmp dword [limit], DEFAULT_LIMIT
        jne .right
        cmp r13, 17984                  ; primes below 200000
        jne .wrong
.right: mov rsi, text_right
        jmp .end
.wrong: mov rsi, text_wrong
.end:   call print
        ; The last byte must have left the transmitter.
        mov dx, COM1 + 5
.empty: in al, dx
        test al, 0x40
        jz .empty
        mov dx, PM1A_CONTROL
        mov ax, SLP_EN_S5
        out dx, ax
        mov rsi, text_still_on
        call print
.stop:  cli
        hlt
        jmp .stop

; 115200 baud, 8N1, FIFOs, no interrupts.
serial_init:
        mov dx, COM1 + 1
        xor eax, eax
        out dx, al
        mov dx, COM1 + 3
        mov al, 0x80
        out dx, al
        mov dx, COM1
        mov al, 1
        out dx, al
        mov dx, COM1 + 1
        xor eax, eax
        out dx, al
        mov dx, COM1 + 3
        mov al, 3
        out dx, al
        mov dx, COM1 + 2
        mov al, 7
        out dx, al
        ret

; AL to COM1. Changes RDX.
put_char:
        mov ah, al
        mov dx, COM1 + 5
.wait:  in al, dx
        test al, 0x20
        jz .wait
        mov al, ah
        mov dx, COM1
        out dx, al
        ret

; RSI: text up to a zero byte.
print:  mov al, [rsi]
        inc rsi
        test al, al
        jz .done
        call put_char
        jmp print
.done:  ret

newline:
        mov rsi, text_newline
        jmp print

; RAX in decimal.
print_number:
        mov ecx, 10
        xor r8d, r8d
.divide:
        xor edx, edx
        div rcx
        push rdx
        inc r8d
        test rax, rax
        jnz .divide
.digit: pop rax
        add al, "0"
        call put_char
        dec r8d
        jnz .digit
        ret

text_banner:       db "smp86 embedded guest: ", 0
text_cpus:         db " CPUs", 13, 10, 0
text_missing:      db "started only ", 0
text_cpu:          db "cpu ", 0
text_apic:         db " (apic ", 0
text_colon:        db "): ", 0
text_numbers:      db " numbers, ", 0
text_primes:       db " primes", 13, 10, 0
text_total:        db "total: ", 0
text_primes_below: db " primes below ", 0
text_atomic:       db "counted atomically ", 0
text_locked:       db ", under a lock ", 0
text_right:        db "all correct", 13, 10, 0
text_wrong:        db "WRONG", 13, 10, 0
text_still_on:     db "power-off failed"
text_newline:      db 13, 10, 0

        align 4096, db 0
file_end:

; Memory that the loader clears.
        absolute file_end
pml4:           resb 4096
pdpt:           resb 4096
directories:    resb 4 * 4096
                resb 4096
boot_stack_end:
cpus:           resb MAX_CPUS * CPU_RECORD
primes:         resq 1
cmdline:        resd 1
limit:          resd 1
cpus_expected:  resd 1
                alignb 64
cpus_started:   resd 1
                alignb 64
cpus_done:      resd 1
                alignb 64
go:             resd 1
                alignb 64
next_number:    resd 1
                alignb 64
atomic_count:   resd 1
                alignb 64
spin_lock:      resd 1
locked_count:   resd 1
                alignb 4096
stacks:         resb MAX_CPUS * STACK_SIZE
bss_end:
