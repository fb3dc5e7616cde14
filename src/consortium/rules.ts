/**
 * Who decides what in a consortium: one rule for each kind of change, as data. Implements
 * protocols/consortium-charter, section "Rules". A rule has the semantics of a group in a C2SP tlog-policy file whose
 * names are the members or the founders: all or k of them, and also more than half of them.
 */
import { FormatError } from '../lib/errors.ts'
import type { Fields } from '../lib/fields.ts'
import { limit } from '../lib/limits.ts'

/** The kinds of changes that a quorum decides about. */
export const CHANGE_KINDS = ['admit', 'revoke', 'rotate', 'rules', 'renew', 'withdraw'] as const
export type ChangeKind = (typeof CHANGE_KINDS)[number]

export interface Rule {
  /** Number of members of the group that must support a change. */
  readonly threshold: 'all' | 'majority' | number
  readonly group: 'members' | 'founders'
}

export type Rules = Readonly<Record<ChangeKind, Rule>>

/** `all members`, `majority members`, `2 founders`. The number 1 is left out: no single key decides. */
const RULE = /^(all|majority|[2-9]|[1-9][0-9]) (members|founders)$/
const MAX_RULE_CHARACTERS = 20

/** A rule as text: `majority members`. */
export function writeRule({ threshold, group }: Rule): string {
  return `${threshold} ${group}`
}

/** @returns undefined for a text that is no rule. */
function parseRule(text: string): Rule | undefined {
  const [, threshold = '', group = ''] = RULE.exec(text) ?? []
  if (group !== 'members' && group !== 'founders') return undefined
  if (threshold === 'all' || threshold === 'majority') return { threshold, group }
  const count = Number(threshold)
  return count <= limit('members') ? { threshold: count, group } : undefined
}

export function writeRules(rules: Rules): Record<ChangeKind, string> {
  return {
    admit: writeRule(rules.admit),
    revoke: writeRule(rules.revoke),
    rotate: writeRule(rules.rotate),
    rules: writeRule(rules.rules),
    renew: writeRule(rules.renew),
    withdraw: writeRule(rules.withdraw),
  }
}

/** @throws FormatError `bad-field` for a threshold of 0 or 1, or above the maximum number of members. */
export function readRules(fields: Fields, title: string): Rules {
  const read = (kind: ChangeKind): Rule => {
    const rule = parseRule(fields.text(kind, MAX_RULE_CHARACTERS))
    if (rule !== undefined) return rule
    throw new FormatError(
      'bad-field',
      `${title}.${kind}: expected "all", "majority" or a number from 2 to ${limit('members')}, a space, and "members" or "founders"`,
    )
  }
  const rules = {
    admit: read('admit'),
    revoke: read('revoke'),
    rotate: read('rotate'),
    rules: read('rules'),
    renew: read('renew'),
    withdraw: read('withdraw'),
  }
  fields.end()
  return rules
}
