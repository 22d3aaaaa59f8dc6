/** Which changers a target of kind tape may name. No drive is opened for what is refused. */
import { describe, expect, it } from 'vitest';
import { Targets } from '../../../src/backup/targets.ts';
import type { TargetRequest } from '../../../src/backup/target-request.ts';
import { readTarget, targetRow } from '../../../src/backup/records.ts';
import type { TargetRecord } from '../../../src/backup/records.ts';
import { systemClock } from '../../../src/base/clock.ts';
import { StorageError } from '../../../src/base/errors.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const devices = ['/dev/nst8', '/dev/nst9', '/dev/sg8'];

const record: TargetRecord = {
  id: '0193e4c0-1111-7222-8333-444455556666',
  name: 'lto',
  kind: 'tape',
  path: '/dev/nst8',
  set: 'lto',
  bufferBytes: 16 * 1024 * 1024,
  changer: { device: '/dev/sg8', drive: 1 },
  labels: {},
  creation: '{}',
  version: 1,
  createdAtMs: 0,
};

async function targets(): Promise<Targets> {
  const row = { id: record.id, ...targetRow(record).row };
  const made = new Targets({
    store: {
      commit: async () => undefined,
      rows: async () => [row],
    } as unknown as ConstructorParameters<typeof Targets>[0]['store'],
    clock: systemClock,
    resolvePath: async (path) => {
      if (devices.includes(path)) return path;
      throw new StorageError('PATH_NOT_ALLOWED', 'not named', { field: 'path', path });
    },
    catalogs: await temporaryDirectory(),
  });
  await made.open();
  return made;
}

async function refusalOf(request: Omit<TargetRequest, 'name' | 'kind'>) {
  return (await targets()).create({ name: 'second', kind: 'tape', ...request }).then(
    () => undefined,
    (error: unknown) => {
      const { code, details } = error as StorageError;
      return { code, field: details['field'] };
    },
  );
}

describe('a target of kind tape', () => {
  it('remembers its changer', () => {
    const row = { id: record.id, ...targetRow(record).row };
    expect(readTarget(row)).toEqual(record);
    const without = { ...record, changer: null };
    expect(readTarget({ id: record.id, ...targetRow(without).row })).toEqual(without);
  });

  it('may name only a device that the operator named', async () => {
    const path = '/dev/nst9';
    const told = { code: 'PATH_NOT_ALLOWED', field: 'changer' };
    for (const changer of ['/dev/sg7', 'virtual', '-f', '/dev/sg8/../sg7', '$(reboot)']) {
      expect(await refusalOf({ path, changer })).toEqual(told);
    }
  });

  it('has a drive of the changer of its own', async () => {
    const told = { code: 'TARGET_IN_USE', field: 'changer' };
    const path = '/dev/nst9';
    expect(await refusalOf({ path, changer: '/dev/sg8', changerDrive: 1 })).toEqual(told);
    expect(await refusalOf({ path, changer: path })).toEqual(told);
    expect(await refusalOf({ path, changer: '/dev/nst8' })).toEqual(told);
    // Its other drive is free; but there is no such device here.
    const other = await refusalOf({ path, changer: '/dev/sg8', changerDrive: 0 });
    expect(other?.code).toBe('TARGET_UNAVAILABLE');
  });
});
