export type MachineErrorCode =
  /** The machine has ended. */
  | 'ERR_MACHINE_ENDED'
  /** Not possible in the machine's present state. */
  | 'ERR_MACHINE_STATE'
  /** There is no object or drive of that name, or there is one already. */
  | 'ERR_MACHINE_OBJECT'
  /** It is in use. */
  | 'ERR_MACHINE_BUSY'
  /** One of the machine's threads failed: a mistake of smp86, not of the guest. */
  | 'ERR_MACHINE_THREAD';

/** What a method of a machine cannot do. */
export class MachineError extends Error {
  readonly code: MachineErrorCode;
  constructor(code: MachineErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.name = 'MachineError';
    this.code = code;
  }
}
