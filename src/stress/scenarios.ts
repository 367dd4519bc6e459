/** Who takes part in a round. `n` is what `--threads` says. */
import type { Cast } from './layout.ts';

export interface StressScenario {
  /** Played inside a running machine; only when asked for by name. */
  readonly guest?: true;
  readonly name: string;
  readonly title: string;
  readonly cast: (n: number) => Cast;
}

const NOBODY: Cast = {
  contexts: 0,
  disks: 0,
  mainLoop: false,
  armers: 0,
  togglers: 0,
  producers: 0,
  iothreads: 0,
  users: 0,
  holders: 0,
  readers: 0,
  tickers: 0,
  stoppers: 0,
  burst: 64,
};
const half = (n: number): number => Math.ceil(n / 2);
const quarter = (n: number): number => Math.ceil(n / 4);

export const SCENARIOS: readonly StressScenario[] = [
  {
    name: 'toggle',
    title: 'n threads switch clocks off and on, n arm timers of n contexts',
    cast: (n) => ({ ...NOBODY, contexts: n, togglers: n, armers: n }),
  },
  {
    name: 'main-loop',
    title:
      'the main loop under the BQL; n switch clocks, half of it under the BQL, n arm, n/2 take the BQL and post requests',
    cast: (n) => ({ ...NOBODY, mainLoop: true, togglers: n, armers: n, holders: half(n) }),
  },
  {
    name: 'passes',
    title:
      'n/4 threads switch clocks while n/4 contexts are in passes of up to thousands of callbacks, n/4 arm',
    cast: (n) => ({
      ...NOBODY,
      contexts: quarter(n),
      togglers: quarter(n),
      armers: quarter(n),
      burst: 20_000,
    }),
  },
  {
    name: 'arm',
    title: 'n threads arm timers of n contexts and wait for some; nothing else wakes the contexts',
    cast: (n) => ({ ...NOBODY, contexts: n, armers: n }),
  },
  {
    name: 'bottom-half',
    title: 'n threads schedule, cancel and delete bottom halves of n/2 contexts, and wait for some',
    cast: (n) => ({ ...NOBODY, contexts: half(n), producers: n }),
  },
  {
    name: 'iothread',
    title: 'n/2 contexts and their threads are made and destroyed; n use them, n/2 switch clocks',
    cast: (n) => ({ ...NOBODY, iothreads: half(n), users: n, togglers: half(n) }),
  },
  {
    name: 'disk',
    title: 'n/2 contexts serve a qcow2 image whose cache cleaner runs every ms; n/2 switch clocks, n/2 arm',
    cast: (n) => ({ ...NOBODY, contexts: half(n), disks: half(n), togglers: half(n), armers: half(n) }),
  },
  {
    name: 'ticks',
    title: 'n threads read clocks and the TSC while others stop and start them and change the frequency',
    cast: (n) => ({ ...NOBODY, contexts: 1, armers: 1, readers: n, tickers: half(n), stoppers: 1 }),
  },
  {
    name: 'all',
    title: 'n contexts, n switch, n arm, n/2 iothreads with users, the main loop, a bottom-half storm, stops',
    cast: (n) => ({
      contexts: n,
      disks: half(n),
      mainLoop: true,
      armers: n,
      togglers: n,
      producers: half(n),
      iothreads: half(n),
      users: half(n),
      holders: 1,
      readers: 1,
      tickers: 0,
      stoppers: 1,
      burst: 64,
    }),
  },
  {
    name: 'guest',
    guest: true,
    title:
      'a Linux guest of n vCPUs compares its clocks, stopped, let go on and throttled at random (in a checkout)',
    cast: () => NOBODY,
  },
];
