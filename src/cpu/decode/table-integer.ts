/**
 * One-byte and 0F maps: general-purpose and system instructions. The notation is described in row.ts.
 * Facts from the SDM volume 2 (instruction pages and opcode maps ).
 */

const ALU = ['add', 'or', 'adc', 'sbb', 'and', 'sub', 'xor', 'cmp'];
const LOGIC = 'w=oszpc u=a';
const ARITHMETIC = 'w=oszapc';

function hex(n: number): string {
  return n.toString(16).toUpperCase().padStart(2, '0');
}

function aluRows(): string[] {
  const rows: string[] = [];
  for (let i = 0; i < 8; i++) {
    const name = ALU[i];
    const flags =
      name === 'adc' || name === 'sbb'
        ? `${ARITHMETIC} r=c`
        : name === 'and' || name === 'or' || name === 'xor'
          ? LOGIC
          : ARITHMETIC;
    const lock = name === 'cmp' ? '' : ' lock';
    const op = i * 8;
    rows.push(
      `${hex(op)} ${name} Eb,Gb ${flags}${lock}`,
      `${hex(op + 1)} ${name} Ev,Gv ${flags}${lock}`,
      `${hex(op + 2)} ${name} Gb,Eb ${flags}`,
      `${hex(op + 3)} ${name} Gv,Ev ${flags}`,
      `${hex(op + 4)} ${name} AL,Ib ${flags}`,
      `${hex(op + 5)} ${name} eAX,Iz ${flags}`,
      `80/${i} ${name} Eb,Ib ${flags}${lock}`,
      `81/${i} ${name} Ev,Iz ${flags}${lock}`,
      `82/${i} ${name} Eb,Ib no64 ${flags}${lock}`,
      `83/${i} ${name} Ev,Ib ${flags}${lock}`,
    );
  }
  return rows;
}

function shiftRows(): string[] {
  const rows: string[] = [];
  const names = ['rol', 'ror', 'rcl', 'rcr', 'shl', 'shr', 'shl', 'sar'];
  for (let i = 0; i < 8; i++) {
    const flags = i < 2 ? 'w=oc' : i < 4 ? 'w=oc r=c' : 'w=oszpc u=a';
    const name = names[i];
    rows.push(
      `C0/${i} ${name} Eb,Ub ${flags} kept`,
      `C1/${i} ${name} Ev,Ub ${flags} kept`,
      `D0/${i} ${name} Eb,1 ${flags}`,
      `D1/${i} ${name} Ev,1 ${flags}`,
      `D2/${i} ${name} Eb,CL ${flags} kept`,
      `D3/${i} ${name} Ev,CL ${flags} kept`,
    );
  }
  return rows;
}

/** What jcc, setcc and cmovcc may read; which flags exactly depends on `cond`. */
const CONDITION = 'r=oszpc';

