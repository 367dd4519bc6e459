/**
 * Translates decoded instructions to records: picks handlers, finds operand slots, decides between the fast
 * address form and the ADDRESS record, and marks dead flags. Records are assembled in a private buffer; the
 * code cache copies them to shared memory.
 */
import { decode } from '../decode/decoder.ts';
import { BASE_RIP, DECODE, Insn, OPERAND, PREFIX } from '../decode/insn.ts';
import { NAMES, ROWS } from '../decode/table.ts';
import { CpuEnv, Segment, XMM_STRIDE } from '../env.ts';
import { ARITHMETIC } from '../flags.ts';
import { isLocked, operandKinds, operandSize, semanticName, SemanticsIndex } from '../sem/select.ts';
import { handlerKey, type HandlerTable, type SemanticsTraits } from './handlers.ts';
import { HELPER, HELPER_OPERAND, PSEUDO, RECORD, RECORD_SIZE, SLOTS } from './record.ts';

const SLOT = {
  zero: CpuEnv.offsetOf('zero'),
  tmpAddr: CpuEnv.offsetOf('tmpAddr'),
  codePage: CpuEnv.offsetOf('codePage'),
  segs: CpuEnv.offsetOf('segs'),
  xmm: CpuEnv.offsetOf('xmm'),
  fpRegs: CpuEnv.offsetOf('fpRegs'),
} as const;

/** Most instructions in one run. */
const MAX_RUN = 64;
/** An instruction takes at most an ADDRESS pair and its own record. */
const MAX_RECORDS = MAX_RUN * 3 + 1;

/** What TypeScript-implemented instructions need to know beyond the table. */
export interface HelperTraits {
  /** Is there a helper of this name? */
  has(name: string): boolean;
  /** The helper accesses its memory operand itself. */
  addressOnly(name: string): boolean;
  /** The helper leaves a value for operand 0. */
  hasResult(name: string): boolean;
  /** Is the helper to be used although there is generated code for the instruction? */
  prefers(name: string): boolean;
  /** Count taken jumps, so that hot ones are compiled. */
  readonly countsJumps?: boolean;
  /** The helper's number. */
  id(name: string): number;
}

/** Instructions after which the next one in memory is never executed directly. */
const NO_FALL_THROUGH = new Set(
  'jmp jmpf ret retf iret ud hlt syscall sysret sysenter sysexit int int3 int1 callf call rsm'.split(' '),
);

const FS = 4;

function log2(size: number): number {
  return size === 8 ? 3 : size >> 1;
}

/** *Thread:* each vCPU worker has its own. */
export class Translator {
  readonly buffer = new Uint8Array(MAX_RECORDS * RECORD_SIZE);
  private readonly view = new DataView(this.buffer.buffer);
  private readonly insn = new Insn();
  private readonly handlers: HandlerTable;
  private readonly semantics: SemanticsIndex<SemanticsTraits>;
  private readonly helpers: HelperTraits;
  /** Keys that no handler exists for, for the coverage test and the log. */
  readonly missing = new Set<string>();

  /** Records in `buffer` after `run` or `single`. */
  count = 0;
  /** Instructions of the last run: page offset and first record of each. */
  readonly starts = new Uint16Array(MAX_RUN + 1);
  readonly startRecord = new Uint16Array(MAX_RUN + 1);
  instructions = 0;
  /** Bytes covered by the last run, from its first offset. */
  length = 0;
  private codeSize = 2;
  /** Handler number → that of the variant that sets no flags. */
  private readonly deadForm = new Map<number, number>();
  private readonly keyCache = new Map<string, number>();
  /** Per instruction of the run: record number of its handler and what it does to the flags, for the liveness pass. */
  private readonly flagRecords: { record: number; dead: number; kills: boolean; transparent: boolean }[] = [];

  constructor(handlers: HandlerTable, helpers: HelperTraits) {
    this.handlers = handlers;
    this.helpers = helpers;
    this.semantics = new SemanticsIndex(handlers.semantics);
  }

