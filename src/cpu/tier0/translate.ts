/**
 * Translates decoded instructions to records: picks handlers, finds operand slots, decides between the fast
 * address form and the ADDRESS record, and marks dead flags. Records are assembled in a private buffer; the
 * code cache copies them to shared memory.
 */
import { decode } from '../decode/decoder.ts';
import { BASE_RIP, DECODE, Insn, OPERAND, PREFIX } from '../decode/insn.ts';
import { NAMES, ROWS } from '../decode/table.ts';
import { CHECKED, CpuEnv, SEG, Segment, XMM_STRIDE } from '../env.ts';
import { ARITHMETIC } from '../flags.ts';
import { isLocked, operandKinds, operandSize, semanticName, SemanticsIndex } from '../sem/select.ts';
import { handlerKey, type HandlerTable, type SemanticsTraits } from './handlers.ts';
import { implicitAccess, memoryAccess, stackAccess } from './accesses.ts';
import { COUNT_STEP, HELPER, HELPER_OPERAND, PSEUDO, RECORD, RECORD_SIZE, SLOTS } from './record.ts';

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
/** An instruction takes at most an ADDRESS pair, two checks and its own record. */
const MAX_RECORDS = MAX_RUN * 5 + 1;

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

/** What all instructions have in common that differ only in registers, address and immediate. */
interface Form {
  /** Number of the handler, or -1: a helper's. */
  readonly handler: number;
  /** Number of the variant that sets no flags, or -1. */
  readonly dead: number;
  readonly name: string;
  readonly kinds: string;
  readonly isString: boolean;
  /** The next instruction in memory may follow. */
  readonly falls: boolean;
  /** It overwrites all arithmetic flags, reads none, and does not fault. */
  readonly kills: boolean;
  /** It leaves the flags to a later setter: neither reads them, nor faults, nor leaves the run. */
  readonly transparent: boolean;
}
/** Undecodable bytes. */
const NO_FORM: Form = {
  handler: -1,
  dead: -1,
  name: 'ud',
  kinds: '',
  isString: false,
  falls: false,
  kills: false,
  transparent: false,
};

