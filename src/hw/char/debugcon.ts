/** `isa-debugcon`: bytes written to a port go to a backend. Port 0xE9 by default. */
import { allOnes, type IoHandler } from '../device.ts';
import type { ByteSink } from './byte-sink.ts';

export const DEBUGCON_PORT = 0xe9;
/** What a read returns unless told otherwise, so that a guest can tell that the port is there. */
const READBACK = 0xe9;

/** Stateless. A byte that the backend has no room for is dropped. *Lock:* BQL. */
export class Debugcon implements IoHandler {
  readonly #sink: ByteSink;
  readonly #readback: number;

  constructor(sink: ByteSink, readback = READBACK) {
    this.#sink = sink;
    this.#readback = readback;
  }

  read(_offset: number, size: number): number {
    return size === 1 ? this.#readback & 0xff : allOnes(size);
  }

  write(_offset: number, _size: number, value: number): void {
    this.#sink.write(value & 0xff);
  }
}
