import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { Queue, QueueFullError } from '../../src/serving/queue.ts'

const { signal: never } = new AbortController()
/** Lets every promise that is resolved already continue. */
const settle = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('the queue', () => {
  it('admits waiting requests in order, without the one that left', async () => {
    const queue = new Queue(1, 3)
    const order: string[] = []
    const leaver = new AbortController()
    const enter = (name: string, signal: AbortSignal): Promise<void> =>
      queue.enter(signal).then((release) => {
        order.push(name)
        release()
      })
    const release = await queue.enter(never)
    const left = enter('left', leaver.signal)
    const second = enter('second', never)
    const third = enter('third', never)
    await expect(queue.enter(never)).rejects.toBeInstanceOf(QueueFullError)
    leaver.abort(new Error('the client left'))
    await expect(left).rejects.toThrow('the client left')
    release()
    await Promise.all([second, third])
    expect(order).toEqual(['second', 'third'])
  })

  it('hands a freed place to the first waiting request, not to one that enters at the same moment', async () => {
    const queue = new Queue(1, 2)
    const order: string[] = []
    const first = await queue.enter(never)
    const waiting = queue.enter(never).then(() => order.push('waiting'))
    first()
    const late = queue.enter(never).then(() => order.push('late'))
    await waiting
    await settle()
    expect(order).toEqual(['waiting'])
    void late
  })

  it('keeps the place of a request that aborts at the moment at which it is admitted', async () => {
    const queue = new Queue(1, 1)
    const client = new AbortController()
    const first = await queue.enter(never)
    const admitted = queue.enter(client.signal)
    first()
    client.abort()
    const release = await admitted
    release()
    await expect(queue.enter(never)).resolves.toBeTypeOf('function')
  })

  it('never exceeds its limits and keeps the order of arrival, whatever enters, leaves and ends', async () => {
    const action = fc.oneof(
      { weight: 4, arbitrary: fc.record({ kind: fc.constant('enter' as const) }) },
      { weight: 3, arbitrary: fc.record({ kind: fc.constant('release' as const), at: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('abort' as const), at: fc.nat(20) }) },
      { weight: 2, arbitrary: fc.record({ kind: fc.constant('settle' as const) }) },
    )
    const property = fc.asyncProperty(
      fc.integer({ min: 1, max: 3 }),
      fc.integer({ min: 0, max: 4 }),
      fc.array(action, { maxLength: 60 }),
      async (concurrency, maxWaiting, actions) => {
        const queue = new Queue(concurrency, maxWaiting)
        /** In the order of arrival. */
        const requests: Request[] = []
        const admitted: Request[] = []
        const inState = (state: Request['state']): Request[] => requests.filter((one) => one.state === state)
        const enter = (): void => {
          const request: Request = {
            state: 'waiting',
            abort: new AbortController(),
            release: () => undefined,
          }
          requests.push(request)
          queue.enter(request.abort.signal).then(
            (release) => {
              Object.assign(request, { state: 'running', release })
              admitted.push(request)
            },
            (error: unknown) => {
              request.state = error instanceof QueueFullError ? 'refused' : 'left'
            },
          )
        }
        for (const one of actions) {
          if (one.kind === 'enter') enter()
          else if (one.kind === 'settle') await settle()
          else if (one.kind === 'abort') requests[one.at]?.abort.abort()
          else {
            const [request] = inState('running').slice(one.at % concurrency)
            if (request !== undefined) {
              request.state = 'ended'
              request.release()
              request.release() // A second call has no effect.
            }
          }
          expect(inState('running').length).toBeLessThanOrEqual(concurrency)
        }
        await settle()
        expect(inState('running').length).toBeLessThanOrEqual(concurrency)
        expect(inState('waiting').length).toBeLessThanOrEqual(maxWaiting)
        // Places are not lost: nobody waits while one is free.
        if (inState('running').length < concurrency) expect(inState('waiting')).toEqual([])
        const indices = admitted.map((request) => requests.indexOf(request))
        expect(indices).toEqual([...indices].sort((a, b) => a - b))
        for (;;) {
          const running = inState('running')
          if (running.length === 0) break
          for (const request of running) {
            request.state = 'ended'
            request.release()
          }
          await settle()
        }
        expect(inState('waiting')).toEqual([])
      },
    )
    await fc.assert(property, { seed: 12, numRuns: 400 })
  })
})

interface Request {
  state: 'waiting' | 'running' | 'refused' | 'left' | 'ended'
  readonly abort: AbortController
  release: () => void
}
