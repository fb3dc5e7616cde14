/** The command `log`: what the members have cosigned of each other's logs. */
import { fromUtf8 } from '../lib/bytes.ts'
import type { LogState } from '../transparency/cosigned-logs.ts'
import { nodeCommand } from './command.ts'
import { table } from './terminal.ts'

export const LOG = nodeCommand({
  name: 'log',
  usage: 'log',
  parameters: {},
  async *run(node) {
    const [{ logKeyOf }, { encodeNote, encodeVerifierKey }] = await Promise.all([
      import('../transparency/log-key.ts'),
      import('../transparency/note.ts'),
    ])
    const { membership, consortium, logs } = node
    const signerOf = (publisher: string): string => {
      const { key, node: delegated } = membership.keys.historyOf(publisher).current()
      return delegated?.key ?? key
    }
    const institutionOf = (peerId: string): string => membership.institutionOf(peerId)
    return {
      needed: logs.needed(),
      logs: (await logs.states()).map((state: LogState) => {
        const { publisher, statements, latest, contradiction } = state
        const key = logs.notes.witnessKey(publisher)
        return {
          institution: institutionOf(publisher),
          peerId: publisher,
          statements,
          final: Math.min(logs.finalSize(publisher), statements),
          cosigners: (latest?.cosigners ?? []).map(({ peerId }) => institutionOf(peerId)),
          /** Verifier keys in the form of C2SP signed-note. The log is signed by the node key, if the seat has one. */
          logKey: encodeVerifierKey(logKeyOf(consortium, publisher, signerOf(publisher))),
          ...(key === undefined ? {} : { witnessKey: encodeVerifierKey(key) }),
          ...(latest === undefined
            ? {}
            : { checkpointSize: latest.checkpoint.size, checkpoint: fromUtf8(encodeNote(latest.note)) }),
          ...(contradiction === undefined ? {} : { contradiction: fromUtf8(encodeNote(contradiction)) }),
        }
      }),
    }
  },
  words: ({ needed, logs }) => [
    needed === 0
      ? 'no other member can cosign; every statement is final at once'
      : `a statement is final when ${needed} ${needed === 1 ? 'other member has' : 'other members have'} cosigned a checkpoint that covers it`,
    ...table(
      logs.map(({ institution, statements, final, checkpointSize, cosigners }) => [
        institution,
        `${statements} ${statements === 1 ? 'statement' : 'statements'}`,
        `${final} final`,
        checkpointSize === undefined
          ? 'no checkpoint'
          : `checkpoint ${checkpointSize} cosigned by ${cosigners.length === 0 ? 'nobody' : cosigners.join(', ')}`,
      ]),
    ),
    ...logs
      .filter(({ contradiction }) => contradiction !== undefined)
      .map(
        ({ institution }) =>
          `CONTRADICTION: ${institution} has signed checkpoints of two different logs; --json shows them`,
      ),
  ],
})