/** Tells the forms of one row apart; 29 bits. */
function formKey(insn: Insn): number {
  const { kind } = insn;
  let key = 0;
  for (let n = 0; n < insn.count; n++) key |= kind[n] << (n * 4);
  return (
    key |
    (log2(insn.opSize) << 16) |
    (log2(insn.addrSize) << 18) |
    (insn.rep << 20) |
    (insn.lock << 22) |
    ((insn.prefixes & PREFIX.W ? 1 : 0) << 23) |
    (insn.cond << 24)
  );
}

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
  /** ES, SS or DS is not flat. */
  private checked = false;
  /** Jumps of code that tier 1 can compile are counted. */
  private countsJumps = false;
  /** By row of the instruction table, then by `formKey`. */
  private readonly forms: (Map<number, Form> | undefined)[] = [];
  /** Of the run's instructions, for the liveness pass: the form, and the record number of its handler. */
  private readonly runForms: Form[] = [];
  private readonly runRecords = new Uint16Array(MAX_RUN + 1);

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
    codeKind: number,
    known: (offset: number) => number,
  ): boolean {
    this.begin(codeKind);
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
      const length = decode(bytes, at + (o - offset), 4096 - o, this.codeSize, this.insn);
      if (length === DECODE.MORE) {
        if (o === offset) return false;
        break;
      }
      if (length < 0) {
        this.mark(o);
        this.noteFlags(NO_FORM, this.count);
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
    codeKind: number,
    end: number,
  ): number {
    this.begin(codeKind);
    const length = decode(bytes, at, limit, this.codeSize, this.insn);
    if (length > 0) {
      this.instruction(offset);
      this.pseudo(end, offset + length, 0);
    } else if (length < 0) {
      this.mark(offset);
      this.pseudo(length === DECODE.UD ? PSEUDO.UNDEFINED : PSEUDO.TOO_LONG, offset, 0);
    }
    return length;
  }

  /**
   * Translates the instruction at `bytes[0]`, which is page offset `offset` and goes on in the page of descriptor
   * `next`. Gives its length or a DECODE code.
   */
  crossing(bytes: Uint8Array, offset: number, codeKind: number, next: number): number {
    this.begin(codeKind);
    const length = decode(bytes, 0, bytes.length, this.codeSize, this.insn);
    if (length <= 0) return length;
    this.pseudo(PSEUDO.CROSSING, offset, next);
    this.instruction(offset);
    this.pseudo(PSEUDO.CONTINUE, offset + length, 0);
    return length;
  }

  private begin(codeKind: number): void {
    this.count = 0;
    this.instructions = 0;
    this.codeSize = codeKind & ~CHECKED;
    this.checked = (codeKind & CHECKED) !== 0;
    this.countsJumps = this.helpers.countsJumps === true && codeKind !== 0 && !this.checked;
    this.runForms.length = 0;
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

  /** What `insn` comes to, whatever its registers, address and immediate are. */
  private form(): Form {
    const { insn } = this;
    const byKey = (this.forms[insn.row] ??= new Map<number, Form>());
    const key = formKey(insn);
    let form = byKey.get(key);
    if (form === undefined) {
      form = this.findForm();
      byKey.set(key, form);
    }
    return form;
  }

  private findForm(): Form {
    const { insn } = this;
    const name = NAMES[insn.name];
    const semantic = semanticName(insn);
    const kinds = operandKinds(insn);
    const semantics = this.semantics.find(semantic, kinds);
    let handler = -1;
    let dead = -1;
    if (semantics !== undefined && !this.helpers.prefers(name)) {
      const { numbers } = this.handlers;
      const key = handlerKey(semantic, operandSize(insn, semantics), kinds, {
        cond: semantics.conditional ? insn.cond : undefined,
        addressSize: semantics.addressSizes ? insn.addrSize : undefined,
        rep: semantics.reps ? insn.rep : 0,
        lock: isLocked(insn, semantics),
      });
      handler = numbers.get(key) ?? -1;
      if (handler >= 0 && semantics.setsAllFlags === true) dead = numbers.get(`${key}.nf`) ?? -1;
    }
    const isString = semantics?.reps !== undefined;
    const touchesMemory = kinds.includes('m') || handler < 0 || isString;
    const readsFlags = (ROWS[insn.row].flagsRead & ARITHMETIC) !== 0;
    const falls = !NO_FALL_THROUGH.has(name);
    const opaque = touchesMemory || kinds.includes('j') || !falls || !PURE.has(semantics?.name ?? '');
    return {
      handler,
      dead,
      name,
      kinds,
      isString,
      falls,
      kills: semantics?.setsAllFlags === true && !readsFlags && !touchesMemory,
      transparent: !opaque && !readsFlags,
    };
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
    const form = this.form();
    const { name, kinds, handler } = form;
    this.mark(offset);
    this.instructions--; // the sequence number of the records below
    if (this.checked && (handler >= 0 || this.helpers.has(name))) this.checkImplicit(name, kinds, offset);
    const memory = insn.memOperand >= 0 ? this.addressOf(name, offset) : undefined;
    if (handler >= 0) {
      const at = this.record(handler, offset, insn.length);
      let position = 0;
      for (let n = 0; n < insn.count; n++) {
        if ('rxqs'.includes(kinds[n])) this.view.setUint16(at + SLOTS[position++], this.slotOf(n), true);
      }
      if (memory !== undefined) this.putAddress(at, memory);
      if (form.isString) this.view.setUint16(at + RECORD.INDEX, this.segmentSlot(insn.seg), true);
      this.putImmediate(at, kinds, offset);
    } else {
      this.helper(name, kinds, offset, memory);
    }
    this.noteFlags(form, this.count - 1);
    this.instructions++;
    return form.falls;
  }

  private putImmediate(at: number, kinds: string, offset: number): void {
    const { insn, view } = this;
    if (kinds.endsWith('j')) {
      // calls and backward branches may become hot; see context.ts
      const counted = this.countsJumps && (insn.rel < 0 || NAMES[insn.name] === 'call');
      const step = counted ? COUNT_STEP.counted : this.countsJumps ? COUNT_STEP.other : 0;
      view.setUint16(at + RECORD.SLOT0, step, true);
      view.setInt32(at + RECORD.DISP, counted ? 0 : 1, true);
      view.setUint32(at + RECORD.MISSED, 0, true);
      const target = offset + insn.length + insn.rel;
      view.setInt32(at + RECORD.IMM, target, true);
      view.setInt32(at + RECORD.IMM + 4, Math.floor(target / 2 ** 32), true);
    } else {
      view.setInt32(at + RECORD.IMM, insn.immLo, true);
      view.setInt32(at + RECORD.IMM + 4, insn.immHi, true);
    }
  }

  /** Env offset of the base that segment `seg` adds; none for ES, CS, SS, DS in 64-bit code. */
  private segmentSlot(seg: number): number {
    if (this.codeSize === 2 && seg < SEG.FS) return SLOT.zero;
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
    this.addressRecord(offset, base, index, insn.scale, disp, segment, mask, this.access());
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
    access = 0,
  ): void {
    const at = this.record(access === 0 ? PSEUDO.ADDRESS : PSEUDO.CHECKED_ADDRESS, offset, this.insn.length);
    const v = this.view;
    v.setUint16(at + RECORD.SLOT0, segment, true);
    v.setUint16(at + RECORD.SLOT1, access, true);
    this.putAddress(at, { base, index, scale, disp });
    v.setUint32(at + RECORD.CHAIN, this.codeSize === 2 ? 0 : 1, true);
    v.setBigInt64(at + RECORD.IMM, mask, true);
  }
  /** The memory operand's access for the check of its segment; 0: none is needed. */
  private access(): number {
    const { insn } = this;
    const { seg } = insn;
    const always = seg === SEG.CS || seg === SEG.FS || seg === SEG.GS;
    return this.codeSize !== 2 && (this.checked || always) ? memoryAccess(insn) : 0;
  }
  /** Checks of operands that the instruction has without naming them: on the stack, at rSI, rDI, rBX. */
  private checkImplicit(name: string, kinds: string, offset: number): void {
    const { insn, view } = this;
    if (implicitAccess(name, kinds)) {
      const at = this.record(PSEUDO.CHECK_HELPER, offset, insn.length);
      view.setUint16(at + RECORD.SLOT0, insn.name, true);
      view.setUint16(at + RECORD.SLOT2, this.helpers.id('check_implicit'), true);
      view.setUint16(
        at + RECORD.SLOT3,
        HELPER_OPERAND.NUMBER | (log2(insn.opSize) << HELPER.SIZE_SHIFT),
        true,
      );
      view.setUint8(at + RECORD.SCALE, insn.seg | (insn.rep << 4) | (log2(insn.addrSize) << 6));
      return;
    }
    const stack = stackAccess(name, insn.opSize);
    if (stack === undefined) return;
    const at = this.record(PSEUDO.CHECK, offset, insn.length);
    view.setUint16(at + RECORD.BASE, stack.register * 8, true);
    view.setInt32(at + RECORD.DISP, stack.displacement, true);
    view.setUint16(at + RECORD.SLOT0, this.segmentSlot(SEG.SS), true);
    view.setUint16(at + RECORD.SLOT1, stack.access, true);
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

  private noteFlags(form: Form, record: number): void {
    this.runRecords[this.runForms.length] = record;
    this.runForms.push(form);
  }

  /** A setter's flags are dead when a later one overwrites them all and nothing in between reads them, faults or leaves. */
  private markDeadFlags(): void {
    let dead = false;
    for (let i = this.runForms.length - 1; i >= 0; i--) {
      const form = this.runForms[i];
      if (dead && form.dead >= 0) {
        this.view.setUint16(this.runRecords[i] * RECORD_SIZE + RECORD.HANDLER, form.dead, true);
      }
      if (form.kills) dead = true;
      else if (!form.transparent) dead = false;
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
