/**
 * Sizes as people write them: `10GiB`, `512 KiB`, `1TB`, `4096`.
 *
 * Units are those of IEC 80000-13: KiB, MiB, GiB, TiB, PiB count in 1024, kB, MB, GB, TB, PB in
 * 1000, B or nothing is bytes. Case does not matter. A decimal fraction is taken if whole bytes
 * result.
 */
const powers: Readonly<Record<string, number>> = { k: 1, m: 2, g: 3, t: 4, p: 5 };

const SIZE = /^(\d{1,40})(?:\.(\d{1,9}))?\s*(?:([kmgtp])(i?)b?|b)?$/i;

/** Bytes, 0 … 2^53 - 1, or undefined if the text is no such size. */
export function parseSize(text: string): number | undefined {
  const bytes = Number(wholeBytes(text));
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/** What is wrong with a text that `parseSize` does not take. */
export function whyNoSize(text: string): string {
  if (wholeBytes(text) === undefined) return 'not a size, such as 10GiB';
  return `too large: at most ${Number.MAX_SAFE_INTEGER} bytes`;
}

function wholeBytes(text: string): bigint | undefined {
  const found = SIZE.exec(text.trim());
  if (found === null) return undefined;
  const [, whole = '', fraction = '', prefix, binary] = found;
  const power = prefix === undefined ? 0 : (powers[prefix.toLowerCase()] ?? 0);
  const unit = (binary === undefined || binary === '' ? 1000n : 1024n) ** BigInt(power);
  const scaled = BigInt(whole + fraction) * unit;
  const divisor = 10n ** BigInt(fraction.length);
  return scaled % divisor === 0n ? scaled / divisor : undefined;
}
