import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import type { ExchangeHandlers } from '../../src/exchange/handlers.ts'
import { Syncs } from '../../src/exchange/syncs.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import type { ProtocolRow } from '../../src/network/protocol.ts'
import { SILENT } from '../../src/telemetry/log.ts'

const unused = (): never => {
  throw new Error('not used here')
}

/** What a node asks of a member that has announced a head, until a sync or a pull has ended. */
async function askedAfterAnnouncement(isBehind: ExchangeHandlers['isBehind'], end: 'onPulled' | 'onSynced') {
  const asked: string[] = []
  const ended = Promise.withResolvers<void>()
  const stopping = new AbortController()
  const network = {
    async *ask(_: string, { id }: ProtocolRow) {
      asked.push(id.split('/')[2] as string)
    },
    connectedPeers: () => ['a'],
    knownAddresses: async () => [],
    learn: async () => undefined,
  }
  const handlers: ExchangeHandlers = {
    isMember: () => true,
    isRevoked: () => false,
    isBehind,
    isAhead: () => false,
    wanted: () => ({ rosterVersion: 1, governance: NO_STATEMENT, known: [] }),
    knownCheckpoints: () => [],
    onPulled: () => undefined,
    onSynced: () => undefined,
    guestsOpen: unused,
    rostersSince: unused,
    charterFor: unused,
    onMembershipRequest: unused,
    statementsSince: unused,
    onFork: unused,
    onStatement: unused,
    judgeHead: unused,
    mayRead: unused,
    onAddCheckpoint: unused,
    checkpointsSince: unused,
    onCheckpoint: unused,
    [end]: () => ended.resolve(),
  }
  const syncs = new Syncs({
    network: () => network,
    handlers,
    clock: () => 0,
    signal: stopping.signal,
    log: SILENT,
  })
  syncs.onAnnouncement('a')
  await ended.promise
  stopping.abort()
  await syncs.stop()
  return new Set(asked)
}

describe('an announced head', () => {
  it('of a member whose statements are missing makes the node pull statements alone', async () => {
    expect(await askedAfterAnnouncement(() => true, 'onPulled')).toEqual(new Set(['statements']))
  })

  it('without a missing statement makes it ask for checkpoints too, also while statements of others are missing', async () => {
    const all = new Set(['statements', 'checkpoints', 'addresses'])
    expect(await askedAfterAnnouncement(() => false, 'onSynced')).toEqual(all)
    expect(await askedAfterAnnouncement((peer) => peer === undefined, 'onSynced')).toEqual(all)
  })
})
