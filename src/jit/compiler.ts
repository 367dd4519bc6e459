/**
 * The JIT worker's work: takes requests from vCPUs, finds a region around a hot branch target, compiles it with V8's
 * baseline compiler, sends the module to every vCPU and publishes it as a handler. V8 optimises what runs much, in its
 * own threads.
 *
 * Order that makes it safe: (1) the region is found in copies of its pages; (2) under the code cache's lock what it
 * was made from is marked as covered, then compared with the copies, so any later change of it invalidates; (3) without
 * the lock the module is built, and sent; (4) under the lock again, only if no page was invalidated since, the region
 * is listed with its pages, and last the handlers of its entries' records are replaced. A vCPU that meets the handler
 * before it has the module finds a stub in its table, which leaves to TypeScript, or the function of a region that had
 * the slot before and refuses, since its description is not valid any more.
 */
import type { MessagePort } from 'node:worker_threads';
import { viewsOf } from '@smp86/atomics-sync';
import { CODE_TLB_ENTRIES, ENV_SIZE, TLB_SET } from '../cpu/env.ts';
import type { CodeCache } from '../cpu/tier0/code-cache.ts';
import { NAMES } from '../cpu/decode/table.ts';
import { RECORD } from '../cpu/tier0/record.ts';
import { isOptimised } from '../machine/tier-up.ts';
import { entriesOf } from './analysis.ts';
import type { RegionPlace } from './emit.ts';
import { RegionGraph } from './graph.ts';
import { IndirectJumps, loopingJumps } from './indirect-jumps.ts';
import { MAX_REGION_PAGES, MAX_TARGETS, PLACE, REGION, REGION_SLOTS } from './layout.ts';
import { type CodeSize, findRegion, isCodeSize, type Region } from './region.ts';
import { buildRegionModule, isCompilable } from './region-module.ts';
import { RegionSlots } from './slots.ts';

/** A vCPU asks for a region. */
export interface RegionRequest {
  /** Wasm address of the vCPU's env. */
  readonly env: number;
  /** Descriptor of the head's page, page offset of the head. */
  readonly desc: number;
  readonly offset: number;
  /** Linear address of the head's page, and the code TLB set in force, at the time of the request. */
  readonly pageLo: number;
  readonly pageHi: number;
  readonly tlbSet: number;
  /** Description of the region that an indirect jump or call left for it, 0: none; linear address of that one's head's page. */
  readonly from: number;
  /** Region offset of that jump or call. */
  readonly site: number;
  readonly fromLo: number;
  readonly fromHi: number;
}
/** What there is of a region: for tests and statistics. */
export interface RegionInfo {
  /** Guest-physical address of the head. */
  readonly head: number;
  /** Guest-physical addresses of the pages that it has code of. */
  readonly pages: readonly number[];
  readonly valid: boolean;
  /** Jumps out to what is no region. */
  readonly exits: number;
  /** Times it could not be entered. */
  readonly refusals: number;
  /** Its code, the same in every thread, is that of V8's optimising compiler. */
  readonly optimised: boolean;
  readonly instructions: number;
  /** Of its module. */
  readonly bytes: number;
}
/** A compiled region for a vCPU's table. */
export interface RegionMail {
  readonly slot: number;
  /** Undefined: the slot is empty. */
  readonly module: WebAssembly.Module | undefined;
  /** The code cache's, for which it was made. */
  readonly generation: number;
}

const PAGE = 4096;

/** Regions of more instructions do not become wider: what they would gain pushes out something else. */
const MAX_WIDENED = 320;
/** Bytes from a region's head's page to what its indirect jumps lead to: an entry's distance in pages has 16 bits. */
const MAX_DISTANCE = 2 ** 27;

/** Linear address of the page of what is asked for. */
function pageOf({ pageLo, pageHi }: RegionRequest): bigint {
  return (BigInt(pageHi) << 32n) + BigInt(pageLo);
}

/** A place in code as one number: the descriptor of its page, and its offset there, or that from another page. */
function placeOf(desc: number, at: number): number {
  return desc + (at & (PAGE - 1)) / PAGE;
}