  /**
   * Translates from `bytes[at]`, which is page offset `offset`, up to a jump, the page's end, a known offset
   * (`known(offset)` nonzero gives its record) or the limit. False when the first instruction crosses the page's end.
   */
  run(
    bytes: Uint8Array,
    at: number,
    offset: number,
    codeSize: number,
    known: (offset: number) => number,
  ): boolean {
    this.begin(codeSize);
    let o = offset;
    while (this.instructions < MAX_RUN) {
      if (o !== offset) {
        const record = o < 4096 ? known(o) : 0;
        if (record !== 0) {
          this.pseudo(PSEUDO.GOTO, o, record);
          this.finish(o - offset);
          return true;
        }
      }
      const length = decode(bytes, at + (o - offset), 4096 - o, codeSize, this.insn);
      if (length === DECODE.MORE) {
        if (o === offset) return false;
        break;
      }
      if (length < 0) {
        this.mark(o);
        this.flagRecords.push({ record: this.count, dead: -1, kills: false, transparent: false });
        this.pseudo(length === DECODE.UD ? PSEUDO.UNDEFINED : PSEUDO.TOO_LONG, o, 0);
        this.finish(o - offset + 1);
        return true;
      }
      const falls = this.instruction(o);
      o += length;
      if (!falls) {
        this.finish(o - offset);
        return true;
      }
    }
    this.pseudo(PSEUDO.CONTINUE, o, 0);
    this.finish(o - offset);
    return true;
  }

  /** Translates one instruction as one-shot code that ends with `end` (CONTINUE or STOP). Gives its length or a DECODE code. */
  single(
    bytes: Uint8Array,
    at: number,
    limit: number,
    offset: number,
    codeSize: number,
    end: number,
  ): number {
    this.begin(codeSize);
    const length = decode(bytes, at, limit, codeSize, this.insn);
    if (length > 0) {
      this.instruction(offset);
      this.pseudo(end, offset + length, 0);
    } else if (length < 0) {
      this.mark(offset);
      this.pseudo(length === DECODE.UD ? PSEUDO.UNDEFINED : PSEUDO.TOO_LONG, offset, 0);
    }
    return length;
  }

  private begin(codeSize: number): void {
    this.count = 0;
    this.instructions = 0;
    this.codeSize = codeSize;
    this.flagRecords.length = 0;
  }
  private finish(length: number): void {
    this.length = length;
    this.markDeadFlags();
  }
  private mark(offset: number): void {
    this.starts[this.instructions] = offset;
    this.startRecord[this.instructions] = this.count;
    this.instructions++;
  }
  /** Starts a record; gives its byte offset in the buffer. */
  private record(handler: number, offset: number, length: number): number {
    const at = this.count++ * RECORD_SIZE;
    const v = this.view;
    this.buffer.fill(0, at, at + RECORD_SIZE);
    v.setUint16(at + RECORD.HANDLER, handler, true);
    v.setUint16(at + RECORD.BASE, SLOT.zero, true);
    v.setUint16(at + RECORD.INDEX, SLOT.zero, true);
    v.setUint8(at + RECORD.LENGTH, length);
    v.setUint16(at + RECORD.OFFSET, offset, true);
    return at;
  }
  private pseudo(handler: number, offset: number, chain: number): void {
    const at = this.record(handler, offset, 0);
    this.view.setUint32(at + RECORD.CHAIN, chain, true);
  }

  /** Number of the handler for `insn`, or -1. */
  private findHandler(name: string, kinds: string, semantics: SemanticsTraits): number {
    const { insn } = this;
    const cacheKey = `${name} ${kinds} ${insn.opSize} ${insn.addrSize} ${insn.cond} ${insn.rep} ${insn.lock} ${insn.prefixes & PREFIX.W} ${insn.memOperand >= 0 ? insn.size[insn.memOperand] : 0}`;
    const cached = this.keyCache.get(cacheKey);
    if (cached !== undefined) return cached;
    const size = operandSize(insn, semantics);
    const lock = isLocked(insn, semantics);
    const key = handlerKey(name, size, kinds, {
      cond: semantics.conditional ? insn.cond : undefined,
      addressSize: semantics.addressSizes ? insn.addrSize : undefined,
      rep: semantics.reps ? insn.rep : 0,
      lock,
    });
    const number = this.handlers.numbers.get(key) ?? -1;
    const dead = this.handlers.numbers.get(`${key}.nf`);
    if (dead !== undefined) this.deadForm.set(number, dead);
    this.keyCache.set(cacheKey, number);
    return number;
  }

