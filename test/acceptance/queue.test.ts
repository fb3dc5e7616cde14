import '../../src/lib/node20.ts'
import { setImmediate } from 'node:timers/promises'
import { afterEach, describe, expect, it, vi } from 'vitest'
import type { QueuedPackage } from '../../src/acceptance/fair-lines.ts'
import { PackageStates } from '../../src/acceptance/package-states.ts'
import { AcceptanceQueue, type AcceptanceQueueInit } from '../../src/acceptance/queue.ts'
import { type Digest, digestOf, utf8 } from '../../src/lib/bytes.ts'
import { ExchangeError, InputError } from '../../src/lib/errors.ts'
import { Log, type LogEntry } from '../../src/telemetry/log.ts'
import { held } from '../support/held.ts'

afterEach(() => {
  vi.useRealTimers()
})

/** The nth package of a publisher. */
function packageOf(publisher: string, seq: number): QueuedPackage {
  return { id: digestOf(utf8(`${publisher} ${seq}`)), publisher, seq }
}

const [first, second, third] = [1, 2, 3].map((seq) => packageOf('P', seq)) as [
  QueuedPackage,
  QueuedPackage,
  QueuedPackage,
]
const other = packageOf('Q', 1)

interface Steps {
  readonly fetch?: (queued: QueuedPackage, signal: AbortSignal) => Promise<void> | void
  readonly judge?: (queued: QueuedPackage) => Promise<void> | void
}

/** A queue, the packages that were fetched and judged, their states and the lines of its log. */
function queueOf({ fetch, judge }: Steps, changes: Partial<AcceptanceQueueInit> = {}) {
  const fetched: Digest[] = []
  const judged: Digest[] = []
  const lines: LogEntry[] = []
  const stopping = new AbortController()
  const states = new PackageStates()
  const queue = new AcceptanceQueue({
    prepare: async (queued, signal) => {
      fetched.push(queued.id)
      await fetch?.(queued, signal)
      return async () => {
        judged.push(queued.id)
        await judge?.(queued)
      }
    },
    unjudged: async () => [],
    states,
    freeBytes: async () => Number.POSITIVE_INFINITY,
    log: new Log((entry) => lines.push(entry), 'info'),
    signal: stopping.signal,
    ...changes,
  })
  return { queue, fetched, judged, states, lines, stopping }
}

/** Throws each error once, in order, and then nothing. */
function failing(...errors: Error[]): () => void {
  return () => {
    const error = errors.shift()
    if (error !== undefined) throw error
  }
}

/** Rejects when the signal fires, as a fetch does. */
function untilAborted(signal: AbortSignal): Promise<void> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(new ExchangeError('aborted', 'given up')))
  })
}

async function turns(): Promise<void> {
  for (let i = 0; i < 20; i++) await setImmediate()
}

describe('packages in the queue', () => {
  it('of one publisher are judged one at a time, in the order of arrival', async () => {
    const running = held()
    const { queue, judged } = queueOf({ judge: ({ id }) => (id === first.id ? running.pass() : undefined) })
    for (const queued of [first, second, third]) queue.add(queued)
    await running.reached
    expect(judged).toEqual([first.id])
    running.release()
    await queue.settled()
    expect(judged).toEqual([first.id, second.id, third.id])
  })

  it.each(['fetch', 'judge'] as const)(
    'are judged although the %s of one before them fails',
    async (step) => {
      const { queue, judged } = queueOf({ [step]: failing(new Error('EIO')) })
      queue.add(first)
      queue.add(second)
      await queue.settled()
      expect(judged).toContain(second.id)
    },
  )

  it('are not judged twice by a retry or by another arrival', async () => {
    const running = held()
    const { queue, judged } = queueOf({ judge: () => running.pass() })
    queue.add(first)
    await running.reached
    queue.add(first)
    queue.retry()
    running.release()
    await queue.settled()
    queue.retry()
    await queue.settled()
    expect(judged).toEqual([first.id])
  })

  it('that need no judging are done', async () => {
    const { queue, judged, states } = queueOf({}, { prepare: async () => undefined })
    queue.add(first)
    await queue.settled()
    expect([judged, states.list()]).toEqual([[], []])
  })
})

