/** A qcow2 image in a context: requests all the time, while its cache cleaner runs on a clock that others stop. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { AioContext } from '../../aio/aio-context.ts';
import { inlineCodec } from '../../block/codec.ts';
import { FileNode } from '../../block/file.ts';
import type { BlockContext } from '../../block/node.ts';
import { openImage } from '../../block/open.ts';
import { createQcow2, QCOW2_DEFAULTS } from '../../block/qcow2/create.ts';
import { Qcow2Node } from '../../block/qcow2/node.ts';
import { ATTRIBUTE, CLOCK, CLOCK_COUNT } from '../../timer/clock-state.ts';
import type { SharedTimer } from '../../timer/timer.ts';
import type { Stage } from '../stage.ts';
import { checkEnabled } from './loops.ts';

/** An L2 table of one cluster maps 32 KiB: 128 tables. */
const CLUSTER = 512;
const PER_TABLE = (CLUSTER * CLUSTER) / 8;
const SIZE = 128 * PER_TABLE;
const PIECE = 4096;
/** The cleaner's interval of a second is a millisecond here. */
const FASTER = 1000;
/** Longest time between two bursts of requests, ns of REALTIME. */
const PAUSE = 400_000;

export interface StressDisk {
  close(): Promise<void>;
}

/** Opens an image in `context`, whose loop runs later. *Thread:* the context's. */
export async function openDisk(stage: Stage, context: AioContext): Promise<StressDisk> {
  const directory = mkdtempSync(join(tmpdir(), 'smp86-stress-'));
  const { clocks, random } = stage;
  const { index: group } = context.group;
  const timers: SharedTimer[] = [];
  /** Tables that requests used since the cleaner last ran. */
  let used = new Set<number>();
  let node: Qcow2Node | undefined;

  const counted = (type: typeof CLOCK.VIRTUAL | typeof CLOCK.REALTIME, body: () => void) => () => {
    const list = group * CLOCK_COUNT + type;
    stage.countRun(list);
    checkEnabled(stage, type, list, -1);
    body();
    checkEnabled(stage, type, list, -1);
    stage.held(type === CLOCK.VIRTUAL ? 'virtual-callback' : 'disabled-callback');
  };
  const onClean = (clean: () => void): void => {
    clean();
    stage.dawdle();
    const left = node?.state.l2Cache.used ?? 0;
    stage.check('cache-cleaned', left <= used.size, () => `${left} tables are left, ${used.size} were used`);
    used = new Set();
  };
  const blockContext: BlockContext = {
    codec: inlineCodec,
    warn: (text) => stage.fail('no-error', text),
    createTimer: (callback, name) => {
      const timer = clocks.createTimer({
        ...{ clock: CLOCK.VIRTUAL, group, name, attributes: ATTRIBUTE.EXTERNAL },
        callback: counted(CLOCK.VIRTUAL, () => {
          onClean(callback);
          // at the end of a round all timers have fired
          if (stage.stopping) timer.del();
        }),
      });
      timers.push(timer);
      return {
        mod: (expire) => timer.mod(expire / FASTER),
        modAnticipate: (expire) => timer.modAnticipate(expire / FASTER),
        del: () => timer.del(),
        get pending() {
          return timer.pending;
        },
        get expireTime() {
          return timer.expireTime;
        },
        now: () => clocks.now(CLOCK.VIRTUAL) * FASTER,
      };
    },
  };

  const filename = join(directory, 'disk.qcow2');
  const file = FileNode.open({ filename, readOnly: false, create: true });
  await createQcow2(file, undefined, { ...QCOW2_DEFAULTS, size: SIZE, clusterSize: CLUSTER }, blockContext);
  await file.close();
  const options = { 'cache-clean-interval': 1, 'l2-cache-size': SIZE };
  const root = await openImage({ file: filename, format: 'qcow2', readOnly: false, options }, blockContext);
  if (!(root instanceof Qcow2Node)) throw new Error(`a ${root.driver} image`);
  node = root;
  const content = new Uint8Array(PER_TABLE).fill(1);
  for (let at = 0; at < SIZE; at += PER_TABLE) {
    await root.write(at, [content]);
    used.add(at / PER_TABLE);
  }
  await root.flush();

  let underWay: Promise<void> | undefined;
  const request = async (): Promise<void> => {
    const at = random.below(SIZE / PIECE) * PIECE;
    const table = Math.floor(at / PER_TABLE);
    used.add(table);
    const data = new Uint8Array(PIECE);
    if (random.oneIn(3)) {
      await root.write(at, [data.fill(1)]);
    } else {
      await root.read(at, [data]);
      stage.check(
        'disk-content',
        data.every((byte) => byte === 1),
        () => `other bytes at ${at}`,
      );
    }
    // the cleaner may have run since
    used.add(table);
  };
  const burst = async (): Promise<void> => {
    await Promise.all(Array.from({ length: 1 + random.below(8) }, request));
    underWay = undefined;
  };
  const pace = clocks.createTimer({
    ...{ clock: CLOCK.REALTIME, group },
    callback: counted(CLOCK.REALTIME, () => {
      underWay ??= burst();
      if (!stage.stopping) pace.mod(clocks.now(CLOCK.REALTIME) + random.below(PAUSE));
    }),
  });
  timers.push(pace);
  pace.mod(clocks.now(CLOCK.REALTIME));
  return {
    close: async () => {
      pace.del();
      await underWay;
      await root.close();
      for (const timer of timers) clocks.releaseTimer(timer);
      rmSync(directory, { recursive: true });
    },
  };
}
