export type StressErrorCode =
  /** An option is missing, malformed or out of range. */
  | 'ERR_STRESS_OPTION'
  /** A report cannot be read, or cannot be added to the others. */
  | 'ERR_STRESS_REPORT'
  /** A fault cannot be planted. */
  | 'ERR_STRESS_FAULT';

/** A mistake of the user's; the message is one line. */
export class StressError extends Error {
  override readonly name = 'StressError';
  readonly code: StressErrorCode;

  constructor(code: StressErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
