/**
 * Serves the queues of a virtio block device, in the iothread of its drive. VIRTIO 1.1, 5.2.6. A request is a
 * coroutine; any number of them is under way, at most as many as a queue has descriptors.
 */
import type { Poller } from '../../aio/aio-context.ts';
import { BlockError } from '../../block/errors.ts';
import { type DriveRequests, SECTOR_SIZE } from '../block/drive.ts';
import type { ErrorAction } from '../../block/backend.ts';
import type { GuestRam, Pieces } from '../guest-ram.ts';
import { VirtioError } from './errors.ts';
import { BLK_S, BLK_T, MAX_ZERO_SECTORS, SERIAL_SIZE, type VirtioBlk } from './virtio-blk.ts';
import type { VirtioPci } from './virtio-pci.ts';
import { FEATURE, RUN } from './virtio-state.ts';
import { type Chain, Virtqueue } from './virtqueue.ts';

const HEADER_SIZE = 16;
const SEGMENT_SIZE = 16;
const SEGMENT_UNMAP = 1;

export interface VirtioBlkServerDeps {
  readonly device: VirtioPci;
  readonly model: VirtioBlk;
  readonly drive: DriveRequests;
  readonly ram: GuestRam;
  /** Decides about a failed request; 'stop' has asked for the machine's stop. */
  readonly failed: (error: BlockError, write: boolean) => ErrorAction;
  /** The driver broke the rules. */
  readonly guestError: (message: string) => void;
}

/** A queue that is being served. */
interface Served {
  readonly index: number;
  readonly queue: Virtqueue;
  readonly size: number;
  inFlight: number;
  /** Something was pushed since the driver was last told. */
  pushed: boolean;
  /** There may be requests that were not taken since too many were under way. */
  held: boolean;
}

/** A failed request that waits for the machine to go on. */
interface Parked {
  readonly served: Served;
  readonly chain: Chain;
}

/** *Thread:* iothread of the drive. *Lock:* none. */
export class VirtioBlkServer implements Poller {
  readonly #deps: VirtioBlkServerDeps;
  #queues: (Served | undefined)[] = [];
  #epoch = 0;
  /** Some queue has `pushed`. */
  #pushed = false;
  #broken = false;
  /** No requests are taken: the machine is stopped, as it is at first. */
  #quiesced = true;
  #inFlight = 0;
  #parked: Parked[] = [];
  #idle: (() => void)[] = [];

  constructor(deps: VirtioBlkServerDeps) {
    this.#deps = deps;
  }

