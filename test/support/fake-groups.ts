/** Groups in memory: copies that were made in one call. */
import type { Effects, ForceOption } from '../../src/api/service-types.ts';
import type * as api from '../../src/api/storage-services.ts';
import { StorageError } from '../../src/base/errors.ts';
import { planMembers } from '../../src/copy/group-plan.ts';
import { assertNone } from '../../src/disk/users.ts';
import type { FakeCopies, FakeCopy } from './fake-copies.ts';
import type { FakeDisks } from './fake-disks.ts';
import { find } from './fake-world.ts';
import type { FakeWorld } from './fake-world.ts';

export class FakeGroup implements api.Group {
  readonly id: string;
  readonly name: string;
  readonly haltMicroseconds = 34;
  readonly labels: api.Group['labels'];
  readonly version = 1;
  readonly frozenAtMs: number;
  copies: readonly FakeCopy[] = [];
  readonly #copies: FakeCopies;

  constructor(world: FakeWorld, copies: FakeCopies, request: api.FreezeGroupRequest) {
    this.#copies = copies;
    this.id = world.id();
    this.name = request.name;
    this.labels = request.labels ?? {};
    this.frozenAtMs = world.clock.nowMs();
  }

  get left(): FakeCopy[] {
    return this.copies.filter((copy) => this.#copies.has(copy));
  }

  get members(): api.GroupMember[] {
    return this.copies.map((copy) => {
      const { id: copyId, name: copyName, diskId, diskName, disk } = copy;
      const there = this.#copies.has(copy) ? copy : null;
      return { copyId, copyName, diskId, diskName, disk, copy: there };
    });
  }
}

export class FakeGroups implements api.Groups {
  readonly #groups = new Map<string, FakeGroup>();
  readonly #world: FakeWorld;
  readonly #disks: FakeDisks;
  readonly #copies: FakeCopies;

  constructor(world: FakeWorld, disks: FakeDisks, copies: FakeCopies) {
    this.#world = world;
    this.#disks = disks;
    this.#copies = copies;
  }

  async freeze(request: api.FreezeGroupRequest, effects?: Effects<api.Group>): Promise<FakeGroup> {
    const { name, disks, layout = 'compact', labels = {} } = request;
    const planned = planMembers(name, disks, (ref) => this.#disks.get(ref));
    const group = new FakeGroup(this.#world, this.#copies, request);
    for (const wanted of [name, ...planned.map(({ copyName }) => copyName)]) {
      const id = this.#world.names.get(wanted);
      if (id !== undefined) throw new StorageError('NAME_TAKEN', 'taken', { name: wanted, id });
    }
    this.#world.takeName(name, group.id);
    group.copies = planned.map(({ disk, copyName }) => {
      const copy = this.#copies.make(disk, { name: copyName, layout, labels });
      return Object.assign(copy, { inGroup: group });
    });
    for (const copy of group.copies) copy.haltMicroseconds = group.haltMicroseconds;
    this.#groups.set(group.id, group);
    try {
      await this.#world.commit(effects, group);
    } catch (error) {
      await this.delete(group.id, {});
      throw error;
    }
    return group;
  }

  get(ref: string): FakeGroup {
    return find(this.#groups, ref, 'group');
  }

  list(): FakeGroup[] {
    return [...this.#groups.values()];
  }

  async delete(ref: string, { force = false }: ForceOption): Promise<void> {
    const group = this.get(ref);
    for (const copy of force ? [] : group.left) {
      const details = { group: group.name, copy: copy.name };
      assertNone(copy.users(), 'COPY_IN_USE', 'in use', details);
    }
    for (const copy of group.left) await this.#copies.delete(copy.id, { force });
    this.#groups.delete(group.id);
    this.#world.names.delete(group.name);
  }
}