/** A region, and what it was made from. */
interface Found {
  readonly region: Region;
  /** Of its pages, in their order. */
  readonly descriptors: readonly number[];
  /** By distance in pages, where in `copies` a page's copy begins. */
  readonly positions: ReadonlyMap<number, number>;
  readonly ways: Ways;
  /** For where the region was cut off. */
  readonly next: RegionRequest | undefined;
}

/** The request for another offset from the same page. `descriptors`: by distance in pages. */
function elsewhere(
  request: RegionRequest,
  offset: number,
  descriptors: ReadonlyMap<number, number>,
): RegionRequest | undefined {
  const distance = Math.floor(offset / PAGE);
  const desc = descriptors.get(distance);
  if (desc === undefined) return undefined;
  const page = pageOf(request) + BigInt(distance * PAGE);
  return {
    ...request,
    from: 0,
    desc,
    offset: offset - distance * PAGE,
    pageLo: Number(page & 0xffffffffn),
    pageHi: Number(BigInt.asUintN(32, page >> 32n)),
  };
}

/** Where indirect jumps have led, by their offset, in the order in which that was seen. */
type Ways = ReadonlyMap<number, readonly number[]>;

/** What a table slot holds. */
interface Compiled {
  readonly description: number;
  /** Page offset of the head. */
  readonly head: number;
  readonly run: unknown;
  readonly instructions: number;
  readonly bytes: number;
  /** What its indirect jumps lead to, as far as it contains that. */
  readonly targets: readonly number[];
  readonly ways: Ways;
}

/** A region that is to be made again, with more of what its indirect jumps lead to. */
interface Wider {
  readonly request: RegionRequest;
  readonly targets: readonly number[];
  readonly ways: Ways;
  /** Targets that it does not contain yet. */
  readonly added: readonly number[];
  readonly old: Compiled;
}

/** Since the machine's start. */
export interface CompilerStatistics {
  readonly compiled: number;
  /** Guest instructions in them. */
  readonly instructions: number;
  /** Requests that came to nothing: code that is no more, cannot be compiled, or is part of a region. */
  readonly refused: number;
  /** Regions whose code changed while they were being compiled. */
  readonly outdated: number;
  /** Regions given up to make room. */
  readonly evicted: number;
  /** Modules there are now, and their bytes. */
  readonly modules: number;
  readonly bytes: number;
  /** Most of them. */
  readonly limit: { readonly slots: number; readonly bytes: number };
}

/** *Thread:* JIT worker. */
export class RegionCompiler {
  private readonly memory: WebAssembly.Memory;
  private readonly cache: CodeCache;
  private readonly ports: readonly MessagePort[];
  private readonly imports: WebAssembly.Imports;
  private readonly memoryPages: number;
  /** Number of the first region slot among the handlers. */
  private readonly firstHandler: number;
  private readonly pauseYields: boolean;
  private readonly onPublished: () => void;
  private readonly copies = new Uint8Array((MAX_REGION_PAGES + 1) * PAGE);
  private readonly slots: RegionSlots<Compiled>;
  private readonly jumps = new IndirectJumps();
  private readonly limit: { readonly slots: number; readonly bytes: number };
  private readonly counts = { compiled: 0, instructions: 0, refused: 0, outdated: 0, evicted: 0 };
  /** Wasm address of what a region may take for an env when it is not entered; 0: not reserved yet. */
  private standInEnv = 0;
  private generation: number;
  private readonly u8: Uint8Array<SharedArrayBuffer>;
  private readonly u16: Uint16Array<SharedArrayBuffer>;
  private readonly u32: Uint32Array<SharedArrayBuffer>;

