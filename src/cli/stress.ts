/** `smp86 stress`: the clock core under real threads. Manual: docs/stress.md. */
import { readFileSync, writeFileSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { runCampaign, type CampaignProgress } from '../stress/campaign.ts';
import { StressError } from '../stress/errors.ts';
import { listText, parseStress, type StressOptions, USAGE } from '../stress/options.ts';
import { Report } from '../stress/report.ts';

/** Runs the command; returns the exit status: 0 good, 1 violation or hang, 2 a mistake of the user's. */
export async function runStress(args: readonly string[]): Promise<number> {
  try {
    const command = parseStress(args);
    switch (command.action) {
      case 'help':
        process.stdout.write(USAGE);
        return 0;
      case 'list':
        process.stdout.write(listText());
        return 0;
      case 'merge':
        return finish(merge(command.files), command.json);
      case 'run':
        return finish(await campaign(command.options), command.json);
    }
  } catch (error) {
    if (!(error instanceof StressError)) throw error;
    process.stderr.write(`smp86 stress: ${error.message}\n`);
    return 2;
  }
}

function finish(report: Report, json: string | undefined): number {
  const text = `${JSON.stringify(report)}\n`;
  if (json === '-') process.stdout.write(text);
  else {
    if (json !== undefined) writeFileSync(json, text);
    process.stdout.write(`${report.toString()}\n`);
  }
  if (json === '-' && !report.ok) process.stderr.write(`${report.toString()}\n`);
  return report.ok ? 0 : 1;
}

function merge(files: readonly string[]): Report {
  const [first, ...others] = files.map((file) => {
    try {
      return Report.parse(readFileSync(file, 'utf8'), file);
    } catch (error) {
      if (error instanceof StressError) throw error;
      throw new StressError('ERR_STRESS_REPORT', `${file}: ${(error as Error).message}`, { cause: error });
    }
  });
  for (const other of others) first.add(other);
  return first;
}

async function campaign(options: StressOptions): Promise<Report> {
  if (options.jobs > 1) return await jobs(options);
  const line = new ProgressLine(options.seconds);
  const report = await runCampaign(options, (progress) => line.show(progress));
  line.end();
  return report;
}

/** Shares side by side, in a pool of threads. */
async function jobs(options: StressOptions): Promise<Report> {
  const { Piscina } = await import('piscina');
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js';
  const pool = new Piscina<StressOptions, string>({
    filename: new URL(`../stress/shard-task.${extension}`, import.meta.url).href,
    minThreads: options.jobs,
    maxThreads: options.jobs,
    // a share runs for its whole time in one task, with an event loop of its own
    atomics: 'disabled',
  });
  const { index, of } = options.shard;
  const shares = Array.from({ length: options.jobs }, (_, i) => ({
    ...options,
    shard: { index: (index - 1) * options.jobs + i + 1, of: of * options.jobs },
  }));
  try {
    const texts = await Promise.all(shares.map((share) => pool.run(share)));
    const [first, ...others] = texts.map((text, i) => Report.parse(text, `share ${i + 1}`));
    for (const other of others) first.add(other);
    return first;
  } finally {
    await pool.destroy();
  }
}

/** A line that is written over on a terminal; elsewhere one every 10 s. */
class ProgressLine {
  readonly #seconds: number;
  readonly #terminal = process.stderr.isTTY === true;
  #next = 0;

  constructor(seconds: number) {
    this.#seconds = seconds;
  }
  show({ elapsed, round, scenario, what }: CampaignProgress): void {
    if (!this.#terminal && elapsed < this.#next) return;
    this.#next = elapsed + 10;
    const text = `${elapsed.toFixed(0)}/${this.#seconds} s  round ${round} (${scenario})  ${what}`;
    process.stderr.write(this.#terminal ? `\r${text}\x1b[K` : `${text}\n`);
  }
  end(): void {
    if (this.#terminal) process.stderr.write('\r\x1b[K');
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  process.exitCode = await runStress(process.argv.slice(2));
}
