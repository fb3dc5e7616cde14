import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { AcceptanceQueue } from '../../src/acceptance/queue.ts'
import type { Digest } from '../../src/lib/bytes.ts'
import { ExchangeError, InputError } from '../../src/lib/errors.ts'
import type { ManifestStatement } from '../../src/packaging/open-statement.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import { consortium, identityOf } from '../support/consortium.ts'
import { held } from '../support/held.ts'

const publisher = consortium().publisher(identityOf(2))
const [first, second, third] = [1, 2, 3].map(() => publisher.manifest()) as [
  ManifestStatement,
  ManifestStatement,
  ManifestStatement,
]

/** A queue, the packages that were judged, and the lines of its log. */
function queueOf(judge: (statement: ManifestStatement) => Promise<void> | void) {
  const judged: Digest[] = []
  const lines: LogEntry[] = []
  const stopping = new AbortController()
  const queue = new AcceptanceQueue({
    judge: async (statement) => {
      judged.push(statement.id)
      await judge(statement)
    },
    log: new Log((entry) => lines.push(entry), 'debug'),
    signal: stopping.signal,
  })
  return { queue, judged, lines, stopping }
}

/** Throws each error once, in order, and then nothing. */
function failing(...errors: Error[]): () => void {
  return () => {
    const error = errors.shift()
    if (error !== undefined) throw error
  }
}

describe('packages in the queue', () => {
  it('are judged one at a time, in the order of arrival', async () => {
    const running = held()
    const { queue, judged } = queueOf(({ id }) => (id === first.id ? running.pass() : undefined))
    for (const statement of [first, second, third]) queue.add(statement)
    await running.reached
    expect(judged).toEqual([first.id])
    running.release()
    await queue.settled()
    expect(judged).toEqual([first.id, second.id, third.id])
  })

  it('are judged although one before them fails', async () => {
    const { queue, judged } = queueOf(failing(new Error('EIO')))
    queue.add(first)
    queue.add(second)
    await queue.settled()
    expect(judged).toEqual([first.id, second.id])
  })

  it('are not judged twice by a retry', async () => {
    const { queue, judged } = queueOf(() => undefined)
    queue.add(first)
    await queue.settled()
    queue.retry()
    await queue.settled()
    expect(judged).toEqual([first.id])
  })
})

describe('a package that cannot be judged now', () => {
  it.each([
    ['because no member has its file', 'info', new ExchangeError('unreachable', 'nobody has it')],
    ['because the disk is full', 'warn', new InputError('disk-full', 'no space left')],
  ] as const)('%s waits for a retry, as often as it takes', async (_, level, error) => {
    const errors = new Array<Error>(5).fill(error)
    const { queue, judged, lines } = queueOf(failing(...errors))
    queue.add(first)
    await queue.settled()
    for (let i = 0; i < 7; i++) {
      queue.retry()
      await queue.settled()
    }
    expect(judged).toHaveLength(6)
    expect(lines.map((line) => line.level)).toEqual(new Array(5).fill(level))
    expect(lines[0]).toMatchObject({ code: error.code, message: expect.stringContaining(first.id) })
  })

  it('waits behind those that arrived meanwhile', async () => {
    const { queue, judged } = queueOf(failing(new ExchangeError('unreachable', 'nobody has it')))
    queue.add(first)
    await queue.settled()
    queue.add(second)
    queue.retry()
    await queue.settled()
    expect(judged).toEqual([first.id, second.id, first.id])
  })
})

describe('a package whose judging fails unexpectedly', () => {
  it('is tried three times, and then no more until the next start', async () => {
    const { queue, judged, lines } = queueOf(() => {
      throw new TypeError('a fault of the program')
    })
    queue.add(first)
    for (let i = 0; i < 5; i++) {
      await queue.settled()
      queue.retry()
    }
    await queue.settled()
    expect(judged).toHaveLength(3)
    expect(lines.map(({ level, message }) => [level, message.includes('attempt 3 of 3')])).toEqual([
      ['error', false],
      ['error', false],
      ['error', true],
    ])
  })

  it('has failures that are counted apart from those of others', async () => {
    const attempts = new Map<Digest, number>()
    const { queue, judged } = queueOf(({ id }) => {
      attempts.set(id, (attempts.get(id) ?? 0) + 1)
      if (id === first.id || attempts.get(id) === 1) throw new TypeError('a fault of the program')
    })
    queue.add(first)
    queue.add(second)
    for (let i = 0; i < 4; i++) {
      await queue.settled()
      queue.retry()
    }
    await queue.settled()
    expect(judged.filter((id) => id === first.id)).toHaveLength(3)
    expect(judged.filter((id) => id === second.id)).toHaveLength(2)
  })

  it('has failures that are forgotten once it was judged', async () => {
    const fault = new TypeError('a fault of the program')
    let errors: Error[] = [fault, fault]
    const { queue, judged } = queueOf(() => failing(...errors.splice(0, 1))())
    for (const round of [1, 2]) {
      queue.add(first)
      for (let i = 0; i < 3; i++) {
        await queue.settled()
        queue.retry()
      }
      await queue.settled()
      expect(judged).toHaveLength(3 * round)
      errors = [fault, fault]
    }
  })
})

describe('a node that stops', () => {
  it('judges nothing more, and has no lines about what it interrupts', async () => {
    const running = held()
    const { queue, judged, lines, stopping } = queueOf(async () => {
      await running.pass()
      throw new ExchangeError('aborted', 'interrupted')
    })
    queue.add(first)
    queue.add(second)
    await running.reached
    stopping.abort()
    running.release()
    await queue.settled()
    queue.retry()
    queue.add(third)
    await queue.settled()
    expect(judged).toEqual([first.id])
    expect(lines).toEqual([])
  })
})
