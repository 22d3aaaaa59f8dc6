/** Restores of the fakes: images and copies put back as Maps of blocks. */
import type { Effects, UploadBody } from '../../src/api/service-types.ts';
import type { Copy, Disk } from '../../src/api/storage-services.ts';
import type * as api from '../../src/api/work-services.ts';
import { placeParts } from '../../src/backup/group-restore-plan.ts';
import { StorageError } from '../../src/base/errors.ts';
import { deferred } from '../../src/base/mutex.ts';
import type { Deferred } from '../../src/base/mutex.ts';
import { isEnd, type Job } from '../../src/job/job.ts';
import { assertNone } from '../../src/disk/users.ts';
import type { FakeBackups } from './fake-backups.ts';
import type { Blocks } from './fake-blocks.ts';
import type { FakeCopies } from './fake-copies.ts';
import type { FakeDisk, FakeDisks } from './fake-disks.ts';
import { readFakeImage } from './fake-image.ts';
import type { FakeGroups } from './fake-groups.ts';
import type { FakeJobs } from './fake-jobs.ts';
import type { FakePools } from './fake-pools.ts';
import type { FakeWorld } from './fake-world.ts';

interface Parts {
  readonly world: FakeWorld;
  readonly jobs: FakeJobs;
  readonly pools: FakePools;
  readonly disks: FakeDisks;
  readonly copies: FakeCopies;
  readonly groups: FakeGroups;
  readonly backups: FakeBackups;
}

interface Content {
  readonly blocks: Blocks;
  readonly capacityBytes: number;
}

type Made = Pick<api.UploadResult, 'disk' | 'copy'>;

export class FakeRestores implements api.Restores {
  readonly #parts: Parts;
  readonly #uploads = new Map<string, FakeUpload>();

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  async fromCopy(
    copyRef: string,
    request: api.RestoreRequest,
    effects?: Effects<api.CopyRestored>,
  ): Promise<api.CopyRestored> {
    const { copies } = this.#parts;
    if (request.method === 'remap') {
      const made = effects && ((disk: Disk) => effects({ disk }));
      return { disk: await copies.remap(copyRef, { disk: request.disk ?? '' }, made) };
    }
    const copy = copies.get(copyRef);
    const made = effects && ((job: Job) => effects({ job }));
    const content = { blocks: copy.blocks, capacityBytes: copy.sourceCapacityBytes };
    return { job: await this.#writeBack(request, async () => content, made) };
  }

  async fromBackup(ref: string, request: api.RestoreRequest, effects?: Effects<Job>): Promise<Job> {
    const backup = this.#parts.backups.get(ref);
    if (backup.state !== 'complete') {
      const { name, state } = backup;
      throw new StorageError('BACKUP_INCOMPLETE', 'not complete', { backup: name, state });
    }
    const read = async (): Promise<Content> => readFakeImage(backup.image);
    if (request.method === 'write-back') return this.#writeBack(request, read, effects);
    return this.#parts.jobs.submit(
      {
        kind: 'restore',
        subject: { backup: backup.name, target: backup.target },
        work: async () => {
          const { disk, copy } = await this.apply(request, await read());
          return { disk: disk?.name ?? null, copy: copy?.name ?? null };
        },
      },
      effects,
    );
  }

  async fromGroup(
    ref: string,
    request: api.GroupRestoreRequest,
    effects?: Effects<api.GroupRestored>,
  ): Promise<api.GroupRestored> {
    const group = this.#parts.groups.get(ref);
    if (group.left.length < group.copies.length) {
      throw new StorageError('NOT_FOUND', 'a copy was deleted', { group: group.name });
    }
    const placed = this.#place(request, group.copies);
    if (request.method === 'write-back') {
      return { job: await this.#groupJob(request, placed, (job) => effects?.({ job }) ?? []) };
    }
    const disks: Disk[] = [];
    for (const { to, copy } of placed) {
      disks.push(await this.#parts.copies.remap(copy.id, { disk: to }));
    }
    await this.#parts.world.commit(effects, { disks });
    return { disks };
  }

  async fromGroupBackup(
    ref: string,
    request: api.GroupRestoreRequest,
    effects?: Effects<Job>,
  ): Promise<Job> {
    const members = this.#parts.backups.ofGroup(ref).map((backup) => {
      if (backup.state !== 'complete') throw new StorageError('BACKUP_INCOMPLETE', 'not complete');
      const { diskId, diskName } = backup;
      return { diskId, diskName, ...readFakeImage(backup.image) };
    });
    return this.#groupJob(request, this.#place(request, members), effects);
  }