describe('a publisher whose files arrive slowly or never', () => {
  it('does not keep those of others from being fetched and judged', async () => {
    const { queue, fetched, judged } = queueOf({
      fetch: ({ publisher }, signal) => (publisher === 'M' ? untilAborted(signal) : undefined),
    })
    for (let seq = 1; seq <= 6; seq++) queue.add(packageOf('M', seq))
    queue.add(first)
    queue.add(other)
    await turns()
    expect(judged).toEqual([first.id, other.id])
    expect(fetched.filter((id) => id !== first.id && id !== other.id)).toEqual([packageOf('M', 1).id])
  })

  it('gives up its place after a minute if all places are taken and another package waits', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const states = new PackageStates()
    const { queue, judged } = queueOf(
      {
        fetch: ({ id, publisher }, signal) => {
          if (!publisher.startsWith('M')) return
          states.set(id, { kind: 'fetching', doneBytes: 5, totalBytes: 100 })
          return untilAborted(signal)
        },
      },
      { states },
    )
    for (let i = 0; i < 8; i++) queue.add(packageOf(`M${i}`, 1))
    queue.add(first)
    await turns()
    expect(judged).toEqual([])
    for (let i = 0; i < 14; i++) await vi.advanceTimersByTimeAsync(5_000)
    await turns()
    expect(judged).toEqual([first.id])
  })

  it('does not fetch without end while others are judged: two files wait at most', async () => {
    const running = held()
    const { queue, fetched } = queueOf({
      judge: ({ publisher }) => (publisher === 'Q' ? running.pass() : undefined),
    })
    queue.add(other)
    await running.reached
    for (let seq = 1; seq <= 6; seq++) queue.add(packageOf('M', seq))
    await turns()
    expect(fetched).toHaveLength(3)
    running.release()
    await queue.settled()
    expect(fetched).toHaveLength(7)
  })
})

describe('publishers', () => {
  it('take turns in judging, however many packages one of them has', async () => {
    const running = held()
    const { queue, judged } = queueOf({ judge: ({ id }) => (id === first.id ? running.pass() : undefined) })
    queue.add(first)
    await running.reached
    for (let seq = 1; seq <= 20; seq++) queue.add(packageOf('M', seq))
    queue.add(other)
    queue.add(second)
    await turns()
    running.release()
    await queue.settled()
    expect(judged.indexOf(other.id)).toBeLessThanOrEqual(3)
    expect(judged.indexOf(second.id)).toBeLessThanOrEqual(3)
  })

  it('have at most 256 packages in memory; the others are read from the log later', async () => {
    const all = Array.from({ length: 2000 }, (_, i) => packageOf('M', i + 1))
    const running = held()
    const { queue, judged, states } = queueOf(
      { judge: ({ id }) => (id === first.id ? running.pass() : undefined) },
      { unjudged: async (_, fromSeq, max) => all.slice(fromSeq - 1, fromSeq - 1 + max) },
    )
    queue.add(first)
    await running.reached
    for (const queued of all) queue.add(queued)
    expect(states.list().length).toBeLessThanOrEqual(257)
    queue.add(other)
    await turns()
    expect(states.get(other.id)).toBeDefined()
    running.release()
    await queue.settled()
    expect(judged.filter((id) => id !== first.id && id !== other.id)).toEqual(all.map(({ id }) => id))
    expect(states.list()).toEqual([])
  })

  it('are not forgotten if the log cannot be read for a moment', async () => {
    const all = Array.from({ length: 300 }, (_, i) => packageOf('M', i + 1))
    let readings = 0
    const { queue, judged, lines } = queueOf(
      {},
      {
        unjudged: async (_, fromSeq, max) => {
          if (readings++ === 0) throw new InputError('io', 'cannot be read')
          return all.slice(fromSeq - 1, fromSeq - 1 + max)
        },
      },
    )
    for (const queued of all) queue.add(queued)
    await queue.settled()
    expect(judged).toHaveLength(300)
    expect(lines.map(({ code }) => code)).toEqual(['io'])
  })
})

