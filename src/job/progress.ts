/**
 * Figures of work that is under way: rate and time left, how busy each stage is, and a brake.
 *
 * All of it is arithmetic over monotonic nanoseconds that the caller passes in. Pure but for the
 * meters' own state.
 */
import type { JobProgress, JobStage } from './job.ts';

const NS_PER_SECOND = 1e9;
/** After this long a change of rate has been seen to 63 %. */
const RATE_MEMORY_SECONDS = 5;

/** Bytes per second, smoothed, and the seconds left at that rate. */
export class RateMeter {
  #startBytes: number;
  readonly #startNs: bigint;
  #lastBytes: number;
  #lastNs: bigint;
  #rate: number | undefined;

  /** @param doneBytes where this attempt begins: what is done already is not its speed */
  constructor(doneBytes: number, nowNs: bigint) {
    this.#startBytes = doneBytes;
    this.#lastBytes = doneBytes;
    this.#startNs = nowNs;
    this.#lastNs = nowNs;
  }

  /** Call about once a second. A figure that went back (work begun anew) counts as no bytes. */
  sample(
    doneBytes: number,
    totalBytes: number | undefined,
    nowNs: bigint,
  ): Pick<JobProgress, 'bytesPerSecond' | 'etaSeconds'> {
    const seconds = secondsBetween(this.#lastNs, nowNs);
    if (seconds > 0) {
      const recent = Math.max(0, doneBytes - this.#lastBytes) / seconds;
      const weight = 1 - Math.exp(-seconds / RATE_MEMORY_SECONDS);
      this.#rate = this.#rate === undefined ? recent : mix(this.#rate, recent, weight);
      if (doneBytes < this.#startBytes) this.#startBytes = doneBytes;
      this.#lastBytes = doneBytes;
      this.#lastNs = nowNs;
    }
    return figures(this.#rate ?? 0, doneBytes, totalBytes);
  }

  /** Bytes per second from the start until now. */
  average(doneBytes: number, nowNs: bigint): number {
    const seconds = secondsBetween(this.#startNs, nowNs);
    return seconds > 0 ? Math.round(Math.max(0, doneBytes - this.#startBytes) / seconds) : 0;
  }
}

function mix(old: number, recent: number, weight: number): number {
  return old + (recent - old) * weight;
}

function figures(
  rate: number,
  doneBytes: number,
  totalBytes: number | undefined,
): Pick<JobProgress, 'bytesPerSecond' | 'etaSeconds'> {
  const bytesPerSecond = Math.round(rate);
  if (totalBytes === undefined || bytesPerSecond === 0) {
    return { bytesPerSecond, etaSeconds: undefined };
  }
  const etaSeconds = Math.ceil(Math.max(0, totalBytes - doneBytes) / bytesPerSecond);
  return { bytesPerSecond, etaSeconds };
}

function secondsBetween(fromNs: bigint, toNs: bigint): number {
  return Number(toNs - fromNs) / NS_PER_SECOND;
}

/** How much of the time a stage (reading, compressing, writing …) had work under way. */
export class StageMeter {
  readonly name: string;
  #active = 0;
  #sinceNs = 0n;
  /** Since the start, and of it what was seen by the last `percent`. */
  #busyNs = 0n;
  #seenNs = 0n;

  constructor(name: string) {
    this.name = name;
  }

  begin(nowNs: bigint): void {
    if (this.#active === 0) this.#sinceNs = nowNs;
    this.#active += 1;
  }

  end(nowNs: bigint): void {
    this.#active -= 1;
    if (this.#active === 0) this.#busyNs += nowNs - this.#sinceNs;
  }

  /** Time that was measured elsewhere, in a worker thread. */
  add(busyNs: bigint): void {
    this.#busyNs += busyNs;
  }

  /** Busy share since the last call, which was `windowNs` ago. */
  percent(windowNs: bigint, nowNs: bigint): JobStage {
    const busyNs = this.#upTo(nowNs);
    const busyPercent = share(busyNs - this.#seenNs, windowNs);
    this.#seenNs = busyNs;
    return { name: this.name, busyPercent };
  }

  /** Busy share of the whole time. */
  overall(wholeNs: bigint, nowNs: bigint): JobStage {
    return { name: this.name, busyPercent: share(this.#upTo(nowNs), wholeNs) };
  }

  #upTo(nowNs: bigint): bigint {
    return this.#busyNs + (this.#active > 0 ? nowNs - this.#sinceNs : 0n);
  }
}

function share(partNs: bigint, wholeNs: bigint): number {
  if (wholeNs <= 0n) return 0;
  return Math.min(100, Math.round((100 * Number(partNs)) / Number(wholeNs)));
}

/** Up to this much of a second may be spent at once after a rest. */
const BURST_SECONDS = 0.25;

/**
 * A token bucket that lends: bytes are taken at once, then waited for. The rate is given at each
 * call, so it can change at any time.
 */
export class Brake {
  #tokens = 0;
  #lastNs: bigint;

  constructor(nowNs: bigint) {
    this.#lastNs = nowNs;
  }

  take(bytes: number, maxBytesPerSecond: number | undefined, nowNs: bigint): void {
    this.#refill(maxBytesPerSecond, nowNs);
    this.#tokens -= bytes;
  }

  /** Milliseconds until all bytes taken are paid for, 0 if they are; forgiven without a rate. */
  delayMs(maxBytesPerSecond: number | undefined, nowNs: bigint): number {
    this.#refill(maxBytesPerSecond, nowNs);
    if (maxBytesPerSecond === undefined) {
      this.#tokens = 0;
      return 0;
    }
    return this.#tokens >= 0 ? 0 : Math.ceil((-this.#tokens / maxBytesPerSecond) * 1000);
  }

  #refill(maxBytesPerSecond: number | undefined, nowNs: bigint): void {
    const seconds = secondsBetween(this.#lastNs, nowNs);
    this.#lastNs = nowNs;
    if (maxBytesPerSecond === undefined) return;
    const saved = this.#tokens + seconds * maxBytesPerSecond;
    this.#tokens = Math.min(saved, BURST_SECONDS * maxBytesPerSecond);
  }
}
