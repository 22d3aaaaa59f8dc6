/** Targets and backups of the fakes: whole images in memory. */
import { join } from 'node:path';
import type { Effects, ForceOption } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/work-services.ts';
import { Chains } from '../../src/backup/chains.ts';
import { noTotals } from '../../src/backup/drive-figures.ts';
import { checkedBuffer } from '../../src/backup/target-buffer.ts';
import { StorageError } from '../../src/base/errors.ts';
import { checkName } from '../../src/disk/names.ts';
import type { Job } from '../../src/job/job.ts';
import { beginTape } from '../../src/target/tape-device.ts';
import { checkTape } from '../../src/backup/target-request.ts';
import { ChangerRooms } from '../../src/target/changer-room.ts';
import { changerUseAt, tapeMediaAt } from '../../src/target/tape-place.ts';
import { temporaryDirectory } from './temporary.ts';
import type { FakeCopies, FakeCopy } from './fake-copies.ts';
import { fakeImageBytes, FakeImages } from './fake-image.ts';
import type { FakeGroups } from './fake-groups.ts';
import type { FakeJobs } from './fake-jobs.ts';
import { find, setChanged } from './fake-world.ts';
import type { FakeWorld } from './fake-world.ts';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
type FakeTarget = Mutable<api.Target>;
export type FakeBackup = Mutable<api.Backup> & { image: Buffer; readonly generation: number };

export class FakeTargets implements api.Targets {
  readonly targets = new Map<string, FakeTarget>();
  readonly #world: FakeWorld;
  readonly #jobs: FakeJobs;
  readonly #creations = new Map<string, string>();
  readonly #media = new Map<string, api.Media>();
  isInUse: (target: api.Target) => boolean = () => false;

  constructor(world: FakeWorld, jobs: FakeJobs) {
    this.#world = world;
    this.#jobs = jobs;
  }

  async create(request: api.CreateTarget, effects?: Effects<api.Target>): Promise<api.TargetMade> {
    const creation = JSON.stringify(request);
    const there = this.list().find(({ name }) => name === request.name);
    if (there !== undefined) {
      if (this.#creations.get(there.id) === creation) return { target: there, created: false };
      throw new StorageError('NAME_TAKEN', 'taken', { name: there.name, id: there.id });
    }
    if (request.path.includes('..')) {
      throw new StorageError('PATH_NOT_ALLOWED', 'outside of the roots', { path: request.path });
    }
    if (request.kind === 'tape') {
      throw new StorageError('PATH_NOT_ALLOWED', 'not a named device', { path: request.path });
    }
    const { name, kind, path, labels = {} } = request;
    checkTape(request);
    const set = kind === 'directory' ? null : (request.set ?? name);
    const changer = request.changer === undefined ? null : { device: request.changer, drive: 0 };
    const createdAtMs = this.#world.clock.nowMs();
    const bufferBytes = checkedBuffer(kind, request.bufferBytes);
    const facts = { id: this.#world.id(), name, kind, path, set, bufferBytes, changer };
    const target = { ...facts, labels, version: 1, createdAtMs };
    if (set !== null) await this.#addMedia(target.id, set, changer !== null);
    this.targets.set(target.id, target);
    this.#creations.set(target.id, creation);
    await this.#world.commit(effects, target);
    return { target, created: true };
  }

  get(ref: string): FakeTarget {
    return find(this.targets, ref, 'target');
  }

  list(): FakeTarget[] {
    return [...this.targets.values()];
  }

  drives(): api.DriveView[] {
    const tapes = this.list().filter(({ kind }) => kind !== 'directory');
    return tapes.map(({ name }) => ({ target: name, ...noTotals, waitsForMedium: false }));
  }

  async update(ref: string, change: api.TargetChange): Promise<FakeTarget> {
    const target = this.get(ref);
    if (change.bufferBytes !== undefined) checkedBuffer(target.kind, change.bufferBytes);
    return setChanged(target, change);
  }

  async delete(ref: string, { force = false }: ForceOption): Promise<void> {
    const target = this.get(ref);
    if (!force && this.isInUse(target)) {
      throw new StorageError('TARGET_IN_USE', 'it holds backups', { target: target.name });
    }
    this.targets.delete(target.id);
  }

  /** Virtual cartridges are what they are also here. */
  async #addMedia(id: string, set: string, hasChanger: boolean): Promise<void> {
    const path = await temporaryDirectory();
    const kind = 'virtual-tape';
    await beginTape(kind, path, hasChanger);
    const place = { kind, path, catalog: join(path, 'catalog.jsonl'), set } as const;
    const room = new ChangerRooms().room({ kind, path });
    const media = tapeMediaAt(place, hasChanger ? changerUseAt(place, room, 0) : undefined);
    this.#media.set(id, {
      list: () => media.list(),
      get: (ref) => media.get(ref),
      add: (cartridge, sizeBytes) => media.add(cartridge, sizeBytes),
      load: (ref) => media.load(ref),
      unload: (to, slot) => media.unload(to, slot),
      label: (label) => media.label(label),
      forget: (ref, options) => media.forget(ref, options),
      // Nobody else has the drive here.
      export: (ref) => media.export(ref, true),
      import: (ref) => media.import(ref),
      library: () => media.library(),
    });
  }

  media(ref: string): api.Media {
    const media = this.#media.get(this.get(ref).id);
    if (media !== undefined) return media;
    throw new StorageError('VALIDATION_FAILED', 'it has no cartridges', { field: 'target' });
  }

  async scan(ref: string, effects?: Effects<Job>): Promise<Job> {
    const target = this.get(ref);
    return this.#jobs.submit(
      {
        kind: 'scan',
        subject: { target: target.name, targetId: target.id },
        work: async () => ({ found: 0 }),
      },
      effects,
    );
  }
}