describe('a package that the operator asks for', () => {
  it('comes before all others', async () => {
    const running = held()
    const { queue, judged } = queueOf({ judge: ({ id }) => (id === first.id ? running.pass() : undefined) })
    queue.add(first)
    await running.reached
    for (let seq = 1; seq <= 9; seq++) queue.add(packageOf('M', seq))
    queue.add(packageOf('M', 10), true)
    await turns()
    running.release()
    await queue.settled()
    expect(judged.indexOf(packageOf('M', 10).id)).toBeLessThanOrEqual(3)
  })
})

describe('a package whose manifest must be checked again', () => {
  it('stops being fetched and begins anew at once', async () => {
    const attempts: Digest[] = []
    const { queue } = queueOf(
      {},
      {
        prepare: async ({ id }, signal) => {
          attempts.push(id)
          if (attempts.length === 1) await untilAborted(signal)
          return undefined
        },
      },
    )
    queue.add(first)
    await turns()
    queue.restart([first.id])
    await queue.settled()
    expect(attempts).toEqual([first.id, first.id])
  })

  it('is not the package of another publisher, which nobody else can stop', async () => {
    const { queue, fetched } = queueOf({ fetch: (_, signal) => untilAborted(signal) })
    queue.add(first)
    await turns()
    queue.restart([first.id], 'M')
    await turns()
    expect(fetched).toEqual([first.id])
  })

  it('does so although it waits for a retry', async () => {
    const { queue, fetched } = queueOf({ fetch: failing(new ExchangeError('unreachable', 'nobody')) })
    queue.add(first)
    await queue.settled()
    queue.restart([first.id, second.id])
    await queue.settled()
    expect(fetched).toEqual([first.id, first.id])
  })
})

describe('a package that cannot be judged now', () => {
  it.each([
    ['because no member has its file', 'info', new ExchangeError('unreachable', 'nobody has it')],
    ['because the disk is full', 'warn', new InputError('disk-full', 'no space left')],
    ['because the disk fails', 'warn', new InputError('io', 'cannot be read')],
  ] as const)('%s waits for a retry, as often as it takes, and says so once', async (_, level, error) => {
    const errors = new Array<Error>(5).fill(error)
    const { queue, judged, fetched, lines } = queueOf({ fetch: failing(...errors) })
    queue.add(first)
    await queue.settled()
    for (let i = 0; i < 7; i++) {
      queue.retry()
      await queue.settled()
    }
    expect([fetched.length, judged]).toEqual([6, [first.id]])
    expect(lines.map((line) => [line.level, line.code])).toEqual([[level, error.code]])
  })

  it('is tried again by a timer, after pauses that grow to ten minutes', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    const { queue, fetched } = queueOf({
      fetch: () => {
        throw new ExchangeError('unreachable', 'nobody has it')
      },
    })
    queue.add(first)
    const times: number[] = []
    for (let seconds = 0; seconds < 3600; seconds += 5) {
      const before = fetched.length
      await vi.advanceTimersByTimeAsync(5_000)
      await turns()
      if (fetched.length > before) times.push(seconds + 5)
    }
    const pauses = times.slice(1).map((time, i) => time - (times[i] as number))
    expect([times[0], ...pauses.slice(0, 3)]).toEqual([5, 10, 20, 40])
    expect(Math.max(...pauses)).toBe(600)
  })

  it('waits behind those that arrived meanwhile', async () => {
    const { queue, judged } = queueOf({
      fetch: failing(new ExchangeError('unreachable', 'nobody has it')),
    })
    queue.add(first)
    await queue.settled()
    queue.add(second)
    queue.retry()
    await queue.settled()
    expect(judged).toEqual([second.id, first.id])
  })
})

