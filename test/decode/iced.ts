/** What the tests need of iced-x86: an independent decoder to compare with. */
import { Code, Decoder, DecoderOptions, Instruction, MemorySizeExt, OpKind, Register } from 'iced-x86';
import { BASE_RIP, type Insn, OPERAND } from '../../src/cpu/decode/insn.ts';
import { ROWS } from '../../src/cpu/decode/table.ts';

/** Instructions that iced-x86 knows and smp86 has no feature for: all are #UD here, as on a CPU without them. */
export const NOT_OFFERED: readonly (readonly [RegExp, string])[] = [
  [/^EVEX_|^MVEX_/, 'AVX-512'],
  [/^XOP_/, 'XOP'],
  [/^VEX_K/, 'AVX-512 mask registers'],
  [/^VEX_V?(fn?m(add|sub|addsub|subadd)[ps][sd])_/i, 'FMA4'],
  [/^VEX_Vpermil2/, 'XOP'],
  [/^VEX_(V?gf2p8)/i, 'GFNI'],
  [/^Gf2p8/, 'GFNI'],
  [/^VEX_Vpdp/, 'AVX-VNNI'],
  [/^VEX_Vpmadd52/, 'AVX-IFMA'],
  [/^VEX_V(sm3|sm4|sha512)/, 'SM3, SM4, SHA512'],
  [/^VEX_V(bcstne|cvtne)/, 'AVX-NE-CONVERT'],
  [/^VEX_Cmp\w+add_/, 'CMPCCXADD'],
  [/^VEX_(Ldtilecfg|Sttilecfg|Tile|Tdp|Tcmm|Tdpfp16)/, 'AMX'],
  [/^D3NOW_|^Femms/, '3DNow!'],
  [/^(Vm(call|launch|resume|xoff|func|clear|xon|ptrld|ptrst|read|write)|Inve(pt)|Invvpid)/, 'VMX'],
  [/^(Vmmcall|Vmgexit|Vmrun|Vmload|Vmsave|Stgi|Clgi|Skinit|Invlpga|Invlpgb|Tlbsync)/, 'SVM'],
  [/^(Psmash|Pvalidate|Rmp|Vmgexit)/, 'SEV-SNP'],
  [/^(Xabort|Xbegin|Xend|Xtest|Xsusldtrk|Xresldtrk)/, 'TSX'],
  [/^(Incssp|Rdssp|Saveprevssp|Rstorssp|Wrss|Wruss|Setssbsy|Clrssbsy)/, 'CET'],
  [/^(Getsec)/, 'SMX'],
  [/^(Enclv|Enclu|Encls)/, 'SGX'],
  [/^(Extrq|Insertq|Movnts[sd]_m)/, 'SSE4a'],
  [/^(Aadd|Aand|Aor|Axor)_/, 'RAO-INT'],
  [/^(Aes(enc|dec)(wide)?(128|256)kl|Encodekey|Loadiwkey)/, 'Key Locker'],
  [/^(Xstore|Xcrypt|Xsha|Montmul|Ccs_|Via_undoc|Undoc|Sm2|Sm3|Xrng|Xmodexp)/, 'VIA PadLock'],
  [/^(Movdir|Enqcmd)/, 'MOVDIRI, MOVDIR64B, ENQCMD'],
  [/^(Umonitor|Umwait|Tpause)/, 'WAITPKG'],
  [/^(Monitorx|Mwaitx|Clzero|Rdpru|Mcommit)/, 'AMD Zen extensions'],
  [
    /^(Ptwrite|Pconfig|Pbndkb|Serialize|Hreset|Wrmsrns|Rdmsrlist|Wrmsrlist|Lkgs|Er(et)[us])/,
    'newer Intel system instructions',
  ],
  [/^(Clui|Stui|Testui|Uiret|Senduipi)/, 'user interrupts'],
  [/^(Tdcall|Seamret|Seamops|Seamcall)/, 'TDX'],
];

export function notOffered(codeName: string): boolean {
  return NOT_OFFERED.some(([pattern]) => pattern.test(codeName));
}

