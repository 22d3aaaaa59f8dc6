/**
 * What the routes need of the engine: the composition root gives the real parts, tests give an
 * honest small one in memory.
 *
 * Every reference (`ref`) is a name or an id. `effects` is called once, synchronously, in the step
 * that decides the effect, with the object the method is going to answer; the rows it gives are
 * committed in the effect's transaction. So the record of an Idempotency-Key and the thing that it
 * stands for exist together or not at all. Where nothing had to be changed it is not called.
 */
import type { RecordStore } from './service-types.ts';
import type { Copies, Disks, Groups, Images, Pools } from './storage-services.ts';
import type {
  Backups,
  Check,
  Jobs,
  Restores,
  Retention,
  Schedules,
  Targets,
} from './work-services.ts';

export interface Services {
  readonly pools: Pools;
  readonly disks: Disks;
  readonly copies: Copies;
  readonly groups: Groups;
  readonly images: Images;
  readonly targets: Targets;
  readonly backups: Backups;
  readonly restores: Restores;
  readonly retention: Retention;
  readonly schedules: Schedules;
  readonly jobs: Jobs;
  readonly check: Check;
  readonly records: RecordStore;
  /** While it is not `ready`, every request of /v1 is answered 503. */
  state(): 'recovering' | 'ready' | 'salvage' | 'stopping';
}