  constructor(options: {
    memory: WebAssembly.Memory;
    memoryPages: number;
    cache: CodeCache;
    ports: readonly MessagePort[];
    imports: WebAssembly.Imports;
    firstHandler: number;
    /** Called after each region that is published. */
    onPublished(): void;
    /** PAUSE ends the turn of a vCPU: tier 0 does it. */
    pauseYields: boolean;
    /** Of modules that are kept. */
    bytes: number;
  }) {
    this.limit = { slots: REGION_SLOTS, bytes: options.bytes };
    this.slots = new RegionSlots<Compiled>(this.limit, {
      alive: (region) => this.isValid(region),
      used: (region) => this.takeUsed(region),
    });
    this.pauseYields = options.pauseYields;
    this.onPublished = options.onPublished;
    this.memory = options.memory;
    this.memoryPages = options.memoryPages;
    this.cache = options.cache;
    this.ports = options.ports;
    this.imports = options.imports;
    this.firstHandler = options.firstHandler;
    this.generation = options.cache.generation;
    const views = viewsOf(this.memory.buffer as unknown as SharedArrayBuffer);
    this.u8 = views.u8;
    this.u16 = views.u16;
    this.u32 = views.u32;
  }

  get statistics(): CompilerStatistics {
    return { ...this.counts, modules: this.slots.count, bytes: this.slots.bytes, limit: this.limit };
  }

  /**
   * Compiles what is asked for, or nothing when it cannot be (any more). Where the region goes on in one place that it had
   * no room for, as in a long loop, the request for that is returned: it runs as often, and would be found hot much later.
   */
  handle(request: RegionRequest, others: readonly RegionRequest[] = []): RegionRequest | undefined {
    const { cache, counts } = this;
    if (cache.generation !== this.generation) {
      this.generation = cache.generation;
      this.standInEnv = 0;
      this.slots.clear();
      this.jumps.clear();
    }
    const wider = this.wider([request, ...others]);
    let found = wider && this.find(wider.request, wider);
    const old = found === undefined ? undefined : wider?.old;
    found ??= this.find(request);
    const page = pageOf(
      found === undefined || wider === undefined || old === undefined ? request : wider.request,
    );
    const place = found === undefined ? undefined : cache.locked(() => this.claim(found, page));
    if (found === undefined || place === undefined) {
      counts.refused++;
      return undefined;
    }
    const { region, descriptors } = found;
    const { description } = place;
    for (const at of loopingJumps(region)) {
      this.jumps.loops(placeOf(descriptors[region.pages.indexOf(Math.floor(at / PAGE))], at));
    }
    const code = buildRegionModule(region, place, this.memoryPages);
    const module = new WebAssembly.Module(code);
    const instance = new WebAssembly.Instance(module, this.imports);
    const run = instance.exports.region as (env: number, record: number) => number;
    counts.compiled++;
    counts.instructions += region.instructions;
    // not valid yet, so it refuses; but now V8's baseline compiler has been at it, here and not in a vCPU
    const published =
      cache.unflushed(this.generation, () => run(this.standInEnv, PLACE.SHORT)) &&
      this.publish(
        place,
        found,
        module,
        {
          description,
          head: region.head,
          run,
          instructions: region.instructions,
          bytes: code.length,
          targets: region.targets,
          ways: found.ways,
        },
        old,
      );
    if (!published) counts.outdated++;
    this.onPublished();
    return published ? found.next : undefined;
  }

  /** False when code has changed meanwhile. */
  private publish(
    place: RegionPlace,
    found: Found,
    module: WebAssembly.Module,
    compiled: Compiled,
    old: Compiled | undefined,
  ): boolean {
    const { cache, slots } = this;
    const { description, slot, descriptors } = place;
    const current = (): boolean => cache.generation === this.generation;
    const emptied = cache.locked(() => (current() ? this.makeRoom(compiled.bytes) : []));
    for (const one of emptied) this.send(one, undefined);
    slots.put(slot, compiled);
    this.send(slot, module);
    return cache.locked(() => {
      if (!current() || !descriptors.every((d) => cache.isAlive(d))) return false;
      this.describe(description, slot, found.region, descriptors);
      const handler = this.firstHandler + slot;
      cache.publishRegion(description, handler, this.firstHandler, descriptors, old?.description);
      return true;
    });
  }

