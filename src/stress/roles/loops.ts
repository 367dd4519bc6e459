/** Threads that run a loop: the main loop, contexts of their own thread, and iothreads that come and go. */
import { AioContext } from '../../aio/aio-context.ts';
import type { BottomHalf } from '../../aio/aio-context.ts';
import { CLOCK, type ClockType } from '../../timer/clock-state.ts';
import { ClockError } from '../../timer/errors.ts';
import type { SharedTimer } from '../../timer/timer.ts';
import { SLOT, SLOT_BOTTOM_HALVES, TICKETS_PER_ARMER, type TicketView } from '../layout.ts';
import { clockName, type Stage } from '../stage.ts';
import { CALLBACK } from '../vocabulary.ts';

/** Registers what timers and bottom halves call. */
export function registerCallbacks(stage: Stage): void {
  const timers: (SharedTimer | undefined)[] = [];
  const timerTickets: TicketView[] = [];
  const bottomHalfTickets: TicketView[] = [];
  const tickets = stage.plan.cast.armers * TICKETS_PER_ARMER;
  const timerTicket = (arg: number): TicketView =>
    (timerTickets[arg] ??= arg < tickets ? stage.timerTicket(arg) : stage.userTicket(arg - tickets));

  const bursts = new Int32Array(tickets + stage.plan.cast.users);
  // a callback may arm any timer, its own included; but awaited ones belong to who awaits them
  const rearm = (arg: number): void => {
    const other = stage.random.oneIn(2) ? arg : stage.random.below(tickets);
    if (timerTicket(other).awaited.load() !== 0) return;
    const timer = (timers[other] ??= stage.clocks.timer(timerTicket(other).index.load()));
    if (other === arg && stage.random.oneIn(4)) bursts[arg] = stage.random.below(stage.plan.cast.burst);
    timer.mod(
      stage.clocks.now(timer.list.type) + stage.random.below(stage.random.oneIn(2) ? 20_000 : 300_000),
    );
  };

  stage.callbacks.register(CALLBACK.TIMER, (arg) => {
    const ticket = timerTicket(arg);
    const { home } = ticket;
    const type = (home & 3) as ClockType;
    stage.countRun(home);
    checkEnabled(stage, type, home, arg);
    if (ticket.awaited.load() !== 0) checkLateness(stage, ticket, type);
    ticket.calls.add(1);
    ticket.seen.store(ticket.armed.load());
    if (stage.random.oneIn(512)) disableFromCallback(stage, type);
    if (bursts[arg] > 0 && !stage.stopping) {
      // due already, so it is called again in this pass: a long pass that a disabling call has to wait for
      bursts[arg]--;
      (timers[arg] ??= stage.clocks.timer(ticket.index.load())).mod(0);
    } else {
      stage.dawdle();
      if (arg < tickets && !stage.stopping && stage.random.oneIn(2)) rearm(arg);
    }
    checkEnabled(stage, type, home, arg);
    stage.held(type === CLOCK.VIRTUAL ? 'virtual-callback' : 'disabled-callback');
    if (ticket.awaited.load() !== 0) ticket.done.set();
  });
  stage.callbacks.register(CALLBACK.BOTTOM_HALF, (arg) => {
    const ticket = (bottomHalfTickets[arg] ??= stage.bottomHalfTicket(arg));
    ticket.calls.add(1);
    ticket.seen.store(ticket.armed.load());
    if (ticket.awaited.load() !== 0) {
      stage.record('bh schedule to call', stage.clocks.hostNow() - ticket.expire.load());
      ticket.done.set();
    } else {
      stage.dawdle();
    }
  });
  stage.callbacks.register(CALLBACK.ONESHOT, () => {
    stage.state.oneshotsCalled.add(1);
  });
}

/** A callback runs: its clock is not one that a toggler found disabled. */
export function checkEnabled(stage: Stage, type: ClockType, list: number, arg: number): void {
  if (stage.raw.load(stage.state.disabled[type].address) === 0) return;
  stage.fail(
    'disabled-callback',
    `callback of timer ${arg} on list ${list >> 2}/${clockName(type)} runs while the clock is disabled`,
  );
}

