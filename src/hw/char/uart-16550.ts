/**
 * 16550A UART. National Semiconductor PC16550D data sheet (1995), section 8.
 *
 * A byte written to THR goes to the backend at once, whatever the divisor says; only while the backend has no
 * room does the transmitter fill up. The receive time-out is timed by the divisor. Modem inputs are those of a
 * connected line (CTS, DSR, DCD); the backend gives none, so there is no modem-status poll.
 */
import { bool, bytes, struct, u16, u8, type ViewOf } from '@smp86/atomics-sync';
import type { Clock, IoHandler, IrqLine, Timer } from '../device.ts';
import type { ByteSink } from './byte-sink.ts';

/** Ports, in order. DLAB selects the divisor latch at 0 and 1. */
const DATA = 0;
const IER = 1;
/** Read: IIR; write: FCR. */
const IIR = 2;
const LCR = 3;
const MCR = 4;
const LSR = 5;
const MSR = 6;
const SCR = 7;
export const UART_PORTS = 8;

const IER_RDI = 0x01;
const IER_THRI = 0x02;
const IER_RLSI = 0x04;
const IER_MSI = 0x08;
const IER_MASK = 0x0f;
const IIR_NONE = 0x01;
const IIR_MSI = 0x00;
const IIR_THRI = 0x02;
const IIR_RDI = 0x04;
const IIR_RLSI = 0x06;
const IIR_TIMEOUT = 0x0c;
const IIR_ID = 0x0f;
const IIR_FIFOS = 0xc0;
const FCR_ENABLE = 0x01;
const FCR_CLEAR_RX = 0x02;
const FCR_CLEAR_TX = 0x04;
/** DMA mode select and the trigger level. */
const FCR_KEPT = 0xc9;
const LCR_WORD_LENGTH = 0x03;
const LCR_STOP = 0x04;
const LCR_PARITY = 0x08;
const LCR_DLAB = 0x80;
const MCR_DTR = 0x01;
const MCR_RTS = 0x02;
const MCR_OUT1 = 0x04;
const MCR_OUT2 = 0x08;
const MCR_LOOP = 0x10;
const MCR_MASK = 0x1f;
const LSR_DR = 0x01;
const LSR_OVERRUN = 0x02;
const LSR_BREAK = 0x10;
const LSR_THRE = 0x20;
const LSR_TEMT = 0x40;
/** OE, PE, FE, BI: cleared by a read. */
const LSR_ERRORS = 0x1e;
const MSR_DELTA_CTS = 0x01;
const MSR_DELTA_DSR = 0x02;
const MSR_TRAILING_RI = 0x04;
const MSR_DELTA_DCD = 0x08;
const MSR_DELTAS = 0x0f;
const MSR_CTS = 0x10;
const MSR_DSR = 0x20;
const MSR_RI = 0x40;
const MSR_DCD = 0x80;
const MSR_CONNECTED = MSR_CTS | MSR_DSR | MSR_DCD;

const FIFO_SIZE = 16;
const TRIGGER_LEVELS = [1, 4, 8, 14] as const;
/** Divisor 1 is 115200 baud (1.8432 MHz / 16). */
const MAX_BAUD = 115_200;
const DEFAULT_DIVISOR = 12;
/** The time-out is this many character times. */
const TIMEOUT_CHARACTERS = 4;
/** Retry of a byte that the backend had no room for: character times, and at least this many ns. */
const RETRY_MINIMUM = 1_000_000;
const SECOND = 1e9;

/** A first-in first-out buffer of bytes. */
const Fifo = struct({ data: bytes(FIFO_SIZE), head: u8, count: u8 });
type FifoView = ViewOf<typeof Fifo>;

/** *Lock:* BQL. Snapshot version 1. */
export const Uart16550State = struct({
  divisor: u16,
  rbr: u8,
  ier: u8,
  iir: u8,
  fcr: u8,
  lcr: u8,
  mcr: u8,
  lsr: u8,
  msr: u8,
  scr: u8,
  /** THR went empty since IIR last reported it. */
  thrPending: bool,
  timeoutPending: bool,
  receive: Fifo,
  /** Bytes that the backend had no room for. */
  transmit: Fifo,
});

