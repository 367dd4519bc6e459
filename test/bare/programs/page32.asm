; 32-bit paging and PAE paging (SDM 3A 4.3, 4.4, 4.6-4.10).
%include "bare.inc"

LIN             equ 0x40000000
PHYS            equ 0x1000000

%macro FLUSH 0
        mov eax, cr3
        mov cr3, eax
%endmacro
%macro AD 2
        mov eax, [%2]
        shr eax, 5
        and eax, 3
        SHOW %1, eax
%endmacro
; 32-bit paging: PDE and PTE flags for LIN.
%macro MAP32 2
        mov dword [dir + (LIN >> 22) * 4], t_pt + (%1)
        mov dword [t_pt], PHYS + (%2)
        FLUSH
%endmacro
; PAE: PDE and PTE flags.
%macro MAPPAE 2
        mov dword [t_pd], t_pt + (%1)
        mov dword [t_pd + 4], 0
        mov dword [t_pt], PHYS + (%2)
        mov dword [t_pt + 4], 0
        FLUSH
%endmacro
%macro SETCR4 2 ; set, clear
        mov eax, cr4
        or eax, %1
        and eax, ~(%2)
        mov cr4, eax
%endmacro

section .text
main:   ; --- 32-bit paging: identity by 4 KiB pages, user section for users
        mov edi, dir
        xor eax, eax
        mov ecx, 1024
        rep stosd
        mov edi, low_pt
        mov eax, P | W
        mov ecx, 8 * 1024               ; 32 MiB
.fill:  stosd
        add eax, 4096
        loop .fill
        mov edi, dir
        mov eax, low_pt + (P | W | U)
        mov ecx, 8
.dir:   stosd
        add eax, 4096
        loop .dir
        mov eax, section..user.start
        mov ecx, section..bss.start
        sub ecx, eax
        shr ecx, 12
.user:  mov edx, eax
        shr edx, 12
        or byte [low_pt + edx * 4], U
        add eax, 4096
        loop .user
        mov eax, user_stack
        shr eax, 12
        or byte [low_pt + eax * 4], U
        mov eax, dir
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG | CR0_WP
        mov cr0, eax
        jmp .on
