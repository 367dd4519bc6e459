/**
 * Power management function of the 82371AB (PIIX4), without its SMBus and its SMM half.
 * Intel 82371AB datasheet, 7 (function 3); ACPI specification 6.5, 4.8.3 (fixed hardware registers).
 *
 * The guest finds the register block through the FADT; PMBASE is set by `setUp`, as firmware does. GPE0 lies
 * at ports of its own (AFE0), as on QEMU's pc.
 */
import { array, f64, struct, u16, u8, type ViewOf } from '@smp86/atomics-sync';
import type { Clock, IoHandler, IrqLine, Timer } from '../device.ts';
import { PCI, PCI_STATUS, PciFunction, PciFunctionState } from '../pci/pci.ts';

/** Where `setUp` puts PMBASE, and the ports of the fixed blocks there. */
export const PM_BASE = 0x600;
export const PM_PORTS = 0x40;
export const PM1A_EVT = PM_BASE;
export const PM1A_CNT = PM_BASE + 4;
export const PM_TMR = PM_BASE + 8;
export const GPE0_BASE = 0xafe0;
export const GPE0_LENGTH = 4;
/** APM control and status ports; a write to the first is the SMI command. */
export const SMI_CMD = 0xb2;
export const APM_PORTS = 2;
export const ACPI_ENABLE = 0xf1;
export const ACPI_DISABLE = 0xf0;
export const SCI_IRQ = 9;
/** SLP_TYP values that the machine knows, for the `_Sx` packages. */
export const SLP_TYP_S5 = 0;
export const SLP_TYP_S4 = 2;
/** Hz. */
export const PM_TIMER_FREQUENCY = 3_579_545;

const PM1_STS = 0;
const PM1_EN = 2;
const PM1_CNT = 4;
const PM_TIMER = 8;

const TMR_STS = 1 << 0;
const GBL_STS = 1 << 5;
const PWRBTN_STS = 1 << 8;
const RTC_STS = 1 << 10;
const WAK_STS = 1 << 15;
const PM1_STS_BITS = TMR_STS | (1 << 4) | GBL_STS | PWRBTN_STS | (1 << 9) | RTC_STS | WAK_STS;
/** Events that raise the SCI. */
const PM1_EVENTS = TMR_STS | GBL_STS | PWRBTN_STS | RTC_STS;
const PM1_EN_BITS = TMR_STS | GBL_STS | PWRBTN_STS | (1 << 9) | RTC_STS;

const SCI_EN = 1 << 0;
const GBL_RLS = 1 << 2;
const SLP_TYP_SHIFT = 10;
const SLP_EN = 1 << 13;
const CNT_KEPT = (7 << SLP_TYP_SHIFT) | (1 << 1);

const TIMER_MASK = 0xff_ffff;
/** TMR_STS is set whenever bit 23 of the timer changes. */
const TIMER_HALF = 0x80_0000;
const SECOND = 1e9;

const PMBASE = 0x40;
const DEVACTB = 0x58;
const PMREGMISC = 0x80;
const PMIOSE = 0x01;
const SMBHSTCFG = 0xd2;

/** *Lock:* BQL. Snapshot version 1. */
export const Piix4PmState = struct({
  pci: PciFunctionState,
  sts: u16,
  en: u16,
  cnt: u16,
  apmControl: u8,
  apmStatus: u8,
  gpeStatus: array(u8, 2),
  gpeEnable: array(u8, 2),
  /** Timer count (not wrapped) at which TMR_STS is set next. */
  overflow: f64,
});

export interface Piix4PmDeps {
  /** VIRTUAL, and a timer on it. */
  readonly clock: Clock;
  readonly timer: Timer;
  /** ISA IRQ 9, level triggered. */
  readonly sci: IrqLine;
  /** The guest asks for power off (S4, S5). */
  readonly powerOff: () => void;
}

/** Function 1.3. *Thread:* any; the timer in the main loop. *Lock:* BQL. */
export class Piix4Pm {
  readonly pci: PciFunction;
  /** Ports B2 and B3. */
  readonly apm: IoHandler;
  /** Ports AFE0–AFE3. */
  readonly gpe: IoHandler;
  readonly #s: ViewOf<typeof Piix4PmState>;
  readonly #deps: Piix4PmDeps;

  constructor(state: ViewOf<typeof Piix4PmState>, deps: Piix4PmDeps) {
    this.#s = state;
    this.#deps = deps;
    const registers: IoHandler = {
      read: (offset, size) => this.#read(offset, size),
      // a clock, nothing else
      readUnlocked: (offset, size) =>
        offset === PM_TIMER && size === 4 ? this.#read(offset, size) : undefined,
      write: (offset, size, value) => this.#write(offset, size, value),
    };
    const identity = {
      vendor: 0x8086,
      device: 0x7113,
      classCode: 0x068000,
      revision: 3,
      subsystemVendor: 0x1af4,
      subsystem: 0x1100,
      status: PCI_STATUS.DEVSEL_MEDIUM | PCI_STATUS.FAST_BACK_TO_BACK,
      interruptPin: 1,
    };
    const pci = new PciFunction(state.pci, identity, [], {
      configWritten: (offset, size) => {
        const base = offset < PMBASE + 4 && offset + size > PMBASE;
        if (base || (offset <= PMREGMISC && offset + size > PMREGMISC)) this.pci.mappingChanged();
      },
      mapPorts: (mapper) => {
        if ((state.pci.config[PMREGMISC] & PMIOSE) === 0) return;
        const base = this.pci.get(PMBASE, 2) & 0xffc0;
        if (base !== 0) mapper.map(base, PM_PORTS, registers, 4);
      },
    });
    this.pci = pci;
    pci.setDefault(PMBASE, 4, 1);
    pci.setWritable(PMBASE, 4, 0x0000_ffc0);
    pci.setWritable(DEVACTB, 4, 0xffff_ffff);
    pci.setWritable(PMREGMISC, 1, PMIOSE);
    pci.setWritable(SMBHSTCFG, 1, 0x0e);
    this.apm = {
      read: (offset) => ((offset & 1) === 0 ? this.#s.apmControl : this.#s.apmStatus),
      write: (offset, _size, value) => this.#writeApm(offset & 1, value & 0xff),
    };
    this.gpe = {
      read: (offset) => this.#gpeRegister(offset)[offset & 1],
      write: (offset, _size, value) => this.#writeGpe(offset, value & 0xff),
    };
  }

  reset(): void {
    const s = this.#s;
    s.sts = 0;
    s.en = 0;
    s.cnt = 0;
    s.apmControl = 0;
    s.apmStatus = 0;
    s.gpeStatus.fill(0);
    s.gpeEnable.fill(0);
    this.pci.reset();
    this.#nextOverflow();
    this.#update();
  }

  /** What firmware does: PMBASE and its decoding, the interrupt line. */
  setUp(): void {
    this.pci.writeConfig(PMBASE, 4, PM_BASE);
    this.pci.writeConfig(PMREGMISC, 1, PMIOSE);
    this.pci.writeConfig(PCI.INTERRUPT_LINE, 1, SCI_IRQ);
  }

  /** The power button is pressed. *Thread:* main loop. *Lock:* BQL. */
  powerButton(): void {
    if ((this.#s.en & PWRBTN_STS) === 0) return;
    this.#s.sts |= PWRBTN_STS;
    this.#update();
  }

  /** The RTC's alarm fired: a wake-up event when enabled. */
  rtcAlarm(): void {
    this.#s.sts |= RTC_STS;
    this.#update();
  }

  /** Sets a general-purpose event's status bit (0–15). */
  raiseGpe(event: number): void {
    this.#s.gpeStatus[event >> 3] |= 1 << (event & 7);
    this.#update();
  }

  /** The timer: bit 23 of the PM timer changed. */
  onTimer(): void {
    this.#update();
  }

  /** True once the guest has switched to ACPI mode. */
  get acpiMode(): boolean {
    return (this.#s.cnt & SCI_EN) !== 0;
  }

  #ticks(): number {
    const now = this.#deps.clock.now();
    const seconds = Math.floor(now / SECOND);
    return (
      seconds * PM_TIMER_FREQUENCY + Math.floor(((now - seconds * SECOND) * PM_TIMER_FREQUENCY) / SECOND)
    );
  }

  /** Status with TMR_STS brought up to date. */
  #status(): number {
    const s = this.#s;
    if ((s.sts & TMR_STS) === 0 && this.#ticks() >= s.overflow) s.sts |= TMR_STS;
    return s.sts;
  }

  #nextOverflow(): void {
    this.#s.overflow = (Math.floor(this.#ticks() / TIMER_HALF) + 1) * TIMER_HALF;
  }

  /** Sets the SCI from all sources and arms the timer for the next overflow that would raise it. */
  #update(): void {
    const s = this.#s;
    const { sci, timer } = this.#deps;
    const status = this.#status();
    const gpe = (s.gpeStatus[0] & s.gpeEnable[0]) | (s.gpeStatus[1] & s.gpeEnable[1]);
    sci.set((status & s.en & PM1_EVENTS) !== 0 || gpe !== 0);
    if ((s.en & TMR_STS) === 0 || (status & TMR_STS) !== 0) {
      timer.del();
      return;
    }
    const seconds = Math.floor(s.overflow / PM_TIMER_FREQUENCY);
    const rest = s.overflow - seconds * PM_TIMER_FREQUENCY;
    // rounded up, so that the count has been reached when the timer fires
    timer.mod(seconds * SECOND + Math.ceil((rest * SECOND) / PM_TIMER_FREQUENCY));
  }

  #read(offset: number, size: number): number {
    const s = this.#s;
    let word = 0;
    switch (offset & ~3) {
      case PM1_STS:
        word = this.#status() | (s.en << 16);
        break;
      case PM1_CNT:
        word = s.cnt;
        break;
      case PM_TIMER:
        word = this.#ticks() % (TIMER_MASK + 1);
        break;
    }
    return (word >>> (8 * (offset & 3))) & (size === 4 ? -1 : (1 << (8 * size)) - 1);
  }