  /** Empties slots until a module of so many bytes fits; gives them. *Lock:* the code cache's. */
  private makeRoom(bytes: number): number[] {
    const emptied: number[] = [];
    for (;;) {
      const slot = this.slots.overfull(bytes);
      if (slot < 0) return emptied;
      this.empty(slot);
      emptied.push(slot);
    }
  }

  private send(slot: number, module: WebAssembly.Module | undefined): void {
    const mail: RegionMail = { slot, module, generation: this.generation };
    for (const port of this.ports) port.postMessage(mail);
    this.cache.mailSent();
  }
  /** Ends the region in a slot, if there is one: from here on no record has it for its handler. *Lock:* the code cache's. */
  private empty(slot: number): void {
    const old = this.slots.remove(slot);
    if (old !== undefined && this.cache.dropRegion(old.description)) this.counts.evicted++;
  }
  // of regions of this generation; under the code cache's lock
  private isValid({ description }: Compiled): boolean {
    return Atomics.load(this.u8, description + REGION.VALID) !== 0;
  }
  private takeUsed({ description }: Compiled): boolean {
    return Atomics.exchange(this.u8, description + REGION.USED, 0) !== 0;
  }

  /** The regions published since all code was last dropped. `ram`: wasm address of guest-physical address 0. */
  list(ram: number): RegionInfo[] {
    const { cache, u32 } = this;
    const found = cache.locked(() =>
      cache.generation !== this.generation
        ? []
        : Array.from(this.slots, ([, compiled]) => {
            const word = (field: number): number => u32[(compiled.description + field) >>> 2];
            return {
              compiled,
              // none: its code changed while it was compiled
              pages: Array.from(
                { length: word(REGION.PAGES) },
                (_, i) => cache.pageOf(word(REGION.PAGE_LIST + 8 * i + 4)) - ram,
              ),
              valid: this.isValid(compiled),
              exits: word(REGION.EXITS),
              refusals: word(REGION.REFUSALS),
            };
          }),
    );
    // without the lock, which vCPUs want: asking V8 takes long
    return found
      .filter(({ pages }) => pages.length > 0)
      .map(({ compiled: { head, run, instructions, bytes }, pages, valid, exits, refusals }) => ({
        head: pages[0] + head,
        pages,
        valid,
        exits,
        refusals,
        optimised: isOptimised(run),
        instructions,
        bytes,
      }));
  }

  private isRegion(record: number): boolean {
    return this.u16[(record + RECORD.HANDLER) >>> 1] >= this.firstHandler;
  }