export interface Uart16550Deps {
  /** VIRTUAL; both timers are on it. */
  readonly clock: Clock;
  readonly timeoutTimer: Timer;
  readonly transmitTimer: Timer;
  readonly irq: IrqLine;
  readonly sink: ByteSink;
  /** Room for received bytes appeared: the main loop may offer more. Called under the BQL. */
  readonly acceptInput?: () => void;
}

/** *Thread:* any; timers and `receive` in the main loop. *Lock:* BQL. */
export class Uart16550 implements IoHandler {
  readonly #s: ViewOf<typeof Uart16550State>;
  readonly #deps: Uart16550Deps;

  constructor(state: ViewOf<typeof Uart16550State>, deps: Uart16550Deps) {
    this.#s = state;
    this.#deps = deps;
  }

  reset(): void {
    const s = this.#s;
    s.divisor = DEFAULT_DIVISOR;
    s.rbr = 0;
    s.ier = 0;
    s.iir = IIR_NONE;
    s.fcr = 0;
    s.lcr = 0;
    s.mcr = MCR_OUT2;
    s.lsr = LSR_THRE | LSR_TEMT;
    s.msr = MSR_CONNECTED;
    s.scr = 0;
    s.thrPending = false;
    s.timeoutPending = false;
    clear(s.receive);
    clear(s.transmit);
    this.#deps.timeoutTimer.del();
    this.#deps.transmitTimer.del();
    this.#deps.irq.set(false);
  }

  read(offset: number, _size: number): number {
    const s = this.#s;
    switch (offset & 7) {
      case DATA:
        return (s.lcr & LCR_DLAB) !== 0 ? s.divisor & 0xff : this.#readData();
      case IER:
        return (s.lcr & LCR_DLAB) !== 0 ? s.divisor >> 8 : s.ier;
      case IIR: {
        const { iir } = s;
        if ((iir & IIR_ID) === IIR_THRI) {
          s.thrPending = false;
          this.#updateIrq();
        }
        return iir;
      }
      case LCR:
        return s.lcr;
      case MCR:
        return s.mcr;
      case LSR: {
        const { lsr } = s;
        if ((lsr & LSR_ERRORS) !== 0) {
          s.lsr = lsr & ~LSR_ERRORS;
          this.#updateIrq();
        }
        return lsr;
      }
      case MSR: {
        const { msr } = s;
        if ((msr & MSR_DELTAS) !== 0) {
          s.msr = msr & ~MSR_DELTAS;
          this.#updateIrq();
        }
        return msr;
      }
      default:
        return s.scr;
    }
  }

  write(offset: number, _size: number, value: number): void {
    const s = this.#s;
    switch (offset & 7) {
      case DATA:
        if ((s.lcr & LCR_DLAB) !== 0) s.divisor = (s.divisor & 0xff00) | value;
        else this.#writeData(value);
        break;
      case IER:
        if ((s.lcr & LCR_DLAB) !== 0) s.divisor = (s.divisor & 0x00ff) | (value << 8);
        else this.#writeIer(value);
        break;
      case IIR:
        this.#writeFcr(value);
        break;
      case LCR:
        s.lcr = value;
        break;
      case MCR:
        s.mcr = value & MCR_MASK;
        this.#updateModem();
        break;
      case LSR:
      case MSR:
        break;
      case SCR:
        s.scr = value;
        break;
    }
  }

