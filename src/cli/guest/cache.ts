/** The cache of fetched and built guest files, outside any checkout. */
import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { GuestError } from './errors.ts';

/** `$XDG_CACHE_HOME/smp86`, or `~/.cache/smp86`. */
export function defaultCacheDirectory(): string {
  const base = process.env.XDG_CACHE_HOME;
  return join(base !== undefined && base.startsWith('/') ? base : join(homedir(), '.cache'), 'smp86');
}

/** A name beside `path` that nobody else uses: written first, then renamed to `path`. */
export function temporaryName(path: string): string {
  return `${path}.tmp-${process.pid}-${randomBytes(4).toString('hex')}`;
}

/** Writes a file so that others see it whole or not at all. */
export async function writeAtomic(path: string, data: Uint8Array | string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = temporaryName(path);
  try {
    await writeFile(temporary, data);
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}

/** True while a process with this id exists. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/**
 * Runs `body` while holding the lock file `<directory>/lock`, so that two commands do not fetch the
 * same files. The file names its owner's process; a lock whose owner is gone is taken over.
 */
export async function withCacheLock<T>(
  directory: string,
  body: () => Promise<T>,
  options: { timeoutMs?: number; onWait?: (pid: number) => void } = {},
): Promise<T> {
  await mkdir(directory, { recursive: true });
  const lock = join(directory, 'lock');
  const mine = temporaryName(lock);
  await writeFile(mine, `${process.pid} ${mine}\n`);
  try {
    await acquire(lock, mine, options.timeoutMs ?? 900_000, options.onWait);
    try {
      return await body();
    } finally {
      await rm(lock, { force: true });
    }
  } finally {
    await rm(mine, { force: true });
  }
}

async function acquire(
  lock: string,
  mine: string,
  timeoutMs: number,
  onWait?: (pid: number) => void,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  let told = false;
  for (;;) {
    try {
      // A hard link appears with its content, and fails when the name exists.
      await link(mine, lock);
      return;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
    const content = await readFile(lock, 'utf8').catch(() => '');
    const pid = Number.parseInt(content, 10);
    if (content !== '' && !(pid > 0 && isAlive(pid))) {
      await removeStale(lock, content);
      continue;
    }
    if (performance.now() > deadline) {
      throw new GuestError('ERR_GUEST_LOCKED', `process ${pid} holds ${lock}: remove it if that is no smp86`);
    }
    if (!told && content !== '') {
      told = true;
      onWait?.(pid);
    }
    await sleep(100);
  }
}

/** Removes the lock only if it is still the one that was found stale. */
async function removeStale(lock: string, content: string): Promise<void> {
  const aside = temporaryName(lock);
  try {
    await rename(lock, aside);
  } catch {
    return;
  }
  const found = await readFile(aside, 'utf8').catch(() => '');
  // Somebody else took the lock over between the look and the rename: give it back.
  if (found !== content) await link(aside, lock).catch(() => undefined);
  await rm(aside, { force: true });
}
