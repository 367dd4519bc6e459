/**
 * Standard input and output as the host side of a character device: raw mode, the escape Ctrl-A, and the
 * terminal as it was before on every way out that a program can see.
 */
import { Transform, type Duplex } from 'node:stream';

const CTRL_A = 0x01;
const CTRL_C = 0x03;
const CTRL_Z = 0x1a;
const CTRL_BACKSLASH = 0x1c;
const ESCAPE_HELP = `
C-a h    print this help
C-a x    exit emulator
C-a b    send break (magic sysrq)
C-a t    toggle console timestamps
C-a c    switch between console and monitor (there is no monitor yet)
C-a C-a  sends C-a
`;

export interface TerminalOptions {
  /** Ctrl-A introduces commands. */
  readonly mux: boolean;
  /** Ctrl-C, Ctrl-\ and Ctrl-Z at the terminal act on this process, not on the guest. */
  readonly signal: boolean;
}

/** What a terminal asks for. */
export interface TerminalActions {
  /** Ctrl-A x. */
  quit(): void;
  /** Ctrl-C or Ctrl-\ where those act on this process. */
  interrupt(signal: 'SIGINT' | 'SIGQUIT'): void;
}

/** A device to connect. */
export type TerminalDevice = Duplex & { sendBreak(): void };

/** What the bytes that a user types come to. */
export class EscapeParser {
  readonly #options: TerminalOptions;
  /** Bytes for the guest. */
  readonly #input: (bytes: Uint8Array) => void;
  /** The letter after Ctrl-A; lower case. */
  readonly #command: (letter: string) => void;
  readonly #signal: (byte: number) => void;
  #escaped = false;

  constructor(
    options: TerminalOptions,
    to: { input(bytes: Uint8Array): void; command(letter: string): void; signal(byte: number): void },
  ) {
    this.#options = options;
    this.#input = (bytes) => to.input(bytes);
    this.#command = (letter) => to.command(letter);
    this.#signal = (byte) => to.signal(byte);
  }

  feed(bytes: Uint8Array): void {
    const { mux, signal } = this.#options;
    let from = 0;
    const flush = (to: number): void => {
      if (to > from) this.#input(bytes.subarray(from, to));
    };
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      if (this.#escaped) {
        this.#escaped = false;
        // Ctrl-A twice sends one: the second stays in the input
        if (byte === CTRL_A) {
          from = i;
          continue;
        }
        from = i + 1;
        this.#command(String.fromCharCode(byte).toLowerCase());
      } else if (mux && byte === CTRL_A) {
        flush(i);
        from = i + 1;
        this.#escaped = true;
      } else if (signal && (byte === CTRL_C || byte === CTRL_BACKSLASH || byte === CTRL_Z)) {
        flush(i);
        from = i + 1;
        this.#signal(byte);
      }
    }
    flush(bytes.length);
  }
}

/** Puts the time since its making before each line. */
class Timestamps extends Transform {
  enabled = false;
  readonly #start = performance.now();
  #lineStart = true;

  override _transform(
    chunk: Buffer,
    _encoding: BufferEncoding,
    done: (error: null, data: Buffer) => void,
  ): void {
    if (!this.enabled) {
      this.#lineStart = chunk.at(-1) === 0x0a;
      done(null, chunk);
      return;
    }
    let out = '';
    for (const character of chunk.toString('latin1')) {
      if (this.#lineStart) out += this.#stamp();
      this.#lineStart = character === '\n';
      out += character;
    }
    done(null, Buffer.from(out, 'latin1'));
  }
  #stamp(): string {
    const ms = performance.now() - this.#start;
    const two = (n: number): string => String(Math.floor(n)).padStart(2, '0');
    const fraction = String(Math.floor(ms % 1000)).padStart(3, '0');
    return `[${two(ms / 3_600_000)}:${two((ms / 60_000) % 60)}:${two((ms / 1000) % 60)}.${fraction}] `;
  }
}

/** Standard input and output of the process. One at a time. */
export class Terminal {
  readonly #actions: TerminalActions;
  readonly #timestamps = new Timestamps();
  readonly #parser: EscapeParser;
  #device: TerminalDevice | undefined;
  /** Input from before the device is there. */
  #early: Uint8Array[] = [];
  #raw = false;
  #outputGone = false;

