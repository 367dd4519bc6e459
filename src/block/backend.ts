/**
 * BlockBackend: what a device (or a job) holds of a block graph. It checks bounds, aligns requests, puts overlapping
 * writes in order, counts what is under way, and decides what becomes of an error.
 */
import { BlockError } from './errors.ts';
import { iovGather, iovIsZero, iovLength, iovWrite } from './iov.ts';
import type { Throttle } from './throttle.ts';
import type { BlockNode, BlockStatus, Done, IoVector, WriteFlags, ZeroFlags } from './node.ts';

/** `detect-zeroes=`. */
export type DetectZeroes = 'off' | 'on' | 'unmap';
/** `werror=`, `rerror=`. */
export type ErrorPolicy = 'report' | 'ignore' | 'enospc' | 'stop';
/** What the device does about a failed request. */
export type ErrorAction = 'report' | 'ignore' | 'stop';

export interface BackendOptions {
  /** `cache=writethrough`, `directsync`: a write is stable when it is done. */
  readonly writethrough?: boolean;
  /** `discard=unmap`; otherwise discards are ignored. */
  readonly unmap?: boolean;
  readonly detectZeroes?: DetectZeroes;
  /** Default: `enospc` for writes, `report` for reads. */
  readonly werror?: ErrorPolicy;
  readonly rerror?: ErrorPolicy;
  /** I/O limits. */
  readonly throttle?: Throttle;
  /** Those of filter nodes below. */
  readonly filters?: readonly Throttle[];
}

/** A write under way. */
interface Tracked {
  readonly start: number;
  readonly end: number;
  /** Made when somebody waits for it. */
  waiters: (() => void)[] | undefined;
}

/** A write as it was asked for, and its range in whole units of the root's alignment. */
interface Write {
  readonly offset: number;
  readonly from: IoVector;
  readonly start: number;
  readonly end: number;
  readonly flags: WriteFlags | undefined;
}

/** *Thread:* the context's. Requests fail by rejecting with BlockError; none throws. */
export class BlockBackend {
  #root: BlockNode | undefined;
  readonly #options: BackendOptions;
  readonly #writes: Tracked[] = [];
  #writeCache: boolean;
  #inFlight = 0;
  #quiesced = 0;
  #idle: (() => void)[] = [];
  #resumed: (() => void)[] = [];

  constructor(root: BlockNode | undefined, options: BackendOptions = {}) {
    this.#root = root;
    this.#options = options;
    this.#writeCache = !(options.writethrough ?? false);
  }

  /** The node under it; throws ENOMEDIUM when there is none. */
  get root(): BlockNode {
    if (!this.#root) throw new BlockError('ENOMEDIUM', 'No medium found');
    return this.#root;
  }
  get hasMedium(): boolean {
    return this.#root !== undefined;
  }
  /** Bytes; 0 without a medium. */
  get size(): number {
    return this.#root?.size ?? 0;
  }
  get readOnly(): boolean {
    return this.#root?.readOnly ?? false;
  }
  get unmap(): boolean {
    return this.#options.unmap ?? false;
  }
  /** Whether a write may be done before it is on stable storage; a device's register may change it. */
  get writeCache(): boolean {
    return this.#writeCache;
  }
  set writeCache(on: boolean) {
    this.#writeCache = on;
  }
  /** Requests that have begun and not ended. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Another medium, or none; returns the one that was there, to be closed. Drained. */
  replaceRoot(root: BlockNode | undefined): BlockNode | undefined {
    const old = this.#root;
    this.#root = root;
    return old;
  }

  /** What to do about `error`, by `werror` or `rerror`. */
  errorAction(error: BlockError, isWrite: boolean): ErrorAction {
    const policy = isWrite ? (this.#options.werror ?? 'enospc') : (this.#options.rerror ?? 'report');
    if (policy === 'enospc') return error.code === 'ENOSPC' ? 'stop' : 'report';
    return policy;
  }

  /** Fills `to` from `offset`, bytes. */
  read(offset: number, to: IoVector): Done {
    const length = iovLength(to);
    const wait = this.#begin(false, length);
    return wait === undefined ? this.#readNow(offset, to, length) : this.#readLater(wait, offset, to, length);
  }

  async #readLater(wait: Promise<void>, offset: number, to: IoVector, length: number): Promise<void> {
    await wait;
    await this.#readNow(offset, to, length);
  }

  #readNow(offset: number, to: IoVector, length: number): Done {
    let under: Done;
    try {
      const root = this.#check(offset, length);
      const align = root.limits.requestAlignment;
      if ((offset % align === 0 && length % align === 0) || length === 0) under = root.read(offset, to);
      else under = readUnaligned(root, offset, to, length, align);
    } catch (error) {
      under = Promise.reject(error as BlockError);
    }
    return this.#ended(under, undefined);
  }

  write(offset: number, from: IoVector, flags?: WriteFlags): Done {
    const length = iovLength(from);
    const wait = this.#begin(true, length);
    return wait === undefined
      ? this.#writeNow(offset, from, length, flags)
      : this.#writeLater(wait, offset, from, length, flags);
  }