  /** Takes no more requests; resolves when none is under way. */
  async quiesce(): Promise<void> {
    this.#quiesced = true;
    while (this.#inFlight > 0) await new Promise<void>((resolve) => this.#idle.push(resolve));
  }

  /** A failed request waits for the machine to go on. */
  get parked(): boolean {
    return this.#parked.length > 0;
  }

  /** Quiesced: tells the driver what it has not been told, since another thread is to serve it. */
  settle(): void {
    this.#interrupt();
  }

  /** Goes on, first with the requests that failed when the machine was stopped for it. */
  resume(): void {
    this.#quiesced = false;
    this.#followState();
    const parked = this.#parked;
    this.#parked = [];
    for (const { served, chain } of parked) this.#submit(served, chain);
  }

  ready(): boolean {
    if (this.#quiesced) return false;
    const { state } = this.#deps.device;
    const run = state.run.load();
    if (run === RUN.STOPPING) return this.#inFlight === 0;
    if (run !== RUN.RUNNING) return false;
    if (state.epoch.load() !== this.#epoch) return true;
    if (this.#pushed) return true;
    if (!this.#mayServe) return false;
    for (const word of state.kicks) if (word.load() !== 0) return true;
    return false;
  }

  get #mayServe(): boolean {
    return !this.#broken && this.#deps.device.pci.busMaster;
  }

  poll(): boolean {
    if (!this.ready()) return false;
    if (!this.#followState()) return true;
    const { device } = this.#deps;
    if (this.#mayServe) {
      device.state.kicks.forEach((word, w) => {
        if (word.load() === 0) return;
        let bits = word.exchange(0);
        while (bits !== 0) {
          const bit = 31 - Math.clz32(bits);
          bits &= ~(1 << bit);
          const served = this.#queues[w * 32 + bit];
          if (served !== undefined && !this.#broken) this.#serve(served);
        }
      });
    }
    this.#interrupt();
    return true;
  }

  #interrupt(): void {
    if (!this.#pushed) return;
    this.#pushed = false;
    for (const served of this.#queues) {
      if (served?.pushed !== true) continue;
      served.pushed = false;
      if (served.queue.wantsInterrupt()) this.#deps.device.interruptQueue(served.index);
    }
  }

  /** Makes the queues when the driver has started the device, lets them go when it resets it. True while it runs. */
  #followState(): boolean {
    const { device, model, ram } = this.#deps;
    const { state } = device;
    const run = state.run.load();
    const epoch = state.epoch.load();
    if (epoch !== this.#epoch || run !== RUN.RUNNING) {
      this.#parked = [];
      if (this.#inFlight > 0) return false;
      this.#queues = [];
      this.#pushed = this.#broken = false;
    }
    if (run === RUN.STOPPING) {
      state.run.compareExchange(RUN.STOPPING, RUN.IDLE);
      state.run.notify();
      return false;
    }
    if (run !== RUN.RUNNING) return false;
    if (epoch === this.#epoch) return true;
    this.#epoch = epoch;
    const features = { indirect: device.has(FEATURE.INDIRECT_DESC), eventIdx: device.has(FEATURE.EVENT_IDX) };
    this.#guarded(() => {
      for (let index = 0; index < model.queues; index++) {
        const ring = state.queues[index];
        if (!ring.enabled) continue;
        const queue = new Virtqueue(ring, ram, features);
        this.#queues[index] = { index, queue, size: ring.size, inFlight: 0, pushed: false, held: false };
      }
    });
    return true;
  }

  /** Runs `body`; a mistake of the driver breaks this device and nothing else. */
  #guarded(body: () => void): void {
    try {
      body();
    } catch (error) {
      if (!(error instanceof VirtioError)) throw error;
      this.#broken = true;
      this.#deps.guestError(error.message);
      this.#deps.device.needsReset();
    }
  }

  #serve(served: Served): void {
    const { queue } = served;
    this.#guarded(() => {
      served.held = false;
      do {
        queue.suppressNotifications();
        for (;;) {
          // a driver may name one descriptor again and again: not more than fit a queue
          if (served.inFlight >= served.size) {
            served.held = true;
            return;
          }
          const chain = queue.pop();
          if (chain === undefined) break;
          this.#check(chain);
          this.#submit(served, chain);
        }
      } while (queue.allowNotifications());
    });
  }

  #check({ out, in: into }: Chain): void {
    if (total(out) < HEADER_SIZE) throw new VirtioError('block request without a header');
    if (into.length === 0) throw new VirtioError('block request without room for its status');
  }

