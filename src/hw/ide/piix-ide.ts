/**
 * The IDE function of the PIIX3: two channels at their legacy ports and IRQs, and the bus master. 82371SB datasheet,
 * 2.6 and 3.6; Programming Interface for Bus Master IDE Controller 1.0. Always decoded, whatever IDETIM says.
 */
import type { IoHandler, IrqLine } from '../device.ts';
import { PCI_STATUS, PciFunction } from '../pci/pci.ts';
import type { DriveChannel, IdeDrive } from './ide-drive.ts';
import { CONTROL, DEVICE, type IdeChannelView, PHASE, type PiixIdeState, PRD_END, ST } from './ide-state.ts';
import type { ViewOf } from '@smp86/atomics-sync';

/** First ports of the channels: command block, and control block. */
export const IDE_PORTS = [
  { command: 0x1f0, control: 0x3f6, irq: 14 },
  { command: 0x170, control: 0x376, irq: 15 },
] as const;

const REGISTER = { ERROR: 1, COUNT: 2, LOW: 3, MID: 4, HIGH: 5, DEVICE: 6, STATUS: 7 } as const;
const DEVICE_RESET = 0x08;
const BM = { START: 0x01, TO_MEMORY: 0x08 } as const;
const BMS = { ACTIVE: 0x01, ERROR: 0x02, INTERRUPT: 0x04, CAPABLE: 0x60 } as const;
const BM_CHANNEL = 8;
const IDETIM = 0x40;

export interface IdeChannelDeps {
  readonly irq: IrqLine;
  /** Wakes the iothread of the drive. */
  readonly wake: (unit: number) => void;
  /** Does the function read and write memory? */
  readonly busMaster: () => boolean;
}

/** One channel. *Thread:* any. *Lock:* BQL. */
export class IdeChannel {
  readonly state: IdeChannelView;
  /** Master and slave. */
  drives: readonly (IdeDrive | undefined)[] = [undefined, undefined];
  /** The data register, one port that takes 16 and 32 bits. */
  readonly data: IoHandler;
  /** The seven other registers of the command block. */
  readonly registers: IoHandler;
  /** Alternate status and device control. */
  readonly control: IoHandler;
  /** The bus master's eight ports. */
  readonly busMaster: IoHandler;
  readonly #deps: IdeChannelDeps;

  constructor(state: IdeChannelView, deps: IdeChannelDeps) {
    this.state = state;
    this.#deps = deps;
    this.data = {
      read: (_offset, size) => this.#selected?.readData(size) ?? 0,
      write: (_offset, size, value) => this.#selected?.writeData(size, value),
    };
    this.registers = {
      read: (offset) => this.#read(offset + 1),
      write: (offset, _size, value) => this.#write(offset + 1, value),
    };
    this.control = {
      read: () => this.#status,
      write: (_offset, _size, value) => this.#writeControl(value),
    };
    this.busMaster = {
      read: (offset, size) => this.#readBusMaster(offset, size),
      write: (offset, size, value) => this.#writeBusMaster(offset, size, value),
    };
  }

  /** What drive `unit` may ask of the channel. */
  linkOf(unit: number): DriveChannel {
    return {
      raiseIrq: () => {
        this.state.irq = true;
        this.state.bmStatus |= BMS.INTERRUPT;
        this.#updateIrq();
      },
      dmaReady: () => {
        if ((this.state.bmCommand & BM.START) !== 0) this.#startDma();
      },
      dmaEnded: (end) => {
        const s = this.state;
        if (end !== PRD_END.LONGER) s.bmStatus &= ~BMS.ACTIVE;
        if (end === PRD_END.BAD) s.bmStatus |= BMS.ERROR;
      },
      wake: () => this.#deps.wake(unit),
    };
  }

  /** No request is at an iothread. */
  reset(): void {
    const s = this.state;
    s.unit = s.control = 0;
    s.irq = false;
    s.bmCommand = s.bmStatus = 0;
    s.bmTable = 0;
    this.#deps.irq.set(false);
    for (const drive of this.drives) drive?.reset();
  }

