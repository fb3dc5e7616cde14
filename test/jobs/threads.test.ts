/** Job threads: results, progress and errors cross them unchanged, and the death of one fails only its job. */
import { afterEach, describe, expect, it } from 'vitest'
import type { ScoreRequest } from '../../src/jobs/score-texts.ts'
import { JobThreads, type JobThreadsInit } from '../../src/jobs/threads.ts'
import { resultOf } from '../../src/lib/jobs.ts'
import type { TrainRequest } from '../../src/owner/train-expert.ts'

const signal = new AbortController().signal
const open: JobThreads[] = []
afterEach(async () => {
  for (const threads of open.splice(0)) await threads.close()
})

/** Threads that run `onRun` for each job, with `port` to report to and `request`, and `onAbort` for an abort. */
function threadsOf(onRun: string, onAbort = '', init: Partial<JobThreadsInit> = {}): JobThreads {
  const source = `
    import { parentPort as port } from 'node:worker_threads'
    port.on('message', ({ kind, job, request }) => { if (kind === 'run') { ${onRun} } else { ${onAbort} } })`
  const entry = new URL(`data:text/javascript,${encodeURIComponent(source)}`)
  const threads = new JobThreads({ engine: {}, publicModel: '', training: '', root: '', entry, ...init })
  open.push(threads)
  return threads
}

const SCORE = {} as ScoreRequest
const run = (threads: JobThreads): Promise<unknown> => resultOf(threads.run('score', SCORE, signal))

const TRAIN = { name: 'law', paths: [], steps: 1, accumulate: 1, rank: 0, seed: 1 } satisfies TrainRequest

describe('a job in a thread', () => {
  it('has its progress in order, then its result', async () => {
    const threads = threadsOf(`
      for (const step of [1, 2, 3]) port.postMessage({ kind: 'progress', value: { stage: 'step', step } })
      port.postMessage({ kind: 'result', value: null })`)
    const steps: unknown[] = []
    for await (const event of threads.run('train', TRAIN, signal)) steps.push(event)
    expect(steps).toEqual([1, 2, 3].map((step) => ({ stage: 'step', step })))
  })

  it('uses the thread of the job before', async () => {
    const threads = threadsOf(
      "globalThis.jobs = (globalThis.jobs ?? 0) + 1; port.postMessage({ kind: 'result', value: globalThis.jobs })",
    )
    expect([await run(threads), await run(threads)]).toEqual([1, 2])
  })

  it('keeps family, code and fields of an error', async () => {
    const threads = threadsOf(`port.postMessage({ kind: 'error', error: {
      family: 'policy', code: 'norm-bound', message: 'too large', stack: 'there', fields: { tensor: 'a' } } })`)
    await expect(run(threads)).rejects.toMatchObject({
      name: 'PolicyError',
      family: 'policy',
      code: 'norm-bound',
      message: 'too large',
      fields: { tensor: 'a' },
    })
  })

  it.each([
    ['throws outside of its job', "throw new Error('broken')", 'worker-ended', 'broken'],
    ['exits', 'process.exit(7)', 'worker-ended', 'exited'],
    ['sends what is no report', "port.postMessage('hello')", 'worker-ended', 'no report'],
    [
      'runs out of memory',
      "throw Object.assign(new Error('heap limit'), { code: 'ERR_WORKER_OUT_OF_MEMORY' })",
      'out-of-memory',
      'ran out of memory',
    ],
  ])(
    'fails with a code if its thread %s, and the next job gets a new thread',
    async (_, onRun, code, text) => {
      const threads = threadsOf(
        `if (job === 'train') { ${onRun} } else port.postMessage({ kind: 'result', value: 1 })`,
      )
      await expect(resultOf(threads.run('train', TRAIN, signal))).rejects.toMatchObject({
        family: 'input',
        code,
        message: expect.stringContaining(text),
      })
      expect(await run(threads)).toBe(1)
    },
  )

  it('stops by itself when it is aborted, with the reason of the signal', async () => {
    const abort = new AbortController()
    const threads = threadsOf(
      "port.postMessage({ kind: 'progress', value: 1 })",
      "port.postMessage({ kind: 'error', error: { message: 'aborted', stack: '' } })",
    )
    const job = threads.run('train', TRAIN, abort.signal)
    await job.next()
    abort.abort(new Error('stopped'))
    await expect(job.next()).rejects.toThrow('stopped')
  })

  it('is ended with its thread if it does not stop within the time of grace', async () => {
    const abort = new AbortController()
    const threads = threadsOf("port.postMessage({ kind: 'progress', value: 1 }); for (;;);", '', {
      graceMs: 1,
    })
    const job = threads.run('train', TRAIN, abort.signal)
    await job.next()
    abort.abort(new Error('stopped'))
    await expect(job.next()).rejects.toThrow('stopped')
  })

  it('is aborted when the caller leaves the iteration', async () => {
    const threads = threadsOf(
      `if (job === 'exportPair') port.postMessage({ kind: 'progress', value: 1 })
       else port.postMessage({ kind: 'result', value: 'new thread' })`,
      "port.postMessage({ kind: 'error', error: { message: 'aborted', stack: '' } })",
    )
    const request = { training: { name: 'law', paths: [], seed: 1 }, directory: 'pair' }
    for await (const _ of threads.run('exportPair', request, signal)) break
    expect(await run(threads)).toBe('new thread')
  })

  it('waits while three others run', async () => {
    const threads = threadsOf(
      `
      if (job !== 'train') port.postMessage({ kind: 'result', value: 1 })
      else port.postMessage({ kind: 'progress', value: 1 })`,
      "port.postMessage({ kind: 'result', value: null })",
    )
    const abort = new AbortController()
    const three = Array.from({ length: 3 }, () => threads.run('train', TRAIN, abort.signal))
    for (const job of three) await job.next()
    let hasRun = false
    const fourth = run(threads).then(() => {
      hasRun = true
    })
    const left = new AbortController()
    const fifth = resultOf(threads.run('score', SCORE, left.signal))
    left.abort(new Error('left'))
    await expect(fifth).rejects.toThrow('left')
    expect(hasRun).toBe(false)
    abort.abort()
    for (const job of three) await job.next()
    await fourth
    expect(hasRun).toBe(true)
  })
})
