/** Retention in requests and answers. */
import { Type } from 'typebox';
import { asked, listOf, oneOfThese, reference, refTo, shown, text } from './fields.ts';

const keep = (what: string) =>
  Type.Optional(
    Type.Integer({ description: `${what} Default 0.`, minimum: 0, maximum: 1_000_000 }),
  );

/** How many backups stay; at least one rule is above 0. */
export const policyFields = {
  keepLast: keep('So many of the newest backups.'),
  keepHourly: keep('The newest backup of each of so many hours.'),
  keepDaily: keep('The newest backup of each of so many days.'),
  keepWeekly: keep('The newest backup of each of so many weeks, which begin on Monday.'),
  keepMonthly: keep('The newest backup of each of so many months.'),
  keepYearly: keep('The newest backup of each of so many years.'),
} as const;

export const timeZone = text('Time zone of the IANA data base, such as `Europe/Berlin`.', {
  minLength: 1,
  maxLength: 64,
});

export const ApplyRetentionSchema = asked(
  'ApplyRetention',
  'Which backups stay, for each disk and target by itself. At least one rule is above 0.',
  {
    target: Type.Optional(reference('Only backups on this target')),
    disk: Type.Optional(reference('Only backups of this disk, also one that is gone')),
    label: Type.Optional(
      text('Only backups with this label, `key=value` or `key`.', { minLength: 1, maxLength: 320 }),
    ),
    timeZone: Type.Optional(timeZone),
    ...policyFields,
  },
);

const RetentionDecisionSchema = shown('RetentionDecision', 'What becomes of one backup.', {
  backup: text('Name of the backup.'),
  backupId: text('Id of the backup.'),
  diskName: text('Name of its disk at the freeze.'),
  diskId: text('Id of its disk.'),
  target: text('Name of its target.'),
  targetId: text('Id of its target.'),
  action: oneOfThese(['keep', 'delete'], 'What is done.'),
  reason: text('Why, for a person.'),
});

export const RetentionDecisionsSchema = shown(
  'RetentionDecisions',
  'What retention would do with each backup that was asked for.',
  { decisions: listOf(refTo(RetentionDecisionSchema), 'The newest of each disk first.') },
);

export const retentionSchemas = [
  ApplyRetentionSchema,
  RetentionDecisionSchema,
  RetentionDecisionsSchema,
];
