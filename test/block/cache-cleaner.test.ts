import { describe, expect, it } from 'vitest';
import { AioContext } from '../../src/aio/aio-context.ts';
import { inlineCodec } from '../../src/block/codec.ts';
import type { BlockContext } from '../../src/block/node.ts';
import { NodeOptions } from '../../src/block/options.ts';
import { createQcow2, QCOW2_DEFAULTS } from '../../src/block/qcow2/create.ts';
import type { Qcow2Node } from '../../src/block/qcow2/node.ts';
import { openQcow2 } from '../../src/block/qcow2/open.ts';
import { ATTRIBUTE, CLOCK, VIRTUAL_MODE } from '../../src/timer/clock-state.ts';
import { ClockSystem } from '../../src/timer/clock.ts';
import { ManualTime } from '../../src/timer/host-time.ts';
import { MemoryNode } from './memory-node.ts';

const SECOND = 1e9;
const CLUSTER = 4096;
/** 128 L2 tables, each of which maps 512 clusters. */
const SIZE = 128 * 512 * CLUSTER;

/** An image whose L2 tables are all cached, in a context whose VIRTUAL clock a test moves. */
async function setup(interval: number) {
  const layout = ClockSystem.layout();
  const buffer = new SharedArrayBuffer(layout.size + AioContext.size());
  const clocks = ClockSystem.init(buffer, 0, { source: new ManualTime(), virtualMode: VIRTUAL_MODE.MANUAL });
  clocks.clockEnable(CLOCK.VIRTUAL, true);
  const aio = AioContext.init(clocks, layout.size);
  const context: BlockContext = {
    codec: inlineCodec,
    warn: () => {},
    createTimer: (callback, name, external) => {
      const attributes = external ? ATTRIBUTE.EXTERNAL : 0;
      const timer = clocks.createTimer({
        clock: CLOCK.VIRTUAL,
        group: aio.group.index,
        callback,
        name,
        attributes,
      });
      return Object.assign(timer, { now: () => clocks.now(CLOCK.VIRTUAL) });
    },
  };
  const file = new MemoryNode('image');
  await createQcow2(file, undefined, { ...QCOW2_DEFAULTS, size: SIZE, clusterSize: CLUSTER }, context);
  const node: Qcow2Node = await openQcow2({
    file,
    context,
    options: NodeOptions.from({ 'cache-clean-interval': interval, 'l2-cache-size': 1 << 20 }),
    readOnly: false,
    unmap: false,
    openDataFile: () => Promise.reject(new Error('none')),
    openBacking: async () => undefined,
  });
  for (let at = 0; at < SIZE; at += CLUSTER * 512) await node.write(at, [new Uint8Array(512).fill(1)]);
  await node.flush();
  /** Time passes, and the loop runs its timers. */
  const pass = (seconds: number) => {
    clocks.setVirtual(clocks.now(CLOCK.VIRTUAL) + seconds * SECOND);
    aio.poll(false);
  };
  return { node, clocks, pass, cache: node.state.l2Cache };
}

const read = (node: Qcow2Node, at: number) => node.read(at, [new Uint8Array(512)]);

describe('the cleaner of metadata caches', () => {
  it('drops what was not used for one whole interval, and keeps the rest', async () => {
    const { node, pass, cache } = await setup(1);
    const all = cache.used;
    expect(all).toBeGreaterThan(100);
    // everything was used since the start: the first time it only takes note
    pass(1);
    expect(cache.used).toBe(all);
    await read(node, 0);
    await read(node, CLUSTER * 512);
    pass(1);
    expect(cache.used).toBe(2);
    pass(1);
    expect(cache.used).toBe(0);
    // and what was dropped is read again
    await read(node, 0);
    expect(cache.used).toBe(1);
    await node.close();
  });

  it('keeps what is dirty', async () => {
    const { node, pass, cache } = await setup(1);
    pass(1);
    await node.write(CLUSTER, [new Uint8Array(512).fill(2)]);
    pass(1);
    pass(1);
    pass(1);
    expect(cache.used).toBe(1);
    await node.flush();
    pass(1);
    pass(1);
    expect(cache.used).toBe(0);
    await node.close();
  });

  it('gives the memory back at once, without a collection of garbage', async () => {
    const { node, pass } = await setup(1);
    const before = process.memoryUsage().arrayBuffers;
    pass(1);
    pass(1);
    expect(before - process.memoryUsage().arrayBuffers).toBeGreaterThan(100 * CLUSTER);
    await node.close();
  });

  it('does not run while VIRTUAL stands still or is disabled', async () => {
    const { node, clocks, pass, cache } = await setup(1);
    const all = cache.used;
    pass(0);
    expect(cache.used).toBe(all);
    clocks.clockEnable(CLOCK.VIRTUAL, false);
    pass(5);
    pass(5);
    expect(cache.used).toBe(all);
    clocks.clockEnable(CLOCK.VIRTUAL, true);
    pass(1);
    pass(1);
    expect(cache.used).toBe(0);
    await node.close();
  });

  it('never runs with an interval of 0, and its timer ends with the node', async () => {
    const { node, pass, cache } = await setup(0);
    const all = cache.used;
    pass(1000);
    pass(1000);
    expect(cache.used).toBe(all);
    await node.close();
  });
});
