import { describe, expect, it } from 'vitest';
import {
  beginLine,
  continueLine,
  isAncestor,
  LINEAGE_STEPS_MAX,
  lineageText,
  parseLineage,
  readLineage,
  shareHistory,
} from '../../../src/disk/lineage.ts';

const disk = beginLine(1);
const monday = continueLine(disk, 5);
const tuesday = continueLine(disk, 6);

describe('a lineage', () => {
  it('has the copies of a disk in the order of generations', () => {
    expect(isAncestor(monday, tuesday)).toBe(true);
    expect(isAncestor(tuesday, monday)).toBe(false);
    expect(isAncestor(monday, monday)).toBe(true);
  });

  it('of a disk that took a table has what came before that, and not what was left', () => {
    const reverted = continueLine(beginLine(9, monday), 12);
    expect(isAncestor(monday, reverted)).toBe(true);
    expect(isAncestor(tuesday, reverted)).toBe(false);
    expect(shareHistory(tuesday, reverted)).toBe(true);
    expect(isAncestor(disk, reverted)).toBe(true);
    expect(isAncestor(reverted, tuesday)).toBe(false);
  });

  it('of a disk that began empty has nobody', () => {
    const other = beginLine(7);
    expect(isAncestor(monday, other)).toBe(false);
    expect(shareHistory(monday, other)).toBe(false);
  });

  it('forgets the oldest beyond its bound, which are strangers then', () => {
    let lineage = beginLine(1);
    const steps = [lineage];
    for (let generation = 2; generation <= LINEAGE_STEPS_MAX + 1; generation += 1) {
      lineage = beginLine(generation, lineage);
      steps.push(lineage);
    }
    expect(lineage).toHaveLength(LINEAGE_STEPS_MAX);
    expect(isAncestor(steps[0]!, lineage)).toBe(false);
    expect(isAncestor(steps[1]!, lineage)).toBe(true);
  });

  it('does not begin before what it stands on, nor go back', () => {
    expect(() => beginLine(5, monday)).toThrow();
    expect(() => continueLine(monday, 4)).toThrow();
  });
});

describe('the text of a lineage', () => {
  it('is read as it was written', () => {
    const lineage = continueLine(beginLine(9, monday), 12);
    expect(readLineage(lineageText(lineage), 12)).toEqual(lineage);
  });

  it('of a row from before there were any is a line that begins now', () => {
    expect(readLineage(null, 8)).toEqual(beginLine(8));
  });

  it.each([
    '',
    '[]',
    '{}',
    'null',
    '[[1]]',
    '[[1,2,3]]',
    '[[0,2]]',
    '[[3,2]]',
    '[[1,5],[5,6]]',
    '[["1",2]]',
    '[[1,2.5]]',
    '[1,2]',
    JSON.stringify(Array.from({ length: LINEAGE_STEPS_MAX + 1 }, (_, at) => [at + 1, at + 1])),
  ])('%s is refused', (text) => {
    expect(parseLineage(text)).toBeUndefined();
    expect(() => readLineage(text, 5)).toThrow(
      expect.objectContaining({ code: 'METADATA_INVALID' }),
    );
  });

  it('of another generation is refused', () => {
    const read = () => readLineage(lineageText(monday), 6);
    expect(read).toThrow(expect.objectContaining({ code: 'METADATA_INVALID' }));
  });
});
