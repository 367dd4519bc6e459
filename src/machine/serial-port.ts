/** The host side of a serial port: two byte rings, as a readable and writable end. *Thread:* host. */
import { EventEmitter } from 'node:events';
import type { SpscRing } from '@smp86/atomics-sync';

const CHUNK = 65536;

export class SerialTimeoutError extends Error {
  readonly code = 'ERR_SERIAL_TIMEOUT';
}

interface SerialEvents {
  data: [Uint8Array];
  close: [];
}

export class SerialPort extends EventEmitter<SerialEvents> {
  private readonly fromGuest: SpscRing;
  private readonly toGuest: SpscRing;
  private readonly inputArrived: () => void;
  private readonly buffer = new Uint8Array(CHUNK);
  private queued: Uint8Array[] = [];
  private readonly decoder = new TextDecoder();
  private text = '';
  private closed = false;

  constructor(fromGuest: SpscRing, toGuest: SpscRing, inputArrived: () => void) {
    super();
    this.fromGuest = fromGuest;
    this.toGuest = toGuest;
    this.inputArrived = inputArrived;
  }

  /** Takes what the guest has written. Called by the machine. */
  drain(): void {
    for (;;) {
      const n = this.fromGuest.read(this.buffer);
      if (n === 0) return;
      const bytes = this.buffer.slice(0, n);
      this.text += this.decoder.decode(bytes, { stream: true });
      // the text is for waitFor; what nobody waits for is dropped
      if (this.text.length > 4 * CHUNK) this.text = this.text.slice(-CHUNK);
      this.emit('data', bytes);
    }
  }

  /** Sends bytes to the guest. They wait here when the guest does not take them. */
  write(data: Uint8Array | string): void {
    this.queued.push(typeof data === 'string' ? new TextEncoder().encode(data) : data);
    this.flush();
  }
  private flush(): void {
    while (this.queued.length > 0) {
      const head = this.queued[0];
      const n = this.toGuest.write(head);
      if (n < head.length) {
        this.queued[0] = head.subarray(n);
        if (!this.closed) setTimeout(() => this.flush(), 20).unref();
        break;
      }
      this.queued.shift();
    }
    this.inputArrived();
  }
  /** Types text, as if at a terminal. */
  type(text: string): void {
    this.write(text);
  }

  /**
   * Resolves with the match once the output since the last `waitFor` contains `pattern`.
   * *Errors:* SerialTimeoutError after `timeout` ms (default 60 000), or when the port closes.
   */
  async waitFor(pattern: string | RegExp, { timeout = 60_000 }: { timeout?: number } = {}): Promise<string> {
    const find = (): string | undefined => {
      const at = typeof pattern === 'string' ? this.text.indexOf(pattern) : this.text.search(pattern);
      if (at < 0) return undefined;
      const match = typeof pattern === 'string' ? pattern : (pattern.exec(this.text)?.[0] ?? '');
      const seen = this.text.slice(0, at + match.length);
      this.text = this.text.slice(at + match.length);
      return seen;
    };
    const now = find();
    if (now !== undefined) return now;
    return await new Promise<string>((resolve, reject) => {
      const fail = (why: string): void => {
        stop();
        reject(
          new SerialTimeoutError(
            `${why} before ${String(pattern)}; the output ends: ${this.text.slice(-400)}`,
          ),
        );
      };
      const onData = (): void => {
        const seen = find();
        if (seen === undefined) return;
        stop();
        resolve(seen);
      };
      const onClose = (): void => fail('the machine ended');
      const timer = setTimeout(() => fail(`${timeout} ms passed`), timeout);
      const stop = (): void => {
        clearTimeout(timer);
        this.off('data', onData);
        this.off('close', onClose);
      };
      this.on('data', onData);
      this.on('close', onClose);
    });
  }

  close(): void {
    this.drain();
    this.closed = true;
    this.emit('close');
  }
}
