/** Schedules as text: short, to be replayed, and long, to be read. */
import {
  type Choice,
  type CircleStep,
  type Execution,
  isLivelock,
  LIVELOCK,
  threadOf,
  VARIANT_CHOICE,
  VARIANT_TIMEOUT,
  variantOf,
} from './execution.ts';
import { HappensBefore } from './happens-before.ts';
import { STATUS, type ThreadState } from './thread.ts';
import { type Failure, KIND, KIND_NAMES } from './world.ts';

/**
 * A schedule as letters: thread 0 is a, 1 is b …; a number repeats the letter before it; after a letter, `!` is
 * its timeout and `.n` its choice of n.
 */
export function encodeSchedule(schedule: readonly Choice[]): string {
  let out = '';
  for (let i = 0; i < schedule.length;) {
    let n = 1;
    while (schedule[i + n] === schedule[i]) n++;
    const variant = variantOf(schedule[i]);
    out += String.fromCharCode(97 + threadOf(schedule[i]));
    if (variant === VARIANT_TIMEOUT) out += '!';
    else if (variant >= VARIANT_CHOICE) out += `.${variant - VARIANT_CHOICE}`;
    if (n > 1) out += variant === 0 ? String(n) : `*${n}`;
    i += n;
  }
  return out;
}

/** @throws SyntaxError if `text` is no schedule */
export function decodeSchedule(text: string): Choice[] {
  const out: Choice[] = [];
  const token = /([a-p])(?:(!)|\.(\d+))?(?:\*?(\d+))?/gy;
  let at = 0;
  while (at < text.length) {
    token.lastIndex = at;
    const match = token.exec(text);
    if (match === null) throw new SyntaxError(`no schedule: ${text.slice(at)}`);
    const variant = match[2] ? VARIANT_TIMEOUT : match[3] ? VARIANT_CHOICE + Number(match[3]) : 0;
    const choice = match[1].charCodeAt(0) - 97 + 16 * variant;
    for (let i = Number(match[4] ?? 1); i > 0; i--) out.push(choice);
    at = token.lastIndex;
  }
  return out;
}

/** One step of a schedule, as it was done. */
export interface TraceStep {
  readonly thread: number;
  readonly where: string;
  readonly what: string;
}

export interface Replay {
  readonly steps: readonly TraceStep[];
  readonly failure?: Failure;
}

/** Does a schedule again, in a fresh execution. Stops at the first failure. `vectorClocks`: finds races that only these show. */
export function replay(execution: Execution, schedule: readonly Choice[], vectorClocks = false): Replay {
  const steps: TraceStep[] = [];
  const { world } = execution;
  if (vectorClocks) world.order = new HappensBefore(execution.states.length);
  const way: CircleStep[] = [];
  const seen = new Map<string, number>();
  for (const choice of schedule) {
    execution.computeKey();
    seen.set(`${execution.keyA},${execution.keyB}`, way.length);
    if (world.failure !== undefined) break;
    const t = threadOf(choice);
    const before = execution.states[t];
    const old = wordText(execution, before);
    if (!execution.choices(-1).includes(choice)) {
      world.fail(
        'exception',
        `the schedule does not fit: ${execution.scenario.threads[t]} cannot make a step here`,
      );
      break;
    }
    way.push({ taken: choice, states: execution.states.slice() });
    execution.step(choice);
    steps.push({
      thread: t,
      where: whereOf(execution, before.site),
      what: stepText(execution, choice, before, execution.states[t], old),
    });
  }
  if (world.failure === undefined) {
    const choices = execution.choices(-1);
    if (choices.length === 0) execution.checkEnd();
    else if (choices.every((c) => variantOf(c) === VARIANT_TIMEOUT)) execution.checkOnlyTimeouts();
    execution.computeKey();
    const back = seen.get(`${execution.keyA},${execution.keyB}`);
    if (back !== undefined && isLivelock(way.slice(back))) world.fail('livelock', LIVELOCK);
  }
  return { steps, failure: world.failure };
}

function whereOf(execution: Execution, site: number): string {
  const s = execution.world.sites[site];
  return s === undefined ? '' : `${s.path.replace(/^.*?([^/]+)$/, '$1')}:${s.line}`;
}

function wordText(execution: Execution, s: ThreadState): number {
  const { world } = execution;
  return s.kind === KIND.LOAD_F64 || s.kind === KIND.STORE_F64
    ? world.f64[s.addr >>> 3]
    : world.i32[s.addr >>> 2];
}

function stepText(
  execution: Execution,
  choice: Choice,
  before: ThreadState,
  after: ThreadState,
  old: number,
): string {
  const name = execution.world.nameOf(before.addr);
  if (variantOf(choice) === VARIANT_TIMEOUT) return `wait(${name}) → timed out`;
  if (before.status === STATUS.WOKEN) return `wait(${name}) → woken`;
  const kind = KIND_NAMES[before.kind];
  switch (before.kind) {
    case KIND.LOAD:
    case KIND.LOAD_F64:
      return `${kind}(${name}) → ${old}`;
    case KIND.STORE:
    case KIND.STORE_F64:
      return `${kind}(${name}, ${before.p})`;
    case KIND.COMPARE_EXCHANGE:
      return `${kind}(${name}, ${before.p}, ${before.q}) → ${old}${old === before.p ? '' : ' (kept)'}`;
    case KIND.WAIT:
      if (after.status === STATUS.BLOCKED) return `wait(${name}, ${before.p}) sleeps`;
      return `wait(${name}, ${before.p}) → ${old === before.p ? 'timed out' : `not equal (${old})`}`;
    case KIND.NOTIFY:
      return `notify(${name}, ${before.p === Infinity || before.p < 0 ? 'all' : before.p})`;
    case KIND.CHOOSE:
      return `choose → ${variantOf(choice) - VARIANT_CHOICE}`;
    case KIND.STEP:
      return 'step';
    case KIND.RACY:
      return execution.world.sites[before.site]?.text ?? 'plain access';
    default:
      return `${kind}(${name}, ${before.p}) → ${old}`;
  }
}

/** A table with a column for each thread. */
export function tableOf(execution: Execution, steps: readonly TraceStep[]): string {
  const { threads } = execution.scenario;
  const cell = (s: TraceStep): string => `${s.what}  [${s.where}]`;
  const widths = threads.map((name, t) =>
    Math.max(name.length, ...steps.filter((s) => s.thread === t).map((s) => cell(s).length)),
  );
  const row = (n: string, cells: readonly string[]): string =>
    `${n.padStart(4)} | ${cells.map((c, t) => c.padEnd(widths[t])).join(' | ')}`.trimEnd();
  const lines = [
    row('', threads),
    row(
      '',
      widths.map((w) => '-'.repeat(w)),
    ),
  ];
  steps.forEach((s, i) => {
    lines.push(
      row(
        String(i + 1),
        threads.map((_, t) => (t === s.thread ? cell(s) : '')),
      ),
    );
  });
  return lines.join('\n');
}
