/**
 * The decoder. Thread: any (its tables are read only; `out` is the caller's). Lock: none. Never allocates.
 * Facts from the SDM volume 2, chapter 2 (prefixes, REX, ModRM, SIB, VEX) and appendix A.
 */
import {
  cells,
  DIM_L,
  DIM_MODE,
  DIM_MODRM_SHIFT,
  DIM_PREFIX,
  DIM_W,
  HAS_MODRM,
  MODRM_CELLS,
  modrmKey,
  nodeBase,
  nodeDims,
} from './dispatch.ts';
import { BASE_RIP, DECODE, type Insn, OPERAND, PREFIX } from './insn.ts';
import { CODE_SPLIT, FIXED_SIZES, METHOD, ROW, SIZE, SIZE_VARIABLE } from './row.ts';
import { ROW_NAME, ROWS } from './table.ts';

const MAX_LENGTH = 15;

const rowFlags = Int32Array.from(ROWS, (row) => row.flags);
const rowCodes = new Int32Array(ROWS.length * 4);
for (const row of ROWS) rowCodes.set(row.codes, row.id * 4);

const rowOf = (name: string, opcode: string): number => {
  const row = ROWS.find((r) => r.name === name && r.opcode === opcode);
  if (!row) throw new Error(`no row ${opcode} ${name}`);
  return row.id;
};
const XCHG_90 = rowOf('xchg', '90+8');

// --- prefixes ---

const P_NONE = 0;
const P_REX = 1;
const P_SEG = 2;
const P_66 = 3;
const P_67 = 4;
const P_LOCK = 5;
const P_REPNE = 6;
const P_REP = 7;
const prefixClass = new Uint8Array(256);
prefixClass.fill(P_REX, 0x40, 0x50);
for (const byte of [0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65]) prefixClass[byte] = P_SEG;
prefixClass[0x66] = P_66;
prefixClass[0x67] = P_67;
prefixClass[0xf0] = P_LOCK;
prefixClass[0xf2] = P_REPNE;
prefixClass[0xf3] = P_REP;

// 16-bit addressing forms, by ModRM.rm (SDM volume 2, table 2-1)
const BASE_16 = Int8Array.of(3, 3, 5, 5, 6, 7, 5, 3);
const INDEX_16 = Int8Array.of(6, 7, 6, 7, -1, -1, -1, -1);

const SEG_SS = 2;
const SEG_DS = 3;

const fixedSizes = Uint16Array.from(FIXED_SIZES);

function variableSize(code: number, opSize: number, w: number, is64: boolean, vexL: number): number {
  switch (code) {
    case SIZE.V:
      return opSize;
    case SIZE.Z:
      return opSize === 2 ? 2 : 4;
    case SIZE.Y:
      return w && is64 ? 8 : 4;
    case SIZE.M:
      return is64 ? 8 : 4;
    case SIZE.P:
      return opSize + 2;
    case SIZE.S:
      return is64 ? 10 : 6;
    case SIZE.A:
      return opSize * 2;
    case SIZE.X:
      return 16 << vexL;
    case SIZE.H:
      return 8 << vexL;
    case SIZE.F:
      return 4 << vexL;
    case SIZE.E:
      return 2 << vexL;
    case SIZE.C:
      return opSize === 2 ? 14 : 28;
    default:
      return opSize === 2 ? 94 : 108;
  }
}

function i32At(bytes: Uint8Array, p: number): number {
  return bytes[p] | (bytes[p + 1] << 8) | (bytes[p + 2] << 16) | (bytes[p + 3] << 24);
}
function i16At(bytes: Uint8Array, p: number): number {
  return ((bytes[p] | (bytes[p + 1] << 8)) << 16) >> 16;
}
function i8At(bytes: Uint8Array, p: number): number {
  return (bytes[p] << 24) >> 24;
}

/** The bytes ran out at the end of what is available, or of what an instruction may have. */
function short(limit: number): number {
  return limit >= MAX_LENGTH ? DECODE.GP : DECODE.MORE;
}

/**
 * Decodes the instruction at `bytes[at]`, of which `limit` bytes are available, into `out`.
 * `codeSize`: 0, 1, 2 for 16-, 32-, 64-bit code. Returns its length, or a DECODE code (`out` is then undefined).
 * Rows named 'ud' (UD0, UD1, UD2) decode with a length; to execute them is #UD. CPUID features, privilege and
 * CPU modes other than the code size are for the caller to check.
 */
