/** Faults in the block helpers' jobs. */
import { type Mutation, plant } from './mutation.ts';

const jobs = plant('src/block/helpers/jobs.ts');

export const BLOCK_JOBS: readonly Mutation[] = [
  jobs(
    'jobs-post-silent',
    'block-jobs',
    'no helper is woken for a job',
    'if (sleeping.load() > 0) posted.notify(1);',
    '',
  ),
  jobs(
    'jobs-post-uncounted',
    'block-jobs',
    'a job is handed over without being counted',
    'posted.add(1);\n    if (sleeping',
    'if (sleeping',
  ),
  jobs(
    'jobs-post-late',
    'block-jobs',
    'helpers are told of a job before it is there',
    'job.state.store(JOB_STATE.POSTED);\n    posted.add(1);\n    if (sleeping.load() > 0) posted.notify(1);',
    'posted.add(1);\n    if (sleeping.load() > 0) posted.notify(1);\n    job.state.store(JOB_STATE.POSTED);',
  ),
  jobs(
    'jobs-sleep-uncounted',
    'block-jobs',
    'a helper that sleeps does not say so',
    'sleeping.add(1);\n      posted.wait(seen);\n      sleeping.add(-1);',
    'posted.wait(seen);',
  ),
  jobs(
    'jobs-sleep-late-look',
    'block-jobs',
    'a helper reads the number of jobs after it has looked at them',
    'posted.wait(seen);',
    'posted.wait(posted.load());',
  ),
  jobs(
    'jobs-take-plain',
    'block-jobs-two',
    'a helper takes a job without a compare-exchange',
    'if (state.compareExchange(JOB_STATE.POSTED, JOB_STATE.TAKEN) !== JOB_STATE.POSTED) continue;',
    'state.store(JOB_STATE.TAKEN);',
  ),
  jobs(
    'jobs-done-first',
    'block-jobs',
    'a job is called done before it is',
    'body(slot);\n          state.store(JOB_STATE.DONE);',
    'state.store(JOB_STATE.DONE);\n          body(slot);',
  ),
  jobs(
    'jobs-notify-first',
    'block-jobs',
    'the iothread is notified before the result is there',
    'state.store(JOB_STATE.DONE);\n          contexts[iothread].notify();',
    'contexts[iothread].notify();\n          state.store(JOB_STATE.DONE);',
  ),
  jobs(
    'jobs-result-silent',
    'block-jobs',
    'the iothread is not notified of a result',
    'contexts[iothread].notify();',
    '',
  ),
  jobs(
    'jobs-leave-silent',
    'block-jobs-two',
    'no helper is woken when the last iothread ends',
    'posted.add(1);\n    posted.notify();',
    'posted.add(1);',
  ),
  jobs(
    'jobs-leave-one',
    'block-jobs-two',
    'one helper only is woken when the last iothread ends',
    'posted.add(1);\n    posted.notify();',
    'posted.add(1);\n    posted.notify(1);',
  ),
  jobs(
    'jobs-leave-uncounted',
    'block-jobs-two',
    'who is about to sleep does not see that the last iothread has ended',
    'posted.add(1);\n    posted.notify();',
    'posted.notify();',
  ),
];