  /** How many bytes `receive` would take now, 0 when none. Up to the trigger level, so that the guest is told soon. */
  canReceive(): number {
    const s = this.#s;
    if ((s.mcr & MCR_LOOP) !== 0) return 0;
    if ((s.fcr & FCR_ENABLE) === 0) return (s.lsr & LSR_DR) === 0 ? 1 : 0;
    const { count } = s.receive;
    if (count >= FIFO_SIZE) return 0;
    return Math.max(1, this.#trigger - count);
  }

  /** A byte from the host. *Thread:* main loop. *Lock:* BQL. */
  receive(byte: number): void {
    if ((this.#s.mcr & MCR_LOOP) === 0) this.#received(byte);
  }

  /** A break condition from the host. *Thread:* main loop. *Lock:* BQL. */
  receiveBreak(): void {
    if ((this.#s.mcr & MCR_LOOP) !== 0) return;
    this.#received(0);
    this.#s.lsr |= LSR_BREAK;
    this.#updateIrq();
  }

  /** The receive time-out timer: bytes below the trigger level have been waiting. */
  onTimeout(): void {
    const s = this.#s;
    if (s.receive.count === 0) return;
    s.timeoutPending = true;
    this.#updateIrq();
  }

  /** The transmit timer, or the main loop once the backend has room again. *Lock:* BQL. */
  onTransmit(): void {
    const s = this.#s;
    const { transmit } = s;
    while (transmit.count > 0) {
      if (!this.#deps.sink.write(transmit.data[transmit.head])) {
        this.#retryLater();
        return;
      }
      pop(transmit);
    }
    this.#deps.transmitTimer.del();
    if ((s.lsr & LSR_TEMT) === 0) this.#transmitterEmpty();
  }

  get #trigger(): number {
    return TRIGGER_LEVELS[this.#s.fcr >> 6];
  }

  /** Time of one character on the line, in ns. */
  get #characterTime(): number {
    const { lcr, divisor } = this.#s;
    const bits =
      1 + 5 + (lcr & LCR_WORD_LENGTH) + ((lcr & LCR_PARITY) !== 0 ? 1 : 0) + ((lcr & LCR_STOP) !== 0 ? 2 : 1);
    return Math.floor((bits * SECOND * (divisor === 0 ? 1 : divisor)) / MAX_BAUD);
  }

  #readData(): number {
    const s = this.#s;
    if ((s.fcr & FCR_ENABLE) === 0) {
      const value = s.rbr;
      s.lsr &= ~(LSR_DR | LSR_BREAK);
      this.#updateIrq();
      // the next byte may come at once
      if ((s.mcr & MCR_LOOP) === 0) this.#deps.acceptInput?.();
      return value;
    }
    const value = s.receive.count === 0 ? 0 : pop(s.receive);
    s.timeoutPending = false;
    if (s.receive.count === 0) {
      s.lsr &= ~(LSR_DR | LSR_BREAK);
      this.#deps.timeoutTimer.del();
    } else {
      this.#armTimeout();
    }
    this.#updateIrq();
    if ((s.mcr & MCR_LOOP) === 0) this.#deps.acceptInput?.();
    return value;
  }

  #received(byte: number): void {
    const s = this.#s;
    if ((s.fcr & FCR_ENABLE) !== 0) {
      if (s.receive.count === FIFO_SIZE) s.lsr |= LSR_OVERRUN;
      else push(s.receive, byte);
      this.#armTimeout();
    } else {
      if ((s.lsr & LSR_DR) !== 0) s.lsr |= LSR_OVERRUN;
      s.rbr = byte;
    }
    s.lsr |= LSR_DR;
    this.#updateIrq();
  }

  #armTimeout(): void {
    this.#deps.timeoutTimer.mod(this.#deps.clock.now() + TIMEOUT_CHARACTERS * this.#characterTime);
  }

  #writeData(byte: number): void {
    const s = this.#s;
    // the line drops and rises again when the byte goes straight out, so that an edge follows each byte
    s.thrPending = false;
    s.lsr &= ~(LSR_THRE | LSR_TEMT);
    this.#updateIrq();
    if ((s.mcr & MCR_LOOP) !== 0) {
      this.#received(byte);
      this.#transmitterEmpty();
      return;
    }
    if (s.transmit.count === 0 && this.#deps.sink.write(byte)) {
      this.#transmitterEmpty();
      return;
    }
    // In character mode there is one holding register; a guest that does not wait for THRE overwrites it.
    const room = (s.fcr & FCR_ENABLE) !== 0 ? FIFO_SIZE : 1;
    if (s.transmit.count >= room) replaceLast(s.transmit, byte);
    else push(s.transmit, byte);
    this.#retryLater();
  }

  #retryLater(): void {
    const { clock, transmitTimer } = this.#deps;
    if (transmitTimer.pending) return;
    transmitTimer.mod(clock.now() + Math.max(RETRY_MINIMUM, this.#characterTime));
  }

  #transmitterEmpty(): void {
    const s = this.#s;
    s.lsr |= LSR_THRE | LSR_TEMT;
    s.thrPending = true;
    this.#updateIrq();
  }

