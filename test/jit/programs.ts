/**
 * Programs with random control flow: blocks of random instructions joined by branches in both directions, loops,
 * calls, returns and indirect jumps. Every cycle passes a counter, so they end.
 */
import { FLAG } from '../../src/cpu/flags.ts';
import { type Address, encode, type Form, immediateSizes, isDirect } from '../oracle/encode.ts';
import {
  type Case,
  CODE,
  DATA,
  defaultFx,
  FX,
  HIGH,
  PAGE,
  type Patch,
  READ_ONLY,
  STACK,
} from '../oracle/format.ts';
import { newFx, randomSse, randomX87 } from '../oracle/fp-values.ts';
import { decodedRow } from '../oracle/generate.ts';
import type { Rng } from '../oracle/rng.ts';
import { classOf } from '../oracle/rows.ts';
import { type Forms, type ProgramKind, type Registers, registersOf } from './program-forms.ts';
import { controlWordAt, x87Fx, x87Patches, X87Source } from './x87-programs.ts';

const ARITHMETIC = FLAG.CF | FLAG.PF | FLAG.AF | FLAG.ZF | FLAG.SF | FLAG.OF;
const SP = 4;
const SHIFTS = /^(shl|shr|sar|rol|ror|rcl|rcr|shld|shrd)$/;
const FAULTING = /^(div|idiv)$/;
/** Table of code addresses in the read-only page, image offset 4 pages. */
const TABLE = READ_ONLY + 0x800;
const TABLE_ENTRIES = 8;
const EXIT = -1;
const CROSSING = 64;
/** Instructions that write to an immediate, RIP-relative in 64-bit code: opcode, and size of their own immediate. */
const MODIFIERS: readonly (readonly [readonly number[], number])[] = [
  [[0x80, 0x05], 1], // ADD byte
  [[0xc6, 0x05], 1], // MOV byte
  [[0xc7, 0x05], 4], // MOV dword
  [[0xff, 0x05], 0], // INC dword
  [[0xf0, 0xff, 0x05], 0],
  [[0x87, 0x05], 0], // XCHG dword, eax
  [[0x66, 0x8f, 0x05], 0], // POP word
];

/** Code at an address that is known only later. */
interface Item {
  /** `at`: linear address; `address`: of a block (or the end), or an item. The length is always the same. */
  bytes(at: number, address: (of: number | Item) => number): number[];
  readonly length: number;
  /** Flags that are undefined before it. */
  readonly undefined: number;
}

function little(value: number | bigint, size: number): number[] {
  const v = BigInt.asUintN(size * 8, BigInt(value));
  return Array.from({ length: size }, (_, i) => Number((v >> BigInt(8 * i)) & 255n));
}

class Program {
  private readonly rng: Rng;
  private readonly mode32: boolean;
  private readonly registers: Registers;
  private readonly selfModifying: boolean;
  private readonly integer: readonly Form[];
  private readonly other: readonly Form[];
  private readonly blocks: Item[][] = [];
  private block: Item[] = [];
  private undefined = 0;
  private readonly count: number;
  /** MOV of 32 bits into a register, which others change. */
  private readonly changeable: Item[] = [];
  private readonly x87: X87Source | undefined;
  fx: Uint8Array | undefined;

  constructor(rng: Rng, forms: Forms, kind: ProgramKind) {
    this.rng = rng;
    if (kind === 'x87') {
      const depth = rng.below(6);
      this.x87 = new X87Source(rng, forms.x87, depth);
      this.fx = x87Fx(rng, depth);
    }
    this.mode32 = forms.mode32;
    this.registers = registersOf(forms);
    this.selfModifying = kind === 'self-modifying';
    this.integer = forms.integer;
    this.other = forms.other;
    this.count = 2 + rng.below(rng.once(3) ? 24 : 8);
    for (let b = 0; b < this.count; b++) this.makeBlock(b);
    // where all of it ends
    this.blocks.push([this.fixed([0xcc])]);
  }

