/**
 * All work with backups in one place: targets, the catalog, restores, uploads, and their job kinds.
 *
 * Order at start: `open`, then the runner takes up its jobs, then `settle` gives these what they
 * use and undoes what no job owns.
 */
import type { Clock } from '../base/clock.ts';
import type { Copies } from '../copy/copies.ts';
import type { Job } from '../job/job.ts';
import type { JobRunner } from '../job/runner.ts';
import type { JobKind } from '../job/scheduler.ts';
import type { MetadataStore, RowChange } from '../pool/metadata-store.ts';
import { backupKind } from './backup-job.ts';
import { Backups } from './backups.ts';
import { consolidateKind } from './consolidate-job.ts';
import { Copiers } from './copy-data-job.ts';
import { groupBackupKind } from './group-backup.ts';
import { groupRestoreKind, useGroupsAgain } from './group-restore.ts';
import { holdNamesAgain, lettingGo } from './held-names.ts';
import { restoreKind } from './restore-job.ts';
import { clearMark } from './restore-mark.ts';
import { Restores } from './restores.ts';
import { retentionKind } from './retention-job.ts';
import { scanKind } from './scan-job.ts';
import { Targets } from './targets.ts';
import type { TargetsOptions } from './targets.ts';
import { Uploads } from './uploads.ts';
import { verifyKind } from './verify-job.ts';

type WorkKind =
  | 'copy-data'
  | 'backup'
  | 'group-backup'
  | 'consolidate'
  | 'verify'
  | 'scan'
  | 'restore'
  | 'group-restore'
  | 'retention';

export interface WorkOptions {
  readonly store: MetadataStore;
  readonly clock: Clock;
  readonly copies: Copies;
  /** Resolves a client's path for this kind of target. @throws PATH_NOT_ALLOWED */
  readonly resolvePath: TargetsOptions['resolvePath'];
  /** Where the catalogs of cartridges lie. */
  readonly catalogs: string;
  /** Made after this, with `kinds`. */
  readonly runner: () => JobRunner<RowChange>;
  readonly onError: (error: unknown) => void;
  /** An upload of which nothing comes for so long has failed. Default 24 hours. */
  readonly uploadWaitMs?: number;
}

export class Work {
  readonly targets: Targets;
  readonly backups: Backups;
  readonly restores: Restores;
  readonly uploads: Uploads;
  readonly copiers: Copiers;
  readonly kinds: Readonly<Record<WorkKind, JobKind<RowChange>>>;
  readonly #o: WorkOptions;

  constructor(options: WorkOptions) {
    this.#o = options;
    const { store, clock, copies, runner, resolvePath, catalogs, onError } = options;
    const { names } = copies.options;
    this.targets = new Targets({ store, clock, resolvePath, catalogs });
    this.backups = new Backups({ store, clock, copies, runner, onError, targets: this.targets });
    this.restores = new Restores(this.backups);
    this.uploads = new Uploads(this.backups, options.uploadWaitMs);
    this.copiers = new Copiers({ copies, runner, onError });
    this.kinds = {
      'copy-data': this.copiers.kind,
      backup: backupKind(this.backups),
      'group-backup': groupBackupKind(this.backups),
      consolidate: consolidateKind(this.backups),
      verify: verifyKind(this.backups),
      scan: scanKind(this.backups),
      restore: lettingGo(names, restoreKind(this.backups, this.uploads)),
      'group-restore': lettingGo(names, groupRestoreKind(this.backups)),
      retention: retentionKind(this.backups),
    };
  }

  async open(): Promise<void> {
    await this.targets.open();
    await this.backups.open();
  }

  /** After the runner has taken up its jobs. */
  async settle(): Promise<void> {
    holdNamesAgain(this.backups);
    useGroupsAgain(this.backups);
    await this.restores.settle();
    await this.backups.settle();
    this.copiers.settle();
  }

  /** For the runner's `onEnd`. */
  onJobEnd(job: Job): void {
    this.uploads.ended(job);
    this.copiers.ended(job);
    this.backups.endUses(job.id);
    this.#o.copies.options.names.letGo(job.id);
    if (job.kind !== 'restore' && job.kind !== 'group-restore') return;
    clearMark(this.#o.store, job.id).catch((error: unknown) => {
      this.#o.onError(error);
    });
  }
}
