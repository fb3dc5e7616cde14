/** Fetches the file that a message names and reports by how many MB its memory grew. Forked with the argument DIR. */
import '../../../src/lib/heap-growth.ts'
import { once } from 'node:events'
import type { FileRef } from '../../../src/lib/file-ref.ts'
import { startExchange } from '../exchange/start-exchange.ts'

const SAMPLE_MS = 50
const [dir = ''] = process.argv.slice(2)
const { exchange } = await startExchange(dir)
const [{ address, ref }] = (await once(process, 'message')) as [{ address: string; ref: FileRef }]
const signal = AbortSignal.timeout(600_000)
const peer = await exchange.connect(address, signal)
const before = process.memoryUsage().rss
let peak = before
const timer = setInterval(() => {
  peak = Math.max(peak, process.memoryUsage().rss)
}, SAMPLE_MS)
await exchange.fetch(ref, { signal, providers: [peer] })
clearInterval(timer)
process.send?.({ grown: (peak - before) / 1e6 })
