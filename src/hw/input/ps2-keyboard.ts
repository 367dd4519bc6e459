/** PS/2 keyboard, scan code sets 1 and 2. IBM PS/2 Hardware Interface Technical Reference, keyboard (101/102 key). */
import { bool, struct, u8, type ViewOf } from '@smp86/atomics-sync';
import { clearData, clearQueue, Ps2Queue, putData, putReply, roomIn, takeByte } from './ps2-queue.ts';
import { EXTENDED, SET2_BREAK, set2Of } from './scan-codes.ts';

const ACK = 0xfa;
const RESEND = 0xfe;
const SELF_TEST_PASSED = 0xaa;
const ID = [0xab, 0x83] as const;

const CMD_SET_LEDS = 0xed;
const CMD_ECHO = 0xee;
const CMD_SCAN_CODE_SET = 0xf0;
const CMD_IDENTIFY = 0xf2;
const CMD_RATE = 0xf3;
const CMD_ENABLE = 0xf4;
const CMD_DISABLE = 0xf5;
const CMD_DEFAULTS = 0xf6;
const CMD_SET3_FIRST = 0xf7;
const CMD_SET3_LAST = 0xfd;
const CMD_RESEND = 0xfe;
const CMD_RESET = 0xff;

/** Longest code of one key event. */
const MAX_CODE = 8;
/** `key` code of Pause, which has no break code of its own. */
export const KEY_PAUSE = 0xe11d;
const PAUSE_SET2 = [0xe1, 0x14, 0x77, 0xe1, 0xf0, 0x14, 0xf0, 0x77] as const;
const PAUSE_SET1 = [0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5] as const;

/** *Lock:* BQL. Snapshot version 1. */
export const Ps2KeyboardState = struct({
  queue: Ps2Queue,
  /** Command that waits for its parameter, or 0. */
  command: u8,
  /** 1 or 2. */
  scanCodeSet: u8,
  /** Bit 0 scroll, 1 num, 2 caps. */
  leds: u8,
  rate: u8,
  scanning: bool,
});

/** *Thread:* any. *Lock:* BQL. */
export class Ps2Keyboard {
  readonly #s: ViewOf<typeof Ps2KeyboardState>;

  constructor(state: ViewOf<typeof Ps2KeyboardState>) {
    this.#s = state;
  }

  /** Power-on. The self-test result is not queued: firmware has taken it. */
  reset(): void {
    clearQueue(this.#s.queue);
    this.#s.command = 0;
    this.#s.leds = 0;
    this.#setDefaults();
  }

  get leds(): number {
    return this.#s.leds;
  }

  /** Next byte to the controller, or -1. */
  take(): number {
    return takeByte(this.#s.queue);
  }

  /**
   * A key goes down or up. `code` is the set 1 make code (1–0x7F), 0xE0xx for an extended key, or KEY_PAUSE.
   * Dropped while scanning is off or the queue is full.
   */
  key(code: number, down: boolean): void {
    const { queue, scanning, scanCodeSet } = this.#s;
    if (!scanning || roomIn(queue) < MAX_CODE) return;
    if (code === KEY_PAUSE) {
      if (down) for (const byte of scanCodeSet === 1 ? PAUSE_SET1 : PAUSE_SET2) putData(queue, byte);
      return;
    }
    const make = code & 0x7f;
    if (make === 0) return;
    if (code >> 8 === EXTENDED) putData(queue, EXTENDED);
    if (scanCodeSet === 1) {
      putData(queue, down ? make : make | 0x80);
      return;
    }
    if (!down) putData(queue, SET2_BREAK);
    putData(queue, set2Of(make));
  }

  /** A byte from the controller. */
  write(byte: number): void {
    const s = this.#s;
    const { command, queue } = s;
    if (command !== 0 && byte < CMD_SET_LEDS) {
      s.command = 0;
      this.#parameter(command, byte);
      return;
    }
    s.command = 0;
    switch (byte) {
      case CMD_SET_LEDS:
      case CMD_SCAN_CODE_SET:
      case CMD_RATE:
        s.command = byte;
        putReply(queue, ACK);
        break;
      case CMD_ECHO:
        putReply(queue, CMD_ECHO);
        break;
      case CMD_IDENTIFY:
        putReply(queue, ACK);
        for (const id of ID) putReply(queue, id);
        break;
      case CMD_ENABLE:
        s.scanning = true;
        clearData(queue);
        putReply(queue, ACK);
        break;
      case CMD_DISABLE:
        this.#setDefaults();
        s.scanning = false;
        clearData(queue);
        putReply(queue, ACK);
        break;
      case CMD_DEFAULTS:
        this.#setDefaults();
        clearData(queue);
        putReply(queue, ACK);
        break;
      case CMD_RESEND:
        putReply(queue, queue.last);
        break;
      case CMD_RESET:
        clearQueue(queue);
        s.leds = 0;
        this.#setDefaults();
        putReply(queue, ACK);
        putReply(queue, SELF_TEST_PASSED);
        break;
      default:
        // key types of set 3: accepted, without effect on sets 1 and 2
        putReply(queue, byte >= CMD_SET3_FIRST && byte <= CMD_SET3_LAST ? ACK : RESEND);
    }
  }

  #setDefaults(): void {
    this.#s.scanCodeSet = 2;
    this.#s.rate = 0x2b;
    this.#s.scanning = true;
  }

  #parameter(command: number, byte: number): void {
    const s = this.#s;
    switch (command) {
      case CMD_SET_LEDS:
        s.leds = byte & 7;
        break;
      case CMD_RATE:
        s.rate = byte & 0x7f;
        break;
      default:
        if (byte > 2) {
          putReply(s.queue, RESEND);
          return;
        }
        putReply(s.queue, ACK);
        if (byte === 0) putReply(s.queue, s.scanCodeSet);
        else s.scanCodeSet = byte;
        return;
    }
    putReply(s.queue, ACK);
  }
}