  /**
   * The region that is asked for, made from copies of its pages and without the lock, for vCPUs want it often: `claim`
   * sees to it that nothing of it has changed.
   */
  private find(request: RegionRequest, wider?: Wider): Found | undefined {
    const { cache } = this;
    const { desc, offset } = request;
    const codeSize = cache.locked((): CodeSize | undefined => {
      // a request from before a flush names memory that holds something else now
      if (!cache.isAlive(desc) || !cache.isDescriptor(desc, cache.pageOf(desc))) return undefined;
      const kind = cache.codeSizeOf(desc);
      if (!isCodeSize(kind)) return undefined;
      const head = cache.recordAt(desc, offset);
      const free = wider === undefined ? !this.isRegion(head) : this.isValid(wider.old);
      return head !== 0 && free ? kind : undefined;
    });
    if (codeSize === undefined) return undefined;
    const known = new Map<number, number>();
    const bytes = this.copies;
    const add = (distance: number, descriptor: number): number => {
      const at = known.size * PAGE;
      const page = cache.pageOf(descriptor);
      bytes.set(this.u8.subarray(page, page + PAGE), at);
      known.set(distance, descriptor);
      return at;
    };
    const positions = new Map([[0, add(0, desc)]]);
    const ways: Ways = wider?.ways ?? new Map<number, number[]>();
    const region = findRegion(
      {
        bytes,
        codeSize,
        page: (distance) => {
          // an entry's distance has 16 bits
          if (distance !== (distance << 16) >> 16) return -1;
          const position = positions.get(distance);
          if (position !== undefined) return position;
          // pages that push each other out of the code TLB would never be there together
          for (const d of known.keys()) if ((d - distance) % CODE_TLB_ENTRIES === 0) return -1;
          const found = cache.locked(() => this.knownDescriptor(request, codeSize, distance));
          if (found === 0) return -1;
          const at = add(distance, found);
          positions.set(distance, at);
          return at;
        },
        executed: (at) => {
          const distance = Math.floor(at / PAGE);
          return cache.recordAt(known.get(distance) as number, at - distance * PAGE) !== 0;
        },
        branches: (at) => {
          const distance = Math.floor(at / PAGE);
          const record = cache.recordAt(known.get(distance) as number, at - distance * PAGE);
          if (record === 0) return undefined;
          const { u16, u32 } = this;
          const step = u16[(record + RECORD.SLOT0) >>> 1];
          if (step === 0) return undefined;
          return {
            taken: Math.floor(u32[(record + RECORD.DISP) >>> 2] / step),
            missed: u32[(record + RECORD.MISSED) >>> 2],
          };
        },
        led: (at) => ways.get(at) ?? [],
        compilable: (insn) =>
          isCompilable(insn, codeSize) && !(this.pauseYields && NAMES[insn.name] === 'pause'),
      },
      offset,
      wider?.targets,
    );
    if (region === undefined) return undefined;
    if (wider !== undefined && !wider.added.some((at) => region.targets.includes(at))) return undefined;
    const next = region.cut === undefined ? undefined : elsewhere(request, region.cut, known);
    const descriptors = region.pages.map((d) => known.get(d) as number);
    return { region, descriptors, positions, ways, next };
  }

  /**
   * Requests for where indirect jumps of a region led, the first one's and of the others those of the same region, as one
   * for that region with all of it. Undefined: it is no more, or big enough.
   */
  private wider(requests: readonly RegionRequest[]): Wider | undefined {
    const [request] = requests;
    const slots = [...this.slots].map(([, compiled]) => compiled);
    const left = slots.find(({ description }) => description === request.from);
    const home = left && this.homeOf(left);
    // it may have been made again since
    const old = slots.find((c) => c.head === left?.head && this.homeOf(c) === home && this.isValid(c));
    if (home === undefined || old === undefined || old.instructions > MAX_WIDENED) return undefined;
    const base = { ...request, desc: home, offset: old.head, pageLo: request.fromLo, pageHi: request.fromHi };
    const led = requests
      .filter(({ from }) => from === request.from)
      .map((r) => ({
        site: r.site,
        at: Number(pageOf(r) - ((BigInt(r.fromHi) << 32n) + BigInt(r.fromLo))) + r.offset,
      }))
      .filter(({ at }) => Math.abs(at) < MAX_DISTANCE && !old.targets.includes(at));
    const added = led.map(({ at }) => at);
    for (const { site, at } of led) this.jumps.leads(this.jumpOf(old, site), at - site);
    const targets = new Set([...old.targets, ...added]);
    for (const site of new Set(led.map((one) => one.site))) {
      for (const distance of this.jumps.shared(this.jumpOf(old, site))) {
        const at = site + distance;
        if (targets.size < MAX_TARGETS) targets.add(at);
        if (targets.has(at)) led.push({ site, at });
      }
    }
    const ways = new Map(old.ways);
    for (const { site, at } of led) ways.set(site, [...new Set([...(ways.get(site) ?? []), at])]);
    if (added.length === 0 || targets.size > MAX_TARGETS) return undefined;
    return { request: base, targets: [...targets], ways, added, old };
  }
  /** Descriptor of the head's page. */
  private homeOf({ description }: Compiled): number {
    return this.u32[(description + REGION.PAGE_LIST + 4) >>> 2];
  }
  /** Which jump there is at an offset of a region. */
  private jumpOf({ description }: Compiled, at: number): number {
    const w = description >>> 2;
    const distance = Math.floor(at / PAGE);
    for (let i = w + REGION.PAGE_LIST / 4, n = this.u32[w + REGION.PAGES / 4]; n > 0; n--, i += 2) {
      if ((this.u32[i] | 0) === distance) return placeOf(this.u32[i + 1], at);
    }
    return -1;
  }

