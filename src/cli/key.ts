/**
 * The commands `key delegate`, `key rotate` and `key revoke`, which need the institution key: they run on the home folder
 * while its node does not run, because the institution key should be in memory for moments only.
 */

import { option, path, text, whole } from '../commands/parameters.ts'
import { day } from '../commands/terminal.ts'
import { ownCommand } from '../lib/command-line.ts'
import type { KeyPlan, KeyReport } from '../node/key-change.ts'
import { type CommandContext, unixNow } from './context.ts'
import { localCommand } from './local-command.ts'
import { optionalPassphrase } from './passphrase.ts'

const DAY_SECONDS = 86_400
const MAX_DAYS = 730
const MAX_SCOPES = 60

export const INSTITUTION_KEY = option(
  'institution-key',
  'file of the institution key (default: the one that this home remembers); the next key is beside it, in FILE.next',
  path,
)
export const INSTITUTION_PASSPHRASE = option(
  'institution-passphrase-file',
  'file with the passphrase of the institution key (default: as --passphrase-file)',
  path,
)
const VALID_THROUGH = option(
  'valid-through',
  "number of this institution's last statement that counts; later ones were signed by a thief (default: all count)",
  whole(0, Number.MAX_SAFE_INTEGER),
)
const KEY_PARAMETERS = {
  file: INSTITUTION_KEY,
  passphraseFile: INSTITUTION_PASSPHRASE,
  validThroughSeq: VALID_THROUGH,
} as const

interface KeyRequest {
  readonly file: string | undefined
  readonly passphraseFile: string | undefined
}

/** Carry out a change of keys. @throws as `changeKeys`. */
export async function runKeyChange(
  { home, engine, signal, passphrase }: CommandContext,
  { file, passphraseFile }: KeyRequest,
  plan: KeyPlan,
): Promise<KeyReport> {
  const [{ changeKeys }, { selectEngine }] = await Promise.all([
    import('../node/key-change.ts'),
    import('../tensor/select-engine.ts'),
  ])
  const secret = await passphrase()
  const outside = await optionalPassphrase(passphraseFile, signal)
  return changeKeys(
    {
      home,
      engine: await selectEngine(engine),
      now: unixNow,
      file,
      institutionPassphrase: outside,
      ...(secret === undefined ? {} : { passphrase: secret }),
    },
    plan,
    signal,
  )
}

export const KEY_DELEGATE = localCommand({
  name: 'key delegate',
  usage: 'key delegate [--institution-key FILE] [--days N] [--scopes LIST] [--valid-through N]',
  parameters: {
    ...KEY_PARAMETERS,
    days: option('days', 'days for which the node key is valid (default 365)', whole(1, MAX_DAYS)),
    scopes: option(
      'scopes',
      'what the node key may sign, separated by commas: governance, packages, witness (default: as before, or all)',
      text(MAX_SCOPES),
    ),
  },
  async work(context, { days, scopes, validThroughSeq, ...request }) {
    const { parseScopes } = await import('../consortium/key-history.ts')
    const report = await runKeyChange(context, request, {
      kind: 'delegate',
      lifetime: days === undefined ? undefined : days * DAY_SECONDS,
      scopes: scopes === undefined ? undefined : parseScopes(scopes),
      validThroughSeq,
    })
    context.output.result(report, [
      ...delegatedWords(report),
      'packages stay as they are; the node key before, if there was one, signs nothing any more and its connections are closed',
      `next: ${ownCommand('start')}`,
    ])
  },
})

/**
 * Name the key of a home as node key, if the institution key lies outside of the home.
 * @returns lines for people; empty if the home holds the institution key. @throws as `changeKeys`.
 */
export async function delegateIfOutside(
  context: CommandContext,
  passphraseFile: string | undefined,
): Promise<string[]> {
  const [{ institutionFileOf }, { homePaths }] = await Promise.all([
    import('../node/node-key.ts'),
    import('../store/home.ts'),
  ])
  const file = await institutionFileOf(homePaths(context.home))
  if (file === undefined) return []
  return delegatedWords(await runKeyChange(context, { file, passphraseFile }, { kind: 'delegate' }))
}

/** What a delegation has done, for people. */
function delegatedWords({ nodeKey, nodeKeyExpiresAt = 0, file }: KeyReport): string[] {
  return [
    `the key of this node is ${nodeKey} until ${day(nodeKeyExpiresAt)}`,
    `the institution key is in ${file} and the next one in ${file}.next; the node does not need them: keep each in its own safe place`,
  ]
}

export const KEY_ROTATE = localCommand({
  name: 'key rotate',
  usage: 'key rotate [--institution-key FILE] [--valid-through N]',
  parameters: KEY_PARAMETERS,
  async work(context, { validThroughSeq, ...request }) {
    const report = await runKeyChange(context, request, { kind: 'rotate', validThroughSeq })
    context.output.result(report, [
      `the institution key is ${report.institutionKey} now, in ${report.file}; the next one is in ${report.file}.next`,
      `the key before is in ${report.file}.replaced and has no power any more`,
      report.nodeKey === undefined
        ? `no node key rules; name one with ${ownCommand('key', 'delegate')}`
        : 'the node key and its connections stay as they are',
    ])
  },
})

export const KEY_REVOKE = localCommand({
  name: 'key revoke',
  usage: 'key revoke [--institution-key FILE] [--valid-through N]',
  parameters: KEY_PARAMETERS,
  async work(context, { validThroughSeq, ...request }) {
    const report = await runKeyChange(context, request, { kind: 'revoke', validThroughSeq })
    context.output.result(report, [
      'the node key has ended: every member closes its connections and takes nothing that it signs from now on',
      validThroughSeq === undefined
        ? 'packages and statements that it signed before stay valid'
        : `its packages after statement ${validThroughSeq} leave every node; its withdrawals stay`,
      `next: ${ownCommand('key', 'delegate')} names another node key; until then this institution signs nothing`,
    ])
  },
})
