/**
 * Loads modules for the explorer: reads the sources, patches, rewrites and compiles them, and makes a copy of the
 * module graph for each logical thread, as each worker has its own.
 */
import { readFileSync } from 'node:fs';
import { dirname, relative, resolve } from 'node:path';
import { compileFunction } from 'node:vm';
import { type Node, parseSource, type Source } from './ast.ts';
import { Colors } from './color.ts';
import { type RewrittenModule, Rewriter, type Site } from './rewrite.ts';
import type { Patch } from './scenario.ts';
import type { Thread } from './thread.ts';

export const ROOT = resolve(import.meta.dirname, '../..');
/** Of the modules: sources in a checkout, compiled ones in the published package. */
export const EXTENSION = import.meta.filename.endsWith('.ts') ? '.ts' : '.js';
const SHARED = resolve(ROOT, `shared/src/index${EXTENSION}`);

/** Modules replaced by the explorer, by path from the root. */
const REPLACED: Readonly<Record<string, (thread: Thread) => Exports>> = {
  'shared/src/sync-ops.ts': () => ({
    WAIT_OK: 0,
    WAIT_NOT_EQUAL: 1,
    WAIT_TIMED_OUT: 2,
    // the operations are not these: the rewriter puts the thread's own in every call
    opsFor: () => NO_OPS,
    jsSyncOps: () => NO_OPS,
    wasmSyncOps: () => NO_OPS,
    registerMemory: () => NO_OPS,
    keepAlive: (promise: unknown) => promise,
  }),
  'src/timer/timer-slack.ts': () => ({ reduceTimerSlack: () => {} }),
  'node:worker_threads': (thread) => ({ threadId: thread.index + 1 }),
};
const NO_OPS = {};

export type Exports = Record<string, unknown>;

export class LoadError extends Error {
  override readonly name = 'LoadError';
  readonly code: 'patch' | 'cycle';
  constructor(code: LoadError['code'], message: string) {
    super(message);
    this.code = code;
  }
}

export interface LoadOptions {
  readonly patches?: readonly Patch[];
  /** Modules that are loaded, by start of path from the root; default: all. */
  readonly only?: readonly string[];
}

type Compiled = (thread: Thread, load: (from: string) => Exports, exports: Exports) => void;
interface Module {
  readonly path: string;
  readonly run: Compiled;
  readonly resolved: ReadonlyMap<string, string>;
}

const parsed = new Map<string, Source>();

/** The rewritten module graph of one entry module. */
export class Program {
  readonly sites: Site[] = [];
  readonly rewritten = new Map<string, RewrittenModule>();
  readonly #modules = new Map<string, Module>();
  readonly #entry: string;

  constructor(entry: string, options: LoadOptions = {}) {
    this.#entry = entry;
    const used = new Set<Patch>();
    const sources = new Map<string, Source>();
    const resolutions = new Map<string, Map<string, string>>();
    const { only } = options;
    const add = (path: string): void => {
      if (sources.has(path) || !path.startsWith('/')) return;
      const name = sourceName(path);
      if (name in REPLACED || (only !== undefined && path !== entry && !only.some((s) => name.startsWith(s))))
        return;
      const source = read(path, name, options.patches ?? [], used);
      sources.set(path, source);
      const resolved = new Map<string, string>();
      resolutions.set(path, resolved);
      for (const node of source.ast.body as Node[]) {
        if (!node.source) continue;
        const from = (node.source as Node).value as string;
        resolved.set(from, resolve1(path, from));
      }
      for (const to of resolved.values()) add(to);
    };
    add(entry);
    for (const patch of options.patches ?? []) {
      if (!used.has(patch))
        throw new LoadError('patch', `${patch.file} is not loaded, or has no: ${patch.find}`);
    }
    const colors = new Colors([...sources.values()]);
    for (const [path, source] of sources) {
      const rewritten = new Rewriter(source, colors, this.sites).rewrite();
      this.rewritten.set(source.path, rewritten);
      const run = compileFunction(rewritten.code, ['$T', '$import', '$exports'], {
        filename: path,
      }) as Compiled;
      this.#modules.set(path, { path, run, resolved: resolutions.get(path)! });
    }
  }

  /** A copy of the graph for `thread`; the entry's exports. */
  instantiate(thread: Thread): Exports {
    const loaded = new Map<string, Exports>();
    const loading = new Set<string>();
    const load = (path: string): Exports => {
      let exports = loaded.get(path);
      if (exports !== undefined) {
        if (loading.has(path)) throw new LoadError('cycle', `modules import each other in a circle: ${path}`);
        return exports;
      }
      const module = this.#modules.get(path);
      if (module === undefined) {
        const replaced = REPLACED[path.startsWith('/') ? sourceName(path) : path];
        if (replaced === undefined && !path.startsWith('/'))
          exports = process.getBuiltinModule(path) as unknown as Exports;
        else exports = replaced?.(thread) ?? stub();
        loaded.set(path, exports);
        return exports;
      }
      exports = {};
      loading.add(path);
      loaded.set(path, exports);
      module.run(thread, (from) => load(module.resolved.get(from)!), exports);
      loading.delete(path);
      return exports;
    };
    return load(this.#entry);
  }
}

/** Path from the root of a module's source. */
function sourceName(path: string): string {
  return relative(ROOT, path).replace(/\.js$/, '.ts');
}

function resolve1(from: string, name: string): string {
  if (name === '@smp86/atomics-sync') return SHARED;
  return name.startsWith('.') ? resolve(dirname(from), name) : name;
}

function read(path: string, name: string, patches: readonly Patch[], used: Set<Patch>): Source {
  const mine = patches.filter((p) => name.endsWith(p.file));
  if (mine.length === 0) {
    let source = parsed.get(path);
    if (source === undefined) parsed.set(path, (source = parseSource(name, readFileSync(path, 'utf8'))));
    return source;
  }
  let text = readFileSync(path, 'utf8');
  for (const patch of mine) {
    const parts = text.split(patch.find);
    if (parts.length !== 2) {
      throw new LoadError('patch', `${name} has ${parts.length - 1} places, not one, with: ${patch.find}`);
    }
    text = parts.join(patch.replace);
    used.add(patch);
  }
  return parseSource(name, text);
}

/** Stands for a module of which nothing is used but names: every export can be called, made and looked into. */
function stub(): Exports {
  const handler: ProxyHandler<() => void> = {
    get: (_target, key) => (key === Symbol.toPrimitive ? () => 0 : key === '$steps' ? undefined : any),
    apply: () => any,
    construct: () => any,
  };
  const any: object = new Proxy(function () {}, handler);
  return new Proxy({} as Exports, { get: () => any });
}