  async #writeLater(
    wait: Promise<void>,
    offset: number,
    from: IoVector,
    length: number,
    flags: WriteFlags | undefined,
  ): Promise<void> {
    await wait;
    await this.#writeNow(offset, from, length, flags);
  }

  #writeNow(offset: number, from: IoVector, length: number, flags: WriteFlags | undefined): Done {
    let tracked: Tracked | undefined;
    let under: Done;
    try {
      const root = this.#checkWrite(offset, length);
      if (length > 0) {
        const align = root.limits.requestAlignment;
        const start = offset - (offset % align);
        const end = Math.ceil((offset + length) / align) * align;
        const order = this.#track(start, end);
        const write = { offset, from, start, end, flags };
        if (order instanceof Promise) return this.#writeInOrder(order, root, write);
        tracked = order;
        under = this.#writeTracked(root, write);
      }
    } catch (error) {
      under = Promise.reject(error as BlockError);
    }
    return this.#ended(under, tracked);
  }

  async #writeInOrder(order: Promise<Tracked>, root: BlockNode, write: Write): Promise<void> {
    const tracked = await order;
    let under: Done;
    try {
      under = this.#writeTracked(root, write);
    } catch (error) {
      under = Promise.reject(error as BlockError);
    }
    await this.#ended(under, tracked);
  }

  /** A write whose turn it is. */
  #writeTracked(root: BlockNode, { offset, from, start, end, flags }: Write): Done {
    const aligned = start === offset && end === offset + iovLength(from);
    const under = aligned
      ? this.#writeAligned(root, offset, from, flags)
      : writeUnaligned(root, offset, from, start, end);
    const fua = flags?.fua === true;
    // the pieces of an unaligned write do not carry the flag
    const flush = (fua || !this.#writeCache) && !(fua && aligned);
    return flush ? flushAfter(root, under) : under;
  }

  #writeAligned(root: BlockNode, offset: number, from: IoVector, flags: WriteFlags | undefined): Done {
    const { detectZeroes } = this.#options;
    if (detectZeroes !== undefined && detectZeroes !== 'off' && iovIsZero(from)) {
      // a copy, if the guest changed it meanwhile, is what it asked for too: zeroes were there
      const mayUnmap = detectZeroes === 'unmap' && this.unmap;
      return root.writeZeroes(offset, iovLength(from), { ...flags, mayUnmap });
    }
    return root.write(offset, from, flags);
  }

  /** A request ends when what was asked of the nodes has. */
  #ended(under: Done, tracked: Tracked | undefined): Done {
    if (under !== undefined) return this.#endedLater(under, tracked);
    if (tracked !== undefined) this.#untrack(tracked);
    this.#end();
    return undefined;
  }

  async #endedLater(under: Promise<void>, tracked: Tracked | undefined): Promise<void> {
    try {
      await under;
    } finally {
      if (tracked !== undefined) this.#untrack(tracked);
      this.#end();
    }
  }

  async writeZeroes(offset: number, length: number, flags?: ZeroFlags): Promise<void> {
    await this.#changing(offset, length, async (root) => {
      const mayUnmap = flags?.mayUnmap === true && this.unmap;
      const step = root.limits.maxWriteZeroes;
      for (let at = offset; at < offset + length; at += step) {
        await root.writeZeroes(at, Math.min(step, offset + length - at), { ...flags, mayUnmap });
      }
      if (!this.#writeCache && flags?.fua !== true) await root.flush();
    });
  }

  async discard(offset: number, length: number): Promise<void> {
    await this.#changing(offset, length, async (root) => {
      if (!this.unmap) return;
      const step = root.limits.maxDiscard;
      for (let at = offset; at < offset + length; at += step) {
        await root.discard(at, Math.min(step, offset + length - at));
      }
    });
  }

  /** Whole clusters, compressed, where the format can. */
  async writeCompressed(offset: number, from: IoVector): Promise<void> {
    await this.#changing(offset, iovLength(from), (root) => root.writeCompressed(offset, from));
  }

  /** A request that changes a range, after those under way that overlap it. `write` comes too often for this. */
  async #changing(offset: number, length: number, body: (root: BlockNode) => Promise<void>): Promise<void> {
    // without a pause, where there is none to be: requests are put in order as they come
    const wait = this.#begin(true, length);
    if (wait) await wait;
    let tracked: Tracked | undefined;
    try {
      const root = this.#checkWrite(offset, length);
      if (length === 0) return;
      const order = this.#track(offset, offset + length);
      tracked = order instanceof Promise ? await order : order;
      await body(root);
    } finally {
      if (tracked) this.#untrack(tracked);
      this.#end();
    }
  }

  /** What was written before the call is on stable storage. Without a medium there is nothing to do. */
  async flush(): Promise<void> {
    await this.#beginUnthrottled();
    try {
      if (this.#root && !this.#root.readOnly) await this.#root.flush();
    } finally {
      this.#end();
    }
  }

  async blockStatus(offset: number, length: number): Promise<BlockStatus> {
    return this.#check(offset, length).blockStatus(offset, length);
  }

  /** I/O limits hold nobody up from here on, and who waits for them goes. Pair with `resumeThrottling`. */
  suspendThrottling(): void {
    const { throttle, filters = [] } = this.#options;
    throttle?.suspend();
    for (const filter of filters) filter.suspend();
  }
  resumeThrottling(): void {
    const { throttle, filters = [] } = this.#options;
    throttle?.resume();
    for (const filter of filters) filter.resume();
  }

  /** Resolves when no request is under way. Those that wait for I/O limits count. */
  async drain(): Promise<void> {
    while (this.#inFlight > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** New requests wait from here on; resolves when none is under way. Pair with `drainEnd`. */
  async drainBegin(): Promise<void> {
    this.#quiesced++;
    this.suspendThrottling();
    await this.drain();
  }
  drainEnd(): void {
    this.resumeThrottling();
    if (--this.#quiesced > 0) return;
    for (const resume of this.#resumed.splice(0)) resume();
  }

  /** Waits for what is under way, writes back, and closes the nodes. */
  async close(): Promise<void> {
    await this.drainBegin();
    const root = this.replaceRoot(undefined);
    try {
      await root?.close();
    } finally {
      this.drainEnd();
    }
  }

  /** Counts a request; undefined: it may go at once. One that waits for I/O limits counts as under way. */
  #begin(isWrite: boolean, bytes: number): Promise<void> | undefined {
    if (this.#quiesced > 0) return this.#beginLater(isWrite, bytes);
    this.#inFlight++;
    return this.#options.throttle?.wait(isWrite, bytes);
  }

  #beginUnthrottled(): Promise<void> | undefined {
    if (this.#quiesced === 0) {
      this.#inFlight++;
      return undefined;
    }
    return (async () => {
      while (this.#quiesced > 0) await new Promise<void>((resolve) => this.#resumed.push(resolve));
      this.#inFlight++;
    })();
  }

  async #beginLater(isWrite: boolean, bytes: number): Promise<void> {
    while (this.#quiesced > 0) await new Promise<void>((resolve) => this.#resumed.push(resolve));
    const throttled = this.#begin(isWrite, bytes);
    if (throttled) await throttled;
  }

  #end(): void {
    if (--this.#inFlight === 0 && this.#idle.length > 0) {
      for (const resolve of this.#idle.splice(0)) resolve();
    }
  }

  #check(offset: number, length: number): BlockNode {
    const { root } = this;
    if (!Number.isSafeInteger(offset) || !Number.isSafeInteger(length) || offset < 0 || length < 0) {
      throw new BlockError('EINVAL', 'Invalid argument');
    }
    if (offset + length > root.size) throw new BlockError('EIO', 'Input/output error');
    return root;
  }

  #checkWrite(offset: number, length: number): BlockNode {
    const root = this.#check(offset, length);
    if (root.readOnly) throw new BlockError('EPERM', 'Operation not permitted');
    return root;
  }

  /** Waits for writes under way that touch [start, end), then counts as one itself. */
  #track(start: number, end: number): Tracked | Promise<Tracked> {
    const writes = this.#writes;
    for (let i = 0; i < writes.length; i++) {
      const other = writes[i];
      if (other.start < end && start < other.end) return this.#trackLater(start, end);
    }
    const tracked: Tracked = { start, end, waiters: undefined };
    writes.push(tracked);
    return tracked;
  }

  async #trackLater(start: number, end: number): Promise<Tracked> {
    const tracked: Tracked = { start, end, waiters: undefined };
    // it is in the list at once: who comes later waits for it in turn
    const before = this.#writes.filter((other) => other.start < end && start < other.end);
    this.#writes.push(tracked);
    for (const other of before) {
      if (!this.#writes.includes(other)) continue;
      await new Promise<void>((resolve) => (other.waiters ??= []).push(resolve));
    }
    return tracked;
  }

  #untrack(tracked: Tracked): void {
    const index = this.#writes.indexOf(tracked);
    const last = this.#writes.pop();
    if (last && last !== tracked) this.#writes[index] = last;
    if (tracked.waiters) for (const resume of tracked.waiters) resume();
  }
}

async function flushAfter(root: BlockNode, under: Done): Promise<void> {
  await under;
  await root.flush();
}

async function readUnaligned(
  root: BlockNode,
  offset: number,
  to: IoVector,
  length: number,
  align: number,
): Promise<void> {
  const start = offset - (offset % align);
  const end = Math.ceil((offset + length) / align) * align;
  const bounce = new Uint8Array(end - start);
  await root.read(start, [bounce]);
  iovWrite(to, 0, bounce.subarray(offset - start, offset - start + length));
}

/** Reads what is around, puts the data in, writes all of [start, end). */
async function writeUnaligned(
  root: BlockNode,
  offset: number,
  from: IoVector,
  start: number,
  end: number,
): Promise<void> {
  const bounce = new Uint8Array(end - start);
  await root.read(start, [bounce]);
  bounce.set(iovGather(from), offset - start);
  await root.write(start, [bounce]);
}