  /** Goes on with what iothreads have done. *Thread:* main loop. */
  pollRequests(): void {
    for (const drive of this.drives) drive?.pollRequest();
  }

  get #selected(): IdeDrive | undefined {
    return this.drives[this.state.unit];
  }

  #updateIrq(): void {
    this.#deps.irq.set(this.state.irq && (this.state.control & CONTROL.NO_INTERRUPT) === 0);
  }

  // --- command block ---

  get #status(): number {
    return this.#selected?.state.status ?? 0;
  }

  #read(register: number): number {
    const s = this.#selected?.state;
    if (register === REGISTER.STATUS) {
      this.state.irq = false;
      this.#updateIrq();
      return this.#status;
    }
    if (this.drives[0] === undefined && this.drives[1] === undefined) return 0;
    if (register === REGISTER.DEVICE) return (this.drives[0] ?? this.drives[1])!.state.device;
    if (s === undefined) return 0;
    const high = (this.state.control & CONTROL.HOB) !== 0;
    switch (register) {
      case REGISTER.ERROR:
        return s.error;
      case REGISTER.COUNT:
        return high ? s.sectorCountHigh : s.sectorCount;
      case REGISTER.LOW:
        return high ? s.lbaLowHigh : s.lbaLow;
      case REGISTER.MID:
        return high ? s.lbaMidHigh : s.lbaMid;
      default:
        return high ? s.lbaHighHigh : s.lbaHigh;
    }
  }

  #write(register: number, value: number): void {
    const channel = this.state;
    channel.control &= ~CONTROL.HOB;
    if (register === REGISTER.STATUS) {
      this.#command(value);
      return;
    }
    // a drive that executes a command does not look at its registers
    for (const drive of this.drives) {
      if (drive === undefined || (drive.state.status & (ST.BUSY | ST.DRQ)) !== 0) continue;
      const s = drive.state;
      switch (register) {
        case REGISTER.ERROR:
          s.featureHigh = s.feature;
          s.feature = value;
          break;
        case REGISTER.COUNT:
          s.sectorCountHigh = s.sectorCount;
          s.sectorCount = value;
          break;
        case REGISTER.LOW:
          s.lbaLowHigh = s.lbaLow;
          s.lbaLow = value;
          break;
        case REGISTER.MID:
          s.lbaMidHigh = s.lbaMid;
          s.lbaMid = value;
          break;
        case REGISTER.HIGH:
          s.lbaHighHigh = s.lbaHigh;
          s.lbaHigh = value;
          break;
        case REGISTER.DEVICE:
          s.device = value | DEVICE.ALWAYS;
          break;
      }
    }
    if (register === REGISTER.DEVICE) channel.unit = (value & DEVICE.SLAVE) !== 0 ? 1 : 0;
  }

  #command(command: number): void {
    const drive = this.#selected;
    if (drive === undefined) return;
    this.state.irq = false;
    this.#updateIrq();
    if (command === DEVICE_RESET) drive.cancelRequest();
    else if ((drive.state.status & (ST.BUSY | ST.DRQ)) !== 0) return;
    drive.execute(command);
  }

  #writeControl(value: number): void {
    const channel = this.state;
    const changed = channel.control ^ value;
    channel.control = value;
    if ((changed & CONTROL.RESET) !== 0) {
      if ((value & CONTROL.RESET) !== 0) {
        for (const drive of this.drives) {
          drive?.cancelRequest();
          if (drive !== undefined) drive.state.status = ST.BUSY | ST.SEEK;
        }
        channel.irq = false;
      } else {
        channel.unit = 0;
        channel.bmCommand &= ~BM.START;
        channel.bmStatus &= ~BMS.ACTIVE;
        for (const drive of this.drives) drive?.softReset();
      }
    }
    this.#updateIrq();
  }

  // --- bus master ---

  #readBusMaster(offset: number, size: number): number {
    const s = this.state;
    if (offset === 0 && size === 1) return s.bmCommand;
    if (offset === 2 && size === 1) return s.bmStatus;
    if (offset >= 4)
      return (s.bmTable >>> (8 * (offset - 4))) & (size === 4 ? -1 : size === 2 ? 0xffff : 0xff);
    // the two are bytes of one dword
    let value = 0;
    for (let i = size - 1; i >= 0; i--) {
      const at = offset + i;
      value = (value << 8) | (at === 0 ? s.bmCommand : at === 2 ? s.bmStatus : 0);
    }
    return value;
  }

  #writeBusMaster(offset: number, size: number, value: number): void {
    const s = this.state;
    for (let i = 0; i < size; i++) {
      const at = offset + i;
      const byte = (value >>> (8 * i)) & 0xff;
      if (at === 0) this.#writeBmCommand(byte);
      else if (at === 2) {
        const kept = s.bmStatus & ~byte & (BMS.ERROR | BMS.INTERRUPT);
        s.bmStatus = kept | (s.bmStatus & BMS.ACTIVE) | (byte & BMS.CAPABLE);
      } else if (at >= 4) {
        const shift = 8 * (at - 4);
        s.bmTable = ((s.bmTable & ~(0xff << shift)) | (byte << shift)) >>> 0;
        s.bmTable = (s.bmTable & ~3) >>> 0;
      }
    }
  }

  #writeBmCommand(value: number): void {
    const s = this.state;
    const started = (s.bmCommand & BM.START) !== 0;
    s.bmCommand = value & (BM.START | BM.TO_MEMORY);
    if ((value & BM.START) === 0) {
      if (started) this.#stopDma();
      return;
    }
    if (started) return;
    s.bmStatus |= BMS.ACTIVE;
    this.#startDma();
  }

  /** The bus master stops: a transfer under way is over, what has been moved has been moved. */
  #stopDma(): void {
    const drive = this.#selected;
    this.state.bmStatus &= ~BMS.ACTIVE;
    if (drive === undefined || drive.state.phase !== PHASE.DMA || !drive.busy) return;
    drive.cancelRequest();
    drive.state.phase = PHASE.NONE;
    drive.state.status = ST.READY | ST.SEEK;
  }

  #startDma(): void {
    const s = this.state;
    s.bmStatus |= BMS.ACTIVE;
    const drive = this.#selected;
    if (drive === undefined || drive.state.phase !== PHASE.DMA || drive.busy || !this.#deps.busMaster())
      return;
    drive.dmaStart(s.bmTable);
  }
}

