/** `isa-debugcon`: bytes written to a port go to a backend. Port 0xE9 by default. */
import { allOnes, type IoHandler } from '../device.ts';
import type { ByteSink } from './byte-sink.ts';

export const DEBUGCON_PORT = 0xe9;
/** What a read returns, so that a guest can tell that the port is there. */
const READBACK = 0xe9;

/** Stateless. A byte that the backend has no room for is dropped. *Lock:* BQL. */
export class Debugcon implements IoHandler {
  readonly #sink: ByteSink;

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  read(_offset: number, size: number): number {
    return size === 1 ? READBACK : allOnes(size);
  }

  write(_offset: number, _size: number, value: number): void {
    this.#sink.write(value & 0xff);
  }
}