  #writeIer(value: number): void {
    const s = this.#s;
    const changed = (s.ier ^ value) & IER_MASK;
    s.ier = value & IER_MASK;
    // enabling the THRE interrupt while the transmitter is empty raises it at once
    if ((changed & IER_THRI) !== 0) {
      s.thrPending = (s.ier & IER_THRI) !== 0 && (s.lsr & LSR_THRE) !== 0;
    }
    if (changed !== 0) this.#updateIrq();
  }

  #writeFcr(value: number): void {
    const s = this.#s;
    // a change of the enable bit clears both FIFOs (data sheet 8.5)
    const toggled = ((s.fcr ^ value) & FCR_ENABLE) !== 0;
    if (toggled || (value & FCR_CLEAR_RX) !== 0) {
      s.lsr &= ~(LSR_DR | LSR_BREAK);
      s.timeoutPending = false;
      this.#deps.timeoutTimer.del();
      clear(s.receive);
    }
    if (toggled || (value & FCR_CLEAR_TX) !== 0) {
      clear(s.transmit);
      this.#deps.transmitTimer.del();
      s.lsr |= LSR_THRE | LSR_TEMT;
      s.thrPending = true;
    }
    s.fcr = (value & FCR_ENABLE) !== 0 ? value & FCR_KEPT : 0;
    this.#updateIrq();
    this.#deps.acceptInput?.();
  }

  /** Modem inputs: the outputs in loop-back mode, those of a connected line otherwise. */
  #updateModem(): void {
    const s = this.#s;
    const old = s.msr & ~MSR_DELTAS;
    let now = MSR_CONNECTED;
    if ((s.mcr & MCR_LOOP) !== 0) {
      now =
        ((s.mcr & MCR_RTS) !== 0 ? MSR_CTS : 0) |
        ((s.mcr & MCR_DTR) !== 0 ? MSR_DSR : 0) |
        ((s.mcr & MCR_OUT1) !== 0 ? MSR_RI : 0) |
        ((s.mcr & MCR_OUT2) !== 0 ? MSR_DCD : 0);
    }
    const changed = now ^ old;
    let deltas = s.msr & MSR_DELTAS;
    if ((changed & MSR_CTS) !== 0) deltas |= MSR_DELTA_CTS;
    if ((changed & MSR_DSR) !== 0) deltas |= MSR_DELTA_DSR;
    if ((changed & MSR_DCD) !== 0) deltas |= MSR_DELTA_DCD;
    if ((changed & MSR_RI) !== 0 && (now & MSR_RI) === 0) deltas |= MSR_TRAILING_RI;
    s.msr = now | deltas;
    this.#updateIrq();
  }

  /** Derives IIR and the line from the sources, highest priority first (table II of the data sheet). */
  #updateIrq(): void {
    const s = this.#s;
    const { ier, lsr } = s;
    const fifos = (s.fcr & FCR_ENABLE) !== 0;
    let id = IIR_NONE;
    if ((ier & IER_RLSI) !== 0 && (lsr & LSR_ERRORS) !== 0) id = IIR_RLSI;
    else if ((ier & IER_RDI) !== 0 && s.timeoutPending) id = IIR_TIMEOUT;
    else if ((ier & IER_RDI) !== 0 && (lsr & LSR_DR) !== 0 && (!fifos || s.receive.count >= this.#trigger)) {
      id = IIR_RDI;
    } else if ((ier & IER_THRI) !== 0 && s.thrPending) id = IIR_THRI;
    else if ((ier & IER_MSI) !== 0 && (s.msr & MSR_DELTAS) !== 0) id = IIR_MSI;
    s.iir = id | (fifos ? IIR_FIFOS : 0);
    this.#deps.irq.set(id !== IIR_NONE);
  }
}

function clear(fifo: FifoView): void {
  fifo.head = 0;
  fifo.count = 0;
}

function push(fifo: FifoView, byte: number): void {
  fifo.data[(fifo.head + fifo.count) & (FIFO_SIZE - 1)] = byte;
  fifo.count++;
}

function replaceLast(fifo: FifoView, byte: number): void {
  fifo.data[(fifo.head + fifo.count - 1) & (FIFO_SIZE - 1)] = byte;
}

function pop(fifo: FifoView): number {
  const byte = fifo.data[fifo.head];
  fifo.head = (fifo.head + 1) & (FIFO_SIZE - 1);
  fifo.count--;
  return byte;
}
