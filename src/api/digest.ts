/**
 * `Content-Digest` and `Repr-Digest` (RFC 9530): a body is what its sender says it is.
 *
 * Without a content coding both mean the same bytes. SHA-256 and SHA-512 are checked, other
 * algorithms are ignored, as the RFC asks.
 */
import type { Hash } from 'node:crypto';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { StorageError } from '../base/errors.ts';

const algorithms: Readonly<Record<string, string>> = { 'sha-256': 'sha256', 'sha-512': 'sha512' };
const MEMBER = /^\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*$/;

interface Expected {
  readonly field: string;
  readonly hash: Hash;
  readonly digest: Buffer;
}

export class DigestCheck {
  readonly #expected: Expected[] = [];

  /** @throws VALIDATION_FAILED if a digest is not written as the RFC says */
  constructor(headers: IncomingHttpHeaders) {
    for (const field of ['content-digest', 'repr-digest']) {
      const value = headers[field];
      if (typeof value !== 'string') continue;
      for (const member of value.split(',')) this.#add(field, member);
    }
  }

  #add(field: string, member: string): void {
    const [, name = '', encoded = ''] = MEMBER.exec(member) ?? [];
    if (name === '') {
      throw new StorageError('VALIDATION_FAILED', `${field} is not written as RFC 9530 says`, {
        field,
      });
    }
    const algorithm = algorithms[name];
    if (algorithm === undefined) return;
    const hash = createHash(algorithm);
    const digest = Buffer.from(encoded, 'base64');
    this.#expected.push({ field, hash, digest });
  }

  /** Cost: one pass per digest given, none without. */
  update(bytes: Uint8Array): void {
    for (const { hash } of this.#expected) hash.update(bytes);
  }

  /** After the last byte. @throws DIGEST_MISMATCH */
  verify(): void {
    for (const { field, hash, digest } of this.#expected) {
      const actual = hash.digest();
      if (actual.length === digest.length && timingSafeEqual(actual, digest)) continue;
      throw new StorageError('DIGEST_MISMATCH', `the body does not have the digest of ${field}`, {
        field,
        actual: actual.toString('base64'),
      });
    }
  }
}