  private fixed(bytes: number[]): Item {
    return { bytes: () => bytes, length: bytes.length, undefined: this.undefined };
  }
  private emit(...bytes: number[]): void {
    this.block.push(this.fixed(bytes));
  }
  /** An instruction with a REX prefix in 64-bit code, and other bytes in 32-bit code. */
  private either(wide: readonly number[], narrow: readonly number[]): void {
    this.emit(...(this.mode32 ? narrow : wide));
  }

  private makeBlock(b: number): void {
    const { rng } = this;
    this.block = [];
    this.blocks.push(this.block);
    // nothing is known of AF where control comes from elsewhere
    this.undefined = FLAG.AF;
    const most = (this.x87 === undefined ? 1 : 3) * (rng.once(4) ? 10 : 4);
    for (let n = rng.below(most); n > 0; n--) this.instruction();
    this.end(b);
  }

  private define(): void {
    if ((this.undefined & ~FLAG.AF) === 0) return;
    // CMP r8..r11 or eax..ebx, imm8
    const operands = [0xf8 | this.rng.below(4), this.rng.below(256)];
    this.either([0x49, 0x83, ...operands], [0x83, ...operands]);
    this.undefined = 0;
  }

  // --- plain instructions ---

  private register(): number {
    const { rng } = this;
    for (;;) {
      const r = rng.below(this.registers.count);
      if (r === SP || r === this.registers.counter) continue;
      if (!this.registers.pointers.includes(r) || rng.once(60)) return r;
    }
  }

  private instruction(): void {
    const { rng } = this;
    const often = this.x87 === undefined ? 1 : 6;
    if (rng.once(12 * often)) return this.repeated();
    if (rng.once(8 * often)) return this.stack();
    if (this.selfModifying && rng.once(3)) return this.selfModify();
    const ofX87 = rng.once(8) ? undefined : this.x87?.next();
    const form = ofX87 ?? rng.pick(rng.once(4) && this.other.length > 0 ? this.other : this.integer);
    const { row } = form;
    if (FAULTING.test(row.name) && !rng.once(8)) return;
    if (row.flagsRead & this.undefined & FLAG.AF) return;
    if (row.flagsRead & this.undefined) this.define();
    const item = this.encoded(form);
    if (item === undefined) return;
    if (classOf(row) !== 'integer') this.fx ??= programFx(rng);
    this.block.push(item);
    if (!row.flagsKept) this.undefined &= ~row.flagsWritten;
    this.undefined |= row.flagsUndefined;
    if (SHIFTS.test(row.name)) this.undefined |= FLAG.CF | FLAG.OF | FLAG.AF;
    if ((row.flagsWritten | row.flagsUndefined) !== 0 && rng.once(3)) this.readFlags();
  }
  /** Something that reads a condition. */
  private readFlags(): void {
    if (this.rng.once(2)) this.compare();
    this.define();
    const { rng } = this;
    const cc = rng.below(16);
    const { free } = this.registers;
    const [a, b] = [rng.pick(free), rng.pick(free)];
    const set = [0x0f, 0x90 | cc, 0xc0 | (a & 7)];
    const move = [0x0f, 0x40 | cc, 0xc0 | ((a & 7) << 3) | (b & 7)];
    if (rng.once(2)) this.either([0x40 | (a >> 3), ...set], set);
    else this.either([0x48 | ((a >> 3) << 2) | (b >> 3), ...move], move);
  }

  /** CMP, TEST, SUB, XOR of two registers, which are often equal. */
  private compare(): void {
    const { rng } = this;
    const a = this.register();
    const b = rng.once(3) ? this.register() : a;
    const opcode = rng.pick([0x38, 0x84, 0x28, 0x30]) | (rng.once(4) ? 0 : 1);
    const prefix = rng.once(4) ? [0x66] : [];
    const rex = 0x40 | (rng.below(2) << 3) | ((a >> 3) << 2) | (b >> 3);
    const rest = [opcode, 0xc0 | ((a & 7) << 3) | (b & 7)];
    this.either([...prefix, rex, ...rest], [...prefix, ...rest]);
    this.undefined = FLAG.AF;
  }

