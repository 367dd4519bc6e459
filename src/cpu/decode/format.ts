/**
 * Disassembly in Intel syntax, close to `objdump -M intel`. Thread: any. Lock: none. Not for hot paths: it allocates.
 * Where objdump's text depends on the code size's default (pushf, pusha, iret) the suffix is always that of the
 * operand size.
 */
import { BASE_RIP, type Insn, OPERAND, PREFIX } from './insn.ts';
import { ROWS } from './table.ts';

const CONDITIONS = ['o', 'no', 'b', 'ae', 'e', 'ne', 'be', 'a', 's', 'ns', 'p', 'np', 'l', 'ge', 'le', 'g'];
const LEGACY = ['ax', 'cx', 'dx', 'bx', 'sp', 'bp', 'si', 'di'];
const LOW_BYTES = ['al', 'cl', 'dl', 'bl', 'spl', 'bpl', 'sil', 'dil'];
const HIGH_BYTES = ['ah', 'ch', 'dh', 'bh'];
const SEGMENTS = ['es', 'cs', 'ss', 'ds', 'fs', 'gs'];
const SIZES: Record<number, string> = {
  1: 'BYTE PTR ',
  2: 'WORD PTR ',
  4: 'DWORD PTR ',
  6: 'FWORD PTR ',
  8: 'QWORD PTR ',
  10: 'TBYTE PTR ',
  16: 'XMMWORD PTR ',
  32: 'YMMWORD PTR ',
};

/** Mnemonics that the operand size decides, by 2, 4, 8 bytes. */
const BY_SIZE: Record<string, readonly [string, string, string]> = {
  cbw: ['cbw', 'cwde', 'cdqe'],
  cwd: ['cwd', 'cdq', 'cqo'],
  iret: ['iretw', 'iret', 'iretq'],
  retf: ['retfw', 'retf', 'retfq'],
  pushf: ['pushfw', 'pushfd', 'pushf'],
  popf: ['popfw', 'popfd', 'popf'],
  pusha: ['pushaw', 'pushad', ''],
  popa: ['popaw', 'popad', ''],
  sysret: ['sysretd', 'sysretd', 'sysretq'],
  sysexit: ['sysexitd', 'sysexitd', 'sysexitq'],
};
const WITH_64 = new Set(['fxsave', 'fxrstor', 'xsave', 'xrstor', 'xsaveopt', 'xsavec', 'xsaves', 'xrstors']);
const COUNTERS: Record<number, string> = { 2: 'jcxz', 4: 'jecxz', 8: 'jrcxz' };
const NO_MEMORY_SIZE = new Set([
  'lea',
  'fxsave',
  'fxrstor',
  'fldenv',
  'fnstenv',
  'fnsave',
  'frstor',
  'sgdt',
  'sidt',
  'lgdt',
  'lidt',
]);

/** Name of a general register. `high`: AH, CH, DH, BH. */
export function registerName(reg: number, size: number, high: boolean): string {
  if (high) return HIGH_BYTES[reg];
  if (reg < 8) {
    if (size === 1) return LOW_BYTES[reg];
    return (size === 8 ? 'r' : size === 4 ? 'e' : '') + LEGACY[reg];
  }
  return `r${reg}${size === 8 ? '' : size === 4 ? 'd' : size === 2 ? 'w' : 'b'}`;
}

function hex(value: number): string {
  return `0x${value.toString(16)}`;
}

function signedHex(value: number): string {
  return value < 0 ? `-${hex(-value)}` : `+${hex(value)}`;
}

function memory(insn: Insn, size: number): string {
  const name = ROWS[insn.row].name;
  const width = NO_MEMORY_SIZE.has(name) ? '' : (SIZES[size] ?? '');
  const stack = insn.base === 4 || insn.base === 5;
  const overridden = insn.seg !== (stack ? 2 : 3);
  const shown = overridden ? `${SEGMENTS[insn.seg]}:` : '';
  if (insn.base < 0 && insn.index < 0) {
    const high = insn.dispHi !== 0 && insn.dispHi !== -1 ? BigInt(insn.dispHi >>> 0) << 32n : 0n;
    const full = insn.addrSize === 8 && insn.dispHi === -1 ? 0xffffffffn << 32n : high;
    const address = full | BigInt(insn.addrSize === 2 ? insn.disp & 0xffff : insn.disp >>> 0);
    return `${width}${shown || 'ds:'}0x${address.toString(16)}`;
  }
  let text = '';
  if (insn.base === BASE_RIP) text = insn.addrSize === 8 ? 'rip' : 'eip';
  else if (insn.base >= 0) text = registerName(insn.base, insn.addrSize, false);
  if (insn.index >= 0) {
    const index = insn.vsib
      ? `${insn.vsib === 32 ? 'ymm' : 'xmm'}${insn.index}`
      : registerName(insn.index, insn.addrSize, false);
    text += (text ? '+' : '') + index + (insn.addrSize === 2 ? '' : `*${1 << insn.scale}`);
  }
  if (insn.disp !== 0 || insn.base === BASE_RIP) text += signedHex(insn.disp);
  return `${width}${shown}[${text}]`;
}

