/**
 * Serves the queues of a virtio block device, in the iothread of its drive. VIRTIO 1.1, 5.2.6. A request that cannot be
 * done at once is a coroutine; any number of them is under way, at most as many as a queue has descriptors.
 */
import type { Poller } from '../../aio/aio-context.ts';
import { BlockError } from '../../block/errors.ts';
import { iovLength, iovWrite } from '../../block/iov.ts';
import type { Done } from '../../block/node.ts';
import { type DriveRequests, SECTOR_SIZE } from '../block/drive.ts';
import type { ErrorAction } from '../../block/backend.ts';
import type { GuestRam } from '../guest-ram.ts';
import type { Buffers } from './buffers.ts';
import { VirtioError } from './errors.ts';
import { BLK_S, BLK_T, MAX_ZERO_SECTORS, SERIAL_SIZE, type VirtioBlk } from './virtio-blk.ts';
import type { VirtioPci } from './virtio-pci.ts';
import { FEATURE, RUN } from './virtio-state.ts';
import { type Chain, Virtqueue } from './virtqueue.ts';

const HEADER_SIZE = 16;
const SEGMENT_SIZE = 16;
const SEGMENT_UNMAP = 1;
const STABLE = { fua: true };

/**
 * A driver that has several requests under way is told of half as many at a time. Until then its queue is looked at now
 * and then, ms, without that it notifies; it is told of what there is when it has made no further one between two
 * looks, or has waited for so long, ms. Less often, and a driver with eight under way would wait for each look; more often,
 * and other vCPUs would have less of a busy host's processors.
 */
const LOOK_MS = 0.15;
const LATEST_MS = 0.5;
/** Of requests that are served before a look at what else there is to do. */
const TURN_BYTES = 256 << 10;

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
  /** How many requests the driver had under way of late. */
  depth: number;
  /** When to look at the queue next, ms; 0: at any time. */
  lookAt: number;
  /** Since when the driver has not been told of what was pushed, ms; 0: it was told of all. */
  waitingSince: number;
  /** The driver has said that there are requests. */
  kicked: boolean;
  /** There may be requests that were not taken since too many were under way. */
  held: boolean;
}

