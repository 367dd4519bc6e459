/**
 * The pair of 8259A interrupt controllers. Intel 8259A data sheet (order number 231468): ICW1–4,
 * OCW1–3, priority and EOI modes; edge/level control registers: 82371AB (PIIX4) data sheet, ELCR.
 */
import { array, bool, struct, u8, type ViewOf } from '@smp86/atomics-sync';
import type { IoHandler, IrqLine } from '../device.ts';

// --- ICW1 ---
const ICW1_INIT = 1 << 4;
const ICW1_LTIM = 1 << 3;
const ICW1_SINGLE = 1 << 1;
const ICW1_IC4 = 1 << 0;
// --- ICW4 ---
const ICW4_SFNM = 1 << 4;
const ICW4_AEOI = 1 << 1;
// --- OCW3 ---
const OCW3 = 1 << 3;
const OCW3_ESMM = 1 << 6;
const OCW3_SMM = 1 << 5;
const OCW3_POLL = 1 << 2;
const OCW3_RR = 1 << 1;
const OCW3_RIS = 1 << 0;
// --- OCW2 commands (bits 7:5) ---
const ROTATE_AEOI_CLEAR = 0;
const EOI = 1;
const EOI_SPECIFIC = 3;
const ROTATE_AEOI_SET = 4;
const ROTATE_EOI = 5;
const SET_PRIORITY = 6;
const ROTATE_EOI_SPECIFIC = 7;

/** Which initialisation word a write to the data port is. */
const EXPECT = { MASK: 0, ICW2: 1, ICW3: 2, ICW4: 3 } as const;

/** The slave's place on the master. */
const CASCADE = 2;
/** Input of a spurious interrupt. */
const SPURIOUS = 7;
/** IRQs that can be level triggered (IRQ 0–2, 8 and 13 cannot). */
const ELCR_MASK = [0xf8, 0xde];

/** One 8259A. */
export const PicChip = struct({
  /** Levels of the eight inputs. */
  lines: u8,
  irr: u8,
  imr: u8,
  isr: u8,
  /** Input of the highest priority. */
  highest: u8,
  /** Vector of input 0. */
  base: u8,
  /** Word the data port expects: EXPECT. */
  expect: u8,
  needIcw4: bool,
  single: bool,
  /** Level triggered altogether (ICW1). */
  levelMode: bool,
  readIsr: bool,
  poll: bool,
  specialMask: bool,
  fullyNested: bool,
  autoEoi: bool,
  rotateAutoEoi: bool,
  /** Level-triggered inputs (ELCR). */
  elcr: u8,
});
type ChipView = ViewOf<typeof PicChip>;

/** Device state; snapshot version 1. *Lock:* BQL. */
export const PicState = struct({
  /** Master, slave. */
  chips: array(PicChip, 2),
});
export type PicStateView = ViewOf<typeof PicState>;

export interface PicDeps {
  /** INTR: set when the master has an interrupt for the processor. */
  readonly intr: IrqLine;
}

/** Both chips. *Thread:* any. *Lock:* BQL. */
export class I8259 {
  readonly #chips: readonly ChipView[];
  readonly #intr: IrqLine;
  /** Ports 20h–21h and A0h–A1h (byte accesses). */
  readonly master: IoHandler;
  readonly slave: IoHandler;
  /** Ports 4D0h–4D1h (byte accesses). */
  readonly elcr: IoHandler;

  constructor(state: PicStateView, deps: PicDeps) {
    this.#chips = state.chips;
    this.#intr = deps.intr;
    this.master = this.#ports(0);
    this.slave = this.#ports(1);
    this.elcr = {
      read: (offset) => this.#chips[offset].elcr,
      write: (offset, _size, value) => this.#writeElcr(offset, value),
    };
  }

