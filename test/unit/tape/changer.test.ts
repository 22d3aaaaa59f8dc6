/**
 * Changers: the contract over a virtual library, faults, and what is decided about places.
 */
import { describe, expect, it } from 'vitest';
import {
  asBarcode,
  homeSlot,
  isCleaning,
  withDistinctBarcodes,
} from '../../../src/tape/changer.ts';
import { codeOf, describeChanger, placesOf } from '../../contract/changer.ts';
import { describeChangerUse } from '../../contract/changer-use.ts';
import { VirtualChangerHarness } from '../../support/virtual-changer.ts';

describeChanger('virtual', () => VirtualChangerHarness.make());
describeChangerUse('virtual', () => VirtualChangerHarness.make());

async function reset(): Promise<VirtualChangerHarness> {
  const harness = await VirtualChangerHarness.make();
  await harness.reset();
  return harness;
}

describe('the changer of a virtual library', () => {
  it('is busy or jammed when that is asked for, and has moved nothing then', async () => {
    const { changer } = await reset();
    changer.faults.push({ code: 'busy', operation: 'load', count: 1 });
    changer.faults.push({ code: 'failed', operation: 'transfer', count: 2 });
    changer.faults.push({ code: 'unreachable', operation: 'inventory', count: 1 });
    expect(await codeOf(changer.inventory())).toBe('unreachable');
    expect(await codeOf(changer.load(1, 0))).toBe('busy');
    expect(await codeOf(changer.transfer(1, 4))).toBe('failed');
    expect(await codeOf(changer.transfer(1, 4))).toBe('failed');
    expect(placesOf(await changer.inventory())).toEqual({ T001: 'slot 1', T002: 'slot 2' });
    await changer.load(1, 0);
    await changer.transfer(2, 4);
    expect(placesOf(await changer.inventory())).toEqual({ T001: 'drive 0', T002: 'slot 4' });
  });

  it('has a door behind its slots, and new cartridges do not go there', async () => {
    const { changer, library } = await reset();
    for (const name of ['T3', 'T4', 'T5', 'T6', 'T7']) await library.addCartridge(name);
    const { slots } = await changer.inventory();
    const doors = slots.filter(({ isImportExport }) => isImportExport);
    expect(doors.map(({ slot, isFull }) => [slot, isFull])).toEqual([
      [7, false],
      [8, false],
    ]);
    await changer.transfer(1, 8);
    expect(placesOf(await changer.inventory())).toMatchObject({ T001: 'slot 8' });
  });
});

describe('barcodes', () => {
  it('are what a sticker may say, without the blanks behind', () => {
    expect(asBarcode('E01001L8      ')).toBe('E01001L8');
    expect(asBarcode('A-1.$/+% Z')).toBe('A-1.$/+% Z');
    for (const wrong of [
      '',
      '   ',
      ' A',
      'A\u001b[31m',
      'A\tB',
      'Ä1',
      'A"B',
      '-f',
      'A'.repeat(33),
    ]) {
      expect(asBarcode(wrong), JSON.stringify(wrong)).toBeNull();
    }
  });

  it('of cleaning cartridges begin with CLN', () => {
    expect(['CLN001L1', 'cln1', 'CLEAN', null].map(isCleaning)).toEqual([true, true, false, false]);
  });

  it('that two cartridges have name neither', () => {
    const door = { isImportExport: false, isFull: true };
    const told = withDistinctBarcodes({
      drives: [{ drive: 0, isFull: true, barcode: 'A1', sourceSlot: 4 }],
      slots: [
        { slot: 1, barcode: 'A1', ...door },
        { slot: 2, barcode: 'A2', ...door },
        { slot: 3, barcode: 'CLN1', ...door },
        { slot: 5, barcode: 'CLN1', ...door },
      ],
    });
    expect(told.drives[0]?.barcode).toBeNull();
    expect(told.slots.map(({ barcode }) => barcode)).toEqual([null, 'A2', 'CLN1', 'CLN1']);
  });
});

describe('the slot to which a cartridge goes back', () => {
  const slot = (number: number, isFull: boolean, isImportExport = false) => ({
    slot: number,
    isFull,
    isImportExport,
    barcode: null,
  });
  const drive = (sourceSlot: number | null) => ({
    drives: [{ drive: 0, isFull: true, barcode: null, sourceSlot }],
  });

  it('is its own, else a free one that is no door', () => {
    const slots = [slot(1, true), slot(2, false), slot(3, false), slot(4, false, true)];
    expect(homeSlot({ ...drive(3), slots }, 0)).toBe(3);
    expect(homeSlot({ ...drive(1), slots }, 0)).toBe(2);
    expect(homeSlot({ ...drive(4), slots }, 0)).toBe(2);
    expect(homeSlot({ ...drive(null), slots }, 0)).toBe(2);
    expect(homeSlot({ ...drive(1), slots: [slot(1, true), slot(2, false, true)] }, 0)).toBe(
      undefined,
    );
  });
});