  private encoded(form: Form): Item | undefined {
    const { rng } = this;
    const { row } = form;
    if (form.rep) return undefined;
    if (/^(bts|btr|btc|bt)$/.test(row.name) && form.memory && row.operands[1] === 'Gv') return undefined;
    if (/^sh[lr]d$/.test(row.name) && form.small) return undefined;
    let address: Address | undefined;
    if (form.memory || isDirect(row)) {
      const none = {
        base: -1,
        index: -1,
        scale: 0,
        disp: 0n,
        ripRelative: false,
        direct: 0n,
        override: false,
        segment: 0,
      };
      const even = rng.once(2);
      const place = DATA + 0x40 + rng.below(2 * PAGE - 0x80);
      const spot = BigInt(even ? place & -16 : place);
      if (isDirect(row)) address = { ...none, direct: spot };
      else if (this.x87 !== undefined && row.name === 'fldcw')
        address = { ...none, disp: controlWordAt(rng) };
      else if (rng.once(6)) {
        // an entry of a table, which may go over a page's end
        const scale = rng.below(4);
        const index = this.smallIndex();
        const table = spot - BigInt(rng.below(256) << scale);
        address = rng.once(2)
          ? { ...none, index, scale, disp: table }
          : {
              ...none,
              base: rng.pick(this.registers.pointers),
              index,
              scale,
              disp: BigInt(rng.below(64) - 64),
            };
      } else if (rng.once(4)) address = { ...none, disp: spot, ripRelative: !this.mode32 && rng.once(2) };
      else {
        const disp = rng.below(256) - 128;
        address = {
          ...none,
          base: rng.pick(this.registers.pointers),
          // 32-bit code counts in it
          index: !this.mode32 && rng.once(5) ? 5 : -1,
          scale: rng.below(4),
          disp: BigInt(even ? disp & -16 : disp),
          override: !this.mode32 && rng.once(20),
        };
      }
    }
    const fields = {
      reg: row.codes.length > 0 && row.operands.some((o) => o.startsWith('S')) ? 3 : this.register(),
      rm: this.x87 !== undefined && classOf(row) === 'x87' ? this.x87.register() : this.register(),
      opcodeReg: this.register(),
      vvvv: 0,
      address,
      immediates: immediateSizes(form, address?.override ?? false).map(() => rng.value()),
      rex: !this.mode32 && rng.once(2),
      override: false,
      segment: 0,
      ip: CODE,
    };
    const bytes = encode(form, fields);
    if (bytes.length > 15 || decodedRow(bytes, this.mode32) !== row.id) return undefined;
    return {
      bytes: (at) => [...encode(form, { ...fields, ip: at })],
      length: bytes.length,
      undefined: this.undefined,
    };
  }

  /** Makes a register small, as the index of a table is; gives its number. */
  private smallIndex(): number {
    const { rng } = this;
    const r = rng.pick(this.registers.free);
    const [low, rex] = [r & 7, r >= 8 ? [0x41] : []];
    switch (rng.below(4)) {
      case 0: {
        // MOVZX r32, byte [disp32]
        const place = little(DATA + rng.below(2 * PAGE), 4);
        const move = [0x0f, 0xb6];
        this.either(
          [...(r >= 8 ? [0x44] : []), ...move, (low << 3) | 4, 0x25, ...place],
          [...move, (low << 3) | 5, ...place],
        );
        break;
      }
      case 1:
        this.emit(...rex, 0x83, 0xe0 | low, rng.below(128)); // AND r32, imm8
        this.undefined = FLAG.AF;
        break;
      case 2:
        // SHR r32, imm8: often too little
        this.emit(...rex, 0xc1, 0xe8 | low, rng.once(4) ? 2 + rng.below(22) : 24 + rng.below(7));
        this.undefined = FLAG.AF | FLAG.OF;
        break;
      default:
        // MOVZX r32, r8
        this.either(
          [0x40 | (r >= 8 ? 5 : 0), 0x0f, 0xb6, 0xc0 | (low << 3) | low],
          [0x0f, 0xb6, 0xc0 | (low << 3) | low],
        );
    }
    return r;
  }

