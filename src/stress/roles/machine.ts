/** Threads that do what vCPUs and the monitor do: take the BQL, read clocks, stop and go on. */
import { CLOCK } from '../../timer/clock-state.ts';
import { clockName, type Stage } from '../stage.ts';
import { closeWindow, disableAndMark, lockBql } from './timers.ts';

/** Takes the BQL for short sections, and posts requests of its own kind to the main loop. */
export function runHolder(stage: Stage): void {
  const { state } = stage;
  const kind = stage.data.index;
  const loop = stage.mainLoop;
  let posted = 0;
  stage.ready();
  while (!stage.stopping) {
    lockBql(stage);
    const first = ++state.bqlFirst;
    if (stage.random.oneIn(4)) stage.nap();
    const second = ++state.bqlSecond;
    state.bql.unlock();
    stage.check('bql-excludes', first === second, () => `two threads were in a section under the BQL`);
    if (stage.random.oneIn(2)) {
      const since = stage.begin('request post');
      state.posted[kind].store(++posted);
      loop.post(kind, posted);
      stage.end('request post', since);
    }
    stage.nap();
  }
}

const READ = [CLOCK.VIRTUAL, CLOCK.VIRTUAL_RT, CLOCK.REALTIME] as const;

/** Reads clocks and the TSC: never before a value that some thread has read. */
export function runReader(stage: Stage): void {
  const { clocks, state } = stage;
  stage.ready();
  for (let n = 0; !stage.stopping; n++) {
    const i = stage.random.below(4);
    const name = i < 3 ? clockName(READ[i]) : 'TSC';
    const last = stage.raw.loadF64(state.readings[i].address);
    const since = stage.begin('clock read');
    const now = i < 3 ? clocks.now(READ[i]) : clocks.ticks();
    stage.end('clock read', since);
    stage.check('time-monotonic', now >= last, () => `${name} was ${last}, then ${now}: ${last - now} back`);
    stage.raw.storeF64(state.readings[i].address, now);
    if (n % 64 === 0) stage.nap(Math.max(20, stage.data.tempo.nap));
  }
}

/** Stops and starts the ticks, and changes the TSC's frequency. */
export function runTicker(stage: Stage): void {
  const { clocks, state } = stage;
  stage.ready();
  for (let hz = 3e9; !stage.stopping;) {
    state.ticksOwner.lock();
    stopTicks(stage);
    if (stage.random.oneIn(8) && hz > 2e9) clocks.setTscHz((hz -= 1000));
    const virtual = clocks.now(CLOCK.VIRTUAL);
    const ticks = clocks.ticks();
    stage.nap(40);
    stoodStill(stage, virtual, ticks);
    startTicks(stage);
    state.ticksOwner.unlock();
    stage.nap(Math.max(100, stage.data.tempo.nap));
  }
}

/** Stops the machine as `vm_stop` does, ticks and VIRTUAL timers, and lets it go on. */
export function runStopper(stage: Stage): void {
  const { clocks, state } = stage;
  const { mainLoop } = stage.plan.cast;
  stage.ready();
  while (!stage.stopping) {
    state.switches[CLOCK.VIRTUAL].lock();
    state.ticksOwner.lock();
    if (mainLoop) lockBql(stage);
    stopTicks(stage);
    disableAndMark(stage, CLOCK.VIRTUAL);
    const before = stage.runsOf(CLOCK.VIRTUAL);
    if (mainLoop) state.bql.unlock();
    const virtual = clocks.now(CLOCK.VIRTUAL);
    const ticks = clocks.ticks();
    stage.nap();
    stoodStill(stage, virtual, ticks);
    if (mainLoop) lockBql(stage);
    startTicks(stage);
    closeWindow(stage, CLOCK.VIRTUAL, before);
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    if (mainLoop) state.bql.unlock();
    state.ticksOwner.unlock();
    state.switches[CLOCK.VIRTUAL].unlock();
    stage.nap(Math.max(200, stage.data.tempo.nap));
  }
}

function stopTicks(stage: Stage): void {
  const since = stage.begin('ticks disable');
  stage.clocks.disableTicks();
  stage.end('ticks disable', since);
}

function startTicks(stage: Stage): void {
  const since = stage.begin('ticks enable');
  stage.clocks.enableTicks();
  stage.end('ticks enable', since);
}

function stoodStill(stage: Stage, virtual: number, ticks: number): void {
  const nowVirtual = stage.clocks.now(CLOCK.VIRTUAL);
  const nowTicks = stage.clocks.ticks();
  stage.check(
    'time-stopped',
    nowVirtual === virtual && nowTicks === ticks,
    () => `stopped at VIRTUAL ${virtual} TSC ${ticks}, then VIRTUAL ${nowVirtual} TSC ${nowTicks}`,
  );
}
