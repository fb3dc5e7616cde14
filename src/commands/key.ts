/** The command `key show`: which keys rule the seat of this node. Commands that change them are in cli/key.ts. */
import { nodeCommand } from './command.ts'
import { day, table } from './terminal.ts'

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
      ? 'no next institution key is committed: if this one is lost or stolen, only the other members can restore the seat; "flexmesh key delegate --institution-key FILE" commits one'
      : `the next institution key is committed: ${result.next}`,
    ...(result.isRuling
      ? []
      : [`the key of this home, ${result.homeKey}, does not rule this seat; run: flexmesh key delegate`]),
    ...result.statements.map(
      ({ seq, institutionKey, nodeKey, validThroughSeq }) =>
        `statement ${seq}: institution key ${institutionKey}, node key ${nodeKey ?? 'none'}${validThroughSeq === null ? '' : `; statements ${validThroughSeq + 1} to ${seq - 1} do not count`}`,
    ),
  ],
})