  /**
   * Marks the bytes that a region was made from as covered: from here on a change of them invalidates. Where it goes;
   * undefined when something has changed since they were copied, or no room is left. `page`: the head's, linear. *Lock:* the code cache's.
   */
  private claim({ region, descriptors, positions }: Found, page: bigint): RegionPlace | undefined {
    const { cache, copies, u8 } = this;
    if (cache.generation !== this.generation || !descriptors.every((d) => cache.isAlive(d))) return undefined;
    for (const { at, next } of region.blocks) {
      for (let from = at; from < next;) {
        const distance = Math.floor(from / PAGE);
        const offset = from - distance * PAGE;
        const length = Math.min(next - from, PAGE - offset);
        const desc = descriptors[region.pages.indexOf(distance)];
        cache.cover(desc, offset, offset + length);
        const copy = (positions.get(distance) as number) + offset;
        const now = cache.pageOf(desc) + offset;
        for (let i = 0; i < length; i++) if (copies[copy + i] !== u8[now + i]) return undefined;
        from += length;
      }
    }
    if (this.standInEnv === 0) this.standInEnv = cache.reserveDescription(ENV_SIZE);
    const description = this.standInEnv === 0 ? 0 : cache.reserveDescription(REGION.SIZE);
    if (description === 0) return undefined;
    const slot = this.slots.next();
    this.empty(slot);
    const name = `region_${(page + BigInt(region.head)).toString(16)}`;
    return { description, slot, descriptors, firstHandler: this.firstHandler, name };
  }

  /** Descriptor of the page at a distance from the head's, as the asking vCPU's code TLB has it; 0 if it has none. */
  private knownDescriptor(request: RegionRequest, codeSize: CodeSize, distance: number): number {
    const { u32, cache } = this;
    const linear = pageOf(request) + BigInt(distance * PAGE);
    const lo = Number(linear & 0xffffffffn);
    const hi = codeSize === 2 ? Number(BigInt.asUintN(32, linear >> 32n)) : 0;
    const entry =
      (request.env + request.tlbSet + TLB_SET.CODE + ((lo >>> 12) & (CODE_TLB_ENTRIES - 1)) * 16) >>> 2;
    if (u32[entry] !== lo || u32[entry + 1] !== hi) return 0;
    const desc = u32[entry + 2];
    const page = (u32[entry + 3] & ~4095) >>> 0;
    if (desc === 0 || !cache.isDescriptor(desc, page) || !cache.isAlive(desc)) return 0;
    return cache.codeSizeOf(desc) === codeSize ? desc : 0;
  }

  private describe(at: number, slot: number, region: Region, descriptors: readonly number[]): void {
    const { u32, cache } = this;
    const w = at >>> 2;
    u32[w + REGION.SLOT / 4] = slot;
    u32[w + REGION.HANDLER / 4] = this.firstHandler + slot;
    u32[w + REGION.PAGES / 4] = descriptors.length;
    const entries = entriesOf(new RegionGraph(region));
    u32[w + REGION.ENTRY_COUNT / 4] = entries.length;
    entries.forEach((block, i) => {
      const { at: offset } = region.blocks[block];
      const distance = Math.floor(offset / 4096);
      const desc = descriptors[region.pages.indexOf(distance)];
      u32[w + REGION.ENTRIES / 4 + i * 2] = cache.recordAt(desc, offset - distance * 4096);
      u32[w + REGION.ENTRIES / 4 + i * 2 + 1] = block | (distance << 16);
    });
    descriptors.forEach((d, i) => {
      u32[w + REGION.PAGE_LIST / 4 + i * 2] = region.pages[i];
      u32[w + REGION.PAGE_LIST / 4 + i * 2 + 1] = d;
    });
    Atomics.store(this.u8, at + REGION.VALID, 1);
  }
}
