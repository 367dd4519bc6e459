/** A virtio block device with a driver written out: rings in a small RAM, registers through the BARs. */
import { BlockError } from '../../src/block/errors.ts';
import type { Done, IoVector } from '../../src/block/node.ts';
import { DriveState, type DriveRequests } from '../../src/hw/block/drive.ts';
import type { IoHandler } from '../../src/hw/device.ts';
import { GuestRam } from '../../src/hw/guest-ram.ts';
import { PCI, PCI_COMMAND } from '../../src/hw/pci/pci.ts';
import { VirtioBlk, type VirtioBlkOptions } from '../../src/hw/virtio/virtio-blk.ts';
import type { ErrorAction } from '../../src/block/backend.ts';
import { VirtioBlkServer } from '../../src/hw/virtio/virtio-blk-server.ts';
import { VirtioPci } from '../../src/hw/virtio/virtio-pci.ts';
import { VirtioState } from '../../src/hw/virtio/virtio-state.ts';

export const RAM_SIZE = 1 << 20;
const STATE = 65536;
const RAM_BASE = STATE + Math.ceil((VirtioState.size + DriveState.size) / 65536) * 65536;

/** A drive in memory. `hold` keeps requests back until `release`. */
export class MemoryDrive implements DriveRequests {
  readonly data: Uint8Array;
  readonly log: string[] = [];
  fail: BlockError | undefined;
  hold = false;
  /** Reads and writes are done by the call. */
  atOnce = false;
  private waiting: (() => void)[] = [];

  constructor(size: number) {
    this.data = new Uint8Array(size);
  }
  get size(): number {
    return this.data.length;
  }
  release(): void {
    this.hold = false;
    for (const go of this.waiting.splice(0)) go();
  }
  private async begin(what: string): Promise<void> {
    this.log.push(what);
    if (this.hold) await new Promise<void>((resolve) => this.waiting.push(resolve));
    if (this.fail !== undefined) throw this.fail;
  }
  read(offset: number, to: IoVector): Done {
    if (!this.atOnce) return this.begin(`read ${offset}`).then(() => this.#fill(offset, to));
    this.#fill(offset, to);
    return undefined;
  }
  #fill(offset: number, to: IoVector): void {
    for (const piece of to) {
      piece.set(this.data.subarray(offset, offset + piece.length));
      offset += piece.length;
    }
  }
  async write(offset: number, from: IoVector, flags?: { fua?: boolean }): Promise<void> {
    await this.begin(`write ${offset}${flags?.fua === true ? ' fua' : ''}`);
    for (const piece of from) {
      this.data.set(piece, offset);
      offset += piece.length;
    }
  }
  async writeZeroes(offset: number, length: number, flags?: { mayUnmap?: boolean }): Promise<void> {
    await this.begin(`zero ${offset}+${length}${flags?.mayUnmap === true ? ' unmap' : ''}`);
    this.data.fill(0, offset, offset + length);
  }
  async discard(offset: number, length: number): Promise<void> {
    await this.begin(`discard ${offset}+${length}`);
  }
  async flush(): Promise<void> {
    await this.begin('flush');
  }
}

export interface Descriptor {
  readonly address: number;
  readonly length: number;
  readonly flags?: number;
  readonly next?: number;
}
export const F = { NEXT: 1, WRITE: 2, INDIRECT: 4 };
export const DESC = 0x1000;
export const AVAIL = 0x2000;
export const USED = 0x3000;

export class VirtioRig {
  readonly ram: GuestRam;
  readonly view: DataView;
  readonly drive: MemoryDrive;
  readonly device: VirtioPci;
  readonly model: VirtioBlk;
  readonly server: VirtioBlkServer;
  readonly messages: [number, number][] = [];
  readonly errors: string[] = [];
  readonly written: [number, number][] = [];
  intxPosted = 0;
  action: ErrorAction = 'report';
  wakes = 0;
  queueSize = 0;
  private availIdx = 0;