describe('a full disk', () => {
  const full = (neededBytes?: number): InputError =>
    new InputError(
      'disk-full',
      'no space left',
      neededBytes === undefined ? {} : { neededBytes, freeBytes: 7 },
    )

  it.each(['fetch', 'judge'] as const)(
    'during the %s is reported with needed and free bytes',
    async (step) => {
      const { queue, states } = queueOf({ [step]: failing(full(100)) })
      queue.add(first)
      await queue.settled()
      expect(states.list()).toEqual([[first.id, { kind: 'disk-full', neededBytes: 100, freeBytes: 7 }]])
    },
  )

  it('is looked at every ten seconds; packages go on when there is room for them', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    let free = 50
    const { queue, fetched, judged, states } = queueOf(
      { fetch: failing(full(100)) },
      { freeBytes: async () => free },
    )
    queue.add(first)
    await queue.settled()
    for (let i = 0; i < 20; i++) await vi.advanceTimersByTimeAsync(10_000)
    expect(fetched).toHaveLength(1)
    expect(states.get(first.id)).toMatchObject({ neededBytes: 100, freeBytes: 50 })
    free = 101
    for (let i = 0; i < 2; i++) await vi.advanceTimersByTimeAsync(10_000)
    await queue.settled()
    expect(judged).toEqual([first.id])
  })

  it('is logged once for all packages, and again if the disk is full once more', async () => {
    let isFull = true
    const { queue, lines } = queueOf({
      fetch: () => {
        if (isFull) throw full()
      },
    })
    queue.add(first)
    queue.add(other)
    await queue.settled()
    expect(lines.map(({ level }) => level)).toEqual(['warn'])
    isFull = false
    queue.retry()
    await queue.settled()
    expect(lines).toHaveLength(1)
    isFull = true
    queue.add(second)
    await queue.settled()
    expect(lines).toHaveLength(2)
  })
})

describe('a package whose judging fails unexpectedly', () => {
  it('is tried three times, and then no more until the next start', async () => {
    const { queue, judged, lines, states } = queueOf({
      judge: () => {
        throw new TypeError('a fault of the program')
      },
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
    expect(states.get(first.id)).toMatchObject({
      kind: 'failed',
      reason: 'a fault of the program',
      isFinal: true,
    })
  })

  it('has failures that are counted apart from those of others', async () => {
    const attempts = new Map<Digest, number>()
    const { queue, judged } = queueOf({
      judge: ({ id }) => {
        attempts.set(id, (attempts.get(id) ?? 0) + 1)
        if (id === first.id || attempts.get(id) === 1) throw new TypeError('a fault of the program')
      },
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
    const { queue, judged } = queueOf({ judge: () => failing(...errors.splice(0, 1))() })
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

  it('is remembered only for the last 64, so that nobody fills the memory with such packages', async () => {
    const { queue, states } = queueOf({
      judge: () => {
        throw new TypeError('a fault of the program')
      },
    })
    for (let seq = 1; seq <= 80; seq++) queue.add(packageOf('M', seq))
    for (let i = 0; i < 3; i++) {
      await queue.settled()
      queue.retry()
    }
    await queue.settled()
    expect(states.list()).toHaveLength(64)
  })
})

describe('a node that stops', () => {
  it('judges nothing more, and has no lines about what it interrupts', async () => {
    const running = held()
    const { queue, judged, lines, stopping } = queueOf({
      judge: async () => {
        await running.pass()
        throw new ExchangeError('aborted', 'interrupted')
      },
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

  it('ends its fetches', async () => {
    const { queue, stopping } = queueOf({ fetch: (_, signal) => untilAborted(signal) })
    queue.add(first)
    queue.add(other)
    const settled = queue.settled()
    stopping.abort()
    await settled
  })
})
