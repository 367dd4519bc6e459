/**
 * SpscRing: a stream of bytes from one producer to one consumer, without a lock. States, positions and
 * the memory-order argument: ring-header.ts. Bytes wrap round at the end of the data area, so a
 * contiguous view may be shorter than what is there.
 */
import { SyncError } from './errors.ts';
import { RING_ALIGN, RING_HEADER_BYTES, RingHeader } from './ring-header.ts';
import { viewsOf } from './struct.ts';
import { opsFor, type SyncOps } from './sync-ops.ts';

/** Above this many bytes a block copy beats a loop. */
const BLOCK_COPY = 32;

/**
 * A ring of bytes. All-zero memory is an empty one. *Thread:* producer's methods in one thread at a
 * time, consumer's in one. *Lock:* none.
 */
export class SpscRing {
  static readonly ALIGN = RING_ALIGN;
  readonly capacity: number;
  private readonly header: RingHeader;
  private readonly u8: Uint8Array<SharedArrayBuffer>;
  private readonly base: number;
  private readonly mask: number;

  /** Bytes that a ring of this capacity (a power of two, at least 16) takes. */
  static bytesFor(capacity: number): number {
    return RING_HEADER_BYTES + capacity;
  }

  constructor(buffer: SharedArrayBuffer, at: number, capacity: number, ops: SyncOps = opsFor(buffer)) {
    this.header = new RingHeader(buffer, at, capacity, ops);
    this.capacity = capacity;
    this.u8 = viewsOf(buffer).u8;
    this.base = this.header.base;
    this.mask = capacity - 1;
  }

  /** Empties it. Only while no other thread can know it. */
  init(): void {
    this.header.init();
  }

  /** Bytes to read. *Thread:* any. */
  get available(): number {
    return this.header.used();
  }
  /** Bytes that can be written. *Thread:* any. */
  get space(): number {
    return this.header.free();
  }

  // --- producer ---

  /** Writes as much of `src[from … to-1]` as fits; returns how much. *May block:* no. */
  write(src: Uint8Array, from = 0, to: number = src.length): number {
    const n = Math.min(to - from, this.header.free());
    if (n <= 0) return 0;
    const tail = this.header.tail();
    if (n <= BLOCK_COPY) {
      for (let i = 0; i < n; i++) this.u8[this.base + ((tail + i) & this.mask)] = src[from + i];
    } else {
      const place = tail & this.mask;
      const first = Math.min(n, this.capacity - place);
      this.u8.set(src.subarray(from, from + first), this.base + place);
      if (first < n) this.u8.set(src.subarray(from + first, from + n), this.base);
    }
    this.header.publish((tail + n) | 0);
    return n;
  }

  /** False if it is full. *May block:* no. */
  writeByte(value: number): boolean {
    if (this.header.free() === 0) return false;
    const tail = this.header.tail();
    this.u8[this.base + (tail & this.mask)] = value;
    this.header.publish((tail + 1) | 0);
    return true;
  }

  /** The first contiguous free bytes, to be filled in place and then published by `commit`. */
  writable(): Uint8Array<SharedArrayBuffer> {
    const place = this.header.tail() & this.mask;
    const n = Math.min(this.header.free(), this.capacity - place);
    return this.u8.subarray(this.base + place, this.base + place + n);
  }

  /** Publishes `n` bytes written through `writable`. @throws SyncError `bad-argument` if there is no such room */
  commit(n: number): void {
    if (n < 0 || n > this.header.free()) throw new SyncError('bad-argument', `commit of ${n} bytes`);
    this.header.publish((this.header.tail() + n) | 0);
  }

  /** Writes all of `src`, sleeping for space; returns how much was written, less only if full and closed. *May block:* yes. */
  writeAll(src: Uint8Array): number {
    let done = 0;
    while (done < src.length) {
      if (!this.header.waitFree(1, Infinity)) break;
      done += this.write(src, done);
    }
    return done;
  }