  reset(): void {
    for (let n = 0; n < 2; n++) {
      const c = this.#chips[n];
      c.lines = 0;
      c.irr = 0;
      c.elcr = 0;
      c.base = 0;
      c.expect = EXPECT.MASK;
      c.needIcw4 = false;
      this.#clear(c);
    }
    this.#update();
  }

  /** Drives input `irq`, 0..15. IRQ 2 is the cascade and has no pin. */
  setIrq(irq: number, level: boolean): void {
    if (irq === CASCADE) return;
    this.#input(this.#chips[irq >>> 3], irq & 7, level);
    this.#update();
  }

  /** True when INTR is active. */
  get pending(): boolean {
    return this.#highestIrq(0) >= 0;
  }

  /** The interrupt acknowledge cycle: the vector, which is that of input 7 when nothing is pending any more. */
  acknowledge(): number {
    const master = this.#chips[0];
    const irq = this.#highestIrq(0);
    if (irq < 0) return master.base + SPURIOUS;
    let vector = master.base + irq;
    this.#take(master, irq);
    if (irq === CASCADE && !master.single) {
      const slave = this.#chips[1];
      const inner = this.#highestIrq(1);
      vector = slave.base + (inner >= 0 ? inner : SPURIOUS);
      if (inner >= 0) this.#take(slave, inner);
      // The slave's INT drops with the acknowledge, so that what is left makes a new edge.
      this.#input(master, CASCADE, false);
    }
    this.#update();
    return vector;
  }