function immediate(insn: Insn, operand: number): string {
  let width = insn.opSize;
  const name = ROWS[insn.row].name;
  if (operand > 0 && insn.kind[operand - 1] === OPERAND.IMM) return hex(insn.imm2);
  if (ROWS[insn.row].operands[operand] === '1') return '1';
  if (ROWS[insn.row].operands[operand][0] === 'U') width = insn.size[operand];
  else if (name === 'push' && width < 4) width = 2;
  if (width === 8) {
    const value = (BigInt(insn.immHi >>> 0) << 32n) | BigInt(insn.immLo >>> 0);
    return `0x${value.toString(16)}`;
  }
  if (width === 4) return hex(insn.immLo >>> 0);
  return hex(insn.immLo & (width === 2 ? 0xffff : 0xff));
}

function operandText(insn: Insn, operand: number, ip: bigint): string {
  const reg = insn.reg[operand];
  const size = insn.size[operand];
  switch (insn.kind[operand]) {
    case OPERAND.REG:
      return registerName(reg, size, false);
    case OPERAND.REG8HIGH:
      return registerName(reg, 1, true);
    case OPERAND.IMM:
      return immediate(insn, operand);
    case OPERAND.MEM:
      return memory(insn, size);
    case OPERAND.XMM:
      return `${size === 32 ? 'ymm' : 'xmm'}${reg}`;
    case OPERAND.MMX:
      return `mm${reg}`;
    case OPERAND.SREG:
      return SEGMENTS[reg];
    case OPERAND.CR:
      return `cr${reg}`;
    case OPERAND.DR:
      return `dr${reg}`;
    case OPERAND.ST:
      return ROWS[insn.row].operands[operand] === 'ST0' ? 'st' : `st(${reg})`;
    case OPERAND.REL: {
      const bits = insn.opSize * 8;
      return `0x${BigInt.asUintN(bits, ip + BigInt(insn.length) + BigInt(insn.rel)).toString(16)}`;
    }
    case OPERAND.FAR:
      return `${hex(insn.imm2)}:${hex(insn.immLo >>> 0)}`;
    default:
      return '';
  }
}

/** Operands that string instructions and xlat have without naming them. */
function implicitText(insn: Insn): string {
  const name = ROWS[insn.row].name;
  const width = SIZES[insn.opSize];
  const source = `${width}${SEGMENTS[insn.seg]}:[${registerName(6, insn.addrSize, false)}]`;
  const target = `${width}es:[${registerName(7, insn.addrSize, false)}]`;
  const accumulator = registerName(0, insn.opSize, false);
  switch (name) {
    case 'movs':
      return `${target},${source}`;
    case 'cmps':
      return `${source},${target}`;
    case 'stos':
      return `${target},${accumulator}`;
    case 'lods':
      return `${accumulator},${source}`;
    case 'scas':
      return `${accumulator},${target}`;
    case 'ins':
      return `${target},dx`;
    case 'outs':
      return `dx,${source}`;
    case 'xlat':
      return `BYTE PTR ${SEGMENTS[insn.seg]}:[${registerName(3, insn.addrSize, false)}]`;
    default:
      return '';
  }
}

/** The mnemonic, with condition and size applied, without prefixes. */
export function mnemonicOf(insn: Insn): string {
  const row = ROWS[insn.row];
  if (row.name === 'jcc') return `j${CONDITIONS[insn.cond]}`;
  if (row.name === 'setcc') return `set${CONDITIONS[insn.cond]}`;
  if (row.name === 'cmovcc') return `cmov${CONDITIONS[insn.cond]}`;
  if (row.name === 'jcxz') return COUNTERS[insn.addrSize];
  if (row.name === 'callf') return 'call';
  if (row.name === 'jmpf') return 'jmp';
  const sized = BY_SIZE[row.name];
  if (sized) return sized[insn.opSize === 2 ? 0 : insn.opSize === 4 ? 1 : 2];
  if (WITH_64.has(row.name) && insn.prefixes & PREFIX.W) return `${row.text}64`;
  const wide = row.operands[1] === 'Iv' || row.operands[0]?.[0] === 'O' || row.operands[1]?.[0] === 'O';
  if (wide && (insn.opSize === 8 || insn.addrSize === 8) && row.name === 'mov') {
    if (row.operands[1] !== 'Iv' || insn.opSize === 8) return 'movabs';
  }
  return row.text;
}

/** One line of disassembly; `ip` is the instruction's own address, for branch targets. */
export function formatInsn(insn: Insn, ip: bigint): string {
  const row = ROWS[insn.row];
  let text = '';
  if (insn.lock) text += 'lock ';
  if (insn.rep === 3) text += row.repeatable === 2 ? 'repz ' : 'rep ';
  if (insn.rep === 2) text += 'repnz ';
  const mnemonic = mnemonicOf(insn);
  let operands = implicitText(insn);
  // fxch names only the other register
  for (let i = row.name === 'fxch' ? 1 : 0; i < insn.count; i++) {
    operands += (operands ? ',' : '') + operandText(insn, i, ip);
  }
  if (!operands) return text + mnemonic;
  text = `${(text + mnemonic).padEnd(6)} ${operands}`;
  if (insn.memOperand >= 0 && insn.base === BASE_RIP) {
    const target = BigInt.asUintN(insn.addrSize * 8, ip + BigInt(insn.length) + BigInt(insn.disp));
    text += `        # 0x${target.toString(16)}`;
  }
  return text;
}
