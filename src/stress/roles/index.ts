/** What each thread of a round does. */
import { type RoleName, Stage, type ThreadData } from '../stage.ts';
import { runProducer, runUser } from './bottom-halves.ts';
import { runContext, runIothread, runMainLoop } from './loops.ts';
import { runHolder, runReader, runStopper, runTicker } from './machine.ts';
import { runArmer, runToggler } from './timers.ts';

const ROLES: Readonly<Record<RoleName, (stage: Stage) => void | Promise<void>>> = {
  'main-loop': runMainLoop,
  context: runContext,
  armer: runArmer,
  toggler: runToggler,
  producer: runProducer,
  iothread: runIothread,
  user: runUser,
  holder: runHolder,
  reader: runReader,
  ticker: runTicker,
  stopper: runStopper,
};

/** Plays the thread's part. A thread that throws ends with an error, which the host sees. */
export async function runRole(data: ThreadData): Promise<void> {
  const stage = new Stage(data);
  await ROLES[data.role](stage);
  stage.done();
}
