/** Generators that share a limited number of places. */
import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { concurrently } from '../../src/serving/concurrently.ts'

const forever = new AbortController().signal

/** Tasks that yield their name `count` times, and the events of all of them. */
function tasksOf(
  names: string,
  count: number,
): { tasks: Parameters<typeof concurrently<string>>[0]; log: string[] } {
  const log: string[] = []
  const tasks = [...names].map(
    (name) =>
      async function* () {
        log.push(`begin ${name}`)
        try {
          for (let i = 0; i < count; i++) yield name
        } finally {
          log.push(`end ${name}`)
        }
      },
  )
  return { tasks, log }
}

/** Places beside the first, and how many of them are taken. */
function placesOf(count: number): { take: () => (() => void) | undefined; taken: () => number } {
  let taken = 0
  const take = (): (() => void) | undefined => {
    if (taken === count) return undefined
    taken++
    return () => {
      taken--
    }
  }
  return { take, taken: () => taken }
}

async function collect(source: AsyncIterable<string>): Promise<string> {
  let text = ''
  for await (const one of source) text += one
  return text
}

describe('tasks', () => {
  it('run one after the other in a single place', async () => {
    const { tasks } = tasksOf('abc', 3)
    expect(await collect(concurrently(tasks, () => undefined, forever))).toBe('aaabbbccc')
  })

  it('run side by side in as many places as there are, which are all released', async () => {
    const { tasks, log } = tasksOf('abcd', 2)
    const { take, taken } = placesOf(2)
    const text = await collect(concurrently(tasks, take, forever))
    expect([...text].sort().join('')).toBe('aabbccdd')
    expect(log.slice(0, 3)).toEqual(['begin a', 'begin b', 'begin c'])
    expect(log.indexOf('begin d')).toBeGreaterThan(log.findIndex((one) => one.startsWith('end')))
    expect(taken()).toBe(0)
  })

  it('take no place that they do not need', async () => {
    const { take, taken } = placesOf(5)
    let most = 0
    const { tasks } = tasksOf('ab', 3)
    for await (const _ of concurrently(tasks, take, forever)) most = Math.max(most, taken())
    expect(most).toBe(1)
  })

  it('end with the first that fails, and their places are released', async () => {
    const { tasks, log } = tasksOf('ab', 100)
    const { take, taken } = placesOf(3)
    const failing = async function* (): AsyncGenerator<string, void, void> {
      yield 'x'
      throw new Error('out of memory')
    }
    await expect(collect(concurrently([...tasks, failing], take, forever))).rejects.toThrow('out of memory')
    expect(log.filter((one) => one.startsWith('end'))).toHaveLength(2)
    expect(taken()).toBe(0)
  })

  it('end when the reader leaves, also those that wait', async () => {
    let aborted = 0
    const waiting = async function* (signal: AbortSignal): AsyncGenerator<string, void, void> {
      await new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
      aborted++
      signal.throwIfAborted()
      yield 'never'
    }
    const { tasks } = tasksOf('a', 5)
    const { take, taken } = placesOf(1)
    for await (const _ of concurrently([...tasks, waiting], take, forever)) break
    expect([aborted, taken()]).toEqual([1, 0])
  })

  it('end with the reason of the signal', async () => {
    const abort = new AbortController()
    const waiting = async function* (signal: AbortSignal): AsyncGenerator<string, void, void> {
      yield 'x'
      signal.throwIfAborted()
    }
    const reading = (async () => {
      for await (const _ of concurrently([waiting], () => undefined, abort.signal))
        abort.abort(new Error('enough'))
    })()
    await expect(reading).rejects.toThrow('enough')
  })
})
