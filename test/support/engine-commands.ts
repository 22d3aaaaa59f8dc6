/**
 * Random commands for an engine and its naive model (engine-world.ts).
 *
 * Commands name things by number, modulo what there is, so any part of a sequence is a sequence:
 * failures shrink well.
 */
import fc from 'fast-check';
import { KIB, MAX_CAPACITY_BYTES, roundDown } from '../../src/base/units.ts';

export const SIZE = 16 * KIB;

/** Where in a disk: near one of the places where trees and disks begin, end or grow. */
export interface Place {
  readonly anchor: 'start' | 'end' | 'leaf' | 'tree' | 'u32' | 'random';
  readonly shift: number;
}

export type Command =
  | { do: 'create'; pool: number; capacity: number; detectZeroes: boolean; reserve: number }
  | { do: 'write'; disk: number; place: Place; length: number; fill: number }
  | { do: 'discard'; disk: number; place: Place; length: number }
  | { do: 'resize'; disk: number; capacity: number; discard: boolean }
  | { do: 'freeze'; disk: number }
  | { do: 'remap'; copy: number }
  | { do: 'write back'; disk: number; copy: number; safety: boolean }
  | { do: 'fill'; disk: number; keep: boolean; end: 'safety' | 'finish' | 'revert'; fill: number }
  | { do: 'restore copy'; pool: number; fill: number }
  | { do: 'delete disk'; disk: number }
  | { do: 'delete copy'; copy: number }
  | { do: 'flush' | 'reopen' | 'settle' | 'check' }
  | { do: 'grow'; pool: number; blocks: number };

const index = fc.nat(7);
const place: fc.Arbitrary<Place> = fc.record({
  anchor: fc.constantFrom('start', 'start', 'end', 'leaf', 'tree', 'u32', 'random'),
  shift: fc.oneof(
    fc.integer({ min: -2 * SIZE, max: 4 * SIZE }),
    fc.integer({ min: -4, max: 8 }).map((sectors) => sectors * 512),
    fc.integer({ min: -2, max: 4 }).map((blocks) => blocks * SIZE),
  ),
});
const length = fc.oneof(
  fc.integer({ min: 0, max: 3 * SIZE }),
  fc.integer({ min: 0, max: 4 }).map((blocks) => blocks * SIZE),
  fc.integer({ min: 1, max: 8 }).map((sectors) => sectors * 512),
);
const capacity = fc.oneof(
  fc.integer({ min: 1, max: 256 }).map((sectors) => sectors * 512),
  fc.integer({ min: 1, max: 8 }).map((blocks) => blocks * SIZE),
  fc.integer({ min: 500, max: 530 }).map((blocks) => blocks * SIZE - 512),
  fc.constantFrom(2 ** 40, 2 ** 46 + 512, MAX_CAPACITY_BYTES),
);
const fill = fc.oneof({ weight: 4, arbitrary: fc.integer({ min: 1, max: 255 }) }, fc.constant(0));

export const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('create' as const),
      pool: index,
      capacity,
      detectZeroes: fc.boolean(),
      reserve: fc.constantFrom(0, 0, 0, SIZE, 3 * SIZE),
    }),
  },
  {
    weight: 14,
    arbitrary: fc.record({ do: fc.constant('write' as const), disk: index, place, length, fill }),
  },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constant('discard' as const),
      disk: index,
      place,
      length: fc.oneof(length, fc.constantFrom(2 ** 30, 2 ** 45, Infinity)),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('resize' as const),
      disk: index,
      capacity,
      discard: fc.boolean(),
    }),
  },
  { weight: 5, arbitrary: fc.record({ do: fc.constant('freeze' as const), disk: index }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('remap' as const), copy: index }) },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('write back' as const),
      disk: index,
      copy: index,
      safety: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      do: fc.constant('fill' as const),
      disk: index,
      keep: fc.boolean(),
      end: fc.constantFrom('safety', 'finish', 'revert'),
      fill,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ do: fc.constant('restore copy' as const), pool: index, fill }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('delete disk' as const), disk: index }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('delete copy' as const), copy: index }) },
  {
    weight: 5,
    arbitrary: fc.record({
      do: fc.constantFrom('flush', 'reopen', 'settle', 'check', 'check'),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('grow' as const),
      pool: index,
      blocks: fc.integer({ min: 1, max: 4 }),
    }),
  },
);

/** Bytes that tell where they belong, or zeros. */
export function pattern(fillByte: number, bytes: number): Buffer {
  const data = Buffer.alloc(bytes);
  if (fillByte === 0) return data;
  for (let at = 0; at < bytes; at += 1) data[at] = ((fillByte + at * 31 + (at >> 9)) % 255) + 1;
  return data;
}

/** Bytes of a disk that a command names. */
export function rangeOf(
  { capacityBytes }: { readonly capacityBytes: number },
  { anchor, shift }: Place,
  bytes: number,
): { offset: number; bytes: number } {
  const anchors = {
    start: 0,
    end: capacityBytes,
    leaf: 512 * SIZE,
    tree: 512 ** 2 * SIZE,
    u32: 2 ** 32 * SIZE,
    random: roundDown(capacityBytes * 0.618, 512),
  };
  const base = anchors[anchor] < capacityBytes ? anchors[anchor] : anchors[anchor] % capacityBytes;
  const offset = Math.min(
    capacityBytes,
    Math.max(0, (anchor === 'end' ? capacityBytes : base) + shift),
  );
  return { offset, bytes: Math.min(bytes, capacityBytes - offset) };
}
