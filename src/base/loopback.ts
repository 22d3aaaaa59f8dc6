/**
 * Addresses that only this machine can reach.
 */
import { isIP } from 'node:net';

/** True for 127.0.0.0/8, ::1 (also in brackets, also IPv4-mapped) and the name `localhost`. */
export function isLoopback(host: string): boolean {
  const bare = host.replace(/^\[(.*)\]$/, '$1').toLowerCase();
  if (isIP(bare) === 4) return bare.startsWith('127.');
  if (isIP(bare) === 6) return bare === '::1' || bare.startsWith('::ffff:127.');
  return bare === 'localhost';
}