const ONE_BYTE = `
06 push_sreg~push ES no64
07 pop_sreg~pop ES no64
0E push_sreg~push CS no64
16 push_sreg~push SS no64
17 pop_sreg~pop SS no64
1E push_sreg~push DS no64
1F pop_sreg~pop DS no64
27 daa - no64 w=szapc u=o r=ac
2F das - no64 w=szapc u=o r=ac
37 aaa - no64 w=ac u=oszp r=a
3F aas - no64 w=ac u=oszp r=a
40+8 inc Zv no64 w=oszap
48+8 dec Zv no64 w=oszap
50+8 push Zv d64
58+8 pop Zv d64
60 pusha - no64
61 popa - no64
62 bound Gv,Ma no64
63 arpl Ew,Gw pm no64 w=z
63 movsxd Gv,Ez only64
68 push Iz d64
69 imul Gv,Ev,Iz w=oc u=szap
6A push Ib d64
6B imul Gv,Ev,Ib w=oc u=szap
6C ins - byte rep iopl r=d
6D ins - max32 rep iopl r=d
6E outs - byte rep iopl r=d
6F outs - max32 rep iopl r=d
70+16 jcc Jb f64 ${CONDITION}
84 test Eb,Gb ${LOGIC}
85 test Ev,Gv ${LOGIC}
86 xchg Eb,Gb lock
87 xchg Ev,Gv lock
88 mov Eb,Gb
89 mov Ev,Gv
8A mov Gb,Eb
8B mov Gv,Ev
8C mov_from_sreg~mov Rv/Mw,Sw
8D lea Gv,M
8E mov_to_sreg~mov Sw,Rv/Mw
8F/0 pop Ev d64
90 nop -
90+8 xchg Zv,eAX
F3.90 pause -
98 cbw -
99 cwd -
9A callf Ap no64
9B fwait - @fpu
9C pushf - d64 r=oszapcdiA
9D popf - d64 w=oszapcdiA
9E sahf - w=szapc
9F lahf - r=szapc
A0 mov AL,Ob
A1 mov eAX,Ov
A2 mov Ob,AL
A3 mov Ov,eAX
A4 movs - byte rep r=d
A5 movs - rep r=d
A6 cmps - byte repe w=oszapc r=d kept
A7 cmps - repe w=oszapc r=d kept
A8 test AL,Ib ${LOGIC}
A9 test eAX,Iz ${LOGIC}
AA stos - byte rep r=d
AB stos - rep r=d
AC lods - byte rep r=d
AD lods - rep r=d
AE scas - byte repe w=oszapc r=d kept
AF scas - repe w=oszapc r=d kept
B0+8 mov Zb,Ib
B8+8 mov Zv,Iv
C2 ret Uw f64
C3 ret - f64
C4 les Gv,Mp no64
C5 lds Gv,Mp no64
C6/0 mov Eb,Ib
C7/0 mov Ev,Iz
C8 enter Uw,Ub d64
C9 leave - d64
CA retf Uw
CB retf -
CC int3 - r=oszapcdiA w=i
CD int Ub r=oszapcdiA w=i
CE into - no64 r=oszapcdiA w=i kept
CF iret - w=oszapcdiA
D4 aam Ub no64 w=szp u=oac
D5 aad Ub no64 w=szp u=oac
D6 salc - no64 r=c
D7 xlat -
E0 loopne Jb f64 r=z
E1 loope Jb f64 r=z
E2 loop Jb f64
E3 jcxz Jb f64
E4 in AL,Ub iopl
E5 in eAX,Ub max32 iopl
E6 out Ub,AL byte iopl
E7 out Ub,eAX max32 iopl
E8 call Jz f64
E9 jmp Jz f64
EA jmpf Ap no64
EB jmp Jb f64
EC in AL,DX iopl
ED in eAX,DX max32 iopl
EE out DX,AL byte iopl
EF out DX,eAX max32 iopl
F1 int1 - r=oszapcdiA w=i
F4 hlt - cpl0
F5 cmc - w=c r=c
F6/0 test Eb,Ib ${LOGIC}
F6/1 test Eb,Ib ${LOGIC}
F6/2 not Eb lock
F6/3 neg Eb lock ${ARITHMETIC}
F6/4 mul Eb w=oc u=szap
F6/5 imul1~imul Eb w=oc u=szap
F6/6 div Eb u=oszapc
F6/7 idiv Eb u=oszapc
F7/0 test Ev,Iz ${LOGIC}
F7/1 test Ev,Iz ${LOGIC}
F7/2 not Ev lock
F7/3 neg Ev lock ${ARITHMETIC}
F7/4 mul Ev w=oc u=szap
F7/5 imul1~imul Ev w=oc u=szap
F7/6 div Ev u=oszapc
F7/7 idiv Ev u=oszapc
F8 clc - w=c
F9 stc - w=c
FA cli - w=i iopl
FB sti - w=i iopl
FC cld - w=d
FD std - w=d
FE/0 inc Eb lock w=oszap
FE/1 dec Eb lock w=oszap
FF/0 inc Ev lock w=oszap
FF/1 dec Ev lock w=oszap
FF/2 call Ev f64
FF/3 callf Mp
FF/4 jmp Ev f64
FF/5 jmpf Mp
FF/6 push Ev d64
`;

