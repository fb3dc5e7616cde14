/** The commands `keys` and `usage`: who may use the API of this node, and how much each key has used. */
import { ownCommand } from '../lib/command-line.ts'
import { apiKeyHash, createApiKey, readApiKeys, revokeApiKey } from '../store/api-keys.ts'
import { type Carried, type DayUsage, readApiUsage } from '../store/api-usage.ts'
import { nodeCommand } from './command.ts'
import { oneOf, option, optionalPositional, repeated, text, usage, whole } from './parameters.ts'
import { day, table } from './terminal.ts'

const DAY_SECONDS = 86_400
const MAX_DAYS = 3650
const MAX_TOKENS = 1e12
const MAX_EXPERTS = 64
/** Digits of the digest of a key that tell keys apart; the egress ledger shows the same. */
const SHOWN_DIGITS = 12
/** Days that `usage` shows by default. */
const SHOWN_DAYS = 7

interface KeyLine {
  readonly name: string
  /** Beginning of the digest of the key. */
  readonly digest: string
  readonly createdAt: number
  readonly expiresAt?: number
  readonly tokensPerDay?: number
  readonly experts?: readonly string[]
}

type KeysResult =
  | { readonly action: 'list'; readonly keys: readonly KeyLine[] }
  | { readonly action: 'create'; readonly name: string; readonly key: string }
  | { readonly action: 'revoke'; readonly name: string }

export const KEYS = nodeCommand({
  name: 'keys',
  usage:
    'keys [list] | keys create NAME [--days N] [--tokens-per-day N] [--expert NAME...] | keys revoke NAME',
  parameters: {
    action: optionalPositional(oneOf('list', 'create', 'revoke')),
    name: {
      ...optionalPositional(text(64)),
      read: ({ positionals: [, second] }) => second,
    },
    days: option(
      'days',
      'with create: days until the key expires (default: it does not)',
      whole(1, MAX_DAYS),
    ),
    tokensPerDay: option(
      'tokens-per-day',
      'with create: tokens of prompts and answers on one day in UTC (default: no quota)',
      whole(1, MAX_TOKENS),
    ),
    experts: repeated(
      'expert',
      'with create: an institution or expert that the key may use beside the public model (default: all)',
      200,
      MAX_EXPERTS,
    ),
  },
  async *run(
    node,
    { action = 'list', name, days, tokensPerDay, experts },
  ): AsyncGenerator<never, KeysResult, void> {
    const path = node.paths.apiKeys
    if (action === 'list') {
      const keys = await readApiKeys(path)
      return {
        action,
        keys: keys.map(({ hash, ...key }) => ({ ...key, digest: hash.slice(0, SHOWN_DIGITS) })),
      }
    }
    if (name === undefined)
      throw usage(`keys ${action}: name the key, as in ${ownCommand('keys', action, 'NAME')}`)
    if (action === 'revoke') {
      await revokeApiKey(path, name)
      return { action, name }
    }
    const now = node.now()
    const key = await createApiKey(path, now, {
      name,
      ...(days === undefined ? {} : { expiresAt: now + days * DAY_SECONDS }),
      ...(tokensPerDay === undefined ? {} : { tokensPerDay }),
      ...(experts === undefined ? {} : { experts }),
    })
    return { action, name, key }
  },
  words: (result) => {
    switch (result.action) {
      case 'create':
        return [
          result.key,
          `the key of ${result.name}, shown this once; digest ${apiKeyHash(result.key).slice(0, SHOWN_DIGITS)}`,
        ]
      case 'revoke':
        return [`the key of ${result.name} ends now`]
      case 'list':
        return result.keys.length === 0
          ? [`no keys but that of the home folder; ${ownCommand('keys', 'create', 'NAME')} makes one`]
          : table(result.keys.map(keyCells))
    }
  },
})

function keyCells({ name, digest, createdAt, expiresAt, tokensPerDay, experts }: KeyLine): string[] {
  return [
    name,
    digest,
    `since ${day(createdAt)}`,
    expiresAt === undefined ? 'does not expire' : `until ${day(expiresAt)}`,
    tokensPerDay === undefined ? 'no quota' : `${tokensPerDay} tokens a day`,
    experts === undefined ? 'all experts' : experts.join(', '),
  ]
}

export const USAGE = nodeCommand({
  name: 'usage',
  usage: 'usage [--days N]',
  parameters: {
    days: option('days', `number of days to show (default ${SHOWN_DAYS})`, whole(1, MAX_DAYS)),
  },
  async *run(node, { days = SHOWN_DAYS }): AsyncGenerator<never, { usage: readonly DayUsage[] }, void> {
    const first = day(node.now() - (days - 1) * DAY_SECONDS)
    const all = await readApiUsage(node.paths.apiUsage)
    return { usage: all.filter((entry) => entry.day >= first) }
  },
  words: ({ usage: entries }) =>
    entries.length === 0
      ? ['the API has answered nothing in this time']
      : [
          ...table(
            entries.map(({ day: date, key, requests, promptTokens, generatedTokens }) => [
              date,
              key,
              `${requests} requests`,
              `${promptTokens} prompt tokens`,
              `${generatedTokens} tokens answered`,
            ]),
          ),
          'tokens answered, by the institutions that carried them:',
          ...table(
            carriedTotals(entries).map(({ institution, tokens }) => [
              `  ${institution}`,
              String(Math.round(tokens)),
            ]),
          ),
        ],
})

/** The most first. */
function carriedTotals(entries: readonly DayUsage[]): Carried[] {
  const sums = new Map<string, number>()
  for (const { institution, tokens } of entries.flatMap(({ carried }) => carried))
    sums.set(institution, (sums.get(institution) ?? 0) + tokens)
  return [...sums]
    .map(([institution, tokens]) => ({ institution, tokens }))
    .sort((a, b) => b.tokens - a.tokens)
}
