/** Threads that arm timers of others, and threads that switch clocks off and on. */
import { CLOCK, type ClockType } from '../../timer/clock-state.ts';
import type { SharedTimer } from '../../timer/timer.ts';
import { AWAITED_PER_ARMER, TICKETS_PER_ARMER, type TicketView } from '../layout.ts';
import { clockName, type Stage } from '../stage.ts';

/** Longest time, ns, that a timer is armed for. */
const HORIZON = 300_000;

/** Arms, moves and disarms its own timers, which are spread over all loops; waits for some of them. */
export function runArmer(stage: Stage): void {
  const first = stage.data.index * TICKETS_PER_ARMER;
  const tickets: TicketView[] = [];
  const timers: SharedTimer[] = [];
  for (let i = 0; i < TICKETS_PER_ARMER; i++) {
    tickets.push(stage.timerTicket(first + i));
    timers.push(stage.clocks.timer(tickets[i].index.load()));
  }
  stage.ready();
  while (!stage.stopping) {
    if (stage.random.oneIn(8)) {
      const i = stage.random.below(AWAITED_PER_ARMER);
      armAndWait(stage, timers[i], tickets[i]);
    } else {
      const i = AWAITED_PER_ARMER + stage.random.below(TICKETS_PER_ARMER - AWAITED_PER_ARMER);
      disturb(stage, timers[i], tickets[i]);
    }
    stage.nap();
  }
  // the last arming of all must fire, however the threads stand
  for (let i = AWAITED_PER_ARMER; i < TICKETS_PER_ARMER; i++) {
    tickets[i].armed.add(1);
    timers[i].mod(stage.clocks.now(timers[i].list.type) + stage.random.below(2_000_000));
  }
}

function disturb(stage: Stage, timer: SharedTimer, ticket: TicketView): void {
  const expire = stage.clocks.now(timer.list.type) + stage.random.below(HORIZON) - HORIZON / 16;
  const kind = stage.random.below(8);
  if (kind === 0) {
    const since = stage.begin('timer del');
    timer.del();
    stage.end('timer del', since);
  } else if (kind < 4) {
    const since = stage.begin('timer modAnticipate');
    timer.modAnticipate(expire);
    stage.end('timer modAnticipate', since);
  } else {
    ticket.armed.add(1);
    const since = stage.begin('timer mod');
    timer.mod(expire);
    stage.end('timer mod', since);
  }
}

/**
 * Arms a timer and sleeps until its callback has run. Nothing else may happen meanwhile that would wake the loop,
 * so this is what finds a lost wake-up.
 */
export function armAndWait(stage: Stage, timer: SharedTimer, ticket: TicketView): void {
  const { type } = timer.list;
  const generation = ticket.armed.add(1) + 1;
  const expire = stage.clocks.now(type) + stage.random.below(HORIZON);
  ticket.expire.store(expire);
  // the operation is timed by the callback, from its expiry on; here it only tells the watchdog
  stage.begin('timer lateness');
  if (stage.random.oneIn(4)) {
    // first far away, then nearer
    timer.mod(expire + 1e12);
    timer.modAnticipate(expire);
  } else {
    timer.mod(expire);
  }
  awaitCall(ticket, generation);
  stage.raw.store(stage.self.operation.address, -1);
  stage.check(
    'timer-fired',
    ticket.seen.load() === generation && !timer.pending,
    () => `timer ${timer.index} was armed ${generation} times, its callback saw ${ticket.seen.load()}`,
  );
}

/** Sleeps until a call has seen `generation`. A wait may end for a set that was on its way before it, so look again. */
export function awaitCall(ticket: TicketView, generation: number): void {
  for (;;) {
    ticket.done.reset();
    if (ticket.seen.load() === generation) return;
    ticket.done.wait();
  }
}

const SWITCHED: readonly ClockType[] = [
  CLOCK.VIRTUAL,
  CLOCK.VIRTUAL,
  CLOCK.VIRTUAL,
  CLOCK.VIRTUAL_RT,
  CLOCK.HOST,
  CLOCK.REALTIME,
];

/** Disables a clock, watches that none of its callbacks runs, enables it again. */
export function runToggler(stage: Stage): void {
  const { state, clocks } = stage;
  stage.ready();
  while (!stage.stopping) {
    const type = stage.random.pick(SWITCHED);
    const lock = state.switches[type];
    const underBql = stage.plan.cast.mainLoop && stage.random.oneIn(2);
    lock.lock();
    if (underBql) lockBql(stage);
    disableAndMark(stage, type);
    const before = stage.runsOf(type);
    if (underBql) state.bql.unlock();
    stage.nap();
    if (underBql) lockBql(stage);
    closeWindow(stage, type, before);
    const since = stage.begin('clock enable');
    clocks.clockEnable(type, true);
    stage.end('clock enable', since);
    if (underBql) state.bql.unlock();
    lock.unlock();
    stage.nap();
  }
}

export function disableAndMark(stage: Stage, type: ClockType): void {
  const since = stage.begin('clock disable');
  stage.clocks.clockEnable(type, false);
  stage.raw.store(stage.state.disabled[type].address, 1);
  stage.end('clock disable', since);
}

/** Ends a window that began with `before` callbacks. */
export function closeWindow(stage: Stage, type: ClockType, before: number): void {
  const ran = (stage.runsOf(type) - before) | 0;
  stage.check(
    'disabled-window',
    ran === 0,
    () => `${ran} callbacks of ${clockName(type)} ran after clockEnable(${clockName(type)}, false) returned`,
  );
  stage.raw.store(stage.state.disabled[type].address, 0);
}

export function lockBql(stage: Stage): void {
  const since = stage.begin('bql lock');
  stage.state.bql.lock();
  stage.end('bql lock', since);
}
