/**
 * Long answers: lists page by page, tables page by page or as a stream of lines.
 *
 * A page token holds where the next page begins (an id, or a position in a table), never a count of
 * what was skipped: what comes or goes meanwhile shifts nothing.
 */
import { StorageError } from '../base/errors.ts';

export const DEFAULT_PAGE_SIZE = 1000;
export const MAX_PAGE_SIZE = 10_000;

export interface Page<T> {
  readonly items: T[];
  readonly nextPageToken: string | null;
}

export interface PageQuery {
  readonly pageSize?: number;
  readonly pageToken?: string;
}

function encodeToken(kind: string, position: string): string {
  return Buffer.from(`${kind}:${position}`).toString('base64url');
}

/** @throws VALIDATION_FAILED if this list did not give the token */
function decodeToken(kind: string, token: string): string {
  const text = Buffer.from(token, 'base64url').toString();
  if (text.startsWith(`${kind}:`)) return text.slice(kind.length + 1);
  throw new StorageError('VALIDATION_FAILED', 'pageToken is not one of this list', {
    field: 'pageToken',
  });
}

/** One page of what is in memory, in the order of the ids (UUIDv7: oldest first) or against it. */
export function pageOf<T extends { readonly id: string }, View>(
  kind: string,
  all: readonly T[],
  query: PageQuery,
  options: { readonly newestFirst?: boolean; view(item: T): View },
): Page<View> {
  const sign = options.newestFirst === true ? -1 : 1;
  const order = (a: string, b: string): number => (a < b ? -sign : a > b ? sign : 0);
  const after = query.pageToken === undefined ? undefined : decodeToken(kind, query.pageToken);
  const rest = all.filter(({ id }) => after === undefined || order(id, after) > 0);
  rest.sort((a, b) => order(a.id, b.id));
  const size = query.pageSize ?? DEFAULT_PAGE_SIZE;
  const page = rest.slice(0, size);
  const last = rest.length > size ? page.at(-1) : undefined;
  return {
    items: page.map((item) => options.view(item)),
    nextPageToken: last === undefined ? null : encodeToken(kind, last.id),
  };
}

/** A table in ascending order of a position, read from any position on. */
export interface Table<Item> {
  readonly kind: string;
  read(from: number, maxItems: number): Promise<{ items: Item[]; next?: number }>;
}

export async function pageOfTable<Item>(
  table: Table<Item>,
  query: PageQuery,
  start: number,
): Promise<Page<Item>> {
  const token = query.pageToken;
  const from = token === undefined ? start : positionOf(table.kind, token);
  const { items, next } = await table.read(from, query.pageSize ?? DEFAULT_PAGE_SIZE);
  return { items, nextPageToken: next === undefined ? null : encodeToken(table.kind, `${next}`) };
}

/** Where a page begins. @throws VALIDATION_FAILED */
export function positionOf(kind: string, token: string): number {
  const position = decodeToken(kind, token);
  if (/^\d{1,16}$/.test(position)) return Number(position);
  throw new StorageError('VALIDATION_FAILED', 'pageToken is not one of this list', {
    field: 'pageToken',
  });
}

/** All items as lines of JSON, then `{"end":true}`: without it the answer is incomplete. */
export async function* linesOfTable<Item>(
  table: Table<Item>,
  start: number,
): AsyncGenerator<string, void, undefined> {
  let from: number | undefined = start;
  while (from !== undefined) {
    const { items, next }: { items: Item[]; next?: number } = await table.read(
      from,
      DEFAULT_PAGE_SIZE,
    );
    if (items.length > 0) yield items.map((item) => `${JSON.stringify(item)}\n`).join('');
    from = next;
  }
  yield '{"end":true}\n';
}
