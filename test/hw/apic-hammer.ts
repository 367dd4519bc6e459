/** Layout and construction shared by the threads of apic-hammer.test.ts. */
import { AtomicI32 } from '@smp86/atomics-sync';
import { INTERRUPT } from '../../src/cpu/env.ts';
import { ApicBus, ApicBusState } from '../../src/hw/intc/apic-bus.ts';
import { Lapic } from '../../src/hw/intc/lapic.ts';
import { LapicState } from '../../src/hw/intc/lapic-state.ts';
import { FakeClock } from './fakes.ts';

export interface HammerData {
  readonly buffer: SharedArrayBuffer;
  readonly first: number;
  readonly last: number;
  readonly rounds: number;
}

const words = {
  lapic: 0,
  bus: 4096,
  /** INTERRUPT bits. */
  request: 4160,
  go: 4224,
  /** Times each vector was taken. */
  taken: 8192,
};
export const HAMMER_BYTES = 16384;

/** One local APIC and its bus over `buffer`, as every thread builds them for itself. */
export function hammerBus(buffer: SharedArrayBuffer): {
  bus: ApicBus;
  lapic: Lapic;
  request: AtomicI32;
  counters: { words: typeof words };
} {
  const request = new AtomicI32(buffer, words.request);
  const clock = new FakeClock();
  const bus = new ApicBus(ApicBusState.at(buffer, words.bus), {
    picAcknowledge: () => 0,
    ioapicEoi: () => {},
  });
  const lapic = new Lapic(LapicState.at(buffer, words.lapic), {
    bus,
    clock,
    timer: clock.timer(),
    tscToNs: () => 0,
    apicId: 0,
    bsp: true,
    signals: {
      interrupt: (bits) => {
        request.or(bits);
        request.notify();
      },
      clearInterrupt: (bits) => {
        request.and(~bits);
      },
      init: () => {},
      sipi: () => {},
    },
  });
  return { bus, lapic, request, counters: { words } };
}

export const HARD = INTERRUPT.HARD;
