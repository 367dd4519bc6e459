/**
 * Keyboard controller of the PC/AT and PS/2: ports 60 and 64, with a keyboard and a mouse.
 * IBM PS/2 Hardware Interface Technical Reference, keyboard and auxiliary device controller; Intel 8042.
 */
import { bool, bytes, struct, u8, type ViewOf } from '@smp86/atomics-sync';
import type { IoHandler, IrqLine } from '../device.ts';
import { Ps2Keyboard, Ps2KeyboardState } from './ps2-keyboard.ts';
import { Ps2Mouse, Ps2MouseState } from './ps2-mouse.ts';
import { SET2_BREAK, translate } from './scan-codes.ts';

export const I8042_DATA = 0x60;
export const I8042_COMMAND = 0x64;

const STATUS_OBF = 0x01;
const STATUS_SYSTEM = 0x04;
const STATUS_COMMAND = 0x08;
const STATUS_UNLOCKED = 0x10;
const STATUS_AUX_OBF = 0x20;

const MODE_KBD_INT = 0x01;
const MODE_AUX_INT = 0x02;
const MODE_SYSTEM = 0x04;
const MODE_DISABLE_KBD = 0x10;
const MODE_DISABLE_AUX = 0x20;
const MODE_TRANSLATE = 0x40;

const OUT_RESET = 0x01;
const OUT_A20 = 0x02;
const OUT_KBD_OBF = 0x10;
const OUT_AUX_OBF = 0x20;

const CMD_READ_RAM = 0x20;
const CMD_WRITE_RAM = 0x60;
const RAM_SIZE = 32;
const CMD_TEST_PASSWORD = 0xa4;
const CMD_AUX_DISABLE = 0xa7;
const CMD_AUX_ENABLE = 0xa8;
const CMD_AUX_TEST = 0xa9;
const CMD_SELF_TEST = 0xaa;
const CMD_KBD_TEST = 0xab;
const CMD_KBD_DISABLE = 0xad;
const CMD_KBD_ENABLE = 0xae;
const CMD_READ_INPUT = 0xc0;
const CMD_READ_OUTPUT = 0xd0;
const CMD_WRITE_OUTPUT = 0xd1;
const CMD_WRITE_KBD_BUFFER = 0xd2;
const CMD_WRITE_AUX_BUFFER = 0xd3;
const CMD_WRITE_AUX = 0xd4;
const CMD_A20_OFF = 0xdd;
const CMD_A20_ON = 0xdf;
const CMD_TEST_INPUTS = 0xe0;
const CMD_PULSE = 0xf0;

const SELF_TEST_PASSED = 0x55;
const TEST_PASSED = 0x00;
const NO_PASSWORD = 0xf1;
/** Input port: not inhibited, colour display. */
const INPUT_PORT = 0x80;

/** *Lock:* BQL. Snapshot version 1. */
export const I8042State = struct({
  keyboard: Ps2KeyboardState,
  mouse: Ps2MouseState,
  status: u8,
  /** Command byte (RAM byte 0). */
  mode: u8,
  outPort: u8,
  /** Command that waits for a byte at port 60, or 0. */
  command: u8,
  /** Output buffer. */
  out: u8,
  /** The controller's own answer while the output buffer is full. */
  reply: u8,
  replyWaiting: bool,
  replyAux: bool,
  /** A break prefix was swallowed by the translation. */
  breakSeen: bool,
  ram: bytes(RAM_SIZE),
});

export interface I8042Deps {
  readonly keyboardIrq: IrqLine;
  readonly mouseIrq: IrqLine;
  /** Level 1: address line 20 is passed through. */
  readonly a20: IrqLine;
  /** The guest pulses the processor's reset line. */
  readonly reset: () => void;
}

/**
 * Register at port 60 and port 64 (`data` and `command`, one port each).
 * *Thread:* any; `keyEvent` and `mouseEvent` in the main loop. *Lock:* BQL.
 */
export class I8042 {
  readonly data: IoHandler;
  readonly command: IoHandler;
  readonly keyboard: Ps2Keyboard;
  readonly mouse: Ps2Mouse;
  readonly #s: ViewOf<typeof I8042State>;
  readonly #deps: I8042Deps;

