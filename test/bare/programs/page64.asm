; 4-level paging (SDM 3A 4.5, 4.6, 4.7, 4.8, 4.10).
%include "bare.inc"

LIN            equ 0x40000000          ; linear: third gigabyte's tables are not used by the identity map's low part
PHYS            equ 0x1000000           ; physical test pages

%macro FLUSH 0
        mov rax, cr3
        mov cr3, rax
%endmacro
; Entries of the walk for LIN: own page-directory-pointer entry 1.
%macro MAP 4 ; pml4e flags, pdpte, pde, pte flags (pdpte: flags of a table; pde likewise)
        mov qword [pml4], pdpt + (%1)
        mov qword [pdpt + 8], t_pd + (%2)
        mov qword [t_pd], t_pt + (%3)
        mov rax, PHYS + (%4)
        mov [t_pt], rax
        FLUSH
%endmacro
; A and D bits of a qword entry.
%macro AD 2
        mov rax, [%2]
        shr eax, 5
        and eax, 3
        SHOW %1, rax
%endmacro
%define NX (1 << 63)

section .text
main:   GO64 start

section .text
        bits 64
start:
        WRMSR_ MSR_EFER, EFER_LME | EFER_NXE | EFER_SCE
        mov rax, cr0
        or eax, CR0_WP
        mov cr0, rax

        ; --- not present at each level, by supervisor and user
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        TRY
        mov eax, [LIN]
        END "all present: read"
        TRY
        mov [LIN], eax
        END "all present: write"
        MAP P | W | U, P | W | U, P | W | U, W | U
        TRY
        mov eax, [LIN + 0x123]
        END "no PTE: supervisor read"
        TRY
        mov [LIN + 0x123], eax
        END "no PTE: supervisor write"
        TRY
        USER u_read
        END "no PTE: user read", u_read
        TRY
        USER u_write
        END "no PTE: user write", u_write
        TRY
        USER LIN
        END "no PTE: user fetch", LIN
        MAP P | W | U, P | W | U, W | U, P | W | U
        TRY
        mov eax, [LIN + 0x123]
        END "no PDE"
        MAP P | W | U, W | U, P | W | U, P | W | U
        TRY
        mov eax, [LIN + 0x123]
        END "no PDPTE"
        mov rbx, 0x0000808000001234
        TRY
        mov eax, [rbx]
        END "not canonical"
        mov rbx, 0xffff808000001234
        TRY
        mov eax, [rbx]
        END "no PML4E"
        mov rbx, 0x00007fffffffffff
        TRY
        mov al, [rbx]
        END "last canonical byte below"
        TRY
        mov ax, [rbx]
        END "crossing into the hole"
        mov rbx, 0xffff800000000000
        TRY
        mov al, [rbx]
        END "first canonical byte above"
        TRY
        mov rbx, 0x8000000000000000
        push qword [rbx]
        END "push of a non-canonical operand"
        TRY
        mov rcx, rsp
        mov rsp, 0x8000000000000000
        HERE
        push rax
        END "push to a non-canonical stack"
        TRY
        mov rsp, 0x8000000000000000
        HERE
        pop rax
        END "pop from a non-canonical stack"
        TRY
        mov rbp, 0x8000000000000000
        HERE
        mov rax, [rbp]
        END "non-canonical through RBP"
        TRY
        mov rsp, 0x8000000000000000
        HERE
        mov rax, [rsp + 8]
        END "non-canonical through RSP"
        TRY
        mov rax, 0x8000000000000000
        HERE
        jmp rax
        END "jump to a non-canonical address"
        TRY
        mov rax, 0x8000000000000000
        push rax
        HERE
        ret
        END "return to a non-canonical address"
        TRY
        mov rax, 0x8000000000000000
        HERE
        call rax
        END "call of a non-canonical address"

        ; --- user/supervisor at each level
        MAP P | W | U, P | W | U, P | W | U, P | W
        TRY
        USER u_read
        END "supervisor PTE: user read", u_read
        TRY
        USER u_write
        END "supervisor PTE: user write", u_write
        TRY
        USER LIN
        END "supervisor PTE: user fetch", LIN
        MAP P | W | U, P | W | U, P | W, P | W | U
        TRY
        USER u_read
        END "supervisor PDE: user read", u_read
        MAP P | W | U, P | W, P | W | U, P | W | U
        TRY
        USER u_read
        END "supervisor PDPTE: user read", u_read

        ; --- read-only at each level, WP set and clear
        MAP P | W | U, P | W | U, P | W | U, P | U
        TRY
        mov [LIN], eax
        END "read-only PTE: supervisor write, WP"
        TRY
        USER u_write
        END "read-only PTE: user write", u_write
        TRY
        USER u_read
        END "read-only PTE: user read", u_read
        TRY
        lock add dword [LIN], 0
        END "read-only PTE: locked add"
        TRY
        cmp dword [LIN], 0
        END "read-only PTE: compare"
        TRY
        mov eax, 0x12345678
        HERE
        cmpxchg [LIN], eax
        END "read-only PTE: cmpxchg that fails"
        MAP P | W | U, P | W | U, P | U, P | W | U
        TRY
        mov [LIN], eax
        END "read-only PDE: supervisor write, WP"
        MAP P | W | U, P | U, P | W | U, P | W | U
        TRY
        mov [LIN], eax
        END "read-only PDPTE: supervisor write, WP"
        mov rax, cr0
        and eax, ~CR0_WP
        mov cr0, rax
        TRY
        mov [LIN], eax
        END "read-only PDPTE: supervisor write, no WP"
        TRY
        USER u_write
        END "read-only PDPTE: user write, no WP", u_write
        mov rax, cr0
        or eax, CR0_WP
        mov cr0, rax
        TRY
        mov [LIN], eax
        END "WP set again after a write"

        ; --- A and D
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        and qword [pml4], ~A
        AD "A D before", t_pt
        mov eax, [LIN]
        AD "A D of PTE after a read", t_pt
        AD "A of PDE", t_pd
        AD "A of PDPTE", pdpt + 8
        AD "A of PML4E", pml4
        mov [LIN], eax
        AD "A D of PTE after a write", t_pt
        and qword [t_pt], ~(A | D)
        FLUSH
        lock cmpxchg [LIN], ebx
        AD "A D of PTE after cmpxchg", t_pt
        MAP P | W | U, P | W | U, P | W | U, P | W
        TRY
        USER u_read
        QUIET
        AD "A D of PTE after a refused read", t_pt
        AD "A of PDE after a refused read", t_pd
        MAP P | W | U, P | W | U, P | W | U, P | U
        TRY
        mov [LIN], eax
        QUIET
        AD "A D of PTE after a refused write", t_pt
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        mov byte [LIN], 0xc3
        and qword [t_pt], ~(A | D)
        FLUSH
        mov eax, LIN
        call rax
        AD "A D of PTE after a fetch", t_pt
        invlpg [LIN]
        AD "A D of PTE after INVLPG", t_pt

        ; --- NX
        MAP P | W | U, P | W | U, P | W | U, P | W | U | NX
        mov ebx, LIN
        TRY
        call rbx
        END "NX PTE: supervisor fetch", LIN
        TRY
        USER LIN
        END "NX PTE: user fetch", LIN
        TRY
        mov eax, [LIN]
        END "NX PTE: read"
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        mov rax, NX
        or [t_pd], rax
        FLUSH
        TRY
        call rbx
        END "NX PDE: fetch", LIN
        WRMSR_ MSR_EFER, EFER_LME | EFER_SCE
        TRY
        mov eax, [LIN]
        END "NX PDE, NXE off: read"
        TRY
        call rbx
        END "NX PDE, NXE off: fetch", LIN
        MAP P | W | U, P | W | U, P | W | U, W
        TRY
        call rbx
        END "no PTE, NXE off: fetch", LIN
        WRMSR_ MSR_EFER, EFER_LME | EFER_NXE | EFER_SCE

        ; --- reserved bits: physical address bit 51, PS in PML4E, low bits of large pages
        mov r8, 1 << 51
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        or [t_pt], r8
        FLUSH
        TRY
        mov eax, [LIN]
        END "reserved bit in PTE: read"
        TRY
        mov [LIN], eax
        END "reserved bit in PTE: write"
        TRY
        USER u_read
        END "reserved bit in PTE: user read", u_read
        TRY
        call rbx
        END "reserved bit in PTE: fetch", LIN
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        or [t_pd], r8
        FLUSH
        TRY
        mov eax, [LIN]
        END "reserved bit in PDE"
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        or [pdpt + 8], r8
        FLUSH
        TRY
        mov eax, [LIN]
        END "reserved bit in PDPTE"
        mov qword [pml4 + 8], pdpt + (P | W | U | PS)
        mov rcx, 0x8000000000
        TRY
        mov eax, [rcx]
        END "PS in PML4E"
        mov qword [pml4 + 8], 0
        MAP P | W | U, P | W | U, P | W | U, 0
        or [t_pt], r8
        FLUSH
        TRY
        mov eax, [LIN]
        END "reserved bit in a PTE that is not present"
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        mov qword [t_pd], PHYS + 0x2000 + (P | W | PS)
        FLUSH
        TRY
        mov eax, [LIN]
        END "reserved low bit of a 2 MiB page"
        mov qword [pdpt + 8], 0x200000 + (P | W | PS)
        FLUSH
        TRY
        mov eax, [LIN]
        END "reserved low bit of a 1 GiB page"

        ; --- large pages
        mov dword [PHYS + 0x123450], 0x11223344
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        mov qword [t_pd], PHYS + (P | W | PS)
        FLUSH
        mov eax, [LIN + 0x123450]
        SHOW "2 MiB page", rax
        AD "A D of a 2 MiB page after a read", t_pd
        mov [LIN + 0x123454], eax
        AD "A D of a 2 MiB page after a write", t_pd
        TRY
        USER u_read
        END "2 MiB supervisor page: user read", u_read
        mov qword [pdpt + 8], P | W | PS
        FLUSH
        mov eax, [LIN + PHYS + 0x123450]
        SHOW "1 GiB page", rax
        mov [LIN + PHYS + 0x123450], eax
        AD "A D of a 1 GiB page", pdpt + 8
        mov eax, [LIN + 0x200000 - 2 + PHYS]           ; crossing 2 MiB inside
        ; INVLPG of any address of a large page drops all of it
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        mov qword [t_pd], PHYS + (P | W | PS)
        FLUSH
        mov dword [PHYS + 0x3000], 0x33
        mov dword [PHYS + 0x203000], 0x44
        mov eax, [LIN + 0x3000]
        mov qword [t_pd], PHYS + 0x200000 + (P | W | PS)
        invlpg [LIN + 0x100000]
        mov eax, [LIN + 0x3000]
        SHOW "INVLPG of a large page", rax

        ; --- INVLPG, CR3, global pages
        mov dword [PHYS], 0x1111
        mov dword [PHYS + 0x1000], 0x2222
        mov dword [PHYS + 0x2000], 0x3333
        MAP P | W | U, P | W | U, P | W | U, P | W | U
        mov eax, [LIN]
        mov qword [t_pt], PHYS + 0x1000 + (P | W)
        invlpg [LIN + 0xfff]
        mov eax, [LIN]
        SHOW "after INVLPG", rax
        mov qword [t_pt], PHYS + 0x2000 + (P | W)
        FLUSH
        mov eax, [LIN]
        SHOW "after CR3", rax
        mov qword [t_pt], 0
        invlpg [LIN]
        TRY
        mov eax, [LIN]
        END "unmapped by INVLPG"
        mov qword [t_pt], PHYS + (P | W)
        mov eax, [LIN]
        SHOW "present without INVLPG", rax               ; not-present entries are never cached
        mov rax, cr4
        or eax, CR4_PGE
        mov cr4, rax
        mov qword [t_pt], PHYS + (P | W | G)
        FLUSH
        mov eax, [LIN]
        mov qword [t_pt], PHYS + 0x1000 + (P | W | G)
        mov rax, cr3
        mov cr3, rax
        invlpg [LIN]
        mov eax, [LIN]
        SHOW "global page after INVLPG", rax
        mov qword [t_pt], PHYS + 0x2000 + (P | W | G)
        mov rax, cr4
        and eax, ~CR4_PGE
        mov cr4, rax
        or eax, CR4_PGE
        mov cr4, rax
        mov eax, [LIN]
        SHOW "global page after PGE off and on", rax
        ; another CR3
        mov esi, pml4
        mov edi, t_pml4
        mov ecx, 512
        rep movsq
        mov esi, pdpt
        mov edi, t_pdpt
        mov ecx, 512
        rep movsq
        mov qword [t_pml4], t_pdpt + (P | W | U)
        mov qword [t_pdpt + 8], t_pd2 + (P | W | U)
        mov qword [t_pd2], t_pt2 + (P | W | U)
        mov qword [t_pt2], PHYS + 0x1000 + (P | W)
        mov qword [t_pt], PHYS + (P | W)
        FLUSH
        invlpg [LIN]
        mov ebx, [LIN]
        mov eax, t_pml4
        mov cr3, rax
        mov ecx, [LIN]
        mov eax, pml4
        mov cr3, rax
        mov edx, [LIN]
        SHOW "first address space", rbx
        SHOW "second", rcx
        SHOW "first again", rdx

        ; --- permissions taken away, INVLPG
        mov qword [t_pt], PHYS + (P | W | U)
        FLUSH
        mov [LIN], eax
        mov qword [t_pt], PHYS + (P | U)
        invlpg [LIN]
        TRY
        mov [LIN], eax
        END "made read-only"
        mov qword [t_pt], PHYS + (P | W | U)
        TRY
        mov [LIN], eax
        END "made writable, no INVLPG"               ; the fault or the walk refreshes (4.10.4.3)

        ; --- SMEP, SMAP
        mov byte [PHYS], 0xc3
        mov rax, cr4
        or eax, CR4_SMEP
        mov cr4, rax
        mov ebx, LIN
        TRY
        call rbx
        END "SMEP: supervisor fetch of a user page", LIN
        TRY
        mov eax, [LIN]
        END "SMEP: supervisor read of a user page"
        mov qword [t_pt], PHYS + (P | W)
        invlpg [LIN]
        TRY
        call rbx
        END "SMEP: supervisor fetch of a supervisor page", LIN
        mov rax, cr4
        and eax, ~CR4_SMEP
        or eax, CR4_SMAP
        mov cr4, rax
        mov qword [t_pt], PHYS + (P | W | U)
        invlpg [LIN]
        TRY
        mov eax, [LIN]
        END "SMAP: supervisor read of a user page"
        TRY
        mov [LIN], eax
        END "SMAP: supervisor write of a user page"
        TRY
        call rbx
        END "SMAP: supervisor fetch of a user page", LIN
        stac
        TRY
        mov eax, [LIN]
        END "SMAP, AC: read"
        TRY
        mov [LIN], eax
        END "SMAP, AC: write"
        clac
        TRY
        mov eax, [LIN]
        END "SMAP, AC off again: read"
        pushfq
        or qword [rsp], FL_AC
        popfq
        TRY
        mov eax, [LIN]
        END "SMAP, AC by POPF: read"
        clac
        TRY
        USER u_read
        END "SMAP: user read", u_read
        TRY
        USER u_stac
        END "STAC by user", u_stac
        ; accesses that the processor makes for itself are not let through by AC
        mov qword [t_pt], PHYS + (P | W | U)
        mov dword [PHYS + 0x100], 0x0000ffff
        mov dword [PHYS + 0x104], 0x00cf9300
        mov dword [gdt + LDT], DESC_LO(LIN + 0x100, 7)
        mov dword [gdt + LDT + 4], DESC_HI(LIN + 0x100, 7, 0x82, 0)
        mov eax, LDT
        lldt ax
        stac
        mov eax, 4
        TRY
        HERE
        mov es, eax
        END "SMAP, AC: descriptor load from a user page"
        mov eax, KDATA
        mov es, eax
        clac
        mov rax, cr4
        and eax, ~CR4_SMAP
        mov cr4, rax
        TRY
        mov eax, [LIN]
        END "SMAP off: read"

        ; --- page-crossing accesses with a fault in the second page: nothing is written
        mov qword [t_pt], PHYS + (P | W)
        mov qword [t_pt + 8], 0
        FLUSH
        mov qword [LIN + 0xff8], 0
        TRY
        mov rax, 0x1122334455667788
        HERE
        mov [LIN + 0xffc], rax
        END "store crossing into a missing page"
        mov eax, [LIN + 0xffc]
        SHOW "first page unchanged", rax
        TRY
        mov rax, [LIN + 0xffd]
        END "load crossing into a missing page"
        TRY
        lock add qword [LIN + 0xffd], 1
        END "locked add crossing into a missing page"
        TRY
        push qword [LIN + 0xffd]
        END "push of memory crossing into a missing page"
        mov qword [t_pt + 8], PHYS + 0x1000 + P
        FLUSH
        TRY
        mov [LIN + 0xffc], rax
        END "store crossing into a read-only page"
        mov eax, [LIN + 0xffc]
        SHOW "first page unchanged again", rax
        mov qword [t_pt + 8], PHYS + 0x5000 + (P | W)
        mov dword [PHYS + 0x5000], 0
        invlpg [LIN + 0x1000]
        mov rax, 0x1122334455667788
        mov [LIN + 0xffd], rax
        mov rax, [LIN + 0xffd]
        SHOW "crossing to another frame", rax
        mov eax, [PHYS + 0x5000]
        SHOW "in the other frame", rax
        AD "A D of the second page", t_pt + 8

        ; --- instructions that cross a page
        mov byte [LIN + 0xffe], 0xb8                   ; mov eax, imm32
        mov byte [LIN + 0xfff], 0x78
        mov dword [LIN + 0x1000], 0xc3123456
        mov ebx, LIN + 0xffe
        call rbx
        SHOW "instruction crossing a page", rax
        mov dword [PHYS + 0x5000], 0xc3aabbcc
        call rbx
        SHOW "its second half changed", rax
        mov qword [t_pt + 8], 0
        invlpg [LIN + 0x1000]
        TRY
        call rbx
        END "instruction crossing into a missing page", LIN + 0xffe
        mov rax, NX
        or rax, PHYS + 0x5000 + (P | W)
        mov [t_pt + 8], rax
        TRY
        call rbx
        END "instruction crossing into an NX page", LIN + 0xffe
        mov byte [LIN + 0xffd], 0x90
        mov byte [LIN + 0xffe], 0x90
        mov byte [LIN + 0xfff], 0x90
        TRY
        call rbx
        END "running into an NX page", LIN + 0x1000
        EXIT

section .user
        bits 64
u_read: mov eax, [LIN]
        int 0x80
u_write: mov [LIN], eax
        int 0x80
u_stac: stac
        int 0x80

section .bss
alignb 4096
t_pd:   resb 4096
t_pt:   resb 4096
t_pml4: resb 4096
t_pdpt: resb 4096
t_pd2:  resb 4096
t_pt2:  resb 4096
