/** Measures the memory bandwidth of this machine, with which a benchmark compares its own. */
import { Worker } from 'node:worker_threads'

const PASSES = 24
/** Far larger than any last-level cache. */
const BYTES_PER_THREAD = 256 * 2 ** 20
const READER = new URL('./reader.child.ts', import.meta.url).href
/** Registers the loader of TypeScript, which a worker does not inherit on Node 20. */
const START = `import('tsx/esm/api').then(({ register }) => {
  register()
  return import(require('node:worker_threads').workerData.file)
})`

/**
 * Highest rate at which `threads` threads read memory together, 10^9 bytes/s. Each thread compares the two equal
 * halves of its own buffer (memcmp, which reads both to the end with the widest loads). All threads start every pass
 * together, and the best pass counts.
 */
export async function readGBPerSecond(threads: number): Promise<number> {
  const arrived = new Int32Array(new SharedArrayBuffer(4 * PASSES))
  const workers = Array.from(
    { length: threads },
    () =>
      new Worker(START, {
        eval: true,
        workerData: { threads, passes: PASSES, bytes: BYTES_PER_THREAD, arrived, file: READER },
      }),
  )
  try {
    const passes = await Promise.all(
      workers.map(
        (worker) =>
          new Promise<{ from: number; to: number }[]>((resolve, reject) => {
            worker.once('message', resolve)
            worker.once('error', reject)
          }),
      ),
    )
    const rates = Array.from({ length: PASSES }, (_, pass) => {
      const from = Math.min(...passes.map((times) => times[pass]?.from as number))
      const to = Math.max(...passes.map((times) => times[pass]?.to as number))
      return (threads * BYTES_PER_THREAD) / 1e6 / (to - from)
    })
    return Math.max(...rates)
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()))
  }
}