const KINDS: readonly [RegExp, number, number][] = [
  [/^[ABCD]H$/, OPERAND.REG8HIGH, 1],
  [/^([ABCD]L|[SB]PL|[SD]IL|R\d+L)$/, OPERAND.REG, 1],
  [/^([ABCD]X|[SB]P|[SD]I|R\d+W)$/, OPERAND.REG, 2],
  [/^(E[ABCD]X|E[SB]P|E[SD]I|R\d+D)$/, OPERAND.REG, 4],
  [/^(R[ABCD]X|R[SB]P|R[SD]I|R\d+)$/, OPERAND.REG, 8],
  [/^XMM\d+$/, OPERAND.XMM, 16],
  [/^YMM\d+$/, OPERAND.XMM, 32],
  [/^MM\d$/, OPERAND.MMX, 8],
  [/^[ECSDFG]S$/, OPERAND.SREG, 2],
  [/^CR\d+$/, OPERAND.CR, 0],
  [/^DR\d+$/, OPERAND.DR, 0],
  [/^ST\d$/, OPERAND.ST, 0],
];
const ORDER: Record<string, number> = { A: 0, C: 1, D: 2, B: 3 };
const NAMED: Record<string, number> = {
  SP: 4,
  BP: 5,
  SI: 6,
  DI: 7,
  ES: 0,
  CS: 1,
  SS: 2,
  DS: 3,
  FS: 4,
  GS: 5,
};

interface RegisterInfo {
  kind: number;
  size: number;
  reg: number;
}
const registers = new Map<number, RegisterInfo>();
for (const [name, value] of Object.entries(Register)) {
  if (typeof value !== 'number') continue;
  const found = KINDS.find(([pattern]) => pattern.test(name));
  if (!found) continue;
  const digits = /\d+/.exec(name);
  let reg: number;
  if (digits) reg = Number(digits[0]);
  else if (found[1] === OPERAND.SREG) reg = NAMED[name];
  else if (found[1] === OPERAND.REG8HIGH) reg = ORDER[name[0]];
  else {
    const legacy = name.replace(/^[ER](?=..$)/, '').replace(/^(SP|BP|SI|DI)L$/, '$1');
    reg = legacy in NAMED ? NAMED[legacy] : ORDER[legacy[0]];
  }
  registers.set(value, { kind: found[1], size: found[2], reg });
}

/** Instructions whose implicit operands iced-x86 names and smp86 leaves to the semantics, or the reverse. */
const IMPLICIT = new Set(
  'movs cmps stos lods scas ins outs xlat nop maskmovq maskmovdqu vmaskmovdqu blendvps blendvpd pblendvb sha256rnds2 prefetch fst fstp fxch'.split(
    ' ',
  ),
);

/** First difference between the operands, or ''. Both have decoded the same bytes; `ins` with ip = `ip`. */
export function operandDifference(ins: Instruction, insn: Insn, ip: bigint): string {
  const row = ROWS[insn.row];
  if (insn.memOperand >= 0 && row.name !== 'nop') {
    const difference = memoryDifference(ins, insn, ip);
    if (difference) return difference;
  }
  if (IMPLICIT.has(row.name)) return '';
  if (ins.opCount !== insn.count) return `operand count ${ins.opCount}, here ${insn.count}`;
  for (let i = 0; i < insn.count; i++) {
    const difference = oneDifference(ins, insn, i, ip);
    if (difference) return `operand ${i}: ${difference}`;
  }
  return '';
}

