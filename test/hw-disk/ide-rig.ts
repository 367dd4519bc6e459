/** One IDE channel with a drive, driven register by register. */
import type { ErrorAction } from '../../src/block/backend.ts';
import { DriveState } from '../../src/hw/block/drive.ts';
import { GuestRam } from '../../src/hw/guest-ram.ts';
import { AtaDisk } from '../../src/hw/ide/ata-disk.ts';
import { AtapiCdrom } from '../../src/hw/ide/atapi-cdrom.ts';
import { IdeServer } from '../../src/hw/ide/ide-server.ts';
import { BUFFER_SIZE, PiixIdeState } from '../../src/hw/ide/ide-state.ts';
import { PiixIde } from '../../src/hw/ide/piix-ide.ts';
import { FakeIrq } from '../hw/fakes.ts';
import { MemoryDrive } from './virtio-rig.ts';

export const RAM_SIZE = 1 << 20;
export const CD = 'cdrom' as const;
/** Before the buffer, between it and RAM, and after RAM lies what nobody may write. */
const BUFFER = 128 * 1024;
const RAM_BASE = 512 * 1024;
const END = RAM_BASE + RAM_SIZE;

export class IdeRig {
  readonly ram: GuestRam;
  readonly view: DataView;
  readonly drive = new MemoryDrive(1 << 20);
  readonly irq = new FakeIrq();
  readonly ide: PiixIde;
  readonly server: IdeServer;
  readonly written: [number, number][] = [];
  /** Sizes of the blocks of the last packet's data. */
  blocks: number[] = [];
  action: ErrorAction = 'report';
  private readonly buffer: SharedArrayBuffer;

  constructor(kind?: typeof CD) {
    const buffer = new SharedArrayBuffer(END + 65536);
    this.buffer = buffer;
    this.ram = new GuestRam(buffer, RAM_BASE, RAM_SIZE, (host, length) =>
      this.written.push([host - RAM_BASE, length]),
    );
    this.view = new DataView(buffer, RAM_BASE, RAM_SIZE);
    const state = DriveState.at(buffer, 64);
    state.size.store(1 << 20);
    state.writeCache.store(1);
    this.ide = new PiixIde(PiixIdeState.at(buffer, 1024), {
      irqs: [this.irq, new FakeIrq()],
      wake: () => {},
    });
    const [channel] = this.ide.channels;
    const transfer = new Uint8Array(buffer, BUFFER, BUFFER_SIZE);
    const Kind = kind === CD ? AtapiCdrom : AtaDisk;
    const config = { serial: 'QM00001', model: kind === CD ? 'QEMU DVD-ROM' : 'QEMU HARDDISK' };
    const unit = new Kind(channel.state.drives[0], config, state, channel.linkOf(0), this.ram, transfer);
    channel.drives = [unit, undefined];
    this.server = new IdeServer({
      request: unit.state.request,
      drive: this.drive,
      ram: this.ram,
      buffer: transfer,
      failed: () => this.action,
      done: () => {},
    });
    this.server.resume();
    this.ide.reset();
    this.ide.pci.writeConfig(4, 2, 5);
  }

  get io() {
    return this.ide.channels[0];
  }
  read(register: number): number {
    return this.io.registers.read(register - 1, 1);
  }
  write(register: number, value: number): void {
    this.io.registers.write(register - 1, 1, value);
  }
  get status(): number {
    return this.read(7);
  }
  get altStatus(): number {
    return this.io.control.read(0, 1);
  }
  /** The iothread and the main loop until both have nothing to do. */
  async turn(): Promise<void> {
    for (let idle = 0; idle < 2;) {
      idle = this.server.poll() ? 0 : idle + 1;
      await new Promise(process.nextTick);
      this.io.pollRequests();
    }
  }
  async command(code: number): Promise<void> {
    this.write(7, code);
    await this.turn();
  }
  private address28(lba: number, count: number): void {
    this.write(2, count & 255);
    this.write(3, lba & 255);
    this.write(4, (lba >>> 8) & 255);
    this.write(5, (lba >>> 16) & 255);
    this.write(6, 0xe0 | ((lba >>> 24) & 15));
  }
  async rw(code: number, lba: number, count: number): Promise<void> {
    this.address28(lba, count);
    await this.command(code);
  }
  write48(lba: number, count: number): void {
    this.write(2, count >>> 8);
    this.write(2, count & 255);
    for (const [register, shift] of [
      [3, 0],
      [4, 8],
      [5, 16],
    ]) {
      this.write(register, Math.floor(lba / 2 ** (shift + 24)) & 255);
      this.write(register, (lba >>> shift) & 255);
    }
    this.write(6, 0xe0);
  }
  readWords(count: number): number[] {
    return Array.from({ length: count }, () => this.io.data.read(0, 2));
  }

  prd(table: number, entries: readonly (readonly [number, number])[]): void {
    entries.forEach(([address, length], i) => {
      this.view.setUint32(table + i * 8, address, true);
      const last = i === entries.length - 1 ? 0x80000000 : 0;
      this.view.setUint32(table + i * 8 + 4, (last | (length & 0xffff)) >>> 0, true);
    });
  }
  private startBusMaster(table: number): void {
    this.io.busMaster.write(4, 4, table);
    this.io.busMaster.write(0, 1, 1);
  }
  async dma(code: number, lba: number, count: number, table: number): Promise<void> {
    // as a driver does when the last transfer was done: else the next would begin at once, with the old table
    this.io.busMaster.write(0, 1, 0);
    this.address28(lba, count);
    this.write(7, code);
    this.startBusMaster(table);
    await this.turn();
  }

  private sendPacket(packet: readonly number[], features: number, limit: number): void {
    this.write(1, features);
    this.write(4, limit & 255);
    this.write(5, limit >>> 8);
    this.write(7, 0xa0);
    const bytes = [...packet, ...new Array<number>(12 - packet.length).fill(0)];
    for (let i = 0; i < 12; i += 2) this.io.data.write(0, 2, bytes[i] | (bytes[i + 1] << 8));
  }
  /** A packet by PIO; gives its data. */
  async packet(packet: readonly number[], limit = 0xfffe): Promise<Uint8Array> {
    this.sendPacket(packet, 0, limit);
    const data: number[] = [];
    this.blocks = [];
    for (;;) {
      await this.turn();
      if ((this.altStatus & 8) === 0) return Uint8Array.from(data);
      const size = this.read(4) | (this.read(5) << 8);
      this.blocks.push(size);
      for (let i = 0; i < size; i += 2) {
        const word = this.io.data.read(0, 2);
        data.push(word & 255);
        if (i + 1 < size) data.push(word >>> 8);
      }
    }
  }
  async packetDma(packet: readonly number[], table: number): Promise<void> {
    this.io.busMaster.write(0, 1, 0);
    this.sendPacket(packet, 1, 0);
    this.startBusMaster(table);
    await this.turn();
  }

  /** What lies around the drive's buffer and RAM. */
  guards(): number[] {
    const bytes = new Uint8Array(this.buffer);
    const areas = [
      bytes.subarray(BUFFER - 4096, BUFFER),
      bytes.subarray(BUFFER + BUFFER_SIZE, RAM_BASE),
      bytes.subarray(END),
    ];
    return areas.map((area) => area.reduce((sum, byte) => sum + byte, 0));
  }
}
