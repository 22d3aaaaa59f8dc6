/**
 * All services in memory, small and honest, so that the interface is tested by itself.
 */
import type { Services } from '../../src/api/services.ts';
import { systemClock } from '../../src/base/clock.ts';
import { GIB } from '../../src/base/units.ts';
import { FakeBackups, FakeTargets } from './fake-backups.ts';
import { FakeCopies } from './fake-copies.ts';
import { FakeDisks } from './fake-disks.ts';
import { FakeGroups } from './fake-groups.ts';
import { FakeImages } from './fake-image.ts';
import { FakeJobs } from './fake-jobs.ts';
import { FakePools } from './fake-pools.ts';
import { FakeRestores } from './fake-restores.ts';
import { FakeRetention } from './fake-retention.ts';
import { FakeSchedules } from './fake-schedules.ts';
import { FakeWorld } from './fake-world.ts';
import { MemoryMetadata } from './memory-metadata.ts';

export interface FakeServices extends Services {
  readonly records: MemoryMetadata;
  currentState: ReturnType<Services['state']>;
}

/** With a pool `default` of 1 GiB. */
export async function fakeServices(): Promise<FakeServices> {
  const records = new MemoryMetadata();
  const world = new FakeWorld(systemClock, records);
  const jobs = new FakeJobs(records, systemClock);
  const pools = new FakePools(world);
  const disks = new FakeDisks(world, pools);
  const copies = new FakeCopies(world, disks, pools, jobs);
  const groups = new FakeGroups(world, disks, copies);
  const targets = new FakeTargets(world, jobs);
  const backups = new FakeBackups(world, jobs, targets, copies, groups);
  const restores = new FakeRestores({ world, jobs, pools, disks, copies, groups, backups });
  await jobs.runner.recover();
  await pools.create({ name: 'default', files: [{ path: '/pools/default', sizeBytes: GIB }] });
  const services: FakeServices = {
    pools,
    disks,
    copies,
    groups,
    images: new FakeImages(),
    targets,
    backups,
    restores,
    retention: new FakeRetention(jobs, targets, backups),
    schedules: new FakeSchedules({ world, jobs, disks, targets, backups }),
    jobs: jobs.runner,
    check: {
      quick: async () => ({ ok: true, findings: [] }),
      start: (effects) =>
        jobs.submit({ kind: 'check', subject: {}, work: async () => ({ findings: [] }) }, effects),
    },
    records,
    currentState: 'ready',
    state: () => services.currentState,
  };
  return services;
}