function oneDifference(ins: Instruction, insn: Insn, i: number, ip: bigint): string {
  const kind = insn.kind[i];
  switch (ins.opKind(i)) {
    case OpKind.Register: {
      const want = registers.get(ins.opRegister(i));
      if (!want) return `register ${Register[ins.opRegister(i)]} unknown`;
      if (want.kind !== kind || want.reg !== insn.reg[i]) {
        return `${Register[ins.opRegister(i)]}, here kind ${kind} register ${insn.reg[i]}`;
      }
      if (kind === OPERAND.REG && want.size !== insn.size[i]) {
        if (ROWS[insn.row].name === 'arpl') return ''; // of which 16 bits are used
        return `register size ${want.size}, here ${insn.size[i]}`;
      }
      if (kind === OPERAND.XMM && (want.size === 32) !== (insn.size[i] === 32))
        return `vector size ${want.size}`;
      return '';
    }
    case OpKind.Memory:
      return kind === OPERAND.MEM ? '' : `memory, here kind ${kind}`;
    case OpKind.NearBranch16:
    case OpKind.NearBranch32:
    case OpKind.NearBranch64: {
      if (kind !== OPERAND.REL) return `branch, here kind ${kind}`;
      const target = BigInt.asUintN(insn.opSize * 8, ip + BigInt(insn.length + insn.rel));
      return target === ins.nearBranchTarget ? '' : `branch to ${ins.nearBranchTarget}, here ${target}`;
    }
    case OpKind.FarBranch16:
    case OpKind.FarBranch32: {
      const offset = insn.opSize === 2 ? ins.farBranch16 : ins.farBranch32;
      if (kind !== OPERAND.FAR || offset !== insn.immLo >>> 0 || ins.farBranchSelector !== insn.imm2) {
        return `far pointer ${ins.farBranchSelector}:${offset}`;
      }
      return '';
    }
    default: {
      if (kind !== OPERAND.IMM) return `immediate, here kind ${kind}`;
      if (i > 0 && insn.kind[i - 1] === OPERAND.IMM) {
        return ins.immediate(i) === BigInt(insn.imm2) ? '' : `second immediate ${ins.immediate(i)}`;
      }
      const value = (BigInt(insn.immHi >>> 0) << 32n) | BigInt(insn.immLo >>> 0);
      // iced-x86 extends to the operand size only, and bytes not at all
      const bits = insn.opSize * 8;
      const wide = ins.immediate(i);
      if (BigInt.asUintN(bits, value) !== BigInt.asUintN(bits, wide) && BigInt.asUintN(8, wide) !== value) {
        return `immediate ${wide}, here ${value}`;
      }
      return '';
    }
  }
}

function memoryDifference(ins: Instruction, insn: Insn, ip: bigint): string {
  const size = MemorySizeExt.size(ins.memorySize);
  if (size !== insn.size[insn.memOperand] && ROWS[insn.row].name !== 'invlpg') {
    return `memory size ${size}, here ${insn.size[insn.memOperand]}`;
  }
  const segment = registers.get(ins.memorySegment)?.reg;
  if (segment !== insn.seg) {
    // in 64-bit code iced-x86 reports overrides that mean nothing
    const ignored = ins.codeSize === 3 && (segment ?? 0) < 4 && insn.seg < 4;
    if (!ignored) return `segment ${segment}, here ${insn.seg}`;
  }
  const displacement = ins.memoryDisplacement;
  if (insn.base === BASE_RIP) {
    const target = BigInt.asUintN(insn.addrSize * 8, ip + BigInt(insn.length + insn.disp));
    return ins.isIpRelMemoryOperand && target === ins.ipRelMemoryAddress ? '' : `ip-relative ${displacement}`;
  }
  const base = ins.memoryBase === Register.None ? -1 : (registers.get(ins.memoryBase)?.reg ?? -2);
  const index = ins.memoryIndex === Register.None ? -1 : (registers.get(ins.memoryIndex)?.reg ?? -2);
  if (base !== insn.base) return `base ${base}, here ${insn.base}`;
  if (index !== insn.index) return `index ${index}, here ${insn.index}`;
  if (index >= 0 && ins.memoryIndexScale !== 1 << insn.scale) return `scale ${ins.memoryIndexScale}`;
  if (base >= 0) {
    const width = registers.get(ins.memoryBase)?.size;
    if (width !== insn.addrSize) return `address size ${width}, here ${insn.addrSize}`;
  }
  if (insn.vsib !== 0 && registers.get(ins.memoryIndex)?.size !== insn.vsib) return `vsib ${insn.vsib}`;
  const here = (BigInt(insn.dispHi >>> 0) << 32n) | BigInt(insn.disp >>> 0);
  const bits = insn.addrSize * 8;
  if (BigInt.asUintN(bits, here) !== BigInt.asUintN(bits, displacement)) {
    return `displacement ${displacement}, here ${here}`;
  }
  return '';
}

export { Code, Decoder, DecoderOptions, Instruction };
