/** Bytes that a PS/2 device has for the host: replies to commands go before scan codes and movements. */
import { bytes, struct, u16, u8, type ViewOf } from '@smp86/atomics-sync';

const DATA_SIZE = 256;
const REPLY_SIZE = 16;

/** *Lock:* BQL. */
export const Ps2Queue = struct({
  data: bytes(DATA_SIZE),
  replies: bytes(REPLY_SIZE),
  head: u16,
  count: u16,
  replyHead: u8,
  replyCount: u8,
  /** What was sent last, for the resend command. */
  last: u8,
});
export type Ps2QueueView = ViewOf<typeof Ps2Queue>;

export function clearQueue(q: Ps2QueueView): void {
  q.head = 0;
  q.count = 0;
  q.replyHead = 0;
  q.replyCount = 0;
}

/** Drops scan codes or movements, keeps replies. */
export function clearData(q: Ps2QueueView): void {
  q.head = 0;
  q.count = 0;
}

/** Room for data bytes. */
export function roomIn(q: Ps2QueueView): number {
  return DATA_SIZE - q.count;
}

/** Queues a data byte; a full queue drops it. */
export function putData(q: Ps2QueueView, byte: number): void {
  if (q.count === DATA_SIZE) return;
  q.data[(q.head + q.count) & (DATA_SIZE - 1)] = byte;
  q.count++;
}

/** Queues a reply byte; a host that sends commands and never reads loses replies. */
export function putReply(q: Ps2QueueView, byte: number): void {
  if (q.replyCount === REPLY_SIZE) return;
  q.replies[(q.replyHead + q.replyCount) & (REPLY_SIZE - 1)] = byte;
  q.replyCount++;
}

/** Takes the next byte, or -1. */
export function takeByte(q: Ps2QueueView): number {
  if (q.replyCount > 0) {
    q.last = q.replies[q.replyHead];
    q.replyHead = (q.replyHead + 1) & (REPLY_SIZE - 1);
    q.replyCount--;
    return q.last;
  }
  if (q.count === 0) return -1;
  q.last = q.data[q.head];
  q.head = (q.head + 1) & (DATA_SIZE - 1);
  q.count--;
  return q.last;
}
