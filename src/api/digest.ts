/**
 * `Content-Digest` and `Repr-Digest` (RFC 9530): a body is what its sender says it is.
 *
 * Without a content coding both mean the same bytes. SHA-256 and SHA-512 are checked, other
 * algorithms are ignored beside them. A field with no other is refused: who sends a digest relies
 * on its being checked.
 */
import type { Hash } from 'node:crypto';
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { StorageError } from '../base/errors.ts';

const algorithms: ReadonlyMap<string, { readonly hash: string; readonly bytes: number }> = new Map([
  ['sha-256', { hash: 'sha256', bytes: 32 }],
  ['sha-512', { hash: 'sha512', bytes: 64 }],
]);
const MEMBER = /^\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/]*={0,2}):\s*$/;

interface Expected {
  readonly field: string;
  readonly hash: Hash;
  readonly digest: Buffer;
}

export class DigestCheck {
  readonly #expected: Expected[] = [];

  /** @throws VALIDATION_FAILED if a digest is not written as the RFC says, or none is known */
  constructor(headers: IncomingHttpHeaders) {
    for (const field of ['content-digest', 'repr-digest']) {
      const value = headers[field];
      if (typeof value !== 'string') continue;
      const before = this.#expected.length;
      for (const member of value.split(',')) this.#add(field, member);
      if (this.#expected.length > before) continue;
      throw invalid(field, `no digest of ${field} is supported: sha-256 and sha-512 are`);
    }
  }

  #add(field: string, member: string): void {
    const [, name = '', encoded = ''] = MEMBER.exec(member) ?? [];
    if (name === '') throw invalid(field, `${field} is not written as RFC 9530 says`);
    const algorithm = algorithms.get(name);
    if (algorithm === undefined) return;
    const digest = Buffer.from(encoded, 'base64');
    if (digest.length !== algorithm.bytes) {
      throw invalid(field, `${field}: ${name} has ${algorithm.bytes} bytes`);
    }
    this.#expected.push({ field, hash: createHash(algorithm.hash), digest });
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

function invalid(field: string, detail: string): StorageError {
  return new StorageError('VALIDATION_FAILED', detail, { field });
}
