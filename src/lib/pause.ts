/** A delay that ends early if its signal fires. */
import { setTimeout } from 'node:timers/promises'
import { ExchangeError } from './errors.ts'

/**
 * Resolves after `ms` milliseconds.
 * @throws ExchangeError `aborted` as soon as the signal fires, or at once if it has.
 */
export async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await setTimeout(ms, undefined, { signal }).catch((cause: unknown) => {
    throw new ExchangeError('aborted', 'interrupted', {}, cause)
  })
}
