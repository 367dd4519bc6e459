/** A vCPU worker's side of tier 1: asks for regions, puts what arrives into the table of its tier 0 instance. */
import { type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { X87_PREFIX } from '../cpu/sem/index.ts';
import type { CodeCache } from '../cpu/tier0/code-cache.ts';
import { headOf } from './compile-queue.ts';
import type { RegionMail, RegionRequest } from './compiler.ts';
import { REGION_SLOTS } from './layout.ts';
import { REGION_IMPORTS } from './region-module.ts';

/** What a region module imports besides the memory. */
export function regionImports(
  memory: WebAssembly.Memory,
  tier0: WebAssembly.Instance,
  imports: object,
): WebAssembly.Imports {
  const env: Record<string, WebAssembly.ExportValue> = {
    memory,
    table: tier0.exports.table as WebAssembly.Table,
  };
  const x87 = Object.keys(tier0.exports).filter((name) => name.startsWith(X87_PREFIX));
  for (const name of [...Object.keys(REGION_IMPORTS), ...x87]) {
    const generated = tier0.exports[name] as WebAssembly.ExportValue | undefined;
    env[name] = generated ?? (imports as Record<string, WebAssembly.ExportValue>)[name];
  }
  return { env };
}

/** *Thread:* vCPU worker. */
export class RegionClient {
  private readonly port: MessagePort;
  private readonly first: number;
  private readonly table: WebAssembly.Table;
  private readonly missing: unknown;
  private readonly imports: WebAssembly.Imports;
  private readonly cache: CodeCache;
  /** The code cache's generation that the table's regions belong to. */
  private generation: number;
  /** Head of each region wanted, with how often. */
  private readonly asked = new Map<number, number>();
  private static readonly ASK_AGAIN = 4;
  /** Modules that this vCPU has not needed yet, by slot. */
  private readonly arrived = new Map<number, WebAssembly.Module>();
  /** Slots whose function is in the table. */
  private readonly filled = new Set<number>();
  private readonly slotsReused: () => void;
  /** What `cache.mails` was when all had been taken. */
  private taken = 0;

  /** `slotsReused`: what regions noted of a vCPU may be of a region whose slot another has got. */
  constructor(
    port: MessagePort,
    first: number,
    tier0: WebAssembly.Instance,
    imports: WebAssembly.Imports,
    cache: CodeCache,
    slotsReused: () => void,
  ) {
    this.slotsReused = slotsReused;
    this.cache = cache;
    this.generation = cache.generation;
    this.port = port;
    this.first = first;
    this.table = tier0.exports.table as WebAssembly.Table;
    this.missing = tier0.exports.missingRegion;
    this.imports = imports;
  }

  /** Is this handler number that of a region? */
  isRegion(handler: number): boolean {
    return handler >= this.first;
  }

  request(request: RegionRequest): void {
    const key = headOf(request);
    const times = this.asked.get(key) ?? 0;
    this.asked.set(key, times + 1);
    // the first time, and then ever more rarely: it may be under way, or impossible
    if (times > 0 && (times < RegionClient.ASK_AGAIN || (times & (times - 1)) !== 0)) return;
    this.port.postMessage(request);
  }

  /**
   * Puts the module of a slot into the table. False when it has not arrived. Only a region that this vCPU enters is
   * instantiated: a hundred may arrive at once, and all of them would hold the guest up for milliseconds.
   */
  install(slot: number): boolean {
    this.takeMail();
    const module = this.arrived.get(slot);
    if (module === undefined) return false;
    this.arrived.delete(slot);
    const instance = new WebAssembly.Instance(module, this.imports);
    this.table.set(this.first + slot, instance.exports.region);
    this.filled.add(slot);
    return true;
  }

  /** The slot that a region's handler number stands for. */
  slotOf(handler: number): number {
    return handler - this.first;
  }

  /** Takes what has arrived; a slot that another region has got is empty until `install`. True when there was anything. */
  takeMail(): boolean {
    this.flush();
    // before the look: one that comes meanwhile is counted again
    this.taken = this.cache.mails;
    let any = false;
    let reused = false;
    for (;;) {
      const received = receiveMessageOnPort(this.port) as { message: RegionMail } | undefined;
      if (received === undefined) break;
      const { slot, module, generation } = received.message;
      if (generation !== this.generation) continue;
      any = true;
      if (this.filled.delete(slot)) {
        reused = true;
        this.table.set(this.first + slot, this.missing);
      }
      if (module === undefined) this.arrived.delete(slot);
      else this.arrived.set(slot, module);
    }
    if (reused) this.slotsReused();
    return any;
  }

  /** Takes what has arrived if that is much: modules of slots that were used again must not pile up. */
  takeOldMail(): void {
    if (((this.cache.mails - this.taken) | 0) >= RegionClient.MAX_MAILS) this.takeMail();
  }
  private static readonly MAX_MAILS = 64;

  /** Empties the table when all code was dropped since: slots are used again for other regions. */
  flush(): void {
    const { generation } = this.cache;
    if (generation === this.generation) return;
    this.generation = generation;
    for (let slot = 0; slot < REGION_SLOTS; slot++) this.table.set(this.first + slot, this.missing);
    this.asked.clear();
    this.arrived.clear();
    this.filled.clear();
  }
}
