/** Measures event-loop delay, resident memory and CPU time of the process that takes part in a transfer. */
import { monitorEventLoopDelay, PerformanceObserver } from 'node:perf_hooks'

export interface Reading {
  /** 99th percentile of the time between two firings of a 10 ms timer, ms; 10 in an idle process. */
  readonly eventLoopP99Ms: number
  /** Peak resident memory minus that at the start, MiB. */
  readonly rssGrowthMiB: number
  /** CPU time of all threads, s. */
  readonly cpuSeconds: number
  /** Time for which garbage collection stopped the main thread, s. */
  readonly gcSeconds: number
}

const SAMPLE_MS = 10
/** Reading resident memory takes a quarter of a millisecond on the measured machine, so it is sampled seldom. */
const MEMORY_MS = 50

/** Starts measuring. The returned function stops and returns the reading. */
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
