/**
 * The only door to time and randomness, so that tests can rule both.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { StorageError } from './errors.ts';

export interface Clock {
  /** Milliseconds since 1970, wall clock: for people only, never for order. */
  nowMs(): number;
  /** Monotonic nanoseconds, for measuring. */
  monotonicNs(): bigint;
  /** Cryptographic random bytes. */
  random(length: number): Buffer;
}

export const systemClock: Clock = {
  nowMs: () => Date.now(),
  monotonicNs: () => process.hrtime.bigint(),
  random: (length) => randomBytes(length),
};

/** Resolves after the time, or at once when the signal fires; never rejects. Keeps nobody alive. */
export async function systemSleep(ms: number, signal?: AbortSignal): Promise<void> {
  // A timer longer than 2^31 - 1 ms fires at once; nobody waits that long here.
  const options = signal === undefined ? { ref: false } : { ref: false, signal };
  await delay(Math.min(ms, 2 ** 31 - 1), undefined, options).catch(() => undefined);
}

/** RFC 3339 in UTC with milliseconds. */
export function rfc3339(ms: number): string {
  return new Date(ms).toISOString();
}

const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/i;

export function isUuid(text: string): boolean {
  return UUID.test(text);
}

/** UUIDv7 (RFC 9562, 5.7): 48 bits of milliseconds, then random. */
export function uuidv7(clock: Clock): string {
  const bytes = clock.random(16);
  bytes.writeUIntBE(clock.nowMs(), 0, 6);
  return formatUuid(withVersion(bytes, 7));
}

/** The milliseconds since 1970 in a UUIDv7. @throws VALIDATION_FAILED if it is none */
export function timeOfId(id: string): number {
  return parseUuid(id).readUIntBE(0, 6);
}

/** UUIDv8 (RFC 9562, 5.8) from the first 16 bytes of a digest. */
export function uuidv8(digest: Uint8Array): string {
  return formatUuid(withVersion(Buffer.from(digest.subarray(0, 16)), 8));
}

function withVersion(bytes: Buffer, version: number): Buffer {
  bytes.writeUInt8((bytes.readUInt8(6) & 0x0f) | (version << 4), 6);
  bytes.writeUInt8((bytes.readUInt8(8) & 0x3f) | 0x80, 8);
  return bytes;
}

export function formatUuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  const parts = [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20)];
  return [...parts, hex.slice(20, 32)].join('-');
}

/** The 16 bytes of a UUID. @throws VALIDATION_FAILED if it is none */
export function parseUuid(text: string): Buffer {
  if (!isUuid(text)) throw new StorageError('VALIDATION_FAILED', `not a UUID: ${text}`);
  return Buffer.from(text.replaceAll('-', ''), 'hex');
}