  /** A repeated string instruction over few elements. */
  private repeated(): void {
    const { rng } = this;
    this.emit(0xb9, ...little(rng.once(6) ? 0 : rng.below(48), 4)); // MOV ecx
    const down = rng.once(6);
    if (down) this.emit(0xfd);
    const op = rng.pick([0xa4, 0xa6, 0xaa, 0xac, 0xae]) | rng.below(2);
    const bytes = [rng.once(2) ? 0xf3 : 0xf2];
    if (!this.mode32 && rng.once(6)) bytes.unshift(0x67);
    if (!this.mode32 && rng.once(3)) bytes.push(0x48);
    else if (rng.once(4)) bytes.unshift(0x66);
    this.emit(...bytes, op);
    if (down) this.emit(0xfc);
  }
  private stack(): void {
    const { rng } = this;
    const r = this.register();
    const rex = r >= 8 ? [0x41] : [];
    switch (rng.below(5)) {
      case 0:
        return this.emit(...rex, 0x50 | (r & 7));
      case 1:
        return this.emit(...rex, 0x50 | (r & 7), ...rex, 0x58 | (r & 7));
      case 2:
        return this.emit(0x68, ...little(rng.u32(), 4));
      case 3: {
        // PUSH [r13 + disp8] or [edi + disp8]
        const disp = rng.below(128);
        return this.either([0x41, 0xff, 0x75, disp], [0xff, 0x77, disp]);
      }
      default: {
        // PUSH reg; POP [r14 + disp8] or [esi + disp8]
        this.emit(...rex, 0x50 | (r & 7));
        const pop = [0x8f, 0x46, rng.below(128)];
        return this.either([0x41, ...pop], pop);
      }
    }
  }

  /** An instruction with an immediate of 32 bits at its end, or one that writes to such an immediate. */
  private selfModify(): void {
    const { rng, changeable } = this;
    if (rng.once(2)) {
      const r = this.register();
      const item = this.fixed([...(r >= 8 ? [0x41] : []), 0xb8 | (r & 7), ...little(rng.u32(), 4)]);
      changeable.push(item);
      this.block.push(item);
      return;
    }
    const [opcode, size] = rng.pick(MODIFIERS);
    const immediate = little(rng.u32(), size);
    const which = rng.u32();
    const length = opcode.length + 4 + immediate.length;
    this.block.push({
      length,
      undefined: this.undefined,
      bytes: (at, address) => {
        const item = changeable[which % Math.max(1, changeable.length)];
        const target = item === undefined ? DATA : address(item) + item.length - 4;
        return [...opcode, ...little(this.mode32 ? target : target - at - length, 4), ...immediate];
      },
    });
  }

  // --- ends of blocks ---

  /** One step less, or the end. */
  private step(): void {
    const { rng } = this;
    if (rng.once(2)) {
      this.either([0x49, 0x83, 0xef, 1], [0x83, 0xed, 1]); // SUB r15, 1
      this.undefined = 0;
      this.jump([0x0f, 0x88], EXIT); // JS
      return;
    }
    // leaves the flags alone
    this.either([0x4d, 0x8d, 0x7f, 0xff], [0x8d, 0x6d, 0xff]); // LEA r15, [r15 - 1]
    const exchange = (): void => this.either([0x49, 0x87, 0xcf], [0x87, 0xcd]); // XCHG r15, rcx
    exchange();
    this.emit(0xe3, 2); // JRCXZ over the next
    this.emit(0xeb, 5);
    this.jump([0xe9], EXIT);
    exchange();
  }

  /** A branch of 32 bits. */
  private jump(opcode: number[], target: number): void {
    const length = opcode.length + 4;
    this.block.push({
      bytes: (at, address) => [...opcode, ...little(address(target) - at - length, 4)],
      length,
      undefined: this.undefined,
    });
  }
  /** A branch of 8 bits where that reaches; otherwise `long` of 32 bits, or nothing. */
  private shortJump(opcode: number, target: number): void {
    this.block.push({
      length: 2,
      undefined: this.undefined,
      bytes: (at, address) => {
        const d = address(target) - at - 2;
        return d >= -128 && d < 128 ? [opcode, d & 255] : [0x66, 0x90];
      },
    });
  }

