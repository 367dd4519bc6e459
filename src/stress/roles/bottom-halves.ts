/** Threads that schedule bottom halves, in contexts that live on and in those of iothreads that come and go. */
import { AioContext } from '../../aio/aio-context.ts';
import type { BottomHalf } from '../../aio/aio-context.ts';
import { AioError } from '../../aio/errors.ts';
import { CLOCK } from '../../timer/clock-state.ts';
import { SLOT, TICKETS_PER_ARMER, TICKETS_PER_PRODUCER, type TicketView } from '../layout.ts';
import type { Stage } from '../stage.ts';
import { CALLBACK } from '../vocabulary.ts';
import { armAndWait, awaitCall } from './timers.ts';

/** The first of a producer's is awaited; the last is made and deleted again and again. */
export const AWAITED = 0;
export const SHORT_LIVED = TICKETS_PER_PRODUCER - 1;

/** Storms of bottom halves: schedule, idle, oneshot, cancel, delete; waits for one now and then. */
export function runProducer(stage: Stage): void {
  const { random } = stage;
  const first = stage.data.index * TICKETS_PER_PRODUCER;
  const tickets = Array.from({ length: TICKETS_PER_PRODUCER }, (_, i) => stage.bottomHalfTicket(first + i));
  const halves = tickets.map((ticket) => stage.context(ticket.home).bottomHalf(ticket.index.load()));
  stage.ready();
  while (!stage.stopping) {
    const burst = random.oneIn(16) ? random.below(64) : 1;
    for (let n = 0; n < burst; n++) {
      const i = 1 + random.below(TICKETS_PER_PRODUCER - 2);
      if (random.oneIn(4)) oneshot(stage, stage.context(tickets[i].home));
      else schedule(stage, halves[i], tickets[i]);
    }
    if (random.oneIn(3)) await_(stage, halves[AWAITED], tickets[AWAITED]);
    if (random.oneIn(32)) {
      cancelled(
        stage,
        halves[1],
        tickets[1],
        () => {
          const since = stage.begin('bh cancel');
          halves[1].cancel();
          stage.end('bh cancel', since);
        },
        halves[AWAITED],
        tickets[AWAITED],
      );
    }
    if (random.oneIn(32)) shortLived(stage, first + SHORT_LIVED, halves[AWAITED], tickets[AWAITED]);
    stage.nap();
  }
  // what was cancelled is not owed a call, so the last schedule comes after it
  for (let i = 1; i < SHORT_LIVED; i++) schedule(stage, halves[i], tickets[i]);
}

function schedule(stage: Stage, half: BottomHalf, ticket: TicketView): void {
  ticket.armed.add(1);
  const since = stage.begin('bh schedule');
  if (stage.random.oneIn(16)) half.scheduleIdle();
  else half.schedule();
  stage.end('bh schedule', since);
}

function oneshot(stage: Stage, context: AioContext): void {
  const since = stage.begin('bh oneshot');
  context.scheduleOneshot(CALLBACK.ONESHOT);
  stage.state.oneshotsScheduled.add(1);
  stage.end('bh oneshot', since);
}

/** Schedules one and sleeps until it was called. */
function await_(stage: Stage, half: BottomHalf, ticket: TicketView): void {
  const generation = ticket.armed.add(1) + 1;
  ticket.expire.store(stage.begin('bh schedule to call'));
  half.schedule();
  awaitCall(ticket, generation);
  stage.raw.store(stage.self.operation.address, -1);
  stage.check(
    'bh-called',
    ticket.seen.load() === generation,
    () => `bottom half ${half.index} was scheduled ${generation} times, its call saw ${ticket.seen.load()}`,
  );
}

/** One that was taken back is not called after a later one of the same context was. */
function cancelled(
  stage: Stage,
  half: BottomHalf,
  ticket: TicketView,
  takeBack: () => void,
  later: BottomHalf,
  laterTicket: TicketView,
): void {
  half.schedule();
  takeBack();
  await_(stage, later, laterTicket);
  const before = ticket.calls.load();
  stage.nap();
  await_(stage, later, laterTicket);
  const calls = ticket.calls.load() - before;
  stage.check(
    'bh-cancelled',
    calls === 0,
    () => `bottom half ${half.index} was called ${calls} times after it was cancelled or deleted`,
  );
}

function shortLived(stage: Stage, arg: number, later: BottomHalf, laterTicket: TicketView): void {
  const ticket = stage.bottomHalfTicket(arg);
  const created = stage.begin('bh create');
  let half: BottomHalf;
  try {
    half = stage.context(ticket.home).createBottomHalf(CALLBACK.BOTTOM_HALF, arg);
  } catch (error) {
    stage.raw.store(stage.self.operation.address, -1);
    if (error instanceof AioError && error.code === 'no-bottom-half-left') return stage.sleep(200);
    throw error;
  }
  stage.end('bh create', created);
  cancelled(
    stage,
    half,
    ticket,
    () => {
      const since = stage.begin('bh delete');
      half.delete();
      stage.end('bh delete', since);
    },
    later,
    laterTicket,
  );
}

/** Uses contexts of iothreads while they exist: a timer, a bottom half, then takes its leave. */
export function runUser(stage: Stage): void {
  const { index } = stage.data;
  const { random, clocks } = stage;
  const { iothreads, armers } = stage.plan.cast;
  const ticket = stage.userTicket(index);
  const slots = Array.from({ length: iothreads }, (_, i) => stage.slotState(i));
  stage.ready();
  while (!stage.stopping) {
    const place = random.below(iothreads);
    const slot = slots[place];
    slot.lock.lock();
    const open = slot.state === SLOT.OPEN;
    if (open) slot.users++;
    slot.lock.unlock();
    if (!open) {
      stage.nap(Math.max(50, stage.data.tempo.nap));
      continue;
    }
    const context = AioContext.attach(clocks, stage.plan.slotContexts[place]);
    const type = random.oneIn(2) ? CLOCK.VIRTUAL : CLOCK.REALTIME;
    ticket.home = context.group.lists[type].index;
    const since = stage.begin('timer create');
    const timer = clocks.createTimer({
      clock: type,
      callback: CALLBACK.TIMER,
      arg: armers * TICKETS_PER_ARMER + index,
      group: context.group.index,
    });
    stage.end('timer create', since);
    ticket.index.store(timer.index);
    for (let n = random.below(4); n > 0; n--) armAndWait(stage, timer, ticket);
    // a timer that is pending when its user leaves, is disarmed by the context's thread
    if (random.oneIn(2)) {
      ticket.awaited.store(0);
      timer.mod(clocks.now(type) + random.below(100_000));
    }
    for (let n = random.below(3); n > 0; n--) oneshot(stage, context);
    const left = stage.begin('timer release');
    context.scheduleOneshot(CALLBACK.RELEASE, index);
    for (ticket.done.reset(); ticket.index.load() >= 0; ticket.done.reset()) ticket.done.wait();
    stage.end('timer release', left);
    // no callback of the timer is in progress any more, which would take it for its own
    ticket.awaited.store(1);
    stage.nap();
  }
}