  /** With the checks of what is made or replaced. */
  #place<T extends { readonly diskId: string; readonly diskName: string }>(
    request: api.GroupRestoreRequest,
    members: readonly T[],
  ): { readonly to: string; readonly copy: T }[] {
    const { world, disks } = this.#parts;
    const source = { kind: 'upload' } as const;
    const parts = members.map(({ diskId, diskName }) => ({ diskId, diskName, source }));
    const placed = placeParts(request, parts).map(({ to }, at) => ({ to, copy: members[at]! }));
    for (const { to: name } of placed) {
      if (request.method === 'write-back') disks.get(name);
      const id = request.method === 'remap' ? world.names.get(name) : undefined;
      if (id !== undefined) throw new StorageError('NAME_TAKEN', 'taken', { name, id });
    }
    const ids = placed.map(({ to }) => (request.method === 'remap' ? to : disks.get(to).id));
    if (new Set(ids).size < ids.length) {
      throw new StorageError('VALIDATION_FAILED', 'two disks go to one', { field: 'disks' });
    }
    return placed;
  }

  async #groupJob(
    request: api.GroupRestoreRequest,
    placed: readonly {
      readonly to: string;
      readonly copy: { readonly blocks: Blocks } & Partial<Content & Copy>;
    }[],
    effects?: Effects<Job>,
  ): Promise<Job> {
    const { method, force = false } = request;
    if (method === 'write-back') {
      for (const { to } of placed) await this.#endUse(this.#parts.disks.get(to), force);
    }
    const names = placed.map(({ to }) => {
      return method === 'remap' ? to : this.#parts.disks.get(to).name;
    });
    return this.#parts.jobs.submit(
      {
        kind: 'group-restore',
        subject: { method },
        maxBytesPerSecond: request.maxBytesPerSecond,
        work: async () => {
          for (const { to: disk, copy } of placed) {
            const capacityBytes = copy.sourceCapacityBytes ?? copy.capacityBytes ?? 0;
            const content = { blocks: copy.blocks, capacityBytes };
            await this.apply({ method, disk }, content);
          }
          return { method, disks: names.map((disk) => ({ disk })) };
        },
      },
      effects,
    );
  }

  /** Fences the disk at once; the job swaps its blocks. */
  async #writeBack(
    request: api.RestoreRequest,
    read: () => Promise<Content>,
    effects?: Effects<Job>,
  ): Promise<Job> {
    const disk = this.#parts.disks.get(request.disk ?? '');
    await this.#endUse(disk, request.force ?? false);
    return this.#parts.jobs.submit(
      {
        kind: 'restore',
        subject: { disk: disk.name, diskId: disk.id },
        maxBytesPerSecond: request.maxBytesPerSecond,
        abandon: () => {
          disk.state = 'ready';
        },
        work: async (context) => {
          await context.throttle(65536);
          await this.apply(request, await read());
          return { disk: disk.name };
        },
      },
      (job) => {
        disk.fencedBy = job.id;
        return effects?.(job) ?? [];
      },
    );
  }

  async #endUse(disk: FakeDisk, force: boolean): Promise<void> {
    if (!force) assertNone(disk.users(), 'DISK_IN_USE', 'in use', { disk: disk.name });
    disk.state = 'fenced';
    const reason = new StorageError('DISK_FENCED', 'a restore has begun', { disk: disk.name });
    await disk.userSet.end(reason);
  }

  async apply(request: api.RestoreRequest, content: Content): Promise<Made> {
    const { disks, pools, copies } = this.#parts;
    if (request.method === 'write-back') {
      const disk = disks.get(request.disk ?? '');
      Object.assign(disk, { blocks: new Map(content.blocks), state: 'ready', fencedBy: undefined });
      return {};
    }
    const name = request.method === 'copy' ? `${request.copy ?? ''}-source` : (request.disk ?? '');
    const { capacityBytes } = content;
    const disk = disks.add(pools.get(request.pool ?? 'default'), { name, capacityBytes });
    disk.blocks = new Map(content.blocks);
    if (request.method === 'remap') return { disk };
    return { copy: await copies.freeze(disk.id, { name: request.copy ?? '' }) };
  }

  async beginUpload(
    request: api.RestoreRequest,
    { imageBytes, key }: UploadBody,
  ): Promise<api.UploadSession> {
    for (const earlier of this.#uploads.values()) {
      const { job, key: other } = earlier;
      if (key === undefined || other?.place !== key.place) continue;
      if (isEnd((await this.#parts.jobs.runner.get(job.id)).state)) continue;
      if (other.digest !== key.digest) throw new StorageError('IDEMPOTENCY_KEY_REUSED', 'reused');
      await earlier.abort(new StorageError('CANCELLED', 'begun anew'));
    }
    const { method, copy, disk = '' } = request;
    const made: Record<string, string> = copy === undefined ? { disk } : { copy };
    if (method === 'write-back') {
      const found = this.#parts.disks.get(disk);
      await this.#endUse(found, request.force ?? false);
      Object.assign(made, { disk: found.name, diskId: found.id });
    }
    const pool = this.#parts.pools.get(request.pool ?? 'default');
    if ((imageBytes ?? 0) > pool.freeBytes + 4096) {
      throw new StorageError('POOL_FULL', 'no room for the image', { pool: pool.name });
    }
    const done = deferred<Made>();
    const job = await this.#parts.jobs.submit({
      kind: 'restore',
      subject: { method, ...made },
      work: async () => {
        const { disk, copy } = await done.promise;
        return { disk: disk?.name ?? request.disk ?? null, copy: copy?.name ?? null };
      },
    });
    const upload = new FakeUpload(this, this.#parts, request, job, done);
    upload.key = key;
    this.#uploads.set(job.id, upload);
    return upload;
  }

  async continueUpload(jobId: string, fromByte: number): Promise<api.UploadSession> {
    const upload = this.#uploads.get(jobId);
    if (upload === undefined) throw new StorageError('NOT_FOUND', 'no such job', { job: jobId });
    const { receivedBytes } = upload;
    if (fromByte === receivedBytes) return upload;
    throw new StorageError('RANGE_INVALID', `go on at ${receivedBytes}`, { receivedBytes });
  }
}

class FakeUpload implements api.UploadSession {
  readonly #restores: FakeRestores;
  readonly #parts: Parts;
  readonly #request: api.RestoreRequest;
  readonly #chunks: Buffer[] = [];
  readonly #done: Deferred<Made>;
  job: Job;
  key: UploadBody['key'];

  constructor(
    restores: FakeRestores,
    parts: Parts,
    request: api.RestoreRequest,
    job: Job,
    done: Deferred<Made>,
  ) {
    this.#restores = restores;
    this.#parts = parts;
    this.#request = request;
    this.job = job;
    this.#done = done;
  }

  get receivedBytes(): number {
    return this.#chunks.reduce((sum, { length }) => sum + length, 0);
  }

  async push(chunk: Uint8Array): Promise<void> {
    this.#chunks.push(Buffer.from(chunk));
  }

  async finish(effects?: Effects<api.UploadResult>): Promise<api.UploadResult> {
    const content = readFakeImage(Buffer.concat(this.#chunks));
    const made: { disk?: Disk; copy?: Copy } = await this.#restores.apply(this.#request, content);
    this.#done.resolve(made);
    this.job = await this.#parts.jobs.runner.wait(this.job.id, 1000);
    const result = { job: this.job, ...made };
    await this.#parts.world.commit(effects, result);
    return result;
  }

  async abort(reason: StorageError): Promise<void> {
    if (reason.code !== 'BODY_TRUNCATED') this.#done.reject(reason);
  }
}
