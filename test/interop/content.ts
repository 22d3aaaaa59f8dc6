/**
 * Bytes to store: the same for everybody, and no block of them like another.
 */
import { createCipheriv, createHash } from 'node:crypto';

/** Pseudo-random, different for each seed. */
export function bytesOf(length: number, seed = 0): Buffer<ArrayBuffer> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16, seed), Buffer.alloc(16));
  return Buffer.from(cipher.update(Buffer.alloc(length)));
}

export function digest(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
