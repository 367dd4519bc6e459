/** What went wrong in the use of a primitive. */
export type SyncErrorCode =
  /** A byte offset is misaligned for the primitive. */
  | 'misaligned'
  /** The primitive would lie outside its buffer. */
  | 'out-of-range'
  /** A count, capacity or length that the primitive cannot have. */
  | 'bad-argument'
  /** An unlock, or an assertion, without the lock held. */
  | 'not-held'
  /** A lock that its holder takes again, which would sleep forever. */
  | 'recursive'
  /** A record that can never fit into its ring. */
  | 'record-too-long';

/** A mistake in the use of a primitive by its caller; never a consequence of guest activity. */
export class SyncError extends Error {
  readonly code: SyncErrorCode;
  constructor(code: SyncErrorCode, message: string) {
    super(message);
    this.name = 'SyncError';
    this.code = code;
  }
}

/** Checks the place of a primitive. @throws SyncError `misaligned`, `out-of-range` */
export function checkPlace(buffer: SharedArrayBuffer, at: number, size: number, align: number): void {
  if (!Number.isInteger(at) || at < 0 || at % align !== 0) {
    throw new SyncError('misaligned', `offset ${at} is no multiple of ${align}`);
  }
  if (at + size > buffer.byteLength) {
    throw new SyncError(
      'out-of-range',
      `${size} bytes at ${at} lie outside a buffer of ${buffer.byteLength}`,
    );
  }
}
