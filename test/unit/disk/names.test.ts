import { describe, expect, it } from 'vitest';
import { checkName, Names } from '../../../src/disk/names.ts';

describe('a name', () => {
  it('has 1 to 63 of a few characters, and is no UUID', () => {
    for (const name of ['a', '0', 'a-b.c_d', 'x'.repeat(63)]) {
      checkName(name);
    }
    const uuid = '01890a5d-ac96-774b-bcce-b302099a8057';
    for (const name of ['', 'A', '-a', '.a', 'a b', 'a/b', 'ä', 'x'.repeat(64), uuid, 'a\n']) {
      expect(() => {
        checkName(name);
      }).toThrow('1 to 63');
    }
  });
});

describe('names', () => {
  it('belong to one owner, who is named', () => {
    const names = new Names();
    names.take('a', '1');
    expect(names.ownerOf('a')).toBe('1');
    expect(() => {
      names.take('a', '2');
    }).toThrow(expect.objectContaining({ code: 'NAME_TAKEN', details: { name: 'a', id: '1' } }));
    names.release('a');
    names.take('a', '2');
    expect(names.ownerOf('a')).toBe('2');
  });

  it('change at once or not at all', () => {
    const names = new Names();
    names.take('a', '1');
    names.take('b', '2');
    names.rename('a', 'a', '1');
    expect(() => {
      names.rename('a', 'b', '1');
    }).toThrow('taken');
    expect(names.ownerOf('a')).toBe('1');
    names.rename('a', 'c', '1');
    expect([names.ownerOf('a'), names.ownerOf('c')]).toEqual([undefined, '1']);
  });
});
