/**
 * The label that a cartridge gets as the next one of its set. Pure.
 */
import type { Clock } from '../base/clock.ts';
import { uuidv7 } from '../base/clock.ts';
import { StorageError } from '../base/errors.ts';
import type { CatalogState } from '../tape/catalog-state.ts';
import { isTapeName } from '../tape/fields.ts';
import type { VolumeLabel } from '../tape/label.ts';
import { DEFAULT_RECORD_BYTES } from '../tape/record.ts';

export interface NewLabel {
  /** Default SET-NUMBER. */
  readonly label?: string;
  readonly expiresAtMs?: number;
  readonly recordBytes?: number;
  /** The label that is on it now, or `foreign`. */
  readonly force?: string;
}

/**
 * @param old volumeId of what is on the cartridge now, which goes
 * @throws VALIDATION_FAILED: it has expired; NAME_INVALID; NAME_TAKEN: another cartridge has this
 *   label
 */
export function nextLabel(
  state: CatalogState,
  request: NewLabel,
  old: string | undefined,
  { set, clock }: { readonly set: string; readonly clock: Clock },
): VolumeLabel {
  const volumes = state.volumes.map(({ label }) => label);
  const others = volumes.filter((each) => each.set === set && each.volumeId !== old);
  const last = others.at(-1);
  const number = (last?.number ?? 0) + 1;
  const label = request.label ?? `${set}-${number}`;
  const { expiresAtMs = null } = request;
  if (expiresAtMs !== null && expiresAtMs <= clock.nowMs()) {
    const message = 'a label that has expired would protect nothing';
    throw new StorageError('VALIDATION_FAILED', message, { field: 'expiresAt' });
  }
  if (!isTapeName(label)) {
    const message = 'a label matches [a-z0-9][a-z0-9._-]{0,62}';
    throw new StorageError('NAME_INVALID', message, { field: 'label' });
  }
  if (volumes.some((each) => each.label === label && each.volumeId !== old)) {
    throw new StorageError('NAME_TAKEN', `there is a cartridge ${label}`, { name: label });
  }
  return {
    volumeId: uuidv7(clock),
    label,
    set,
    setId: last?.setId ?? uuidv7(clock),
    number,
    previousVolumeId: last?.volumeId ?? null,
    recordBytes: request.recordBytes ?? DEFAULT_RECORD_BYTES,
    labelledAtMs: clock.nowMs(),
    expiresAtMs,
  };
}
