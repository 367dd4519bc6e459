/** SIGINT, SIGTERM and SIGHUP as a request to end; npm forwards what the terminal has sent already, so each may come twice. */
import { constants } from 'node:os';

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
export type EndSignal = (typeof SIGNALS)[number] | 'SIGQUIT';

/** From `install` to `remove` the signals are asked about; before and after they end the process. */
export class EndSignals {
  readonly #ask: (signal: EndSignal) => void;

  constructor(ask: (signal: EndSignal) => void) {
    this.#ask = ask;
  }
  install(): void {
    for (const signal of SIGNALS) process.on(signal, this.#onSignal);
  }
  remove(): void {
    for (const signal of SIGNALS) process.off(signal, this.#onSignal);
  }
  readonly #onSignal = (signal: NodeJS.Signals): void => this.#ask(signal as EndSignal);
}

export function signalNumber(signal: EndSignal): number {
  return constants.signals[signal];
}
