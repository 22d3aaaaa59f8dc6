/**
 * Backups as the interface sees them: the catalog's records with the names of today.
 */
import type { Effects } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import type { Backups } from '../backup/backups.ts';
import { beginBackup } from '../backup/begin-backup.ts';
import type { Chain } from '../backup/chains.ts';
import { beginConsolidate } from '../backup/consolidate-job.ts';
import { deleteBackup, planDeletion } from '../backup/delete-backup.ts';
import { beginGroupBackup } from '../backup/group-backup.ts';
import type { BackupRecord } from '../backup/records.ts';
import { submitVerify } from '../backup/verify-job.ts';
import type { Copies } from '../copy/copies.ts';
import type { Job } from '../job/job.ts';

export class BackupService implements api.Backups {
  readonly #backups: Backups;

  constructor(backups: Backups) {
    this.#backups = backups;
  }

  hasGroup(ref: string): boolean {
    return this.#backups.find(ref) === undefined && this.#backups.ofGroup(ref).length > 0;
  }

  ofGroup(ref: string): readonly api.Backup[] {
    return this.#backups.ofGroup(ref).map((record) => this.#view(record));
  }

  async create(request: api.CreateBackup, effects?: Effects<Job>): Promise<Job> {
    const { group } = request;
    if (group !== undefined) return beginGroupBackup(this.#backups, { ...request, group }, effects);
    return beginBackup(this.#backups, request, effects);
  }

  get(ref: string): api.Backup {
    return this.#view(this.#backups.get(ref));
  }

  list(): readonly api.Backup[] {
    return this.#backups.list().map((record) => this.#view(record));
  }

  deletion(ref: string, options: api.BackupDeletion): readonly api.Backup[] {
    const records = planDeletion(this.#backups, ref, options);
    for (const record of records) {
      if (options.force !== true) this.#backups.assertUnused(record);
    }
    return records.map((record) => this.#view(record));
  }

  async delete(ref: string, options: api.BackupDeletion): Promise<void> {
    await deleteBackup(this.#backups, ref, options);
  }

  async verify(ref: string, effects?: Effects<Job>): Promise<Job> {
    return submitVerify(this.#backups, ref, effects);
  }

  async consolidate(ref: string, request: api.Consolidate, effects?: Effects<Job>): Promise<Job> {
    return beginConsolidate(this.#backups, ref, request, effects);
  }

  /** Its chain is worked out when somebody looks: of a list only a page is shown. */
  #view(record: BackupRecord): api.Backup {
    const { targets, copies } = this.#backups.options;
    let found: Chain<BackupRecord> | undefined;
    const chain = (): Chain<BackupRecord> => (found ??= this.#backups.chains().chainTo(record));
    return {
      ...record,
      get base() {
        return record.base && { ...record.base, backup: chain().members.at(-2)?.name ?? null };
      },
      get chain() {
        return chain().members.map(({ id, name }) => ({ id, name }));
      },
      get isChainComplete() {
        return chain().missing === null;
      },
      // a target that was forgotten just now has no name any more
      target: targets.find(record.targetId)?.name ?? '',
      copyName: record.copyName === '' ? null : record.copyName,
      copy: nameOfCopy(copies, record.copyId),
      disk: copies.options.disks.find(record.diskId)?.name ?? null,
    };
  }
}

function nameOfCopy(copies: Copies, id: string): string | null {
  const copy = copies.byId(id);
  return copy === undefined || copy.record.state === 'internal' ? null : copy.name;
}
