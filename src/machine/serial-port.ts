/** The host side of a serial port or debug console: byte rings in shared memory, as a Node stream. */
import { Duplex } from 'node:stream';
import { keepAlive, type SpscRing } from '@smp86/atomics-sync';

const CHUNK = 65536;
/** Characters that are kept for `waitFor`, and bytes that are kept until the stream's first reader comes. */
const KEPT = 65536;

/** A `waitFor` whose pattern did not come. */
export class SerialWaitError extends Error {
  /** The time was over, or the machine ended before. */
  readonly code: 'ERR_SERIAL_TIMEOUT' | 'ERR_SERIAL_CLOSED';
  constructor(code: SerialWaitError['code'], message: string) {
    super(message);
    this.name = 'SerialWaitError';
    this.code = code;
  }
}

export interface WaitForOptions {
  /** Milliseconds; default 60 000. */
  readonly timeout?: number;
}

/** What a port hangs on. */
export interface SerialLink {
  readonly fromGuest: SpscRing;
  /** Absent: the guest takes no input (a debug console). */
  readonly toGuest?: SpscRing;
  /** Called after bytes were taken from `fromGuest`. */
  outputTaken?(): void;
  /** Called after bytes were put into `toGuest`. */
  inputArrived(): void;
  /** Puts a break condition on the line. */
  sendBreak(): void;
}

interface Waiter {
  /** Looks at the text; true when done. */
  look(): boolean;
  closed(): void;
}

/**
 * Readable: what the guest writes, as bytes. A reader that does not keep up makes the guest's transmitter wait;
 * without a reader the bytes are dropped, but for the last 64 KiB, which the first reader gets. Writable: input for
 * the guest. `waitFor` sees the output whether or not somebody reads the stream. *Thread:* host.
 */
export class SerialPort extends Duplex {
  #link: SerialLink | undefined;
  readonly #buffer = new Uint8Array(CHUNK);
  readonly #decoder = new TextDecoder();
  readonly #waiters = new Set<Waiter>();
  /** Decoded output since the last match. */
  #text = '';
  /** Output from before the first read. */
  #backlog: Uint8Array[] = [];
  #backlogSize = 0;
  #reading = false;
  #stalled = false;

  /** Made by the machine. */
  constructor(link: SerialLink) {
    super({ allowHalfOpen: false, readableHighWaterMark: CHUNK });
    this.#link = link;
    // input that comes in the moment of the machine's end goes nowhere; that is nobody's fault
    this.on('error', () => {});
  }

  /** True once the machine has ended. */
  get ended(): boolean {
    return this.#link === undefined;
  }

  /** Types text as at a terminal: a newline is the Enter key (CR). `write` sends bytes as they are. */
  type(text: string): void {
    if (!this.ended) this.write(text.replace(/\r?\n/g, '\r'));
  }

  /** Puts a break condition on the line (Linux: the magic SysRq key). */
  sendBreak(): void {
    this.#link?.sendBreak();
  }

  /**
   * Resolves once the output since the last match contains `pattern`, with that output up to the end of the match.
   * *Errors:* SerialWaitError after `timeout` ms, or when the machine ends first.
   */
  async waitFor(pattern: string | RegExp, { timeout = 60_000 }: WaitForOptions = {}): Promise<string> {
    const find = matcher(pattern);
    const take = (): string | undefined => {
      const end = find(this.#text);
      if (end < 0) return undefined;
      const seen = this.#text.slice(0, end);
      this.#text = this.#text.slice(end);
      return seen;
    };
    const now = take();
    if (now !== undefined) return now;
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    const fail = (code: SerialWaitError['code'], why: string): void => {
      const tail = JSON.stringify(this.#text.slice(-400));
      reject(
        new SerialWaitError(code, `${why} before ${String(pattern)} came; the output ends with ${tail}`),
      );
    };
    if (this.ended) fail('ERR_SERIAL_CLOSED', 'the machine ended');
    const waiter: Waiter = {
      look: () => {
        const seen = take();
        if (seen !== undefined) resolve(seen);
        return seen !== undefined;
      },
      closed: () => fail('ERR_SERIAL_CLOSED', 'the machine ended'),
    };
    const timer = setTimeout(() => fail('ERR_SERIAL_TIMEOUT', `${timeout} ms passed`), timeout);
    this.#waiters.add(waiter);
    try {
      return await promise;
    } finally {
      clearTimeout(timer);
      this.#waiters.delete(waiter);
    }
  }

  /** Takes what the guest has written. @internal */
  drain(): void {
    while (!this.#stalled) {
      const n = this.#link?.fromGuest.read(this.#buffer) ?? 0;
      if (n === 0) return;
      this.#link?.outputTaken?.();
      const bytes = this.#buffer.slice(0, n);
      this.#note(bytes);
      if (!this.#reading) this.#remember(bytes);
      else if (!this.push(bytes)) this.#stalled = true;
    }
  }
  /** The machine has ended: takes the last output, however far behind the reader is. @internal */
  finish(): void {
    this.#stalled = false;
    for (;;) {
      this.drain();
      if (!this.#stalled) break;
      this.#stalled = false;
    }
    this.#link?.toGuest?.close();
    this.#link = undefined;
    for (const waiter of this.#waiters) waiter.closed();
    // for a reader that comes yet
    if (!this.#reading) this.#pushBacklog();
    this.push(null);
  }

  #note(bytes: Uint8Array): void {
    this.#text += this.#decoder.decode(bytes, { stream: true });
    if (this.#text.length > 4 * KEPT) this.#text = this.#text.slice(-KEPT);
    for (const waiter of this.#waiters) if (waiter.look()) this.#waiters.delete(waiter);
  }
  #remember(bytes: Uint8Array): void {
    this.#backlog.push(bytes);
    this.#backlogSize += bytes.length;
    while (this.#backlogSize - this.#backlog[0].length >= KEPT)
      this.#backlogSize -= this.#backlog.shift()!.length;
  }

  #pushBacklog(): void {
    this.#reading = true;
    const backlog = this.#backlog;
    this.#backlog = [];
    for (const bytes of backlog) if (!this.push(bytes)) this.#stalled = true;
  }

  // --- stream ---

  override _read(): void {
    this.#stalled = false;
    if (!this.#reading) this.#pushBacklog();
    this.drain();
  }
  override _write(chunk: Uint8Array, _encoding: BufferEncoding, done: () => void): void {
    void this.#send(chunk).then(() => done());
  }
  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    // nobody reads any more: the guest need not wait
    this.#reading = false;
    this.#stalled = false;
    done(error);
  }
  async #send(bytes: Uint8Array): Promise<void> {
    let sent = 0;
    for (;;) {
      const link = this.#link;
      if (link?.toGuest === undefined) return;
      sent += link.toGuest.write(bytes, sent);
      link.inputArrived();
      if (sent === bytes.length) return;
      if (!(await keepAlive(link.toGuest.waitSpaceAsync()))) return;
    }
  }
}

/** Gives the index after the first match in a text, or -1. */
function matcher(pattern: string | RegExp): (text: string) => number {
  if (typeof pattern === 'string') {
    return (text) => {
      const at = text.indexOf(pattern);
      return at < 0 ? -1 : at + pattern.length;
    };
  }
  // a global or sticky expression remembers where it was; this one must not
  const plain = new RegExp(pattern.source, pattern.flags.replace(/[gy]/g, ''));
  return (text) => {
    const match = plain.exec(text);
    return match === null ? -1 : match.index + match[0].length;
  };
}
