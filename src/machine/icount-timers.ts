/** The timers of icount that keep VIRTUAL and host time together. */
import type { ClockSystem } from '../timer/clock.ts';
import { CLOCK, CLOCK_NAMES, type ClockType } from '../timer/clock-state.ts';
import type { IcountOptions } from '../timer/icount.ts';
import type { SharedTimer } from '../timer/timer.ts';
import type { BoardRole } from './board.ts';

export interface IcountTimers {
  /** Ends a warp. */
  readonly warp: SharedTimer;
  /** With shift=auto. */
  readonly adjust: readonly SharedTimer[];
}

export interface IcountHost {
  timer(name: string, onExpiry: () => void, clock: ClockType): SharedTimer;
  /** Makes the executing thread look. */
  kick(): void;
  running(): boolean;
}

/** Makes them, the same in every thread. *Thread:* any, once. */
export function icountTimers(
  options: IcountOptions,
  role: BoardRole,
  clocks: ClockSystem,
  host: IcountHost,
): IcountTimers {
  const icount = clocks.icount!;
  if (role !== 'vcpu') icount.kick = () => host.kick();
  const auto = options.shift === 'auto';
  const endWarp = (): void => {
    icount.endWarp(auto);
    host.kick();
  };
  const warp = host.timer('icount-warp', endWarp, CLOCK.VIRTUAL_RT);
  const adjusting = (clock: ClockType): SharedTimer => {
    const onExpiry = (): void => {
      timer.mod(icount.nextAdjustment(clock));
      if (host.running()) icount.adjust();
    };
    const timer = host.timer(`icount-adjust-${CLOCK_NAMES[clock]}`, onExpiry, clock);
    if (role === 'create') timer.mod(icount.nextAdjustment(clock));
    return timer;
  };
  return { warp, adjust: auto ? [adjusting(CLOCK.VIRTUAL_RT), adjusting(CLOCK.VIRTUAL)] : [] };
}
