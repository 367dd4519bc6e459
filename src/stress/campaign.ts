/**
 * A campaign is a sequence of rounds, each with a scenario, a tempo and a placement that follow from the seed and
 * the round's number. A shard plays the rounds whose numbers fall to it, so shards may run anywhere.
 */
import { availableParallelism } from 'node:os';
import { runGuestRound } from './guest-round.ts';
import type { StressOptions } from './options.ts';
import { allowedCpus, canPlace, type Placement, PLACEMENTS } from './placement.ts';
import { mixSeed, Random } from './random.ts';
import { Report } from './report.ts';
import { runRound } from './round.ts';
import { SCENARIOS, type StressScenario } from './scenarios.ts';
import { type Tempo, TEMPO_NAMES, TEMPOS } from './tempo.ts';

/** How long a guest is used, s. */
const GUEST_ROUND = 120;

export interface CampaignProgress {
  readonly elapsed: number;
  readonly round: number;
  readonly scenario: string;
  /** What was done so far. */
  readonly what: string;
}

/** What round `number` is like. */
export interface RoundPlan {
  readonly scenario: StressScenario;
  readonly seed: number;
  readonly tempo: Tempo;
  readonly placement: Placement;
}

export function planOf(
  number: number,
  options: Pick<StressOptions, 'scenarios' | 'seed' | 'place' | 'tempo'>,
): RoundPlan {
  const { scenarios, seed, place } = options;
  const name = scenarios[number % scenarios.length];
  const random = new Random(mixSeed(seed, number));
  const tempo = random.pick(TEMPO_NAMES);
  const placement = random.pick(PLACEMENTS);
  return {
    scenario: SCENARIOS.find((s) => s.name === name)!,
    seed: mixSeed(seed, number, 1),
    tempo: TEMPOS[options.tempo ?? tempo],
    placement: place ?? placement,
  };
}

/** Plays a shard's rounds until its time is over or something is wrong. *Thread:* one that need not block. */
export async function runCampaign(
  options: StressOptions,
  progress?: (progress: CampaignProgress) => void,
): Promise<Report> {
  const { seed, shard, seconds, scenarios, hang, fault, threads } = options;
  const cpus = canPlace() ? allowedCpus() : [];
  const report = new Report(seed, [`${shard.index}/${shard.of}`], process.version, availableParallelism());
  const roundSeconds = options.roundSeconds ?? Math.min(10, Math.max(1, seconds / scenarios.length));
  const begin = performance.now();
  let callbacks = 0;
  for (let n = 0; report.ok; n++) {
    const elapsed = (performance.now() - begin) / 1000;
    if (n > 0 && elapsed >= seconds) break;
    const number = options.round ?? shard.index - 1 + n * shard.of;
    const plan = planOf(number, options);
    if (plan.scenario.guest) {
      const result = await runGuestRound({
        seed: plan.seed >>> 1,
        seconds: Math.max(1, Math.min(options.roundSeconds ?? GUEST_ROUND, seconds - elapsed)),
        threads,
        tick: (stops) =>
          progress?.({
            elapsed: (performance.now() - begin) / 1000,
            round: number,
            scenario: plan.scenario.name,
            what: `${stops} stops`,
          }),
      });
      report.addRound(plan.scenario.name, number, result, againCommand(options, number, roundSeconds));
      continue;
    }
    let inRound = 0;
    const result = await runRound({
      ...plan,
      threads,
      seconds: Math.max(0.1, Math.min(roundSeconds, seconds - elapsed)),
      cpus,
      hang,
      fault,
      tick: (tick) => {
        inRound = tick.callbacks;
        progress?.({
          elapsed: (performance.now() - begin) / 1000,
          round: number,
          scenario: plan.scenario.name,
          what: `${callbacks + inRound} timer callbacks`,
        });
      },
    });
    callbacks += inRound;
    report.addRound(plan.scenario.name, number, result, againCommand(options, number, roundSeconds));
  }
  return report;
}

function againCommand(options: StressOptions, round: number, roundSeconds: number): string {
  const parts = [
    `npm run stress -- --scenario ${options.scenarios.join(',')} --seed ${options.seed} --round ${round}`,
    `--threads ${options.threads} --seconds ${Math.max(60, roundSeconds)} --round-seconds ${roundSeconds}`,
  ];
  if (options.place !== undefined) parts.push(`--place ${options.place}`);
  if (options.tempo !== undefined) parts.push(`--tempo ${options.tempo}`);
  if (options.fault !== undefined) parts.push(`--plant ${options.fault}`);
  return parts.join(' ');
}
