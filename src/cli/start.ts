/** `npm start`: prepares a guest and starts it on the terminal. */
import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { pathToFileURL } from 'node:url';
import { enableCompileCache } from '../machine/compile-cache.ts';
import { EMBEDDED_KERNEL } from './guest/embedded/index.ts';
import { GuestError } from './guest/errors.ts';
import { DEBIAN_GUESTS, type DebianGuest, prepareDebian } from './guest/prepare.ts';
import { OptionError } from './option-values.ts';
import { reportingErrors, runCommand } from './run-machine.ts';

const GUESTS = [...Object.keys(DEBIAN_GUESTS), 'embedded'];
const MAX_DEFAULT_CPUS = 4;

const USAGE = `usage: npm start -- [options] [-- smp86 options]

  --guest NAME    ${GUESTS.join(', ')} (default debian)
  --smp N         CPUs (default: as many as the host has, at most ${MAX_DEFAULT_CPUS})
  --memory SIZE   RAM (default 512M)
  --append TEXT   added to the kernel command line
  --disk FILE     a virtio disk (raw or qcow2), /dev/vda in the Debian guest; with --append root=/dev/vda
                  the guest goes on with the system on it
  --run COMMAND   run a shell command in the Debian guest, then power off
  --refresh       ask the Debian archive again, although the guest is in the cache
  --prepare       only prepare the guest, and print the command that runs it
`;

export interface StartOptions {
  readonly guest: DebianGuest | 'embedded';
  readonly smp: string;
  readonly memory: string;
  readonly append: string;
  readonly disk?: string;
  readonly refresh: boolean;
  readonly prepare: boolean;
  /** Further options of smp86. */
  readonly extra: readonly string[];
}

/** Parses the arguments of `npm start`; undefined when help was asked for. *Errors:* OptionError. */
export function parseStart(args: readonly string[]): StartOptions | undefined {
  const { values, positionals } = parseStartArguments(args);
  if (values.help) return undefined;
  const guest = values.guest;
  if (!GUESTS.includes(guest)) {
    throw new OptionError('ERR_OPTION_VALUE', '-guest', guest, `must be one of ${GUESTS.join(', ')}`);
  }
  if (values.run !== undefined && guest === 'embedded') {
    throw new OptionError('ERR_OPTION_VALUE', '-run', values.run, 'the embedded guest has no shell');
  }
  const run = values.run === undefined ? '' : ` smp86.run=${Buffer.from(values.run).toString('base64')}`;
  return {
    guest: guest as StartOptions['guest'],
    smp: values.smp ?? String(Math.min(availableParallelism(), MAX_DEFAULT_CPUS)),
    memory: values.memory,
    append: `${values.append}${run}`.trim(),
    ...(values.disk === undefined ? {} : { disk: values.disk }),
    refresh: values.refresh,
    prepare: values.prepare,
    extra: positionals,
  };
}

function parseStartArguments(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      allowPositionals: true,
      options: {
        guest: { type: 'string', default: 'debian' },
        smp: { type: 'string' },
        memory: { type: 'string', short: 'm', default: '512M' },
        append: { type: 'string', default: '' },
        disk: { type: 'string' },
        run: { type: 'string' },
        refresh: { type: 'boolean', default: false },
        prepare: { type: 'boolean', default: false },
        help: { type: 'boolean', short: 'h', default: false },
      },
    });
  } catch (error) {
    // The parser names the option in quotes, and its advice is for other programs.
    const { message } = error as Error;
    const name = /'-(-?[^' ]+)/.exec(message)?.[1] ?? '-';
    const reason = message.startsWith('Unknown option')
      ? 'unknown option (see --help)'
      : message.split(/[.\n]/, 1)[0];
    throw new OptionError('ERR_OPTION_VALUE', name, undefined, reason);
  }
}

/** The smp86 command line that runs the guest. */
export async function startArguments(options: StartOptions): Promise<string[]> {
  const { disk } = options;
  const drive = disk === undefined ? [] : ['-drive', `file=${disk.replaceAll(',', ',,')},if=virtio`];
  const machine = ['-smp', options.smp, '-m', options.memory, '-nographic', ...drive];
  const append = (base: string): string[] => {
    const text = `${base} ${options.append}`.trim();
    return text === '' ? [] : ['-append', text];
  };
  if (options.guest === 'embedded') {
    return [...machine, '-kernel', EMBEDDED_KERNEL, ...append(''), ...options.extra];
  }
  const modules = disk === undefined ? [] : ['virtio_pci', 'virtio_blk'];
  // the cloud kernel has it built in
  if (disk !== undefined && options.guest !== 'debian') modules.push('crc32c_generic', 'ext4');
  const guest = await prepareDebian(options.guest, { refresh: options.refresh, modules }).catch(
    (error: unknown) => {
      if (!(error instanceof GuestError)) throw error;
      const hint = `${error.message}; "npm start -- --guest embedded" needs nothing from outside`;
      throw new GuestError(error.code, hint, { cause: error });
    },
  );
  const files = ['-kernel', guest.kernel, '-initrd', guest.initrd];
  return [...machine, ...files, ...append(guest.append), ...options.extra];
}

/** A word as a shell takes it. */
function quote(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

async function main(args: readonly string[]): Promise<number> {
  return await reportingErrors(async () => {
    const options = parseStart(args);
    if (options === undefined) {
      process.stdout.write(USAGE);
      return 0;
    }
    const machine = await startArguments(options);
    if (options.prepare) {
      process.stdout.write(`smp86 ${machine.map(quote).join(' ')}\n`);
      return 0;
    }
    return await runCommand(machine);
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  enableCompileCache();
  process.exitCode = await main(process.argv.slice(2));
}
