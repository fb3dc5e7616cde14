/** What a transfer does to the process it runs in: event-loop delay, resident memory, processor time. */
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'

export interface Reading {
  /** 99th percentile of the time between two turns of a 10 ms timer, ms: 10 at rest. */
  readonly eventLoopP99Ms: number
  /** Highest resident memory above that at the start, MiB. */
  readonly rssGrowthMiB: number
  /** Processor time of all threads, s. */
  readonly cpuSeconds: number
  /** Time in which the garbage collector held the main thread, s. */
  readonly gcSeconds: number
}

const SAMPLE_MS = 10
/** Reading it takes a quarter of a millisecond here. */
const MEMORY_MS = 50

/** Starts now; the function that it returns stops and reads. */
export function startMeter(): () => Reading {
  const delay = monitorEventLoopDelay({ resolution: SAMPLE_MS })
  const before = process.memoryUsage.rss()
  let peak = before
  const sample = (): void => {
    peak = Math.max(peak, process.memoryUsage.rss())
  }
  const timer = setInterval(sample, MEMORY_MS)
  delay.enable()
  let gcMs = 0
  const collections = new PerformanceObserver((list) => {
    for (const { duration } of list.getEntries()) gcMs += duration
  })
  collections.observe({ entryTypes: ['gc'] })
  const cpuBefore = process.cpuUsage()
  return () => {
    const { user, system } = process.cpuUsage(cpuBefore)
    for (const { duration } of collections.takeRecords()) gcMs += duration
    collections.disconnect()
    delay.disable()
    clearInterval(timer)
    sample()
    return {
      eventLoopP99Ms: delay.percentile(99) / 1e6,
      rssGrowthMiB: (peak - before) / 2 ** 20,
      cpuSeconds: (user + system) / 1e6,
      gcSeconds: gcMs / 1000,
    }
  }
}
