/** One thread of `readGBPerSecond`: reads its buffer once in each pass and reports the times, in epoch milliseconds. */
import { parentPort, workerData } from 'node:worker_threads'

const { threads, passes, bytes, arrived } = workerData as {
  threads: number
  passes: number
  bytes: number
  arrived: Int32Array
}
const buffer = Buffer.alloc(bytes, 1)
const [first, second] = [buffer.subarray(0, bytes / 2), buffer.subarray(bytes / 2)]
const now = (): number => performance.timeOrigin + performance.now()
const times: { from: number; to: number }[] = []
for (let pass = 0; pass < passes; pass++) {
  Atomics.add(arrived, pass, 1)
  // Spinning keeps the processor's clock high; with sleeping threads the measured rate was a third.
  while (Atomics.load(arrived, pass) < threads);
  const from = now()
  if (first.compare(second) !== 0) throw new Error('the halves of the buffer differ')
  times.push({ from, to: now() })
}
parentPort?.postMessage(times)
