/**
 * Who decides what in a consortium: one rule for each kind of change, as data. Implements
 * protocols/consortium-charter, section "Rules". A rule has the semantics of a group in a C2SP tlog-policy file whose
 * names are the members or the founders: all or k of them, and also more than half of them.
 */
import { FormatError, InputError } from '../lib/errors.ts'
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

/** More than half of all members decide about everything. */
export const MAJORITY_RULES: Rules = sameRule({ threshold: 'majority', group: 'members' })

/** The rules of a charter of version 1, in which `threshold` founders decide about everything. */
export function founderRules(threshold: number): Rules {
  return sameRule({ threshold, group: 'founders' })
}

function sameRule(rule: Rule): Rules {
  return { admit: rule, revoke: rule, rotate: rule, rules: rule, renew: rule, withdraw: rule }
}

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

/**
 * Rules as somebody typed them: `admit=majority members, revoke=3 members`. Kinds that are not named keep their rule.
 * @throws InputError `usage`.
 */
export function parseRules(text: string, before: Rules): Rules {
  let rules = before
  for (const part of text.split(',')) {
    const [name = '', value = ''] = part.split('=').map((side) => side.trim())
    const kind = CHANGE_KINDS.find((one) => one === name)
    const rule = parseRule(value)
    if (kind === undefined || rule === undefined) {
      throw new InputError(
        'usage',
        `rules: expected parts such as "admit=majority members" with one of ${CHANGE_KINDS.join(', ')}, then "all", "majority" or a number from 2 on, and "members" or "founders"; got "${part.trim()}"`,
      )
    }
    rules = { ...rules, [kind]: rule }
  }
  return rules
}

/**
 * Why rules ask for more supporters than there are, for people; undefined if every rule can be met.
 * @param sizes number of active members of each group
 */
export function unreachableRule(
  rules: Rules,
  sizes: Readonly<Record<Rule['group'], number>>,
): string | undefined {
  for (const kind of CHANGE_KINDS) {
    const { threshold, group } = rules[kind]
    if (typeof threshold === 'number' && threshold > sizes[group])
      return `${kind}: expected at most ${sizes[group]} ${group}, got ${threshold}`
    if (sizes[group] === 0) return `${kind}: expected a group with members, got ${group}`
  }
  return undefined
}

/** Number of supporters that a rule asks for in a group of `size` members. A number above `size` means all of them. */
export function supportersNeeded({ threshold }: Rule, size: number): number {
  if (threshold === 'all') return size
  return threshold === 'majority' ? Math.floor(size / 2) + 1 : Math.min(threshold, size)
}