  /** As `writeAll` for a thread that must not block. */
  async writeAllAsync(src: Uint8Array): Promise<number> {
    let done = 0;
    while (done < src.length) {
      if (!(await this.header.waitFreeAsync(1, Infinity))) break;
      done += this.write(src, done);
    }
    return done;
  }

  /** Sleeps until `n` bytes are free; false if that did not come within `timeoutNs` or before the close. *May block:* yes. */
  waitSpace(n = 1, timeoutNs = Infinity): boolean {
    return this.header.waitFree(this.checked(n), timeoutNs);
  }
  /** As `waitSpace` for a thread that must not block. */
  waitSpaceAsync(n = 1, timeoutNs = Infinity): Promise<boolean> {
    return this.header.waitFreeAsync(this.checked(n), timeoutNs);
  }

  // --- consumer ---

  /** Moves bytes to `dst[from … to-1]`; returns how many. *May block:* no. */
  read(dst: Uint8Array, from = 0, to: number = dst.length): number {
    const n = this.peek(dst, from, to);
    if (n > 0) this.header.release((this.header.head() + n) | 0);
    return n;
  }

  /** The next byte, or -1. *May block:* no. */
  readByte(): number {
    if (this.header.used() === 0) return -1;
    const head = this.header.head();
    const value = this.u8[this.base + (head & this.mask)];
    this.header.release((head + 1) | 0);
    return value;
  }

  /** Copies like `read`, and leaves the bytes in the ring. *May block:* no. */
  peek(dst: Uint8Array, from = 0, to: number = dst.length): number {
    const n = Math.min(to - from, this.header.used());
    if (n <= 0) return 0;
    const head = this.header.head();
    if (n <= BLOCK_COPY) {
      for (let i = 0; i < n; i++) dst[from + i] = this.u8[this.base + ((head + i) & this.mask)];
    } else {
      const place = head & this.mask;
      const first = Math.min(n, this.capacity - place);
      dst.set(this.u8.subarray(this.base + place, this.base + place + first), from);
      if (first < n) dst.set(this.u8.subarray(this.base, this.base + n - first), from + first);
    }
    return n;
  }

  /** The byte `index` places after the next one, or -1. *May block:* no. */
  peekByte(index = 0): number {
    if (index >= this.header.used()) return -1;
    return this.u8[this.base + ((this.header.head() + index) & this.mask)];
  }

  /** The first contiguous bytes, where they lie; they stay until `consume`. */
  readable(): Uint8Array<SharedArrayBuffer> {
    const place = this.header.head() & this.mask;
    const n = Math.min(this.header.used(), this.capacity - place);
    return this.u8.subarray(this.base + place, this.base + place + n);
  }

  /** Drops `n` bytes. @throws SyncError `bad-argument` if there are fewer */
  consume(n: number): void {
    if (n < 0 || n > this.header.used()) throw new SyncError('bad-argument', `consume of ${n} bytes`);
    this.header.release((this.header.head() + n) | 0);
  }

  /** Sleeps until `n` bytes are there; false if they did not come within `timeoutNs` or before the close. *May block:* yes. */
  waitData(n = 1, timeoutNs = Infinity): boolean {
    return this.header.waitUsed(this.checked(n), timeoutNs);
  }
  /** As `waitData` for a thread that must not block. */
  waitDataAsync(n = 1, timeoutNs = Infinity): Promise<boolean> {
    return this.header.waitUsedAsync(this.checked(n), timeoutNs);
  }

  // --- both ---

  /**
   * Ends all waits, now and later: nothing more is to come, or nobody reads any more. What is in the
   * ring can still be read. *Thread:* any.
   */
  close(): void {
    this.header.close();
  }
  get closed(): boolean {
    return this.header.closed();
  }

  private checked(n: number): number {
    if (n > this.capacity) throw new SyncError('bad-argument', `${n} bytes never fit into ${this.capacity}`);
    return n;
  }
}
