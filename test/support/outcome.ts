/**
 * What became of an operation that may be refused.
 */
import { type ErrorCode, isStorageError } from '../../src/base/errors.ts';

/** Its value, or the code of a refusal that is among the allowed ones; all else is thrown. */
export async function outcomeOf<T>(
  done: Promise<T>,
  allowed: readonly ErrorCode[],
): Promise<{ value?: T; code?: ErrorCode }> {
  try {
    return { value: await done };
  } catch (error) {
    if (!isStorageError(error) || !allowed.includes(error.code)) throw error;
    return { code: error.code };
  }
}