  constructor(options: Partial<VirtioBlkOptions> = {}, modernOnly = false, driveSize = 1 << 20) {
    const buffer = new SharedArrayBuffer(RAM_BASE + RAM_SIZE);
    this.ram = new GuestRam(buffer, RAM_BASE, RAM_SIZE, (host, length) =>
      this.written.push([host - RAM_BASE, length]),
    );
    this.view = new DataView(buffer, RAM_BASE, RAM_SIZE);
    this.drive = new MemoryDrive(driveSize);
    const driveState = DriveState.at(buffer, STATE);
    driveState.size.store(driveSize);
    driveState.writeCache.store(1);
    this.model = new VirtioBlk(driveState, {
      queues: 1,
      queueSize: 256,
      serial: '',
      discard: true,
      writeZeroes: true,
      configWce: true,
      ...options,
    });
    this.device = new VirtioPci(VirtioState.at(buffer, STATE + 64), this.model, {
      msi: { send: (address, data) => this.messages.push([address, data]) },
      wake: () => this.wakes++,
      postIntx: () => this.intxPosted++,
      modernOnly,
    });
    this.server = new VirtioBlkServer({
      device: this.device,
      model: this.model,
      drive: this.drive,
      ram: this.ram,
      failed: () => this.action,
      guestError: (message) => this.errors.push(message),
    });
    this.device.reset();
    this.server.resume();
    this.device.pci.writeConfig(PCI.COMMAND, 2, PCI_COMMAND.MASTER | PCI_COMMAND.MEMORY | PCI_COMMAND.IO);
  }

  bar(index: number): IoHandler {
    return this.device.pci.bars.find((bar) => bar.index === index)!.handler!;
  }
  common(at: number, size: number): number {
    return this.bar(4).read(at, size);
  }
  setCommon(at: number, size: number, value: number): void {
    this.bar(4).write(at, size, value);
  }

  /** What a modern driver does. `features`: bits to accept, beside VERSION_1. */
  start(features: readonly number[] = [9, 28, 29], size = 16): void {
    this.setCommon(0x14, 1, 1 | 2);
    let low = 0;
    for (const bit of features) low |= 1 << bit;
    this.setCommon(0x08, 4, 0);
    this.setCommon(0x0c, 4, low >>> 0);
    this.setCommon(0x08, 4, 1);
    this.setCommon(0x0c, 4, 1);
    this.setCommon(0x14, 1, 1 | 2 | 8);
    this.queueSize = size;
    this.setCommon(0x16, 2, 0);
    this.setCommon(0x18, 2, size);
    this.setCommon(0x20, 4, DESC);
    this.setCommon(0x28, 4, AVAIL);
    this.setCommon(0x30, 4, USED);
    this.setCommon(0x1c, 2, 1);
    this.setCommon(0x14, 1, 1 | 2 | 4 | 8);
    this.availIdx = 0;
  }
  get status(): number {
    return this.common(0x14, 1);
  }

  desc(index: number, { address, length, flags = 0, next = 0 }: Descriptor, table = DESC): void {
    const at = table + index * 16;
    this.view.setBigUint64(at, BigInt(address), true);
    this.view.setUint32(at + 8, length, true);
    this.view.setUint16(at + 12, flags, true);
    this.view.setUint16(at + 14, next, true);
  }
  /** Writes a chain from descriptor `first` on. */
  chain(first: number, pieces: readonly Descriptor[]): void {
    pieces.forEach((piece, i) => {
      const more = i + 1 < pieces.length;
      this.desc(first + i, {
        ...piece,
        flags: (piece.flags ?? 0) | (more ? F.NEXT : 0),
        next: more ? first + i + 1 : 0,
      });
    });
  }
  offer(head: number): void {
    this.view.setUint16(AVAIL + 4 + (this.availIdx % this.queueSize) * 2, head, true);
    this.availIdx = (this.availIdx + 1) & 0xffff;
    this.view.setUint16(AVAIL + 2, this.availIdx, true);
  }
  kick(): void {
    expectTrue(this.bar(4).doorbell?.(0x3000, 2, 0));
  }
  header(at: number, type: number, sector: number): void {
    this.view.setUint32(at, type, true);
    this.view.setUint32(at + 4, 0, true);
    this.view.setBigUint64(at + 8, BigInt(sector), true);
  }
  usedCount(): number {
    return this.view.getUint16(USED + 2, true);
  }
  used(i: number): { id: number; length: number } {
    const at = USED + 4 + (i % this.queueSize) * 8;
    return { id: this.view.getUint32(at, true), length: this.view.getUint32(at + 4, true) };
  }
  /** Turns of the serving thread until it would sleep. */
  async turn(): Promise<void> {
    do {
      this.server.poll();
      await new Promise(process.nextTick);
    } while (this.server.ready() || this.server.sleep());
  }
  /** One request from header at 0x8000, data at 0x9000, status at 0x8100; returns the status. */
  async request(type: number, sector: number, data: readonly Descriptor[] = []): Promise<number> {
    this.header(0x8000, type, sector);
    this.view.setUint8(0x8100, 0xee);
    this.chain(0, [{ address: 0x8000, length: 16 }, ...data, { address: 0x8100, length: 1, flags: F.WRITE }]);
    this.offer(0);
    this.kick();
    await this.turn();
    return this.view.getUint8(0x8100);
  }
}

function expectTrue(value: boolean | undefined): void {
  if (value !== true) throw new Error('a notification register that needs the lock');
}