  private target(b: number): { to: number; backward: boolean } {
    const { rng } = this;
    const near = rng.once(2);
    const to = near ? Math.max(0, Math.min(this.count, b + rng.below(7) - 3)) : rng.below(this.count + 1);
    return { to: to === this.count ? EXIT : to, backward: to <= b };
  }

  private end(b: number): void {
    const { rng } = this;
    this.define();
    const { to, backward } = this.target(b);
    const kind = rng.below(16);
    const counted = (): void => {
      if (backward) this.step();
    };
    if (kind < 1) return; // falls through
    if (kind < 7) {
      counted();
      this.define();
      if (rng.once(3)) this.shortJump(0x70 | rng.below(16), to);
      else this.jump([0x0f, 0x80 | rng.below(16)], to);
      // two branches in a row
      if (rng.once(4)) {
        const other = this.target(b);
        if (!other.backward) this.jump([0x0f, 0x80 | rng.below(16)], other.to);
      }
      return;
    }
    if (kind < 9) {
      counted();
      if (rng.once(3)) {
        this.shortJump(0xeb, to);
      } else this.jump([0xe9], to);
      return;
    }
    if (kind < 10) {
      counted();
      this.define();
      this.shortJump(0xe0 | rng.below(4), to);
      return;
    }
    this.step();
    this.define();
    if (kind < 12) return this.jump([0xe8], to);
    if (kind < 13) {
      const imm = rng.once(6) ? rng.below(3) * 8 : -1;
      return imm < 0 ? this.emit(0xc3) : this.emit(0xc2, ...little(imm, 2));
    }
    this.indirect(to, this.target(b).to);
  }

  /** The address of a block, in r10 and r11 or ecx and edx. */
  private lea(register: 10 | 11, target: number): void {
    if (this.mode32) {
      this.block.push({
        bytes: (_at, address) => [0xb8 | (register - 9), ...little(address(target), 4)],
        length: 5,
        undefined: this.undefined,
      });
      return;
    }
    this.block.push({
      bytes: (at, address) => [
        0x4c,
        0x8d,
        0x05 | ((register & 7) << 3),
        ...little(address(target) - at - 7, 4),
      ],
      length: 7,
      undefined: this.undefined,
    });
  }
  private indirect(to: number, other: number): void {
    const { rng } = this;
    const go = (): void => {
      const way = rng.pick([0x10, 0x20]);
      this.either([0x41, 0xff, 0xc3 | way], [0xff, 0xc2 | way]);
    };
    switch (rng.below(5)) {
      case 0: // JMP or CALL r11
        this.lea(11, to);
        return go();
      case 1: // one of two
        this.lea(11, to);
        this.lea(10, other);
        {
          const cc = 0x40 | rng.below(16);
          this.either([0x4d, 0x0f, cc, 0xda], [0x0f, cc, 0xd1]);
        }
        return go();
      case 2: // PUSH r11; RET
        this.lea(11, to);
        return this.either([0x41, 0x53, 0xc3], [0x52, 0xc3]);
      case 3: {
        // MOV r11d, eax; AND r11d, 7; JMP or CALL [r11 * 8 + TABLE]
        const mask = TABLE_ENTRIES - 1;
        this.either([0x41, 0x89, 0xc3, 0x41, 0x83, 0xe3, mask], [0x89, 0xc2, 0x83, 0xe2, mask]);
        const [way, table] = [rng.pick([0x14, 0x24]), little(TABLE, 4)];
        return this.either([0x42, 0xff, way, 0xdd, ...table], [0xff, way, 0xd5, ...table]);
      }
      default: // JMP or CALL [TABLE + n]
        return this.emit(
          0xff,
          rng.pick([0x14, 0x24]),
          0x25,
          ...little(TABLE + 8 * rng.below(TABLE_ENTRIES), 4),
        );
    }
  }

  // --- layout ---