.on:
        MAP32 P | W | U, P | W | U
        TRY
        mov [LIN], eax
        END "32-bit: write"
        AD "A D of PTE", t_pt
        AD "A of PDE", dir + (LIN >> 22) * 4
        MAP32 P | W | U, 0
        TRY
        mov eax, [LIN + 0x123]
        END "32-bit: no PTE"
        TRY
        USER u_write
        END "32-bit: no PTE, user write", u_write
        MAP32 0, P | W | U
        TRY
        mov eax, [LIN]
        END "32-bit: no PDE"
        MAP32 P | W | U, P | W
        TRY
        USER u_read
        END "32-bit: supervisor PTE, user read", u_read
        MAP32 P | W, P | W | U
        TRY
        USER u_read
        END "32-bit: supervisor PDE, user read", u_read
        TRY
        USER LIN
        END "32-bit: supervisor page, user fetch", LIN
        MAP32 P | W | U, P | U
        TRY
        mov [LIN], eax
        END "32-bit: read-only, supervisor write, WP"
        TRY
        USER u_write
        END "32-bit: read-only, user write", u_write
        MAP32 P | U, P | W | U
        TRY
        USER u_write
        END "32-bit: read-only PDE, user write", u_write
        mov eax, cr0
        and eax, ~CR0_WP
        mov cr0, eax
        TRY
        mov [LIN], eax
        END "32-bit: read-only PDE, supervisor write, no WP"
        mov eax, cr0
        or eax, CR0_WP
        mov cr0, eax
        ; 4 MiB pages
        mov dword [PHYS + 0x212340], 0x11223344
        mov dword [dir + (LIN >> 22) * 4], PHYS + (P | W | PS)
        SETCR4 CR4_PSE, 0
        mov eax, [LIN + 0x212340]
        SHOW "4 MiB page", eax
        AD "A D of a 4 MiB page", dir + (LIN >> 22) * 4
        mov [LIN + 0x212340], eax
        AD "A D after a write", dir + (LIN >> 22) * 4
        mov dword [dir + (LIN >> 22) * 4], PHYS + (P | W | PS) + (1 << 21)
        FLUSH
        TRY
        mov eax, [LIN]
        END "4 MiB page, reserved bit 21"
        mov dword [dir + (LIN >> 22) * 4], PHYS + (P | W | PS) + (1 << 13)
        FLUSH
        mov eax, [LIN + 0x212340]       ; PSE-36: beyond 4 GiB
        AD "4 MiB page beyond 4 GiB: A D", dir + (LIN >> 22) * 4
        SETCR4 0, CR4_PSE
        mov dword [dir + (LIN >> 22) * 4], t_pt + (P | W | PS)
        mov dword [t_pt], PHYS + (P | W)
        FLUSH
        mov dword [PHYS], 0x99
        mov eax, [LIN]
        SHOW "PS without PSE is a table", eax
        ; wrap of a linear address at 4 GiB
        mov dword [dir + 1023 * 4], t_pt2 + (P | W)
        mov dword [t_pt2 + 1023 * 4], PHYS + 0x1000 + (P | W)
        mov dword [PHYS + 0x1ffc], 0x44332211
        FLUSH
        mov eax, [0xfffffffe]
        and eax, 0xffff
        SHOW "load wrapping at 4 GiB", eax
        mov dword [LIN + 0x10], 0xc3
        mov edi, 0xfffffffc
        mov eax, [edi]
        SHOW "last dword", eax
        mov ecx, 8
        mov eax, [edi + ecx * 4 - 0x20]
        SHOW "by a wrapping address", eax
        ; INVLPG, global pages
        SETCR4 CR4_PGE, 0
        MAP32 P | W | U, P | W | G
        mov dword [PHYS], 0x1111
        mov dword [PHYS + 0x1000], 0x2222
        mov eax, [LIN]
        mov dword [t_pt], PHYS + 0x1000 + (P | W | G)
        invlpg [LIN]
        mov eax, [LIN]
        SHOW "32-bit: global page after INVLPG", eax
        ; paging off and on
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        jmp .off
.off:   mov eax, [PHYS + 0x1000]
        SHOW "paging off", eax
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        jmp .again
.again: mov eax, [LIN]
        SHOW "paging on again", eax

        ; --- PAE
        mov eax, cr0
        and eax, ~CR0_PG
        mov cr0, eax
        jmp .pae_off
.pae_off:
        mov edi, pd
        mov eax, P | W | PS
        mov ecx, 16
.pae:   mov [edi], eax
        mov dword [edi + 4], 0
        add edi, 8
        add eax, 0x200000
        loop .pae
        mov dword [pd], pt0 + (P | W | U)
        mov edi, pt0
        mov eax, P | W
        mov ecx, 512
.pt:    mov [edi], eax
        mov dword [edi + 4], 0
        add edi, 8
        add eax, 4096
        loop .pt
        mov eax, section..user.start
        mov ecx, section..bss.start
        sub ecx, eax
        shr ecx, 12
.user2: mov edx, eax
        shr edx, 12
        or byte [pt0 + edx * 8], U
        add eax, 4096
        loop .user2
        mov eax, user_stack
        shr eax, 12
        or byte [pt0 + eax * 8], U
        mov dword [pdpt32], pd + P
        mov dword [pdpt32 + 8], t_pd + P
        mov dword [pdpt32 + 16], 0
        mov dword [pdpt32 + 24], 0
        SETCR4 CR4_PAE, CR4_PGE
        mov eax, pdpt32
        mov cr3, eax
        mov eax, cr0
        or eax, CR0_PG
        mov cr0, eax
        jmp .pae_on
