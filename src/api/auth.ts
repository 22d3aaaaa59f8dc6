/**
 * Who may come in: the bearer token if one is set; without one only this machine itself.
 *
 * Without a token the daemon listens on loopback only, but a browser on the same machine carries
 * strangers' requests there. So then the Host must be a loopback name (else a name that was made to
 * point here, DNS rebinding) and a request that a page of another origin makes is refused.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import { StorageError } from '../base/errors.ts';
import { isLoopback } from '../base/loopback.ts';

function digestOf(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}

export class Guard {
  readonly #digest: Buffer | undefined;
  /** Names the token in records without telling it. */
  readonly scope: string;

  constructor(token: string | undefined) {
    this.#digest = token === undefined ? undefined : digestOf(token);
    this.scope = this.#digest?.toString('hex').slice(0, 16) ?? 'local';
  }

  /** @throws UNAUTHORIZED. Cost: one SHA-256; the comparison takes the same time for every token */
  check(headers: IncomingHttpHeaders): void {
    if (this.#digest === undefined) {
      checkLocal(headers);
      return;
    }
    const [, token] = /^Bearer +(\S+) *$/i.exec(headers.authorization ?? '') ?? [];
    if (token !== undefined && timingSafeEqual(digestOf(token), this.#digest)) return;
    throw new StorageError('UNAUTHORIZED', 'Authorization: Bearer with the right token is needed');
  }
}

function checkLocal(headers: IncomingHttpHeaders): void {
  const { host = '', origin } = headers;
  if (host !== '' && !isLoopback(host.replace(/:\d*$/, ''))) {
    throw new StorageError(
      'UNAUTHORIZED',
      `Host header ${host} is not allowed unless a token is configured`,
    );
  }
  const isForeign = origin !== undefined && origin !== `http://${host}`;
  if (isForeign || headers['sec-fetch-site'] === 'cross-site') {
    throw new StorageError(
      'UNAUTHORIZED',
      'pages of other origins are not allowed unless a token is configured',
    );
  }
}
