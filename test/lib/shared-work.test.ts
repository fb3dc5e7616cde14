import '../../src/lib/node20.ts'
import { describe, expect, it } from 'vitest'
import { SharedWork } from '../../src/lib/shared-work.ts'

/** Work that ends when the test says so, or when it is aborted. */
function heldWork() {
  const starts: PromiseWithResolvers<string>[] = []
  const work = (signal: AbortSignal): Promise<string> => {
    const run = Promise.withResolvers<string>()
    starts.push(run)
    signal.addEventListener('abort', () => run.reject(signal.reason))
    return run.promise
  }
  return { starts, work }
}

/** Lets everything that is ready to run do so. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

describe('SharedWork', () => {
  it('runs once for callers that ask at the same time', async () => {
    const { starts, work } = heldWork()
    const shared = new SharedWork<string>()
    const callers = [1, 2, 3].map(() => shared.run('a', work))
    await turn()
    starts[0]?.resolve('done')
    expect(await Promise.all(callers)).toEqual(['done', 'done', 'done'])
    expect(starts).toHaveLength(1)
  })

  it('runs different keys at the same time', async () => {
    const { starts, work } = heldWork()
    const shared = new SharedWork<string>()
    const callers = [shared.run('a', work), shared.run('b', work)]
    await turn()
    starts.forEach((run, i) => {
      run.resolve(String(i))
    })
    expect(await Promise.all(callers)).toEqual(['0', '1'])
  })

  it('forgets a run that has ended, so that a failure is tried again', async () => {
    const { starts, work } = heldWork()
    const shared = new SharedWork<string>()
    const failing = [shared.run('a', work), shared.run('a', work)]
    await turn()
    starts[0]?.reject(new Error('no luck'))
    const outcomes = await Promise.allSettled(failing)
    expect(outcomes.map(({ status }) => status)).toEqual(['rejected', 'rejected'])
    const again = shared.run('a', work)
    await turn()
    starts[1]?.resolve('done')
    expect(await again).toBe('done')
  })

  it('goes on for the others when one caller leaves', async () => {
    const { starts, work } = heldWork()
    const shared = new SharedWork<string>()
    const leaving = new AbortController()
    const left = shared.run('a', work, leaving.signal)
    const stays = shared.run('a', work)
    await turn()
    leaving.abort(new Error('left'))
    await expect(left).rejects.toThrow('left')
    starts[0]?.resolve('done')
    expect(await stays).toBe('done')
  })

  it('aborts the work when the last caller leaves, and starts it anew for the next one only after it has ended', async () => {
    const steps: string[] = []
    const stopped = Promise.withResolvers<void>()
    const stubborn = async (signal: AbortSignal): Promise<string> => {
      steps.push('first starts')
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
      await stopped.promise
      steps.push('first ends')
      throw signal.reason
    }
    const shared = new SharedWork<string>()
    const leaving = new AbortController()
    const left = shared.run('a', stubborn, leaving.signal)
    await turn()
    leaving.abort(new Error('left'))
    const next = shared.run('a', async () => {
      steps.push('second starts')
      return 'done'
    })
    await turn()
    stopped.resolve()
    await expect(left).rejects.toThrow('left')
    expect(await next).toBe('done')
    expect(steps).toEqual(['first starts', 'first ends', 'second starts'])
  })

  it('does not start for a signal that has fired', async () => {
    const { starts, work } = heldWork()
    const shared = new SharedWork<string>()
    await expect(shared.run('a', work, AbortSignal.abort(new Error('left')))).rejects.toThrow('left')
    expect(starts).toHaveLength(0)
  })
})
