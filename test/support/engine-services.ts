/**
 * All services over the real parts: a database and files in a temporary directory, as the daemon
 * composes them. The pool is sparse, so its room costs nothing.
 */
import { join } from 'node:path';
import { onTestFinished } from 'vitest';
import type { Services } from '../../src/api/services.ts';
import { GIB, KIB } from '../../src/base/units.ts';
import { makeParts, openParts, servicesOf } from '../../src/daemon.ts';
import { Meta } from '../../src/meta/meta.ts';
import type { MadeServices } from './make-services.ts';
import { temporaryDirectory } from './temporary.ts';

/** With a pool `default` of 1 GiB. Errors of background work fail the test. */
export async function engineServices(): Promise<MadeServices> {
  const dir = await temporaryDirectory();
  const database = join(dir, 'meta.db');
  const opened = await Meta.open({ path: database, reserveBytes: 64 * KIB });
  let failure: Error | undefined;
  const commit: Meta['commit'] = async (batch) => {
    const error = failure;
    failure = undefined;
    if (error !== undefined) throw error;
    await opened.commit(batch);
  };
  const meta = new Proxy(opened, {
    get(target, name) {
      if (name === 'commit') return commit;
      const value: unknown = Reflect.get(target, name, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
  const errors: unknown[] = [];
  const parts = makeParts({
    meta,
    database,
    roots: [dir],
    devices: [],
    own: [database],
    onError: (_task, error) => errors.push(error),
  });
  await openParts(parts, () => {
    const files = [{ path: join(dir, 'default.dat'), sizeBytes: GIB }];
    return parts.pools.create({ name: 'default', files, preallocate: false });
  });
  onTestFinished(async () => {
    const { runner, disks, copies, pools } = parts;
    await runner.shutdown(1000);
    await disks.stop();
    await copies.stop();
    await pools.close();
    await opened.close();
    if (errors.length > 0) throw new AggregateError(errors, 'work in the background failed');
  });
  let state: ReturnType<Services['state']> = 'ready';
  const services = servicesOf(parts, { state: () => state, metadataBytes: () => 4096 });
  const failNextCommit = (error: Error): void => {
    failure = error;
  };
  const rows: Services['records']['rows'] = (table, where) => meta.rows(table, where);
  return {
    services: { ...services, records: { rows, commit, failNextCommit } },
    setState(next) {
      state = next;
    },
  };
}
