/** Progress of a long job: a line that is overwritten (`-p`), or one line on stderr for each SIGUSR1. */
import type { Output } from './output.ts';

/** Percent between two prints. */
const STEP = 0.5;

export class Progress {
  readonly #output: Output;
  readonly #shown: boolean;
  #percent = 0;
  #printed = -Infinity;
  readonly #onSignal = (): void => {
    this.#output.err(`${this.#text()}\n`);
  };

  /** `shown`: -p was given. Ends with `end`. */
  constructor(output: Output, shown: boolean) {
    this.#output = output;
    this.#shown = shown;
    if (!shown) process.on('SIGUSR1', this.#onSignal);
    this.#print();
  }

  /** `fraction`: from 0 to 1 of the whole. */
  set(fraction: number): void {
    this.#percent = Math.min(100, fraction * 100);
    if (this.#percent - this.#printed > STEP || this.#percent === 100) this.#print();
  }

  end(): void {
    process.off('SIGUSR1', this.#onSignal);
    if (!this.#shown) return;
    this.#print();
    this.#output.out('\n');
  }

  #text(): string {
    return `    (${this.#percent.toFixed(2)}/100%)`;
  }

  #print(): void {
    this.#printed = this.#percent;
    if (this.#shown) this.#output.out(`${this.#text()}\r`);
  }
}