  /** Env offset of register operand `n`, or its number for those without a slot. */
  private slotOf(n: number): number {
    const { insn } = this;
    const reg = insn.reg[n];
    switch (insn.kind[n]) {
      case OPERAND.REG:
        return reg * 8;
      case OPERAND.REG8HIGH:
        return reg * 8 + 1;
      case OPERAND.XMM:
        return SLOT.xmm + reg * XMM_STRIDE;
      case OPERAND.MMX:
        return SLOT.fpRegs + (reg & 7) * 16;
      default:
        return reg;
    }
  }

  /** Translates `insn` at page offset `offset`. False when nothing falls through to the next. */
  private instruction(offset: number): boolean {
    const { insn } = this;
    const name = NAMES[insn.name];
    this.mark(offset);
    this.instructions--; // the sequence number of the records below
    const semantic = semanticName(insn);
    const kinds = operandKinds(insn);
    const semantics = this.semantics.find(semantic, kinds);
    const handler =
      semantics === undefined || this.helpers.prefers(name)
        ? -1
        : this.findHandler(semantic, kinds, semantics);
    const isString = semantics?.reps !== undefined;
    const memory = insn.memOperand >= 0 ? this.addressOf(name, offset) : undefined;
    if (handler >= 0) {
      const at = this.record(handler, offset, insn.length);
      let position = 0;
      for (let n = 0; n < insn.count; n++) {
        if ('rxqs'.includes(kinds[n])) this.view.setUint16(at + SLOTS[position++], this.slotOf(n), true);
      }
      if (memory !== undefined) this.putAddress(at, memory);
      if (isString) this.view.setUint16(at + RECORD.INDEX, this.segmentSlot(insn.seg), true);
      this.putImmediate(at, kinds, offset);
    } else {
      this.helper(name, kinds, offset, memory);
    }
    this.noteFlags(handler, semantics, kinds);
    this.instructions++;
    return !NO_FALL_THROUGH.has(name);
  }

  private putImmediate(at: number, kinds: string, offset: number): void {
    const { insn, view } = this;
    if (kinds.endsWith('j')) {
      // calls and backward branches are counted for tier 1; see context.ts
      const counted = this.helpers.countsJumps && (insn.rel < 0 || NAMES[insn.name] === 'call');
      view.setUint16(at + RECORD.SLOT0, counted ? 1 : 0, true);
      view.setInt32(at + RECORD.DISP, counted ? 0 : 1, true);
      view.setBigInt64(at + RECORD.IMM, BigInt(offset + insn.length + insn.rel), true);
    } else {
      view.setInt32(at + RECORD.IMM, insn.immLo, true);
      view.setInt32(at + RECORD.IMM + 4, insn.immHi, true);
    }
  }

  /** Env offset of the base that segment `seg` adds; none for ES, CS, SS, DS in 64-bit code. */
  private segmentSlot(seg: number): number {
    if (this.codeSize === 2 && seg < FS) return SLOT.zero;
    return SLOT.segs + seg * Segment.size;
  }

