/** `-l`: an internal snapshot to read instead of the disk as it is. */
import { splitCommas } from '../option-values.ts';
import { ImgError } from './img-error.ts';

/** Absent parts match any. `either`: id or name. */
export interface SnapshotChoice {
  readonly id?: string;
  readonly name?: string;
  readonly either?: string;
}

/** A name or an id, or `snapshot.id=…,snapshot.name=…`. *Errors:* ImgError. */
export function snapshotChoice(text: string): SnapshotChoice {
  if (!text.startsWith('snapshot.')) return { either: text };
  const parts = new Map(splitCommas(text).map((part) => part.split(/=(.*)/s, 2) as [string, string]));
  const unknown = [...parts.keys()].find((key) => key !== 'snapshot.id' && key !== 'snapshot.name');
  if (unknown !== undefined) {
    throw new ImgError([`Invalid parameter '${unknown}'`, `Failed in parsing snapshot param '${text}'`]);
  }
  return { id: parts.get('snapshot.id'), name: parts.get('snapshot.name') };
}
