/**
 * Waking and interrupting a vCPU from any thread, without a lock.
 *
 * Protocol of sleep and kick. The vCPU reads `kickSeq`, then looks at every reason to run (interruptRequest,
 * stopRequested, halted); finding none it waits on `kickSeq` with the value read. A kicker first makes
 * the reason visible (atomic or), then sets `exitRequest`, then bumps `kickSeq`, then notifies. All are
 * sequentially consistent: either the vCPU sees the reason, or its wait finds `kickSeq` changed.
 *
 * With thread=single one worker runs all vCPUs in turn and sleeps on the first one's `kickSeq`: a kick for any of
 * them makes the one that is running leave, whichever that is.
 */
import { CpuEnv, EXIT, INTERRUPT } from '../cpu/env.ts';
import type { CpuSignals } from '../hw/device.ts';

const OFF = {
  exitRequest: CpuEnv.offsetOf('exitRequest') >>> 2,
  interruptRequest: CpuEnv.offsetOf('interruptRequest') >>> 2,
  kickSeq: CpuEnv.offsetOf('kickSeq') >>> 2,
  sipiVector: CpuEnv.offsetOf('sipiVector') >>> 2,
} as const;

/** *Thread:* any. *Lock:* none. */
export class VcpuSignals implements CpuSignals {
  private readonly words: Int32Array<SharedArrayBuffer>;
  private readonly at: number;
  private readonly exit: number;
  /** First words of the vCPUs that a kick makes leave, and of the one whose `kickSeq` their thread sleeps on. */
  private readonly together: readonly number[];

  /**
   * `together`: bases of all vCPUs that share this one's worker. `exit`: what a kick asks for, bits of EXIT.
   */
  constructor(
    words: Int32Array<SharedArrayBuffer>,
    base: number,
    together: readonly number[] = [base],
    exit: number = EXIT.KICK,
  ) {
    this.words = words;
    this.exit = exit;
    this.at = base >>> 2;
    this.together = together.map((b) => b >>> 2);
  }
  kick(): void {
    const { words, together, exit } = this;
    for (const at of together) Atomics.or(words, at + OFF.exitRequest, exit);
    Atomics.add(words, together[0] + OFF.kickSeq, 1);
    Atomics.notify(words, together[0] + OFF.kickSeq);
  }
  interrupt(bits: number): void {
    const old = Atomics.or(this.words, this.at + OFF.interruptRequest, bits);
    // a request that is already there has been announced, and is looked at after it is cleared
    if ((old & bits) !== bits) this.kick();
  }
  /** `kickSeq` of the vCPU's thread: to be read before looking for a reason not to sleep. *Thread:* its own. */
  get sequence(): number {
    return Atomics.load(this.words, this.together[0] + OFF.kickSeq);
  }
  /**
   * Sleeps until a kick after `sequence` was read, at most `timeoutNs`.
   * *Thread:* the vCPU's own. *Lock:* none. *May block:* yes.
   */
  sleep(sequence: number, timeoutNs = Infinity): void {
    Atomics.wait(this.words, this.together[0] + OFF.kickSeq, sequence, timeoutNs / 1e6);
  }
  /** The last kick, or one that nobody has answered yet, was another vCPU's. *Thread:* its own. */
  get kickedByVcpu(): boolean {
    return (Atomics.load(this.words, this.at + OFF.exitRequest) & EXIT.VCPU) !== 0;
  }
  clearInterrupt(bits: number): void {
    Atomics.and(this.words, this.at + OFF.interruptRequest, ~bits);
  }
  /**
   * Forgets what was asked of the vCPU. *Thread:* main loop, all vCPUs stopped: what one of them asks for when it goes
   * on must not be lost, though this one has not yet begun.
   */
  reset(): void {
    Atomics.store(this.words, this.at + OFF.interruptRequest, 0);
  }
  init(): void {
    // a SIPI that came first counts for nothing; one that comes next must not be lost (SDM 3, 9.4.4)
    this.clearInterrupt(INTERRUPT.SIPI);
    this.interrupt(INTERRUPT.INIT);
  }
  sipi(vector: number): void {
    Atomics.store(this.words, this.at + OFF.sipiVector, vector);
    this.interrupt(INTERRUPT.SIPI);
  }
}
