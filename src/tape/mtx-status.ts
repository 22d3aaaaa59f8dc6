/**
 * What `mtx status` prints, as an inventory. Pure.
 *
 * Barcodes are printed as the changer sent them, whatever bytes they have: one with a line break
 * could pass for slots. So every line has to be one of the known ones, and drives and slots have to
 * come in order and be as many as the first line says; else nothing of it is believed.
 */
import { asBarcode, ChangerError, withDistinctBarcodes } from './changer.ts';
import type { ChangerDrive, ChangerInventory, ChangerSlot } from './changer.ts';

const HEADER =
  /^ {2}Storage Changer .+:(\d{1,5}) Drives, (\d{1,5}) Slots \( (\d{1,5}) Import\/Export \)$/;
const DRIVE = /^Data Transfer Element (\d{1,5}):(Empty|Full)( \([^)]*\))?(.*)$/s;
const SOURCE = /^ \(Storage Element (\d{1,5}) Loaded\)$/;
const UNKNOWN_SOURCE = ' (Unknown Storage Element Loaded)';
const SLOT = /^ {6}Storage Element (\d{1,5})( IMPORT\/EXPORT)?:(Empty|Full) ?(.*)$/s;
const TAG = /^:VolumeTag ?= ?(.*?)(?::AlternateVolumeTag ?= ?.*)?$/s;
const ALTERNATE_TAG = /^:AlternateVolumeTag ?= ?.*$/s;

/**
 * @param text read as Latin-1, so that every byte is a letter
 * @throws ChangerError `garbled`
 */
export function parseMtxStatus(text: string): ChangerInventory {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  const header = HEADER.exec(lines[0] ?? '');
  if (header === null) throw garbled(lines[0] ?? '', 'it does not begin as a status');
  const [drives = 0, slots = 0, doors = 0] = header.slice(1).map(Number);
  if (lines.length !== 1 + drives + slots) {
    throw garbled(lines.at(-1) ?? '', `${lines.length} lines for ${drives} drives, ${slots} slots`);
  }
  const inventory = {
    drives: lines.slice(1, 1 + drives).map(parseDrive),
    slots: lines.slice(1 + drives).map(parseSlot),
  };
  const marked = inventory.slots.filter(({ isImportExport }) => isImportExport);
  if (marked.length !== doors) {
    throw garbled(lines[0] ?? '', `${marked.length} slots are import/export, not ${doors}`);
  }
  return withDistinctBarcodes(inventory);
}

function parseDrive(line: string, index: number): ChangerDrive {
  const found = DRIVE.exec(line);
  if (found === null) throw garbled(line, 'it is no drive');
  const [, number = '', state = '', from = '', tag = ''] = found;
  if (Number(number) !== index) throw garbled(line, `drive ${index} was expected`);
  const isFull = state === 'Full';
  const source = SOURCE.exec(from)?.[1];
  const isKnown = source !== undefined || from === UNKNOWN_SOURCE || from === '';
  if (!isKnown || (!isFull && from !== '')) throw garbled(line, 'its source makes no sense');
  const sourceSlot = source === undefined ? null : Number(source);
  return { drive: index, isFull, sourceSlot, barcode: barcodeOf(line, isFull, tag) };
}

function parseSlot(line: string, index: number): ChangerSlot {
  const found = SLOT.exec(line);
  if (found === null) throw garbled(line, 'it is no slot');
  const [, number = '', door = '', state = '', tag = ''] = found;
  if (Number(number) !== index + 1) throw garbled(line, `slot ${index + 1} was expected`);
  const isFull = state === 'Full';
  const barcode = barcodeOf(line, isFull, tag);
  return { slot: index + 1, isImportExport: door !== '', isFull, barcode };
}

/** Some changers remember the barcode of what was in an empty place: that says nothing. */
function barcodeOf(line: string, isFull: boolean, tag: string): string | null {
  const read = TAG.exec(tag)?.[1];
  if (read === undefined && tag !== '' && !ALTERNATE_TAG.test(tag)) {
    throw garbled(line, 'there is something behind it');
  }
  return isFull && read !== undefined ? asBarcode(read) : null;
}

function garbled(line: string, why: string): ChangerError {
  const message = `what mtx says makes no sense: ${why}: ${printable(line)}`;
  return new ChangerError('garbled', message);
}

/** For messages: at most 200 letters, those that are no printable ASCII as \xNN. */
export function printable(text: string): string {
  return text
    .trim()
    .slice(0, 200)
    .replaceAll(/[^ -~]/g, (letter) => {
      return `\\x${letter.charCodeAt(0).toString(16).padStart(2, '0')}`;
    });
}
