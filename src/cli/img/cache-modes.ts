/** Cache modes (`-t`, `-T`). */
import { ImgError } from './img-error.ts';

const MODES = ['none', 'off', 'writeback', 'writethrough', 'directsync', 'unsafe'];

/** Throws ImgError for a mode that there is not. `option`: `t` for what is written, `T` for what is read. */
export function checkCache(option: 't' | 'T', mode: string | undefined): void {
  if (mode === undefined || MODES.includes(mode)) return;
  throw new ImgError(`Invalid ${option === 'T' ? 'source ' : ''}cache option: ${mode}`);
}

/** Past the host's cache. */
export function isDirect(mode: string | undefined): boolean {
  return mode === 'none' || mode === 'off' || mode === 'directsync';
}

/** Every request ends on stable storage. */
export function isWriteThrough(mode: string): boolean {
  return mode === 'writethrough' || mode === 'directsync';
}
