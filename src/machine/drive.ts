/** A drive of a machine: its images, opened, and the block backend on them. *Thread:* its iothread, unless said. */
import { randomUUID } from 'node:crypto';
import { writeSync } from 'node:fs';
import { unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AioContext } from '../aio/aio-context.ts';
import { BlockBackend, type ErrorPolicy } from '../block/backend.ts';
import { inlineCodec } from '../block/codec.ts';
import { BlockError } from '../block/errors.ts';
import { FileNode } from '../block/file.ts';
import type { BlockHelpers } from '../block/helpers/client.ts';
import type { BlockContext, BlockNode, ContextTimer } from '../block/node.ts';
import { openImage } from '../block/open.ts';
import { NodeOptions as OpenOptions } from '../block/options.ts';
import { createQcow2, QCOW2_DEFAULTS } from '../block/qcow2/create.ts';
import { openQcow2 } from '../block/qcow2/open.ts';
import { checkThrottleLimits, type Throttle, type ThrottleClock, ThrottleGroup } from '../block/throttle.ts';
import { hostFile } from '../host/block-host.ts';
import type { DriveStateView } from '../hw/block/drive.ts';
import { ATTRIBUTE, CLOCK } from '../timer/clock-state.ts';
import type { ClockSystem } from '../timer/clock.ts';
import type { SharedTimer } from '../timer/timer.ts';
import type { DriveOptions, NodeOptions } from './drive-options.ts';
import type { Storage } from './storage.ts';

const STDERR = 2;
/** Of an image that is looked at only. */
const NO_LIMITS: Throttle = { wait: () => undefined, suspend: () => {}, resume: () => {}, leave: () => {} };
/** Keys of a node that name other nodes. */
const CHILDREN = ['file', 'backing', 'data-file'];

/** An iothread's view of the groups, by name; made when a drive of it first needs one. */
export class ThrottleGroups {
  readonly #storage: Storage;
  readonly #clock: ThrottleClock;
  readonly #home: number;
  readonly #groups = new Map<string, ThrottleGroup>();
  readonly #timers: SharedTimer[] = [];

