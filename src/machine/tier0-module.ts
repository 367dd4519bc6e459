/** The interpreter's wasm module: built and compiled once a process, then shared by all machines of a size. */
import { allSemantics } from '../cpu/sem/index.ts';
import { buildTier0 } from '../cpu/tier0/build.ts';
import type { HandlerTable } from '../cpu/tier0/handlers.ts';
import { REGION_SLOTS } from '../jit/layout.ts';
import { helperId } from './helpers.ts';

export interface InterpreterModule {
  readonly module: WebAssembly.Module;
  readonly table: HandlerTable;
  /** Handler number of the first region slot. */
  readonly firstRegion: number;
}

/** The module names the size of the memory it is for. */
const cache = new Map<string, InterpreterModule>();
const MAX_CACHED = 8;

/** *Thread:* host. `pages`: size of the machine's memory in 64 KiB pages. `counting`: for icount. */
export function interpreterModule(pages: number, counting = false): InterpreterModule {
  const key = `${pages} ${counting}`;
  let found = cache.get(key);
  if (found === undefined) {
    const tier0 = buildTier0({
      memoryPages: pages,
      semantics: allSemantics,
      helperId,
      regionSlots: REGION_SLOTS,
      counting,
    });
    const module = new WebAssembly.Module(tier0.bytes);
    found = { module, table: tier0.handlers.table(), firstRegion: tier0.firstRegion };
    const oldest = cache.keys().next();
    if (cache.size >= MAX_CACHED && !oldest.done) cache.delete(oldest.value);
    cache.set(key, found);
  }
  return found;
}
