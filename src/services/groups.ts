/**
 * Groups as the interface sees them: the engine's records with the names and copies of today.
 */
import type { Effects, ForceOption } from '../api/service-types.ts';
import type * as api from '../api/storage-services.ts';
import { freezeGroup } from '../copy/freeze-group.ts';
import type { GroupMember, GroupRecord } from '../copy/groups.ts';
import type { CopyService } from './copies.ts';

export class GroupService implements api.Groups {
  readonly #copies: CopyService;

  constructor(copies: CopyService) {
    this.#copies = copies;
  }

  async freeze(request: api.FreezeGroupRequest, effects?: Effects<api.Group>): Promise<api.Group> {
    const { source } = this.#copies;
    const made = await freezeGroup(source, request, (group) => effects?.(this.view(group)) ?? []);
    return this.view(made);
  }

  get(ref: string): api.Group {
    return this.view(this.#copies.source.groups.get(ref));
  }

  list(): readonly api.Group[] {
    return this.#copies.source.groups.list().map((group) => this.view(group));
  }

  async delete(ref: string, options: ForceOption): Promise<void> {
    await this.#copies.source.groups.delete(ref, options);
  }

  /** The interface's object for a group of the engine, as it is now. */
  view(group: GroupRecord): api.Group {
    return { ...group, members: group.members.map((member) => this.#member(member)) };
  }

  #member(member: GroupMember): api.GroupMember {
    const { groups, options } = this.#copies.source;
    const copy = groups.copyOf(member);
    return {
      ...member,
      copyName: copy?.name ?? member.copyName,
      disk: options.disks.find(member.diskId)?.name ?? null,
      copy: copy === undefined ? null : this.#copies.view(copy),
    };
  }
}
