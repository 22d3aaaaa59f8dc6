/**
 * Restores and uploads as the interface sees them.
 */
import type { StorageError } from '../base/errors.ts';
import type { Effects, UploadBody } from '../api/service-types.ts';
import type * as api from '../api/work-services.ts';
import { restoreGroup, restoreGroupBackup } from '../backup/group-restore.ts';
import type { Restores } from '../backup/restores.ts';
import type { Restored } from '../backup/restore-target.ts';
import type { Uploads, UploadSession } from '../backup/uploads.ts';
import type { Job } from '../job/job.ts';
import type { CopyService } from './copies.ts';

export class RestoreService implements api.Restores {
  readonly #restores: Restores;
  readonly #uploads: Uploads;
  readonly #copies: CopyService;

  constructor(restores: Restores, uploads: Uploads, copies: CopyService) {
    this.#restores = restores;
    this.#uploads = uploads;
    this.#copies = copies;
  }

  async fromCopy(
    copyRef: string,
    request: api.RestoreRequest,
    effects?: Effects<api.CopyRestored>,
  ): Promise<api.CopyRestored> {
    return this.#restores.fromCopy(copyRef, request, effects);
  }

  async fromBackup(
    backupRef: string,
    request: api.RestoreRequest,
    effects?: Effects<Job>,
  ): Promise<Job> {
    return this.#restores.fromBackup(backupRef, request, effects);
  }

  async fromGroup(
    groupRef: string,
    request: api.GroupRestoreRequest,
    effects?: Effects<api.GroupRestored>,
  ): Promise<api.GroupRestored> {
    return restoreGroup(this.#restores.backups, groupRef, request, effects);
  }

  async fromGroupBackup(
    ref: string,
    request: api.GroupRestoreRequest,
    effects?: Effects<Job>,
  ): Promise<Job> {
    return restoreGroupBackup(this.#restores.backups, ref, request, effects);
  }

  async beginUpload(
    request: api.RestoreRequest,
    { imageBytes, key }: UploadBody,
  ): Promise<api.UploadSession> {
    return new Upload(await this.#uploads.begin(request, imageBytes, key), this.#copies);
  }

  async continueUpload(jobId: string, fromByte: number): Promise<api.UploadSession> {
    return new Upload(await this.#uploads.continue(jobId, fromByte), this.#copies);
  }
}

class Upload implements api.UploadSession {
  readonly #session: UploadSession;
  readonly #copies: CopyService;

  constructor(session: UploadSession, copies: CopyService) {
    this.#session = session;
    this.#copies = copies;
  }

  get job(): Job {
    return this.#session.job;
  }

  get receivedBytes(): number {
    return this.#session.receivedBytes;
  }

  async push(chunk: Uint8Array): Promise<void> {
    await this.#session.push(chunk);
  }

  async finish(effects?: Effects<api.UploadResult>): Promise<api.UploadResult> {
    const rows = effects && ((job: Job, made: Restored) => effects(this.#result(job, made)));
    const { job, restored } = await this.#session.finish(rows);
    return this.#result(job, restored);
  }

  async abort(reason: StorageError): Promise<void> {
    await this.#session.abort(reason);
  }

  /** A working disk that was written is no new object. */
  #result(job: Job, { disk, copy }: Restored): api.UploadResult {
    const isNew = job.subject['method'] !== 'write-back';
    return {
      job,
      ...(disk === undefined || !isNew ? {} : { disk }),
      ...(copy === undefined ? {} : { copy: this.#copies.view(copy) }),
    };
  }
}