export function decode(bytes: Uint8Array, at: number, limit: number, codeSize: number, out: Insn): number {
  const is64 = codeSize === 2;
  const end = at + (limit < MAX_LENGTH ? limit : MAX_LENGTH);
  let p = at;
  let rex = 0;
  let seg = -1;
  let rep = 0;
  let prefixes = 0;
  let op = 0;
  for (;;) {
    if (p >= end) return short(limit);
    op = bytes[p++];
    const cls = prefixClass[op];
    if (cls === P_NONE) break;
    if (cls === P_REX) {
      if (!is64) break;
      rex = op;
      continue;
    }
    // a REX counts only directly before the opcode
    rex = 0;
    switch (cls) {
      case P_SEG:
        // ES, CS, SS, DS mean nothing in 64-bit code, and do not cancel FS or GS
        if (op >= 0x64) seg = op - 0x60;
        else if (!is64) seg = (op >> 3) & 3;
        prefixes |= PREFIX.SEGMENT;
        break;
      case P_66:
        prefixes |= PREFIX.OPERAND_SIZE;
        break;
      case P_67:
        prefixes |= PREFIX.ADDRESS_SIZE;
        break;
      case P_LOCK:
        prefixes |= PREFIX.LOCK;
        break;
      case P_REPNE:
        rep = 2;
        prefixes |= PREFIX.F2;
        break;
      default:
        rep = 3;
        prefixes |= PREFIX.F3;
        break;
    }
  }

  // --- opcode map, REX or VEX ---
  let map = 0;
  let w = (rex >> 3) & 1;
  let rexR = (rex & 4) << 1;
  let rexX = (rex & 2) << 2;
  let rexB = (rex & 1) << 3;
  let prefix = rep === 0 ? (prefixes & PREFIX.OPERAND_SIZE ? 1 : 0) : rep === 3 ? 2 : 3;
  let vex = 0;
  let vexL = 0;
  let vvvv = 0;
  if (rex) prefixes |= PREFIX.REX;
  if (op === 0x0f) {
    if (p >= end) return short(limit);
    op = bytes[p++];
    map = 1;
    if (op === 0x38 || op === 0x3a) {
      map = op === 0x38 ? 2 : 3;
      if (p >= end) return short(limit);
      op = bytes[p++];
    }
  } else if (op === 0xc4 || op === 0xc5) {
    if (p >= end) return short(limit);
    let payload = bytes[p];
    if (is64 || payload >= 0xc0) {
      if (rex || prefixes & (PREFIX.OPERAND_SIZE | PREFIX.LOCK | PREFIX.F2 | PREFIX.F3)) return DECODE.UD;
      p++;
      rexR = is64 && !(payload & 0x80) ? 8 : 0;
      map = 1;
      if (op === 0xc4) {
        map = payload & 31;
        if (map < 1 || map > 3) return DECODE.UD;
        rexX = is64 && !(payload & 0x40) ? 8 : 0;
        rexB = is64 && !(payload & 0x20) ? 8 : 0;
        if (p >= end) return short(limit);
        payload = bytes[p++];
        w = payload >> 7;
      }
      if (p >= end) return short(limit);
      op = bytes[p++];
      vex = 1;
      map += 4;
      vvvv = (~payload >> 3) & 15;
      vexL = (payload >> 2) & 1;
      prefix = payload & 3;
      prefixes |= PREFIX.VEX;
    }
  }
  if (w) prefixes |= PREFIX.W;

  // --- row ---
  const node = (map << 8) | op;
  const base = nodeBase[node];
  if (base < 0) return DECODE.UD;
  const dims = nodeDims[node];
  let modrm = 0xc0;
  if (dims & HAS_MODRM) {
    if (p >= end) return short(limit);
    modrm = bytes[p++];
  }
  let cell = dims & DIM_MODE && is64 ? 1 : 0;
  if (dims & DIM_PREFIX) cell = cell * 4 + prefix;
  if (dims & DIM_W) cell = cell * 2 + w;
  if (dims & DIM_L) cell = cell * 2 + vexL;
  if (dims & (3 << DIM_MODRM_SHIFT)) {
    cell = cell * MODRM_CELLS[(dims >> DIM_MODRM_SHIFT) & 3] + modrmKey(dims, modrm);
  }
  let row = cells[base + cell];
  if (row < 0) return DECODE.UD;
  // 90 is NOP, but with REX.B it is XCHG R8 (F3 REX.B 90 is PAUSE: found on the silicon)
  if (node === 0x90 && rexB && prefix !== 2) row = XCHG_90;
  const flags = rowFlags[row];

  // --- sizes ---
  const override66 = prefixes & PREFIX.OPERAND_SIZE && !(flags & ROW.MANDATORY66);
  let opSize: number;
  if (flags & ROW.BYTE) opSize = 1;
  else if (is64) {
    if (w || flags & ROW.FORCE64) opSize = 8;
    else if (override66) opSize = 2;
    else opSize = flags & (ROW.DEFAULT64 | ROW.MACHINE_SIZE) ? 8 : 4;
    if (flags & ROW.MAX32 && opSize === 8) opSize = 4;
  } else if (flags & ROW.MACHINE_SIZE) opSize = 4;
  else opSize = (codeSize === 0) === (override66 !== 0) ? 4 : 2;
  let addrSize: number;
  if (prefixes & PREFIX.ADDRESS_SIZE) addrSize = codeSize === 1 ? 2 : 4;
  else addrSize = 2 << codeSize;

  // --- memory operand ---
  out.base = -1;
  out.index = -1;
  out.scale = 0;
  out.disp = 0;
  out.dispHi = 0;
  out.vsib = 0;
  out.memOperand = -1;
  let defaultSeg = SEG_DS;
  const mod = modrm >> 6;
  const rm = modrm & 7;
  if (mod !== 3 && !(flags & ROW.MOD3)) {
    let dispSize = mod === 1 ? 1 : mod === 2 ? 4 : 0;
    if (addrSize === 2) {
      if (flags & ROW.VSIB) return DECODE.UD;
      if (mod === 2) dispSize = 2;
      if (rm === 6 && mod === 0) dispSize = 2;
      else {
        out.base = BASE_16[rm];
        out.index = INDEX_16[rm];
        if (out.base === 5) defaultSeg = SEG_SS;
      }
    } else {
      if (rm === 4) {
        if (p >= end) return short(limit);
        const sib = bytes[p++];
        const index = ((sib >> 3) & 7) | rexX;
        if (index !== 4 || flags & ROW.VSIB) {
          out.index = index;
          out.scale = sib >> 6;
        }
        const sibBase = sib & 7;
        if (sibBase === 5 && mod === 0) dispSize = 4;
        else {
          out.base = sibBase | rexB;
          if (out.base === 4 || out.base === 5) defaultSeg = SEG_SS;
        }
      } else if (flags & ROW.VSIB) {
        return DECODE.UD;
      } else if (rm === 5 && mod === 0) {
        dispSize = 4;
        if (is64) out.base = BASE_RIP;
      } else {
        out.base = rm | rexB;
        if (out.base === 5) defaultSeg = SEG_SS;
      }
    }
    if (dispSize !== 0) {
      if (p + dispSize > end) return short(limit);
      if (dispSize === 1) out.disp = i8At(bytes, p);
      else if (dispSize === 4) out.disp = i32At(bytes, p);
      else out.disp = i16At(bytes, p);
      out.dispHi = out.disp >> 31;
      p += dispSize;
    }
  }

  // --- operands ---
  out.immLo = 0;
  out.immHi = 0;
  out.imm2 = 0;
  out.rel = 0;
  const kinds = out.kind;
  const sizes = out.size;
  const regs = out.reg;
  let count = 0;
  let immediates = 0;
  for (; count < 4; count++) {
    const code = rowCodes[row * 4 + count];
    if (code === 0) break;
    const method = code & 255;
    let sizeCode = (code >> 8) & 255;
    if (code & CODE_SPLIT && mod !== 3) sizeCode = (code >> 16) & 255;
    let size =
      sizeCode < SIZE_VARIABLE ? fixedSizes[sizeCode] : variableSize(sizeCode, opSize, w, is64, vexL);
    let kind: number = OPERAND.REG;
    let reg = 0;
    switch (method) {
      case METHOD.E:
      case METHOD.R:
        if (mod !== 3 && !(flags & ROW.MOD3)) kind = OPERAND.MEM;
        else reg = rm | rexB;
        break;
      case METHOD.G:
        reg = ((modrm >> 3) & 7) | rexR;
        break;
      case METHOD.Z:
        reg = (op & 7) | rexB;
        break;
      case METHOD.IMM:
      case METHOD.UIMM: {
        if (p + size > end) return short(limit);
        let value: number;
        if (size === 1) value = method === METHOD.IMM ? i8At(bytes, p) : bytes[p];
        else if (size === 2) value = method === METHOD.IMM ? i16At(bytes, p) : i16At(bytes, p) & 0xffff;
        else value = i32At(bytes, p);
        if (immediates++ === 0) {
          out.immLo = value;
          out.immHi = size === 8 ? i32At(bytes, p + 4) : method === METHOD.IMM ? value >> 31 : 0;
        } else out.imm2 = value;
        p += size;
        kind = OPERAND.IMM;
        break;
      }
      case METHOD.J:
        kind = OPERAND.REL;
        if (size !== 1) size = opSize === 2 ? 2 : 4;
        if (p + size > end) return short(limit);
        out.rel = size === 1 ? i8At(bytes, p) : size === 2 ? i16At(bytes, p) : i32At(bytes, p);
        p += size;
        break;
      case METHOD.M:
        kind = OPERAND.MEM;
        break;
      case METHOD.O:
        kind = OPERAND.MEM;
        if (p + addrSize > end) return short(limit);
        if (addrSize === 2) out.disp = i16At(bytes, p) & 0xffff;
        else out.disp = i32At(bytes, p);
        out.dispHi = addrSize === 8 ? i32At(bytes, p + 4) : 0;
        p += addrSize;
        break;
      case METHOD.P:
        kind = OPERAND.MMX;
        reg = (modrm >> 3) & 7;
        break;
      case METHOD.Q:
      case METHOD.N:
        if (mod !== 3) kind = OPERAND.MEM;
        else {
          kind = OPERAND.MMX;
          reg = rm;
        }
        break;
      case METHOD.V:
        kind = OPERAND.XMM;
        reg = ((modrm >> 3) & 7) | rexR;
        break;
      case METHOD.W:
      case METHOD.U:
        if (mod !== 3) kind = OPERAND.MEM;
        else {
          kind = OPERAND.XMM;
          reg = rm | rexB;
        }
        break;
      case METHOD.C:
        kind = OPERAND.CR;
        reg = ((modrm >> 3) & 7) | rexR;
        if (reg === 1 || reg > 8 || (reg > 4 && reg < 8)) return DECODE.UD;
        break;
      case METHOD.D:
        kind = OPERAND.DR;
        reg = (modrm >> 3) & 7;
        if (rexR) return DECODE.UD;
        break;
      case METHOD.S:
        kind = OPERAND.SREG;
        reg = (modrm >> 3) & 7;
        // only six exist, and CS cannot be loaded by MOV
        if (reg > 5 || (reg === 1 && count === 0)) return DECODE.UD;
        break;
      case METHOD.H:
        kind = OPERAND.XMM;
        reg = is64 ? vvvv : vvvv & 7;
        break;
      case METHOD.B:
        reg = is64 ? vvvv : vvvv & 7;
        break;
      case METHOD.L:
        if (p >= end) return short(limit);
        kind = OPERAND.XMM;
        reg = bytes[p++] >> 4;
        if (!is64) reg &= 7;
        break;
      case METHOD.A:
        kind = OPERAND.FAR;
        if (p + size > end) return short(limit);
        out.immLo = opSize === 2 ? i16At(bytes, p) & 0xffff : i32At(bytes, p);
        out.imm2 = i16At(bytes, p + size - 2) & 0xffff;
        p += size;
        break;
      case METHOD.FIXED:
        reg = code >> 16;
        break;
      case METHOD.ONE:
        kind = OPERAND.IMM;
        out.immLo = 1;
        break;
      case METHOD.ST0:
        kind = OPERAND.ST;
        break;
      case METHOD.STI:
        kind = OPERAND.ST;
        reg = rm;
        break;
      case METHOD.FIXED_SREG:
        kind = OPERAND.SREG;
        reg = code >> 16;
        break;
      default:
        kind = OPERAND.XMM;
        break;
    }
    if (kind === OPERAND.REG) {
      if (size === 1 && reg >= 4 && reg < 8 && !rex) {
        kind = OPERAND.REG8HIGH;
        reg -= 4;
      }
    } else if (kind === OPERAND.MEM) {
      out.memOperand = count;
    }
    kinds[count] = kind;
    sizes[count] = size;
    regs[count] = reg;
  }

  for (let i = count; i < 4; i++) kinds[i] = OPERAND.NONE;

  // --- what remains to be checked ---
  if (prefixes & PREFIX.LOCK) {
    if (!(flags & ROW.LOCK) || kinds[0] !== OPERAND.MEM) return DECODE.UD;
    out.lock = 1;
  } else out.lock = 0;
  if (vex) {
    if (!(flags & ROW.VVVV) && vvvv !== 0) return DECODE.UD;
    if (flags & ROW.VSIB) {
      // an index of doublewords for quadwords fills half as much as the data
      out.vsib = !(op & 1) && w ? 16 : 16 << vexL;
      // destination, index and mask must be three registers
      const mask = regs[2];
      if (regs[0] === mask || regs[0] === out.index || mask === out.index) return DECODE.UD;
    }
  }
  out.row = row;
  out.name = ROW_NAME[row];
  out.length = p - at;
  out.opSize = opSize;
  out.addrSize = addrSize;
  out.cond = flags & ROW.CONDITION ? op & 15 : 0;
  out.rep = flags & (ROW.REP | ROW.REPE) ? rep : 0;
  out.seg = seg >= 0 ? seg : defaultSeg;
  out.prefixes = prefixes;
  out.count = count;
  out.vex = vex;
  out.vexL = vexL;
  return p - at;
}