  #ports(n: number): IoHandler {
    return {
      read: (offset) => this.#read(n, offset),
      write: (offset, _size, value) => {
        if (offset === 0) this.#command(n, value);
        else this.#data(n, value);
      },
    };
  }

  #read(n: number, offset: number): number {
    const c = this.#chips[n];
    if (c.poll) {
      // The read after a poll command is the acknowledge: bit 7 tells whether there was anything.
      c.poll = false;
      const irq = this.#highestIrq(n);
      if (irq < 0) return 0;
      this.#take(c, irq);
      if (n === 1) this.#input(this.#chips[0], CASCADE, false);
      this.#update();
      return 0x80 | irq;
    }
    if (offset === 1) return c.imr;
    return c.readIsr ? c.isr : c.irr;
  }

  #command(n: number, value: number): void {
    const c = this.#chips[n];
    if ((value & ICW1_INIT) !== 0) {
      this.#clear(c);
      c.needIcw4 = (value & ICW1_IC4) !== 0;
      c.single = (value & ICW1_SINGLE) !== 0;
      c.levelMode = (value & ICW1_LTIM) !== 0;
      // "The edge sense circuit is reset": an input must fall and rise again. Level inputs still count.
      c.irr = c.lines & levelInputs(c);
      c.expect = EXPECT.ICW2;
    } else if ((value & OCW3) !== 0) {
      if ((value & OCW3_POLL) !== 0) c.poll = true;
      if ((value & OCW3_RR) !== 0) c.readIsr = (value & OCW3_RIS) !== 0;
      if ((value & OCW3_ESMM) !== 0) c.specialMask = (value & OCW3_SMM) !== 0;
    } else {
      this.#ocw2(c, value >>> 5, value & 7);
    }
    this.#update();
  }

  #ocw2(c: ChipView, command: number, irq: number): void {
    switch (command) {
      case ROTATE_AEOI_CLEAR:
      case ROTATE_AEOI_SET:
        c.rotateAutoEoi = command === ROTATE_AEOI_SET;
        break;
      case EOI:
      case ROTATE_EOI: {
        // In special mask mode a masked in-service bit is not touched by a non-specific EOI.
        const served = highestOf(c, c.specialMask ? c.isr & ~c.imr : c.isr);
        if (served < 0) break;
        c.isr &= ~(1 << served);
        if (command === ROTATE_EOI) c.highest = (served + 1) & 7;
        break;
      }
      case EOI_SPECIFIC:
        c.isr &= ~(1 << irq);
        break;
      case SET_PRIORITY:
        c.highest = (irq + 1) & 7;
        break;
      case ROTATE_EOI_SPECIFIC:
        c.isr &= ~(1 << irq);
        c.highest = (irq + 1) & 7;
        break;
    }
  }

  #data(n: number, value: number): void {
    const c = this.#chips[n];
    switch (c.expect) {
      case EXPECT.ICW2:
        c.base = value & 0xf8;
        c.expect = c.single ? (c.needIcw4 ? EXPECT.ICW4 : EXPECT.MASK) : EXPECT.ICW3;
        break;
      case EXPECT.ICW3: // the wiring is what it is
        c.expect = c.needIcw4 ? EXPECT.ICW4 : EXPECT.MASK;
        break;
      case EXPECT.ICW4:
        c.fullyNested = (value & ICW4_SFNM) !== 0;
        c.autoEoi = (value & ICW4_AEOI) !== 0;
        c.expect = EXPECT.MASK;
        break;
      default:
        c.imr = value;
    }
    this.#update();
  }

  #writeElcr(n: number, value: number): void {
    const c = this.#chips[n];
    const before = levelInputs(c);
    c.elcr = value & ELCR_MASK[n];
    const level = levelInputs(c);
    // A level input requests as long as it is high; one that becomes an edge input must rise first.
    c.irr = (c.irr & ~(before | level)) | (c.lines & level);
    this.#update();
  }

  /** What ICW1 resets. */
  #clear(c: ChipView): void {
    c.imr = 0;
    c.isr = 0;
    c.highest = 0;
    c.single = false;
    c.levelMode = false;
    c.readIsr = false;
    c.poll = false;
    c.specialMask = false;
    c.fullyNested = false;
    c.autoEoi = false;
    c.rotateAutoEoi = false;
  }

  #input(c: ChipView, input: number, level: boolean): void {
    const bit = 1 << input;
    const isLevel = (levelInputs(c) & bit) !== 0;
    if (level) {
      if (isLevel || (c.lines & bit) === 0) c.irr |= bit;
      c.lines |= bit;
    } else {
      if (isLevel) c.irr &= ~bit;
      c.lines &= ~bit;
    }
  }

  /** Moves a request into service. */
  #take(c: ChipView, irq: number): void {
    const bit = 1 << irq;
    if (c.autoEoi) {
      if (c.rotateAutoEoi) c.highest = (irq + 1) & 7;
    } else {
      c.isr |= bit;
    }
    if ((levelInputs(c) & bit) === 0) c.irr &= ~bit;
  }

  /** The input that chip `n` would give its next acknowledge, or -1. */
  #highestIrq(n: number): number {
    const c = this.#chips[n];
    const request = highestOf(c, c.irr & ~c.imr);
    if (request < 0) return -1;
    let serving = c.isr;
    if (c.specialMask) serving &= ~c.imr;
    // Special fully nested: the slave may interrupt again while it is in service.
    if (c.fullyNested && n === 0) serving &= ~(1 << CASCADE);
    const served = highestOf(c, serving);
    return served < 0 || rank(c, request) < rank(c, served) ? request : -1;
  }

  /** Passes the slave's output to the master, and the master's to the processor. */
  #update(): void {
    this.#input(this.#chips[0], CASCADE, this.#highestIrq(1) >= 0);
    this.#intr.set(this.#highestIrq(0) >= 0);
  }
}

function levelInputs(c: ChipView): number {
  return c.levelMode ? 0xff : c.elcr;
}

/** 0: the highest priority. */
function rank(c: ChipView, input: number): number {
  return (input - c.highest) & 7;
}

/** The input of highest priority among `bits`, or -1. */
function highestOf(c: ChipView, bits: number): number {
  if (bits === 0) return -1;
  // Rotated so that the highest priority is bit 0; then the lowest set bit.
  const rotated = ((bits | (bits << 8)) >>> c.highest) & 0xff;
  return (31 - Math.clz32(rotated & -rotated) + c.highest) & 7;
}
