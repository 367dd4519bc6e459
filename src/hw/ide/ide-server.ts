/** Carries out the requests of an IDE drive, in the iothread of its drive. *Lock:* none. */
import type { Poller } from '../../aio/aio-context.ts';
import { BlockError } from '../../block/errors.ts';
import type { ErrorAction } from '../../block/backend.ts';
import type { DriveRequests } from '../block/drive.ts';
import type { GuestRam } from '../guest-ram.ts';
import { IDE_OP, type IdeRequestView, PRD_END, REQUEST_STATE } from './ide-state.ts';
import { PrdReader } from './prd.ts';

/** Of one step of a transfer. */
const MAX_STEP = 1 << 20;
const MAX_PIECES = 256;
const SECTOR = 512;

export interface IdeServerDeps {
  readonly request: IdeRequestView;
  readonly drive: DriveRequests;
  readonly ram: GuestRam;
  /** The drive's transfer buffer. */
  readonly buffer: Uint8Array<SharedArrayBuffer>;
  readonly failed: (error: BlockError, write: boolean) => ErrorAction;
  /** Has the main loop go on with the command. */
  readonly done: () => void;
}

export class IdeServer implements Poller {
  readonly #deps: IdeServerDeps;
  #quiesced = true;
  #failed = false;
  #busy: Promise<void> | undefined;

  constructor(deps: IdeServerDeps) {
    this.#deps = deps;
  }

  async quiesce(): Promise<void> {
    this.#quiesced = true;
    await this.#busy;
  }
  /** A failed request waits for the machine to go on. */
  get parked(): boolean {
    return this.#failed;
  }
  /** Nothing is left to be told: see `done`. */
  settle(): void {}

  /** A request that failed when the machine was stopped for it is still posted, and done again. */
  resume(): void {
    this.#quiesced = this.#failed = false;
  }

  ready(): boolean {
    return (
      !this.#quiesced && this.#busy === undefined && this.#deps.request.state.load() === REQUEST_STATE.POSTED
    );
  }

  poll(): boolean {
    if (!this.ready()) return false;
    this.#busy = this.#carryOut().finally(() => (this.#busy = undefined));
    return true;
  }

  async #carryOut(): Promise<void> {
    const { request, done, failed } = this.#deps;
    request.prdEnd = PRD_END.EXACT;
    request.result = 0;
    try {
      await this.#execute();
    } catch (error) {
      if (!(error instanceof BlockError)) throw error;
      const action = failed(error, request.op !== IDE_OP.READ && request.op !== IDE_OP.VERIFY);
      if (action === 'stop') {
        // no further attempt until the machine has stopped and goes on
        this.#quiesced = this.#failed = true;
        return;
      }
      request.result = action === 'ignore' ? 0 : error.errno;
    }
    request.state.store(REQUEST_STATE.DONE);
    request.state.notify();
    done();
  }

  async #execute(): Promise<void> {
    const { request, drive, buffer } = this.#deps;
    const { op, offset, length, fua } = request;
    switch (op) {
      case IDE_OP.FLUSH:
        await drive.flush();
        break;
      case IDE_OP.VERIFY: {
        const scratch = new Uint8Array(Math.min(length, MAX_STEP));
        for (let at = 0; at < length; at += MAX_STEP) {
          await drive.read(offset + at, [scratch.subarray(0, Math.min(MAX_STEP, length - at))]);
        }
        break;
      }
      case IDE_OP.TRIM:
        await this.#trim(length);
        break;
      default:
        if (request.prdTable >= 0) await this.#transfer();
        else if (op === IDE_OP.READ) await drive.read(offset, [buffer.subarray(0, length)]);
        else await drive.write(offset, [buffer.subarray(0, length)], { fua });
    }
  }

  async #transfer(): Promise<void> {
    const { request, drive, ram } = this.#deps;
    const { op, fua } = request;
    const reader = new PrdReader(ram, request.prdTable);
    let { offset, length } = request;
    while (length > 0) {
      const pieces = reader.take(Math.min(length, MAX_STEP), MAX_PIECES);
      const sum = total(pieces);
      // a sector may lie across what was taken: only whole ones are transferred
      if (sum % SECTOR !== 0) pieces.push(...reader.take(SECTOR - (sum % SECTOR), SECTOR / 2));
      const step = total(pieces);
      if (step === 0 || step % SECTOR !== 0) {
        request.prdEnd = reader.bad ? PRD_END.BAD : PRD_END.SHORTER;
        return;
      }
      if (op === IDE_OP.READ) {
        await drive.read(offset, pieces);
        ram.allWritten(pieces);
      } else await drive.write(offset, pieces, { fua });
      offset += step;
      length -= step;
    }
    if (reader.hasMore) request.prdEnd = PRD_END.LONGER;
  }

  /** DATA SET MANAGEMENT: entries of 48 bits LBA and 16 bits count. */
  async #trim(length: number): Promise<void> {
    const { request, drive, ram } = this.#deps;
    const data = new Uint8Array(length);
    let filled = 0;
    for (const piece of new PrdReader(ram, request.prdTable).take(length, MAX_PIECES)) {
      data.set(piece, filled);
      filled += piece.length;
    }
    if (filled < length) {
      request.prdEnd = PRD_END.SHORTER;
      return;
    }
    const view = new DataView(data.buffer);
    for (let at = 0; at < length; at += 8) {
      const sector = view.getUint32(at, true) + view.getUint16(at + 4, true) * 2 ** 32;
      const sectors = view.getUint16(at + 6, true);
      if (sectors === 0) continue;
      if ((sector + sectors) * SECTOR > drive.size) throw new BlockError('EINVAL', 'discard beyond the end');
      await drive.discard(sector * SECTOR, sectors * SECTOR);
    }
  }
}

function total(pieces: readonly Uint8Array[]): number {
  let sum = 0;
  for (const piece of pieces) sum += piece.length;
  return sum;
}