const IDLE = {
  ...{ inFlight: 0, pushed: false, depth: 0 },
  ...{ lookAt: 0, waitingSince: 0, kicked: false, held: false },
};

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
    for (const served of this.#queues) if (served?.pushed === true) this.#tell(served);
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
    const mayServe = this.#mayServe;
    if (mayServe) for (const word of state.kicks) if (word.load() !== 0) return true;
    for (const served of this.#queues) {
      if (served === undefined) continue;
      if (served.lookAt > 0) {
        if (performance.now() >= served.lookAt) return true;
      } else if (served.pushed || (mayServe && served.queue.more && !served.held)) return true;
    }
    return false;
  }

  timeout(): number {
    if (this.#quiesced) return Infinity;
    let first = Infinity;
    for (const served of this.#queues) {
      if (served !== undefined && served.lookAt > 0 && served.lookAt < first) first = served.lookAt;
    }
    return first === Infinity ? first : Math.max(0, first - performance.now()) * 1e6;
  }

  /** Before a sleep notifications are asked for. True: there is something after all. */
  sleep(): boolean {
    if (this.#quiesced || this.#deps.device.state.run.load() !== RUN.RUNNING) return false;
    if (!this.#mayServe) return false;
    let more = false;
    for (const served of this.#queues) {
      if (served === undefined || served.held || served.lookAt > 0) continue;
      this.#guarded(() => {
        if (!served.queue.allowNotifications()) return;
        served.queue.suppressNotifications();
        more = true;
      });
    }
    return more;
  }

  get #mayServe(): boolean {
    return !this.#broken && this.#deps.device.pci.busMaster;
  }

  poll(): boolean {
    if (!this.ready()) return false;
    if (!this.#followState()) return true;
    const { device } = this.#deps;
    if (this.#mayServe) {
      for (let w = 0; w < device.state.kicks.length; w++) {
        const word = device.state.kicks[w];
        if (word.load() === 0) continue;
        const bits = word.exchange(0);
        for (let bit = 0; bit < 32; bit++) {
          const served = this.#queues[w * 32 + bit];
          if (served !== undefined && ((bits >>> bit) & 1) !== 0) served.kicked = true;
        }
      }
    }
    for (const served of this.#queues) {
      if (served === undefined) continue;
      const { lookAt, queue } = served;
      if (lookAt > 0 && !served.kicked && performance.now() < lookAt) continue;
      let found = false;
      if (this.#mayServe && (served.kicked || (queue.more && !served.held))) found = this.#serve(served);
      if (served.pushed) this.#tellOrWait(served, found);
    }
    return true;
  }

  /** Tells the driver of what was pushed, or waits for more; `found`: it has just made requests. */
  #tellOrWait(served: Served, found: boolean): void {
    const { queue } = served;
    served.depth = Math.max(served.depth, queue.outstanding);
    if (found && queue.untold * 2 + 1 < served.depth) {
      const now = performance.now();
      if (served.waitingSince === 0) served.waitingSince = now;
      if (now - served.waitingSince < LATEST_MS) {
        // what waits already is served in the next turn
        served.lookAt = queue.more ? 0 : now + LOOK_MS;
        return;
      }
    }
    this.#tell(served);
  }

  #tell(served: Served): void {
    served.pushed = false;
    served.lookAt = served.waitingSince = 0;
    served.depth -= (served.depth + 3) >> 2;
    if (served.queue.wantsInterrupt()) this.#deps.device.interruptQueue(served.index);
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
      this.#broken = false;
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
        this.#queues[index] = { index, queue, size: ring.size, ...IDLE };
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

  /** Whether there were requests. */
  #serve(served: Served): boolean {
    const { queue } = served;
    let found = false;
    this.#guarded(() => {
      served.held = served.kicked = false;
      queue.suppressNotifications();
      // a queue's worth, or so many bytes, then the driver is told of them and others have their turn
      for (let i = 0, bytes = 0; i < served.size && bytes < TURN_BYTES; i++) {
        // a driver may name one descriptor again and again: not more than fit a queue
        if (served.inFlight >= served.size) {
          served.held = true;
          return;
        }
        const chain = queue.pop();
        if (chain === undefined) return;
        found = true;
        this.#check(chain);
        bytes += chain.in.bytes + chain.out.bytes;
        this.#submit(served, chain);
      }
    });
    return found;
  }

  #check({ out, in: into }: Chain): void {
    if (out.bytes < HEADER_SIZE) throw new VirtioError('block request without a header');
    if (into.bytes === 0) throw new VirtioError('block request without room for its status');
  }

  #submit(served: Served, chain: Chain): void {
    served.inFlight++;
    this.#inFlight++;
    const type = (chain.out.word(0) & ~BLK_T.BARRIER) >>> 0;
    let status: number | Promise<number>;
    try {
      status = this.#execute(type, chain.out.word(12) * 2 ** 32 + chain.out.word(8), chain);
    } catch (error) {
      this.#failed(served, chain, type, error);
      return;
    }
    if (typeof status === 'number') this.#complete(served, chain, status);
    else void this.#completeLater(served, chain, type, status);
  }

  async #completeLater(served: Served, chain: Chain, type: number, status: Promise<number>): Promise<void> {
    try {
      this.#complete(served, chain, await status);
    } catch (error) {
      this.#failed(served, chain, type, error);
    }
  }

  #failed(served: Served, chain: Chain, type: number, error: unknown): void {
    if (!(error instanceof BlockError)) throw error;
    const action = this.#deps.failed(error, type !== BLK_T.IN);
    if (action === 'stop') {
      this.#parked.push({ served, chain });
      this.#ended(served);
    } else this.#complete(served, chain, action === 'ignore' ? BLK_S.OK : BLK_S.IOERR);
  }

  #complete(served: Served, chain: Chain, status: number): void {
    const into = chain.in;
    into.setByte(into.bytes - 1, status);
    into.written();
    served.queue.push(chain.head, into.bytes);
    served.pushed = true;
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

  #execute(type: number, sector: number, { out, in: into }: Chain): number | Promise<number> {
    const { drive, model } = this.#deps;
    const offset = sector * SECTOR_SIZE;
    switch (type) {
      case BLK_T.IN: {
        const length = into.bytes - 1;
        if (!this.#inRange(sector, length)) return BLK_S.IOERR;
        return ok(drive.read(offset, into.pieces(0, length)));
      }
      case BLK_T.OUT: {
        if (!this.#inRange(sector, out.bytes - HEADER_SIZE)) return BLK_S.IOERR;
        const from = out.pieces(HEADER_SIZE, out.bytes);
        return ok(drive.write(offset, from, this.#writeThrough ? STABLE : undefined));
      }
      case BLK_T.FLUSH:
        return ok(drive.flush());
      case BLK_T.GET_ID: {
        const room = into.pieces(0, Math.min(SERIAL_SIZE, into.bytes - 1));
        const id = new Uint8Array(SERIAL_SIZE);
        new TextEncoder().encodeInto(model.options.serial, id);
        iovWrite(room, 0, id.subarray(0, iovLength(room)));
        return BLK_S.OK;
      }
      case BLK_T.DISCARD:
      case BLK_T.WRITE_ZEROES:
        return this.#zero(type, out);
      default:
        return BLK_S.UNSUPP;
    }
  }

  async #zero(type: number, out: Buffers): Promise<number> {
    const { drive, model } = this.#deps;
    if (!(type === BLK_T.DISCARD ? model.options.discard : model.options.writeZeroes)) return BLK_S.UNSUPP;
    const room = out.bytes - HEADER_SIZE;
    if (room !== SEGMENT_SIZE) return room < SEGMENT_SIZE ? BLK_S.IOERR : BLK_S.UNSUPP;
    const sector = out.word(HEADER_SIZE + 4) * 2 ** 32 + out.word(HEADER_SIZE);
    const sectors = out.word(HEADER_SIZE + 8);
    const flags = out.word(HEADER_SIZE + 12);
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

/** The status of a request that fails by an error. */
function ok(done: Done): number | Promise<number> {
  return done === undefined ? BLK_S.OK : done.then(() => BLK_S.OK);
}
