/** Jobs of the block helpers: an iothread hands them over, helpers carry them out. */
import { setOwnerId } from '@smp86/atomics-sync';
import { BlockJobs } from '../../block/helpers/jobs.ts';
import { Notifier, NotifierState } from '../../timer/notifier.ts';
import type { Model, Patch, Scenario } from '../scenario.ts';

/** Slots are alike, and each is looked at by itself. */
const TWO_SLOTS: Patch = {
  file: 'src/block/helpers/jobs.ts',
  find: 'export const SLOTS = 16;',
  replace: 'export const SLOTS = 2;',
};
/** What a slot carries is not used. */
const NO_DATA: readonly Patch[] = [
  {
    file: 'src/block/helpers/jobs.ts',
    find: 'export const MAX_PIECES = 1024;',
    replace: 'export const MAX_PIECES = 1;',
  },
  {
    file: 'src/block/helpers/jobs.ts',
    find: 'export const MAX_BYTES = 2 << 20;',
    replace: 'export const MAX_BYTES = 64;',
  },
  { file: 'src/block/helpers/jobs.ts', find: 'const SPARE = 4096;', replace: 'const SPARE = 64;' },
];
const PATCHES = [TWO_SLOTS, ...NO_DATA];

/** How often a job was carried out, by its number; and results that were taken. */
const CARRIED_OUT = 0;
const TAKEN = 4;

function parts(model: Model, index: number): { jobs: BlockJobs; notifier: Notifier } {
  setOwnerId(index + 1);
  const jobs = new BlockJobs(model.buffer, 1, model.place('jobs', BlockJobs.size(1), 64));
  const notifier = new Notifier(
    NotifierState.at(model.buffer, model.place('notifier', NotifierState.size, 64)),
  );
  return { jobs, notifier };
}

/** An iothread that has `total` jobs, as many at a time as there are slots, and then ends. */
function iothread(model: Model, total: number): () => void {
  const { ghost } = model;
  const { jobs, notifier } = parts(model, 0);
  const slots = jobs.slots[0];
  return () => {
    let next = 0;
    for (const slot of slots) {
      if (next === total) break;
      slot.job.offset = next++;
      jobs.post(slot);
    }
    while (ghost[TAKEN] < total) {
      notifier.accept();
      let found = false;
      for (const slot of slots) {
        if (!jobs.isDone(slot)) continue;
        found = true;
        model.assert(slot.job.result === slot.job.offset + 1, 'the result is not that of the job');
        ghost[TAKEN]++;
        jobs.free(slot);
        if (next === total) continue;
        slot.job.offset = next++;
        jobs.post(slot);
      }
      if (!found) notifier.wait(Infinity);
    }
    jobs.leave();
  };
}

/** A helper; where `late` is set the call is a step of its own. */
function helper(model: Model, index: number): () => void {
  const { ghost } = model;
  const { jobs, notifier } = parts(model, index);
  const contexts = [notifier];
  return () => {
    jobs.serve(contexts, (slot) => {
      const { job } = slot;
      model.assert(ghost[CARRIED_OUT + job.offset] === 0, 'a job is carried out twice');
      ghost[CARRIED_OUT + job.offset]++;
      job.result = job.offset + 1;
    });
  };
}

function scenario(name: string, title: string, helpers: number, total: number): Scenario {
  return {
    name,
    title,
    threads: ['iothread', ...Array.from({ length: helpers }, (_, i) => `helper ${i}`)],
    bytes: 8192,
    patches: PATCHES,
    setup(model: Model) {
      parts(model, 0).jobs.enter();
    },
    thread(model: Model, index: number) {
      return index === 0 ? iothread(model, total) : helper(model, index);
    },
    end(model: Model) {
      model.assert(model.ghost[TAKEN] === total, 'a result is left lying');
    },
  };
}

export const scenarios: readonly Scenario[] = [
  scenario('block-jobs', 'an iothread has two jobs at a time for one helper, three in all, and ends', 1, 3),
  scenario('block-jobs-two', 'an iothread has two jobs for two helpers, and ends', 2, 2),
];
