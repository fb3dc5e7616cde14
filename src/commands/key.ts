/**
 * The commands `key show`, `key request` and `key accept`, which need no institution key: which keys rule the seat of this
 * node, and the extension of its node key by a file. Commands that need the institution key are in cli/key.ts.
 */
import { commandLine, ownCommand } from '../lib/command-line.ts'
import { nodeCommand } from './command.ts'
import { option, path, positional, text, whole } from './parameters.ts'
import { day, table } from './terminal.ts'

const DAY_SECONDS = 86_400
const DEFAULT_DAYS = 365
const MAX_DAYS = 730
const MAX_SCOPES = 60

export const KEY_SHOW = nodeCommand({
  name: 'key show',
  usage: 'key show',
  parameters: {},
  async *run(node) {
    const { membership, identity } = node
    const { seat, keys } = membership
    const history = keys.historyOf(seat)
    const { key, next, node: delegated } = history.current()
    const { institutionFileOf } = await import('../node/node-key.ts')
    return {
      institution: membership.institutionOf(seat),
      seat,
      institutionKey: key,
      /** Digest of the next institution key. */
      next: next ?? null,
      /** Where the institution key lies; null if the home holds it. */
      institutionKeyFile: (await institutionFileOf(node.paths)) ?? null,
      nodeKey: delegated?.key ?? null,
      scopes: delegated?.scopes ?? [],
      /** Unix seconds; null if no node key rules. */
      nodeKeyExpiresAt: delegated?.expiresAt ?? null,
      /** The key that this home uses, and whether it may sign now. */
      homeKey: identity.peerId,
      isRuling: keys.seatOf(identity.peerId) !== undefined,
      /** Makes the key of this home sign again. */
      repair: commandLine(['key', 'delegate', ...node.homeOptions]),
      statements: history.changes.map(({ seq, key: ruling, node: named, validThroughSeq }) => ({
        seq,
        institutionKey: ruling,
        nodeKey: named?.key ?? null,
        validThroughSeq: validThroughSeq ?? null,
      })),
    }
  },
  words: (result) => [
    `${result.institution}, seat ${result.seat}`,
    ...table([
      ['institution key', result.institutionKey, result.institutionKeyFile ?? 'in this home'],
      [
        'node key',
        result.nodeKey ?? 'none: the institution key signs',
        result.nodeKeyExpiresAt === null
          ? ''
          : `until ${day(result.nodeKeyExpiresAt)}, for ${result.scopes.join(', ')}`,
      ],
    ]),
    result.next === null
      ? `no next institution key is committed: if this one is lost or stolen, only the other members can restore the seat; ${ownCommand('key', 'delegate', '--institution-key', 'FILE')} commits one`
      : `the next institution key is committed: ${result.next}`,
    ...(result.isRuling
      ? []
      : [
          `the key of this home, ${result.homeKey}, does not rule this seat; run: ${ownCommand('key', 'delegate')}`,
        ]),
    ...result.statements.map(
      ({ seq, institutionKey, nodeKey, validThroughSeq }) =>
        `statement ${seq}: institution key ${institutionKey}, node key ${nodeKey ?? 'none'}${validThroughSeq === null ? '' : `; statements ${validThroughSeq + 1} to ${seq - 1} do not count`}`,
    ),
  ],
})

const REQUEST_FILE = positional(
  path,
  `name the file of the request, as in ${ownCommand('key', 'request', 'FILE')}`,
)

export const KEY_REQUEST = nodeCommand({
  name: 'key request',
  usage: 'key request FILE [--days N] [--scopes LIST]',
  parameters: {
    file: REQUEST_FILE,
    days: option(
      'days',
      `days for which the node key is valid (default ${DEFAULT_DAYS})`,
      whole(1, MAX_DAYS),
    ),
    scopes: option(
      'scopes',
      'what the node key may sign, separated by commas: governance, packages, witness (default: as before)',
      text(MAX_SCOPES),
    ),
  },
  async *run(node, { file, days = DEFAULT_DAYS, scopes }) {
    const [{ parseScopes }, { writeFileAtomic }, { requestKeys }] = await Promise.all([
      import('../consortium/key-history.ts'),
      import('../lib/files.ts'),
      import('../pipeline/key-request.ts'),
    ])
    const { statement, envelope } = await requestKeys(node.parts, {
      expiresAt: node.now() + days * DAY_SECONDS,
      ...(scopes === undefined ? {} : { scopes: parseScopes(scopes) }),
    })
    await writeFileAtomic(file, envelope)
    return { file, seq: statement.seq, institutionKey: statement.key }
  },
  words: ({ file, seq, institutionKey }) => [
    `${file} asks the institution key ${institutionKey} to confirm the key of this node, as statement ${seq}`,
    `next: take it to the machine with the institution key, run "${commandLine(['key', 'sign', file, '--institution-key', 'FILE'])}" there, and ${ownCommand('key', 'accept', file)} here; what this node signs until then makes it stale`,
  ],
})

export const KEY_ACCEPT = nodeCommand({
  name: 'key accept',
  usage: 'key accept FILE',
  parameters: { file: REQUEST_FILE },
  async *run(node, { file }) {
    const [{ readFileBounded }, { limit }, { acceptKeys }] = await Promise.all([
      import('../lib/files.ts'),
      import('../lib/limits.ts'),
      import('../pipeline/key-request.ts'),
    ])
    const stated = await acceptKeys(node.parts, await readFileBounded(file, limit('envelopeBytes')))
    return {
      seq: stated.seq,
      nodeKey: stated.node?.key ?? null,
      scopes: stated.node?.scopes ?? [],
      nodeKeyExpiresAt: stated.node?.expiresAt ?? 0,
    }
  },
  words: ({ nodeKey, nodeKeyExpiresAt, scopes }) => [
    `the key of this node is ${nodeKey} until ${day(nodeKeyExpiresAt)}, for ${scopes.join(', ')}`,
  ],
})