export class FakeBackups implements api.Backups {
  readonly backups = new Map<string, FakeBackup>();
  readonly #world: FakeWorld;
  readonly #jobs: FakeJobs;
  readonly #targets: FakeTargets;
  readonly #copies: FakeCopies;
  readonly #groups: FakeGroups;

  constructor(
    world: FakeWorld,
    jobs: FakeJobs,
    targets: FakeTargets,
    copies: FakeCopies,
    groups: FakeGroups,
  ) {
    this.#world = world;
    this.#jobs = jobs;
    this.#targets = targets;
    this.#copies = copies;
    this.#groups = groups;
    targets.isInUse = ({ id }) => this.list().some(({ targetId }) => targetId === id);
  }

  hasGroup(ref: string): boolean {
    const isAlone = this.list().some(({ id, name }) => id === ref || name === ref);
    return !isAlone && this.ofGroup(ref).length > 0;
  }

  ofGroup(ref: string): FakeBackup[] {
    return this.list().filter(({ group }) => group?.id === ref || group?.name === ref);
  }

  #assertNew(name: string): void {
    const there = this.list().find((one) => one.name === name) ?? this.ofGroup(name)[0];
    if (there === undefined) return;
    throw new StorageError('NAME_TAKEN', 'taken', { name: there.name, id: there.id });
  }

  async #createGroup(request: api.CreateBackup, effects?: Effects<Job>): Promise<Job> {
    const target = this.#targets.get(request.target);
    const group = { id: this.#world.id(), name: request.name };
    const source = this.#groups.get(request.group ?? '');
    if (source.left.length < source.copies.length) {
      throw new StorageError('NOT_FOUND', 'a copy was deleted', { group: source.name });
    }
    this.#assertNew(group.name);
    const made = source.copies.map((copy) => {
      const name = `${group.name}-${copy.diskName}`;
      checkName(name);
      this.#assertNew(name);
      const base = this.#baseOf(request, copy, target);
      if (base instanceof StorageError) throw base;
      const backup = this.#newBackup({ ...request, name }, copy, target, base);
      return { copy, backup: Object.assign(backup, { group }) };
    });
    for (const { backup } of made) this.backups.set(backup.id, backup);
    const job = await this.#jobs.submit(
      {
        kind: 'group-backup',
        subject: { group: source.name, groupBackup: group.name, target: target.name },
        maxBytesPerSecond: request.maxBytesPerSecond,
        labels: request.labels,
        abandon: () => {
          for (const { backup } of made) this.backups.delete(backup.id);
        },
        work: async (context) => {
          await context.throttle(65536);
          for (const { copy, backup } of made) {
            const image = fakeImageBytes(copy);
            Object.assign(backup, { image, mediumBytes: image.length, state: 'complete' });
          }
          return {
            group: group.name,
            groupId: group.id,
            backups: made.map(({ backup }) => ({ backup: backup.name, level: backup.level })),
          };
        },
      },
      effects,
    );
    for (const { backup } of made) backup.job = job.id;
    return job;
  }

  async create(request: api.CreateBackup, effects?: Effects<Job>): Promise<Job> {
    if (request.group !== undefined) return this.#createGroup(request, effects);
    const target = this.#targets.get(request.target);
    this.#assertNew(request.name);
    const copy =
      request.copy === undefined
        ? await this.#copies.freeze(request.disk ?? '', { name: `${request.name}-copy` })
        : this.#copies.get(request.copy);
    const base = this.#baseOf(request, copy, target);
    if (base instanceof StorageError) {
      if (request.copy === undefined) await this.#copies.delete(copy.id, {});
      throw base;
    }
    const backup = this.#newBackup(request, copy, target, base);
    this.backups.set(backup.id, backup);
    const { name, diskName, diskId } = copy;
    const job = await this.#jobs.submit(
      {
        kind: 'backup',
        subject: { backup: backup.name, copy: name, disk: diskName, diskId, target: target.name },
        maxBytesPerSecond: request.maxBytesPerSecond,
        labels: request.labels,
        abandon: () => {
          this.backups.delete(backup.id);
        },
        work: async (context) => {
          const image = fakeImageBytes(copy);
          context.progress({ doneBytes: 0, totalBytes: image.length });
          for (let done = 0; done < image.length; done += 65536) {
            await context.throttle(Math.min(65536, image.length - done));
            context.progress({ doneBytes: done });
          }
          Object.assign(backup, { image, mediumBytes: image.length, state: 'complete' });
          const { level = 'full' } = request;
          const missing = level === backup.level ? {} : { baseMissing: 'no-backup' };
          return {
            ...{ backup: backup.name, level: backup.level, mediumBytes: image.length },
            ...missing,
          };
        },
      },
      effects,
    );
    backup.job = job.id;
    return job;
  }

  /** The newest of an older copy of the disk, or of the named copy. */
  #baseOf(
    { level = 'full', base, onMissingBase }: api.CreateBackup,
    copy: FakeCopy,
    target: api.Target,
  ): FakeBackup | StorageError | undefined {
    if (level === 'full') return undefined;
    const named = base === undefined ? undefined : this.#copyNamed(base);
    if (named instanceof StorageError) return named;
    const found = this.list()
      .filter(({ targetId, state }) => targetId === target.id && state === 'complete')
      .filter((each) => each.diskId === copy.diskId && each.generation < copy.generation)
      .filter(({ copyId }) => named === undefined || copyId === named)
      .sort((a, b) => b.generation - a.generation)[0];
    if (found !== undefined || onMissingBase === 'full') return found;
    const details = { reason: 'no-backup', target: target.name };
    return new StorageError('BASE_MISSING', 'no base', details);
  }

  #copyNamed(ref: string): string | StorageError {
    const backup = this.list().find(({ id, name, copyId }) => [id, name, copyId].includes(ref));
    const copy = backup ?? this.#copies.list().find(({ id, name }) => id === ref || name === ref);
    if (copy !== undefined) return 'copyId' in copy ? copy.copyId : copy.id;
    return new StorageError('NOT_FOUND', 'no such base', { field: 'base', base: ref });
  }

  #newBackup(
    request: api.CreateBackup,
    copy: FakeCopy,
    target: api.Target,
    base: FakeBackup | undefined,
  ): FakeBackup {
    return {
      id: this.#world.id(),
      name: request.name,
      target: target.name,
      targetId: target.id,
      imageId: new FakeImages().of(copy).imageId,
      copy: copy.name,
      copyId: copy.id,
      copyName: request.disk === undefined ? copy.name : null,
      disk: copy.disk,
      diskId: copy.diskId,
      diskName: copy.diskName,
      level: base === undefined ? 'full' : 'incremental',
      base:
        base === undefined
          ? null
          : { copyId: base.copyId, generation: base.generation, backup: base.name },
      chain: [],
      isChainComplete: true,
      generation: copy.generation,
      state: 'creating',
      mediumBytes: 0,
      usedBytes: copy.usedBlocks * copy.blockSizeBytes,
      dataBytes: copy.usedBlocks * copy.blockSizeBytes,
      sourceCapacityBytes: copy.sourceCapacityBytes,
      blockSizeBytes: copy.blockSizeBytes,
      labels: request.labels ?? {},
      job: null,
      verifiedAtMs: null,
      version: 1,
      createdAtMs: this.#world.clock.nowMs(),
      image: Buffer.alloc(0),
    };
  }

  get(ref: string): FakeBackup {
    return this.#withChain(find(this.backups, ref, 'backup'));
  }

  list(): FakeBackup[] {
    return [...this.backups.values()].map((backup) => this.#withChain(backup));
  }

  #withChain(backup: FakeBackup): FakeBackup {
    const { members, missing } = new Chains(this.backups.values()).chainTo(backup);
    const chain = members.map(({ id, name }) => ({ id, name }));
    return Object.assign(backup, { chain, isChainComplete: missing === null });
  }

  deletion(ref: string, { cascade = false }: api.BackupDeletion): FakeBackup[] {
    const backup = this.get(ref);
    const neededBy = new Chains(this.backups.values()).neededBy(new Set([backup.id]));
    if (neededBy.length > 0 && !cascade) {
      const names = neededBy.map(({ id, name }) => ({ id, name }));
      throw new StorageError('BACKUP_NEEDED', 'needed', { neededBy: names });
    }
    return [...neededBy, backup];
  }

  async delete(ref: string, options: api.BackupDeletion): Promise<void> {
    for (const { id } of this.deletion(ref, options)) this.backups.delete(id);
  }

  async verify(ref: string, effects?: Effects<Job>): Promise<Job> {
    const backup = this.get(ref);
    return this.#jobs.submit(
      {
        kind: 'verify',
        subject: { backup: backup.name, target: backup.target },
        work: async () => {
          backup.verifiedAtMs = this.#world.clock.nowMs();
          return { damaged: [] };
        },
      },
      effects,
    );
  }

  async consolidate(ref: string, request: api.Consolidate, effects?: Effects<Job>): Promise<Job> {
    const { image, ...source } = this.get(ref);
    const there = this.list().find(({ name }) => name === request.name);
    if (there !== undefined) {
      throw new StorageError('NAME_TAKEN', 'taken', { name: there.name, id: there.id });
    }
    if (source.state !== 'complete' || !source.isChainComplete) {
      throw new StorageError('BACKUP_INCOMPLETE', 'not complete', { backup: source.name });
    }
    return this.#jobs.submit(
      {
        kind: 'consolidate',
        subject: { backup: request.name, from: source.name, target: source.target },
        work: async () => {
          const [id, { name }] = [this.#world.id(), request];
          this.backups.set(id, { ...source, id, name, image, level: 'full', base: null });
          return { backup: name, mediumBytes: image.length };
        },
      },
      effects,
    );
  }
}