  /** Slots of the memory operand, after an ADDRESS record where the fast form does not do. */
  private addressOf(
    name: string,
    offset: number,
  ): { base: number; index: number; scale: number; disp: number } {
    const { insn } = this;
    const lea = name === 'lea';
    let base = insn.base < 0 ? SLOT.zero : insn.base * 8;
    let index = insn.index < 0 ? SLOT.zero : insn.index * 8;
    let disp = insn.disp;
    if (name === 'pop' && insn.base === 4) disp += insn.opSize;
    const segment = lea ? SLOT.zero : this.segmentSlot(insn.seg);
    const isMoffs64 = insn.base < 0 && insn.index < 0 && insn.dispHi !== disp >> 31;
    if (insn.base === BASE_RIP) {
      base = SLOT.codePage;
      const moved = disp + offset + insn.length;
      if (moved !== (moved | 0)) {
        // beyond 32 bits only by a few bytes: add them separately
        this.addressRecord(offset, SLOT.codePage, SLOT.zero, 0, disp, SLOT.zero, -1n);
        base = SLOT.tmpAddr;
        disp = offset + insn.length;
      } else {
        disp = moved;
      }
    }
    if (isMoffs64) return this.moffs(segment, offset);
    const wide = this.codeSize === 2 && insn.addrSize === 8;
    if (wide && segment === SLOT.zero) return { base, index, scale: insn.scale, disp };
    if (wide && index === SLOT.zero) {
      index = segment;
      return { base, index, scale: 0, disp };
    }
    const mask = insn.addrSize === 8 ? -1n : insn.addrSize === 4 ? 0xffffffffn : 0xffffn;
    this.addressRecord(offset, base, index, insn.scale, disp, segment, mask);
    return { base: SLOT.tmpAddr, index: SLOT.zero, scale: 0, disp: 0 };
  }
  /** A direct address of 64 bits does not fit `disp`. */
  private moffs(
    segment: number,
    offset: number,
  ): { base: number; index: number; scale: number; disp: number } {
    const { insn } = this;
    const at = this.record(PSEUDO.ADDRESS_IMMEDIATE, offset, 0);
    this.view.setUint16(at + RECORD.SLOT0, segment, true);
    this.view.setInt32(at + RECORD.IMM, insn.disp, true);
    this.view.setInt32(at + RECORD.IMM + 4, insn.dispHi, true);
    return { base: SLOT.tmpAddr, index: SLOT.zero, scale: 0, disp: 0 };
  }
  private addressRecord(
    offset: number,
    base: number,
    index: number,
    scale: number,
    disp: number,
    segment: number,
    mask: bigint,
  ): void {
    const at = this.record(PSEUDO.ADDRESS, offset, 0);
    const v = this.view;
    v.setUint16(at + RECORD.SLOT0, segment, true);
    this.putAddress(at, { base, index, scale, disp });
    v.setUint32(at + RECORD.CHAIN, this.codeSize === 2 ? 0 : 1, true);
    v.setBigInt64(at + RECORD.IMM, mask, true);
  }
  private putAddress(at: number, a: { base: number; index: number; scale: number; disp: number }): void {
    const v = this.view;
    v.setUint16(at + RECORD.BASE, a.base, true);
    v.setUint16(at + RECORD.INDEX, a.index, true);
    v.setUint8(at + RECORD.SCALE, a.scale);
    v.setInt32(at + RECORD.DISP, a.disp, true);
  }

