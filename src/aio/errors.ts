export type AioErrorCode =
  /** No context was made at that offset. */
  | 'not-initialised'
  /** The context's table of bottom halves is full. */
  | 'no-bottom-half-left'
  /** A request is posted to a main loop that has no handler for its kind. */
  | 'unknown-request';

/** A mistake in the use of event loops by the emulator itself; never a guest's doing. */
export class AioError extends Error {
  override readonly name = 'AioError';
  readonly code: AioErrorCode;

  constructor(code: AioErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
