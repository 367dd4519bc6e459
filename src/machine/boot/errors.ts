/** What a boot file has done wrong. */
export type BootErrorCode =
  /** The file is no kernel that can be booted here. */
  | 'ERR_BOOT_FORMAT'
  /** The file ends before what its headers announce. */
  | 'ERR_BOOT_TRUNCATED'
  /** Guest RAM is too small or has no room where the file must lie. */
  | 'ERR_BOOT_MEMORY'
  /** The command line is longer than the kernel takes. */
  | 'ERR_BOOT_CMDLINE'
  /** The file cannot be read. */
  | 'ERR_BOOT_FILE'
  /** The kernel type does not take this option. */
  | 'ERR_BOOT_OPTION';

/** Which option of the command the mistake belongs to. */
export type BootOption = 'kernel' | 'initrd' | 'append' | 'm';

/** A kernel, initrd or command line that cannot be booted: a host mistake, found before the machine starts. */
export class BootError extends Error {
  readonly code: BootErrorCode;
  readonly option: BootOption;

  /** `message` becomes one line: `-OPTION: reason`. */
  constructor(code: BootErrorCode, option: BootOption, reason: string) {
    super(`-${option}: ${reason}`);
    this.name = 'BootError';
    this.code = code;
    this.option = option;
  }
}