  constructor(options: TerminalOptions, actions: TerminalActions) {
    this.#actions = actions;
    this.#parser = new EscapeParser(options, {
      input: (bytes) => this.#toGuest(bytes),
      command: (letter) => this.#command(letter),
      signal: (byte) => this.#signalKey(byte),
    });
  }

  /** Takes standard input; a terminal goes to raw mode. */
  open(): void {
    const { stdin, stdout } = process;
    process.on('exit', this.#restore);
    process.on('SIGCONT', this.#continued);
    this.#enterRaw();
    stdin.on('data', this.#onData);
    // a terminal that hung up, a file that cannot be read: there is no input any more
    stdin.on('error', this.#ignore);
    stdout.on('error', this.#onOutputError);
  }

  /** Connects the device: its output goes to standard output, what is typed to it. */
  connect(device: TerminalDevice): void {
    this.#device = device;
    device.pipe(this.#timestamps).on('data', (bytes: Buffer) => this.#print(bytes));
    const early = this.#early;
    this.#early = [];
    for (const bytes of early) device.write(bytes);
  }

  /** Gives standard input back and waits until all output is out. The device has ended, or was never connected. */
  async close(): Promise<void> {
    const { stdin, stdout } = process;
    if (this.#device !== undefined && !this.#timestamps.readableEnded) {
      await new Promise((resolve) => this.#timestamps.once('end', resolve).once('close', resolve));
    }
    stdin.off('data', this.#onData);
    stdin.pause();
    // a pipe or terminal that is only paused may still be waited for
    stdin.unref?.();
    process.off('SIGCONT', this.#continued);
    this.#restore();
    process.off('exit', this.#restore);
    if (!this.#outputGone) await new Promise<void>((resolve) => stdout.write('', () => resolve()));
  }

  readonly #ignore = (): void => {};
  readonly #onData = (bytes: Buffer): void => this.#parser.feed(bytes);
  readonly #onOutputError = (): void => {
    // the reader is gone (EPIPE, EIO): the guest goes on, unheard
    this.#outputGone = true;
    this.#timestamps.resume();
  };
  readonly #continued = (): void => this.#enterRaw();
  readonly #restore = (): void => {
    if (!this.#raw) return;
    this.#raw = false;
    try {
      process.stdin.setRawMode(false);
    } catch {
      // the terminal is gone
    }
  };
  #enterRaw(): void {
    const { stdin } = process;
    if (!stdin.isTTY) return;
    try {
      // again after SIGCONT: a shell has changed the modes meanwhile
      if (this.#raw) stdin.setRawMode(false);
      stdin.setRawMode(true);
      this.#raw = true;
    } catch {
      // the terminal is gone
    }
  }

  #print(bytes: Uint8Array): void {
    if (this.#outputGone) return;
    const { stdout } = process;
    if (stdout.write(bytes)) return;
    this.#timestamps.pause();
    stdout.once('drain', () => this.#timestamps.resume());
  }

  #toGuest(bytes: Uint8Array): void {
    // the bytes lie in a buffer that is used again
    const copy = Uint8Array.from(bytes);
    if (this.#device === undefined) this.#early.push(copy);
    else if (!this.#device.writableEnded && !this.#device.write(copy)) this.#waitForGuest(this.#device);
  }
  /** The guest does not take input as fast as it comes. Commands must get through: a terminal is read on. */
  #waitForGuest(device: TerminalDevice): void {
    const { stdin } = process;
    if (stdin.isTTY) return;
    stdin.pause();
    device.once('drain', () => stdin.resume());
  }

  #command(letter: string): void {
    switch (letter) {
      case 'x':
        this.#say('smp86: terminated\n');
        this.#actions.quit();
        break;
      case 'h':
      case '?':
        this.#say(ESCAPE_HELP);
        break;
      case 'b':
        this.#device?.sendBreak();
        break;
      case 't':
        this.#timestamps.enabled = !this.#timestamps.enabled;
        break;
      case 'c':
        this.#say('\nsmp86: there is no monitor yet\n');
        break;
    }
  }
  #say(text: string): void {
    // raw mode still turns a line feed into a new line
    this.#print(Buffer.from(text));
  }

  #signalKey(byte: number): void {
    // without a terminal these are bytes like others
    if (!process.stdin.isTTY) this.#toGuest(Uint8Array.of(byte));
    else if (byte === CTRL_C) this.#actions.interrupt('SIGINT');
    else if (byte === CTRL_BACKSLASH) this.#actions.interrupt('SIGQUIT');
    else {
      this.#restore();
      process.kill(process.pid, 'SIGTSTP');
    }
  }
}