  constructor(storage: Storage, home: number) {
    const { clocks, group } = storage.table.iothreads[home].context;
    this.#storage = storage;
    this.#home = home;
    this.#clock = {
      now: () => clocks.now(CLOCK.VIRTUAL),
      createTimer: (callback, name) => {
        const timer = clocks.createTimer({ clock: CLOCK.VIRTUAL, group: group.index, callback, name });
        this.#timers.push(timer);
        return timer;
      },
      timer: (index) => clocks.timer(index),
    };
  }

  /** Gives the timers back. *Thread:* the iothread, at its end: no drive of a group is left. */
  release(): void {
    releaseTimers(this.#storage.table.iothreads[this.#home].context.clocks, this.#timers);
  }

  /** One more drive of group `name`; undefined: there is none. */
  join(name: string): Throttle | undefined {
    const { config, throttleGroups } = this.#storage;
    const index = config.throttleGroups.findIndex((each) => each.name === name);
    if (index < 0) return undefined;
    let group = this.#groups.get(name);
    if (group === undefined) {
      const { limits } = config.throttleGroups[index];
      group = new ThrottleGroup(limits, throttleGroups[index], this.#home, this.#clock);
      this.#groups.set(name, group);
    }
    return group.join();
  }
}

export interface Drive {
  readonly options: DriveOptions;
  readonly backend: BlockBackend;
  /** After `closeDrive`: gives its timers back, and leaves its throttle groups. */
  release(): void;
}

/** What a drive is opened in. */
export interface DriveHome {
  readonly blockdevs: readonly NodeOptions[];
  readonly aio: AioContext;
  readonly groups: ThrottleGroups;
  readonly helpers: BlockHelpers;
}

/** Opens a drive in its iothread; `moved`: it was open in another one. *Errors:* BlockError. */
export async function openDrive(
  options: DriveOptions,
  { blockdevs, aio, groups, helpers }: DriveHome,
  state: DriveStateView,
  moved: boolean,
): Promise<Drive> {
  const { clocks, group } = aio;
  const timers: SharedTimer[] = [];
  const createTimer = (callback: () => void, name: string, external: boolean): ContextTimer => {
    const attributes = external ? ATTRIBUTE.EXTERNAL : 0;
    const timer = clocks.createTimer({
      clock: CLOCK.VIRTUAL,
      group: group.index,
      callback,
      name,
      attributes,
    });
    timers.push(timer);
    return Object.assign(timer, { now: () => clocks.now(CLOCK.VIRTUAL) });
  };
  // whatever is worth a warning was told when the machine was set up
  const filters: Throttle[] = [];
  const throttle = (name: string): Throttle | undefined => {
    const joined = groups.join(name);
    if (joined !== undefined) filters.push(joined);
    return joined;
  };
  const context = {
    ...{ codec: helpers, slowCalls: helpers, host: hostFile() },
    ...{ warn: () => {}, createTimer, throttle, guestMemory: aio.clocks.buffer },
  };
  const root = await openRoot(options, blockdevs, context);
  // what is moved keeps what the guest has set
  if (!moved) {
    state.size.store(root.size);
    state.readOnly.store(options.readOnly ? 1 : 0);
    state.writeCache.store(options.writeCache ? 1 : 0);
  }
  const own = options.throttling && groups.join(options.throttling.group ?? options.id);
  const release = (): void => {
    releaseTimers(clocks, timers);
    for (const joined of [own, ...filters]) joined?.leave();
  };
  const backend = new BlockBackend(root, {
    unmap: unmaps(options, blockdevs),
    detectZeroes: options.detectZeroes,
    werror: policy(options.werror, 'enospc'),
    rerror: policy(options.rerror, 'report'),
    throttle: own,
    filters,
  });
  return { options, backend, release };
}

function releaseTimers(clocks: ClockSystem, timers: SharedTimer[]): void {
  for (const timer of timers.splice(0)) {
    const { callback } = clocks.timerState(timer.index);
    timer.del();
    clocks.releaseTimer(timer);
    clocks.callbacks.remove(callback);
  }
}

/** Writes everything back; what goes wrong is told on standard error, since no request waits for it. */
export async function settleDrive({ backend, options }: Drive): Promise<void> {
  await told(options, 'flush', () => backend.flush());
}

export async function closeDrive({ backend, options }: Drive): Promise<void> {
  await told(options, 'close', () => backend.close());
}

async function told(options: DriveOptions, what: string, body: () => Promise<void>): Promise<void> {
  try {
    await body();
  } catch (error) {
    if (!(error instanceof BlockError)) throw error;
    writeSync(STDERR, `smp86: drive ${options.id}: ${what} failed: ${error.message}\n`);
  }
}

/** Opens the drive's images as its iothread will. *Thread:* host. *Errors:* BlockError. */
export async function openForCheck(
  options: DriveOptions,
  blockdevs: readonly NodeOptions[],
  groups: readonly string[],
  warn: (text: string) => void,
): Promise<BlockNode> {
  if (options.throttling !== undefined) checkThrottleLimits(options.throttling.limits);
  const throttle = (name: string): Throttle | undefined => (groups.includes(name) ? NO_LIMITS : undefined);
  return await openRoot(options, blockdevs, { codec: inlineCodec, host: hostFile(), warn, throttle });
}

function policy<T extends ErrorPolicy>(action: T | 'auto', preset: T): T {
  return action === 'auto' ? preset : action;
}

function unmaps(options: DriveOptions, blockdevs: readonly NodeOptions[]): boolean {
  const { node } = options;
  const tree = typeof node === 'string' ? blockdevs.find((b) => b['node-name'] === node) : node;
  return tree?.discard === 'unmap' || tree?.discard === 'on';
}

function cacheSwitch(tree: NodeOptions, name: 'no-flush' | 'direct'): boolean {
  const { cache } = tree;
  const value = typeof cache === 'object' ? cache[name] : tree[`cache.${name}`];
  return value === true || value === 'on';
}

async function openRoot(
  options: DriveOptions,
  blockdevs: readonly NodeOptions[],
  context: BlockContext,
): Promise<BlockNode> {
  const { node } = options;
  if (node === undefined) throw new BlockError('ENOMEDIUM', 'No medium found');
  const readOnly = options.readOnly || options.snapshot;
  const opened = new Map<string, BlockNode>();
  const open = (tree: NodeOptions, only: boolean): Promise<BlockNode> =>
    openImage(
      {
        readOnly: only,
        options: tree,
        noFlush: cacheSwitch(tree, 'no-flush'),
        direct: cacheSwitch(tree, 'direct'),
        node: (name) => opened.get(name),
      },
      context,
    );
  /** Opens a node of `-blockdev` and those that it names. */
  const openNamed = async (name: string, only: boolean, depth = 0): Promise<BlockNode> => {
    const tree = blockdevs.find((blockdev) => blockdev['node-name'] === name);
    if (tree === undefined || depth > blockdevs.length) {
      throw new BlockError('EINVAL', `Cannot find device='' nor node-name='${name}'`);
    }
    for (const key of CHILDREN) {
      const child = tree[key];
      if (typeof child === 'string' && child !== '' && !opened.has(child)) {
        await openNamed(child, only || key === 'backing', depth + 1);
      }
    }
    const result = await open(tree, only);
    opened.set(name, result);
    return result;
  };
  try {
    const root = typeof node === 'string' ? await openNamed(node, readOnly) : await open(node, readOnly);
    return options.snapshot ? await withOverlay(root, context) : root;
  } catch (error) {
    for (const each of opened.values()) await each.close().catch(() => {});
    throw error;
  }
}

/** A temporary image that takes what is written. Its file has no name, and is gone when it is closed. */
async function withOverlay(base: BlockNode, context: BlockContext): Promise<BlockNode> {
  const filename = join(tmpdir(), `smp86-${randomUUID()}.qcow2`);
  const { host, slowCalls } = context;
  const file = FileNode.open({ filename, readOnly: false, host, slowCalls, locking: false, create: true });
  try {
    await unlink(filename);
    const size = Math.ceil(base.size / 512) * 512;
    const named = { ...QCOW2_DEFAULTS, size, backingFile: base.filename, backingFormat: base.driver };
    await createQcow2(file, undefined, named, context);
    return await openQcow2({
      file,
      context,
      options: OpenOptions.from({}),
      readOnly: false,
      unmap: true,
      openDataFile: () => Promise.reject(new BlockError('EINVAL', 'an overlay has no data file')),
      openBacking: () => Promise.resolve(base),
    });
  } catch (error) {
    await file.close().catch(() => {});
    await base.close().catch(() => {});
    throw error;
  }
}
