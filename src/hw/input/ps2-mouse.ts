/**
 * PS/2 mouse with the wheel (ID 3) and five-button (ID 4) extensions.
 * IBM PS/2 Hardware Interface Technical Reference, mouse; Microsoft IntelliMouse protocol.
 */
import { bool, i32, struct, u8, type ViewOf } from '@smp86/atomics-sync';
import { clearData, clearQueue, Ps2Queue, putData, putReply, takeByte } from './ps2-queue.ts';

const ACK = 0xfa;
const RESEND = 0xfe;
const SELF_TEST_PASSED = 0xaa;

const CMD_SCALE_11 = 0xe6;
const CMD_SCALE_21 = 0xe7;
const CMD_RESOLUTION = 0xe8;
const CMD_STATUS = 0xe9;
const CMD_STREAM = 0xea;
const CMD_POLL = 0xeb;
const CMD_WRAP_OFF = 0xec;
const CMD_WRAP_ON = 0xee;
const CMD_REMOTE = 0xf0;
const CMD_IDENTIFY = 0xf2;
const CMD_RATE = 0xf3;
const CMD_ENABLE = 0xf4;
const CMD_DISABLE = 0xf5;
const CMD_DEFAULTS = 0xf6;
const CMD_RESEND = 0xfe;
const CMD_RESET = 0xff;

const STATUS_SCALE_21 = 0x10;
const STATUS_ENABLED = 0x20;
const STATUS_REMOTE = 0x40;
const PACKET_ALWAYS = 0x08;
const PACKET_X_SIGN = 0x10;
const PACKET_Y_SIGN = 0x20;
/** Sample rates in sequence that switch the type. */
const WHEEL_KNOCK = (200 << 16) | (100 << 8) | 80;
const FIVE_BUTTON_KNOCK = (200 << 16) | (200 << 8) | 80;
const TYPE_WHEEL = 3;
const TYPE_FIVE_BUTTON = 4;
/** Whole packets that may wait; later movement is summed up. */
const MAX_WAITING = 16;

/** Bits of `buttons`. */
export const MOUSE_BUTTON = { LEFT: 1, RIGHT: 2, MIDDLE: 4, SIDE: 8, EXTRA: 16 } as const;

/** *Lock:* BQL. Snapshot version 1. */
export const Ps2MouseState = struct({
  queue: Ps2Queue,
  /** Movement not yet reported; y upwards. */
  dx: i32,
  dy: i32,
  dz: i32,
  /** Last three sample rates set, newest in the low byte. */
  knock: i32,
  /** Command that waits for its parameter, or 0. */
  command: u8,
  /** Device ID: 0, 3 or 4. */
  type: u8,
  resolution: u8,
  rate: u8,
  buttons: u8,
  scale21: bool,
  reporting: bool,
  remote: bool,
  wrap: bool,
});

/** *Thread:* any. *Lock:* BQL. */
export class Ps2Mouse {
  readonly #s: ViewOf<typeof Ps2MouseState>;

  constructor(state: ViewOf<typeof Ps2MouseState>) {
    this.#s = state;
  }

  /** Power-on. The self-test result is not queued: firmware has taken it. */
  reset(): void {
    const s = this.#s;
    clearQueue(s.queue);
    s.command = 0;
    s.type = 0;
    s.knock = 0;
    s.buttons = 0;
    this.#setDefaults();
  }

