/**
 * What the JIT worker does: waits for requests on the vCPUs' ports. It never blocks, and ends when they have. A port
 * that the host thread sends it gets a report.
 */
import { type MessagePort, parentPort } from 'node:worker_threads';
import v8 from 'node:v8';
import { registerMemory, setOwnerId } from '@smp86/atomics-sync';
import { Translator } from '../cpu/tier0/translate.ts';
import { CodeCache } from '../cpu/tier0/code-cache.ts';
import { Exclusive } from '../machine/exclusive.ts';
import { HELPER_TRAITS } from '../machine/helpers.ts';
import { memoryConfigOf } from '../machine/config.ts';
import { machineLayout } from '../machine/layout.ts';
import type { JitData } from '../machine/messages.ts';
import { VcpuSignals } from '../machine/signals.ts';
import { VCPU_BLOCK_SIZE } from '../cpu/env.ts';
import { regionImports } from './client.ts';
import { CompileQueue } from './compile-queue.ts';
import type { JitReport } from './info.ts';
import { RegionCompiler, type RegionRequest } from './compiler.ts';

const JIT_OWNER = 1000;
const UNUSED = (): number => {
  throw new Error('generated code does not run in the JIT worker');
};

/** For how long after the last publication vCPUs are made to leave generated code now and then, and how often, ms. */
const REENTRY_TIME = 1000;
const REENTRY_PERIOD = 10;

/**
 * A loop that never ends would stay in baseline code: V8 replaces a function, but not one that is being executed. So
 * while new regions warm up, vCPUs leave and come back. Gives what is to be called at each publication.
 */
function reentries(kick: () => void): () => void {
  let until = 0;
  let timer: NodeJS.Timeout | undefined;
  return () => {
    until = performance.now() + REENTRY_TIME;
    timer ??= setInterval(() => {
      kick();
      if (performance.now() < until) return;
      clearInterval(timer);
      timer = undefined;
    }, REENTRY_PERIOD);
    timer.unref();
  };
}

/**
 * V8 optimises a baseline function once it has used up this budget, in bytes of its code. Each return costs the whole
 * body up to there, however little of it was executed; so with V8's own figure (half of it) a region would be optimised
 * before that pays.
 */
const TIERING_BUDGET = 26_000_000;

export function runJitThread(data: JitData): void {
  v8.setFlagsFromString(`--wasm-tiering-budget=${TIERING_BUDGET}`);
  const { memory, config, module, table } = data;
  registerMemory(memory);
  setOwnerId(JIT_OWNER);
  const buffer = memory.buffer as unknown as SharedArrayBuffer;
  const layout = machineLayout(memoryConfigOf(config));
  const words = new Int32Array(buffer);
  const signals = Array.from(
    { length: config.cpus },
    (_, i) => new VcpuSignals(words, layout.vcpus + i * VCPU_BLOCK_SIZE),
  );
  const exclusive = new Exclusive(buffer, layout.exclusive, layout.vcpus, config.cpus);
  const cache = new CodeCache(
    buffer,
    { base: layout.codeCache, size: layout.codeCacheSize, codeMap: layout.codeMap },
    new Translator(table, HELPER_TRAITS),
    {
      pageBecomesCode: () => {
        throw new Error('the JIT worker decodes no new page');
      },
      regionsDropped: () => signals.forEach((s) => s.kick()),
      exclusively: (body) => {
        exclusive.start(-1);
        body();
        exclusive.end(-1);
      },
    },
  );
  const unused = Object.fromEntries(
    WebAssembly.Module.imports(module)
      .filter((i) => i.kind === 'function')
      .map((i) => [i.name, UNUSED]),
  );
  const tier0 = new WebAssembly.Instance(module, { env: { memory, ...unused } });
  const compiler = new RegionCompiler({
    memory,
    memoryPages: layout.pages,
    cache,
    ports: data.ports,
    imports: regionImports(memory, tier0, unused),
    firstHandler: data.firstRegion,
    bytes: config.regionBytes,
    onPublished: reentries(() => signals.forEach((s) => s.kick())),
    pauseYields: config.accel === 'single' && config.cpus > 1,
  });
  const queue = new CompileQueue({
    compile: (request, others) => compiler.handle(request, others),
    now: () => performance.now(),
    later: (ms, body) => void (ms === 0 ? setImmediate(body) : setTimeout(body, ms).unref()),
  });
  for (const port of data.ports) port.on('message', (request: RegionRequest) => queue.add(request));
  parentPort?.on('message', (answer: MessagePort) => {
    const { used, size, pages, invalidations, generation } = cache;
    const report: JitReport = {
      regions: compiler.list(layout.ram),
      compiler: compiler.statistics,
      queue: queue.statistics,
      codeCache: { used, size, pages, invalidations, flushes: generation },
    };
    answer.postMessage(report);
    answer.close();
  });
  // only the vCPUs' ports keep this thread
  parentPort?.unref();
}
