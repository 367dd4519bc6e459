/**
 * HostFiles by a perl child for each call, where Node has no `node:ffi`: nearly every Linux has perl. The child inherits
 * the descriptor, and these locks belong to the open file description, so they stay when the child has ended.
 */
import { closeSync, openSync } from 'node:fs';
import { hasFlock } from './flock.ts';
import { F_OFD_GETLK, F_OFD_SETLK, F_RDLCK, F_UNLCK, F_WRLCK } from './flock.ts';
import type { HostFiles } from './host-files.ts';
import { ALL_IS_DATA } from './no-holes.ts';
import { SystemError } from './system-error.ts';

/** Numbers of the system call fallocate. */
const SYS_FALLOCATE: Partial<Record<NodeJS.Architecture, number>> = {
  x64: 285,
  arm64: 47,
  riscv64: 47,
  loong64: 47,
  ppc64: 309,
  s390x: 314,
};

/** The descriptor is 3. Prints a byte that is locked, or the errno of the first call that fails. */
const SCRIPT = `
use strict;
open(my $file, '<&=', 3) or fail();
sub fail { print 'errno ', $! + 0; exit }
my $request = shift;
if ($request eq 'fallocate') {
  syscall($ARGV[0], 3, $ARGV[1] + 0, $ARGV[2] + 0, $ARGV[3] + 0) == 0 or fail();
  exit;
}
for (@ARGV) {
  my ($command, $type, $offset) = map { $_ + 0 } split /:/;
  my $flock = pack('s s x4 q q l x4', $type, 0, $offset, 1, 0);
  fcntl($file, $command, $flock) or fail();
  if ($command == ${F_OFD_GETLK} && unpack('s', $flock) != ${F_UNLCK}) { print 'locked ', $offset; exit }
}
`;

/** What the child printed. */
function run(fd: number, syscall: string, args: readonly (string | number)[]): string {
  // loaded here, since most hosts need no child
  const { spawnSync } = process.getBuiltinModule('node:child_process');
  const child = spawnSync('perl', ['-e', SCRIPT, ...args.map(String)], {
    stdio: ['ignore', 'pipe', 'ignore', fd],
    encoding: 'utf8',
  });
  const errno = /^errno (\d+)$/.exec(child.stdout ?? '');
  if (errno !== null || child.status !== 0) throw new SystemError(syscall, Number(errno?.[1] ?? 0));
  return child.stdout;
}

function byteLock(command: number, type: number, offset: number): string {
  return `${command}:${type}:${offset}`;
}

/** Undefined: no perl, or it cannot lock. */
export function findPerl(): HostFiles | undefined {
  const sysFallocate = SYS_FALLOCATE[process.arch];
  if (!hasFlock() || sysFallocate === undefined) return undefined;
  const fallocate = (fd: number, mode: number, offset: number, length: number): void => {
    run(fd, 'fallocate', ['fallocate', sysFallocate, mode, offset, length]);
  };
  const files: HostFiles = {
    kind: 'perl',
    setByteLocks(fd, lock, unlock) {
      if (lock.length + unlock.length === 0) return;
      const taken = lock.map((offset) => byteLock(F_OFD_SETLK, F_RDLCK, offset));
      const given = unlock.map((offset) => byteLock(F_OFD_SETLK, F_UNLCK, offset));
      run(fd, 'fcntl', ['locks', ...taken, ...given]);
    },
    findLocked(fd, bytes) {
      if (bytes.length === 0) return undefined;
      const tests = bytes.map((offset) => byteLock(F_OFD_GETLK, F_WRLCK, offset));
      const locked = /^locked (\d+)$/.exec(run(fd, 'fcntl', ['locks', ...tests]));
      return locked === null ? undefined : Number(locked[1]);
    },
    fallocate,
    posixFallocate: (fd, offset, length) => {
      fallocate(fd, 0, offset, length);
    },
    // a child for each extent would cost more than reading its zeroes
    ...ALL_IS_DATA,
  };
  try {
    const fd = openSync('/dev/null', 'r');
    try {
      files.findLocked(fd, [0]);
    } finally {
      closeSync(fd);
    }
    return files;
  } catch {
    return undefined;
  }
}
