/** The library `smp86`: machines, their serial ports, and the command's options. */
export { Machine } from './machine/machine.ts';
export { formatJitInfo } from './jit/info.ts';
export type { JitInfo } from './jit/info.ts';
export type { MachineEvents, MachineExit, MachineState, ShutdownReason } from './machine/machine.ts';
export { SerialPort, SerialWaitError } from './machine/serial-port.ts';
export type { WaitForOptions } from './machine/serial-port.ts';
export { MachineError } from './machine/errors.ts';
export type { MachineErrorCode } from './machine/errors.ts';
export { BootError } from './machine/boot/errors.ts';
export type { BootErrorCode, BootOption } from './machine/boot/errors.ts';
export { OptionError, parseCommandLine, parseOptions } from './cli/options.ts';
export type { Command, OptionErrorCode } from './cli/options.ts';
export type { FileSource, MachineCreateOptions, SerialOption } from './machine/create-options.ts';
export type {
  ActionOptions,
  CharBackend,
  CpuModel,
  DeviceOptions,
  LogItem,
  LogRange,
  MachineOptions,
  RtcBase,
  RtcOptions,
  SmpOptions,
} from './machine/machine-options.ts';
export { EMBEDDED_KERNEL } from './cli/guest/embedded/index.ts';