  #submit(served: Served, chain: Chain): void {
    served.inFlight++;
    this.#inFlight++;
    void this.#request(served, chain);
  }

  async #request(served: Served, chain: Chain): Promise<void> {
    const header = new DataView(take(chain.out, 0, HEADER_SIZE).buffer);
    const type = (header.getUint32(0, true) & ~BLK_T.BARRIER) >>> 0;
    let status: number;
    try {
      status = await this.#execute(
        type,
        header.getUint32(12, true) * 2 ** 32 + header.getUint32(8, true),
        chain,
      );
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      const action = this.#deps.failed(error, type !== BLK_T.IN);
      if (action === 'stop') {
        this.#parked.push({ served, chain });
        this.#ended(served);
        return;
      }
      status = action === 'ignore' ? BLK_S.OK : BLK_S.IOERR;
    }
    const { ram } = this.#deps;
    const last = chain.in[chain.in.length - 1];
    last[last.length - 1] = status;
    ram.allWritten(chain.in);
    served.queue.push(chain.head, total(chain.in));
    served.pushed = this.#pushed = true;
    this.#ended(served);
    // there is room now: look at the queue again in the next turn
    if (served.held) this.#deps.device.kick(served.index);
  }

  #ended(served: Served): void {
    served.inFlight--;
    this.#inFlight--;
    if (this.#inFlight > 0) return;
    const waiters = this.#idle;
    this.#idle = [];
    for (const resolve of waiters) resolve();
  }

  async #execute(type: number, sector: number, { out, in: into }: Chain): Promise<number> {
    const { drive, model } = this.#deps;
    switch (type) {
      case BLK_T.IN: {
        const to = withoutLast(into);
        if (!this.#inRange(sector, total(to))) return BLK_S.IOERR;
        await drive.read(sector * SECTOR_SIZE, to);
        return BLK_S.OK;
      }
      case BLK_T.OUT: {
        const from = skip(out, HEADER_SIZE);
        if (!this.#inRange(sector, total(from))) return BLK_S.IOERR;
        await drive.write(sector * SECTOR_SIZE, from, { fua: this.#writeThrough });
        return BLK_S.OK;
      }
      case BLK_T.FLUSH:
        await drive.flush();
        return BLK_S.OK;
      case BLK_T.GET_ID: {
        const room = withoutLast(into);
        const id = new Uint8Array(Math.min(SERIAL_SIZE, total(room)));
        id.set(new TextEncoder().encode(model.options.serial).subarray(0, id.length));
        put(room, id);
        return BLK_S.OK;
      }
      case BLK_T.DISCARD:
      case BLK_T.WRITE_ZEROES:
        return await this.#zero(type, skip(out, HEADER_SIZE));
      default:
        return BLK_S.UNSUPP;
    }
  }

  async #zero(type: number, data: Pieces): Promise<number> {
    const { drive, model } = this.#deps;
    if (!(type === BLK_T.DISCARD ? model.options.discard : model.options.writeZeroes)) return BLK_S.UNSUPP;
    if (total(data) !== SEGMENT_SIZE) return total(data) < SEGMENT_SIZE ? BLK_S.IOERR : BLK_S.UNSUPP;
    const segment = new DataView(take(data, 0, SEGMENT_SIZE).buffer);
    const sector = segment.getUint32(4, true) * 2 ** 32 + segment.getUint32(0, true);
    const sectors = segment.getUint32(8, true);
    const flags = segment.getUint32(12, true);
    if ((flags & ~SEGMENT_UNMAP) !== 0) return BLK_S.UNSUPP;
    if (sectors > MAX_ZERO_SECTORS || !this.#inRange(sector, sectors * SECTOR_SIZE)) return BLK_S.IOERR;
    const offset = sector * SECTOR_SIZE;
    const length = sectors * SECTOR_SIZE;
    if (type === BLK_T.DISCARD) {
      if ((flags & SEGMENT_UNMAP) !== 0) return BLK_S.UNSUPP;
      await drive.discard(offset, length);
    } else {
      const mayUnmap = (flags & SEGMENT_UNMAP) !== 0;
      await drive.writeZeroes(offset, length, { mayUnmap, fua: this.#writeThrough });
    }
    return BLK_S.OK;
  }

  get #writeThrough(): boolean {
    return this.#deps.model.drive.writeCache.load() === 0;
  }

  /** Whole sectors inside the disk. */
  #inRange(sector: number, length: number): boolean {
    return length % SECTOR_SIZE === 0 && sector * SECTOR_SIZE + length <= this.#deps.drive.size;
  }
}

function total(pieces: Pieces): number {
  let sum = 0;
  for (const piece of pieces) sum += piece.length;
  return sum;
}

/** A copy of `length` bytes from `at`, which are there: what a guest changes later does not matter. */
function take(pieces: Pieces, at: number, length: number): Uint8Array<ArrayBuffer> {
  const result = new Uint8Array(length);
  let done = 0;
  for (const piece of skip(pieces, at)) {
    const part = piece.subarray(0, length - done);
    result.set(part, done);
    done += part.length;
    if (done === length) break;
  }
  return result;
}

/** The pieces without their first `count` bytes. */
function skip(pieces: Pieces, count: number): Pieces {
  let left = count;
  const result: Uint8Array<SharedArrayBuffer>[] = [];
  for (const piece of pieces) {
    if (left >= piece.length) left -= piece.length;
    else {
      result.push(left === 0 ? piece : piece.subarray(left));
      left = 0;
    }
  }
  return result;
}

/** The pieces without the last byte, which is the request's status. */
function withoutLast(pieces: Pieces): Pieces {
  const last = pieces[pieces.length - 1];
  const before = pieces.slice(0, -1);
  return last.length === 1 ? before : [...before, last.subarray(0, -1)];
}

function put(pieces: Pieces, data: Uint8Array): void {
  let done = 0;
  for (const piece of pieces) {
    const part = data.subarray(done, done + piece.length);
    piece.set(part);
    done += part.length;
  }
}
