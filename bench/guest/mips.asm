; Instruction throughput in long mode: prints, for each kernel, "name instructions ticks" in hex on COM1. A tick is
; one of the ACPI PM timer, 3.579545 MHz. Each kernel must take less than 4.6 s, when that timer wraps.
; Multiboot-1, flat binary. Build: nasm -f bin -o mips.bin mips.asm
bits 32
org 0x100000
FLAGS equ 0x10000
; how often each loop is run
LOOP4_TURNS equ 100000000
MIX180_TURNS equ 1000000
CALLS_TURNS equ 30000000
MEMORY_TURNS equ 30000000
BIG4000_TURNS equ 30000
header:
  dd 0x1BADB002, FLAGS, -(0x1BADB002 + FLAGS)
  dd header, 0x100000, end, end, start
start:
  mov esp, stack
  ; identity map of the first 1 GiB with 2 MiB pages
  mov edi, 0x200000
  xor eax, eax
  mov ecx, 3*1024
  rep stosd
  mov dword [0x200000], 0x201003
  mov dword [0x201000], 0x202003
  mov edi, 0x202000
  mov eax, 0x83
  mov ecx, 512
.map:
  mov [edi], eax
  add eax, 0x200000
  add edi, 8
  loop .map
  mov eax, 0x200000
  mov cr3, eax
  mov eax, cr4
  or eax, 0x620
  mov cr4, eax
  mov ecx, 0xC0000080
  rdmsr
  or eax, 0x100
  wrmsr
  mov eax, cr0
  or eax, 0x80000001
  and eax, ~4
  mov cr0, eax
  lgdt [gdtr]
  jmp dword 8:long_mode
gdtr: dw 23
  dd gdt
align 8
gdt: dq 0, 0x00AF9A000000FFFF, 0x00CF92000000FFFF
bits 64
long_mode:
  mov ax, 16
  mov ds, ax
  mov es, ax
  mov ss, ax
%macro run 3 ; name, label, instructions per call
  lea rsi, [rel %%name]
  mov rdi, %2
  mov rbp, %3
  call measure
  jmp %%over
%%name: db %1, 0
%%over:
%endmacro
%macro mixunit 1
  add rax, rdx
  mov rcx, [rbx + %1*8]
  xor rax, rcx
  lea rdx, [rax + rcx*2 + 5]
  cmp rdx, rax
  jb %%a
  shr rdx, 3
%%a: mov [rbx + %1*8], rdx
  and ecx, 0xff
  test ecx, ecx
  jz %%b
  sub rax, rcx
%%b: inc r8
  movzx esi, cl
  imul rsi, rax
%endmacro
%macro bigunit 1
  add rax, %1
  mov rcx, [rbx + (%1 & 511)*8]
  lea rdx, [rax + rcx + %1]
  xor rsi, rdx
  cmp rsi, rax
  jb near %%c
%%c: mov [rbx + (%1 & 511)*8], rsi
  sub rdi, rdx
%endmacro
  run "loop4", loop4, 4*LOOP4_TURNS
  run "mix180", mix180, (12*14+2)*MIX180_TURNS
  run "calls", calls, 6*CALLS_TURNS
  run "memory", memory, 7*MEMORY_TURNS
  run "big4000", big4000, (500*8+2)*BIG4000_TURNS
  mov dx, 0x501
  mov al, 0
  out dx, al
.halt:
  hlt
  jmp .halt

measure:
  call puts
  mov al, ' '
  call putc
  push rdi
  push rbp
  call ticks
  mov [t0], rax
  call rdi
  call ticks
  sub rax, [t0]
  and rax, 0xffffff
  mov [t1], rax
  pop rax
  call hex
  mov al, ' '
  call putc
  mov rax, [t1]
  call hex
  mov al, 10
  call putc
  pop rdi
  ret
ticks: ; the ACPI PM timer, where firmware and smp86 put it
  mov edx, 0x608
  xor eax, eax
  in eax, dx
  ret
putc:
  push rdx
  push rax
  mov dx, 0x3fd
.wait:
  in al, dx
  test al, 0x20
  jz .wait
  mov dx, 0x3f8
  pop rax
  out dx, al
  pop rdx
  ret
puts:
  lodsb
  test al, al
  jz .done
  call putc
  jmp puts
.done: ret
hex:
  mov rbx, rax
  mov ecx, 16
.digit:
  rol rbx, 4
  mov al, bl
  and al, 15
  cmp al, 10
  jb .low
  add al, 39
.low:
  add al, '0'
  call putc
  loop .digit
  ret

align 16
loop4:
  mov rcx, LOOP4_TURNS
  xor eax, eax
.l: add rax, rcx
  xor rdx, rax
  dec rcx
  jnz .l
  ret

align 16
mix180:
  mov r15, MIX180_TURNS
  mov rbx, 0x300000
.l:
%assign i 0
%rep 12
  mixunit i
%assign i i+1
%endrep
  dec r15
  jnz .l
  ret

align 16
calls:
  mov rcx, CALLS_TURNS
.l: call .f
  dec rcx
  jnz .l
  ret
.f: push rbx
  pop rbx
  ret

align 16
memory:
  mov rcx, MEMORY_TURNS
  mov rbx, 0x300000
.l: mov rax, [rbx]
  add rax, [rbx+8]
  mov [rbx+16], rax
  movzx edx, byte [rbx+3]
  add dword [rbx+24], edx
  dec rcx
  jnz .l
  ret

align 16
big4000:
  mov r15, BIG4000_TURNS
  mov rbx, 0x300000
.l:
%assign i 0
%rep 500
  bigunit i
%assign i i+1
%endrep
  dec r15
  jnz near .l
  ret
align 8
t0: dq 0
t1: dq 0
times 4096 db 0
stack:
end:
