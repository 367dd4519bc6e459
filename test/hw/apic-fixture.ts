/** Some local APICs on one bus, with an 8259 whose next vector a test chooses. */
import { ApicBus, ApicBusState } from '../../src/hw/intc/apic-bus.ts';
import { Lapic } from '../../src/hw/intc/lapic.ts';
import { LapicState, type LapicStateView } from '../../src/hw/intc/lapic-state.ts';
import { FakeClock, FakeSignals, type FakeTimer, dirtyState } from './fakes.ts';

export const R = {
  ID: 0x20,
  VERSION: 0x30,
  TPR: 0x80,
  PPR: 0xa0,
  EOI: 0xb0,
  LDR: 0xd0,
  DFR: 0xe0,
  SVR: 0xf0,
  ISR: 0x100,
  TMR: 0x180,
  IRR: 0x200,
  ESR: 0x280,
  ICR_LOW: 0x300,
  ICR_HIGH: 0x310,
  LVT_TIMER: 0x320,
  LVT_LINT0: 0x350,
  LVT_LINT1: 0x360,
  LVT_ERROR: 0x370,
  INITIAL: 0x380,
  CURRENT: 0x390,
  DIVIDE: 0x3e0,
} as const;

export const MASKED = 0x10000;
export const EXTINT = 0x700;

export class ApicFixture {
  readonly clock = new FakeClock();
  readonly bus: ApicBus;
  readonly lapics: Lapic[] = [];
  readonly states: LapicStateView[] = [];
  readonly signals: FakeSignals[] = [];
  readonly timers: FakeTimer[] = [];
  /** Vectors broadcast to the I/O APIC. */
  readonly eois: number[] = [];
  onEoi: (vector: number) => void = () => {};
  picVector = 0x30;
  /** TSC at VIRTUAL 0, in ticks of 1 ns. */
  tscOffset = 0;

  /** All enabled in the spurious vector register unless `enabled` is false. */
  constructor(count = 1, enabled = true) {
    this.clock.time = 1_000_000;
    this.bus = new ApicBus(dirtyState(ApicBusState), {
      picAcknowledge: () => this.picVector,
      ioapicEoi: (vector) => {
        this.eois.push(vector);
        this.onEoi(vector);
      },
    });
    this.bus.reset();
    for (let i = 0; i < count; i++) {
      const signals = new FakeSignals();
      const timer = this.clock.timer(() => this.lapics[i].onTimer());
      const state = dirtyState(LapicState);
      const lapic = new Lapic(state, {
        bus: this.bus,
        signals,
        clock: this.clock,
        timer,
        tscToNs: (low, high) => high * 2 ** 32 + low - this.tscOffset,
        apicId: i,
        bsp: i === 0,
      });
      this.signals.push(signals);
      this.timers.push(timer);
      this.states.push(state);
      this.lapics.push(lapic);
      lapic.reset();
      if (enabled) lapic.write(R.SVR, 4, 0x1ff);
    }
  }

  /** All vectors set in the bit array at `register` of LAPIC `n`. */
  vectors(register: number, n = 0): number[] {
    const found = [];
    for (let v = 0; v < 256; v++) {
      const word = this.lapics[n].read(register + (v >>> 5) * 16, 4);
      if (((word >>> (v & 31)) & 1) !== 0) found.push(v);
    }
    return found;
  }

  /** Sends a fixed edge interrupt to LAPIC `n`. */
  send(vector: number, n = 0, level = false): boolean {
    return this.bus.deliver(n, false, 0, vector, level);
  }

  /** Indices of the LAPICs that have `vector` requested. */
  receivers(vector: number): number[] {
    return this.lapics.flatMap((_, n) => (this.vectors(R.IRR, n).includes(vector) ? [n] : []));
  }

  /** The same in x2APIC mode. */
  receivers2(vector: number): number[] {
    return this.lapics.flatMap((l, n) => {
      const [word] = rdmsr(l, 0x820 + (vector >>> 5)) ?? [0];
      return ((word >>> (vector & 31)) & 1) !== 0 ? [n] : [];
    });
  }
}

const out = new Uint32Array(2);
/** RDMSR: [low, high], or undefined for #GP. */
export function rdmsr(lapic: Lapic, index: number): [number, number] | undefined {
  out.fill(0xeeee_eeee);
  return lapic.readMsr(index, out) ? [out[0], out[1]] : undefined;
}