  layout(start: number): { code: Uint8Array; undefinedBefore: Map<number, number>; blockAt: number[] } {
    const blockAt: number[] = [];
    const itemAt = new Map<Item, number>();
    let at = start;
    for (const block of this.blocks) {
      blockAt.push(at);
      for (const item of block) {
        itemAt.set(item, at);
        at += item.length;
      }
    }
    const address = (of: number | Item): number =>
      typeof of !== 'number' ? (itemAt.get(of) as number) : blockAt[of === EXIT ? this.count : of];
    const code = new Uint8Array(at - start);
    const undefinedBefore = new Map<number, number>();
    at = start;
    for (const block of this.blocks) {
      for (const item of block) {
        const bytes = item.bytes(at, address);
        if (bytes.length !== item.length) throw new Error(`${bytes.length} bytes, not ${item.length}`);
        code.set(bytes, at - start);
        undefinedBefore.set(at - start, item.undefined | FLAG.AF);
        at += item.length;
      }
    }
    return { code, undefinedBefore, blockAt };
  }
}

function programFx(rng: Rng): Uint8Array {
  const fx = newFx();
  fx.set(defaultFx());
  randomSse(rng, fx);
  randomX87(rng, fx);
  const v = new DataView(fx.buffer);
  v.setUint32(FX.MXCSR, 0x1f80 | (rng.below(4) << 13), true);
  v.setUint16(FX.FCW, 0x37f, true);
  v.setUint16(FX.FSW, rng.below(8) << 11, true);
  return fx;
}

/** A program as a case. */
export function programCase(rng: Rng, forms: Forms, name: string, kind: ProgramKind = 'any'): Case {
  const program = new Program(rng, forms, kind);
  const { mode32 } = forms;
  const { count, pointers, counter } = registersOf(forms);
  const offset = rng.once(3) ? PAGE - CROSSING - rng.below(200) : 0x100 + rng.below(0x800);
  const { code, undefinedBefore, blockAt } = program.layout(CODE + offset);
  const regs = new BigUint64Array(16);
  for (let r = 0; r < count; r++) regs[r] = mode32 ? BigInt(rng.u32()) : rng.value();
  for (const p of pointers)
    regs[p] = BigInt((DATA + PAGE - 0x300 + rng.below(0x600)) & (rng.once(3) ? -1 : -16));
  // next to where nothing is, or nothing can be written
  const ends = [BigInt(DATA + 2 * PAGE), ...(mode32 ? [] : [HIGH + BigInt(PAGE)])];
  for (const p of pointers) {
    if (rng.once(30)) regs[p] = rng.pick(ends) - BigInt(rng.below(100));
  }
  regs[SP] = BigInt(STACK + PAGE - 0x100 + rng.below(0x40) * 8);
  regs[5] = BigInt(rng.below(32));
  regs[counter] = BigInt(1 + rng.below(40));
  const table = Array.from({ length: TABLE_ENTRIES }, () => little(rng.pick(blockAt), 8)).flat();
  // what returns find that have no call
  const returns = Array.from({ length: 16 }, () => little(rng.pick(blockAt), mode32 ? 4 : 8)).flat();
  const stackOffset = 5 * PAGE + Number(regs[SP] - BigInt(STACK));
  const patches: Patch[] = [
    { offset, bytes: code.subarray(0, Math.min(code.length, 2 * PAGE - offset)) },
    { offset: 4 * PAGE + (TABLE - READ_ONLY), bytes: Uint8Array.from(table) },
    { offset: stackOffset, bytes: Uint8Array.from(returns) },
    ...(kind === 'x87' ? x87Patches(rng) : []),
  ];
  return {
    name,
    mode32,
    rip: CODE + offset,
    rflags: (rng.u32() & ARITHMETIC) | 0x202,
    regs,
    fsBase: 0n,
    gsBase: 0n,
    fx: program.fx,
    patches,
    codeLength: code.length,
    undefinedFlags: FLAG.AF,
    undefinedBefore,
    ignoredRegs: 0,
    ignoredOnFault: 0,
    tolerance: 0,
    ulps: 0,
    mayFault: false,
    manyAccesses: false,
  };
}
