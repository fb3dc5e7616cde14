/** What a transfer does to the process it runs in: event-loop delay and resident memory. */
import { monitorEventLoopDelay } from 'node:perf_hooks'

export interface Reading {
  /** 99th percentile of the time between two turns of a 10 ms timer, ms: 10 at rest. */
  readonly eventLoopP99Ms: number
  /** Highest resident memory above that at the start, MiB. */
  readonly rssGrowthMiB: number
}

const SAMPLE_MS = 10

/** Starts now; the function that it returns stops and reads. */
export function startMeter(): () => Reading {
  const delay = monitorEventLoopDelay({ resolution: SAMPLE_MS })
  const before = process.memoryUsage.rss()
  let peak = before
  const sample = (): void => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }
  const timer = setInterval(sample, SAMPLE_MS)
  delay.enable()
  return () => {
    delay.disable()
    clearInterval(timer)
    sample()
    return { eventLoopP99Ms: delay.percentile(99) / 1e6, rssGrowthMiB: (peak - before) / 2 ** 20 }
  }
}
