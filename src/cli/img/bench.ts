/** `smp86 img bench`: requests against an image, as many at a time as are asked for. */
import { BlockError, errnoText } from '../../block/errors.ts';
import type { BlockNode } from '../../block/node.ts';
import { checkCache } from './cache-modes.ts';
import { commandArguments, type CommandContext, type Given, IMAGE_OPTIONS, oneFile } from './command.ts';
import { ImgError, reasonOf } from './img-error.ts';
import { openImage } from './images.ts';
import { convertNumber, parseInteger } from './sizes.ts';
import { dataBuffer } from './zeroes.ts';

const INT_MAX = 2 ** 31 - 1;

interface Workload {
  readonly count: number;
  readonly depth: number;
  readonly offset: number;
  readonly length: number;
  readonly step: number;
  readonly write: boolean;
  readonly pattern: number;
  /** Requests between flushes; 0: none. */
  readonly flushInterval: number;
  /** A flush waits for the requests before it. */
  readonly drain: boolean;
}

function integer(given: Given, name: string, what: string, min: number, max: number): number | undefined {
  return given.last(name, (text) => {
    const value = parseInteger(text, min, max);
    if (value === undefined) throw new ImgError(`Invalid ${what} specified`);
    return value;
  });
}

function workloadOf(given: Given): Workload {
  const intMax = BigInt(INT_MAX);
  const count = integer(given, 'c', 'request count', 0, INT_MAX) ?? 75000;
  const depth = integer(given, 'd', 'queue depth', 1, INT_MAX) ?? 64;
  const flushInterval = integer(given, 'flush-interval', 'flush interval', 0, INT_MAX) ?? 0;
  const offset = given.last('o', (text) => convertNumber('offset', text)) ?? 0;
  const pattern = integer(given, 'pattern', 'pattern byte', 0, 255) ?? 0;
  const length = given.last('s', (text) => convertNumber('buffer size', text, 0n, intMax)) ?? 4096;
  const step = given.last('S', (text) => convertNumber('step_size', text, 0n, intMax)) ?? 0;
  const write = given.has('w');
  if (!write && flushInterval > 0) throw new ImgError('--flush-interval is only available in write tests');
  if (flushInterval > 0 && flushInterval < depth)
    throw new ImgError("Flush interval can't be smaller than depth");
  const drain = !given.has('no-drain');
  return { count, depth, offset, length, step: step || length, write, pattern, flushInterval, drain };
}

export async function runBench(context: CommandContext, args: readonly string[]): Promise<number> {
  const given = commandArguments(args, {
    short: 'hc:d:f:ni:o:qs:S:t:wU',
    long: {
      ...IMAGE_OPTIONS,
      'flush-interval': { kind: 'value' },
      pattern: { kind: 'value' },
      'no-drain': { kind: 'none' },
    },
  });
  const engine = given.last('i', aioEngine);
  const cache = given.last('t');
  if (cache !== undefined) {
    try {
      checkCache('t', cache);
    } catch (error) {
      throw new ImgError('Invalid cache mode', { cause: error });
    }
  }
  const workload = workloadOf(given);
  const filename = oneFile(given);
  const image = await openImage(context, filename, { ...given.image(), writable: workload.write, cache });
  try {
    if (
      (given.has('n') || engine === 'native') &&
      cache !== 'none' &&
      cache !== 'off' &&
      cache !== 'directsync'
    ) {
      throw new ImgError(
        `Could not open '${filename}': ` +
          'aio=native was specified, but it requires cache.direct=on, which was not specified.',
      );
    }
    await run(context, image, workload);
    return 0;
  } finally {
    await image.close();
  }
}

function aioEngine(text: string): string {
  if (['threads', 'native', 'io_uring'].includes(text)) return text;
  throw new ImgError(`Invalid aio option: ${text}`);
}

async function run({ output }: CommandContext, image: BlockNode, workload: Workload): Promise<void> {
  const { count, depth, offset, length, step, write, flushInterval } = workload;
  output.out(
    `Sending ${count} ${write ? 'write' : 'read'} requests, ${length} bytes each, ${depth} in parallel ` +
      `(starting at offset ${offset}, step size ${step})\n`,
  );
  if (flushInterval > 0) output.out(`Sending flush every ${flushInterval} requests\n`);
  const start = performance.now();
  try {
    await new Bench(image, workload).run();
  } catch (error) {
    throw new ImgError(`Failed request: ${reasonOf(error)}`, { cause: error });
  }
  output.out(`Run completed in ${((performance.now() - start) / 1000).toFixed(3)} seconds.\n`);
}

class Bench {
  readonly #image: BlockNode;
  readonly #workload: Workload;
  readonly #running = new Set<Promise<void>>();
  #at: number;
  #failure: unknown;

  constructor(image: BlockNode, workload: Workload) {
    this.#image = image;
    this.#workload = workload;
    this.#at = workload.offset;
  }

  async run(): Promise<void> {
    const { count, depth, flushInterval, drain } = this.#workload;
    const free: Buffer[] = [];
    for (let i = 0; i < count && this.#failure === undefined; i++) {
      if (flushInterval > 0 && i > 0 && i % flushInterval === 0) {
        if (drain) await Promise.all(this.#running);
        this.#start(this.#image.flush());
      }
      while (this.#running.size >= depth) await Promise.race(this.#running);
      const buffer = free.pop() ?? dataBuffer(this.#workload.length).fill(this.#workload.pattern);
      this.#start(this.#request(buffer).finally(() => free.push(buffer)));
    }
    await Promise.all(this.#running);
    if (this.#failure !== undefined) throw this.#failure;
  }

  async #request(buffer: Buffer): Promise<void> {
    const { write, step } = this.#workload;
    const at = this.#at;
    this.#at = this.#image.size === 0 ? 0 : (at + step) % this.#image.size;
    if (at + buffer.length > this.#image.size) throw new BlockError('EIO', errnoText('EIO'));
    await (write ? this.#image.write(at, [buffer]) : this.#image.read(at, [buffer]));
  }

  #start(request: Promise<void>): void {
    const settled = request
      .catch((error: unknown) => {
        this.#failure ??= error;
      })
      .finally(() => this.#running.delete(settled));
    this.#running.add(settled);
  }
}
