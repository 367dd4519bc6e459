; Interrupt latency and pauses of a vCPU, in 32-bit protected mode without paging. Multiboot-1, flat binary.
; Build: nasm -f bin -o latency.bin latency.asm
; Prints on COM1, numbers in hex:
;   scale L T      L ticks of the local APIC's timer took T TSC ticks
;   h N D          timer armed for N ticks, handler's first instruction D TSC ticks after arming; the vCPU halted
;   b N D          the same; the vCPU was in a loop
;   gap D          longest distance of two RDTSC in a loop
;   more K C       C of them were at least 2^K apart, and less than 2^(K+1)
bits 32
org 0x100000
FLAGS equ 0x10000
LAPIC equ 0xfee00000
EOI equ LAPIC + 0xb0
SVR equ LAPIC + 0xf0
LVT_TIMER equ LAPIC + 0x320
INITIAL equ LAPIC + 0x380
CURRENT equ LAPIC + 0x390
DIVIDE equ LAPIC + 0x3e0
VECTOR equ 0x40
MASKED equ 1 << 16
CALIBRATION equ 50_000_000
SAMPLES equ 1000
SHORTEST equ 50_000
CALIBRATIONS equ 60 ; the loop of RDTSC runs for as many calibration times

header:
  dd 0x1BADB002, FLAGS, -(0x1BADB002 + FLAGS)
  dd header, 0x100000, end, end, start
start:
  cli
  mov esp, stack
  lgdt [gdtr]
  jmp 8:.flat
.flat:
  mov ax, 16
  mov ds, ax
  mov es, ax
  mov ss, ax
  mov eax, handler
  mov word [idt + VECTOR*8], ax
  mov word [idt + VECTOR*8 + 2], 8
  mov word [idt + VECTOR*8 + 4], 0x8e00
  shr eax, 16
  mov word [idt + VECTOR*8 + 6], ax
  lidt [idtr]
  mov al, 0xff
  out 0x21, al
  out 0xa1, al
  mov dword [SVR], 0x1ff
  mov dword [DIVIDE], 0xb

  ; TSC against the timer
  mov dword [LVT_TIMER], MASKED
  mov dword [INITIAL], 0xffffffff
  mov ebx, [CURRENT]
  rdtsc
  mov esi, eax
.calibrate:
  mov ecx, [CURRENT]
  rdtsc
  mov edx, ebx
  sub edx, ecx
  cmp edx, CALIBRATION
  jb .calibrate
  sub eax, esi
  mov [scale], eax
  mov ebp, edx
  mov edi, eax
  mov esi, text_scale
  call puts
  mov eax, ebp
  call word_out
  mov eax, edi
  call word_out
  call newline

  mov dword [LVT_TIMER], VECTOR
  mov byte [halt], 1
  mov esi, text_halted
  call latencies
  mov byte [halt], 0
  mov esi, text_busy
  call latencies
  mov dword [LVT_TIMER], MASKED

  call gaps
  mov dx, 0x501
  xor eax, eax
  out dx, al
.stop:
  hlt
  jmp .stop

; esi: what each line begins with
latencies:
  mov ebp, SAMPLES
.sample:
  imul eax, ebp, 7919 ; different phases against whatever the host does
  and eax, 0x3ffff
  add eax, SHORTEST
  mov ebx, eax
  mov byte [done], 0
  cli
  rdtsc
  mov [armed], eax
  mov [INITIAL], ebx
  cmp byte [halt], 0
  je .busy
.halt:
  sti
  hlt
  cli
  cmp byte [done], 0
  je .halt
  jmp .came
.busy:
  sti
.spin:
  cmp byte [done], 0
  je .spin
.came:
  push esi
  call puts
  mov eax, ebx
  call word_out
  mov eax, [came]
  sub eax, [armed]
  call word_out
  call newline
  pop esi
  dec ebp
  jnz .sample
  ret

handler:
  push eax
  push edx
  rdtsc
  mov [came], eax
  mov byte [done], 1
  mov dword [EOI], 0
  pop edx
  pop eax
  iret

gaps:
  cli
  mov eax, [scale]
  mov edx, CALIBRATIONS
  mul edx
  mov [limit], eax
  mov [limit+4], edx
  xor edi, edi ; longest
  xor ebx, ebx ; elapsed
  xor ebp, ebp
  rdtsc
  mov esi, eax
.next:
  rdtsc
  mov ecx, eax
  sub eax, esi
  mov esi, ecx
  cmp eax, edi
  cmova edi, eax
  bsr ecx, eax
  inc dword [buckets + ecx*4]
  add ebx, eax
  adc ebp, 0
  cmp ebp, [limit+4]
  jb .next
  cmp ebx, [limit]
  jb .next
  mov esi, text_gap
  call puts
  mov eax, edi
  call word_out
  call newline
  xor ebp, ebp
.bucket:
  mov edi, [buckets + ebp*4]
  test edi, edi
  jz .empty
  mov esi, text_more
  call puts
  mov eax, ebp
  call word_out
  mov eax, edi
  call word_out
  call newline
.empty:
  inc ebp
  cmp ebp, 32
  jb .bucket
  ret

putc:
  push edx
  push eax
  mov dx, 0x3fd
.wait:
  in al, dx
  test al, 0x20
  jz .wait
  mov dx, 0x3f8
  pop eax
  out dx, al
  pop edx
  ret
puts:
  lodsb
  test al, al
  jz .done
  call putc
  jmp puts
.done:
  ret
newline:
  mov al, 10
  jmp putc
word_out:
  push ebx
  push ecx
  mov ebx, eax
  mov al, ' '
  call putc
  mov ecx, 8
.digit:
  rol ebx, 4
  mov al, bl
  and al, 15
  cmp al, 10
  jb .low
  add al, 39
.low:
  add al, '0'
  call putc
  loop .digit
  pop ecx
  pop ebx
  ret

text_scale: db 'scale', 0
text_halted: db 'h', 0
text_busy: db 'b', 0
text_gap: db 'gap', 0
text_more: db 'more', 0
gdtr: dw 23
  dd gdt
idtr: dw VECTOR*8 + 7
  dd idt
align 8
gdt: dq 0, 0x00CF9A000000FFFF, 0x00CF92000000FFFF
limit: dq 0
scale: dd 0
armed: dd 0
came: dd 0
done: db 0
halt: db 0
align 8
buckets: times 32 dd 0
idt: times VECTOR*8 + 8 db 0
times 4096 db 0
stack:
end:
