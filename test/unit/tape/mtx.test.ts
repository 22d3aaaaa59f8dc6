/**
 * `mtx`: what its status means, and how it is started.
 */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { isChangerError } from '../../../src/tape/changer.ts';
import type { ChangerError } from '../../../src/tape/changer.ts';
import { MtxChanger } from '../../../src/tape/mtx-changer.ts';
import type { MtxOptions } from '../../../src/tape/mtx-changer.ts';
import { parseMtxStatus, printable } from '../../../src/tape/mtx-status.ts';
import { codeOf } from '../../contract/changer.ts';
import { temporaryDirectory } from '../../support/temporary.ts';

const vectors = join(import.meta.dirname, '..', '..', 'vectors', 'mtx');

const text = (...lines: string[]) => lines.map((line) => `${line}\n`).join('');
const head = (drives: number, slots: number, doors = 0) =>
  `  Storage Changer /dev/sg1:${drives} Drives, ${slots} Slots ( ${doors} Import/Export )`;
const emptyDrive = 'Data Transfer Element 0:Empty';

function garbledBy(status: string): string {
  try {
    parseMtxStatus(status);
  } catch (error) {
    if (isChangerError(error, 'garbled')) return error.message;
    throw error;
  }
  throw new Error(`believed: ${status}`);
}

describe('mtx status', () => {
  it.each(['one-drive', 'two-drives', 'autoloader', 'no-barcodes', 'emulated'])(
    'of changer %s is understood',
    async (name) => {
      const said = await readFile(join(vectors, `${name}.txt`), 'latin1');
      const expected = JSON.parse(await readFile(join(vectors, `${name}.json`), 'utf8')) as unknown;
      expect(parseMtxStatus(said)).toEqual(expected);
    },
  );

  it('has no barcode where it is no barcode', () => {
    const slot = (tag: string) => `      Storage Element 1:Full :VolumeTag=${tag}`;
    for (const tag of ['\u001b[2J', 'A\u0000B', '\u00ff\u00fe', '$(reboot)', '']) {
      const { slots } = parseMtxStatus(text(head(1, 1), emptyDrive, slot(tag)));
      expect(slots).toEqual([{ slot: 1, isFull: true, isImportExport: false, barcode: null }]);
    }
  });

  it('of an empty place has no barcode, whatever the changer remembers', () => {
    const slot = '      Storage Element 1:Empty:VolumeTag=OLD001';
    expect(parseMtxStatus(text(head(1, 1), emptyDrive, slot)).slots[0]).toMatchObject({
      isFull: false,
      barcode: null,
    });
  });

  it('is not believed in part: a barcode may hold a line that looks like a slot', () => {
    const first = '      Storage Element 1:Full :VolumeTag=A1';
    const second = '      Storage Element 2:Empty';
    const good = [head(1, 2), emptyDrive, first, second];
    expect(parseMtxStatus(text(...good)).slots).toHaveLength(2);
    const faked = text(head(1, 2), emptyDrive, `${first}\n${second}`, second);
    expect(garbledBy(faked)).toContain('5 lines for 1 drives, 2 slots');
    for (const wrong of [
      '',
      'mtx: no such device\n',
      text(...good).slice(0, 60),
      text(head(1, 2), emptyDrive, first),
      text(head(2, 2), emptyDrive, first, second),
      text(head(1, 2), emptyDrive, second, first),
      text(head(1, 2), first, emptyDrive, second),
      text(head(1, 2, 1), emptyDrive, first, second),
      text(head(1, 1), 'Data Transfer Element 0:Full (Loaded)', first),
      text(head(1, 1), 'Data Transfer Element 0:Empty (Storage Element 1 Loaded)', first),
      text(head(1, 1), 'Data Transfer Element 1:Empty', first),
      text(head(1, 1), emptyDrive, '      Storage Element 1:Full and more'),
      text(head(1, 1), emptyDrive, '      Storage Element 1:Half'),
      text(head(1, 1), emptyDrive, '      Storage Element 1 IMPORT:Empty'),
    ]) {
      garbledBy(wrong);
    }
  });

  it('is told in errors as printable letters', () => {
    expect(garbledBy('\u001b]0;owned\u0007\n')).toContain('\\x1b]0;owned\\x07');
    expect(printable('\u00e9\n'.repeat(1000))).toHaveLength(200 * 4);
  });
});

/** A program in the place of mtx: a script of the shell, in which `$status` prints a status. */
async function changerOf(script: string, options: MtxOptions = {}): Promise<MtxChanger> {
  const folder = await temporaryDirectory();
  const program = join(folder, 'mtx');
  const slots = ['1:Full :VolumeTag=A1', '2:Empty', '3:Empty'];
  const lines = [head(1, 3), emptyDrive, ...slots.map((slot) => `      Storage Element ${slot}`)];
  await writeFile(join(folder, 'status'), text(...lines));
  await writeFile(program, `#!/bin/sh\nstatus="cat ${folder}/status"\n${script}\n`);
  await chmod(program, 0o700);
  return new MtxChanger('/dev/sg1', { program, ...options });
}

async function errorOf(work: Promise<unknown>): Promise<ChangerError> {
  return work.then(
    () => {
      throw new Error('it went well');
    },
    (error: unknown) => {
      if (isChangerError(error)) return error;
      throw error;
    },
  );
}

describe('mtx', () => {
  it('is started with words and numbers, and nothing of our environment', async () => {
    const log = join(await temporaryDirectory(), 'log');
    process.env['SPINDLE_TEST_SECRET'] = 'secret';
    const changer = await changerOf(
      `echo "$*" >> ${log}; env | grep -c SECRET >> ${log}; [ "$3" = status ] && $status; exit 0`,
    );
    await changer.load(1, 0);
    await changer.transfer(1, 3);
    delete process.env['SPINDLE_TEST_SECRET'];
    expect((await readFile(log, 'utf8')).split('\n').filter((line) => line !== '0')).toEqual([
      '-f /dev/sg1 status',
      '-f /dev/sg1 load 1 0',
      '-f /dev/sg1 status',
      '-f /dev/sg1 transfer 1 3',
      '',
    ]);
  });

  it('is not even started for what cannot be done', async () => {
    const changer = await changerOf('[ "$3" = status ] || exit 9; $status');
    expect(await codeOf(changer.load(2, 0))).toBe('slot-empty');
    expect(await codeOf(changer.load(4, 0))).toBe('no-element');
    expect(await codeOf(changer.unload(0, 2))).toBe('drive-empty');
    expect(await codeOf(changer.transfer(1, 1))).toBe('slot-full');
  });

  it('that fails says why, in printable letters', async () => {
    const failing = (said: string, code = 1) =>
      changerOf(`[ "$3" = status ] && exec $status; printf '${said}' >&2; exit ${code}`);
    const jammed = await errorOf((await failing('MOVE MEDIUM \\033[1m failed\\n')).load(1, 0));
    expect(jammed.code).toBe('failed');
    expect(jammed.message).toBe('mtx load ended with 1: MOVE MEDIUM \\x1b[1m failed');
    const sense = 'mtx: Request Sense: Additional Sense Code = 04\\nMOVE MEDIUM failed\\n';
    expect((await errorOf((await failing(sense)).load(1, 0))).code).toBe('busy');
  });

  it('whose device is away, or that is not installed, cannot be reached', async () => {
    const said = "cannot open SCSI device '/dev/sg1' - No such file or directory";
    const away = await changerOf(`echo "${said}" >&2; exit 1`);
    expect(await codeOf(away.inventory())).toBe('unreachable');
    const program = join(await temporaryDirectory(), 'mtx');
    expect(await codeOf(new MtxChanger('/dev/sg1', { program }).inventory())).toBe('unreachable');
    await writeFile(program, 'no program');
    expect(await codeOf(new MtxChanger('/dev/sg1', { program }).inventory())).toBe('unreachable');
  });

  it('that does not end is given up', async () => {
    const changer = await changerOf('exec sleep 60', { statusMs: 50 });
    const error = await errorOf(changer.inventory());
    expect(error).toMatchObject({ code: 'failed', message: 'mtx status did not end within 0 s' });
  });
});