  /** An instruction done by TypeScript, or #UD when there is none of that name. */
  private helper(
    instruction: string,
    kinds: string,
    offset: number,
    memory: { base: number; index: number; scale: number; disp: number } | undefined,
  ): void {
    const { insn, view } = this;
    const far = (instruction === 'callf' || instruction === 'jmpf') && insn.memOperand === 0;
    const name = far ? `${instruction}_mem` : instruction;
    if (name === 'ud') {
      // its operand is not accessed
      this.record(PSEUDO.UNDEFINED, offset, insn.length);
      return;
    }
    if (!this.helpers.has(name)) {
      this.missing.add(`${name}.${insn.opSize}.${kinds}`);
      this.record(PSEUDO.UNDEFINED, offset, insn.length);
      return;
    }
    const at = this.record(PSEUDO.HELPER, offset, insn.length);
    // an operand of 4 or 8 bytes whatever the operand-size prefix says has its own size; OUT's first one is its port
    const own = insn.count > 0 && insn.kind[0] === OPERAND.REG && name !== 'out';
    const size = own ? insn.size[0] : insn.opSize;
    let fields = log2(size) << HELPER.SIZE_SHIFT;
    const { privilege, feature } = ROWS[insn.row];
    // instructions of a feature, and SYSRET, may be undefined rather than privileged: they find out by themselves
    if (privilege === 'cpl0' && feature === 'base' && name !== 'sysret') fields |= HELPER.PRIVILEGED;
    let position = 0;
    const slot = (n: number): void => {
      if (position > 1) throw new Error(`helper ${name} has three registers`);
      view.setUint16(at + SLOTS[position++], this.slotOf(n), true);
    };
    for (let n = 0; n < insn.count; n++) {
      let operand: number = HELPER_OPERAND.NUMBER;
      switch (insn.kind[n]) {
        case OPERAND.REG:
        case OPERAND.REG8HIGH:
          operand = HELPER_OPERAND.REGISTER;
          slot(n);
          break;
        case OPERAND.IMM:
          // ENTER's two immediates travel as a far pointer's parts do
          if (name === 'enter') operand = n === 0 ? HELPER_OPERAND.FAR : HELPER_OPERAND.NONE;
          else operand = HELPER_OPERAND.IMMEDIATE;
          break;
        case OPERAND.FAR:
          operand = HELPER_OPERAND.FAR;
          break;
        case OPERAND.MEM:
          operand = this.helpers.addressOnly(name)
            ? HELPER_OPERAND.ADDRESS
            : insn.size[n] === 2
              ? HELPER_OPERAND.WORD
              : HELPER_OPERAND.VALUE;
          break;
        default:
          slot(n);
      }
      fields |= operand << (n * HELPER.OPERAND_BITS);
    }
    if (this.helpers.hasResult(name)) fields |= HELPER.RESULT;
    if (memory !== undefined) this.putAddress(at, memory);
    view.setUint16(at + RECORD.SLOT2, this.helpers.id(name), true);
    view.setUint16(at + RECORD.SLOT3, fields, true);
    if (insn.kind[0] === OPERAND.FAR || name === 'enter') {
      view.setInt32(at + RECORD.IMM, insn.immLo, true);
      view.setInt32(at + RECORD.IMM + 4, insn.imm2, true);
    } else {
      this.putImmediate(at, '', offset);
    }
    // string instructions and rep: the segment and prefixes travel in the scale and index bytes' place
    view.setUint8(
      at + RECORD.SCALE,
      memory?.scale ?? insn.seg | (insn.rep << 4) | (log2(insn.addrSize) << 6),
    );
  }

  // --- dead flags ---

  private noteFlags(handler: number, semantics: SemanticsTraits | undefined, kinds: string): void {
    const { insn } = this;
    const row = ROWS[insn.row];
    const touchesMemory = kinds.includes('m') || handler < 0 || semantics?.reps !== undefined;
    const readsFlags = (row.flagsRead & ARITHMETIC) !== 0;
    const opaque =
      touchesMemory ||
      kinds.includes('j') ||
      NO_FALL_THROUGH.has(NAMES[insn.name]) ||
      !PURE.has(semantics?.name ?? '');
    let dead = -1;
    if (semantics?.setsAllFlags === true && handler >= 0) {
      dead = this.deadForm.get(handler) ?? -1;
    }
    this.flagRecords.push({
      record: this.count - 1,
      dead,
      kills: semantics?.setsAllFlags === true && !readsFlags && !touchesMemory,
      transparent: !opaque && !readsFlags,
    });
  }

  /** A setter's flags are dead when a later one overwrites them all and nothing in between reads them, faults or leaves. */
  private markDeadFlags(): void {
    let dead = false;
    for (let i = this.flagRecords.length - 1; i >= 0; i--) {
      const r = this.flagRecords[i];
      if (dead && r.dead >= 0) this.view.setUint16(r.record * RECORD_SIZE + RECORD.HANDLER, r.dead, true);
      if (r.kills) dead = true;
      else if (!r.transparent) dead = false;
    }
  }
}

/** Instructions that, with register operands, neither fault nor leave the run. */
const PURE = new Set(
  (
    'add sub and or xor adc sbb cmp test inc dec not neg mov lea movzx8 movzx16 movzx32 movsx8 movsx16 movsx32 xchg ' +
    'xadd cmpxchg bswap cbw cwd setcc cmovcc nop shl shr sar rol ror rcl rcr shld shrd mul imul1 imul bt bts btr btc ' +
    'bsf bsr tzcnt lzcnt popcnt'
  ).split(' '),
);
