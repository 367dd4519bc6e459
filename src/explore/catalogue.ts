/** All scenarios and mutations, and how they are named on a command line. */
import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Execution, type ScenarioSource, scenariosOf } from './execution.ts';
import { Explorer, type Limits, type Outcome } from './explorer.ts';
import { EXTENSION } from './loader.ts';
import { MUTATIONS, type Mutation } from './mutations/index.ts';
import { type RandomOutcome, runRandom } from './random.ts';
import { decodeSchedule, encodeSchedule, replay, type Replay, tableOf } from './report.ts';

export { MUTATIONS, tableOf };

export class CatalogueError extends Error {
  override readonly name = 'CatalogueError';
  readonly code: 'no-scenario' | 'no-mutation' | 'bad-id' | 'bad-number' | 'no-sources';
  constructor(code: CatalogueError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

let all: ScenarioSource[] | undefined;

export async function allScenarios(): Promise<readonly ScenarioSource[]> {
  if (all !== undefined) return all;
  const folder = join(import.meta.dirname, 'scenarios');
  const files = readdirSync(folder).filter((name) => name.endsWith(EXTENSION) && !name.endsWith('.d.ts'));
  const found: ScenarioSource[] = [];
  for (const file of files.sort()) found.push(...(await scenariosOf(join(folder, file))));
  return (all = found);
}

/** @throws CatalogueError `no-scenario` */
export async function scenarioNamed(name: string): Promise<ScenarioSource> {
  const found = (await allScenarios()).find((s) => s.scenario.name === name);
  if (found === undefined) throw new CatalogueError('no-scenario', `there is no scenario ${name}`);
  return found;
}

/** @throws CatalogueError `no-mutation`; `no-sources` in the published package: a fault is a piece of a source's text */
export function mutationNamed(name: string): Mutation {
  if (EXTENSION !== '.ts')
    throw new CatalogueError('no-sources', 'faults are planted in the TypeScript sources: use a checkout');
  const found = MUTATIONS.find((m) => m.name === name);
  if (found === undefined) throw new CatalogueError('no-mutation', `there is no mutation ${name}`);
  return found;
}

/** Explores a scenario, with a mutation if one is given. */
export function explore(source: ScenarioSource, limits: Partial<Limits> = {}, mutation?: Mutation): Outcome {
  const execution = new Execution(source, { patches: mutation?.patches });
  return new Explorer(execution, { preemptions: source.scenario.preemptions ?? Infinity, ...limits }).run();
}

/** Random schedules of a scenario. */
export function exploreRandom(
  source: ScenarioSource,
  count: number,
  seed: number,
  maxMs?: number,
  mutation?: Mutation,
): RandomOutcome {
  return runRandom(new Execution(source, { patches: mutation?.patches }), count, seed, maxMs);
}

/** What `--replay` takes: scenario, mutation if any, schedule. */
export function idOf(scenario: string, mutation: string | undefined, schedule: readonly number[]): string {
  return `${scenario}${mutation === undefined ? '' : `~${mutation}`}:${encodeSchedule(schedule)}`;
}

/** Does again what `idOf` named. @throws CatalogueError */
export async function replayId(id: string): Promise<{ execution: Execution; replay: Replay }> {
  const match = /^([\w-]+)(?:~([\w-]+))?:(.*)$/.exec(id);
  if (match === null)
    throw new CatalogueError('bad-id', `${id} is not scenario:schedule or scenario~mutation:schedule`);
  const [, name, mutation, schedule] = match;
  const patches = mutation === undefined ? undefined : mutationNamed(mutation).patches;
  const source = await scenarioNamed(name);
  const choices = decodeSchedule(schedule);
  let execution = new Execution(source, { patches });
  let result = replay(execution, choices);
  if (result.failure === undefined) {
    execution = new Execution(source, { patches });
    result = replay(execution, choices, true);
  }
  return { execution, replay: result };
}

/** A mutation's outcome, found with as few preemptions as possible, so that the schedule is short. */
export interface MutationResult {
  readonly mutation: Mutation;
  readonly outcome: Outcome;
  readonly preemptions: number;
  /** Set when it was found. */
  readonly id?: string;
  readonly replays: boolean;
}

const BOUNDS = [0, 1, 2, 3, 4];

export async function tryMutation(mutation: Mutation, maxMs = 20_000): Promise<MutationResult> {
  const source = await scenarioNamed(mutation.scenario);
  let outcome: Outcome | undefined;
  const own = source.scenario.preemptions ?? Infinity;
  for (const preemptions of [...BOUNDS.filter((b) => b < own), own]) {
    outcome = explore(source, { preemptions, maxMs }, mutation);
    if (outcome.schedule === undefined) continue;
    const id = idOf(source.scenario.name, mutation.name, outcome.schedule);
    const again = await replayId(id);
    return {
      mutation,
      outcome,
      preemptions,
      id,
      replays: again.replay.failure?.kind === outcome.failure?.kind,
    };
  }
  return { mutation, outcome: outcome!, preemptions: own, replays: false };
}
