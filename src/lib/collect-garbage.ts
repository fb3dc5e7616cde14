/** Runs the garbage collector. Knows nothing about what is collected. */
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'

/**
 * Collects garbage now. Shared memory of several gigabytes counts so little for the collector that it would run too late
 * to make space for its successor.
 */
export function collectGarbage(): void {
  setFlagsFromString('--expose-gc')
  const collect: unknown = runInNewContext('gc')
  if (typeof collect === 'function') collect()
}