function checkLateness(stage: Stage, ticket: TicketView, type: ClockType): void {
  const late = stage.clocks.now(type) - ticket.expire.load();
  stage.check('timer-early', late >= 0, () => `timer fires ${-late} ns before its ${clockName(type)} time`);
  if (late >= 0) stage.record('timer lateness', late);
}

function disableFromCallback(stage: Stage, type: ClockType): void {
  try {
    stage.clocks.clockEnable(type, false);
  } catch (error) {
    if (error instanceof ClockError && error.code === 'disabled-in-callback')
      return stage.held('misuse-refused');
    throw error;
  }
  stage.fail('misuse-refused', `a ${clockName(type)} callback disabled its own clock`);
}

/** The main loop: group 0, its callbacks under the BQL. */
export async function runMainLoop(stage: Stage): Promise<void> {
  registerCallbacks(stage);
  const loop = stage.mainLoop;
  const { state } = stage;
  for (let kind = 0; kind < stage.plan.cast.holders; kind++) {
    loop.onRequest(kind, (arg) => state.handled[kind].store(arg));
  }
  stage.ready();
  await loop.run();
}

/** A context that lives as long as the round. */
export async function runContext(stage: Stage): Promise<void> {
  registerCallbacks(stage);
  const context = stage.context(stage.data.index);
  // what a disk needs is loaded by those that have one
  const disk =
    stage.data.index < stage.plan.cast.disks
      ? await (await import('./disk.ts')).openDisk(stage, context)
      : undefined;
  stage.ready();
  await context.run();
  await disk?.close();
  context.close();
}

/** Lives of a thread before it is replaced by another one. */
const LIVES = 24;

/**
 * Makes a context, lets others use it, and destroys it, again and again; returns now and then, so that the host
 * starts a new thread in its place.
 */
export async function runIothread(stage: Stage): Promise<void> {
  registerCallbacks(stage);
  const slot = stage.slotState(stage.data.index);
  const at = stage.plan.slotContexts[stage.data.index];
  let context: AioContext;
  const leave = (ticket: TicketView): void => {
    // here no callback of the timer is in progress, so its number may be used again
    const index = ticket.index.load();
    if (index >= 0) {
      const timer = stage.clocks.timer(index);
      timer.del();
      stage.clocks.releaseTimer(timer);
      ticket.index.store(-1);
    }
    slot.lock.lock();
    slot.users--;
    const last = slot.state === SLOT.CLOSING && slot.users === 0;
    slot.lock.unlock();
    if (last) context.requestStop();
    ticket.done.set();
  };
  stage.callbacks.register(CALLBACK.RELEASE, (user) => leave(stage.userTicket(user)));
  stage.callbacks.register(CALLBACK.RETIRE, () => {
    slot.lock.lock();
    slot.state = SLOT.CLOSING;
    const unused = slot.users === 0;
    slot.lock.unlock();
    if (unused) context.requestStop();
  });
  stage.ready();
  for (let life = 0; life < LIVES && !stage.stopping; life++) {
    const created = stage.begin('context create');
    context = AioContext.init(stage.clocks, at, { maxBottomHalves: SLOT_BOTTOM_HALVES });
    const own: BottomHalf = context.createBottomHalf(CALLBACK.RETIRE, 0);
    // not on VIRTUAL: a clock that is disabled must not keep it alive
    const retire = stage.clocks.createTimer({
      clock: CLOCK.REALTIME,
      callback: stage.callbacks.add(() => own.schedule()),
      group: context.group.index,
    });
    slot.lock.lock();
    slot.generation++;
    slot.state = SLOT.OPEN;
    slot.lock.unlock();
    stage.end('context create', created);
    retire.mod(stage.clocks.now(CLOCK.REALTIME) + 200_000 + stage.random.below(4_000_000));
    await context.run();
    const destroyed = stage.begin('context destroy');
    slot.lock.lock();
    slot.state = SLOT.CLOSED;
    slot.lock.unlock();
    retire.del();
    stage.clocks.releaseTimer(retire);
    context.close();
    stage.end('context destroy', destroyed);
    stage.nap();
  }
}
