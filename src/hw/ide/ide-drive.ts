/**
 * What ATA disks and ATAPI drives have in common: registers, transfers of blocks through the data register, requests to
 * the iothread. ATA/ATAPI-7, volume 1 chapter 6 and volume 2 chapter 11.
 */
import type { DriveStateView } from '../block/drive.ts';
import type { GuestRam } from '../guest-ram.ts';
import {
  BUFFER_SIZE,
  DEVICE,
  ER,
  type IDE_OP,
  type IdeDriveView,
  PHASE,
  PRD_END,
  REQUEST_STATE,
  ST,
} from './ide-state.ts';

/** What a drive asks of its channel. *Lock:* BQL. */
export interface DriveChannel {
  raiseIrq(): void;
  /** A DMA command waits: it begins now if the bus master runs already. */
  dmaReady(): void;
  /** The DMA transfer of the selected drive has ended. `error`: memory could not be reached. */
  dmaEnded(end: number): void;
  /** Wakes the iothread for a posted request. */
  wake(): void;
}

export interface IdeDriveConfig {
  readonly serial: string;
  readonly model: string;
}

/** *Thread:* any. *Lock:* BQL. */
export abstract class IdeDrive {
  readonly state: IdeDriveView;
  readonly config: IdeDriveConfig;
  /** Absent: a CD-ROM drive that never has a disc. */
  readonly drive: DriveStateView | undefined;
  readonly channel: DriveChannel;
  readonly ram: GuestRam;
  readonly buffer: Uint8Array<SharedArrayBuffer>;

  constructor(
    state: IdeDriveView,
    config: IdeDriveConfig,
    drive: DriveStateView | undefined,
    channel: DriveChannel,
    ram: GuestRam,
    buffer: Uint8Array<SharedArrayBuffer>,
  ) {
    this.state = state;
    this.config = config;
    this.drive = drive;
    this.channel = channel;
    this.ram = ram;
    this.buffer = buffer;
  }

  /** Carries out a command; the drive is not busy. */
  abstract execute(command: number): void;
  /** The data register has moved a block. */
  abstract blockDone(): void;
  /** The iothread has carried out what was posted; `errno` 0: it went well. */
  abstract requestDone(errno: number): void;
  /** The bus master begins to move data of a DMA command that waits; `table`: address of its PRD table. */
  abstract dmaStart(table: number): void;
  /** Registers after a reset: what kind of drive it is (9.12). */
  abstract signature(): void;

  /** Power-on and hardware reset. No request is at the iothread. */
  reset(): void {
    const s = this.state;
    s.request.state.store(REQUEST_STATE.IDLE);
    s.multiple = 16;
    s.mdmaMode = 0xff;
    s.udmaMode = 5;
    s.smart = true;
    s.senseKey = s.asc = 0;
    s.trayOpen = s.trayLocked = false;
    s.packet.fill(0);
    this.softReset();
  }

  /** SRST and the like. No request is at the iothread. */
  softReset(): void {
    const s = this.state;
    s.feature = s.featureHigh = 0;
    s.sectorCountHigh = s.lbaLowHigh = s.lbaMidHigh = s.lbaHighHigh = 0;
    s.lba48 = s.packetDma = false;
    s.phase = PHASE.NONE;
    s.position = s.blockEnd = s.bufferEnd = 0;
    s.left = s.offset = 0;
    s.blockSize = 512;
    s.device = DEVICE.ALWAYS;
    this.signature();
    s.error = 1;
    s.status = ST.READY | ST.SEEK;
  }

  get busy(): boolean {
    return (this.state.status & ST.BUSY) !== 0;
  }

  /** Ends a command well. */
  protected finish(): void {
    const s = this.state;
    s.phase = PHASE.NONE;
    s.error = 0;
    s.status = ST.READY | ST.SEEK;
    this.channel.raiseIrq();
  }

  /** Ends a command badly. */
  protected abort(error: number = ER.ABRT): void {
    const s = this.state;
    s.phase = PHASE.NONE;
    s.error = error;
    s.status = ST.READY | ST.SEEK | ST.ERR;
    this.channel.raiseIrq();
  }

  /** Offers what lies in the buffer from `position` up to `blockEnd` at the data register, or asks for it. */
  protected offerBlock(phase: number): void {
    const s = this.state;
    s.phase = phase;
    s.error = 0;
    s.status = ST.READY | ST.SEEK | ST.DRQ;
  }

  /** Has the iothread do something with the buffer, or with the memory that the bus master's table names. */
  protected post(
    op: (typeof IDE_OP)[keyof typeof IDE_OP],
    offset: number,
    length: number,
    prdTable = -1,
  ): void {
    const { request } = this.state;
    this.state.status = ST.BUSY | ST.SEEK;
    request.op = op;
    request.offset = offset;
    request.length = length;
    request.prdTable = prdTable;
    request.fua = this.drive !== undefined && this.drive.writeCache.load() === 0;
    request.state.store(REQUEST_STATE.POSTED);
    this.channel.wake();
  }

  /** The main loop looks whether the iothread is done. */
  pollRequest(): void {
    const { request } = this.state;
    if (request.state.compareExchange(REQUEST_STATE.DONE, REQUEST_STATE.IDLE) !== REQUEST_STATE.DONE) return;
    this.requestDone(request.result);
  }

  /** Waits for the iothread and forgets what it has done. *May block:* as long as the disk takes. */
  cancelRequest(): void {
    const { request } = this.state;
    // the iothread takes no lock that could be held here
    while (request.state.load() === REQUEST_STATE.POSTED) request.state.wait(REQUEST_STATE.POSTED);
    request.state.store(REQUEST_STATE.IDLE);
  }

  /** Errors of the request's memory come before those of the disk. */
  protected get prdBad(): boolean {
    return this.state.request.prdEnd === PRD_END.BAD;
  }

  protected get bufferSize(): number {
    return BUFFER_SIZE;
  }

  // --- data register ---

  readData(size: number): number {
    const s = this.state;
    if ((s.status & ST.DRQ) === 0 || (s.phase !== PHASE.PIO_IN && s.phase !== PHASE.PACKET_IN)) return 0;
    let value = 0;
    for (let i = 0; i < size && s.position < s.blockEnd; i++) {
      value |= this.buffer[s.position] << (8 * i);
      s.position++;
    }
    if (s.position >= s.blockEnd) this.blockDone();
    return value >>> 0;
  }

  writeData(size: number, value: number): void {
    const s = this.state;
    if ((s.status & ST.DRQ) === 0 || (s.phase !== PHASE.PIO_OUT && s.phase !== PHASE.PACKET)) return;
    for (let i = 0; i < size && s.position < s.blockEnd; i++) {
      this.buffer[s.position] = value >>> (8 * i);
      s.position++;
    }
    if (s.position >= s.blockEnd) this.blockDone();
  }
}

/** ATA text: padded with blanks, two characters a word, the first in the high byte. */
export function putText(words: Uint16Array, first: number, count: number, text: string): void {
  const padded = text.padEnd(count * 2, ' ');
  for (let i = 0; i < count; i++) {
    words[first + i] = ((padded.charCodeAt(i * 2) & 0xff) << 8) | (padded.charCodeAt(i * 2 + 1) & 0xff);
  }
}
