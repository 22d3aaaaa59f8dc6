/**
 * The body of every error (RFC 9457), and what a dry run answers.
 */
import { Type } from 'typebox';
import { errorCodes } from '../../base/errors.ts';
import { bytes, flag, listOf, oneOfThese, refTo, shown, text } from './fields.ts';

export const ProblemSchema = Type.Object(
  {
    type: text('URI that names the kind of problem.'),
    title: text('The kind of problem, for a person.'),
    status: Type.Integer({ description: 'The HTTP status.', minimum: 400, maximum: 599 }),
    code: oneOfThese(errorCodes, 'Stable code for programs, explained in docs/errors.md.'),
    detail: text('What happened here, for a person.'),
    retryable: flag('The same request can succeed later unchanged.'),
    requestId: Type.Optional(text('Finds the request in the logs.')),
    field: Type.Optional(text('The offending field or parameter.')),
    writtenBytes: Type.Optional(
      bytes('Of a PUT of data: length of the prefix that is durable; the rest is untouched'),
    ),
  },
  {
    $id: 'Problem',
    description: 'An error. Further fields tell the offending range, the objects, the users.',
    additionalProperties: true,
  },
);

export const AffectedSchema = shown('Affected', 'What a deletion would take along or end.', {
  kind: text('`disk`, `copy`, `backup`, `job`, `http-write` …'),
  id: text('Its id.'),
  name: Type.Optional(text('Its name, if it has one.')),
});

export const WouldFreeSchema = Type.Object(
  {
    wouldFreeBytes: bytes('What would be free afterwards'),
    affects: listOf(refTo(AffectedSchema), 'What would go or be ended.'),
  },
  { $id: 'WouldFree', description: 'What a dry run found.' },
);