  /** Next byte to the controller, or -1. */
  take(): number {
    return takeByte(this.#s.queue);
  }

  /** Movement (y downwards, wheel towards the user positive) and the buttons now held (MOUSE_BUTTON). */
  move(dx: number, dy: number, dz: number, buttons: number): void {
    const s = this.#s;
    const changed = s.buttons !== buttons;
    s.buttons = buttons;
    if (!s.reporting && !s.remote) return;
    s.dx += dx;
    s.dy -= dy;
    if (s.type !== 0) s.dz += dz;
    if (s.remote) return;
    let first = changed;
    while (first || s.dx !== 0 || s.dy !== 0 || s.dz !== 0) {
      if (s.queue.count > MAX_WAITING * 4) return;
      this.#packet(putData);
      first = false;
    }
  }

  /** A byte from the controller. */
  write(byte: number): void {
    const s = this.#s;
    const { queue, command } = s;
    if (s.wrap && byte !== CMD_WRAP_OFF && byte !== CMD_RESET) {
      putReply(queue, byte);
      return;
    }
    if (command !== 0) {
      s.command = 0;
      this.#parameter(command, byte);
      return;
    }
    switch (byte) {
      case CMD_SCALE_11:
      case CMD_SCALE_21:
        s.scale21 = byte === CMD_SCALE_21;
        putReply(queue, ACK);
        break;
      case CMD_RESOLUTION:
      case CMD_RATE:
        s.command = byte;
        putReply(queue, ACK);
        break;
      case CMD_STATUS:
        putReply(queue, ACK);
        putReply(queue, this.#status());
        putReply(queue, s.resolution);
        putReply(queue, s.rate);
        break;
      case CMD_STREAM:
      case CMD_REMOTE:
        s.remote = byte === CMD_REMOTE;
        this.#forgetMovement();
        putReply(queue, ACK);
        break;
      case CMD_POLL:
        putReply(queue, ACK);
        this.#packet(putReply);
        break;
      case CMD_WRAP_OFF:
      case CMD_WRAP_ON:
        s.wrap = byte === CMD_WRAP_ON;
        putReply(queue, ACK);
        break;
      case CMD_IDENTIFY:
        putReply(queue, ACK);
        putReply(queue, s.type);
        break;
      case CMD_ENABLE:
        s.reporting = true;
        this.#forgetMovement();
        putReply(queue, ACK);
        break;
      case CMD_DISABLE:
        s.reporting = false;
        this.#forgetMovement();
        putReply(queue, ACK);
        break;
      case CMD_DEFAULTS:
        this.#setDefaults();
        putReply(queue, ACK);
        break;
      case CMD_RESEND:
        putReply(queue, queue.last);
        break;
      case CMD_RESET:
        clearQueue(queue);
        s.type = 0;
        s.knock = 0;
        this.#setDefaults();
        putReply(queue, ACK);
        putReply(queue, SELF_TEST_PASSED);
        putReply(queue, s.type);
        break;
      default:
        putReply(queue, RESEND);
    }
  }

  #setDefaults(): void {
    const s = this.#s;
    s.rate = 100;
    s.resolution = 2;
    s.scale21 = false;
    s.reporting = false;
    s.remote = false;
    s.wrap = false;
    this.#forgetMovement();
  }

  #forgetMovement(): void {
    const s = this.#s;
    s.dx = 0;
    s.dy = 0;
    s.dz = 0;
    clearData(s.queue);
  }

  #status(): number {
    const s = this.#s;
    // left is bit 2, middle bit 1, right bit 0 here
    const { buttons } = s;
    const order = ((buttons & 1) << 2) | ((buttons & 4) >> 1) | ((buttons & 2) >> 1);
    return (
      order |
      (s.scale21 ? STATUS_SCALE_21 : 0) |
      (s.reporting ? STATUS_ENABLED : 0) |
      (s.remote ? STATUS_REMOTE : 0)
    );
  }

  #parameter(command: number, byte: number): void {
    const s = this.#s;
    if (command === CMD_RESOLUTION) {
      s.resolution = byte & 3;
    } else {
      s.rate = byte;
      s.knock = ((s.knock << 8) | byte) & 0xffffff;
      if (s.knock === WHEEL_KNOCK && s.type === 0) s.type = TYPE_WHEEL;
      else if (s.knock === FIVE_BUTTON_KNOCK && s.type !== TYPE_FIVE_BUTTON) s.type = TYPE_FIVE_BUTTON;
    }
    putReply(s.queue, ACK);
  }

  /** Reports as much movement as one packet holds. */
  #packet(put: typeof putData): void {
    const s = this.#s;
    const dx = Math.max(-255, Math.min(255, s.dx));
    const dy = Math.max(-255, Math.min(255, s.dy));
    s.dx -= dx;
    s.dy -= dy;
    const flags =
      PACKET_ALWAYS | (s.buttons & 7) | (dx < 0 ? PACKET_X_SIGN : 0) | (dy < 0 ? PACKET_Y_SIGN : 0);
    put(s.queue, flags);
    put(s.queue, dx & 0xff);
    put(s.queue, dy & 0xff);
    if (s.type === 0) return;
    const limit = s.type === TYPE_WHEEL ? 127 : 7;
    const dz = Math.max(-limit, Math.min(limit, s.dz));
    s.dz -= dz;
    if (s.type === TYPE_WHEEL) put(s.queue, dz & 0xff);
    else put(s.queue, (dz & 0x0f) | ((s.buttons & 0x18) << 1));
  }
}
