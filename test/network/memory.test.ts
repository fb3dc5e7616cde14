import { describe, expect, it } from 'vitest'
import { BLOB } from '../../src/exchange/blob.ts'
import { PROTOCOLS } from '../../src/exchange/protocols.ts'
import { limit } from '../../src/lib/limits.ts'
import { specification, tableUnder } from '../support/specifications.ts'

const GIB = 2 ** 30

/** The rows of the table under "Memory" in protocols/package-exchange, in bytes. */
const WORST: Readonly<Record<string, number>> = {
  requests:
    limit('members') *
    limit('streamsPerPeer') *
    (limit('unreadBytes') + 2 * limit('requestBytes') + limit('requestDataBytes')),
  'requests to join': limit('members') * limit('protocolInboundStreams') * limit('envelopeBytes'),
  announcements: limit('members') * limit('gossipBurstBytes'),
  'yamux frames that are incomplete':
    limit('members') * limit('connectionsPerPeer') * limit('answerDataBytes'),
  'data for peers that do not read':
    limit('members') * limit('connectionsPerPeer') * (limit('unsentBytes') + limit('socketBytes')),
  'chunks in answers':
    (limit('members') + limit('guestConnections') + limit('sharedChunks')) * limit('chunkBytes'),
  'other frames in answers': limit('members') * limit('sentFramesPerPeer') * limit('envelopeBytes'),
  'answers of small frames':
    limit('smallAnswers') *
    (limit('streamWindowBytes') + limit('answerDataBytes') + 4 * limit('envelopeBytes')),
  'answers of large frames':
    limit('largeAnswers') *
    (limit('streamWindowBytes') + limit('answerDataBytes') + limit('chunkBytes') + BLOB.maxResponseBytes),
  guests:
    (limit('unprovenGuests') + limit('guestConnections')) *
    (limit('answerDataBytes') + 8 * limit('envelopeBytes')),
}

describe('the memory that all peers together can make a node hold', () => {
  it('is below 1 GiB in the worst case', () => {
    const sum = Object.values(WORST).reduce((a, b) => a + b)
    expect(sum).toBeLessThan(GIB)
  })

  it('is stated in the specification, row by row', () => {
    const rows = tableUnder(specification('package-exchange'), 'Memory')
    expect(rows.map(([what]) => what)).toEqual(Object.keys(WORST))
  })

  it('has a row for every frame: answers are small or come from the blob protocol', () => {
    for (const { row } of PROTOCOLS) {
      if (row === BLOB) continue
      expect(row.maxResponseBytes).toBeLessThanOrEqual(2 * limit('envelopeBytes') + 64)
    }
  })

  it('has room for every connection that members and guests may open', () => {
    const guests = limit('unprovenGuests') + limit('guestConnections')
    const members = limit('members') * limit('connectionsPerPeer')
    expect(members + guests).toBeLessThanOrEqual(limit('maxConnections'))
  })
})