.pae_on:
        WRMSR_ MSR_EFER, EFER_NXE
        MAPPAE P | W | U, P | W | U
        TRY
        mov [LIN], eax
        END "PAE: write"
        AD "PAE: A D of PTE", t_pt
        AD "PAE: A of PDE", t_pd
        TRY
        mov eax, [0x80000000]
        END "PAE: no PDPTE"
        MAPPAE P | W | U, 0
        TRY
        mov eax, [LIN]
        END "PAE: no PTE"
        MAPPAE 0, P | W | U
        TRY
        USER u_read
        END "PAE: no PDE, user read", u_read
        MAPPAE P | W | U, P | W
        TRY
        USER u_read
        END "PAE: supervisor PTE, user read", u_read
        MAPPAE P | W | U, P | U
        TRY
        mov [LIN], eax
        END "PAE: read-only, WP"
        MAPPAE P | W | U, P | W | U
        mov dword [t_pt + 4], 1 << 31
        FLUSH
        TRY
        mov ebx, LIN
        HERE
        call ebx
        END "PAE: NX, fetch", LIN
        TRY
        USER LIN
        END "PAE: NX, user fetch", LIN
        TRY
        mov eax, [LIN]
        END "PAE: NX, read"
        WRMSR_ MSR_EFER, 0
        TRY
        mov eax, [LIN]
        END "PAE: NX with NXE off"
        WRMSR_ MSR_EFER, EFER_NXE
        mov dword [t_pt + 4], 1 << 19           ; bit 51
        FLUSH
        TRY
        mov eax, [LIN]
        END "PAE: reserved bit 51 in PTE"
        mov dword [t_pt + 4], 1 << 25           ; bit 57
        FLUSH
        TRY
        mov eax, [LIN]
        END "PAE: reserved bit 57 in PTE"
        mov dword [t_pt + 4], 0
        mov dword [t_pd], PHYS + (P | W | PS)
        FLUSH
        mov eax, [LIN + 0x12340]
        TRY
        mov [LIN + 0x12340], eax
        END "PAE: 2 MiB page"
        AD "PAE: A D of a 2 MiB page", t_pd
        mov dword [t_pd], PHYS + (P | W | PS) + (1 << 13)
        FLUSH
        TRY
        mov eax, [LIN]
        END "PAE: reserved bit 13 of a 2 MiB page"
        ; the PDPTEs are read with CR3 only
        MAPPAE P | W | U, P | W | U
        mov dword [pdpt32 + 8], 0
        invlpg [LIN]
        TRY
        mov eax, [LIN]
        END "PDPTE cleared in memory, INVLPG"
        FLUSH
        TRY
        mov eax, [LIN]
        END "PDPTE cleared, CR3 written"
        mov dword [pdpt32 + 8], t_pd + (P | W)
        TRY
        mov eax, cr3
        HERE
        mov cr3, eax
        END "CR3 with a reserved bit in a PDPTE"
        mov dword [pdpt32 + 8], t_pd + P
        mov dword [pdpt32 + 12], 1 << 31
        TRY
        mov eax, cr3
        HERE
        mov cr3, eax
        END "CR3 with bit 63 in a PDPTE"
        mov dword [pdpt32 + 12], 0
        FLUSH
        TRY
        mov eax, [LIN]
        END "PDPTE good again"
        ; SMEP, SMAP with PAE
        MAPPAE P | W | U, P | W | U
        SETCR4 CR4_SMAP, 0
        TRY
        mov eax, [LIN]
        END "PAE, SMAP: read of a user page"
        stac
        TRY
        mov eax, [LIN]
        END "PAE, SMAP, AC: read of a user page"
        clac
        SETCR4 0, CR4_SMAP
        EXIT

section .user
        bits 32
u_read: mov eax, [LIN]
        int 0x80
u_write: mov [LIN], eax
        int 0x80

section .bss
alignb 4096
dir:    resb 4096
low_pt: resb 8 * 4096
t_pt:   resb 4096
t_pt2:  resb 4096
t_pd:   resb 4096
pdpt32: resb 32
