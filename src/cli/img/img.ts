/** `smp86 img`: qemu-img's commands. */
import { versionText } from '../version.ts';
import { type CommandContext, HelpRequest } from './command.ts';
import { helpText } from './help.ts';
import { ImgError } from './img-error.ts';
import { type Output, PROCESS_OUTPUT, PROGRAM, reportError } from './output.ts';

type Command = (context: CommandContext, args: readonly string[]) => Promise<number>;

/** Each is loaded when it is asked for. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  amend: async () => (await import('./amend.ts')).runAmend,
  bench: async () => (await import('./bench.ts')).runBench,
  check: async () => (await import('./check.ts')).runCheck,
  commit: async () => (await import('./commit.ts')).runCommit,
  compare: async () => (await import('./compare.ts')).runCompare,
  convert: async () => (await import('./convert.ts')).runConvert,
  create: async () => (await import('./create.ts')).runCreate,
  dd: async () => (await import('./dd.ts')).runDd,
  info: async () => (await import('./info.ts')).runInfo,
  map: async () => (await import('./map.ts')).runMap,
  measure: async () => (await import('./measure.ts')).runMeasure,
  rebase: async () => (await import('./rebase.ts')).runRebase,
  resize: async () => (await import('./resize.ts')).runResize,
  snapshot: async () => (await import('./snapshot.ts')).runSnapshot,
};

/** Runs one command and returns its exit code. *Thread:* main. */
export async function runImg(args: readonly string[], output: Output = PROCESS_OUTPUT): Promise<number> {
  try {
    return await dispatch(args, output);
  } catch (error) {
    if (error instanceof HelpRequest) {
      output.out(helpText());
      return 0;
    }
    if (!(error instanceof ImgError)) throw error;
    for (const message of error.messages) reportError(output, message);
    if (error.usage) output.err(`Try '${PROGRAM} --help' for more information\n`);
    return error.status;
  }
}

async function dispatch(args: readonly string[], output: Output): Promise<number> {
  const rest = [...args];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    if (word === '-h' || word === '--help') throw new HelpRequest();
    if (word === '-V' || word === '--version') {
      output.out(versionText().replace('smp86', PROGRAM));
      return 0;
    }
    if (word.startsWith('-')) throw new ImgError(`unrecognized option '${word}'`, { usage: true });
    const load = Object.hasOwn(COMMANDS, word) ? COMMANDS[word] : undefined;
    if (load === undefined) throw new ImgError(`Command not found: ${word}`, { usage: true });
    const command = await load();
    return await command({ output }, rest);
  }
  throw new ImgError('Not enough arguments', { usage: true });
}