  constructor(state: ViewOf<typeof I8042State>, deps: I8042Deps) {
    this.#s = state;
    this.#deps = deps;
    this.keyboard = new Ps2Keyboard(state.keyboard);
    this.mouse = new Ps2Mouse(state.mouse);
    this.data = {
      read: () => this.#readData(),
      write: (_offset, _size, value) => this.#writeData(value & 0xff),
    };
    this.command = {
      read: () => this.#s.status,
      write: (_offset, _size, value) => this.#writeCommand(value & 0xff),
    };
  }

  reset(): void {
    const s = this.#s;
    s.status = STATUS_COMMAND | STATUS_UNLOCKED;
    s.mode = MODE_KBD_INT | MODE_AUX_INT;
    s.outPort = OUT_RESET | OUT_A20;
    s.command = 0;
    s.out = 0;
    s.reply = 0;
    s.replyWaiting = false;
    s.replyAux = false;
    s.breakSeen = false;
    s.ram.fill(0);
    this.keyboard.reset();
    this.mouse.reset();
    this.#updateIrqs();
  }

  /** Leaves the controller as firmware does: self-test passed, keyboard interrupt and translation on, mouse off. */
  setUp(): void {
    this.#s.status |= STATUS_SYSTEM;
    this.#s.mode = MODE_KBD_INT | MODE_SYSTEM | MODE_DISABLE_AUX | MODE_TRANSLATE;
  }

  /** See `Ps2Keyboard.key`. */
  keyEvent(code: number, down: boolean): void {
    this.keyboard.key(code, down);
    this.#fill();
  }

  /** See `Ps2Mouse.move`. */
  mouseEvent(dx: number, dy: number, dz: number, buttons: number): void {
    this.mouse.move(dx, dy, dz, buttons);
    this.#fill();
  }