/** Function 1.1. *Thread:* any. *Lock:* BQL. */
export class PiixIde {
  readonly pci: PciFunction;
  readonly channels: readonly IdeChannel[];

  constructor(
    state: ViewOf<typeof PiixIdeState>,
    deps: { readonly irqs: readonly IrqLine[]; readonly wake: (channel: number, unit: number) => void },
  ) {
    this.channels = state.channels.map(
      (channel, c) =>
        new IdeChannel(channel, {
          irq: deps.irqs[c],
          wake: (unit) => deps.wake(c, unit),
          busMaster: () => this.pci.busMaster,
        }),
    );
    const part = (offset: number): IoHandler => this.channels[offset < BM_CHANNEL ? 0 : 1].busMaster;
    this.pci = new PciFunction(
      state.pci,
      {
        vendor: 0x8086,
        device: 0x7010,
        classCode: 0x010180,
        subsystemVendor: 0x1af4,
        subsystem: 0x1100,
        status: PCI_STATUS.FAST_BACK_TO_BACK | PCI_STATUS.DEVSEL_MEDIUM,
      },
      [
        {
          index: 4,
          space: 'io',
          size: 2 * BM_CHANNEL,
          handler: {
            read: (offset, size) => part(offset).read(offset % BM_CHANNEL, size),
            write: (offset, size, value) => part(offset).write(offset % BM_CHANNEL, size, value),
          },
        },
      ],
    );
    this.pci.setWritable(IDETIM, 4, 0xffff_ffff);
  }

  reset(): void {
    this.pci.reset();
    for (const channel of this.channels) channel.reset();
  }
}
