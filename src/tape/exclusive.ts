/**
 * One owner of a thing among all processes of this machine, as a kernel would have it: an abstract
 * Unix socket bears the thing's name, and goes with the process that bound it, however that ends.
 */
import { createServer } from 'node:net';
import { errnoOf } from '../base/errors.ts';

export interface Ownership {
  release(): Promise<void>;
}

/**
 * @param key names the thing; at most 90 bytes
 * @returns undefined if somebody owns it, also this process
 */
export async function tryOwn(key: string): Promise<Ownership | undefined> {
  const server = createServer((socket) => socket.destroy());
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  server.once('error', (error) => {
    if (errnoOf(error) === 'EADDRINUSE') resolve(false);
    else reject(error);
  });
  server.listen({ path: `\0${key}` }, () => {
    resolve(true);
  });
  if (!(await promise)) return undefined;
  server.unref();
  return {
    release: () =>
      new Promise((done) => {
        server.close(() => {
          done();
        });
      }),
  };
}