  #readData(): number {
    const s = this.#s;
    const value = s.out;
    if ((s.status & STATUS_OBF) !== 0) {
      s.status &= ~(STATUS_OBF | STATUS_AUX_OBF);
      // both lines fall before the next byte raises one: edge-triggered inputs see each byte
      this.#updateIrqs();
      this.#fill();
    }
    return value;
  }

  #writeData(byte: number): void {
    const s = this.#s;
    const { command } = s;
    s.status &= ~STATUS_COMMAND;
    s.command = 0;
    switch (command) {
      case 0:
        // a byte for the keyboard opens its interface again
        s.mode &= ~MODE_DISABLE_KBD;
        this.keyboard.write(byte);
        break;
      case CMD_WRITE_OUTPUT:
        this.#writeOutPort(byte);
        break;
      case CMD_WRITE_KBD_BUFFER:
        this.#answer(byte, false);
        break;
      case CMD_WRITE_AUX_BUFFER:
        this.#answer(byte, true);
        break;
      case CMD_WRITE_AUX:
        s.mode &= ~MODE_DISABLE_AUX;
        this.mouse.write(byte);
        break;
      case CMD_WRITE_RAM:
        s.mode = byte;
        if ((byte & MODE_SYSTEM) !== 0) s.status |= STATUS_SYSTEM;
        else s.status &= ~STATUS_SYSTEM;
        this.#updateIrqs();
        break;
      default:
        s.ram[command & (RAM_SIZE - 1)] = byte;
    }
    this.#fill();
  }

  #writeCommand(byte: number): void {
    const s = this.#s;
    s.status |= STATUS_COMMAND;
    s.command = 0;
    if (byte >= CMD_READ_RAM && byte < CMD_READ_RAM + RAM_SIZE) {
      this.#answer(byte === CMD_READ_RAM ? s.mode : s.ram[byte & (RAM_SIZE - 1)], false);
    } else if (byte >= CMD_WRITE_RAM && byte < CMD_WRITE_RAM + RAM_SIZE) {
      s.command = byte;
    } else if (byte >= CMD_PULSE) {
      // output lines whose bit is 0 are pulsed low; line 0 resets the processor
      if ((byte & OUT_RESET) === 0) this.#deps.reset();
    } else {
      this.#other(byte);
    }
    this.#fill();
  }

  #other(byte: number): void {
    const s = this.#s;
    switch (byte) {
      case CMD_TEST_PASSWORD:
        this.#answer(NO_PASSWORD, false);
        break;
      case CMD_AUX_DISABLE:
        s.mode |= MODE_DISABLE_AUX;
        break;
      case CMD_AUX_ENABLE:
        s.mode &= ~MODE_DISABLE_AUX;
        break;
      case CMD_AUX_TEST:
      case CMD_KBD_TEST:
        this.#answer(TEST_PASSED, false);
        break;
      case CMD_SELF_TEST:
        s.status |= STATUS_SYSTEM;
        s.mode |= MODE_SYSTEM;
        this.#answer(SELF_TEST_PASSED, false);
        break;
      case CMD_KBD_DISABLE:
        s.mode |= MODE_DISABLE_KBD;
        break;
      case CMD_KBD_ENABLE:
        s.mode &= ~MODE_DISABLE_KBD;
        break;
      case CMD_READ_INPUT:
        this.#answer(INPUT_PORT, false);
        break;
      case CMD_READ_OUTPUT:
        this.#answer(this.#outPort(), false);
        break;
      case CMD_WRITE_OUTPUT:
      case CMD_WRITE_KBD_BUFFER:
      case CMD_WRITE_AUX_BUFFER:
      case CMD_WRITE_AUX:
        s.command = byte;
        break;
      case CMD_A20_OFF:
      case CMD_A20_ON:
        this.#writeOutPort(byte === CMD_A20_ON ? s.outPort | OUT_A20 : s.outPort & ~OUT_A20);
        break;
      case CMD_TEST_INPUTS:
        this.#answer(0, false);
        break;
    }
  }

  /** The output port; its two OBF bits are the interrupt lines. */
  #outPort(): number {
    const { status, outPort } = this.#s;
    if ((status & STATUS_OBF) === 0) return outPort;
    return outPort | ((status & STATUS_AUX_OBF) !== 0 ? OUT_AUX_OBF : OUT_KBD_OBF);
  }

  #writeOutPort(value: number): void {
    const s = this.#s;
    const a20 = ((s.outPort ^ value) & OUT_A20) !== 0;
    s.outPort = (value & ~(OUT_KBD_OBF | OUT_AUX_OBF)) | OUT_RESET;
    if (a20) this.#deps.a20.set((value & OUT_A20) !== 0);
    if ((value & OUT_RESET) === 0) this.#deps.reset();
  }

  /** The controller's own byte goes before those of the devices. */
  #answer(byte: number, aux: boolean): void {
    const s = this.#s;
    s.reply = byte;
    s.replyAux = aux;
    s.replyWaiting = true;
  }

  /** Moves the next byte into the output buffer when that is free. */
  #fill(): void {
    const s = this.#s;
    if ((s.status & STATUS_OBF) !== 0) return;
    if (s.replyWaiting) {
      s.replyWaiting = false;
      this.#put(s.reply, s.replyAux);
      return;
    }
    if ((s.mode & MODE_DISABLE_KBD) === 0) {
      const byte = this.#keyboardByte();
      if (byte >= 0) {
        this.#put(byte, false);
        return;
      }
    }
    if ((s.mode & MODE_DISABLE_AUX) === 0) {
      const byte = this.mouse.take();
      if (byte >= 0) this.#put(byte, true);
    }
  }

  #keyboardByte(): number {
    const s = this.#s;
    for (;;) {
      const byte = this.keyboard.take();
      if (byte < 0 || (s.mode & MODE_TRANSLATE) === 0) return byte;
      if (byte === SET2_BREAK) {
        s.breakSeen = true;
        continue;
      }
      const code = translate(byte);
      const value = s.breakSeen ? code | 0x80 : code;
      s.breakSeen = false;
      return value;
    }
  }

  #put(byte: number, aux: boolean): void {
    const s = this.#s;
    s.out = byte;
    s.status = (s.status & ~STATUS_AUX_OBF) | STATUS_OBF | (aux ? STATUS_AUX_OBF : 0);
    this.#updateIrqs();
  }

  #updateIrqs(): void {
    const { status, mode } = this.#s;
    const full = (status & STATUS_OBF) !== 0;
    const aux = (status & STATUS_AUX_OBF) !== 0;
    this.#deps.keyboardIrq.set(full && !aux && (mode & MODE_KBD_INT) !== 0);
    this.#deps.mouseIrq.set(full && aux && (mode & MODE_AUX_INT) !== 0);
  }
}
