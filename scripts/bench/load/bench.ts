/**
 * Streams answers of a node to many clients at once for several minutes, and measures its memory, the time of
 * `/healthz`, and whether all places are free afterwards. Linux only, since it reads /proc.
 */
import { setMaxListeners } from 'node:events'
import { readFile } from 'node:fs/promises'
import { setTimeout as pause } from 'node:timers/promises'
import { limit } from '../../../src/lib/limits.ts'
import type { Bench } from '../benchmark.ts'
import { type ServedNode, serveNode } from '../served-node.ts'

const DEFAULT_MINUTES = 10
const STREAMS = 200
const MAX_TOKENS = 128
/** Every so many streams of a client, it leaves in the middle of an answer, as people do. */
const LEAVES_EVERY = 10
const SAMPLE_MS = 1000
/** The first part, in which the memory of caches and code fills. */
const WARM_MS = 60_000
/** Seconds of `Retry-After` that a refused client waits, in ms, at most. */
const MAX_WAIT_MS = 5000

interface Counts {
  answered: number
  left: number
  refused: number
  failed: number
  tokens: number
}

/** @param options `--minutes N` */
export async function benchLoad(say: (line: string) => void, options: readonly string[]): Promise<Bench> {
  const minutes = options[0] === '--minutes' ? Number(options[1]) : DEFAULT_MINUTES
  if (!(minutes > 0)) throw new RangeError('--minutes: expected a number of minutes above 0')
  const node = await serveNode()
  try {
    return await measure(node, minutes, say)
  } finally {
    await node.stop()
  }
}

async function measure(node: ServedNode, minutes: number, say: (line: string) => void): Promise<Bench> {
  const end = AbortSignal.timeout(minutes * 60_000)
  setMaxListeners(0, end)
  const counts: Counts = { answered: 0, left: 0, refused: 0, failed: 0, tokens: 0 }
  const start = performance.now()
  const health: number[] = []
  const memory: { readonly at: number; readonly megabytes: number }[] = []
  const clients = Array.from({ length: STREAMS }, (_, i) => ask(node, i, end, counts))
  while (!end.aborted) {
    const before = performance.now()
    await fetch(node.url.replace('/v1', '/healthz'))
    health.push(performance.now() - before)
    memory.push({ at: before - start, megabytes: await residentMegabytes(node.process.pid) })
    if (health.length % 60 === 0)
      say(`${counts.answered} answers, ${memory.at(-1)?.megabytes.toFixed(0)} MB after ${health.length} s`)
    await pause(SAMPLE_MS)
  }
  await Promise.all(clients)
  // All places at once: a place that was not given back would leave one of them waiting.
  const places = Array.from({ length: limit('servedStreams') }, () => complete(node))
  const free = (await Promise.all(places)).filter((status) => status === 200).length
  const warm = memory.filter(({ at }) => at > Math.min(WARM_MS, minutes * 30_000))
  const early = mean(warm.slice(0, Math.ceil(warm.length / 5)).map(({ megabytes }) => megabytes))
  const late = mean(warm.slice(-Math.ceil(warm.length / 5)).map(({ megabytes }) => megabytes))
  const growth = late / early - 1
  const p99 = quantile(health, 0.99)
  return {
    json: {
      minutes,
      streams: STREAMS,
      ...counts,
      healthMs: { p50: quantile(health, 0.5), p99 },
      early,
      late,
      growth,
      free,
    },
    lines: [
      `${STREAMS} streams for ${minutes} minutes: ${counts.answered} answers of ${counts.tokens} events, ${counts.left} left by their client, ${counts.refused} refused with 429, ${counts.failed} failed`,
      `memory after the first minute: ${early.toFixed(0)} MB, at the end ${late.toFixed(0)} MB: ${(100 * growth).toFixed(1)} % more`,
      `/healthz: p50 ${quantile(health, 0.5).toFixed(1)} ms, p99 ${p99.toFixed(1)} ms`,
      `places free afterwards: ${free} of ${limit('servedStreams')}`,
    ],
  }
}

/** One client: asks for a stream, reads it or leaves it, and asks again. */
async function ask(node: ServedNode, client: number, end: AbortSignal, counts: Counts): Promise<void> {
  for (let i = 1; !end.aborted; i++) {
    const leaving = new AbortController()
    try {
      const response = await post(node, AbortSignal.any([end, leaving.signal]), {
        prompt: `Client ${client}, question ${i}:`,
        max_tokens: MAX_TOKENS,
        stream: true,
        ...(i % 3 === 0 ? { logprobs: 2, presence_penalty: 0.5 } : {}),
      })
      if (response.status === 429) {
        counts.refused++
        await response.body?.cancel()
        const wait = 1000 * Number(response.headers.get('retry-after') ?? 1)
        await pause(Math.min(MAX_WAIT_MS, wait), undefined, { signal: end })
        continue
      }
      if (response.status !== 200) throw new Error(`status ${response.status}`)
      for await (const _ of response.body ?? []) {
        counts.tokens++
        if (i % LEAVES_EVERY === 0) leaving.abort()
      }
      counts.answered++
    } catch {
      if (end.aborted) return
      if (leaving.signal.aborted) counts.left++
      else counts.failed++
    }
  }
}

async function complete(node: ServedNode): Promise<number> {
  const response = await post(node, AbortSignal.timeout(600_000), { prompt: 'Hello', max_tokens: 8 })
  await response.arrayBuffer()
  return response.status
}

function post({ url, key }: ServedNode, signal: AbortSignal, body: object): Promise<Response> {
  return fetch(`${url}/completions`, {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify({ model: 'flexmesh', ...body }),
    signal,
  })
}

async function residentMegabytes(pid: number | undefined): Promise<number> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8')
  return (Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) * 1024) / 1e6
}

function mean(values: readonly number[]): number {
  return values.reduce((a, b) => a + b, 0) / values.length
}

function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))] ?? Number.NaN
}