const TWO_BYTE = `
0F.00/0 sldt Rv/Mw pm
0F.00/1 str Rv/Mw pm
0F.00/2 lldt Rv/Mw pm cpl0
0F.00/3 ltr Rv/Mw pm cpl0
0F.00/4 verr Rv/Mw pm w=z
0F.00/5 verw Rv/Mw pm w=z
0F.01/0m sgdt Ms f64
0F.01/1m sidt Ms f64
0F.01/2m lgdt Ms f64 cpl0
0F.01/3m lidt Ms f64 cpl0
0F.01/4 smsw Rv/Mw
0F.01/6 lmsw Rv/Mw cpl0
0F.01/7m invlpg Mb cpl0
NP.0F.01:C8 monitor - cpl0ud @monitor
NP.0F.01:C9 mwait - cpl0ud @monitor
NP.0F.01:CA clac - cpl0ud w=A @smap
NP.0F.01:CB stac - cpl0ud w=A @smap
NP.0F.01:D0 xgetbv - @xsave
NP.0F.01:D1 xsetbv - cpl0 @xsave
NP.0F.01:EE rdpkru - @pku
NP.0F.01:EF wrpkru - @pku
0F.01:F8 swapgs - only64 cpl0
0F.01:F9 rdtscp - @rdtscp
0F.02 lar Gv,Rv/Mw pm w=z
0F.03 lsl Gv,Rv/Mw pm w=z
0F.05 syscall - r=oszapcdiA w=oszapcdiA
0F.06 clts - cpl0
0F.07 sysret - cpl0 w=oszapcdiA
0F.08 invd - cpl0
0F.09 wbinvd - cpl0
0F.0B ud~ud2 -
0F.0D/0m prefetch Mb
0F.0D/1m prefetch~prefetchw Mb
0F.0D/2m prefetch~prefetchwt1 Mb
0F.0D/3m prefetch~prefetchw Mb
0F.0D/4m prefetch Mb
0F.0D/5m prefetch Mb
0F.0D/6m prefetch Mb
0F.0D/7m prefetch Mb
0F.0D nop Ev
0F.18/0m prefetch~prefetchnta Mb
0F.18/1m prefetch~prefetcht0 Mb
0F.18/2m prefetch~prefetcht1 Mb
0F.18/3m prefetch~prefetcht2 Mb
0F.20 mov_from_cr~mov Rm,Cm f64 mod3 cpl0 u=oszapc
0F.21 mov_from_dr~mov Rm,Dm f64 mod3 cpl0 u=oszapc
0F.22 mov_to_cr~mov Cm,Rm f64 mod3 cpl0 u=oszapc
0F.23 mov_to_dr~mov Dm,Rm f64 mod3 cpl0 u=oszapc
0F.30 wrmsr - cpl0
0F.31 rdtsc - @tsc
0F.32 rdmsr - cpl0
0F.33 rdpmc -
0F.34 sysenter - w=i @sep
0F.35 sysexit - cpl0 @sep
0F.40+16 cmovcc Gv,Ev ${CONDITION} @cmov
0F.80+16 jcc Jz f64 ${CONDITION}
0F.90+16 setcc Eb ${CONDITION}
0F.A0 push_sreg~push FS d64
0F.A1 pop_sreg~pop FS d64
0F.A2 cpuid -
0F.A3 bt Ev,Gv w=c u=osap
0F.A4 shld Ev,Gv,Ub w=oszpc u=a kept
0F.A5 shld Ev,Gv,CL w=oszpc u=a kept
0F.A8 push_sreg~push GS d64
0F.A9 pop_sreg~pop GS d64
0F.AA rsm - w=oszapcdiA
0F.AB bts Ev,Gv lock w=c u=osap
0F.AC shrd Ev,Gv,Ub w=oszpc u=a kept
0F.AD shrd Ev,Gv,CL w=oszpc u=a kept
NP.0F.AE/0m fxsave Mfx @fxsr
NP.0F.AE/1m fxrstor Mfx @fxsr
NP.0F.AE/2m ldmxcsr Md @sse
NP.0F.AE/3m stmxcsr Md @sse
NP.0F.AE/4m xsave M @xsave
NP.0F.AE/5m xrstor M @xsave
NP.0F.AE/6m xsaveopt M @xsaveopt
NP.0F.AE/7m clflush Mb @clflush
66.0F.AE/6m clwb Mb @clwb
66.0F.AE/7m clflushopt Mb @clflushopt
NP.0F.AE/5r lfence - @sse2
NP.0F.AE/6r mfence - @sse2
NP.0F.AE/7r sfence - @sse
F3.0F.AE/0r rdfsbase Ry only64 @fsgsbase
F3.0F.AE/1r rdgsbase Ry only64 @fsgsbase
F3.0F.AE/2r wrfsbase Ry only64 @fsgsbase
F3.0F.AE/3r wrgsbase Ry only64 @fsgsbase
0F.AF imul Gv,Ev w=oc u=szap
0F.B0 cmpxchg Eb,Gb lock ${ARITHMETIC}
0F.B1 cmpxchg Ev,Gv lock ${ARITHMETIC}
0F.B2 lss Gv,Mp
0F.B3 btr Ev,Gv lock w=c u=osap
0F.B4 lfs Gv,Mp
0F.B5 lgs Gv,Mp
0F.B6 movzx Gv,Eb
0F.B7 movzx Gv,Ew
F3.0F.B8 popcnt Gv,Ev w=oszapc @popcnt
0F.B9 ud~ud1 Gv,Ev
0F.BA/4 bt Ev,Ub w=c u=osap
0F.BA/5 bts Ev,Ub lock w=c u=osap
0F.BA/6 btr Ev,Ub lock w=c u=osap
0F.BA/7 btc Ev,Ub lock w=c u=osap
0F.BB btc Ev,Gv lock w=c u=osap
0F.BC bsf Gv,Ev w=z u=osapc
F3.0F.BC tzcnt Gv,Ev w=zc u=osap @bmi1
0F.BD bsr Gv,Ev w=z u=osapc
F3.0F.BD lzcnt Gv,Ev w=zc u=osap @lzcnt
0F.BE movsx Gv,Eb
0F.BF movsx Gv,Ew
0F.C0 xadd Eb,Gb lock ${ARITHMETIC}
0F.C1 xadd Ev,Gv lock ${ARITHMETIC}
NP.0F.C3 movnti My,Gy @sse2
0F.C7/1m cmpxchg8b Mq lock w=z @cx8
0F.W1.C7/1m cmpxchg16b Mdq lock w=z @cx16
NP.0F.C7/3m xrstors M cpl0 @xsaves
NP.0F.C7/4m xsavec M @xsavec
NP.0F.C7/5m xsaves M cpl0 @xsaves
NP.0F.C7/6r rdrand Rv w=oszapc @rdrand
66.0F.C7/6r rdrand Rv opsize w=oszapc @rdrand
NP.0F.C7/7r rdseed Rv w=oszapc @rdseed
66.0F.C7/7r rdseed Rv opsize w=oszapc @rdseed
F3.0F.C7/7r rdpid Rm @rdpid
0F.C8+8 bswap Zv
0F.FF ud~ud0 Gv,Ev
66.38.82 invpcid Gm,Mdq cpl0 @invpcid
NP.38.F0 movbe Gv,Mv @movbe
66.38.F0 movbe Gv,Mv opsize @movbe
NP.38.F1 movbe Mv,Gv @movbe
66.38.F1 movbe Mv,Gv opsize @movbe
F2.38.F0 crc32 Gy,Eb @sse4_2
F2.38.F1 crc32 Gy,Ev @sse4_2
66.38.F6 adcx Gy,Ey w=c r=c @adx
F3.38.F6 adox Gy,Ey w=o r=o @adx
`;

function reservedNops(): string[] {
  const rows = ['0F.18 nop Ev', 'F3.0F.1E:FA nop~endbr64 -', 'F3.0F.1E:FB nop~endbr32 -'];
  for (let op = 0x19; op <= 0x1f; op++) rows.push(`0F.${hex(op)} nop Ev`);
  return rows;
}

/** Rows of general-purpose and system instructions. */
export const INTEGER_ROWS: readonly string[] = [
  ...aluRows(),
  ...shiftRows(),
  ...ONE_BYTE.trim().split('\n'),
  ...TWO_BYTE.trim().split('\n'),
  ...reservedNops(),
];
