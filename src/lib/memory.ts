/**
 * Amounts of memory: reads them from text, formats them, and says how much this machine has free. Knows nothing about
 * what needs the memory.
 */
import { freemem, totalmem } from 'node:os'

const UNITS: Readonly<Record<string, number>> = {
  '': 1,
  kB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
}

/** Share of the free memory that a computation may take unless `--memory` says otherwise. */
const DEFAULT_SHARE = 0.75

/**
 * The number of bytes in a text such as `12GB`, `1.5 GiB` or `4000000000`. Case does not matter. kB, MB, GB and TB are
 * powers of 1000; KiB, MiB, GiB and TiB are powers of 1024.
 * @returns a whole number; undefined for any other text.
 */
export function parseBytes(text: string): number | undefined {
  const [, digits = '', unit = ''] = /^\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*$/i.exec(text) ?? []
  const known = Object.keys(UNITS).find((name) => name.toLowerCase() === unit.toLowerCase())
  if (digits === '' || known === undefined) return undefined
  return Math.round(Number(digits) * (UNITS[known] as number))
}

/** An amount of memory for people, as in `10.9 GB` or `573 MB`. */
export function gigabytes(bytes: number): string {
  return bytes < 1e9 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e9).toFixed(1)} GB`
}

/**
 * Bytes that new allocations can take without swapping: on Linux `MemAvailable`, which counts the page cache as free.
 * In a container with a memory limit, at most the rest of that limit.
 */
export function freeMemory(): number {
  // Node 20 answers 2^64 without a limit, later versions 0.
  const limit = process.constrainedMemory()
  const isLimited = limit > 0 && limit < totalmem()
  return Math.min(
    freemem(),
    isLimited ? Math.max(0, limit - process.memoryUsage.rss()) : Number.POSITIVE_INFINITY,
  )
}

/** The bytes that a computation may take if `--memory` is not given: three quarters of the free memory. */
export function defaultMemoryBudget(): number {
  return Math.floor(DEFAULT_SHARE * freeMemory())
}
