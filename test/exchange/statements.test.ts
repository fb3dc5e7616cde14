import { describe, expect, it } from 'vitest'
import {
  encodeStatementsRequest,
  pullStatements,
  STATEMENTS,
  serveStatements,
} from '../../src/exchange/statements.ts'
import { NO_STATEMENT } from '../../src/identity/statement.ts'
import { digestOf, utf8 } from '../../src/lib/bytes.ts'
import type { StatementsRequest } from '../../src/statements/log-answers.ts'
import { fakeNetwork } from '../support/fake-network.ts'

const PUBLISHER = '12D3KooWPqT2nMDSiXUSx5D7fasaxhxKigVhcqfkKqrLghCq9jxz'
const never = new AbortController().signal

/**
 * Pull from a member that has `statements` of one publisher and sends at most `page` of them in an answer.
 * `stores` decides which of them the asking side keeps.
 */
async function pull(options: {
  statements: number
  page: number
  stores?: (seq: number) => boolean
}): Promise<{ held: number; received: number; requests: number }> {
  let held = 0
  let received = 0
  let requests = 0
  const network = fakeNetwork(async function* (_, request) {
    requests++
    const from = (request as StatementsRequest).known[0]?.seq ?? 0
    const end = Math.min(from + options.page, options.statements)
    for (let seq = from + 1; seq <= end; seq++) yield { bytes: utf8(String(seq)) }
  })
  const handlers = {
    wanted: () => ({
      rosterVersion: 1,
      governance: NO_STATEMENT,
      known:
        held === 0
          ? []
          : [{ publisher: PUBLISHER, seq: held, last: digestOf(utf8(`${held}`)), forked: false }],
    }),
    onFork: async () => false,
    onStatement: async (envelope: Uint8Array) => {
      received++
      const seq = Number(Buffer.from(envelope).toString())
      const isNew = seq === held + 1 && (options.stores?.(seq) ?? true)
      if (isNew) held = seq
      return isNew
    },
  }
  await pullStatements(network, 'peer', handlers, never)
  return { held, received, requests }
}

describe('a pull of statements', () => {
  it('asks once when the answer is not full', async () => {
    const page = STATEMENTS.maxResponseFrames
    expect(await pull({ statements: 3, page })).toEqual({ held: 3, received: 3, requests: 1 })
  })

  it('asks again after a full answer, until an answer is not full', async () => {
    const page = STATEMENTS.maxResponseFrames
    const statements = 2 * page + 5
    expect(await pull({ statements, page })).toEqual({ held: statements, received: statements, requests: 3 })
  })

  it('asks once when the answer is complete, whatever others have announced', async () => {
    // Another member may hold it: catch-up.ts asks the others, and this one again later.
    const pulled = await pull({ statements: 25, page: 10 })
    expect(pulled).toEqual({ held: 10, received: 10, requests: 1 })
  })

  it('asks again for what could not be kept yet, but only if the answer brought something new', async () => {
    const nothing = await pull({ statements: 0, page: 10 })
    expect(nothing.requests).toBe(1)
    const refused = await pull({ statements: 25, page: 10, stores: (seq) => seq < 4 })
    expect(refused).toEqual({ held: 3, received: 20, requests: 2 })
  })

  it('ends when too many statements of an answer bring nothing new, as those of a member that floods', async () => {
    const flood = await pull({ statements: 4000, page: 4000, stores: (seq) => seq < 10 })
    // Asked again once, because an answer that was broken off may hold more.
    expect(flood).toEqual({ held: 9, received: 9 + 64 + 64, requests: 2 })
  })

  it('ends after a limited number of requests', async () => {
    const page = STATEMENTS.maxResponseFrames
    const pulled = await pull({ statements: 1e6, page })
    expect(pulled).toEqual({ held: 16 * page, received: 16 * page, requests: 16 })
    expect(pulled.requests).toBeLessThan(STATEMENTS.quota.burst)
  })
})

describe('a request for statements', () => {
  it.each([
    ['that names more than this node holds makes it ask in turn', true],
    ['that names less does not', false],
  ])('%s', async (_, isAhead) => {
    const asked: string[] = []
    const answer = serveStatements({
      handlers: {
        wanted: () => ({ rosterVersion: 1, governance: NO_STATEMENT, known: [] }),
        statementsSince: async function* () {},
        isAhead: () => isAhead,
        isMember: () => true,
        rostersSince: () => [],
        onStatement: async () => false,
        onFork: async () => false,
      },
      pullFrom: (peer) => asked.push(peer),
    })
    const request = encodeStatementsRequest({ rosterVersion: 2, governance: NO_STATEMENT, known: [] })
    for await (const frame of answer(request, 'asker', never)) expect(frame).toBeUndefined()
    expect(asked).toEqual(isAhead ? ['asker'] : [])
  })
})
