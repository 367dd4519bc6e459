/** What went wrong in the use of clocks and timers by the emulator itself; never a guest's doing. */
export type ClockErrorCode =
  /** No clock system was made at that offset. */
  | 'not-initialised'
  /** A clock system is made where there is one. */
  | 'already-initialised'
  /** VIRTUAL is to be set, but the host drives it. */
  | 'not-manual'
  /** A callback disables the clock of its own timer, and would wait for itself. */
  | 'disabled-in-callback'
  /** A list is being run by another thread. */
  | 'list-running'
  | 'no-group'
  | 'no-group-left'
  | 'no-timer'
  | 'no-timer-left'
  /** A timer is released while pending, or a group while timers of it are. */
  | 'timer-pending'
  | 'timers-left';

export class ClockError extends Error {
  override readonly name = 'ClockError';
  readonly code: ClockErrorCode;

  constructor(code: ClockErrorCode, message: string) {
    super(message);
    this.code = code;
  }
}
