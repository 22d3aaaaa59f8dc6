import { describe, expect, it } from 'vitest';
import { alignedBuffer } from '../../../src/base/aligned-memory.ts';
import type { VolumeLabel } from '../../../src/tape/label.ts';
import { labelRefusal, labelVolume } from '../../../src/tape/label-volume.ts';
import { volumeName } from '../../../src/tape/media.ts';
import { encodeRecord, labelHead } from '../../../src/tape/record.ts';
import type { FoundLabel } from '../../../src/tape/volume.ts';
import { mountVolume, releaseVolume, unlockDrive } from '../../../src/tape/volume.ts';
import { patterned, TapeWorld } from '../../support/tape-world.ts';

const KIB = 1024;

const codeOf = (work: Promise<unknown>) =>
  work.then(
    () => 'no error',
    (error: unknown) => (error as { code: string }).code,
  );

/** A library with one blank cartridge in its drive. */
async function blankWorld(): Promise<TapeWorld> {
  const world = await TapeWorld.make();
  await world.library.addCartridge('B', 1024 * KIB);
  await world.library.load('B');
  return world;
}

/** Puts records on the cartridge in the drive, as another program would. */
async function writeRaw(world: TapeWorld, records: readonly Buffer[]): Promise<void> {
  const drive = await world.device.open('write');
  for (const record of records) {
    const buffer = alignedBuffer(record.length);
    record.copy(buffer);
    await drive.write(buffer);
  }
  await drive.close();
}

const labelId = '0193e4c4-9999-7c3a-9f6e-2b1a4c5d6e7f';

function labelOf(change: Partial<VolumeLabel> = {}): VolumeLabel {
  return {
    volumeId: labelId,
    label: 'weekly-1',
    set: 'weekly',
    setId: '0193e4c0-2222-7222-8333-444455556666',
    number: 1,
    previousVolumeId: null,
    recordBytes: 64 * KIB,
    labelledAtMs: 1_700_000_000_000,
    expiresAtMs: null,
    ...change,
  };
}

describe('mounting', () => {
  it('proves the label, and refuses all others with what to do', async () => {
    const world = await TapeWorld.make();
    const first = await world.addVolume();
    const second = await world.addVolume();
    const volume = await mountVolume(world.device, 'read', volumeName(second.label));
    expect(volume.label).toEqual(second.label);
    expect(await codeOf(mountVolume(world.device, 'read'))).toBe('TARGET_UNAVAILABLE');
    await releaseVolume(volume);
    await expect(mountVolume(world.device, 'write', volumeName(first.label))).rejects.toMatchObject(
      {
        code: 'MEDIUM_WRONG',
        details: {
          found: volumeName(second.label),
          needed: volumeName(first.label),
          next: 'load cartridge nightly-1',
        },
      },
    );
  });

  it('tells a cartridge that was labelled anew from the one it was', async () => {
    const world = await TapeWorld.make();
    const { label } = await world.addVolume();
    const anew = { ...label, volumeId: labelOf().volumeId };
    await labelVolume(world.device, { label: anew, nowMs: 0, force: label.label });
    await expect(mountVolume(world.device, 'read', volumeName(label))).rejects.toMatchObject({
      code: 'MEDIUM_WRONG',
      message: expect.stringContaining('labelled anew'),
    });
  });

  it('without a cartridge, or with a protected one, changes nothing', async () => {
    const world = await TapeWorld.make();
    expect(await codeOf(mountVolume(world.device, 'read'))).toBe('MEDIUM_ABSENT');
    const { cartridge } = await world.addVolume();
    await world.library.change(cartridge, { writeProtected: true });
    expect(await codeOf(mountVolume(world.device, 'write'))).toBe('MEDIUM_READ_ONLY');
    await releaseVolume(await mountVolume(world.device, 'read'));
  });

  it('leaves the door unlocked and the drive free, also when it refuses', async () => {
    const world = await blankWorld();
    expect(await codeOf(mountVolume(world.device, 'write'))).toBe('MEDIUM_BLANK');
    await world.library.unload();
    expect(await codeOf(mountVolume(world.device, 'write'))).toBe('MEDIUM_ABSENT');
  });

  it('is possible again after a kill, which leaves the door locked', async () => {
    const world = await TapeWorld.make();
    const writer = world.writer(world.backup('monday'));
    await writer.write([patterned(70_000)]);
    await world.kill(writer);
    expect(await codeOf(world.library.unload())).toBe('TARGET_IN_USE');
    await unlockDrive(world.device);
    await world.library.unload();
    await unlockDrive(world.device);
  });

  it.each<[string, Buffer[], string]>([
    ['a tar archive', [Buffer.alloc(10_240, 'x')], 'MEDIUM_FOREIGN'],
    ['a 64 KiB record of another program', [Buffer.alloc(65_536, 'x')], 'MEDIUM_FOREIGN'],
    ['a record longer than the buffer', [Buffer.alloc(2 * 1024 * KIB)], 'MEDIUM_FOREIGN'],
    ['a short record', [Buffer.alloc(1)], 'MEDIUM_FOREIGN'],
  ])('refuses %s', async (_, records, code) => {
    const world = await TapeWorld.make({ sizeBytes: 4096 * KIB });
    await world.library.addCartridge('B', 4096 * KIB);
    await world.library.load('B');
    await writeRaw(world, records);
    expect(await codeOf(mountVolume(world.device, 'read'))).toBe(code);
    expect(await codeOf(labelVolume(world.device, { label: labelOf(), nowMs: 0 }))).toBe(code);
  });

  it('does not take a label that cannot be read for a blank cartridge', async () => {
    const world = await TapeWorld.make();
    const { cartridge } = await world.addVolume();
    await world.library.damage(cartridge, 0);
    expect(await codeOf(mountVolume(world.device, 'read'))).toBe('MEDIUM_FOREIGN');
    const label = labelOf();
    expect(await codeOf(labelVolume(world.device, { label, nowMs: 0 }))).toBe('MEDIUM_FOREIGN');
    await labelVolume(world.device, { label, nowMs: 0, force: 'foreign' });
    await releaseVolume(await mountVolume(world.device, 'read', volumeName(label)));
  });

  it('refuses a label of a newer format', async () => {
    const world = await blankWorld();
    const bytes = Buffer.alloc(65_536);
    bytes.write('{}', 128);
    encodeRecord(bytes, labelHead(labelOf().volumeId, 2));
    bytes.writeUInt32LE(2, 8);
    const { crc32 } = await import('node:zlib');
    const head = Buffer.concat([Buffer.from('spindle tape record'), bytes.subarray(0, 124)]);
    bytes.writeUInt32LE(crc32(Buffer.concat([head, bytes.subarray(128)])), 124);
    await writeRaw(world, [bytes]);
    expect(await codeOf(mountVolume(world.device, 'read'))).toBe('MEDIUM_UNSUPPORTED');
    const request = { label: labelOf(), nowMs: 0 };
    expect(await codeOf(labelVolume(world.device, request))).toBe('MEDIUM_UNSUPPORTED');
  });
});

describe('labelling', () => {
  it('makes a blank cartridge one of ours', async () => {
    const world = await blankWorld();
    const label = labelOf();
    expect(await labelVolume(world.device, { label, nowMs: 0 })).toEqual({ kind: 'blank' });
    const volume = await mountVolume(world.device, 'read', volumeName(label));
    expect(volume.label).toEqual(label);
    await releaseVolume(volume);
    expect(await world.library.objects('B')).toEqual([65_536, -1]);
  });

  const found = (change: Partial<VolumeLabel>): FoundLabel => ({
    kind: 'label',
    label: labelOf(change),
  });

  it.each<[string, FoundLabel, object, string | undefined]>([
    ['blank', { kind: 'blank' }, {}, undefined],
    ['without expiry', found({}), {}, 'MEDIUM_UNEXPIRED'],
    ['not expired yet', found({ expiresAtMs: 1001 }), {}, 'MEDIUM_UNEXPIRED'],
    ['just expired', found({ expiresAtMs: 1000 }), {}, undefined],
    ['expired, but in use', found({ expiresAtMs: 1 }), { inUse: [labelId] }, 'MEDIUM_UNEXPIRED'],
    ['given free', found({}), { released: [labelId] }, undefined],
    ['of which another was given free', found({}), { released: ['x'] }, 'MEDIUM_UNEXPIRED'],
    ['whose label was typed', found({}), { force: 'weekly-1' }, undefined],
    ['whose label was mistyped', found({}), { force: 'weekly-2' }, 'MEDIUM_UNEXPIRED'],
    ['expired, mistyped', found({ expiresAtMs: 1 }), { force: 'weekly-2' }, 'MEDIUM_WRONG'],
    ['free, mistyped', found({}), { released: [labelId], force: 'x' }, 'MEDIUM_WRONG'],
    ['of ours, called foreign', found({}), { force: 'foreign' }, 'MEDIUM_UNEXPIRED'],
    ['of others', { kind: 'foreign', message: '' }, {}, 'MEDIUM_FOREIGN'],
    ['of others, forced', { kind: 'foreign', message: '' }, { force: 'foreign' }, undefined],
    ['of others, mistyped', { kind: 'foreign', message: '' }, { force: '' }, 'MEDIUM_FOREIGN'],
    ['newer', { kind: 'newer', message: '' }, {}, 'MEDIUM_UNSUPPORTED'],
    ['newer, forced', { kind: 'newer', message: '' }, { force: 'foreign' }, undefined],
  ])('of a cartridge that is %s', (_, was, request, code) => {
    const { label } = found({}) as { label: VolumeLabel };
    expect(labelRefusal(was, { label, nowMs: 1000, ...request })?.code).toBe(code);
  });

  it('forgets all that was on the cartridge', async () => {
    const world = await TapeWorld.make();
    await world.write(world.backup('monday'), patterned(200_000));
    const label = labelOf();
    const request = { label, nowMs: 0, force: 'nightly-1' };
    expect(await labelVolume(world.device, request)).toMatchObject({
      kind: 'label',
      label: { label: 'nightly-1' },
    });
    expect(await world.library.objects('T001')).toEqual([65_536, -1]);
  });

  it('of a cartridge that is written once only is refused, and changes nothing', async () => {
    const world = await TapeWorld.make();
    const { cartridge, label } = await world.addVolume();
    await world.library.change(cartridge, { worm: true });
    const request = { label: labelOf(), nowMs: 0, force: label.label };
    expect(await codeOf(labelVolume(world.device, request))).toBe('MEDIUM_READ_ONLY');
    await releaseVolume(await mountVolume(world.device, 'read', volumeName(label)));
  });

  it.each(['write', 'filemarks'] as const)('that fails (%s) says so', async (operation) => {
    const world = await blankWorld();
    world.library.injectFault({ operation, after: 0, count: 1 });
    const request = { label: labelOf(), nowMs: 0 };
    expect(await codeOf(labelVolume(world.device, request))).toBe('TARGET_UNAVAILABLE');
    await labelVolume(world.device, { ...request, force: 'weekly-1' });
    await releaseVolume(await mountVolume(world.device, 'write', volumeName(labelOf())));
  });
});