  #write(offset: number, size: number, value: number): void {
    // the registers are 16 bits wide; a dword is two of them, a byte is put in its place
    if (size === 4) {
      this.#write(offset, 2, value & 0xffff);
      this.#write(offset + 2, 2, value >>> 16);
      return;
    }
    const shift = (offset & 1) * 8;
    const mask = size === 1 ? 0xff << shift : 0xffff;
    const word = size === 1 ? value << shift : value;
    switch (offset & ~1) {
      case PM1_STS:
        this.#clearStatus(word & mask);
        break;
      case PM1_EN:
        this.#s.en = ((this.#s.en & ~mask) | (word & mask)) & PM1_EN_BITS;
        this.#update();
        break;
      case PM1_CNT:
        this.#writeControl((this.#s.cnt & ~mask) | (word & mask));
        break;
    }
  }

  #clearStatus(bits: number): void {
    const s = this.#s;
    s.sts = this.#status() & ~(bits & PM1_STS_BITS);
    if ((bits & TMR_STS) !== 0) this.#nextOverflow();
    this.#update();
  }

  #writeControl(value: number): void {
    const s = this.#s;
    // SCI_EN follows the SMI command alone; GBL_RLS would tell an SMI handler, and there is none
    s.cnt = (s.cnt & SCI_EN) | (value & CNT_KEPT & ~GBL_RLS);
    if ((value & SLP_EN) === 0) return;
    const type = (value >> SLP_TYP_SHIFT) & 7;
    if (type === SLP_TYP_S5 || type === SLP_TYP_S4) this.#deps.powerOff();
  }

  #writeApm(offset: number, value: number): void {
    const s = this.#s;
    if (offset === 1) {
      s.apmStatus = value;
      return;
    }
    s.apmControl = value;
    if (value === ACPI_ENABLE) s.cnt |= SCI_EN;
    else if (value === ACPI_DISABLE) s.cnt &= ~SCI_EN;
  }

  #gpeRegister(offset: number): { [index: number]: number } {
    return (offset & 2) === 0 ? this.#s.gpeStatus : this.#s.gpeEnable;
  }

  #writeGpe(offset: number, value: number): void {
    const s = this.#s;
    if ((offset & 2) === 0) s.gpeStatus[offset & 1] &= ~value;
    else s.gpeEnable[offset & 1] = value;
    this.#update();
  }
}
