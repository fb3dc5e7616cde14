/**
 * Entry of a job thread: loads engine and public model from their files and carries out one job after the other. The
 * main thread keeps nothing waiting: it aborts a job by a message, and ends the thread if the job does not stop.
 */
import '../lib/node20.ts'
import { parentPort, workerData } from 'node:worker_threads'
import { loadPublicModel } from '../checkpoint/public-model.ts'
import { BlobStore } from '../store/blob-store.ts'
import { selectEngine } from '../tensor/select-engine.ts'
import { type Report, readOrder, sentError, type ThreadSettings, transferable } from './messages.ts'
import { NODE_JOBS } from './table.ts'
import type { Workplace } from './workplace.ts'

/** The table has the types of each job; a name that arrives as a message has none. */
type Handler = (
  workplace: Workplace,
  request: unknown,
  signal: AbortSignal,
) => AsyncGenerator<unknown, unknown, void>

const settings = workerData as ThreadSettings
let workplace: Promise<Workplace> | undefined
let abort: AbortController | undefined

async function openWorkplace(): Promise<Workplace> {
  const [engine, publicModel, blobs] = await Promise.all([
    selectEngine(settings.engine),
    loadPublicModel(settings.publicModel),
    BlobStore.open(settings.root),
  ])
  return { engine, publicModel, blobs, training: settings.training }
}

function send(report: Report): void {
  const buffers = report.kind === 'result' ? [...transferable(report.value)] : []
  parentPort?.postMessage(report, buffers)
}

async function carryOut(job: string, request: unknown, signal: AbortSignal): Promise<void> {
  try {
    workplace ??= openWorkplace()
    workplace.catch(() => {
      workplace = undefined // The next job tries again.
    })
    const handlers: Readonly<Record<string, unknown>> = NODE_JOBS
    const handler = Object.hasOwn(handlers, job) ? (handlers[job] as Handler) : undefined
    if (handler === undefined) throw new TypeError(`a job thread knows no job named ${job}`)
    const events = handler(await workplace, request, signal)
    for (;;) {
      const { done, value } = await events.next()
      send({ kind: done === true ? 'result' : 'progress', value })
      if (done === true) return
    }
  } catch (error) {
    send({ kind: 'error', error: sentError(error) })
  }
}

parentPort?.on('message', (message: unknown) => {
  const order = readOrder(message)
  if (order.kind === 'abort') abort?.abort()
  else {
    abort = new AbortController()
    void carryOut(order.job, order.request, abort.signal)
  }
})
