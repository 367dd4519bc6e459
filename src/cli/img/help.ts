/** What `smp86 img --help` and `-o help` print. */
import type { CommandContext } from './command.ts';
import { createTable, formatTable, isFormat, tableHelp } from './format-options.ts';
import { ImgError } from './img-error.ts';
import { PROGRAM } from './output.ts';

/** Command and its arguments. */
export const SYNTAX: Readonly<Record<string, string>> = {
  amend: '[--object objectdef] [--image-opts] [-p] [-q] [-f fmt] [-t cache] [--force] -o options filename',
  bench:
    '[-c count] [-d depth] [-f fmt] [--flush-interval=flush_interval] [-i aio] [-n] [--no-drain] [-o offset] ' +
    '[--pattern=pattern] [-q] [-s buffer_size] [-S step_size] [-t cache] [-w] [-U] filename',
  check:
    '[--object objectdef] [--image-opts] [-q] [-f fmt] [--output=ofmt] [-r [leaks | all]] [-T src_cache] [-U] filename',
  commit:
    '[--object objectdef] [--image-opts] [-q] [-f fmt] [-t cache] [-b base] [-r rate_limit] [-d] [-p] filename',
  compare:
    '[--object objectdef] [--image-opts] [-f fmt] [-F fmt] [-T src_cache] [-p] [-q] [-s] [-U] filename1 filename2',
  convert:
    '[--object objectdef] [--image-opts] [--target-image-opts] [--target-is-zero] [-U] [-C] [-c] [-p] [-q] [-n] ' +
    '[-f fmt] [-t cache] [-T src_cache] [-O output_fmt] [-B backing_file [-F backing_fmt]] [-o options] ' +
    '[-l snapshot_param] [-S sparse_size] [-r rate_limit] [-m num_coroutines] [-W] [--salvage] ' +
    'filename [filename2 [...]] output_filename',
  create:
    '[--object objectdef] [-q] [-f fmt] [-b backing_file [-F backing_fmt]] [-u] [-o options] filename [size]',
  dd: '[--image-opts] [-U] [-f fmt] [-O output_fmt] [bs=block_size] [count=blocks] [skip=blocks] if=input of=output',
  info: '[--object objectdef] [--image-opts] [-f fmt] [--output=ofmt] [--backing-chain] [-U] filename',
  map:
    '[--object objectdef] [--image-opts] [-f fmt] [--start-offset=offset] [--max-length=len] [--output=ofmt] [-U] ' +
    'filename',
  measure:
    '[--output=ofmt] [-O output_fmt] [-o options] ' +
    '[--size N | [--object objectdef] [--image-opts] [-f fmt] [-l snapshot_param] filename]',
  snapshot:
    '[--object objectdef] [--image-opts] [-U] [-q] [-l | -a snapshot | -c snapshot | -d snapshot] filename',
  rebase:
    '[--object objectdef] [--image-opts] [-U] [-q] [-f fmt] [-t cache] [-T src_cache] [-p] [-u] ' +
    '-b backing_file [-F backing_fmt] filename',
  resize:
    '[--object objectdef] [--image-opts] [-f fmt] [--preallocation=prealloc] [-q] [--shrink] filename [+ | -]size',
};

const NOTES = `
Arguments:
  filename        a disk image; with --image-opts a list of options as -drive's (driver=qcow2,file.filename=a.img)
  fmt             raw or qcow2; found by the image's first bytes when it is not given
  cache           writeback, writethrough, none, directsync or unsafe; unsafe does not flush (convert's choice)
  size            bytes, or with suffix k, M, G, T, P or E (powers of 1024)
  options         name=value,... of the format; -o help lists them
  snapshot_param  name or id of an internal snapshot, or snapshot.id=ID,snapshot.name=NAME
  objectdef       accepted for scripts that give a secret; smp86 has no encryption

Options of several commands:
  -p    progress; without it a SIGUSR1 prints it
  -q    no messages but errors
  -U    open an image that somebody else writes
  -n    convert into an image that is there
  -c    compress (qcow2)
  -S    length of zeroes that are left out (4k); 0: all is written
  -m    pieces under way at a time (8)
  -u    create: do not look at the backing file; rebase: only change its name
  -r    check: repair leaks, or all; convert and commit: bytes per second

Exit codes: 0 good; 1 failed; check: 2 corruptions left, 3 leaks left, 63 the format has no check;
compare: 1 different, 2 cannot be opened, 3 or 4 cannot be read.

Supported formats: raw qcow2
`;

export function helpText(): string {
  const commands = Object.entries(SYNTAX).map(([name, syntax]) => `  ${name} ${syntax}\n`);
  return (
    `usage: ${PROGRAM} [standard options] command [command options]\nDisk image utility, as qemu-img\n\n` +
    "    '-h', '--help'       display this help and exit\n" +
    "    '-V', '--version'    output version information and exit\n\n" +
    `Command syntax:\n${commands.join('')}${NOTES}`
  );
}

/** Options of a format, with those of the file when there is a name. *Errors:* ImgError. */
export function printFormatHelp(
  { output }: CommandContext,
  format: string,
  filename: string | undefined,
): void {
  if (!isFormat(format)) throw new ImgError(`Unknown file format '${format}'`);
  if (filename === undefined) {
    output.out(
      `Supported ${format} options:\n${tableHelp(formatTable(format))}\n` +
        'The protocol level may support further options.\nSpecify the target filename to include those options.\n',
    );
  } else {
    output.out(`Supported options:\n${tableHelp(createTable(format))}`);
  }
}
